"""Whether a finding is real: its spread, and what it takes to see it."""
