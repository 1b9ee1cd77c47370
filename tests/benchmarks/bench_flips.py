"""Flip one byte of a store at seeded places: what doctor says against a comparison of all rows.

Run: python -m tests.benchmarks.bench_flips [PLACES]
"""

import collections
import random
import sys
import tempfile
from pathlib import Path

import duckdb

from tests.support import making
from workbench.errors import StoreError
from workbench.store import checks, open_store


def _rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Hash every column of every table, apart from workbench."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
        query = "SELECT count(*), sum(hash(COLUMNS(*))::HUGEINT) FROM {}"
        return {name: connection.execute(query.format(name)).fetchall() for (name,) in names}


def _truth(path: Path, sound: object) -> str:
    try:
        return "equal" if _rows(path) == sound else "other rows"
    except duckdb.Error:
        return "unreadable"


def _said(path: Path) -> str:
    try:
        damaged = any(check.is_damage for check in checks.checks(open_store(path)))
    except StoreError:
        return "damaged"
    return "damaged" if damaged else "sound"


def main(n_places: int) -> int:
    """Print how often doctor said what of which truth; 1 if it called damage sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = making.small_store(Path(folder)).path
        sound, bytes_ = _rows(path), path.read_bytes()
        places, found = random.Random(11), collections.Counter[tuple[str, str]]()
        for _ in range(n_places):
            data = bytearray(bytes_)
            data[places.randrange(len(data))] ^= places.randrange(1, 256)
            path.write_bytes(data)
            truth = _truth(path, sound)
            found[_said(path), truth] += 1
    for (said, truth), n in found.most_common():
        print(f"{n:4d}  doctor says {said}; the rows are {truth}")
    lies = sum(n for (said, truth), n in found.items() if said == "sound" and truth != "equal")
    print(f"{lies} of {n_places} places are damage that doctor does not see")
    return int(lies > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
