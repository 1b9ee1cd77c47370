"""Routing: every router's curve of accuracy over cost, single models as points; the curves have no bands."""

from workbench.charts.curve import MOST, defaults, draw

__all__ = ["MOST", "SPREAD", "defaults", "draw"]
SPREAD = ""  # the intervals are of the areas, in the table
