"""What a right answer costs, and what the price list says of it."""
