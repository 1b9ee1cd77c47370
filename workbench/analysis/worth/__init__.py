"""Who is worth it: score against cost."""
