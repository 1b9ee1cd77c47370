"""Results of evaluation harnesses."""
