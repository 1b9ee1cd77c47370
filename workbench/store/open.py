"""Finding, making and opening a store."""

import logging
from pathlib import Path

from workbench import config, datasets, prices
from workbench.errors import StoreLocked, StoreMissing, StoreUnwritable
from workbench.store.database import Cancel
from workbench.store.store import Store

_LOG = logging.getLogger(__name__)


def open_store(
    path: str | Path | None = None,
    *,
    create: bool = False,
    take_in: bool = True,
    cancel: Cancel | None = None,
    allow_files: bool = False,
) -> Store:
    """Open a store, bring its layout up to date, and take in what waits in its spool.

    Args:
        path: the DuckDB file; None takes `WORKBENCH_STORE`, the configuration, or the user's data
            folder.
        create: make the file, with its folder, where there is none.
        take_in: ingest the spool; a collector looks at it first, for what was in flight.
        cancel: stops waiting for the process that has the file open, and names it.
        allow_files: let the SQL that is given to `Store.sql` read and write files, attach databases
            and load extensions, with the user's rights. Do not open a store of another person
            so.

    Raises:
        StoreMissing: there is no store and `create` is false.
        StoreVersionError: the file is no store, or of a newer version.
    """
    chosen = Path(path).expanduser() if path is not None else config.store_path()
    store = Store(chosen, allow_files=allow_files)
    if not store.path.exists() and not create:
        raise StoreMissing(
            f"there is no store at {store.path}; "
            f"make one with: workbench import PATH --store {store.path}"
        )
    store.prepare(cancel)
    if take_in:
        try:
            store.ingest_spool()
        except StoreLocked:  # the process that has it ingests the spool
            pass
        except StoreUnwritable as error:  # what the store has can be read all the same
            _LOG.warning("what waits in %s was not taken in: %s", store.spool_dir, error)
    return store


def demo_store(path: Path) -> Store:
    """Open a store with the sample traces; those that it lacks are read from the shipped files.

    A store that holds anything else is opened as it is: nothing is added.
    """
    import polars as pl

    source = datasets.sample_traces_dir()
    if not any(source.glob("*.parquet")):
        raise StoreMissing(f"the sample traces are missing from {source}; install workbench again")
    store = open_store(path, create=True)
    shipped = set(
        pl.read_parquet(source / "runs.parquet", columns=["run_id"], glob=False)["run_id"]
    )
    if set(store.sql("SELECT run_id FROM runs")["run_id"]) < shipped:
        store.merge(source)
        for sheet in sorted((datasets.data_dir() / "prices").glob("*.toml")):
            store.add_prices(prices.read_sheet(sheet))
    return store
