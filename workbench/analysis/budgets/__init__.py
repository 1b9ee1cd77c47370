"""What a budget of thinking buys."""
