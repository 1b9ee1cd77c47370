"""Speed of reading spans: OTLP as JSON lines and as protobuf, into records and into a store.

    python tests/benchmarks/bench_spans.py [--traces 2000]

Prints spans per second of processor time. A trace is an agent's run of 12 spans with its messages.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import span_files
from workbench import sources
from workbench.store import open_store

_TURNS = 5


def trace_of(number: int) -> list[dict]:
    """An agent's run: a root, and turns with a call and a tool."""
    first = span_files.agent_run()
    root, call, tool, last = first
    spans = [root]
    for turn in range(_TURNS):
        spans += [
            call | {"spanId": f"{2 + 2 * turn:016x}"},
            tool | {"spanId": f"{3 + 2 * turn:016x}"},
        ]
    spans.append(last | {"spanId": f"{2 + 2 * _TURNS:016x}"})
    return [span | {"traceId": f"{number + 1:032x}"} for span in spans]


def timed(what: str, n_spans: int, size: int, work: Callable[[], object]) -> None:
    """Print the speed of one piece of work."""
    start = time.process_time()
    work()
    taken = time.process_time() - start
    print(f"{what:32} {n_spans / taken:10,.0f} spans/s  {size / 1e6 / taken:7.1f} MB/s")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "spans.jsonl"
        n_spans = 0
        with path.open("w", encoding="utf-8") as file:
            for number in range(options.traces):
                spans = trace_of(number)
                n_spans += len(spans)
                file.write(json.dumps(span_files.request(*spans)) + "\n")
        size = path.stat().st_size
        print(f"{options.traces:,} traces, {n_spans:,} spans, {size / 1e6:.0f} MB")
        timed("json.loads of each line", n_spans, size, lambda: _plain(path))
        timed("records", n_spans, size, lambda: sum(1 for _ in sources.read(path)))
        store = open_store(folder / "s.duckdb", create=True)
        timed("a store", n_spans, size, lambda: store.ingest(sources.read(path)))
        timed("the store, again", n_spans, size, lambda: store.ingest(sources.read(path)))


def _plain(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


if __name__ == "__main__":
    main()
