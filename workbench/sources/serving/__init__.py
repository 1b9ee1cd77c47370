"""Serving benchmarks and meters of energy."""
