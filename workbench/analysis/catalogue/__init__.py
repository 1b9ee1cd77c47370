"""Catalogue of analyses: registry, notes about results, and copies of an answer as code."""
