"""Relations between the rows of a store that must hold: sums equal parts, references have rows."""

from collections.abc import Iterator
from typing import NamedTuple

import duckdb

from workbench import schema
from workbench.records import NOT_RUN
from workbench.store import views


class Relation(NamedTuple):
    """A relation between rows that must hold.

    Attributes:
        name: what is counted.
        query: counts, as `n`, the rows that violate it.
        fatal: whether a violation means damage; otherwise it is for information.
        advice: what to do if there are any.
    """

    name: str
    query: str
    fatal: bool
    advice: str


_SUMMED = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "judge_input_tokens",
    "judge_output_tokens",
    "n_calls",
)
_MONEY = (
    "cost_usd",
    "reasoning_cost_usd",
    "judge_cost_usd",
    "billed_cost_usd",
    "energy_j",
    "machine_s",
)
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


# the table that a column of ids refers to; below, what is missing where that row is missing
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
    """Write a check for every column that points at the rows of another table."""
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


def _nulls() -> Iterator[tuple[str, str]]:
    """Write a check for the columns of each table that always have a value."""
    for table in schema.TABLES.values():
        always = [c.name for c in table.columns if c.null == schema.KEY_NULL]
        if always:
            lacking = " OR ".join(f"{name} IS NULL" for name in always)
            name = f"{table.name.replace('_', ' ')} without a value that is never missing"
            yield name, f"SELECT count(*) AS n FROM {table.name} WHERE {lacking}"


# sources of imports may give a trace a score and no scorer; the runner never does
_COLLECTED = "FROM runs WHERE kind = 'collect' AND source = 'runner'"
_AGAIN = "import the files again, or: workbench doctor --repair COPY"
_PRICES = "workbench prices add FILE gives them a price; until then their cost is unknown"
_COUNTED = """SELECT count(*) AS n FROM traces t LEFT JOIN (SELECT trace_id, count(*) AS n FROM"""
RELATIONS: tuple[Relation, ...] = (
    Relation(
        "traces whose tokens or cost are not the sum of their calls",
        f"SELECT count(*) AS n FROM traces t JOIN ({views.totals('calls')}) s "
        f"USING (trace_id) WHERE {_OFF}",
        True,
        _AGAIN,
    ),
    Relation(
        "traces whose cost is not that of the view over their calls",
        f"""SELECT count(*) AS n FROM traces t JOIN (SELECT trace_id, sum(cost_usd) AS cost_usd
        FROM call_facts WHERE role NOT IN {schema.APART} GROUP BY trace_id) s USING (trace_id)
        WHERE abs(t.cost_usd - s.cost_usd) > {_RELATIVE} * abs(s.cost_usd)""",
        True,
        _AGAIN,
    ),
    Relation(
        "traces that count calls and have none",
        """SELECT count(*) AS n
        FROM (FROM traces WHERE n_calls > 0) ANTI JOIN calls USING (trace_id)
        ANTI JOIN call_copies USING (trace_id)""",
        True,
        _AGAIN,
    ),
    Relation(
        "traces that do not have as many messages as they count",
        f"{_COUNTED} messages GROUP BY ALL) k USING (trace_id) "
        "WHERE t.n_messages <> coalesce(k.n, 0)",
        True,
        _AGAIN,
    ),
    Relation(
        "traces that do not have as many tool calls as they count",
        f"""{_COUNTED} tool_calls WHERE error_type IS DISTINCT FROM '{NOT_RUN}' GROUP BY ALL) k
        USING (trace_id) WHERE t.n_tool_calls <> coalesce(k.n, 0)""",
        True,
        _AGAIN,
    ),
    Relation(
        "calls of another run, configuration, task or item than their trace",
        """SELECT count(*) AS n FROM calls c JOIN traces t USING (trace_id)
        WHERE c.run_id <> t.run_id OR c.configuration_id <> t.configuration_id
        OR c.task_id <> t.task_id OR c.item_id <> t.item_id""",
        True,
        _AGAIN,
    ),
    Relation(
        "collected traces that were scored and have no scores",
        f"""SELECT count(*) AS n
        FROM (SELECT trace_id FROM traces SEMI JOIN ({_COLLECTED})
          USING (run_id) WHERE score IS NOT NULL OR passed IS NOT NULL)
        ANTI JOIN scores USING (trace_id)""",
        True,
        _AGAIN,
    ),
    Relation(
        "collected traces whose score or pass is that of none of their scores",
        f"""SELECT count(*) AS n
        FROM (FROM traces SEMI JOIN ({_COLLECTED}) USING (run_id)) t
        SEMI JOIN scores USING (trace_id)
        ANTI JOIN scores s ON s.trace_id = t.trace_id AND s.score IS NOT DISTINCT FROM t.score
          AND s.passed IS NOT DISTINCT FROM t.passed
        WHERE t.score IS NOT NULL OR t.passed IS NOT NULL""",
        True,
        _AGAIN,
    ),
    Relation(
        "identities too many or too few",
        "SELECT abs(count(*) - 1) AS n FROM identity",
        True,
        "ask for an export where the store came from",
    ),
    *(Relation(name, query, True, _AGAIN) for name, query in _references()),
    *(Relation(name, query, True, _AGAIN) for name, query in _nulls()),
    *(
        Relation(f"{table.name} that are there more than once", _repeated(table), True, _AGAIN)
        for table in schema.TABLES.values()
    ),
    Relation(
        "models asked whose price is unknown",
        """SELECT count(DISTINCT coalesce(machine, model)) AS n FROM calls
        WHERE price_id IS NULL AND error_type IS NULL AND output_tokens IS NOT NULL""",
        False,
        _PRICES,
    ),
    Relation(
        "calls that contradict themselves",
        "SELECT count(DISTINCT call_id) AS n FROM usage_faults",
        False,
        "workbench faults lists them",
    ),
    Relation(
        "runs that ended without saying so",
        "SELECT count(*) AS n FROM runs "
        "WHERE status IN ('interrupted', 'running') AND ended_at IS NULL",
        False,
        "the same collect command again does only what is missing",
    ),
)


def damage(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Count, by name of the check, the violations of relations that only damage violates."""
    counts = {
        relation.name: int(connection.execute(relation.query).fetchall()[0][0])
        for relation in RELATIONS
        if relation.fatal
    }
    return {name: n for name, n in counts.items() if n}
