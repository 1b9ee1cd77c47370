"""How fast the bootstrap and the five analyses are; prints figures and ratios.

Run as `python tests/benchmarks/bench_analysis.py [traces]`; a million traces by default.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import polars as pl

from workbench import analysis
from workbench.analysis import resampling


def best(action: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of a few runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return min(found)


def bench_bootstrap(n_items: int = 1000, n_models: int = 20, trials: int = 4) -> None:
    """10,000 resamples of items, all models paired, trials averaged within their item."""
    rng = np.random.default_rng(0)
    rate = rng.beta(1, 1, (n_items, 1)) * rng.uniform(0.5, 1, n_models)
    item = rng.binomial(trials, rate) / trials

    def gathered(resamples: int) -> np.ndarray:
        generator = np.random.default_rng(1)
        return np.stack(
            [item[generator.integers(0, n_items, n_items)].mean(axis=0) for _ in range(resamples)]
        )

    ours = best(lambda: resampling.resampled_sums(item, 10_000, np.random.default_rng(1)))
    loop = best(lambda: gathered(1000), 1) * 10
    print(f"10,000 resamples, {n_items} items × {n_models} models × {trials} trials")
    print(f"  counts @ matrix      {1e3 * ours:8.0f} ms")
    print(f"  gathering rows       {1e3 * loop:8.0f} ms   (× {loop / ours:.1f}; from 1,000)")


def traces(n: int) -> pl.DataFrame:
    """Traces of 20 configurations on 10 tasks, shaped like collected ones."""
    rng = np.random.default_rng(0)
    trials = 5
    n_items = n // (20 * trials)
    model = np.tile(np.repeat(np.arange(20), trials), n_items)
    item = np.repeat(np.arange(n_items), 20 * trials)
    difficulty = rng.beta(1, 1, n_items)[item]
    thinking = rng.gamma(2, 200 * (1 + model))
    output = thinking + rng.gamma(2, 100, len(item))
    failed = rng.random(len(item)) < 0.01
    return pl.DataFrame({
        "configuration": pl.Series([f"configuration {i:02}" for i in range(20)]).gather(model),
        "task": pl.Series([f"task {i}" for i in range(10)]).gather(item % 10),
        "item": item.astype(str), "item_id": pl.Series([f"{i * 2654435761 % 2**40:010x}" for i in range(n_items)]).gather(item),
        "trial": np.tile(np.arange(trials), 20 * n_items),
        "passed": rng.random(len(item)) < (0.2 + 0.04 * model) * difficulty,
        "cost_usd": 1e-6 * output * (1 + model % 7),
        "reasoning_cost_usd": 1e-6 * thinking * (1 + model % 7),
        "input_usd_per_mtok": 0.2 * (1 + model % 7), "output_usd_per_mtok": 1.0 * (1 + model % 7),
        "input_tokens": rng.integers(50, 500, len(item)), "output_tokens": output.astype(int),
        "reasoning_tokens": thinking.astype(int), "e2e_s": output / 80, "ttft_s": rng.gamma(2, 0.1, len(item)),
    }).with_columns(
        error_type=pl.when(pl.Series(failed)).then(pl.lit("timeout")),
        task_id=pl.col("task"), cluster=pl.lit(None, pl.String), human_cost_usd=pl.lit(2.0),
        score=pl.col("passed").cast(pl.Float64),
    )  # fmt: skip


def bench_analyses(n: int) -> None:
    """Each analysis over the same traces in Polars and inside DuckDB."""
    frame = traces(n)
    connection = duckdb.connect()
    connection.register("arrow", frame.to_arrow())
    connection.sql("CREATE TABLE facts AS SELECT * FROM arrow")
    print(f"{frame.height:,} traces, 20 configurations × {frame['item_id'].n_unique():,} items")
    print("  analysis          Polars       DuckDB      resamples")
    for name in analysis.names():
        polars = best(lambda name=name: analysis.run(name, frame.lazy()), 2)
        inside = best(lambda name=name: analysis.run(name, connection.table("facts")), 2)
        resamples = analysis.run(name, frame.head(1000)).options.get("resamples", "–")
        print(f"  {name:15} {1e3 * polars:7.0f} ms   {1e3 * inside:7.0f} ms   {resamples:>10}")


if __name__ == "__main__":
    bench_bootstrap()
    bench_analyses(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
