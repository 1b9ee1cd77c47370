"""Layout 2: what runs measured is kept beside their traces, and older stores and folders are
taken."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.support import making
from tests.support.old_stores import old_store
from workbench import schema, spool
from workbench.errors import ImportFormatError
from workbench.records import Call, EnergyBalance, EnergyReading
from workbench.store import Store, open_store

BALANCE = EnergyBalance(
    run_id="run-1",
    device="gpu:0",
    meter="nvml counter",
    meter_j=1800.0,
    calls_j=1200.0,
    idle_j=600.5,
    unattributed_j=1.25,
    mismatch=0.001,
    is_conserved=True,
    integral_j=1790.0,
    duration_s=6.0,
    idle_w=100.0,
    idle_sd_w=1.5,
    idle_after_w=101.0,
    period_s=0.1,
    n_samples=120,
    n_calls=2,
    note="a note",
)


def test_an_old_store_is_brought_up_and_keeps_every_row(tmp_path: Path) -> None:
    """Layout 1 gains the new columns, null, and the new table, empty; the rest is as it was."""
    path = old_store(tmp_path)
    with duckdb.connect(str(path), read_only=True) as connection:
        before = {t: connection.sql(f"FROM {t}").pl() for t in ("calls", "traces", "scores")}

    store = open_store(path)

    assert store.sql("SELECT max(version) AS v FROM migrations")["v"].to_list() == [schema.VERSION]
    for name, frame in before.items():
        after = store.sql(f"FROM {name}")
        assert after.select(frame.columns).equals(frame)
        assert set(after.columns) == set(schema.TABLES[name].names)
    assert store.sql("FROM calls")["effort_sent"].null_count() == before["calls"].height
    assert store.sql("FROM energy_balances").columns == list(schema.ENERGY_BALANCES.names)
    assert (tmp_path / "old.duckdb.v1.backup").is_file()


def test_a_new_store_and_an_old_one_brought_up_have_the_same_columns(tmp_path: Path) -> None:
    """Nobody's `SELECT *` depends on when the store was made."""
    old, new = open_store(old_store(tmp_path)), open_store(tmp_path / "new.duckdb", create=True)

    for name in schema.TABLES:
        assert old.sql(f"FROM {name} LIMIT 0").schema == new.sql(f"FROM {name} LIMIT 0").schema


def test_folders_exported_before_layout_2_are_taken(tmp_path: Path) -> None:
    """A column that came later is null; one that was always there is asked for."""
    folder = tmp_path / "export"
    making.small_store(tmp_path).export(folder)
    calls, energy = folder / "calls.parquet", folder / "energy.parquet"
    pl.read_parquet(calls).drop("effort_sent").write_parquet(calls)
    pl.read_parquet(energy).drop("full_j").write_parquet(energy)
    store = open_store(tmp_path / "new.duckdb", create=True)

    store.merge(folder, as_tables=True)

    assert store.sql("SELECT count(*) AS n, count(effort_sent) AS known FROM calls").row(0)[1] == 0
    assert store.sql("SELECT sum(energy_j) AS j, sum(full_j) AS f FROM energy").row(0) == (
        8.0,
        None,
    )
    pl.read_parquet(calls).drop("role").write_parquet(calls)
    with pytest.raises(ImportFormatError, match=r"calls\.parquet lacks the columns role"):
        open_store(tmp_path / "third.duckdb", create=True).merge(folder, as_tables=True)


def _with_energy(folder: Path) -> Store:
    store = open_store(folder / "traces.duckdb", create=True)
    reading = EnergyReading(
        call_ordinal=0,
        device="gpu:0",
        phase="answer",
        method="measured",
        energy_j=3.0,
        low_j=2.0,
        high_j=4.0,
        full_j=5.0,
        note="why",
    )
    trace = making.trace(
        making.DIRECT,
        making.ITEMS[0],
        calls=(Call(effort_sent="reasoning.effort = low"),),
        energy=(reading,),
    )
    with spool.SpoolWriter(store.spool_dir, "run-1") as writer:
        for record in (making.run(), making.TASK, *making.ITEMS, making.DIRECT, trace, BALANCE):
            writer.append(record)
        writer.append(BALANCE)  # a segment that is read twice changes nothing
    store.ingest_spool()
    return store


def test_balances_and_readings_go_through_the_spool_whole(tmp_path: Path) -> None:
    """Every field of a balance has its own value, so a slip between columns shows."""
    store = _with_energy(tmp_path)

    row = store.sql("FROM energy_balances").row(0, named=True)
    assert row == {name: getattr(BALANCE, name) for name in schema.ENERGY_BALANCES.names}
    energy = store.sql("SELECT energy_j, low_j, high_j, full_j, note FROM energy").row(0)
    assert energy == (3.0, 2.0, 4.0, 5.0, "why")
    assert store.sql("FROM call_facts")["effort_sent"].to_list() == ["reasoning.effort = low"]
    assert store.sql("FROM trace_facts")["energy_j"].to_list() == [3.0]


def test_balances_are_merged_once_and_exported_with_their_runs(tmp_path: Path) -> None:
    """A slice takes along the balances of its runs alone."""
    store = _with_energy(tmp_path)
    store.ingest([making.run("run-2"), EnergyBalance(run_id="run-2", device="gpu:0")])
    other = open_store(tmp_path / "other.duckdb", create=True)

    assert store.export(tmp_path / "slice", "model:gpt-5")["energy_balances"] == 1
    assert store.export(tmp_path / "all")["energy_balances"] == 2
    assert other.merge(store.path).rows_new["energy_balances"] == 2
    assert other.merge(tmp_path / "all").rows_new["energy_balances"] == 0
    assert other.sql("FROM energy_balances").height == 2
