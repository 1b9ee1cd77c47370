"""Statistics on NumPy arrays, independent of the columns of a store."""
