"""Ways to reach models, one file each."""
