"""Energy, power and carbon."""
