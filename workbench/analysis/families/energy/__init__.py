"""Energy, power and carbon of inference."""
