"""How fast the store takes traces in, and how fast it answers on ten million calls.

Run: python tests/benchmarks/bench_store.py [MILLIONS OF CALLS, default 10]
Prints seconds and ratios; the rows are generated for the clock only and never leave the temporary
folder.
"""

import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from workbench import schema
from workbench.records import Configuration, Item, Price, Run, Task
from workbench.store import Store, frames, ingest, open_store
from workbench.store.database import lease

N_MODELS, N_STRATEGIES, N_TASKS, N_ITEMS = 20, 3, 50, 10_000


def _described() -> tuple[list, list[str], list[str], list[str]]:
    tasks = [Task(task=f"task-{n}") for n in range(N_TASKS)]
    items = [Item(task_id=tasks[n % N_TASKS].task_id, item=str(n)) for n in range(N_ITEMS)]
    configurations = [
        Configuration(model=f"model-{m}", provider="bench", strategy=f"strategy-{s}")
        for m in range(N_MODELS)
        for s in range(N_STRATEGIES)
    ]
    prices = [
        Price(
            model=f"model-{m}",
            sheet="bench",
            input_usd_per_mtok=m + 1.0,
            output_usd_per_mtok=5.0 * m + 1,
        )
        for m in range(N_MODELS)
    ]
    run = Run(
        run_id="bench",
        kind="import",
        source="bench",
        started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    records = [run, *tasks, *items, *configurations, *prices]
    return (
        records,
        [t.task_id for t in tasks],
        [i.item_id for i in items],
        [c.configuration_id for c in configurations],
    )


def _facts(
    start: int, n: int, tasks: list[str], items: list[str], configurations: list[str]
) -> frames.Frames:
    """Make frames of n traces with one call each: facts without texts."""
    rng = np.random.default_rng(start)
    number = np.arange(start, start + n)
    which = rng.integers(0, len(configurations), n)
    item = rng.integers(0, len(items), n)
    ids = pl.Series("trace_id", [_trace_id(x) for x in number.tolist()])
    common = {
        "trace_id": ids,
        "run_id": pl.repeat("bench", n, eager=True),
        "configuration_id": pl.Series(np.array(configurations)[which]),
        "task_id": pl.Series(np.array(tasks)[item % N_TASKS]),
        "item_id": pl.Series(np.array(items)[item]),
        "started_at": pl.Series(number).cast(pl.Datetime("us")),
        "e2e_s": rng.gamma(2.0, 2.0, n),
    }
    thinking = rng.integers(0, 3000, n)
    traces = {
        **common,
        "trial": number % 4,
        "score": (passed := rng.random(n) < 0.6).astype(float),
        "passed": passed,
        **dict.fromkeys(
            ("n_tool_calls", "n_tool_errors", "n_messages"), pl.repeat(0, n, eager=True)
        ),
    }
    calls = {
        **common,
        "call_id": ids + "-0",
        "ordinal": pl.repeat(0, n, eager=True),
        "role": pl.repeat("subject", n, eager=True),
        "provider": pl.repeat("bench", n, eager=True),
        "model": pl.Series(
            np.array([f"model-{m // N_STRATEGIES}" for m in range(len(configurations))])[which]
        ),
        "input_tokens": rng.integers(50, 4000, n),
        "reasoning_tokens": thinking,
        "output_tokens": thinking + rng.integers(1, 800, n),
        "n_requests": pl.repeat(1, n, eager=True),
    }
    return {name: _full(name, columns) for name, columns in (("traces", traces), ("calls", calls))}


def _trace_id(number: int) -> str:
    """Scatter numbers over the ids, as hashes would be."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:024x}"


def _full(table: str, columns: dict) -> pl.DataFrame:
    dtypes = frames.polars_schema(schema.TABLES[table])
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in dtypes.items()
        if name not in frame.columns
    ).select(pl.col(name).cast(dtype) for name, dtype in dtypes.items())


def _median_ms(ask: Callable[[], object], runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def bench_ingest(store: Store, millions: float) -> float:
    """Fill the store batch by batch; returns the seconds that the inserts took."""
    records, tasks, items, configurations = _described()
    store.ingest(records)
    step = 500_000
    total = int(millions * 1e6)
    seconds = 0.0
    first = None
    for start in range(0, total, step):
        batch = _facts(start, min(step, total - start), tasks, items, configurations)
        began = time.perf_counter()
        with lease(store.path) as connection:
            ingest.write_frames(connection, batch, ingest.IngestReport())
        took = time.perf_counter() - began
        first = first or min(step, total) / took
        seconds += took
    print(
        f"ingest: {total:,} traces with a call each in {seconds:.1f} s"
        f" = {total / seconds:,.0f} traces/s"
    )
    print(f"        first batch into an empty store: {first:,.0f} traces/s (goal 200,000)")
    return seconds


def bench_queries(store: Store) -> None:
    """Ask what the faces ask."""
    group = (
        "SELECT model, task, count(*) AS n, sum(cost_usd) AS cost_usd FROM call_facts GROUP BY ALL"
    )
    where = "model:model-1* task:task-5 thinking>2000 cost>0.01"
    raw = duckdb.connect(str(store.path), read_only=True)
    bare = _median_ms(
        lambda: raw.execute(
            "SELECT configuration_id, task_id, count(*), sum(input_tokens) FROM calls GROUP BY ALL"
        ).fetchall()
    )
    raw.close()
    rows = {
        "group-by model × task with cost (goal < 1,000)": lambda: store.sql(group),
        "the same on trace_facts": lambda: store.sql(group.replace("call_facts", "trace_facts")),
        "slice, count (goal < 300)": lambda: store.count(where),
        "slice, first page by time (goal < 300)": lambda: store.page(
            where, columns=["trace_id", "model", "cost_usd"]
        ),
        "whole store, first page by cost": lambda: store.page(
            "", columns=["trace_id", "cost_usd"], order_by="cost_usd"
        ),
        "slice as a lazy Polars frame": lambda: store.traces(where).select("cost_usd").collect(),
        "overview": store.overview,
        "one trace": lambda: store.detail(_trace_id(12345)),
    }
    print(f"{'bare group-by of the calls table, no names, no cost':58}{bare:9.0f} ms   1.0 ×")
    for name, ask in rows.items():
        took = _median_ms(ask)
        print(f"{name:58}{took:9.0f} ms {took / bare:5.1f} ×")


def main() -> None:
    """Fill a temporary store and ask it."""
    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "bench.duckdb", create=True)
        bench_ingest(store, millions)
        print(f"file: {store.path.stat().st_size / 1e6:,.0f} MB")
        bench_queries(store)


if __name__ == "__main__":
    main()
