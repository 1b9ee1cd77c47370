"""Batch requests, at batch prices: `Batches` is a provider like any other to strategies."""

from workbench.runner.batch.batch_client import Limits, State
from workbench.runner.batch.jobs import Batches, make

__all__ = ["Batches", "Limits", "State", "make"]
