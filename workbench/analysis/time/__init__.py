"""How fast: waits, gaps and ends."""
