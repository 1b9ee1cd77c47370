"""Planning: what is to be collected, what it will cost, and what earlier launches left."""
