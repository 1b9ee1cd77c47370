"""Families of analyses, a folder each: a question a file, named as the analysis with underscores."""
