"""Agents: what their tools bring, what they waste, how they search and revise."""
