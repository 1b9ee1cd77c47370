"""The store: one DuckDB file of traces, and the spool folder beside it."""

from workbench.store.database import Cancel
from workbench.store.ingest import IngestReport
from workbench.store.open import demo_store, open_store
from workbench.store.store import Overview, Snapshot, Store, TraceDetail

__all__ = [
    "Cancel",
    "IngestReport",
    "Overview",
    "Snapshot",
    "Store",
    "TraceDetail",
    "demo_store",
    "open_store",
]
