"""What must hold in a store: sums equal their parts, prices are in force, nothing hangs in the air."""

import dataclasses
import glob
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from workbench import schema, spool
from workbench.errors import QueryCancelled, StoreError, StoreLocked, StoreMissing
from workbench.records import NOT_RUN
from workbench.store import causes, reading, views
from workbench.store.ownership import FOREIGN
from workbench.store.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One look at the store.

    Attributes:
        name: what is looked at.
        n: how many rows break it; 0 is sound, None that it could not be looked at.
        fatal: whether it means damage, not just something to know.
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


_SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "n_calls")
_MONEY = ("cost_usd", "reasoning_cost_usd", "judge_cost_usd")
_RELATIVE = 1e-9  # sums of floats depend on their order

_OFF = " OR ".join(
    [f"t.{c} IS DISTINCT FROM s.{c}" for c in _SUMMED]
    + [
        f"(t.{c} IS NULL) <> (s.{c} IS NULL) OR abs(t.{c} - s.{c}) > {_RELATIVE} * abs(s.{c})"
        for c in _MONEY
    ]
)


def _orphans(table: str, key: str, owner: str) -> str:
    return (
        f"SELECT count(*) AS n FROM (SELECT DISTINCT {key} FROM {table} "
        f"WHERE {key} IS NOT NULL) ANTI JOIN {owner} USING ({key})"
    )


# whose rows a column of ids points at; what a row of theirs lacks when it is gone
OWNERS = {
    "run_id": "runs",
    "task_id": "tasks",
    "item_id": "items",
    "configuration_id": "configurations",
    "trace_id": "traces",
    "call_id": "calls",
    "content_id": "contents",
    "price_id": "prices",
}
_CALLED = {
    ("messages", "content_id"): "messages without their text",
    ("calls", "price_id"): "prices that calls point at and are gone",
}


def _references() -> Iterator[tuple[str, str]]:
    """Name and write a look for every column that points at the rows of another table."""
    for table in schema.TABLES.values():
        for column in table.columns:
            owner = OWNERS.get(column.name)
            if owner is not None and owner != table.name:
                name = f"{table.name.replace('_', ' ')} of no {owner.removesuffix('s')}"
                name = _CALLED.get((table.name, column.name), name)
                yield name, _orphans(table.name, column.name, owner)


def _repeated(table: schema.Table) -> str:
    key = ", ".join(table.key)
    return f"SELECT count(*) - count(DISTINCT ({key})) AS n FROM {table.name}"


_AGAIN = "import the files again, or: workbench doctor --repair COPY"
_PRICES = "workbench prices add FILE gives them a price; until then their cost is unknown"
_COUNTED = """SELECT count(*) AS n FROM traces t LEFT JOIN (SELECT trace_id, count(*) AS n FROM"""
_QUERIES: tuple[tuple[str, str, bool, str], ...] = (
    (
        "traces whose tokens or cost are not the sum of their calls",
        f"SELECT count(*) AS n FROM traces t JOIN ({views.totals('calls')}) s USING (trace_id) WHERE {_OFF}",
        True, _AGAIN,
    ),
    (
        "traces whose cost is not that of the view over their calls",
        f"""SELECT count(*) AS n FROM traces t JOIN (SELECT trace_id, sum(cost_usd) AS cost_usd
        FROM call_facts WHERE role <> 'judge' GROUP BY trace_id) s USING (trace_id)
        WHERE abs(t.cost_usd - s.cost_usd) > {_RELATIVE} * abs(s.cost_usd)""",
        True, _AGAIN,
    ),
    (
        "traces that count calls and have none",
        """SELECT count(*) AS n FROM (FROM traces WHERE n_calls > 0) ANTI JOIN calls USING (trace_id)
        ANTI JOIN call_copies USING (trace_id)""",
        True, _AGAIN,
    ),
    (
        "traces that do not have as many messages as they count",
        f"{_COUNTED} messages GROUP BY ALL) k USING (trace_id) WHERE t.n_messages <> coalesce(k.n, 0)",
        True, _AGAIN,
    ),
    (
        "traces that do not have as many tool calls as they count",
        f"""{_COUNTED} tool_calls WHERE error_type IS DISTINCT FROM '{NOT_RUN}' GROUP BY ALL) k
        USING (trace_id) WHERE t.n_tool_calls <> coalesce(k.n, 0)""",
        True, _AGAIN,
    ),
    *((name, query, True, _AGAIN) for name, query in _references()),
    *((f"{table.name} that are there more than once", _repeated(table), True, _AGAIN)
      for table in schema.TABLES.values()),
    (
        "models asked whose price is unknown",
        """SELECT count(DISTINCT coalesce(machine, model)) AS n FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL""",
        False, _PRICES,
    ),
    (
        "calls that contradict themselves", "SELECT count(DISTINCT call_id) AS n FROM usage_faults",
        False, "workbench faults lists them",
    ),
    (
        "runs that ended without saying so",
        "SELECT count(*) AS n FROM runs WHERE status IN ('interrupted', 'running') AND ended_at IS NULL",
        False, "the same collect command again does only what is missing",
    ),
)  # fmt: skip


def damage(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Count, by name of the check, the rows that break a relation which only damage breaks."""
    counts = {
        name: int(connection.execute(query).fetchall()[0][0])
        for name, query, fatal, _ in _QUERIES
        if fatal
    }
    return {name: n for name, n in counts.items() if n}


def checks(store: Store, *, quick: bool = False) -> list[Check]:
    """Look at everything; nothing is changed.

    Args:
        store: which.
        quick: look at relations between rows alone, without reading every column first.
    """
    read = [] if quick else of_reading(reading.read_all(store))
    return [*read, *_relations(store), *_of_spool(store)]


def of_reading(found: reading.Reading) -> list[Check]:
    """Say what a reading of the whole store means."""
    return [
        Check(
            "columns that cannot be read", len(found.faults), True,
            f"damaged are {_listed(list(found.faults))}; {causes.REPAIR}",
        ),
        Check(
            "tables and columns that are missing", len(found.missing), True,
            f"there should be {_listed(found.missing)}; {causes.REPAIR}",
        ),
        Check(
            "views that ask something else than workbench does", len(found.altered), True,
            f"figures from {_listed(found.altered)} are somebody else's; {causes.REPAIR}",
        ),
        Check(
            "tables and views that are not workbench's", len(found.foreign), False,
            f"merge and export pass over {_listed(found.foreign)}",
        ),
    ]  # fmt: skip


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name for name in names[:most]) + more


def _relations(store: Store) -> list[Check]:
    try:
        with store.snapshot() as snapshot:
            return [_look(snapshot, *query) for query in _QUERIES]
    except StoreError:
        return [_alone(store, *query) for query in _QUERIES]


def _look(store: Store, name: str, query: str, fatal: bool, advice: str) -> Check:
    return Check(name, int(store.sql(query)["n"][0]), fatal, advice)


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
    kept = [path.read_bytes() for path in _files(quarantine, "*")]
    lines = [*kept, *(line.data for line in bad)]
    n_torn = sum(spool.is_torn(line) for line in lines)
    look = f"look at them in {quarantine}, then delete them"
    return [
        Check(
            "finished spool segments that wait", len(waiting), False,
            "opening the store takes them in; if they stay, another process keeps the store",
        ),
        Check(
            "spool files of another store that were set aside", len(_files(store.spool_dir / FOREIGN, "*")),
            False, f"put them into the spool of the store that they are of: {store.spool_dir / FOREIGN}",
        ),
        Check("damaged spool lines", len(lines) - n_torn, True, f"what they held is lost; {look}"),
        Check("torn spool lines of writers that were killed", n_torn, False, look),
        Check(
            "unfinished attempts whose replies are kept", len({p.name.split("-")[0] for p in replies}),
            False,
            "the same collect command goes on from them; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.ARRIVED}",
        ),
        Check(
            "kept replies that are damaged", sum(map(_n_damaged, replies)), True,
            f"they will be asked for again; they are in {store.spool_dir / spool.ARRIVED}",
        ),
        Check(
            "batches that are kept until their answers are taken in", len(notes), False,
            "the same collect command takes them in; of a plan that is given up, delete them in"
            f" {store.spool_dir / spool.BATCHES}",
        ),
        Check(
            "files with transcripts that other users can read", len(_readable(store)), False,
            f"chmod go-rwx {_listed([str(path) for path in _readable(store)])}",
        ),
    ]  # fmt: skip


def _n_damaged(path: Path) -> int:
    """Count the whole lines of a file of replies whose checksum does not fit; the last may be torn."""
    lines = path.read_bytes().split(b"\n")[:-1]
    cut = (line.partition(b" ") for line in lines)
    return sum(crc != b"%08x" % zlib.crc32(body) for crc, _, body in cut)


def _readable(store: Store) -> list[Path]:
    """List files of the store that others than its owner may read; none where there are no such rights."""
    if os.name != "posix":
        return []
    beside = store.path.parent.glob(f"{glob.escape(store.path.stem)}.v*.backup")
    in_spool = store.spool_dir.rglob("*") if store.spool_dir.is_dir() else ()
    files = (store.path, store.path.with_name(store.path.name + ".wal"), *beside, *in_spool)
    return [p for p in files if p.is_file() and p.suffix and p.stat().st_mode & 0o077]


def _files(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern)) if folder.is_dir() else []


def unpriced_models(store: Store) -> list[str]:
    """Name the models, or machines, whose calls have no price."""
    frame = store.sql(
        """SELECT coalesce(machine, model) AS model FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL
          AND coalesce(machine, model) IS NOT NULL
        GROUP BY ALL ORDER BY count(*) DESC, model LIMIT 20"""
    )
    return frame["model"].to_list()
