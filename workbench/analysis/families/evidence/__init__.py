"""Evidence: whether a difference is real, and what it takes to see it."""
