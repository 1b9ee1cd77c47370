"""Cost: what a right answer costs, and what list prices say of it."""
