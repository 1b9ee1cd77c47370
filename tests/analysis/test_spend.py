"""Spend: a bill taken apart, worked out by hand from tokens and prices."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from workbench import analysis
from workbench.records import (
    Call,
    Configuration,
    Item,
    Price,
    Run,
    Task,
    ToolCall,
    Trace,
    json_text,
)
from workbench.store import Store, open_store

START = dt.datetime(2026, 9, 1, 23, 0, tzinfo=dt.UTC)
SHEET = (
    Price(
        model="priced",
        sheet="s",
        input_usd_per_mtok=4.0,
        cache_read_usd_per_mtok=0.5,
        cache_write_5m_usd_per_mtok=5.0,
        cache_write_1h_usd_per_mtok=8.0,
        output_usd_per_mtok=20.0,
        request_usd=0.25,
    ),
    Price(model="plain", sheet="s", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0),
    Price(model="machine", sheet="s", machine_usd_per_hour=36.0),
)
CACHED = Call(
    model="priced",
    started_at=START,
    input_tokens=10_000_000,
    cache_read_tokens=6_000_000,
    cache_write_5m_tokens=1_000_000,
    cache_write_1h_tokens=2_000_000,
    output_tokens=500_000,
    reasoning_tokens=400_000,
)
# reads 3, writes 5 + 16, fresh 4, thinking 8, visible 2, request 0.25
CACHED_COST = 38.25


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the prices of the sheet."""
    made = open_store(tmp_path / "bill.duckdb", create=True)
    made.add_prices(SHEET)
    return made


def add(
    store: Store,
    *calls: Call,
    id: str = "t",
    tools: tuple[ToolCall, ...] = (),
    about: dict[str, str] | None = None,
) -> None:
    """Add a trace of these calls, numbered in order."""
    task = Task(task="sessions")
    item = Item(task_id=task.task_id, item=id)
    configuration = Configuration(model=calls[0].model or "none")
    numbered = tuple(
        Call(**{f: getattr(call, f) for f in call.__struct_fields__} | {"ordinal": n})
        for n, call in enumerate(calls)
    )
    trace = Trace(
        run_id="r",
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trace_id=id,
        metadata=json_text(about) if about else None,
        calls=numbered,
        tool_calls=tools,
    )
    store.ingest([Run(run_id="r", kind="import", source="test"), task, item, configuration, trace])


def costs(frame: pl.DataFrame) -> dict[str, float]:
    """Cost by part."""
    return dict(zip(frame["part"], frame["cost_usd"].to_list(), strict=True))


def test_every_token_is_paid_at_the_price_of_its_kind(store: Store) -> None:
    """The parts are those of the price sheet, and add up to the cost of the call."""
    add(store, CACHED)

    result = analysis.spend(store, by="call_model")

    assert costs(result.frame) == pytest.approx(
        {
            "cache reads": 3.0,
            "cache writes, 5 min": 5.0,
            "cache writes, 1 h": 16.0,
            "fresh input": 4.0,
            "thinking": 8.0,
            "visible output": 2.0,
            "requests": 0.25,
        }
    )
    assert result.frame["tokens"].to_list() == [
        6_000_000,
        1_000_000,
        2_000_000,
        1_000_000,
        400_000,
        100_000,
        None,
    ]
    assert result.frame["share"].sum() == pytest.approx(1)
    total = result.more["totals"].row(0, named=True)
    assert total["cost_usd"] == pytest.approx(CACHED_COST)
    assert total["cached_share"] == pytest.approx(0.6)
    assert total["cost_usd"] == store.sql("SELECT sum(cost_usd) AS c FROM call_facts")["c"][0]


def test_who_spent_it_is_told_apart(store: Store) -> None:
    """Judges, simulated users, sub-agents and paid tools are rows of their own."""
    million = {"input_tokens": 1_000_000, "output_tokens": 0, "model": "plain"}
    tool = ToolCall(ordinal=0, tool="search", cost_usd=0.5)
    add(
        store,
        Call(**million),
        Call(**million, role="judge"),
        Call(**million, role="user"),
        tools=(tool,),
    )
    add(store, Call(**million), Call(**million), id="sub", about={"agent": "reviewer"})

    result = analysis.spend(store, by="task")

    rows = result.more["spenders"].rows(named=True)
    assert {r["spender"]: (r["n_calls"], r["cost_usd"]) for r in rows} == {
        "main": (1, 1.0),
        "judge": (1, 1.0),
        "user": (1, 1.0),
        "sub-agent": (2, 2.0),
        "tool": (1, 0.5),
    }
    assert costs(result.frame) == {"fresh input": 5.0, "paid tools": 0.5}
    totals = result.more["totals"].row(0, named=True)
    assert (totals["n_traces"], totals["n_calls"], totals["cost_usd"]) == (2, 5, 5.5)
    assert analysis.spend(store, by="spender").more["spenders"]["cost_usd"].sum() == 5.5


def test_broken_requests_were_paid(store: Store) -> None:
    """A request that broke off and was sent again is in the bill, and a note says so."""
    paid = Call(model="plain", input_tokens=1_000_000, output_tokens=0, retried_as=1)
    add(store, paid, Call(model="plain", input_tokens=1_000_000, output_tokens=0))

    result = analysis.spend(store, by="task")

    assert costs(result.frame) == {"fresh input": 2.0}
    assert any("1 requests broke off" in note for note in result.notes)


def test_what_cannot_be_taken_apart_is_a_part(store: Store) -> None:
    """The hour of a machine and a sum that was only billed are not spread over tokens."""
    add(store, Call(model="machine", machine="machine", machine_s=100.0, output_tokens=7), id="m")
    add(store, Call(model="none", billed_cost_usd=3.0, input_tokens=5, output_tokens=5), id="b")
    add(store, Call(model="none", input_tokens=5, output_tokens=5), id="unpriced")
    add(store, Call(model="plain", error_type="timeout"), id="failed")

    result = analysis.spend(store, by="task")

    assert costs(result.frame)["machine time"] == pytest.approx(1.0)
    assert costs(result.frame)["not taken apart"] == pytest.approx(3.0)
    total = result.more["totals"].row(0, named=True)
    assert total["cost_usd"] == pytest.approx(4.0)
    assert (total["n_calls"], total["n_unpriced"]) == (4, 1)
    assert "1 of 4 calls have no known cost: the costs are without them" in result.notes


def test_nothing_priced_is_unknown_not_zero(store: Store) -> None:
    """Tokens are shown; their cost is null."""
    add(store, Call(model="none", input_tokens=5, output_tokens=7, reasoning_tokens=3))

    result = analysis.spend(store, by="task")

    assert costs(result.frame) == {"fresh input": None, "thinking": None, "visible output": None}
    total = result.more["totals"].row(0, named=True)
    assert (total["tokens"], total["cost_usd"], total["cost_per_trace_usd"]) == (12, None, None)


def test_thinking_that_is_not_reported_is_said(store: Store) -> None:
    """It is in the visible output."""
    add(store, Call(model="plain", input_tokens=0, output_tokens=1_000_000))

    result = analysis.spend(store, by="task")

    assert costs(result.frame) == {"visible output": 2.0}
    assert any(note.startswith("1 of 1 calls do not report thinking") for note in result.notes)


def test_days_projects_branches_and_sessions_are_groups(store: Store) -> None:
    """A call belongs to its own day in UTC, not to that of its session's start."""
    about = {"cwd": "/src/app", "gitBranch": "main", "session": "s1"}
    later = START + dt.timedelta(hours=2)
    counts = {"model": "plain", "input_tokens": 1_000_000, "output_tokens": 0}
    add(store, Call(**counts, started_at=START), Call(**counts, started_at=later), about=about)

    days = analysis.spend(store, by="day").frame
    places = analysis.spend(store, by=("project", "branch", "session")).frame
    sliced = analysis.spend(store, where="project:/src/app", by="project").frame

    assert sorted(days["day"]) == ["2026-09-01", "2026-09-02"]
    assert places.select("project", "branch", "session", "cost_usd").rows() == [
        ("/src/app", "main", "s1", 2.0)
    ]
    assert sliced["cost_usd"].to_list() == [2.0]


def test_a_plan_is_compared_with_thirty_days_at_list_prices(store: Store) -> None:
    """Ten days at $40 are $120 a month, six times a plan of $20; two days say nothing."""
    counts = {"model": "plain", "input_tokens": 20_000_000, "output_tokens": 0}
    end = START + dt.timedelta(days=10)
    add(store, Call(**counts, started_at=START), Call(**counts, started_at=end))

    result = analysis.spend(store, by="task", plan_usd=20)

    total = result.more["totals"].row(0, named=True)
    assert (total["days"], total["cost_per_month_usd"]) == pytest.approx((10.0, 120.0))
    assert total["plan_factor"] == pytest.approx(6.0)
    assert any("6 times the plan of $20.00" in note for note in result.notes)


def test_a_slice_without_calls_has_empty_tables(store: Store) -> None:
    """Nothing is an answer too."""
    result = analysis.spend(store, by="task")

    assert result.frame.is_empty()
    assert set(result.more) == {"totals", "spenders"}
