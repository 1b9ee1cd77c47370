"""Routing and cascades: choice of a model for each item."""
