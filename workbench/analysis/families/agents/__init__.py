"""Agents: use and waste of tools, search, and revision over rounds."""
