"""Scaling laws, and the effect of quantization."""
