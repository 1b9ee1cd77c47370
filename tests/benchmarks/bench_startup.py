"""Start-up times: `import workbench`, `workbench --help`, `workbench --version`, beside a bare
interpreter.

Run as: python tests/benchmarks/bench_startup.py [ROUNDS]
"""

import resource
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


def once(arguments: list[str]) -> tuple[float, float]:
    """Time one fresh interpreter: seconds by the clock, seconds of processor."""
    quiet = subprocess.DEVNULL
    used, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=quiet, stderr=quiet)
    took, now = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main(rounds: int) -> None:
    """Interleave the cases, so that a busy moment falls on all of them alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, (arguments, _) in CASES.items():
            took = once(arguments)
            if number:  # the first round warms the disk
                times[name].append(took)
    clock = {name: statistics.median(t for t, _ in found) for name, found in times.items()}
    bare = clock["python -c pass"]
    print(
        f"{'case':26} {'median ms':>10} {'best ms':>9} {'cpu ms':>8} {'ratio':>7}  limit (median)"
    )
    for name, (_, limit) in CASES.items():
        best = min(t for t, _ in times[name])
        cpu = statistics.median(c for _, c in times[name])
        met = "" if limit is None else "met" if clock[name] <= limit else "MISSED"
        verdict = "" if limit is None else f"{limit * 1e3:.0f} ms: {met}"
        print(
            f"{name:26} {clock[name] * 1e3:10.1f} {best * 1e3:9.1f} {cpu * 1e3:8.1f} "
            f"{clock[name] / bare:7.2f}  {verdict}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
