"""Inspect AI logs: the reader of `.eval` and `.json` files, whole or in chunks."""
