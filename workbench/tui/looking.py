"""Looking whether the store changed, so that what is shown follows a collection that writes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.store import Store

LOOK_EVERY = 2.0  # seconds between looks


def newer(store: "Store", stamp: str) -> str | None:
    """Take in what waits in the spool and return the store's new stamp; None where nothing changed.

    Runs in a thread.

    Raises:
        StoreLocked: somebody writes just now; the next look will do.
    """
    if store.stamp() == stamp:
        return None
    store.ingest_spool()
    return store.stamp()
