"""Work done, whatever the hardware."""
