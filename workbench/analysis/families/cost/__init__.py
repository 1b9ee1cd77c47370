"""Cost: cost of right answers, bills against list prices, and economics."""
