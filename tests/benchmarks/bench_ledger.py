"""The ledger over a storm of ten thousand attempts: what the server billed, and what each book
says.

    python tests/benchmarks/bench_ledger.py [ATTEMPTS]

A stub in another process answers, refuses, fails, and breaks off replies after it told their usage;
it logs every token that it bills. Goal: all books equal.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.storm import books  # the checkout is on the path only now


def main() -> None:
    """Print the figures; exit with 1 where the books differ."""
    n_attempts = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = books(Path(folder), n_attempts // 2)
    is_equal = len(set(found.values())) == 1
    print(f"{'equal' if is_equal else 'NOT equal'}, {time.perf_counter() - begun:.0f} s")
    sys.exit(0 if is_equal else 1)


if __name__ == "__main__":
    main()
