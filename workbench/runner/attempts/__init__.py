"""Attempts: what a strategy sees and leaves: session, transcript, journal, grades."""
