"""Widgets of the terminal app: they draw the data that screens pass, and run no queries."""
