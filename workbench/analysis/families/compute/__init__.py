"""Compute: the work of inference, whatever the hardware."""
