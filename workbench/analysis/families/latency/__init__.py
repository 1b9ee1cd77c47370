"""Latency: times to the first token, between tokens and to the result."""
