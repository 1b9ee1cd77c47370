"""Collect traces: a plan is expanded into attempts, a provider answers, a spool keeps what came back."""

from workbench.runner.execute import collect
from workbench.runner.plan import Plan, Work, expand
from workbench.runner.progress import CollectReport, Progress
from workbench.runner.stop import Stop

__all__ = ["CollectReport", "Plan", "Progress", "Stop", "Work", "collect", "expand"]
