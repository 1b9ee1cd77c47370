"""The runner: it expands a plan into attempts, runs them and writes their traces to the spool."""

from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.execution.collect import collect
from workbench.runner.execution.stop_signal import StopSignal
from workbench.runner.limits.progress import CollectReport, Progress
from workbench.runner.planning.plan import Plan, Work, expand

__all__ = [
    "CollectReport",
    "Outcome",
    "Plan",
    "Progress",
    "Session",
    "StopSignal",
    "Work",
    "collect",
    "expand",
]
