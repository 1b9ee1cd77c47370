"""Zeus and pynvml over a library with NVML's names that plays a power curve: real bindings, no
GPU."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.fake_nvml import load

SOURCE = ROOT / "tests" / "support" / "fake_nvml" / "fake_nvml.c"
pytest.importorskip("zeus", reason="zeus is not installed: pip install 'trace-workbench[energy]'")
Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: NVML's stand-in cannot be built")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", SOURCE, "-lm"],
        check=True,
        timeout=60,
    )
    return folder


@pytest.fixture
def play(library: Path, tmp_path: Path) -> Play:
    """Play calls against a curve in a process of its own; without a curve the library is not
    found."""

    def run(
        calls: list[tuple[float, float, float]],
        recording: tuple[np.ndarray, np.ndarray] | None,
        env: dict[str, str] | None = None,
        **asked: Any,
    ) -> dict[str, Any]:
        clock = tmp_path / "clock"
        around = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        around |= {"FAKE_NVML_CLOCK": str(clock), "PYTHONPATH": str(ROOT)}
        if recording is not None:
            load.write(tmp_path / "curve.csv", *recording)
            around["FAKE_NVML_CURVE"] = str(tmp_path / "curve.csv")
            around["LD_LIBRARY_PATH"] = str(library)
        clock.write_bytes(np.float64(1000.0).tobytes())
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.fake_nvml.drive"],
            check=False,
            text=True,
            timeout=120,
            input=json.dumps({"clock": str(clock), "calls": calls, **asked}),
            capture_output=True,
            env=around | (env or {}),
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def with_ttft(calls: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
    return [(b, e, 0.25 * (e - b)) for b, e in calls]


@pytest.mark.parametrize("concurrent", [1, 4, 16, 64])
def test_energy_is_conserved_at_any_concurrency(play: Play, concurrent: int) -> None:
    """Calls + idle + unattributed is what the counter read, within 2 %, and near the curve itself.

    What the device draws while it falls back to idle belongs to the call that has just ended.
    """
    rng = np.random.default_rng(concurrent)
    pause = (0.3, 0.6) if concurrent == 1 else (0.001, 0.05)
    calls = load.schedule(20 + 6 * concurrent, concurrent, rng, start_s=5.5, pause_s=pause)
    length = max(e for _, e in calls) + 12.0
    at, watts = load.curve(calls, length, rng)

    found = play(with_ttft(calls), (at, watts))

    [balance] = found["balances"]
    parts = balance["calls_j"] + balance["idle_j"] + balance["unattributed_j"]
    assert balance["is_conserved"]
    assert abs(parts - balance["meter_j"]) <= 0.02 * balance["meter_j"]
    assert balance["calls_j"] == pytest.approx(sum(r["energy_j"] for r in found["readings"]))
    assert balance["idle_w"] == pytest.approx(load.IDLE_W, rel=0.02)
    assert balance["idle_after_w"] == pytest.approx(load.IDLE_W, rel=0.02)
    assert balance["n_calls"] == len(calls)
    # the truth: dynamic power shared among those active, integrated over the curve
    begins, ends = np.array(calls).T
    active = ((begins[:, None] <= at) & (at < ends[:, None])).sum(axis=0)
    each = (watts - load.IDLE_W) / np.maximum(active, 1) * 0.005
    falling = (at < ends[:, None] + 0.25) & (active == 0)
    truth = np.array(
        [each[(b <= at) & ((at < e) | f)].sum() for (b, e), f in zip(calls, falling, strict=True)]
    )
    taken = np.zeros(len(calls))
    for reading in found["readings"]:
        taken[reading["call_ordinal"]] += reading["energy_j"]
    assert taken.sum() == pytest.approx(truth.sum(), rel=0.02)
    assert np.median(np.abs(taken - truth) / truth) < 0.05
    methods = {r["method"] for r in found["readings"]}
    assert methods == {"measured"} if concurrent == 1 else methods == {"apportioned"}


def test_the_range_holds_the_truth(play: Play) -> None:
    """Low and high are bounds, so calls alone on the device must lie within them."""
    rng = np.random.default_rng(7)
    calls = [(6.0 + 2 * n, 6.0 + 2 * n + 0.4 + 0.02 * n) for n in range(30)]
    at, watts = load.curve(calls, 75.0, rng)

    found = play(with_ttft(calls), (at, watts))

    low, high = np.zeros(30), np.zeros(30)
    for reading in found["readings"]:
        low[reading["call_ordinal"]] += reading["low_j"]
        high[reading["call_ordinal"]] += reading["high_j"]
    truth = [((watts - load.IDLE_W)[(b <= at) & (at < e)]).sum() * 0.005 for b, e in calls]
    assert np.mean((low <= truth) & (truth <= high)) > 0.95


@pytest.mark.parametrize(("period", "lag"), [(0.1, 0.0), (0.1, 0.1), (0.05, 0.05), (0.02, 0.02)])
def test_calls_shorter_than_an_update_do_not_read_zero(
    play: Play, period: float, lag: float
) -> None:
    """A window of 20 ms gets its energy wherever it lies in the period, and however late that is
    counted."""
    calls = [(6.0 + 0.537 * n, 6.02 + 0.537 * n) for n in range(20)]
    at = np.arange(0.0, 22.0, 0.001)
    busy = sum(((b <= at) & (at < e)).astype(float) for b, e in calls)
    around = {"FAKE_NVML_PERIOD_S": str(period), "FAKE_NVML_LAG_S": str(lag)}

    found = play(with_ttft(calls), (at, 70.0 + 200.0 * busy), around)

    energy, high = np.zeros(20), np.zeros(20)
    for reading in found["readings"]:
        energy[reading["call_ordinal"]] += reading["energy_j"]
        high[reading["call_ordinal"]] += reading["high_j"]
        assert "shorter than two updates" in reading["note"]
        assert reading["low_j"] == 0.0
    assert energy.min() > 1.0
    assert energy.mean() == pytest.approx(200.0 * 0.02, rel=0.03)
    assert (high >= 200.0 * 0.02).all()
    [balance] = found["balances"]
    assert balance["mismatch"] < 0.01
    assert balance["unattributed_j"] < 0.1 * energy.sum()


def test_a_counter_that_starts_again_is_bridged(play: Play) -> None:
    """After a reset the reading goes on from where it was, over the gap with the power."""
    calls = [(6.0, 8.0), (9.0, 12.0)]
    at = np.arange(0.0, 20.0, 0.005)
    watts = np.where(((at >= 6) & (at < 8)) | ((at >= 9) & (at < 12)), 300.0, 70.0)

    found = play(with_ttft(calls), (at, watts), {"FAKE_NVML_RESET_S": "10.0"})

    [balance] = found["balances"]
    assert sum(r["energy_j"] for r in found["readings"]) == pytest.approx(5 * 230.0, rel=0.05)
    assert balance["is_conserved"]


def test_each_device_is_metered_on_its_own(play: Play) -> None:
    """Two GPUs that draw the same give each call two rows a phase."""
    at = np.arange(0.0, 20.0, 0.01)
    watts = np.where((at >= 6) & (at < 10), 300.0, 70.0)

    found = play([(6.0, 10.0, 1.0)], (at, watts), {"FAKE_NVML_COUNT": "2"})

    rows = {(r["device"], r["phase"]): r["energy_j"] for r in found["readings"]}
    assert set(rows) == {(f"gpu:{n}", p) for n in (0, 1) for p in ("prefill", "answer")}
    assert rows["gpu:0", "prefill"] == pytest.approx(230.0, rel=0.1)
    assert sum(rows.values()) == pytest.approx(2 * 4 * 230.0, rel=0.05)
    assert [b["device"] for b in found["balances"]] == ["gpu:0", "gpu:1"]


def test_a_counter_that_the_power_contradicts_widens_the_range(play: Play) -> None:
    """More than 5 % between counter and integral of power is said, and goes into the
    uncertainty."""
    at = np.arange(0.0, 40.0, 0.01)
    watts = np.where((at >= 6) & (at < 26), 300.0, 70.0)
    call = [(6.0, 26.0, 1.0)]

    agreed = play(call, (at, watts))
    differed = play(call, (at, watts), {"FAKE_NVML_POWER": "1.5"})

    def half(found: dict[str, Any]) -> float:
        return sum(r["high_j"] - r["energy_j"] for r in found["readings"])

    assert "counter and power differ by 50%" in differed["balances"][0]["note"]
    assert "note" not in agreed["balances"][0]
    assert half(differed) > half(agreed) + 0.4 * 20 * 230.0


def test_a_machine_without_nvml_says_so(play: Play) -> None:
    """No library is no failure: nothing is measured, and the run's row holds the reason."""
    found = play([(6.0, 8.0, 0.5)], None)

    if found["balances"][0]["device"] != "none":
        pytest.skip("this machine has meters of its own")
    assert found["readings"] == []
    assert "gpu: NVML and AMDSMI unavailable" in found["balances"][0]["note"]
    assert "meter_j" not in found["balances"][0]
