"""Contradictions between two stores that hold the same rows, and the rows that one side lacks.

A merge gives the same rows in either direction. Rows that both stores have are compared in every
column, and rows or values that only one has are added. Where the two contradict each other, the
user chooses a side, or nothing is merged.
"""

import dataclasses
from typing import Literal

import duckdb

from workbench import formats
from workbench.errors import ImportFormatError
from workbench.prices import BUNDLED
from workbench.schema import TABLES
from workbench.spool import FINAL_ERRORS
from workbench.store import differences, ingest, sessions, texts, views
from workbench.store.differences import AMONG, PARTS, RULES, count, differ, same
from workbench.store.ingest import IngestReport, Relations

Prefer = Literal["mine", "theirs"]
SHOWN = 10  # of each table, in a message
_IN_FORCE = "prices in force"  # other rows, for the same calls
_RATES = tuple(name for name in TABLES["prices"].names if "_usd" in name)
_FORCE = (
    "model",
    "provider",
    "starts_at",
    "ends_at",
    "daily_from",
    "daily_to",
    "min_input_tokens",
    "service_tier",
)
_ATTEMPT = ("traces", "calls", "call_copies", "tool_calls", "messages", "energy")
_PLAIN = tuple(table for table in RULES if table not in _ATTEMPT)
_WHOLE = {name for name in views.TOTALS if TABLES["traces"][name].type != "float"}


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """A contradiction between two stores: rows of one table that differ for the same keys.

    Attributes:
        table: the name of the table, or "prices in force".
        n: number of rows that contradict.
        things: the first of them: id, and the columns that differ, as text.
    """

    table: str
    n: int
    things: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        things = [f"{id} ({what})" for id, what in self.things]
        more = f" and {self.n - len(things):,} more" if self.n > len(things) else ""
        name = "prices" if self.table == _IN_FORCE else self.table
        return f"{name} ({self.n:,}): {', '.join(things)}{more}"


def find(connection: duckdb.DuckDBPyConnection, new: Relations) -> list[Contradiction]:
    """Compare the rows of both sides; the traces of equal attempts are put into `common`.

    A failed try and a later one of the same attempt do not contradict each other, nor do a session
    and what it was before it grew, nor one attempt in two logs, nor a run and what it was before it
    ended.

    Args:
        connection: inside a lease, before anything is written.
        new: by table, the relation that comes.

    Raises:
        ImportFormatError: a text that comes is not the one that its id is the hash of.
    """
    _common(connection, new.get("traces"), new)
    differing = differences.note_all(connection, new)
    if "contents" in new:
        _check_texts(connection, new["contents"], "NOT IN (SELECT content_id FROM contents)")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_against('prices')} AS SELECT price_id FROM prices LIMIT 0"
    )
    contradictions = [_attempts(connection, new, differing)]
    contradictions += [
        _plain(connection, table, new[table]) for table in _PLAIN if differing[table]
    ]
    if "prices" in new:
        contradictions.append(_in_force(connection, new["prices"]))
    return [one for one in contradictions if one.n]


def settle(
    connection: duckdb.DuckDBPyConnection,
    new: Relations,
    contradictions: list[Contradiction],
    prefer: Prefer,
) -> dict[str, str]:
    """Decide contradictions for one side; returns the relations to write, without rejected rows."""
    accepted = dict(new)
    for contradiction in contradictions:
        table = contradiction.table
        against = _against(table)
        if table == "traces":
            if prefer == "theirs":
                ids = connection.execute(f"SELECT trace_id FROM {against}").fetchall()
                ingest.delete_traces(connection, [id for (id,) in ids])
            connection.execute(
                f"DELETE FROM common WHERE trace_id IN (SELECT trace_id FROM {against})"
            )
        elif table == _IN_FORCE:
            if prefer == "theirs":
                connection.execute(
                    f"DELETE FROM prices WHERE price_id IN (SELECT price_id FROM {against})"
                )
            else:
                accepted["prices"] = (
                    f"(FROM {accepted['prices']} "
                    f"WHERE price_id NOT IN (SELECT other_id FROM {against}))"
                )
        elif prefer == "theirs":
            if table == "contents":
                _check_texts(connection, new[table], f"IN (SELECT content_id FROM {against})")
            connection.execute(
                f"UPDATE {table} SET {differences.replaced(table)} FROM {new[table]} n, {against} d"
                f" WHERE {same(table, table, 'n')} AND {same(table, table, 'd')}"
            )
        else:
            accepted[table] = (
                f"(FROM {accepted[table]} n "
                f"WHERE NOT EXISTS (FROM {against} d WHERE {same(table, 'n', 'd')}))"
            )
    return accepted


def complete(connection: duckdb.DuckDBPyConnection, new: Relations, report: IngestReport) -> None:
    """Fill rows that both sides have from the other side; call after `find` and all inserts."""
    for table in RULES:
        sets = differences.filled(table)
        if table in new and sets and count(connection, f"{differ(table)} WHERE here AND there"):
            among = AMONG if differences.is_part(table) or table == "traces" else ""
            connection.execute(
                f"UPDATE {table} SET {sets} FROM {new[table]} n, "
                f"(FROM {differ(table)} {among}) d WHERE d.here AND d.there "
                f"AND {same(table, table, 'n')} AND {same(table, table, 'd')}"
            )
    _complete_calls(connection, new, report)
    for table in ("tool_calls", "scores", "energy", "messages", "call_copies"):
        if table in new:
            _complete_part(connection, table, new[table], report)
    if "messages" in new and "contents" in new:
        _complete_texts(connection, new["contents"], report)


def derive(connection: duckdb.DuckDBPyConnection) -> None:
    """Recompute the derived columns of changed traces: sums and counts."""
    touched = " UNION ".join(
        f"SELECT trace_id FROM {differ(table)} WHERE there"
        for table in ("traces", "calls", "tool_calls", "messages")
    )
    priced = f"(SELECT price_id FROM {_against('prices')})"
    repriced = f"SELECT trace_id FROM calls WHERE price_id IN {priced}"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE touched AS (FROM ({touched}) {AMONG}) UNION ({repriced})"
    )
    if not count(connection, "touched"):
        return
    calls = views.totals("(FROM calls SEMI JOIN touched USING (trace_id))")
    sets = ", ".join(f"{name} = s.{name}" for name in views.TOTALS)
    off = " OR ".join(
        f"traces.{name} IS DISTINCT FROM s.{name}"
        if name in _WHOLE
        else f"(traces.{name} IS NULL) <> (s.{name} IS NULL) "
        f"OR abs(traces.{name} - s.{name}) > 1e-12 * abs(s.{name})"
        for name in views.TOTALS
    )
    connection.execute(
        f"UPDATE traces SET {sets} FROM ({calls}) s WHERE s.trace_id = traces.trace_id AND ({off})"
    )
    counts = ingest.counts("touched")
    sets = ", ".join(f"{name} = s.{name}" for name in differences.COUNTED)
    off = " OR ".join(f"traces.{n} IS DISTINCT FROM s.{n}" for n in differences.COUNTED)
    connection.execute(
        f"UPDATE traces SET {sets} FROM ({counts}) s WHERE s.trace_id = traces.trace_id AND ({off})"
    )


def is_priced_otherwise(connection: duckdb.DuckDBPyConnection, new: Relations) -> bool:
    """Return whether both have a call and differ in its cost, or in what decides its price."""
    return "calls" in new and bool(count(connection, f"{differ('calls')} WHERE here AND there"))


def _against(table: str) -> str:
    """Name the temporary table of the keys that contradict."""
    return f"against_{table.replace(' ', '_')}"


def _common(connection: duckdb.DuckDBPyConnection, traces: str | None, new: Relations) -> None:
    """Put the traces that are one attempt on both sides, and of which no rule takes one, apart."""
    connection.execute("CREATE OR REPLACE TEMP TABLE common (trace_id VARCHAR)")
    if traces is None:
        return
    sessions.note_growing(connection, new)
    final = ", ".join(f"'{kind}'" for kind in sorted(FINAL_ERRORS))
    unequal = "false"
    if "calls" in new:
        ingest.note_replaced(connection, new)
        unequal = "o.trace_id IN (SELECT trace_id FROM replaced WHERE n_mine <> n_theirs)"
    connection.execute(
        f"""INSERT INTO common SELECT o.trace_id FROM traces o JOIN {traces} n USING (trace_id)
        WHERE o.run_id = n.run_id AND NOT ({unequal})
        AND (o.is_replaced IS TRUE OR n.is_replaced IS TRUE OR NOT (
          {_gives_way("o", "n", final)} OR {_gives_way("n", "o", final)}
          OR o.run_id IN (SELECT run_id FROM growing WHERE ended_once)
          OR (o.run_id IN (SELECT run_id FROM growing)
            AND coalesce(o.n_messages <> n.n_messages OR o.e2e_s <> n.e2e_s, false))))"""
    )


def _gives_way(old: str, later: str, final: str) -> str:
    """Write whether a later try comes in a failed one's place; as in `ingest`."""
    return (
        f"coalesce({old}.error_type NOT IN ({final}) AND ({later}.error_type IS NULL "
        f"OR {later}.error_type IN ({final}) OR {later}.started_at > {old}.started_at), false)"
    )


def _check_texts(connection: duckdb.DuckDBPyConnection, contents: str, ids: str) -> None:
    """Hash those of the texts that come which a condition names."""
    forged = texts.altered(connection, f"(FROM {contents} WHERE content_id {ids})")
    if forged:
        raise ImportFormatError(
            f"{formats.counted(len(forged), 'text')} of what comes are not those that they are "
            f"named after ({', '.join(forged[:3])}): they were changed, and nothing was taken"
        )


def _attempts(
    connection: duckdb.DuckDBPyConnection, new: Relations, differing: dict[str, int]
) -> Contradiction:
    """Compare the traces in `common` with all that they consist of."""
    against = _against("traces")
    looks = ["SELECT NULL::VARCHAR AS trace_id, '' AS what WHERE false"]
    for table in _ATTEMPT:
        if not differing[table]:
            continue
        prefix = "" if table in {"traces", "calls"} else f"{table}."
        looks.append(
            f"SELECT o.trace_id, unnest(string_split({differences.named(table, prefix=prefix)}, "
            f"', ')) AS what {differences.pairs(table, new[table])}"
        )
        if table in PARTS:
            looks += [
                _partial(table, table, "there"),
                _partial(table, new[table], "here"),
            ]
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {against} AS
        SELECT trace_id, string_agg(DISTINCT what, ', ' ORDER BY what) AS what
        FROM ({" UNION ALL ".join(looks)}) WHERE what <> '' GROUP BY trace_id"""
    )
    return _listed(connection, "traces", "trace_id")


def _partial(table: str, elsewhere: str, side: str) -> str:
    """Select traces with rows on one side alone, though the other side has some of theirs too.

    A row that is there under another trace is none, unless its id is made of its own trace's: its
    session was resumed in one of the stores.
    """
    (other,) = {"here", "there"} - {side}
    key = TABLES[table].key[0]
    return (
        f"SELECT DISTINCT d.trace_id, '{table}' AS what FROM (FROM {differ(table)} "
        f"WHERE {side} AND NOT {other}) d LEFT JOIN {elsewhere} m ON {same(table, 'm', 'd')} "
        f"WHERE CASE WHEN m.{key} IS NULL THEN d.trace_id IN (SELECT trace_id FROM {elsewhere}) "
        f"ELSE starts_with(d.{key}, d.trace_id) END"
    )


def _plain(connection: duckdb.DuckDBPyConnection, table: str, relation: str) -> Contradiction:
    """Compare rows that are not part of an attempt, or are distinguished from it: scores."""
    key = TABLES[table].key
    key_columns = ", ".join(f"o.{name}" for name in key)
    apart = f"ANTI JOIN {_against('traces')} USING (trace_id)" if table == "scores" else ""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {_against(table)} AS FROM (
        SELECT {key_columns}, {differences.named(table)} AS what
        {differences.pairs(table, relation)})
        {apart} WHERE what <> ''"""
    )
    return _listed(connection, table, f"concat_ws(' ', {', '.join(key)})")


def _listed(connection: duckdb.DuckDBPyConnection, table: str, name: str) -> Contradiction:
    against = _against(table)
    first = connection.execute(
        f"SELECT {name} AS name, what FROM {against} ORDER BY ALL LIMIT {SHOWN}"
    ).fetchall()
    return Contradiction(table, count(connection, against), tuple(first))


def _in_force(connection: duckdb.DuckDBPyConnection, relation: str) -> Contradiction:
    """Compare users' own prices for the same calls, except where one side has both rows."""
    equal = " AND ".join(f"o.{c} IS NOT DISTINCT FROM n.{c}" for c in _FORCE)
    unequal = " OR ".join(f"o.{c} IS DISTINCT FROM n.{c}" for c in _RATES)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {_against(_IN_FORCE)} AS
        SELECT o.price_id, n.price_id AS other_id, o.model || coalesce(' by ' || o.provider, '')
          || coalesce(' from ' || o.starts_at::DATE, '') || ': '
          || coalesce(o.input_usd_per_mtok::VARCHAR, '—') || ' and '
          || coalesce(o.output_usd_per_mtok::VARCHAR, '—')
          || ' USD/Mtok here, ' || coalesce(n.input_usd_per_mtok::VARCHAR, '—') || ' and '
          || coalesce(n.output_usd_per_mtok::VARCHAR, '—') || ' there' AS what
        FROM prices o JOIN {relation} n ON {equal}
        WHERE ({unequal}) AND NOT starts_with(o.sheet, '{BUNDLED}')
        AND NOT starts_with(n.sheet, '{BUNDLED}')
        AND n.price_id NOT IN (SELECT price_id FROM prices)
        AND o.price_id NOT IN (SELECT price_id FROM {relation})"""
    )
    return _listed(connection, _IN_FORCE, "price_id")


def _lacking(table: str, relation: str) -> str:
    """Select the rows of traces in `common` that only the other side has."""
    return (
        f"(FROM {relation} n WHERE EXISTS (FROM (FROM {differ(table)} {AMONG}) d "
        f"WHERE d.there AND NOT d.here AND {same(table, 'd', 'n')}) "
        f"AND NOT EXISTS (FROM {table} m WHERE {same(table, 'm', 'n')}))"
    )


def _complete_calls(
    connection: duckdb.DuckDBPyConnection, new: Relations, report: IngestReport
) -> None:
    if "calls" not in new or not count(connection, f"{differ('calls')} WHERE NOT here"):
        return
    ingest.price(connection, _lacking("calls", new["calls"]), "traces", "completed")
    added = int(connection.execute("INSERT INTO calls BY NAME FROM completed").fetchall()[0][0])
    n = count(connection, "(SELECT DISTINCT trace_id FROM completed)")
    report.rows_new["calls"] = report.rows_new.get("calls", 0) + added
    if n:
        report.notes.append(f"{n:,} traces were here without their calls; they have them now")


def _complete_part(
    connection: duckdb.DuckDBPyConnection, table: str, relation: str, report: IngestReport
) -> None:
    if not count(connection, f"{differ(table)} WHERE NOT here"):
        return
    rows = _lacking(table, relation)
    if table == "call_copies":  # the session that began first has the call itself
        rows = f"(FROM {rows} ANTI JOIN calls USING (call_id, trace_id))"
    added = connection.execute(f"INSERT INTO {table} BY NAME FROM {rows}").fetchall()
    report.rows_new[table] = report.rows_new.get(table, 0) + int(added[0][0])


def _complete_texts(
    connection: duckdb.DuckDBPyConnection, contents: str, report: IngestReport
) -> None:
    if not count(connection, f"{differ('messages')} WHERE NOT here"):
        return
    added = connection.execute(
        f"""INSERT INTO contents BY NAME FROM {contents} ANTI JOIN contents USING (content_id)
        WHERE content_id IN (SELECT content_id FROM messages SEMI JOIN
          (FROM {differ("messages")} WHERE NOT here) USING (trace_id, ordinal))"""
    ).fetchall()
    report.rows_new["contents"] = report.rows_new.get("contents", 0) + int(added[0][0])
