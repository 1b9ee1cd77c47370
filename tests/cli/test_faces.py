"""`workbench demo` and `workbench tui`: the doors to the app."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.support import ROOT, making
from workbench import datasets
from workbench.cli import main
from workbench.store import open_store


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Sample traces of our own, as a folder of Parquet files."""
    (tmp_path / "source").mkdir()
    folder = tmp_path / "samples"
    making.small_store(tmp_path / "source").export(folder)
    monkeypatch.setattr(datasets, "sample_traces_dir", lambda: folder)
    return folder


def test_demo_without_a_terminal_prints_summary_and_frontier(samples, tmp_path, capsys):
    """The store is made once; the second time only reads it."""
    path = tmp_path / "new" / "demo.duckdb"

    for _ in range(2):
        assert main(["demo", str(path)]) == 0
        captured = capsys.readouterr()
        assert "pass rate" in captured.out
        assert "workbench analyze frontier" in captured.err
        assert "gpt-5 direct" in captured.out
    assert open_store(path).count() == 31


def seen_on_terminal(command, until, then=b"q", timeout_s=60.0):
    """Run on a pseudo-terminal until a text is seen, send keys, and wait for the end."""
    leader, follower = pty.openpty()
    environ = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "32"}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, cwd=ROOT, env=environ
    )
    os.close(follower)
    seen, sent, deadline = b"", False, time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([leader], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                seen += os.read(leader, 65536)
        if until in seen and not sent:
            os.write(leader, then)
            sent = True
    if process.poll() is None:
        process.kill()
    os.close(leader)
    return process.wait(), seen


@pytest.mark.parametrize("name", ["traces.duckdb", "missing.duckdb"])
def test_tui_opens_on_a_store_and_on_none_and_q_leaves(tmp_path, name):
    """A real terminal, a real store; where there is none it says what to do next."""
    making.small_store(tmp_path)
    until = b"31 traces" if name == "traces.duckdb" else b"workbench import"

    status, seen = seen_on_terminal(
        [sys.executable, "-m", "workbench", "tui", str(tmp_path / name)], until
    )

    assert until in seen
    assert status == 0
    assert b"Traceback" not in seen
