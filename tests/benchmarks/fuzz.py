"""Hostile inputs for every reader of what others wrote, as many as there is time for.

Run: python tests/benchmarks/fuzz.py [--minutes 2] [--target NAME …] [--seed 1]

Prints, by reader, how many inputs were tried, what crashed, the slowest one, and the most memory.
Ends with 1 if anything crashed, hung, or took more memory than it may (tests/support/fuzzing.py).
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.support import fuzzing

BATCH = 2_000


def fuzz(target: fuzzing.Target, minutes: float, seed: int) -> bool:
    """Try inputs until the time is over; says whether one crashed."""
    end, tried, crashes = time.monotonic() + 60 * minutes, 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and len(crashes) < 5:
            try:
                tried += fuzzing.run(target, Path(folder), examples=BATCH, seed=seed)
            except BaseExceptionGroup as several:
                crashes |= {str(crash) for crash in several.exceptions}
            except fuzzing.Crash as crash:
                crashes.add(str(crash))
            seed += 1
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{target.name:9} {tried:9,} inputs  {len(crashes)} crashes  {most:,.0f} MiB", flush=True)
    for crash in sorted(crashes):
        print(f"  CRASH {crash}", flush=True)
    return bool(crashes)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for each reader")
    parser.add_argument("--target", nargs="*", default=fuzzing.NAMES, choices=fuzzing.NAMES)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    crashed = [fuzz(fuzzing.target(name), options.minutes, options.seed) for name in options.target]
    return int(any(crashed))


if __name__ == "__main__":
    sys.exit(main())
