"""Families of analyses: one folder a family, one file an analysis.

A file is named after its analysis, with underscores for hyphens.
"""
