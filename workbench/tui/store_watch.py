"""Store watch: detects changes of the store, so that screens follow a running collection."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.store import Store

POLL_EVERY_S = 2.0
MAX_INGESTS = 3  # in a row while a collection writes; the next poll ingests the rest


def updated_stamp(store: "Store", stamp: str) -> str | None:
    """Ingest the spool and return the store's new stamp; None if nothing changed.

    Everything written before the stamp's moment is ingested; a later record is another change. Runs
    in a thread.

    Raises:
        StoreLocked: another process writes now; the caller polls again later.
    """
    before = current = store.stamp()
    if current == stamp:
        return None
    for _ in range(MAX_INGESTS):
        store.ingest_spool()
        before, current = current, store.stamp()
        if current == before:
            break
    return before
