"""Providers of models, one file for each API, and the parts they share."""
