"""`Store`: the queries of the CLI, the app and notebooks; each opens the file and closes it."""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from workbench import hardware, schema, spool
from workbench.errors import QueryError
from workbench.models import Alias
from workbench.records import AnyRecord, Price, Rows
from workbench.slice import Slice
from workbench.slice.joining import identifier, joined
from workbench.slice.names import entry, is_entry
from workbench.store import (
    aliases,
    bundles,
    database,
    entries,
    exports,
    frames,
    ingest,
    lazy,
    memory,
    migrations,
    ownership,
    reference,
    transfer,
    unmatched,
)
from workbench.store.contradictions import Prefer
from workbench.store.database import Cancel
from workbench.store.ingest import IngestReport
from workbench.store.views import MESSAGES

if TYPE_CHECKING:
    from workbench.analysis import Result

Where = Slice | str
_MEANT = "SELECT configuration_id, canonical_model FROM configurations"


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """The store at a glance; sums are over what is known, None where nothing is."""

    n_traces: int
    n_runs: int
    n_configurations: int
    n_tasks: int
    n_results: int
    n_faults: int
    cost_usd: float | None
    energy_j: float | None
    newest_at: dt.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class TraceDetail:
    """One trace with all that hangs on it but the texts.

    Attributes:
        facts: its row of `trace_facts`.
        item: its row of `items`: the question and the accepted truth.
        calls: its rows of `call_facts`, in order; likewise the others, of their tables.
    """

    facts: Mapping[str, Any]
    item: Mapping[str, Any]
    calls: pl.DataFrame
    tool_calls: pl.DataFrame
    scores: pl.DataFrame
    energy: pl.DataFrame
    n_messages: int


def predicate(where: Where) -> str:
    """The SQL of a filter, over the columns of `trace_facts`; "since:7d" counts from now."""
    return Slice.of(where, now=dt.datetime.now(dt.UTC)).sql()


class Store:
    """A store on disk; safe to use from any thread, holds no file open between calls."""

    def __init__(self, path: Path, *, allow_files: bool = False) -> None:
        self.path = path.resolve()
        self._permissions = database.Permissions(all_files=allow_files, locked=not allow_files)
        self.spool_dir = spool.folder_of(self.path)
        self._id: str | None = None
        self._fields: tuple[str, dict[str, schema.Column]] = ("", {})  # of a stamp

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def id(self) -> str | None:
        """The store's id, as it was when it was opened; None before `prepare`."""
        return self._id

    # -- reading ---------------------------------------------------------------------------------

    def _reading(
        self, cancel: Cancel | None = None
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        return database.reading(self.path, cancel)

    @contextlib.contextmanager
    def snapshot(self, *, cancel: Cancel | None = None) -> Iterator["Snapshot"]:
        """Open the store for several questions about one state of it, valid inside the block."""
        with database.reading(self.path, cancel) as connection:
            yield Snapshot(self.path, connection, _marks(self.path))

    def _asking(
        self, cancel: Cancel | None = None
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the file for a query that is not our own."""
        return database.reading(self.path, cancel, permissions=self._permissions)

    @contextlib.contextmanager
    def relation(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        cancel: Cancel | None = None,
        time_limit_s: float | None = None,
    ) -> Iterator[duckdb.DuckDBPyRelation]:
        """Open a query as a relation that is valid inside the block; see `sql`.

        The time limit is one of the whole block, and there is none by default.
        """
        cancel = cancel or Cancel()
        with cancel.after(time_limit_s), self._asking(cancel) as connection:
            yield database.select(connection, query, params)

    def sql(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        cancel: Cancel | None = None,
        time_limit_s: float | None = database.TIME_LIMIT_S,
    ) -> pl.DataFrame:
        """Run a query, with `$name` parameters, and fetch all of it.

        The query reads this store and nothing else: no file, no other database, no variable of
        Python, unless the store was opened with `allow_files`.

        Args:
            query: one statement that reads: SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN.
            params: values of its parameters.
            cancel: stops it.
            time_limit_s: how long it may run; None for as long as it takes.

        Raises:
            QueryError: in the engine's words; another kind of statement, a result larger than a
                quarter of the memory, or a query that needs more than three quarters of it.
            QueryCancelled: it was stopped, or ran longer than it may.
        """
        cancel = cancel or Cancel()
        with (
            memory.limited(),
            cancel.after(time_limit_s),
            self._asking(cancel) as connection,
        ):
            return database.fetch(database.select(connection, query, params))

    def fields(self, among: Iterable[str] | None = None) -> dict[str, schema.Column]:
        """Describe the columns that this store has of its own: params.…, settings.…, metrics.….

        Args:
            among: only these, so far as there are. All where None, which looks through every score.
        """
        stamp = self.stamp()
        if self._fields[0] == stamp:
            columns = self._fields[1]
            return columns if among is None else {n: columns[n] for n in among if n in columns}
        with self._reading() as connection:
            columns = entries.known(connection, among)
        if among is None:
            self._fields = (stamp, columns)
        return columns

    def _own(self, names: Iterable[str]) -> list[schema.Column]:
        """Describe the names that are the store's own columns; QueryError for an unknown one."""
        wanted = [name for name in map(entry, names) if name is not None]
        if not wanted:
            return []
        known = self.fields(wanted)
        every = known if set(wanted) <= set(known) else self.fields()
        return entries.check(every, wanted)

    def _rows(self, view: str, where: Where, own: Sequence[schema.Column] = ()) -> str:
        """Write the query for the rows of a slice, with columns of the store's own."""
        slice_ = Slice.of(where, now=dt.datetime.now(dt.UTC))
        self._own(entries.columns_in(slice_))
        query = _select(view, slice_)
        if not own:
            return query
        entries.keys(view, own)
        return joined(view if query == f"FROM {view}" else f"({query})", own)

    @contextlib.contextmanager
    def facts(
        self,
        where: Where = "",
        view: str = "trace_facts",
        *,
        fields: Iterable[str] = (),
        cancel: Cancel | None = None,
    ) -> Iterator[Any]:
        """Open the rows of a slice as a narwhals frame over DuckDB, valid inside the block.

        There the store's own rows of models, accelerators and grids are in force.

        Args:
            where: the slice.
            view: whose rows.
            fields: names of the store's own, such as "params.docs" or "metrics.rubric", to add as
                columns. Those that are none are passed over, so that groups and options can be
                given as they are.
            cancel: stops it.

        Raises:
            QueryError: a name that this store does not have, with the nearest.
        """
        import narwhals as nw

        own = self._own(dict.fromkeys(fields))
        query = self._rows(view, where, own)
        with (
            schema.with_columns({c.name: c for c in own}),
            self._reading(cancel) as connection,
            hardware.using(reference.read(connection)),
        ):
            yield nw.from_native(connection.sql(query))

    def analyze(
        self,
        name: str,
        *,
        where: Where = "",
        by: str | Sequence[str] = ("configuration",),
        **options: Any,
    ) -> "Result":
        """Answer a question of the catalogue about a slice, from the rows that it takes.

        Args:
            name: an analysis, as "cost-of-pass"; `workbench.analysis.names()` lists them.
            where: which traces.
            by: the columns that name a group.
            options: `rng` and those of the analysis.

        Raises:
            AnalysisError: an unknown name, option, column or group, or a value out of bounds.
        """
        import workbench

        # As a user would ask it: the store itself knows no analyses.
        return workbench.analysis.run(name, self, where=where, by=by, **options)

    def traces(self, where: Where = "") -> pl.LazyFrame:
        """Scan `trace_facts`; filters, columns and `head` run inside DuckDB at collect.

        Beside its columns the frame has those of the store's own (see `fields`), which are only
        joined where they are used.
        """
        own = tuple(self.fields().values())
        return lazy.scan(self.path, self._rows("trace_facts", where), schema.TRACE_FACTS, own)

    def calls(self, where: Where = "") -> pl.LazyFrame:
        """Scan `call_facts` of the traces in a slice, as `traces` does."""
        own = tuple(self.fields().values())
        return lazy.scan(self.path, self._rows("call_facts", where), schema.CALL_FACTS, own)

    def results(self) -> pl.LazyFrame:
        """Scan the figures that exist only as aggregates, with the names of what they are about."""
        return lazy.scan(self.path, "FROM result_facts", schema.RESULT_FACTS)

    def count(self, where: Where = "", *, cancel: Cancel | None = None) -> int:
        """Count the traces of a slice."""
        rows = self._rows("trace_facts", where)
        source = "FROM traces" if rows == "FROM trace_facts" else rows
        return int(self.sql(f"SELECT count(*) AS n {source}", cancel=cancel)["n"][0])

    def page(
        self,
        where: Where = "",
        *,
        columns: Sequence[str] = ("trace_id",),
        order_by: str = "started_at",
        descending: bool = False,
        offset: int = 0,
        limit: int = 256,
        cancel: Cancel | None = None,
    ) -> pl.DataFrame:
        """Fetch a window of a slice's traces; ties are ordered by trace_id, unknown comes last."""
        chosen = ", ".join(_column(c) for c in columns)
        direction = "DESC" if descending else "ASC"
        rows = self._rows("trace_facts", where, self._own(dict.fromkeys([*columns, order_by])))
        return self.sql(
            f"SELECT {chosen} FROM ({rows}) "
            f"ORDER BY {_column(order_by)} {direction} NULLS LAST, trace_id "
            f"LIMIT {int(limit)} OFFSET {int(offset)}",
            cancel=cancel,
        )

    def place(
        self,
        trace_id: str,
        where: Where = "",
        *,
        order_by: str = "started_at",
        descending: bool = False,
        cancel: Cancel | None = None,
    ) -> int | None:
        """Return a trace's offset in `page` in the same order; None if it is not in the slice."""
        key = _column(order_by)
        before = ">" if descending else "<"
        rows = self._rows("trace_facts", where, self._own([order_by]))
        frame = self.sql(
            f"""WITH listed AS (SELECT {key} AS key, trace_id FROM ({rows})),
            held AS (SELECT * FROM listed WHERE trace_id = $id)
            SELECT (SELECT count(*) FROM held) AS n_held, count(*) AS n FROM listed x, held h
            WHERE CASE WHEN x.key IS NOT DISTINCT FROM h.key THEN x.trace_id < h.trace_id
              WHEN h.key IS NULL THEN true ELSE coalesce(x.key {before} h.key, false) END""",
            {"id": trace_id},
            cancel=cancel,
        )
        n_held, n = frame.row(0)
        return int(n) if n_held else None

    def values(
        self, column: str, prefix: str = "", where: Where = "", limit: int = 50
    ) -> list[str]:
        """List distinct values of a text column, the commonest first, for completion and facets."""
        name = _column(column)
        rows = self._rows("trace_facts", where, self._own([column]))
        frame = self.sql(
            f"SELECT {name}::VARCHAR AS value FROM ({rows}) "
            f"WHERE {name} IS NOT NULL AND starts_with(lower({name}::VARCHAR), lower($prefix)) "
            f"GROUP BY ALL ORDER BY count(*) DESC, value LIMIT {int(limit)}",
            {"prefix": prefix},
        )
        return frame["value"].to_list()

    def facet(
        self, column: str, where: Where = "", limit: int = 1000, *, cancel: Cancel | None = None
    ) -> pl.DataFrame:
        """Count a slice by a column: value, n, and the share of the scored traces that passed.

        One row per value, null among them, the commonest first. All traces have equal weights: it
        is a look at the store, not an estimate; `analysis.summary` is that.
        """
        name = _column(column)
        rows = self._rows("trace_facts", where, self._own([column]))
        return self.sql(
            f"SELECT {name} AS value, count(*) AS n, "
            "avg(passed::INT) FILTER (is_replaced IS NOT TRUE) AS pass_share "
            f"FROM ({rows}) "
            f"GROUP BY ALL ORDER BY n DESC, value NULLS LAST LIMIT {int(limit)}",
            cancel=cancel,
        )

    def unmatched(self, where: Where) -> list[str]:
        """Return a message with the nearest known names for those in a slice that match nothing.

        Names of configurations, models, providers, strategies, efforts, precisions, machines and
        tasks.
        """
        with self._reading() as connection:
            return unmatched.sentences(connection, Slice.of(where, now=dt.datetime.now(dt.UTC)))

    def detail(self, trace_id: str) -> TraceDetail:
        """Fetch one trace.

        Raises:
            QueryError: there is no such trace.
        """
        chosen = {"id": trace_id}
        with self._reading() as connection:

            def fetch(query: str) -> pl.DataFrame:
                frame: pl.DataFrame = connection.sql(query, params=chosen).pl()
                return frame

            facts = fetch("FROM trace_facts WHERE trace_id = $id")
            if not facts.height:
                raise QueryError(f"there is no trace {trace_id!r} in {self.path}")
            item = fetch("SELECT i.* FROM traces JOIN items i USING (item_id) WHERE trace_id = $id")
            return TraceDetail(
                facts=facts.row(0, named=True),
                item=item.row(0, named=True) if item.height else {},
                calls=fetch("FROM call_facts WHERE trace_id = $id ORDER BY ordinal"),
                tool_calls=fetch("FROM tool_calls WHERE trace_id = $id ORDER BY ordinal"),
                scores=fetch("FROM scores WHERE trace_id = $id"),
                energy=fetch("FROM energy WHERE trace_id = $id"),
                n_messages=fetch("SELECT count(*) AS n FROM messages WHERE trace_id = $id")["n"][0],
            )

    def messages(
        self, trace_id: str, start: int = 0, limit: int = 200, max_chars: int = 4000
    ) -> pl.DataFrame:
        """Fetch a window of a conversation, long texts cut to their first `max_chars` characters.

        `is_bearer` says of a message that the call it belongs to produced it, and that the figures
        of the call stand beside it: of the thinking beside what was thought, the rest beside what
        was said.
        """
        return self.sql(
            f"""SELECT m.ordinal, m.role, m.kind, m.call_id, m.tool_call_id,
              m.n_tokens, m.is_bearer,
            c.n_bytes, m.content_id, left(c.text, {int(max_chars)}) AS text
            FROM (FROM ({MESSAGES}) ORDER BY ordinal LIMIT {int(limit)} OFFSET {int(start)}) m
            LEFT JOIN contents c USING (content_id) ORDER BY m.ordinal""",
            {"id": trace_id},
        )

    def text(self, content_id: str) -> str:
        """Fetch one whole text."""
        frame = self.sql("SELECT text FROM contents WHERE content_id = $id", {"id": content_id})
        if not frame.height:
            raise QueryError(f"there is no text {content_id!r} in {self.path}")
        return str(frame["text"][0])

    def overview(self) -> Overview:
        """Count and sum the whole store."""
        frame = self.sql(
            """SELECT (SELECT count(*) FROM traces) AS n_traces,
            (SELECT count(*) FROM runs) AS n_runs,
            (SELECT count(*) FROM configurations) AS n_configurations,
            (SELECT count(*) FROM tasks) AS n_tasks, (SELECT count(*) FROM results) AS n_results,
            (SELECT count(*) FROM usage_faults) AS n_faults,
            (SELECT sum(cost_usd) FROM traces) AS cost_usd,
            (SELECT sum(energy_j) FROM traces) AS energy_j,
            (SELECT max(started_at) FROM traces) AS newest_at"""
        )
        return Overview(**frame.row(0, named=True))

    def done(
        self, configuration_ids: Iterable[str], *, in_spool: bool = True
    ) -> set[tuple[str, str, int]]:
        """List settled attempts (configuration, item, trial).

        An attempt that failed is settled only where asking again would fail again.

        Args:
            configuration_ids: whose attempts.
            in_spool: list those that wait in the spool as well; a collector has looked there
                itself.
        """
        wanted = list(configuration_ids)
        query = """SELECT configuration_id, item_id, trial FROM traces
            WHERE (error_type IS NULL OR error_type IN (SELECT unnest($final)))
            AND configuration_id IN (SELECT unnest($wanted))"""
        params = {"wanted": wanted, "final": sorted(spool.FINAL_ERRORS)}
        with self.relation(query, params) as relation:
            settled: set[tuple[str, str, int]] = set(relation.fetchall())
        chosen = set(wanted)
        for segment in spool.segments(self.spool_dir) if in_spool else ():
            for record in spool.read_summaries(segment.path, attempts=False):
                if (
                    isinstance(record, spool.TraceEnd)
                    and spool.is_settled(record.error_type)
                    and record.configuration_id in chosen
                ):
                    settled.add((record.configuration_id, record.item_id, record.trial))
        return settled

    def stamp(self) -> str:
        """Text that changes whenever the database or the spool does; costs two `stat` calls."""
        waiting = (f"{s.path.name}:{s.size}" for s in spool.segments(self.spool_dir))
        return "|".join((_marks(self.path), *waiting))

    def saved_slices(self) -> dict[str, str]:
        """Saved filters by name."""
        frame = self.sql("SELECT name, filter FROM saved_slices ORDER BY name")
        return dict(frame.iter_rows())

    # -- writing ---------------------------------------------------------------------------------

    def ingest(self, records: Iterable[AnyRecord | Rows], *, source: str = "") -> IngestReport:
        """Write what the store lacks of a stream of records: all of it, or nothing if it fails.

        The stream is read before the file is taken, so that the lease stays short.
        """
        report = IngestReport()
        with transfer.Staging(self.path.parent) as staging:
            for batch in frames.batches(records):
                staging.add(batch)
            with self.lease() as connection:
                for batch in staging:
                    ingest.write_frames(connection, batch, report)
                if report.rows_new.get("prices"):
                    ingest.reprice(connection)
        if source:
            report.notes.append(source)
        return report

    def ingest_spool(self) -> IngestReport:
        """Write what waits in the spool; a segment is deleted once its rows are committed."""
        return transfer.ingest_spool(self.path, self.spool_dir, self._id)

    def merge(
        self,
        other: Path,
        *,
        as_tables: bool = False,
        prefer: Prefer | None = None,
        passphrase: str | None = None,
    ) -> IngestReport:
        """Write the rows that the store lacks from another store, an export, a bundle or a spool.

        Args:
            other: what to read.
            as_tables: take a folder's files as they are, without asking whether they are one whole
                export.
            prefer: "mine" or "theirs": which is right where they say different things of one trace,
                configuration, item or price; None takes nothing then, and lists them.
            passphrase: of an encrypted bundle.

        Raises:
            ImportFormatError: the folder has no manifest, lacks a part, is made of two exports, or
                contradicts the store.
        """
        return transfer.merge(
            self.path,
            other,
            self._id,
            as_tables=as_tables,
            prefer=prefer,
            passphrase=passphrase,
        )

    def export(
        self, folder: str | Path, where: Where = "", *, overwrite: bool = False
    ) -> dict[str, int]:
        """Write a slice as one Parquet file for each table, with a manifest; returns rows by table.

        The folder is whole or not there. An earlier export of the same slice of this store is
        replaced, any other one only with `overwrite`.

        Raises:
            StoreError: the folder holds something else, or cannot be written.
        """
        slice_ = Slice.of(where, now=dt.datetime.now(dt.UTC))
        self._own(entries.columns_in(slice_))
        return exports.export(
            self.path, Path(folder), slice_.sql(), where=str(slice_), overwrite=overwrite
        )

    def export_bundle(
        self, file: str | Path, where: Where = "", *, passphrase: str | None = None
    ) -> dict[str, int]:
        """Write a slice as one zip file, which `merge` reads; returns rows by table.

        Args:
            file: what to write; one that is there is replaced.
            where: the slice.
            passphrase: encrypts the file, in the format of age.

        Raises:
            StoreError: it cannot be written.
        """
        slice_ = Slice.of(where, now=dt.datetime.now(dt.UTC))
        self._own(entries.columns_in(slice_))
        return bundles.write(
            self.path, Path(file), slice_.sql(), where=str(slice_), passphrase=passphrase
        )

    def add_prices(self, rows: Iterable[Price]) -> tuple[int, int]:
        """Add price rows, resolve every call again; returns (new rows, traces with a new cost)."""
        with self.lease() as connection:
            new = ingest.add_prices(connection, rows)
            return new, ingest.reprice(connection)

    def add_aliases(self, rows: Iterable[Alias]) -> tuple[int, int]:
        """Explain names of models; returns (configurations renamed, traces whose cost moved)."""
        with self.lease() as connection:
            before = dict(connection.execute(_MEANT).fetchall())
            aliases.add(connection, rows)
            aliases.read_names(connection, every=True)
            after = dict(connection.execute(_MEANT).fetchall())
            moved = ingest.reprice(connection)
        return sum(before.get(name) != meant for name, meant in after.items()), moved

    def model_aliases(self) -> aliases.Aliases:
        """The names of models that the user explained."""
        with database.reading(self.path) as connection:
            return aliases.known(connection)

    def save_slice(self, name: str, text: str, *, now: dt.datetime | None = None) -> None:
        """Keep a filter under a name, in place of what had that name."""
        Slice.parse(text)
        at = (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).replace(tzinfo=None)
        with self.lease() as connection:
            connection.execute("DELETE FROM saved_slices WHERE name = ?", [name])
            connection.execute("INSERT INTO saved_slices VALUES (?, ?, ?)", [name, text, at])

    def prepare(self, cancel: Cancel | None = None) -> None:
        """Make the file, or bring an older layout up to date, and find its spool."""
        self._id = migrations.prepare(self.path, cancel)
        ownership.settle(self.path, self._id)

    def lease(self) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the file for writing in one transaction; StoreError if another store replaced it."""
        return database.lease(self.path, store_id=self._id)


class Snapshot(Store):
    """Snapshot of a store: every query reads one state of the file.

    No process can write while it is open, so close it once the queries are done. It must be used
    from one thread only.

    Attributes:
        moment: a text that two snapshots share only where the database did not change between them.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, moment: str) -> None:
        super().__init__(path)
        self._connection = connection
        self.moment = moment

    def _reading(
        self, cancel: Cancel | None = None
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        del cancel  # the handle given to `Store.snapshot` stops its queries
        return contextlib.nullcontext(self._connection)

    _asking = _reading


def _marks(path: Path) -> str:
    """Return a text that changes whenever the database does: times and sizes of its files."""
    marks = []
    for file in (path, path.with_name(path.name + ".wal")):
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            marks.append(f"{stat.st_mtime_ns}:{stat.st_size}")
    return "|".join(marks)


def _select(view: str, where: Where) -> str:
    if view not in schema.RELATIONS:
        raise QueryError(f"there is no view {view!r}; known are {', '.join(schema.RELATIONS)}")
    test = predicate(where)
    if test == "TRUE":
        return f"FROM {view}"
    if view == "trace_facts":
        return f"FROM trace_facts WHERE {test}"
    return f"FROM {view} WHERE trace_id IN (SELECT trace_id FROM trace_facts WHERE {test})"


def _column(typed: str) -> str:
    name = entry(typed) or typed
    if name not in schema.TRACE_FACTS.names and not is_entry(name):
        raise QueryError(f"trace_facts has no column {typed!r}; see: workbench schema trace_facts")
    return identifier(name)
