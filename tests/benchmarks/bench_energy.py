"""What watching energy costs: the meter's share of a core, a call's settling, and apportioning in
bulk.

python tests/benchmarks/bench_energy.py; with LD_LIBRARY_PATH at a libnvidia-ml.so.1 the meter is
NVML's.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.support.apportioning import apportion
from tests.support.fake_nvml import load
from workbench.records import Call
from workbench.runner.energy.apportion import Spans
from workbench.runner.energy.baseline import Baseline, Updates
from workbench.runner.energy.meters import open_meter
from workbench.runner.energy.watch import Watch

SECONDS, HZ = 12.0, 20.0


async def meter_share() -> None:
    """Print the CPU time that sampling takes, while nothing else runs."""
    begun = time.perf_counter()
    meter = open_meter()
    print(
        f"open_meter: {time.perf_counter() - begun:.2f} s;"
        f" {len(meter.devices)} devices; {meter.reason}"
    )
    watch = await Watch(meter, hz=HZ, quiet_s=1.0).start()
    before, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(SECONDS)
    used, passed = time.process_time() - before, time.perf_counter() - wall
    share = used / passed
    print(
        f"meter at {HZ:g} Hz over {passed:.0f} s:"
        f" {share:.2%} of a core ({threading.active_count()} threads)"
    )
    before = time.process_time()
    settled, calls = 0.0, 400
    for n in range(calls):
        windows = [watch.begin(time.perf_counter()) for _ in range(16)]
        await asyncio.sleep(0.002)
        for window in windows:
            watch.end(window, time.perf_counter())
        inside = time.process_time()
        with watch._lock:
            watch._close(np.inf)
            for window in windows:
                watch._tell(Call(ordinal=n), [window])
                watch._windows.remove(window)
        settled += time.process_time() - inside
    print(f"settling: {settled / calls / 16 * 1e6:.0f} us a call, 16 at once")
    await watch.finish("bench", quiet=False)


def bulk(n: int = 100_000, concurrent: int = 64) -> None:
    """Print the time to apportion a run of many calls at once."""
    rng = np.random.default_rng(1)
    length = n * 2.0 / concurrent
    at = 1e5 + np.arange(0.0, length, 1.0 / HZ)
    moved = Updates(at, np.concatenate(([0.0], np.cumsum(rng.uniform(10, 20, at.size - 1)))))
    begin = 1e5 + rng.uniform(0, length - 4, n)
    cuts = np.sort(rng.uniform(0.0, 4.0, (n, 3)), axis=1)
    edges = begin[:, None] + np.column_stack((np.zeros(n), cuts))
    spans = Spans(
        np.repeat(np.arange(n), 3), edges[:, :3].ravel(), edges[:, 1:].ravel(), np.ones(3 * n)
    )
    begun = time.process_time()
    shares, ledger = apportion(moved, Baseline(100.0, 2.0, 0.05, 5.0, look_s=0.05), spans)
    took = time.process_time() - begun
    added = shares.energy_j.sum() + ledger.idle_j + ledger.unattributed_j
    off = abs(added - ledger.metered_j) / ledger.metered_j
    print(
        f"apportion: {n:,} calls of 3 phases, {at.size:,} updates: {took:.2f} s; off by {off:.1e}"
    )


def with_fake_library() -> None:
    """Run this file again over the stand-in for NVML, where no real one is found."""
    compiler = shutil.which("gcc")
    if compiler is None or "FAKE_NVML_CURVE" in os.environ or Path("/dev/nvidiactl").exists():
        asyncio.run(meter_share())
        bulk()
        return
    source = Path(__file__).parents[1] / "support" / "fake_nvml" / "fake_nvml.c"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libnvidia-ml.so.1"
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True
        )
        at, watts = load.curve([], 60.0, np.random.default_rng(1))
        load.write(Path(folder) / "curve.csv", at, watts)
        around = {"LD_LIBRARY_PATH": folder, "FAKE_NVML_CURVE": f"{folder}/curve.csv"}
        subprocess.run([sys.executable, __file__], env=os.environ | around, check=True)


if __name__ == "__main__":
    with_fake_library()
