"""Context growth: a session of six calls, worked out by hand."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from workbench import analysis
from workbench.records import Call, Configuration, Item, Price, Run, Task, Trace
from workbench.store import Store, open_store

START = dt.datetime(2026, 9, 1, 9, 0, tzinfo=dt.UTC)
SHEET = (
    Price(
        model="m",
        sheet="s",
        input_usd_per_mtok=10.0,
        cache_read_usd_per_mtok=1.0,
        cache_write_5m_usd_per_mtok=12.5,
        cache_write_1h_usd_per_mtok=20.0,
        output_usd_per_mtok=50.0,
    ),
    Price(model="other", sheet="s", input_usd_per_mtok=10.0, output_usd_per_mtok=50.0),
)
READ, WRITE, OUT = 1e-6, 12.5e-6, 50e-6


def call(minute: float, read: int, written: int, **fields: object) -> Call:
    """A call whose input was read from a cache and written to one, and nothing else."""
    return Call(
        **{
            "model": "m",
            "started_at": START + dt.timedelta(minutes=minute),
            "e2e_s": 0.0,
            "input_tokens": read + written,
            "cache_read_tokens": read,
            "cache_write_5m_tokens": written,
            "output_tokens": 0,
        }
        | fields
    )


SESSION = (
    call(0, 0, 10_000),
    call(1, 10_000, 10_000),
    call(10, 0, 30_000),  # nine minutes later: the cache of five minutes is gone
    call(11, 30_000, 20_000),
    call(12, 0, 12_000),  # compacted
    call(13, 0, 14_000, model="other", cache_write_5m_tokens=None, cache_read_tokens=None),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the prices of the sheet."""
    made = open_store(tmp_path / "growth.duckdb", create=True)
    made.add_prices(SHEET)
    return made


def add(store: Store, *calls: Call, id: str = "t") -> None:
    """Add a trace of these calls, numbered in order."""
    task = Task(task="sessions")
    item = Item(task_id=task.task_id, item=id)
    configuration = Configuration(model="m")
    numbered = tuple(
        Call(**{f: getattr(c, f) for f in c.__struct_fields__} | {"ordinal": n})
        for n, c in enumerate(calls)
    )
    trace = Trace(
        run_id="r",
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trace_id=id,
        calls=numbered,
    )
    store.ingest([Run(run_id="r", kind="import", source="test"), task, item, configuration, trace])


def growth(store: Store, **options: object) -> dict[str, object]:
    """The row of the only group."""
    return analysis.context_growth(store, by="task", **options).more["growth"].row(0, named=True)


def test_the_context_of_each_call_over_the_traces_that_have_it(store: Store) -> None:
    """Rows at the places 1, 2, 3, 5; the place 8 has no trace."""
    add(store, *SESSION)
    add(store, call(0, 0, 20_000), id="short")

    frame = analysis.context_growth(store, by="task").frame

    assert frame.select("call", "n", "context_tokens").rows() == [
        (1, 2, 15_000.0),
        (2, 1, 20_000.0),
        (3, 1, 30_000.0),
        (5, 1, 12_000.0),
    ]
    assert frame["cached_share"].to_list() == [0.0, 0.5, 0.0, 0.0]
    assert frame["call_cost_usd"][1] == pytest.approx(10_000 * READ + 10_000 * WRITE)


def test_growth_is_what_lies_above_the_first_call(store: Store) -> None:
    """10, 20, 40 and 2, 4 thousand tokens above the first, at each call's mean price of input."""
    add(store, *SESSION)

    found = growth(store)

    expected = (
        (10_000 / 20_000) * (10_000 * READ + 10_000 * WRITE)
        + (20_000 / 30_000) * 30_000 * WRITE
        + (40_000 / 50_000) * (30_000 * READ + 20_000 * WRITE)
        + 2_000 * WRITE
        + 4_000 * 10e-6
    )
    assert found["growth_cost_usd"] == pytest.approx(expected)
    assert found["growth_share"] == pytest.approx(expected / found["cost_usd"])
    assert found["first_tokens"] == 10_000
    assert found["peak_tokens"] == found["max_tokens_seen"] == 50_000
    assert found["n_compactions"] == 1
    # 10, 10, 20 and 2 thousand from call to call; the fall of the compaction is no growth
    assert found["growth_tokens"] == pytest.approx(42_000 / 4)


def test_a_miss_is_put_down_to_its_cause(store: Store) -> None:
    """The third call comes nine minutes later, the sixth changes the model."""
    add(store, *SESSION)

    found = growth(store)

    assert found["n_misses"] == 2
    assert found["missed_tokens"] == 20_000 + 12_000
    assert found["pause_miss_cost_usd"] == pytest.approx(20_000 * (WRITE - READ))
    assert found["model_miss_cost_usd"] == pytest.approx(0.0)  # its reads cost as fresh input does
    assert found["other_miss_cost_usd"] == 0


def test_an_entry_written_for_an_hour_lives_an_hour(store: Store) -> None:
    """After nine minutes the pause is not the cause."""
    long = {"cache_write_5m_tokens": None, "cache_write_1h_tokens": 10_000}
    add(store, call(0, 0, 10_000, **long), call(9, 0, 11_000))

    found = growth(store)

    assert found["n_misses"] == 1
    assert found["other_miss_cost_usd"] == pytest.approx(10_000 * (WRITE - READ))


def test_without_any_cache_nothing_is_missed(store: Store) -> None:
    """A provider that caches nothing has no misses."""
    plain = {"cache_write_5m_tokens": None, "cache_read_tokens": None}
    add(store, call(0, 0, 10_000, **plain), call(1, 0, 20_000, **plain))

    assert growth(store)["n_misses"] == 0


def test_a_cap_is_replayed_call_by_call(store: Store) -> None:
    """At 40,000 the fourth call falls back to 10,000 + its growth of 20,000; then the real
    compaction holds."""
    add(store, *SESSION)

    caps = analysis.context_growth(store, by="task", cap=40_000, summary=1_000).more["caps"]
    compact, restart = caps.rows(named=True)

    mean_price = (30_000 * READ + 20_000 * WRITE) / 50_000
    assert (restart["n_traces_over"], restart["n_resets"]) == (1, 1)
    assert restart["saving_low"] == pytest.approx(20_000 * READ)
    assert restart["saving_high"] == pytest.approx(20_000 * mean_price)
    effort = 30_000 * READ + 1_000 * (OUT + WRITE)
    assert compact["saving_low"] == pytest.approx(19_000 * READ - effort)
    assert compact["saving_high"] == pytest.approx(19_000 * mean_price - effort)


def test_a_cap_that_nobody_reaches_saves_nothing(store: Store) -> None:
    """Zero is a measurement."""
    add(store, *SESSION)

    caps = analysis.context_growth(store, by="task", cap=60_000).more["caps"]

    assert caps["n_resets"].to_list() == [0, 0]
    assert caps["saving_high"].to_list() == [0.0, 0.0]


def test_the_dearest_traces_are_listed(store: Store) -> None:
    """So that each can be opened."""
    add(store, *SESSION)
    add(store, call(0, 0, 20_000), call(1, 20_000, 1_000), id="short")

    listed = analysis.context_growth(store, by="task", most=1).more["traces"]

    row = listed.row(0, named=True)
    assert (row["trace_id"], row["trace_calls"], row["trace_peak_tokens"]) == ("t", 6, 50_000)
    assert (row["trace_compactions"], row["trace_misses"]) == (1, 2)


def test_judges_and_sums_are_no_part(store: Store) -> None:
    """A judge's context is another; a sum of requests has none."""
    add(store, call(0, 0, 10_000), call(1, 0, 90_000, role="judge"))
    add(store, call(0, 0, 80_000, n_requests=7), id="sum")

    result = analysis.context_growth(store, by="task")

    assert result.more["growth"]["max_tokens_seen"].to_list() == [10_000]
    assert result.dropped == {"rows that sum up several requests": 1}


def test_unpriced_calls_have_a_context_and_no_cost(store: Store) -> None:
    """Unknown is null, not zero."""
    add(store, call(0, 0, 10_000, model="none"), call(1, 10_000, 100, model="none"))

    found = growth(store)

    assert found["peak_tokens"] == 10_100
    assert found["growth_cost_usd"] is None
    assert (found["n_misses"], found["miss_cost_usd"]) == (0, 0.0)
    caps = analysis.context_growth(store, by="task", cap=1).more["caps"]
    assert caps["saving_low"].to_list() == [None, None]


def test_an_empty_slice_has_empty_tables(store: Store) -> None:
    """Nothing is an answer too."""
    result = analysis.context_growth(store, by="task")

    assert result.frame.is_empty()
    assert all(table.is_empty() for table in result.more.values())
    assert isinstance(result.frame, pl.DataFrame)
