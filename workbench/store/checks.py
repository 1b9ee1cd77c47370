"""Checks of a store: sums equal their parts, prices are in force, every reference has its row."""

import dataclasses
import glob
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import duckdb

from workbench import spool
from workbench.errors import QueryCancelled, StoreError, StoreLocked, StoreMissing
from workbench.store import causes, configurations, database, reading, texts
from workbench.store.ownership import FOREIGN
from workbench.store.relations import RELATIONS
from workbench.store.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """Result of one check of a store.

    Attributes:
        name: what is counted, such as "columns that cannot be read".
        n: the count; 0 means sound, None that the check could not run.
        fatal: whether a count above 0 means damage, not only a warning.
        advice: what to do if n is not 0.
    """

    name: str
    n: int | None
    fatal: bool
    advice: str

    @property
    def is_damage(self) -> bool:
        """Whether it shows damage, or may hide some."""
        return self.fatal and self.n != 0


def checks(
    store: Store, *, quick: bool = False, read: reading.Reading | None = None
) -> list[Check]:
    """Run all checks of a store; nothing is changed.

    Args:
        store: the store to check.
        quick: check relations between rows alone, without reading every column first.
        read: what `reading.read_all` gave, if the caller has it already.
    """
    of_values = []
    if not quick:
        of_values = [*of_reading(read or reading.read_all(store)), *of_derived(store)]
    return [*of_values, *of_relations(store), *_of_spool(store)]


def of_reading(result: reading.Reading) -> list[Check]:
    """Return the checks of a whole store that was read."""
    return [
        Check(
            "columns that cannot be read",
            len(result.faults),
            True,
            f"damaged are {listed(list(result.faults))}; {causes.REPAIR}",
        ),
        Check(
            "tables and columns that are missing",
            len(result.missing),
            True,
            f"there should be {listed(result.missing)}; {causes.REPAIR}",
        ),
        Check(
            "views that ask something else than workbench does",
            len(result.altered),
            True,
            f"{listed(result.altered)} have other SQL, so their figures may be wrong;"
            f" {causes.REPAIR}",
        ),
        Check(
            "schemas, tables, views and functions that are not workbench's",
            len(result.foreign),
            False,
            f"merge and export pass over {listed(result.foreign)}",
        ),
    ]


def listed(names: list[str], most: int = 8) -> str:
    """Join names with commas: at most `most` of them, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name for name in names[:most]) + more


def of_derived(store: Store) -> list[Check]:
    """Compare derived data with its values: the ids of texts, the lists of parameters."""
    return [
        _counted(
            store,
            "texts that are not those that they are named after",
            lambda connection: len(texts.altered(connection, "contents")),
            "a text was changed; take it from a backup or an export",
        ),
        _counted(
            store,
            "configurations whose list of parameters is not theirs",
            configurations.count_unlisted,
            "merge an export of this store into it: that lists them again",
        ),
    ]


def _counted(
    store: Store, name: str, look: Callable[[duckdb.DuckDBPyConnection], int], advice: str
) -> Check:
    try:
        with database.reading(store.path) as connection:
            return Check(name, look(connection), True, advice)
    except (QueryCancelled, StoreLocked, StoreMissing):
        raise
    except StoreError as error:
        return Check(name, None, True, causes.first_line(error))


def of_relations(store: Store) -> list[Check]:
    """Check the relations that must hold between the rows of a store."""
    try:
        with store.snapshot() as snapshot:
            return [_look(snapshot, *query) for query in RELATIONS]
    except StoreError:
        return [_alone(store, *query) for query in RELATIONS]


def _look(store: Store, name: str, query: str, fatal: bool, advice: str) -> Check:
    return Check(name, int(store.sql(query, time_limit_s=None)["n"][0]), fatal, advice)


def _alone(store: Store, name: str, query: str, fatal: bool, advice: str) -> Check:
    """Look again with a connection of its own: one that met damage may answer nothing more."""
    try:
        return _look(store, name, query, fatal, advice)
    except (QueryCancelled, StoreLocked, StoreMissing):
        raise
    except StoreError as error:
        return Check(name, None, fatal, causes.first_line(error))


def _of_spool(store: Store) -> list[Check]:
    waiting = [s for s in spool.segments(store.spool_dir) if not s.live and s.size]
    bad = [line for s in waiting for line in spool.read_segment(s.path).bad]
    replies = _files(store.spool_dir / spool.ARRIVED, "*.jsonl")
    notes = _files(store.spool_dir / spool.BATCHES, "*.json")
    quarantine = store.spool_dir / "quarantine"
    quarantined = [path.read_bytes() for path in _files(quarantine, "*")]
    lines = [*quarantined, *(line.data for line in bad)]
    n_torn = sum(spool.is_torn(line) for line in lines)
    look = f"look at them in {quarantine}, then delete them"
    return [
        Check(
            "finished spool segments that wait",
            len(waiting),
            False,
            "opening the store takes them in; if they stay, another process keeps the store",
        ),
        Check(
            "spool files of another store that were set aside",
            len(_files(store.spool_dir / FOREIGN, "**/*.json*")),
            False,
            f"put them into the spool of the store that they are of: {store.spool_dir / FOREIGN}",
        ),
        Check("damaged spool lines", len(lines) - n_torn, True, f"what they held is lost; {look}"),
        Check("torn spool lines of writers that were killed", n_torn, False, look),
        Check(
            "unfinished attempts whose replies are kept",
            len({p.name.split("-")[0] for p in replies}),
            False,
            "the same collect command goes on from them; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.ARRIVED}",
        ),
        Check(
            "kept replies that are damaged",
            sum(map(_n_damaged, replies)),
            True,
            f"they will be asked for again; they are in {store.spool_dir / spool.ARRIVED}",
        ),
        Check(
            "batches that are kept until their answers are taken in",
            len(notes),
            False,
            "the same collect command takes them in; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.BATCHES}",
        ),
        Check(
            "files with transcripts that other users can read",
            len(_readable(store)),
            False,
            f"chmod go-rwx {listed([str(path) for path in _readable(store)])}",
        ),
    ]


def _n_damaged(path: Path) -> int:
    """Count the lines of a file of replies whose checksum is wrong; a torn last line is allowed."""
    lines = path.read_bytes().split(b"\n")[:-1]
    if lines and spool.is_owner_line(lines[0]):
        lines = lines[1:]
    cut = (line.partition(b" ") for line in lines)
    return sum(crc != b"%08x" % zlib.crc32(body) for crc, _, body in cut)


def _readable(store: Store) -> list[Path]:
    """List a store's files that other users may read; none where the system has no such rights."""
    if os.name != "posix":
        return []
    beside = store.path.parent.glob(f"{glob.escape(store.path.stem)}.v*.backup")
    in_spool = store.spool_dir.rglob("*") if store.spool_dir.is_dir() else ()
    files = (store.path, store.path.with_name(store.path.name + ".wal"), *beside, *in_spool)
    return [p for p in files if p.is_file() and p.suffix and p.stat().st_mode & 0o077]


def _files(folder: Path, pattern: str) -> list[Path]:
    paths = folder.glob(pattern) if folder.is_dir() else ()
    return [path for path in paths if path.is_file()]


def unpriced_models(store: Store) -> list[str]:
    """Name the models, or machines, whose calls have no price."""
    frame = store.sql(
        """SELECT coalesce(machine, model) AS model FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL
          AND coalesce(machine, model) IS NOT NULL
        GROUP BY ALL ORDER BY count(*) DESC, model LIMIT 20"""
    )
    return frame["model"].to_list()
