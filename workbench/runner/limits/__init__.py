"""What holds a collection back: windows, the servers' limits, retries with back-off, and budgets."""

from workbench.runner.limits.backoff import Backoff
from workbench.runner.limits.breaker import Breaker
from workbench.runner.limits.budget import Budget, PriceOf, Tab
from workbench.runner.limits.caller import Caller

__all__ = ["Backoff", "Breaker", "Budget", "Caller", "PriceOf", "Tab"]
