"""Exporters: traces of a store in the formats of other tools."""
