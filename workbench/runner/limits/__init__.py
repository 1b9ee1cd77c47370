"""Limits of a collection: concurrency windows, rate limits, retries with back-off, and budgets."""

from workbench.runner.limits.backoff import Backoff
from workbench.runner.limits.breaker import Breaker
from workbench.runner.limits.budget import Amounts, AttemptAccount, Budget, PriceOf
from workbench.runner.limits.caller import Caller

__all__ = ["Amounts", "AttemptAccount", "Backoff", "Breaker", "Budget", "Caller", "PriceOf"]
