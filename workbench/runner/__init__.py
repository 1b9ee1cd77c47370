"""The runner: it expands a plan into attempts, runs them and writes their traces to the spool."""

import warnings
from typing import Any

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


def __getattr__(name: str) -> Any:
    """Return the class that has another name now, with a FutureWarning."""
    if name == "Stop":
        message = "workbench.runner.Stop is now called StopSignal"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return StopSignal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
