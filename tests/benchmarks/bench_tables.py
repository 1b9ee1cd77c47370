"""Import of a large CSV with a mapping: rows per second of processor time, and memory.

    python tests/benchmarks/bench_tables.py [--rows 400000] [--quoted] [--file FILE --mapping FILE]

The file is made here: twelve columns, four models, times, prices by the bundled sheets. Printed are
processor seconds of reading in bulk, of reading row by row (on a tenth), of the whole import into a
new store, and of `polars.read_csv` alone. Goals: 200,000 rows per second of processor time, and at
most 1 GB of memory beyond the file's size.
"""

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from workbench import sources
from workbench.store import open_store

GOAL_ROWS_PER_S = 200_000
GOAL_BYTES = 1_000_000_000
MAPPING = """
[constants]
provider = "openai"
[columns]
item = "question_id"
model = "model"
task = "benchmark"
temperature = "temperature"
input_tokens = "prompt_tokens"
output_tokens = "completion_tokens"
reasoning_tokens = "thinking_tokens"
e2e_s = { column = "latency_ms", unit = "ms" }
score = { column = "points", unit = "percent" }
billed_cost_usd = "cost"
started_at = "at"
answer = "answer"
"""
MODELS = ("gpt-4o-mini", "claude-sonnet-4", "gemini-2.5-pro", "llama-3.1-8b")


def make(path: Path, n: int, *, is_quoted: bool) -> None:
    """Write a table of made-up traces."""
    rng = random.Random(1)
    mark = '"' if is_quoted else ""
    with path.open("w") as file:
        file.write(
            "question_id,model,benchmark,temperature,prompt_tokens,completion_tokens,"
            "thinking_tokens,latency_ms,points,cost,at,answer\n"
        )
        for i in range(n):
            out = rng.randrange(20, 900)
            at = f"2026-10-{1 + i % 28:02d}T{i % 24:02d}:{i % 60:02d}:00Z"
            tokens = f"{rng.randrange(100, 4000)},{out},{rng.randrange(out)}"
            figures = f"{rng.randrange(100, 90000)},{rng.choice((0, 50, 100))},{rng.random():.6f}"
            answer = f"{mark}answer number {rng.randrange(1000)} of it{mark}"
            file.write(f"q{i // 4},{MODELS[i % 4]},gsm8k,0.7,{tokens},{figures},{at},{answer}\n")


def measure(work: Callable[[], object]) -> tuple[float, float, int]:
    """Run in a process of its own: (processor seconds, seconds, peak bytes beyond the start)."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def run() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, clock = time.process_time(), time.perf_counter()
        work()
        seconds = time.process_time() - start, time.perf_counter() - clock
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        sending.send((*seconds, peak * 1024))

    process = context.Process(target=run)
    process.start()
    sending.close()  # so that a process that fails is noticed
    result: tuple[float, float, int] = receiving.recv()
    process.join()
    return result


def main() -> None:
    """Make the file, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--quoted", action="store_true", help="put answers into quotes")
    parser.add_argument("--file", type=Path, help="measure this CSV instead")
    parser.add_argument("--mapping", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, mapping = args.file or Path(folder, "rows.csv"), args.mapping
        if mapping is None:
            mapping = Path(folder, "mapping.toml")
            mapping.write_text(MAPPING)
        if args.file is None:
            make(path, args.rows, is_quoted=args.quoted)
        few = Path(folder, "few.csv")
        with path.open("rb") as file:
            lines = [line for _, line in zip(range(20_001), file, strict=False)]
        few.write_bytes(b"".join(lines))
        report(path, few, mapping, Path(folder))


def report(path: Path, few: Path, mapping: Path, folder: Path) -> None:
    """Measure and print."""
    n = sum(block.count(b"\n") for block in iter(path.open("rb").read, b"")) - 1
    n_few = few.read_bytes().count(b"\n") - 1
    print(f"{n:,} rows, {path.stat().st_size / 1e6:.0f} MB")

    def in_bulk() -> None:
        for _ in sources.read_rows(path, mapping=mapping):
            pass

    def by_rows() -> None:
        for _ in sources.read(few, mapping=mapping):
            pass

    def whole() -> None:
        store = open_store(folder / "traces.duckdb", create=True)
        store.ingest(sources.read_rows(path, mapping=mapping))

    in_few = measure(by_rows)[0] / n_few
    figures = {
        "read, row by row (before)": (in_few, None),
        "polars.read_csv": (measure(lambda: pl.read_csv(path))[0] / n, None),
        "read, in bulk": (measure(in_bulk)[0] / n, None),
    }
    seconds, clock, peak = measure(whole)
    figures["import into a new store"] = (seconds / n, peak)
    for name, (per_row, _) in figures.items():
        print(f"{name:28} {per_row * 1e6:7.2f} µs a row {1 / per_row:12,.0f} rows/s")
    beyond = peak - path.stat().st_size
    bulk = figures["read, in bulk"][0]
    print(
        f"import: {clock:.1f} s by the clock, {beyond / 1e6:,.0f} MB beyond the file's size", end=""
    )
    print(f" (goal {GOAL_BYTES / 1e6:,.0f} MB)")
    print(f"bulk: {in_few / bulk:.1f} × the rate of rows, ", end="")
    print(f"{bulk / figures['polars.read_csv'][0]:.1f} × the time of polars.read_csv")
    print(f"goal: {GOAL_ROWS_PER_S:,} rows/s of processor time for the whole import")


if __name__ == "__main__":
    main()
