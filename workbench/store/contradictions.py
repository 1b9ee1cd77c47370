"""Contradictions between two stores that hold the same rows, and the values that one side lacks."""

import dataclasses
from typing import Literal

import duckdb

from workbench.prices import BUNDLED
from workbench.schema import TABLES
from workbench.spool import FINAL_ERRORS
from workbench.store import ingest, views
from workbench.store.ingest import IngestReport, Relations

Prefer = Literal["mine", "theirs"]
SHOWN = 10  # of each table, in a message
# what identifies or follows from other columns cannot contradict; null is unknown and contradicts
# nothing
_COMPARED = {
    "configurations": tuple(
        name
        for name in TABLES["configurations"].names
        if name not in {"configuration_id", "configuration", "base_name", "canonical_model"}
    ),
    "items": ("item", "input", "target", "difficulty", "value_usd", "human_cost_usd"),
    "traces": (
        "configuration_id",
        "item_id",
        "trial",
        "answer",
        "score",
        "passed",
        "verifier_score",
        "confidence",
    ),
}
_CALLS = (
    "role",
    "model",
    "started_at",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "reasoning_tokens",
    "billed_cost_usd",
)
# what a second look may add to a trace; of other columns null says something
_FILLED = {
    "items": ("target", "difficulty", "value_usd", "human_cost_usd"),
    "traces": ("answer", "score", "passed", "verifier_score", "confidence"),
}
_PARTS = ("tool_calls", "scores", "energy", "messages")
_RATES = tuple(name for name in TABLES["prices"].names if "_usd" in name)
_IN_FORCE = (
    "model",
    "provider",
    "starts_at",
    "ends_at",
    "daily_from",
    "daily_to",
    "min_input_tokens",
    "service_tier",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What two stores say differently of the same things.

    Attributes:
        table: where.
        pairs: for each thing our id, theirs, and in words what differs.
    """

    table: str
    pairs: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        things = [f"{id} ({what})" for id, _, what in self.pairs[:SHOWN]]
        more = f" and {len(self.pairs) - SHOWN:,} more" if len(self.pairs) > SHOWN else ""
        return f"{self.table} ({len(self.pairs):,}): {', '.join(things)}{more}"


def find(connection: duckdb.DuckDBPyConnection, new: Relations) -> list[Found]:
    """Compare the rows of both sides; puts the traces of equal attempts into a temporary `common`.

    A failed try and a later one of the same attempt do not contradict each other, nor do a session
    and what it was before it grew, nor one attempt in two logs.

    Args:
        connection: inside a lease, before anything is written.
        new: by table, the relation that comes.
    """
    found = [
        _differing(connection, table, new[table])
        for table in ("configurations", "items")
        if table in new
    ]
    if "prices" in new:
        found.append(_prices(connection, new["prices"]))
    if "traces" in new:
        _common(connection, new["traces"])
        found.append(_traces(connection, new))
    return [each for each in found if each.pairs]


def settle(
    connection: duckdb.DuckDBPyConnection, new: Relations, found: list[Found], prefer: Prefer
) -> dict[str, str]:
    """Decide contradictions for one side; returns the relations to write, without rejected rows."""
    left = dict(new)
    for each in found:
        mine, theirs = ([pair[side] for pair in each.pairs] for side in (0, 1))
        key = TABLES[each.table].key[0]
        if each.table == "traces":
            if prefer == "theirs":
                ingest.delete_traces(connection, mine)
            connection.execute("DELETE FROM common WHERE trace_id IN (SELECT unnest(?))", [mine])
        elif prefer == "theirs":
            _delete(connection, each.table, key, mine)
        else:
            name = f"rejected_{each.table}"
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({key} VARCHAR)")
            connection.execute(f"INSERT INTO {name} SELECT unnest(?)", [theirs])
            left[each.table] = f"(FROM {left[each.table]} ANTI JOIN {name} USING ({key}))"
    return left


def complete(connection: duckdb.DuckDBPyConnection, new: Relations, report: IngestReport) -> None:
    """Fill nulls of traces and items from the other side; call after `find` and all inserts."""
    for table, columns in _FILLED.items():
        if table not in new:
            continue
        key = TABLES[table].key[0]
        sets = ", ".join(f"{c} = coalesce({table}.{c}, n.{c})" for c in columns)
        lacks = " OR ".join(f"({table}.{c} IS NULL AND n.{c} IS NOT NULL)" for c in columns)
        among = "SEMI JOIN common USING (trace_id)" if table == "traces" else ""
        connection.execute(
            f"UPDATE {table} SET {sets} FROM (FROM {new[table]} {among}) n "
            f"WHERE n.{key} = {table}.{key} AND ({lacks})"
        )
    if "traces" in new and _count(connection, "common"):
        _complete_calls(connection, new, report)
        for table in _PARTS:
            if table in new:
                _complete_part(connection, table, new, report)


def _differing(connection: duckdb.DuckDBPyConnection, table: str, relation: str) -> Found:
    key = TABLES[table].key[0]
    rows = connection.execute(
        f"SELECT o.{key}, {_names(_COMPARED[table])} AS what "
        f"FROM {table} o JOIN {relation} n USING ({key}) "
        "WHERE what <> '' ORDER BY ALL"
    ).fetchall()
    return Found(table, tuple((id, id, what) for id, what in rows))


def _names(columns: tuple[str, ...]) -> str:
    """Name the columns that both sides know and do not agree on, as SQL."""
    tests = ", ".join(f"CASE WHEN o.{c} <> n.{c} THEN '{c}' END" for c in columns)
    return f"concat_ws(', ', {tests})"


def _prices(connection: duckdb.DuckDBPyConnection, relation: str) -> Found:
    """Compare users' own prices for the same calls, except where one side has both rows."""
    same = " AND ".join(f"o.{c} IS NOT DISTINCT FROM n.{c}" for c in _IN_FORCE)
    differ = " OR ".join(f"o.{c} IS DISTINCT FROM n.{c}" for c in _RATES)
    rows = connection.execute(
        f"""SELECT o.price_id, n.price_id, o.model || coalesce(' by ' || o.provider, '')
          || coalesce(' from ' || o.starts_at::DATE, '') || ': '
          || coalesce(o.input_usd_per_mtok::VARCHAR, '—') || ' and '
          || coalesce(o.output_usd_per_mtok::VARCHAR, '—')
          || ' USD/Mtok here, ' || coalesce(n.input_usd_per_mtok::VARCHAR, '—') || ' and '
          || coalesce(n.output_usd_per_mtok::VARCHAR, '—') || ' there'
        FROM prices o JOIN {relation} n ON {same}
        WHERE ({differ}) AND NOT starts_with(o.sheet, '{BUNDLED}')
        AND NOT starts_with(n.sheet, '{BUNDLED}')
        AND n.price_id NOT IN (SELECT price_id FROM prices)
        AND o.price_id NOT IN (SELECT price_id FROM {relation}) ORDER BY ALL"""
    ).fetchall()
    return Found("prices", tuple(rows))


def _common(connection: duckdb.DuckDBPyConnection, traces: str) -> None:
    final = ", ".join(f"'{kind}'" for kind in sorted(FINAL_ERRORS))
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE common AS
        SELECT o.trace_id FROM traces o JOIN {traces} n USING (trace_id)
        LEFT JOIN runs r ON r.run_id = o.run_id
        WHERE o.run_id = n.run_id AND o.is_replaced IS NOT TRUE AND n.is_replaced IS NOT TRUE
        AND (o.error_type IS NULL OR o.error_type IN ({final}))
        AND (n.error_type IS NULL OR n.error_type IN ({final}))
        AND NOT (coalesce(r.kind = 'import' AND r.ended_at IS NULL, false)
          AND (o.n_messages <> n.n_messages OR o.e2e_s <> n.e2e_s))"""
    )


def _traces(connection: duckdb.DuckDBPyConnection, new: Relations) -> Found:
    """Compare the traces in `common`, with their calls and messages."""
    among = "SEMI JOIN common USING (trace_id)"
    looks = [
        f"SELECT o.trace_id, {_names(_COMPARED['traces'])} AS what "
        f"FROM traces o JOIN {new['traces']} n USING (trace_id) {among}",
        "SELECT o.trace_id, CASE WHEN o.error_type IS DISTINCT FROM n.error_type "
        "THEN 'error_type' ELSE '' END AS what "
        f"FROM traces o JOIN {new['traces']} n USING (trace_id) {among}",
    ]
    if "calls" in new:
        looks.append(
            f"SELECT o.trace_id, {_names(_CALLS)} AS what FROM (FROM calls {among}) o "
            f"JOIN {new['calls']} n USING (call_id)"
        )
    if "messages" in new:
        looks.append(
            "SELECT o.trace_id, "
            "CASE WHEN o.content_id <> n.content_id THEN 'messages' ELSE '' END AS what "
            f"FROM (FROM messages {among}) o JOIN {new['messages']} n USING (trace_id, ordinal)"
        )
    rows = connection.execute(
        f"""SELECT trace_id, string_agg(what, ', ' ORDER BY what) FROM
        (SELECT DISTINCT trace_id, what FROM ({" UNION ALL ".join(looks)}) WHERE what <> '')
        GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    return Found("traces", tuple((id, id, what) for id, what in rows))


def _delete(connection: duckdb.DuckDBPyConnection, table: str, key: str, ids: list[str]) -> None:
    connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT unnest(?))", [ids])


def _bare(table: str, relation: str) -> str:
    """Select the traces in `common` that have rows there, and none in the table here."""
    return (
        f"(SELECT DISTINCT trace_id FROM {relation} SEMI JOIN common USING (trace_id) "
        f"ANTI JOIN {table} USING (trace_id))"
    )


def _complete_calls(
    connection: duckdb.DuckDBPyConnection, new: Relations, report: IngestReport
) -> None:
    if "calls" not in new:
        return
    connection.execute(f"CREATE OR REPLACE TEMP TABLE bare AS FROM {_bare('calls', new['calls'])}")
    n = _count(connection, "bare")
    if not n:
        return
    calls = (
        f"(FROM {new['calls']} n ANTI JOIN calls USING (call_id) SEMI JOIN bare USING (trace_id))"
    )
    ingest.price(connection, calls, "traces", "completed")
    added = int(connection.execute("INSERT INTO calls BY NAME FROM completed").fetchall()[0][0])
    sets = ", ".join(f"{name} = s.{name}" for name in views.TOTALS)
    connection.execute(
        f"UPDATE traces SET {sets} FROM ({views.totals('completed')}) s "
        "WHERE s.trace_id = traces.trace_id"
    )
    report.rows_new["calls"] = report.rows_new.get("calls", 0) + added
    report.notes.append(f"{n:,} traces were here without their calls; they have them now")


def _complete_part(
    connection: duckdb.DuckDBPyConnection, table: str, new: Relations, report: IngestReport
) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE bare AS FROM {_bare(table, new[table])}")
    if not _count(connection, "bare"):
        return
    among = "SEMI JOIN bare USING (trace_id)"
    added = connection.execute(f"INSERT INTO {table} BY NAME FROM {new[table]} {among}").fetchall()
    report.rows_new[table] = report.rows_new.get(table, 0) + int(added[0][0])
    if table == "messages" and "contents" in new:
        connection.execute(
            f"""INSERT INTO contents BY NAME
            SELECT n.* FROM {new["contents"]} n ANTI JOIN contents USING (content_id)
            WHERE n.content_id IN (SELECT content_id FROM {new["messages"]} {among})"""
        )


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])
