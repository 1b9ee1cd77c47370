"""Trajectories of agents, with the reports of their graders."""
