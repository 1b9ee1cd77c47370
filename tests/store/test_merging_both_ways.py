"""Two copies of a store, each changed in any table, come to one content whichever is merged into
which."""

import datetime as dt
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import making
from workbench import schema
from workbench.errors import ImportFormatError
from workbench.records import EnergyBalance, Price, Result
from workbench.store import Store, open_store

# made of other rows at each merge
ROUNDS = 1  # of each table; each takes seconds
DERIVED = {"parameters"}
TABLES = sorted(set(schema.TABLES) - DERIVED)


def full_store(folder: Path) -> Store:
    """A store that has rows in every table, of a run that has ended."""
    store = open_store(folder / "base.duckdb", create=True)
    ended = making.run(ended_at=making.START + dt.timedelta(hours=1), status="done")
    records = [record for record in making.records() if record != making.run()]
    balance = EnergyBalance(run_id="run-1", device="gpu:0", n_samples=3, n_calls=2)
    result = Result(
        run_id="run-1",
        configuration_id=making.DIRECT.configuration_id,
        task_id=making.TASK.task_id,
        metric="accuracy",
        value=0.5,
    )
    store.ingest([ended, *records, making.rich_trace(), balance, result])
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    rates = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    store.add_prices([Price(model="nobody-knows", sheet="a.toml", starts_at=start, **rates)])
    with store.lease() as connection:
        connection.execute(
            """INSERT INTO annotations SELECT trace_id, 'me', TIMESTAMP '2026-01-01', 'x', 'so'
            FROM traces ORDER BY trace_id LIMIT 3;
            INSERT INTO saved_slices VALUES ('mine', 'model:gpt-5', TIMESTAMP '2026-01-01');
            INSERT INTO model_aliases VALUES ('nobody-knows', 'local', 'gpt-4o', NULL, 'b.toml');
            INSERT INTO models BY NAME SELECT 'gpt-5' AS model, 3 AS n_layers;
            INSERT INTO accelerators BY NAME SELECT 'h200' AS accelerator, 700.0 AS tdp_w;
            INSERT INTO grids VALUES ('fr', 2024, 30.0, 'somebody')"""
        )
    return store


def copy_of(store: Store, name: str) -> Store:
    """A copy under another name."""
    return open_store(Path(shutil.copy(store.path, store.path.with_name(f"{name}.duckdb"))))


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table; sums of floats depend on their order."""
    return {
        table: [
            tuple(float(f"{v:.9g}") if isinstance(v, float) else v for v in row)
            for row in store.sql(f"FROM {table} ORDER BY ALL").rows()
        ]
        for table in schema.TABLES
    }


def change(store: Store, table: str, chance: random.Random, *, added: int) -> str:
    """Change a value of a random row, to another or to nothing, or add a row; returns the SQL."""
    declared = schema.TABLES[table]
    key = ", ".join(declared.key)
    (n,) = store.sql(f"SELECT count(*) AS n FROM {table}")["n"]
    at = chance.randrange(n) if n else 0
    row = f"(SELECT rowid FROM {table} ORDER BY {key} LIMIT 1 OFFSET {at})"
    free = [c for c in declared.columns if c.name not in declared.key]
    column = chance.choice(free or list(declared.columns))
    values = {
        "text": f"'{chance.choice('ab')}'",
        "json": f"'[\"{chance.choice('ab')}\"]'",
        "int": str(chance.randrange(5)),
        "float": str(chance.randrange(3) / 2),
        "bool": chance.choice(["true", "false"]),
        "time": f"TIMESTAMP '2026-01-0{chance.randrange(1, 9)} 12:00:00'",
    }
    value = "NULL" if chance.random() < 0.2 and column.null != "never null" else values[column.type]
    names = {"scores": "scorer", "annotations": "mark", "saved_slices": "name"}
    if table in names and chance.random() < 0.5:
        name = names[table]
        sql = (
            f"INSERT INTO {table} SELECT * REPLACE ('new {added}' AS {name}) FROM {table} "
            f"WHERE rowid = {row}"
        )
    elif free:
        sql = f"UPDATE {table} SET {column.name} = {value} WHERE rowid = {row}"
    else:
        return ""
    with store.lease() as connection:
        connection.execute(sql)
    return sql


def outcome(mine: Store, theirs: Store) -> object:
    """What a merge comes to: the contradictions that it lists, or the rows."""
    try:
        mine.merge(theirs.path)
    except ImportFormatError as error:
        _, _, said = str(error).partition("in ")
        return str(error) if "contradicts" not in str(error) else said
    return rows(mine)


@pytest.mark.parametrize("table", TABLES)
def test_the_order_of_merging_decides_nothing(tmp_path: Path, table: str) -> None:
    """Either both ways give the same rows, none lost, or both list the same contradictions."""
    base = full_store(tmp_path)
    chance = random.Random(table)
    for n in range(ROUNDS):
        one, other = copy_of(base, f"one{n}"), copy_of(base, f"other{n}")
        tables = [table, chance.choice(TABLES)]
        done = [
            change(store, t, chance, added=added)
            for added, store in enumerate((one, other))
            for t in tables[: chance.randrange(1, 3)]
        ]
        had = [rows(one), rows(other)]
        again = copy_of(one, f"again{n}")

        first, second = outcome(one, other), outcome(other, again)

        assert first == second, done
        if isinstance(first, dict):
            for name, declared in schema.TABLES.items():
                places = [declared.names.index(k) for k in declared.key]
                keys = {tuple(row[p] for p in places) for row in first[name]}
                for side in had:
                    assert {tuple(row[p] for p in places) for row in side[name]} <= keys, name


def _changed(base: Store, name: str, sql: str) -> Store:
    store = copy_of(base, name)
    with store.lease() as connection:
        connection.execute(sql)
    return store


def test_scorers_annotations_and_slices_of_both_sides_stay(tmp_path: Path) -> None:
    """A judge on one side and another on the other were both paid for."""
    base = full_store(tmp_path)
    added = """INSERT INTO scores (trace_id, scorer) SELECT trace_id, '{0}' FROM traces;
        INSERT INTO annotations SELECT trace_id, '{0}', now()::TIMESTAMP, 'y', NULL FROM traces;
        INSERT INTO saved_slices VALUES ('{0}', 'right', now()::TIMESTAMP)"""
    one, other = (_changed(base, name, added.format(name)) for name in ("left", "right"))

    one.merge(other.path)

    n = base.count()
    assert one.sql("SELECT count(*) AS n FROM scores")["n"][0] == 2 * n + 2
    assert one.sql("SELECT count(*) AS n FROM annotations")["n"][0] == 2 * n + 3
    assert set(one.sql("FROM saved_slices")["name"]) == {"mine", "left", "right"}


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("scores", "UPDATE scores SET explanation = '{}'"),
        ("annotations", "UPDATE annotations SET note = '{}'"),
        ("saved_slices", "UPDATE saved_slices SET filter = '{}'"),
        ("model_aliases", "UPDATE model_aliases SET canonical_model = '{}'"),
        ("runs", "UPDATE runs SET status = '{}'"),
        ("items", "UPDATE items SET cluster = '{}'"),
        ("traces", "UPDATE calls SET response_id = '{}'"),
        ("traces", "UPDATE traces SET e2e_s = ascii('{}')"),
        ("prices", "UPDATE prices SET input_usd_per_mtok = ascii('{}')"),
    ],
)
def test_who_is_preferred_is_the_same_from_both_sides(tmp_path: Path, table: str, sql: str) -> None:
    """What contradicts is listed; `mine` here is `theirs` there, costs included."""
    base = full_store(tmp_path)
    one, other = (_changed(base, name, sql.format(name)) for name in ("a", "b"))
    with pytest.raises(ImportFormatError, match=rf"contradicts this store in {table} \("):
        one.merge(other.path)
    again = copy_of(one, "again")

    one.merge(other.path, prefer="mine")
    other.merge(again.path, prefer="theirs")

    assert rows(one) == rows(other)


def test_a_text_that_is_not_the_one_it_is_named_after_is_not_taken(tmp_path: Path) -> None:
    """Its id is the hash of the text; preferring the other side does not make it so."""
    base = full_store(tmp_path)
    forged = _changed(base, "forged", "UPDATE contents SET text = 'Answer: 43', n_bytes = 10")
    empty = open_store(tmp_path / "empty.duckdb", create=True)

    with pytest.raises(ImportFormatError, match=r"texts of what comes .* were changed"):
        empty.merge(forged.path)
    with pytest.raises(ImportFormatError, match=r"in contents \("):
        base.merge(forged.path)
    with pytest.raises(ImportFormatError, match=r"texts of what comes .* were changed"):
        base.merge(forged.path, prefer="theirs")

    assert empty.count() == 0


def test_a_run_that_has_ended_since_is_no_contradiction(tmp_path: Path) -> None:
    """Whichever way: the row of its end stands."""
    base = full_store(tmp_path)
    running = "UPDATE runs SET status = 'running', ended_at = NULL"
    one, other = copy_of(base, "ended"), _changed(base, "running", running)
    again = copy_of(one, "again")

    one.merge(other.path)
    other.merge(again.path)

    assert rows(one) == rows(other)
    assert set(one.sql("FROM runs")["status"]) == {"done"}


def test_an_exported_slice_takes_the_annotations_and_results_of_its_traces(tmp_path: Path) -> None:
    """Those of others hung in the air where it was merged, so that nothing was taken."""
    base = full_store(tmp_path)
    base.export(tmp_path / "out", "model:nobody-knows")
    new = open_store(tmp_path / "new.duckdb", create=True)

    new.merge(tmp_path / "out")

    marked = base.sql(
        "SELECT count(*) AS n FROM annotations JOIN trace_facts USING (trace_id) "
        "WHERE model = 'nobody-knows'"
    )["n"][0]
    assert new.sql("SELECT count(*) AS n FROM annotations")["n"][0] == marked
    assert new.sql("FROM results").is_empty()
