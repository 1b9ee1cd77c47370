"""Routing chart: curves of accuracy over cost without bands, single models as points."""

from workbench.charts.curve import MOST, defaults, draw

__all__ = ["MOST", "SPREAD", "defaults", "draw"]
SPREAD = ""  # the intervals are of the areas, in the table
