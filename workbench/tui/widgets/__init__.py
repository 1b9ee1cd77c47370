"""Widgets of the terminal app's own: they draw what they are given and ask nobody."""
