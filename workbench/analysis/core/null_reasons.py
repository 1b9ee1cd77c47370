"""Null reasons that many analyses share: why a figure of a table is null."""

FEW_ITEMS = "fewer than two items"
FEW_ITEMS_OR_UNKNOWN = "fewer than two items, or unknown"
FEW_ITEMS_OR_NO_SPREAD = "fewer than two items, or no spread"
