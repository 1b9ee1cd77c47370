"""Budgets of thinking tokens, turns and money."""
