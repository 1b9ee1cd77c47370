"""Repeated sampling: coverage, voting, verifiers and refinement."""
