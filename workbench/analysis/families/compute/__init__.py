"""Compute: the arithmetic and memory traffic of inference, independent of hardware."""
