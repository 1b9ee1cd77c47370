"""How long the notebook panel takes to follow a facet, a brush and a scroll on a million traces.

Run: python tests/benchmarks/bench_widgets.py [MILLIONS OF TRACES, default 1]
Prints milliseconds in the kernel, from the change of a trait to all that it moves; what the page
adds is not in them. The ratio is to the one query that such a change cannot do without.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

from bench_store import bench_ingest

from widgets import Explorer
from workbench.store import open_store


def median_ms(act: Callable[[], object], runs: int = 5) -> float:
    """Time a few runs; the first, which also warms up, is left out."""
    act()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def setter(explorer: Explorer, trait: str, values: list[object]) -> Callable[[], None]:
    """Make an act that gives a trait the next of some values."""
    following: Iterator[object] = cycle(values)

    def act() -> None:
        setattr(explorer, trait, next(following))
        assert not explorer.error, explorer.error

    return act


def main(millions: float) -> None:
    """Fill a store, open the panel on it, and time what a hand does."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "bench.duckdb", create=True)
        bench_ingest(store, millions)
        began = time.perf_counter()
        explorer = Explorer(store)
        print(f"{store.count():,} traces of {explorer.summary.frame.height} configurations")
        print(
            "open the panel, imports and offline charts included "
            f" {time.perf_counter() - began:6.2f} s"
        )

        models = [("model-0",), ("model-1", "model-2")]
        one = median_ms(
            lambda: store.sql("SELECT avg(cost_usd) FROM trace_facts GROUP BY configuration")
        )
        facet = median_ms(setter(explorer, "model", models))
        everything = median_ms(setter(explorer, "axis", ["output_tokens", "cost_usd"]))
        explorer.model = ()
        brush = median_ms(
            setter(
                explorer,
                "selected",
                [(name,) for name in explorer.summary.frame["configuration"].to_list()[:4]],
            )
        )
        page = median_ms(lambda: explorer._traces(50_000, 100, "cost_usd", descending=True))
        explorer.model, explorer.selected = ("model-0",), ()
        rows = explorer.selection.height
        fetch = median_ms(lambda: explorer.selection)
        print(f"one group-by over the store                          {one:6.0f} ms")
        print(
            "choose a model: counts, summary, frontier, table     "
            f"{facet:6.0f} ms  ({facet / one:.1f} x)"
        )
        print(
            "another axis on one or two models                    "
            f"{everything:6.0f} ms  ({everything / one:.1f} x)"
        )
        print(
            "brush a configuration: count and table               "
            f"{brush:6.0f} ms  ({brush / one:.1f} x)"
        )
        print(
            "scroll to row 50,000 of a table sorted by cost       "
            f"{page:6.0f} ms  ({page / one:.1f} x)"
        )
        print(f".selection: {rows:,} traces as a frame               {fetch:6.0f} ms")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
