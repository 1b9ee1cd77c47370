"""Scaling laws, and what quantization costs."""
