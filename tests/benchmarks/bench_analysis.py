"""How fast the bootstrap and every analysis are, and how much memory they take; prints tables.

Run as `python tests/benchmarks/bench_analysis.py`: a million rows for every analysis, one pass,
each in a process of its own. `--large` takes ten million; `--rows N` any number; names of analyses
take only those. `--rliable PYTHON` gives a python that has rliable 1.2.0 (which needs pandas < 3),
to be timed on the same bootstrap; it is not needed. CPU seconds are those to compare on a busy
machine.

Goals: a million in 3 s, ten million in 15 s and 2 GiB, the bootstrap in 1 s and 20 × faster.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import facts
import numpy as np

from workbench import analysis
from workbench.analysis.stats import resampling

# What an analysis is asked where its defaults ask nothing of these rows.
OPTIONS: dict[str, dict[str, Any]] = {
    "budget-curve": {"by": "model"},
    "code-efficiency": {"cost": "output_tokens"},
    "explained-variance": {"by": ("model", "precision")},
    "idealized-runtime": {"deployment": "ai21/j1-large"},
    "information-capacity": {"by": "model", "nll_bits": 3.0, "text_bits": 32.0},
    "process": {"series": "trials"},
    "quantization": {"by": "strategy"},
    "reproducibility": {"setting": "trial"},
    "token-production": {"by": "model", "joules_per_token": 0.5},
    "tradeoff": {"by": "precision", "points": "model", "baseline": "bf16"},
}
RESAMPLES, N_ITEMS, N_MODELS, N_TRIALS = 10_000, 1000, 20, 4
# rliable resamples runs within tasks: items are handed over as runs, models as tasks. It draws for
# every model anew, where the draws here are shared, so that models stay paired.
RLIABLE = f"""
import sys, time
import numpy as np
from rliable import library
item = np.load(sys.argv[1])
wall, cpu = time.perf_counter(), time.process_time()
mean = lambda scores: scores.mean(axis=0)
library.get_interval_estimates({{"all": item}}, mean, reps={RESAMPLES})
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def timed(action: Callable[[], Any], times: int = 1) -> tuple[float, float]:
    """CPU and wall seconds of the fastest of a few runs."""
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(found)


def bench_bootstrap(rliable: str | None) -> None:
    """Intervals of all models' means from resampled items, all models paired, trials within their
    item."""
    rng = np.random.default_rng(0)
    rate = rng.beta(1, 1, (N_ITEMS, 1)) * rng.uniform(0.5, 1, N_MODELS)
    item = rng.binomial(N_TRIALS, rate) / N_TRIALS

    def ours() -> None:
        drawn = resampling.resampled_sums(item, RESAMPLES, np.random.default_rng(1))
        resampling.percentile(drawn / N_ITEMS)

    def gathered() -> None:
        generator = np.random.default_rng(1)
        drawn = [item[generator.integers(0, N_ITEMS, N_ITEMS)].mean(axis=0) for _ in range(1000)]
        resampling.percentile(np.stack(drawn))

    print(f"{RESAMPLES:,} resamples, {N_ITEMS:,} items × {N_MODELS} models × {N_TRIALS} trials")
    first = timed(ours, 3)
    show("counts @ matrix", first)
    loop = timed(gathered)
    show("gathering rows, from 1,000", (10 * loop[0], 10 * loop[1]), first)
    if rliable is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "item.npy"
        np.save(path, item)
        command = [rliable, "-c", RLIABLE, str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu, wall = (float(x) for x in told.split())
    show("rliable", (cpu, wall), first)


def show(what: str, seconds: tuple[float, float], first: tuple[float, float] | None = None) -> None:
    """Print a line of the bootstrap's table."""
    cpu, wall = seconds
    ratio = f"   × {cpu / first[0]:.0f} CPU, × {wall / first[1]:.0f} wall" if first else ""
    print(f"  {what:28} {cpu:7.2f} s CPU {wall:7.2f} s wall{ratio}", flush=True)


def one(name: str, rows: int, folder: Path) -> None:
    """Run an analysis in this process, the rows scanned by DuckDB; print its figures as JSON."""
    import duckdb

    path = facts.path(folder, analysis.get(name).rows, rows)
    # As a store does on a laptop with 8 GiB.
    with duckdb.connect(config={"memory_limit": "4GB"}) as connection:
        connection.execute("SET operator_memory_limit = '1GB'")
        relation = connection.sql(f"FROM '{path}'")
        cpu, wall = timed(lambda: analysis.run(name, relation, **OPTIONS.get(name, {})))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak}))


def bench_analyses(names: list[str], rows: int, folder: Path) -> None:
    """Every analysis in a fresh process; the peak is of its resident memory, imports included."""
    print(f"{rows:,} rows (about {rows // 100:,} items × 20 configurations × 5 trials)")
    print("  analysis               CPU s   wall s   peak MiB   load")
    for name in names:
        facts.path(folder, analysis.get(name).rows, rows)
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--rows",
            str(rows),
            "--facts",
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        load = f"{os.getloadavg()[0]:6.1f}"
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
            print(f"  {name:20} {lines[-1]} {load}", flush=True)
            continue
        found = json.loads(done.stdout)
        print(
            f"  {name:20} {found['cpu']:7.2f} {found['wall']:8.2f} {found['peak']:10.0f} {load}",
            flush=True,
        )


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="analyses; all if none is named")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true", help="ten million rows")
    parser.add_argument("--rliable", metavar="PYTHON", help="a python that has rliable")
    parser.add_argument(
        "--facts", type=Path, default=Path(tempfile.gettempdir()) / "workbench-facts"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    rows = 10_000_000 if asked.large else asked.rows
    if asked.one:
        one(asked.one, rows, asked.facts)
        return
    if not asked.names:
        bench_bootstrap(asked.rliable)
    bench_analyses(asked.names or list(analysis.names()), rows, asked.facts)


if __name__ == "__main__":
    main()
