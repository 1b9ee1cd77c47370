"""Requests sent in batches, at batch prices: `Batches` is a provider that strategies cannot tell from another."""

from workbench.runner.batch.batch_client import Limits, State
from workbench.runner.batch.jobs import Batches, make

__all__ = ["Batches", "Limits", "State", "make"]
