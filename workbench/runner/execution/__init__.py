"""Execution of a plan: one launch, from the first attempt to the report."""
