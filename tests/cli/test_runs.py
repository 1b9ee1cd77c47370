"""`workbench runs`: a real collection in another process, listed, steered and watched."""

import json
import subprocess
import sys
import threading
import time
import tomllib

import pytest

from tests.support import ROOT
from tests.support import runner_stub as stub
from workbench.cli import main, runs
from workbench.cli.toml_text import toml_text
from workbench.runner import Plan
from workbench.runner.control import protocol
from workbench.store import open_store


@pytest.fixture
def ask(tmp_path, capsys):
    """Run `workbench runs …` on the store; returns status, stdout, stderr."""

    def run(*args):
        status = main(["runs", *map(str, args), "--store", str(tmp_path / "s.duckdb")])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


class Gated(stub.Stub):
    """Answers once it may."""

    def __init__(self):
        self.gate = threading.Event()
        super().__init__(self.steps)

    def steps(self, _seen):
        while not self.gate.is_set():
            yield 0.01
        pieces = [stub.delta("Answer: 4"), stub.delta(finish="stop")]
        yield from stub.stream(
            *pieces, stub.usage(prompt_tokens=20, completion_tokens=3), stub.DONE
        )


@pytest.fixture
def live(tmp_path):
    """A collection of 12 attempts, two at once, that waits for its server."""
    with Gated() as server:
        command = [
            sys.executable,
            "-m",
            "workbench",
            "collect",
            "--store",
            str(tmp_path / "s.duckdb"),
            "--base-url",
            server.url,
            "--model",
            "m",
            "--task",
            "arithmetic",
            "--limit",
            "4",
            "--trials",
            "3",
            "--concurrency",
            "2",
            "--temperature",
            "0.5",
        ]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        process.server = server
        folder = tmp_path / "s.duckdb.spool"
        until(lambda: server.requests and protocol.live_runs(folder))
        process.state = lambda: protocol.live_runs(folder)[0]
        yield process
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(test, timeout_s=60.0):
    """Wait until something holds."""
    due = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < due, "it never came true"
        time.sleep(0.02)


def test_a_live_run_is_listed_steered_and_watched_to_its_end(live, ask, monkeypatch):
    """Pause, set, cancel, requeue, resume; every answer is a sentence on stderr; the watch ends
    with it."""
    monkeypatch.setattr(runs, "WATCH_EVERY_S", 0.1)
    run_id = live.state().run_id

    status, out, _ = ask("--format", "json")
    assert status == 0
    (row,) = json.loads(out)["more"]["live"]
    assert (row["run_id"], row["status"], row["planned"], row["pid"]) == (
        run_id,
        "running",
        12,
        live.pid,
    )
    assert "live" in ask()[1]

    assert ask("pause", "latest") == (0, "", f"{run_id}: no new attempts; those in flight go on\n")
    assert ask("pause", run_id[:8])[2].endswith("it was paused already\n")
    status, _, err = ask(
        "set", run_id, "--concurrency", 3, "--budget-tokens", 100000, "--budget-usd", "none"
    )
    assert (status, err) == (
        0,
        f"{run_id}: budget_tokens = 100000, no budget_usd, concurrency = 3\n",
    )
    flying = live.state().attempts[0]
    assert "1 in flight ended" in ask("cancel", "latest", flying.item, "--trial", 0)[2]
    until(lambda: live.state().failed == 1)
    status, out, err = ask("show", "latest")
    assert "paused: 1 of 12 (1 in flight, 1 failed)" in err
    assert ask("requeue", "latest", flying.item)[2] == f"{run_id}: 1 to be made again\n"
    status, _, err = ask("cancel", "latest", "nosuch item")
    assert (status, "refused: no item 'nosuch item'" in err) == (1, True)

    ask("resume", "latest")
    threading.Timer(0.5, live.server.gate.set).start()
    status, out, _ = ask("watch", "latest")
    assert status == 0
    assert out.splitlines()[-1].startswith("done: 12 of 12 (0 in flight)")
    assert live.wait(60) == 0
    assert "no collection is running" in ask("pause", "latest")[2]


def test_what_show_prints_collects_the_same(live, ask, tmp_path):
    """The plan as TOML, without what is as by default; it is the same plan to the letter."""
    live.server.gate.set()
    assert live.wait(60) == 0

    status, out, _ = ask("show", "latest")

    assert status == 0
    assert "concurrency = 2" in out
    assert "timeout_s" not in out
    (kept,) = open_store(tmp_path / "s.duckdb").sql("SELECT plan FROM runs")["plan"]
    assert Plan.from_mapping(tomllib.loads(out)).as_json() == kept
    again = tmp_path / "again.toml"
    again.write_text(out)
    assert main(["collect", str(again), "--store", str(tmp_path / "s.duckdb")]) == 0
    assert len(live.server.requests) == 12
    row = json.loads(ask("show", "latest", "--format", "json")[1])["rows"][0]
    assert row["status"] == "done"


def test_stop_ends_it_as_ctrl_c_does(live, ask):
    """After what is in flight; its own report is printed where it runs."""
    assert "ends after 2 in flight" in ask("stop", "latest")[2]
    live.server.gate.set()

    assert live.wait(60) == 1
    assert "ended early: 12 planned, 0 done before, 2 collected" in live.stderr.read()


def test_a_killed_run_ends_its_watch_and_is_listed_as_interrupted(live, ask, monkeypatch):
    """The store learns it when the spool is taken in; nobody is left to be steered."""
    monkeypatch.setattr(runs, "WATCH_EVERY_S", 0.1)
    run_id = live.state().run_id
    threading.Timer(0.5, live.kill).start()

    status, out, err = ask("watch", "latest")
    assert (status, bool(out)) == (1, True)
    assert f"the process of {run_id} has gone" in err
    live.wait()

    document = json.loads(ask("--format", "json")[1])
    assert [(r["run_id"], r["status"]) for r in document["rows"]] == [(run_id, "interrupted")]
    assert "more" not in document
    status, _, err = ask("pause", run_id)
    assert (status, "no collection is running" in err) == (1, True)


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["set", "latest"], 2, "no setting was given"),
        (["set", "latest", "--concurrency", "0"], 2, ">= 1"),
        (["set", "latest", "--budget-usd", "lots"], 2, "lots"),
        (["show", "nosuch"], 1, "there is no run 'nosuch'"),
        (["cancel", "latest"], 2, "ITEM"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_misuse_is_told(ask, tmp_path, args, status, said):
    """Exit 2 for what was typed wrong, 1 for what is not there."""
    open_store(tmp_path / "s.duckdb", create=True)

    found, _, err = ask(*args)

    assert found == status
    assert said in err


def test_settings_survive_a_round_trip_through_toml():
    """Strings that TOML and terminals mind, nested tables, lists of tables; null is left out."""
    settings = {
        "text": 'quote " back \\ line \n del \x7f nul \x00 ünïcode 🙂 \u202e',
        "n": 3,
        "x": 1e-7,
        "yes": True,
        "none": None,
        "list": ["a", {"model": "b", "t": 0.5, "gone": None}],
        "empty": {},
        "table": {"in ner": {"deep": [1, 2]}, "k.ey": "v"},
    }

    text = toml_text(settings)

    expected = {k: v for k, v in settings.items() if v is not None}
    expected["list"] = ["a", {"model": "b", "t": 0.5}]
    assert tomllib.loads(text) == expected
    assert "\u202e" not in text
    assert "\x7f" not in text
