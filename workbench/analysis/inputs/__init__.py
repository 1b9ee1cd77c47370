"""Inputs of analyses: from rows of traces, calls or turns to items × groups."""
