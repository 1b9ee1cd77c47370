"""Which model should answer which item."""
