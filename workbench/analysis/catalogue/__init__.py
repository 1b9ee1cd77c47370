"""The catalogue of analyses: finds and runs them, and writes what stands beside a result."""
