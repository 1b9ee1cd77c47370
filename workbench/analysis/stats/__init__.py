"""Statistics on NumPy arrays: they know no column of a store, and could be a library."""
