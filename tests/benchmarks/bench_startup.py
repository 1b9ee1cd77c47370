"""Start-up times: `import workbench`, `workbench --help`, `workbench --version`, beside a bare interpreter.

Run as: python tests/benchmarks/bench_startup.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time

CASES = {
    "python -c pass": (["-c", "pass"], None),
    "import workbench": (["-c", "import workbench"], 0.050),
    "workbench --help": (["-m", "workbench", "--help"], 0.200),
    "workbench --version": (["-m", "workbench", "--version"], 0.200),
    "workbench analyze --help": (["-m", "workbench", "analyze", "--help"], None),
    "workbench schema": (["-m", "workbench", "schema"], None),
}


def once(arguments: list[str]) -> float:
    """Time one fresh interpreter, in seconds."""
    begun = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run([sys.executable, *arguments], check=True, stdout=quiet, stderr=quiet)
    return time.perf_counter() - begun


def main(rounds: int) -> None:
    """Interleave the cases, so that a busy moment falls on all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, (arguments, _) in CASES.items():
            took = once(arguments)
            if number:  # the first round warms the disk
                times[name].append(took)
    bare = statistics.median(times["python -c pass"])
    print(f"{'case':26} {'median ms':>10} {'best ms':>9} {'above bare':>11} {'ratio':>7}  limit")
    for name, (_, limit) in CASES.items():
        median = statistics.median(times[name])
        best = min(times[name])
        extra = median - bare if name == "import workbench" else median
        verdict = (
            ""
            if limit is None
            else f"{limit * 1e3:.0f} ms: {'met' if extra <= limit else 'MISSED'}"
        )
        print(
            f"{name:26} {median * 1e3:10.1f} {best * 1e3:9.1f} {(median - bare) * 1e3:11.1f} "
            f"{median / bare:7.2f}  {verdict}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
