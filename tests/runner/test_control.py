"""Live control: a real collection against a real socket, told things through files while it
runs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from tests.support import ROOT
from tests.support.control import Launch, Server, until
from tests.support.launches import records, run
from workbench.errors import ConfigError
from workbench.records import Run
from workbench.runner.control import protocol
from workbench.runner.control.protocol import (
    Cancel,
    Pause,
    Requeue,
    Resume,
    Retune,
    Stop,
    find,
    live_runs,
    send,
)
from workbench.runner.execution import controller
from workbench.runner.execution.controller import Pilot
from workbench.spool import is_settled


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Look at the folder fifty times a second, so that no test waits for it."""
    monkeypatch.setattr(controller, "POLL_S", 0.02)
    monkeypatch.setattr(controller, "PUBLISH_S", 0.05)


def test_a_run_says_how_it_stands(tmp_path):
    """Counts, per configuration too, attempts in flight with their calls, settings, and how it
    ended."""
    with (
        Server() as server,
        Launch(tmp_path, server.url, strategies=("direct", "cot"), concurrency=3, seed=7) as launch,
    ):
        state = until(lambda: s if (s := launch.state).in_flight == 3 else None)
        assert (state.run_id, state.pid, state.status) == ("r1", os.getpid(), "running")
        assert (state.planned, state.before, state.done, state.left, state.n_items) == (
            6,
            0,
            0,
            6,
            3,
        )
        assert (state.concurrency, state.concurrency_cap, state.retries) == (3, 3, 0)
        assert (state.rate_per_s, state.eta_s, state.spent_usd, state.spent_j) == (None,) * 4
        assert json.loads(state.plan)["seed"] == 7
        until(lambda: all(a.n_calls == 1 and a.elapsed_s > 0 for a in launch.state.attempts))
        assert {a.configuration for a in state.attempts} == {"m direct", "m cot"}
        assert {(a.task, a.trial) for a in state.attempts} == {("sums", 0)}

        server.allowed = 1
        state = until(lambda: s if (s := launch.state).done == 1 else None)
        assert (state.left, sum(c.done for c in state.configurations)) == (5, 1)
        assert [c.planned for c in state.configurations] == [3, 3]
        assert state.rate_per_s > 0
        assert state.eta_s == pytest.approx(5 / state.rate_per_s)
        assert state.spent_tokens == 22

        server.gate.set()
        assert launch.end().status == "done"

    assert not live_runs(tmp_path)
    assert (launch.state.status, launch.state.done, launch.state.left) == ("done", 6, 0)


def test_paused_nothing_begins_until_it_is_resumed(tmp_path):
    """What is in flight goes on; the pause does not count as work."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        until(lambda: server.n == 1)
        taken = launch.tell(Pause())
        assert (taken.status, taken.command) == ("done", "pause")
        server.gate.set()
        state = until(lambda: s if (s := launch.state).done == 1 else None)
        assert (state.status, state.eta_s) == ("paused", None)
        assert state.paused_since is not None
        time.sleep(0.15)
        assert (server.n, launch.state.in_flight) == (1, 0)
        assert launch.state.rate_per_s == pytest.approx(state.rate_per_s, rel=0.2)

        assert launch.tell(Resume()).status == "done"
        assert launch.end().collected == 3
        assert [t.command for t in launch.state.taken] == ["pause", "resume"]


def test_stopped_while_paused_it_ends(tmp_path):
    """Nobody waits for a resume that never comes."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        until(lambda: server.n == 1)
        launch.tell(Pause())
        server.gate.set()
        until(lambda: launch.state.done == 1)
        launch.tell(Stop())

        assert (launch.end().status, launch.report.collected) == ("cancelled", 1)


def test_concurrency_goes_up_and_down(tmp_path):
    """More begin at once; fewer are begun once those that are too many have ended."""
    with Server() as server, Launch(tmp_path, server.url, trials=10, concurrency=2) as launch:
        until(lambda: server.n == 2)
        assert launch.tell(Retune(concurrency=7)).said == "concurrency = 7"
        until(lambda: server.n == 7)
        until(lambda: launch.state.in_flight == 7)
        assert launch.state.concurrency_cap == 7

        launch.tell(Retune(concurrency=1))
        assert launch.state.concurrency_cap == 1
        server.allowed = 7
        until(lambda: launch.state.done == 7)
        until(lambda: server.n == 8)
        until(lambda: launch.state.in_flight == 1)
        time.sleep(0.1)  # in which a further one would have begun
        assert server.n == 8
        server.gate.set()

        assert launch.end().collected == 30


def test_fewer_at_once_while_paused_are_fewer_after_it(tmp_path):
    """Those who waited with an attempt in hand give it back; none is lost."""
    with Server() as server, Launch(tmp_path, server.url, trials=10, concurrency=6) as launch:
        until(lambda: server.n == 6)
        launch.tell(Pause())
        server.allowed = 6
        until(lambda: launch.state.done == 6)
        launch.tell(Retune(concurrency=2))
        launch.tell(Resume())
        until(lambda: server.n == 8)
        until(lambda: launch.state.in_flight == 2)
        time.sleep(0.1)  # in which a further one would have begun
        assert server.n == 8
        server.gate.set()

        assert (launch.end().collected, launch.report.left) == (30, 0)
    assert len({(t.item_id, t.trial) for t in records(tmp_path)}) == 30


def test_a_budget_can_be_set_raised_and_lifted(tmp_path):
    """It holds from then on, by the calls that it counted from the beginning."""
    with (
        Server() as server,
        Launch(tmp_path, server.url, trials=10, concurrency=1, price=lambda call: 1.0) as launch,
    ):
        until(lambda: server.n == 1)
        assert launch.tell(Retune(budget_usd=4.0)).said == "budget_usd = 4"
        assert launch.state.budget_usd == 4.0
        server.gate.set()
        report = launch.end()

    assert (report.status, report.collected, report.spent_usd) == ("cancelled", 4, 4.0)
    with (
        Server() as server,
        Launch(
            tmp_path,
            server.url,
            "r2",
            trials=10,
            price=lambda call: 1.0,
            budget_usd=2.0,
            concurrency=1,
        ) as launch,
    ):
        until(lambda: server.n == 1)
        assert launch.tell(Retune(lift=("budget_usd",))).said == "no budget_usd"
        assert launch.state.budget_usd is None
        server.gate.set()

        assert (launch.end().collected, launch.report.left) == (26, 0)


def test_a_change_that_cannot_be_kept_changes_nothing(tmp_path):
    """No price, no meter, nothing given: refused as a whole, with the reason."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=2) as launch:
        refused = [
            launch.tell(Retune(budget_usd=1.0, concurrency=5)),
            launch.tell(Retune(budget_j=1.0)),
            launch.tell(Retune()),
            launch.tell(Retune(budget_tokens=5, lift=("budget_tokens",))),
        ]

        assert {t.status for t in refused} == {"refused"}
        assert "no price" in refused[0].said
        assert "no meter" in refused[1].said
        assert launch.state.concurrency_cap == 2
        assert launch.state.budget_usd is None


def test_retries_and_timeouts_hold_for_the_requests_to_come(tmp_path):
    """A server that never answers fails after the new limit, tried as often as is now said."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1, timeout_s=60.0) as launch:
        until(lambda: server.n == 1)
        assert launch.tell(Retune(timeout_s=0.1, retries=0)).said == "retries = 0, timeout_s = 0.1"
        assert (launch.state.timeout_s, launch.state.retries) == (0.1, 0)
        server.allowed = 1  # the first was sent under the old limit
        until(lambda: launch.state.failed == 2)

        assert launch.end().failed == 2
    assert {t.error_type for t in records(tmp_path)} == {None, "timeout"}


def test_an_item_in_flight_is_cancelled_and_its_trace_says_so(tmp_path):
    """Its calls are kept; the others go on; the next launch makes it again."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=2, trials=2) as launch:
        flying = until(lambda: a if len(a := launch.state.attempts) == 2 else None)
        target = flying[0]
        taken = launch.tell(Cancel(item=target.item, trial=0))
        assert taken.said == "1 in flight ended, 0 will not begin"
        until(lambda: launch.state.failed == 1)
        server.gate.set()
        report = launch.end()

    assert (report.status, report.collected, report.failed) == ("done", 5, 1)
    (trace,) = [t for t in records(tmp_path) if t.error_type]
    assert (trace.error_type, trace.item_id, trace.trial) == ("cancelled", target.item_id, 0)
    assert (trace.calls[0].error_type, trace.calls[0].output_tokens) == ("cancelled", None)
    assert trace.messages
    assert not is_settled(trace.error_type)


def test_an_item_that_waits_is_passed_over(tmp_path):
    """All its trials, but not those made before; the run tells that something is left."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1, trials=3) as launch:
        first = until(lambda: launch.state.attempts)[0]
        others = [i for i in ("0", "1", "2") if i != first.item]
        server.allowed = 1
        until(lambda: launch.state.done == 1)
        assert launch.tell(Cancel(item=f"sums/{first.item}")).said == (
            "0 in flight ended, 2 will not begin; 1 made already"
        )
        assert (
            launch.tell(Cancel(item=others[1], trial=2, configuration="m direct")).status == "done"
        )
        server.gate.set()
        report = launch.end()

    assert (report.status, report.collected, report.left) == ("cancelled", 6, 3)
    made = {(t.item_id, t.trial) for t in records(tmp_path)}
    assert (first.item_id, 0) in made
    assert not {(first.item_id, 1), (first.item_id, 2)} & made


def test_failed_and_cancelled_items_are_made_again_in_the_same_run(tmp_path):
    """A second trace beside the first; counts as if the first had not been."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1, trials=2) as launch:
        first = until(lambda: launch.state.attempts)[0]
        server.fail = {int(first.item)}
        server.allowed = 1
        state = until(lambda: s if (s := launch.state).done == 1 else None)
        assert state.failed == 1
        server.fail = set()
        until(lambda: launch.state.in_flight == 1)
        waiting = next(
            i for i in ("0", "1", "2") if i not in {first.item, launch.state.attempts[0].item}
        )
        launch.tell(Cancel(item=waiting, trial=0))

        assert launch.tell(Requeue(item=first.item, trial=0)).said == "1 to be made again"
        assert (launch.state.done, launch.state.failed) == (0, 0)
        assert launch.tell(Requeue(item=waiting)).said == "1 to be made again"
        assert launch.tell(Requeue(item=waiting)).status == "refused"
        server.gate.set()
        report = launch.end()

    assert (report.status, report.collected, report.failed, report.left) == ("done", 6, 0, 0)
    again = [t for t in records(tmp_path) if (t.item_id, t.trial) == (first.item_id, 0)]
    assert [t.error_type for t in again] == ["http_400", None]
    assert len({t.trace_id for t in records(tmp_path)}) == 7


def test_what_is_requeued_last_is_made_although_the_workers_have_left(tmp_path):
    """One that waits for the last answer is joined by another."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=3) as launch:
        flying = until(lambda: a if len(a := launch.state.attempts) == 3 else None)
        launch.tell(Cancel(item=flying[0].item))
        launch.tell(Cancel(item=flying[1].item))
        until(lambda: launch.state.in_flight == 1)
        launch.tell(Requeue(item=flying[0].item))
        launch.tell(Requeue(item=flying[1].item))
        until(lambda: launch.state.in_flight == 3)
        server.gate.set()

        assert (launch.end().collected, launch.report.failed) == (3, 0)


def test_stop_waits_for_what_is_in_flight_and_stop_now_does_not(tmp_path):
    """As Ctrl-C once, and twice; both are answered before they are obeyed."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=2, trials=5) as launch:
        until(lambda: server.n == 2)
        assert launch.tell(Stop()).said == "ends after 2 in flight"
        until(lambda: launch.state.status == "stopping")
        assert launch.thread.is_alive()
        server.gate.set()
        assert (launch.end().collected, launch.report.status) == (2, "cancelled")

    with Server() as server, Launch(tmp_path, server.url, "r2", concurrency=2, trials=5) as launch:
        until(lambda: server.n == 2)
        assert launch.tell(Stop(now=True)).said == "ends at once"
        assert (launch.end().collected, launch.report.status) == (0, "cancelled")
    assert [r.status for r in records(tmp_path, Run, "r2")] == ["running", "cancelled"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Cancel(item="nosuch"), "no item 'nosuch' is in the plan"),
        (Cancel(item="0", trial=9), "there is no trial 9; the plan has 1, from 0"),
        (Cancel(item="0", configuration="m direkt"), "did you mean 'm direct'?"),
        (Requeue(item="0"), "no attempt at '0' failed"),
    ],
)
def test_what_is_meant_is_told_where_it_is_not_found(tmp_path, command, said):
    """A refusal names the value and, where there is one, the nearest."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        taken = launch.tell(command)

    assert taken.status == "refused"
    assert said in taken.said


def hostile(commands):
    """Drop what no honest sender drops; returns the ids."""
    (commands / "notjson.json").write_bytes(b"{{{{")
    (commands / "list.json").write_bytes(b"[1, 2]")
    (commands / "unknown.json").write_bytes(b'{"command": "rm -rf /"}')
    (commands / "extra.json").write_bytes(b'{"command": "pause", "now": 1}')
    (commands / "type.json").write_bytes(b'{"command": "set", "concurrency": "many"}')
    (commands / "bounds.json").write_bytes(b'{"command": "set", "concurrency": 0}')
    (commands / "inf.json").write_bytes(b'{"command": "set", "budget_usd": 1e999}')
    (commands / "nan.json").write_bytes(b'{"command": "set", "timeout_s": NaN}')
    (commands / "utf8.json").write_bytes(b'{"command": "cancel", "item": "\xff\xfe"}')
    (commands / "deep.json").write_bytes(b"[" * 5000)
    (commands / "large.json").write_bytes(b'{"command": "stop"}' + b" " * 100_000)
    (commands / "empty.json").write_bytes(b"")
    (commands / "link.json").symlink_to("/etc/passwd")
    (commands / "folder.json").mkdir()
    (commands / "folder.json" / "inside").write_text("x")
    os.mkfifo(commands / "pipe.json")
    return {p.stem for p in commands.iterdir()}


def test_hostile_files_are_refused_with_a_reason_and_nothing_breaks(tmp_path):
    """Links, pipes, folders, floods of bytes, wrong types: an answer each, and the run goes on."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        until(lambda: server.n == 1)
        folder = protocol.control_dir(tmp_path) / "r1"
        (folder / "commands" / ".hidden.json").write_bytes(b'{"command": "stop"}')
        (folder / "commands" / "..json").write_bytes(b'{"command": "stop"}')
        (folder / "commands" / "a b;c.json").write_bytes(b'{"command": "stop"}')
        dropped = hostile(folder / "commands") - {".hidden", ".", "a b;c"}
        until(lambda: len(list((folder / "results").glob("[a-z]*.json"))) == len(dropped))
        answers = {
            p.stem: json.loads(p.read_bytes()) for p in (folder / "results").glob("[a-z]*.json")
        }

        assert answers.keys() == dropped
        assert {a["status"] for a in answers.values()} == {"refused"}
        assert all(a["said"] for a in answers.values())
        assert "16,384 bytes" in answers["large"]["said"]
        assert answers["link"]["said"] == "not a plain file that can be read"
        assert Path("/etc/passwd").exists()
        assert (launch.state.status, launch.state.concurrency_cap) == ("running", 1)
        server.gate.set()

        assert launch.end().status == "done"


def test_only_its_owner_may_look_into_the_folder_of_a_run(tmp_path):
    """What is dropped there is obeyed, so nobody else may drop."""
    with Server() as server, Launch(tmp_path, server.url):
        folder = protocol.control_dir(tmp_path) / "r1"
        modes = {
            p.stat().st_mode & 0o777 for p in (folder, folder / "commands", folder / "results")
        }

        assert modes == {0o700}
        assert (folder / "state.json").stat().st_mode & 0o077 == 0


def test_a_state_that_is_not_ours_is_no_run(tmp_path):
    """Damaged, of another version or of another run's name: passed over."""
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        until(lambda: server.n == 1)
        path = protocol.control_dir(tmp_path) / "r1" / "state.json"
        state = launch.state
        for wrong in ({"format": 99}, {"run_id": "r2"}):
            other = protocol.control_dir(tmp_path) / "copy"
            other.mkdir()
            (other / "state.json").write_bytes(
                msgspec.json.encode(msgspec.structs.replace(state, **wrong))
            )
            assert protocol.read_state(other) is None
            (other / "state.json").write_bytes(path.read_bytes()[:-20])
            assert protocol.read_state(other) is None
            (other / "state.json").unlink()
            other.rmdir()


LAUNCHER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.support.launches import make
from workbench.runner import collect
from workbench.spool import SpoolWriter
plan, work = make(sys.argv[1], concurrency=2)
with SpoolWriter(Path(sys.argv[2]), "dead") as writer:
    asyncio.run(collect(plan, spool=writer, work=work))
"""


def test_a_killed_run_is_not_live_and_the_next_collector_cleans_up(tmp_path):
    """The lock goes with the process; its folder with the next launch, and commands find nobody."""
    with Server() as server:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(LAUNCHER), server.url, str(tmp_path), str(ROOT)]
        )
        until(lambda: live_runs(tmp_path))
        assert live_runs(tmp_path)[0].pid == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()

        assert live_runs(tmp_path) == []
        with pytest.raises(ConfigError, match="not running any more"):
            send(tmp_path, "dead", Pause())
        assert protocol.state_of(tmp_path, "dead").status == "running"  # as it last said
        server.gate.set()
        report = run(tmp_path, server.url, "r2")

    assert report.collected == 3
    assert not (protocol.control_dir(tmp_path) / "dead").exists()


def test_two_collectors_keep_out_of_each_others_folders(tmp_path):
    """The sweep of the second leaves the first alone; each obeys its own commands."""
    with (
        Server() as server,
        Launch(tmp_path / "s", server.url, "r1", concurrency=1) as one,
        Launch(tmp_path / "s", server.url, "r2", concurrency=1, models=("n",)) as two,
    ):
        until(lambda: len(live_runs(tmp_path / "s")) == 2)
        two.tell(Pause())
        until(lambda: two.state.status == "paused")
        assert one.state.status == "running"
        assert [s.run_id for s in live_runs(tmp_path / "s")] == ["r1", "r2"]

        assert find(tmp_path / "s", "latest").run_id == "r2"
        assert find(tmp_path / "s", "r1").run_id == "r1"
        with pytest.raises(ConfigError, match="several live runs begin with 'r': r1, r2"):
            find(tmp_path / "s", "r")
        with pytest.raises(ConfigError, match="live runs: r1, r2"):
            find(tmp_path / "s", "x")


def test_a_name_that_is_no_run_cannot_leave_the_folder(tmp_path):
    """No path of another place can be reached through a run's name."""
    for name in ("../r1", "/etc", "", ".", "a/b"):
        with pytest.raises(ConfigError):
            send(tmp_path, name, Pause())
        assert protocol.state_of(tmp_path, name) is None


def test_a_folder_that_cannot_be_made_costs_the_control_and_not_the_run(tmp_path):
    """The report says so."""
    protocol.control_dir(tmp_path).write_text("in the way")
    with Server() as server:
        server.gate.set()
        report = run(tmp_path, server.url)

    assert (report.status, report.collected) == ("done", 3)
    assert "no live control of this run" in report.notes[0]


@pytest.mark.parametrize(("go_on", "made"), [(True, 12), (False, 4)])
def test_a_pilot_is_made_first_and_the_rest_if_somebody_says_so(tmp_path, go_on, made):
    """Two items with both configurations, all ended before the question; they are of the same
    run."""
    asked = []

    async def decide():
        asked.append(len(records(tmp_path)))
        await asyncio.sleep(0.1)
        return go_on

    with Server() as server:
        server.gate.set()
        with Launch(
            tmp_path, server.url, models=("a", "b"), trials=2, pilot=Pilot(2, decide)
        ) as launch:
            report = launch.end()

    assert asked == [4]
    assert (report.collected, report.status) == (made, "done" if go_on else "cancelled")
    assert len({t.item_id for t in records(tmp_path)[:4]}) == 2
    assert ("stopped after the pilot" in report.notes) is not go_on


def test_a_stop_while_the_pilot_is_decided_ends_the_run(tmp_path):
    """The question is not waited for."""

    async def never():
        await asyncio.sleep(60)
        return True

    with Server() as server:
        server.gate.set()
        with Launch(tmp_path, server.url, pilot=Pilot(1, never)) as launch:
            until(lambda: launch.state.status == "asking")
            launch.tell(Stop())

            assert launch.end().collected == 1
