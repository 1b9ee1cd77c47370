"""Hostile inputs for one reader of what others wrote, guided by coverage (pip install atheris).

Run: python tests/benchmarks/fuzz_coverage.py TARGET [--seconds 60] [--seed 1]

`fuzz.py` changes good inputs at random; here libFuzzer keeps those that reach new lines of
workbench. Ends with the trace of the first input that crashes, hangs or takes too much memory.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
with atheris.instrument_imports(include=["workbench"]):
    from tests.support import fuzzing


def main() -> None:
    """Read the command line, and try inputs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=fuzzing.NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    target = fuzzing.target(options.target)
    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.examples):
        (corpus / str(number)).write_bytes(seed)
    flags = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-rss_limit_mb=4096"]
    atheris.Setup(
        [sys.argv[0], *flags, f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus)],
        lambda data: fuzzing.attempt(target, data, folder),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
