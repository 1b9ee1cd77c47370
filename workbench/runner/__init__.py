"""Collect traces: a plan is expanded into attempts, a provider answers, a spool keeps what came back."""

from workbench.runner.execution.collect import collect
from workbench.runner.execution.stop import Stop
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning.plan import Plan, Work, expand

__all__ = ["CollectReport", "Plan", "Progress", "Stop", "Work", "collect", "expand"]
