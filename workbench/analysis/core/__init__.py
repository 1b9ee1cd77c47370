"""Core types of an analysis: its declaration, options, columns and result."""
