"""Energy through a whole collection: a real socket, real Zeus over NVML's stand-in, and the
store."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.fake_nvml import load

SOURCE = ROOT / "tests" / "support" / "fake_nvml" / "fake_nvml.c"
pytest.importorskip("zeus", reason="zeus is not installed: pip install 'trace-workbench[energy]'")

# a process of its own, as NVML is looked for when the first one starts
DRIVE = """
import asyncio, json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tests.support.runner_stub import Stub
from tests.support.launches import answer, make
from workbench.runner import collect
from workbench.runner.energy import watch
from workbench.spool import SpoolWriter
from workbench.store import open_store

class Quick(watch.Watch):
    def __init__(self, *args, **options):
        super().__init__(*args, quiet_s=1.2, **options)

watch.Watch = Quick
store = open_store(Path(sys.argv[2]) / "s.duckdb", create=True)

def go(run_id, url, **settings):
    plan, work = make(url, **settings)
    with SpoolWriter(store.spool_dir, run_id) as writer:
        return asyncio.run(collect(plan, spool=writer, work=work))

reports = {}
with Stub(lambda seen: [0.3, *answer(seen)]) as stub:
    reports["on"] = go("on", stub.url, trials=4, concurrency=2)
    reports["off"] = go("off", stub.url, models=("n",), energy="off")
    reports["cut"] = go("cut", stub.url, models=("o",), trials=30, concurrency=2, budget_j=250.0)
store.ingest_spool()
print(json.dumps({
    "reports": {name: (r.status, r.collected, r.left, r.notes) for name, r in reports.items()},
    "balances": store.sql("FROM energy_balances").to_dicts(),
    "traces": store.sql("SELECT run_id, energy_j FROM traces").to_dicts(),
    "energy": store.sql("SELECT method, phase, energy_j FROM energy").to_dicts(),
    "kept": [str(p) for p in (store.spool_dir / "arrived").glob("*")],
}))
"""


def test_a_collection_keeps_the_energy_of_its_calls(tmp_path: Path) -> None:
    """Calls, idle and the rest are what the counter read; off measures nothing; a budget of joules
    ends a run."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: NVML's stand-in cannot be built")
    library = tmp_path / "libnvidia-ml.so.1"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-lm"]
    subprocess.run(command, check=True, timeout=60)
    at = np.arange(0.0, 120.0, 0.05)
    rng = np.random.default_rng(1)
    watts = np.where(at < 1.6, 70.0, 200.0) + rng.normal(0.0, 1.0, at.size)
    load.write(tmp_path / "curve.csv", at, watts)
    around = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    around |= {"FAKE_NVML_CURVE": str(tmp_path / "curve.csv"), "LD_LIBRARY_PATH": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRIVE), str(ROOT), str(tmp_path)],
        check=False,
        text=True,
        timeout=120,
        capture_output=True,
        env=around,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    balances = {row["run_id"]: row for row in found["balances"]}
    assert set(balances) == {"on", "cut"}
    assert found["reports"]["on"][:3] == ["done", 12, 0]
    on = balances["on"]
    added = on["calls_j"] + on["idle_j"] + on["unattributed_j"]
    assert abs(added - on["meter_j"]) <= 0.02 * on["meter_j"]
    assert (on["is_conserved"], on["n_calls"]) == (True, 12)
    of_run = [row["energy_j"] for row in found["traces"] if row["run_id"] == "on"]
    assert len(of_run) == 12
    assert sum(of_run) == pytest.approx(on["calls_j"])
    assert {row["phase"] for row in found["energy"]} == {"prefill", "answer"}
    assert {row["method"] for row in found["energy"]} <= {"measured", "apportioned"}
    assert [row["energy_j"] for row in found["traces"] if row["run_id"] == "off"] == [None] * 3
    status, collected, left, notes = found["reports"]["cut"]
    assert (status, collected + left) == ("cancelled", 90)
    assert 0 < collected < 20
    assert "of 250 J spent" in notes[0]
    assert found["kept"] == []
