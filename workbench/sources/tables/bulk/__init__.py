"""Conversion of whole blocks of a table with Polars, which is loaded only for them."""
