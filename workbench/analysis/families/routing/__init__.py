"""Routing and cascades: which model should answer which item."""
