"""Repeated sampling: coverage, voting, verifiers, refinement."""
