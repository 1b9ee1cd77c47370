"""Execution: one launch of a plan, from its first attempt to its report."""
