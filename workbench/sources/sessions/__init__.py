"""Sessions of coding agents: the logs that they leave on a person's disk."""
