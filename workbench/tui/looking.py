"""Looking whether the store changed, so that what is shown follows a collection that writes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.store import Store

LOOK_EVERY = 2.0  # seconds between looks
TRIES = 3  # of taking in all there is while a collection writes; the next look takes the rest


def newer(store: "Store", stamp: str) -> str | None:
    """Take in what waits in the spool and return the store's new stamp; None where nothing changed.

    The stamp is of a moment from which on all was taken in: what is written meanwhile is another
    change. Runs in a thread.

    Raises:
        StoreLocked: somebody writes just now; the next look will do.
    """
    before = found = store.stamp()
    if found == stamp:
        return None
    for _ in range(TRIES):
        store.ingest_spool()
        before, found = found, store.stamp()
        if found == before:
            break
    return before
