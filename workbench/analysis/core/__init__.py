"""The core of an analysis: its declaration, options, columns and result."""
