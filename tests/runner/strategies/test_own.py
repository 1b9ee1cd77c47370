"""Strategies of the user's own, by name on the command line and in plans."""

import io
import json
import re

import pytest

from tests.support.runner_stub import DONE, Stub, delta, stream, usage
from workbench.cli import main
from workbench.cli.strategies import typed
from workbench.errors import ConfigError
from workbench.runner import Plan, expand, strategies
from workbench.store import open_store

SOURCE = """
import dataclasses
from typing import ClassVar
from pathlib import Path

from workbench.runner.attempts.session import Outcome

Path("imported").touch()


@dataclasses.dataclass(frozen=True)
class Mine:
    name: ClassVar[str] = "mine"
    word: str = "please"
    rounds: int = 1
    extra: dict | None = None

    async def run(self, session, item):
        for _ in range(self.rounds):
            question = f"{self.word} {item.question}"
            reply = await session.generate([{"role": "user", "content": question}])
        return Outcome(reply.text)


class Direct(Mine):
    name = "direct"


class Nameless:
    async def run(self, session, item): ...


class Slow:
    name = "slow"

    def run(self, session, item): ...


class Broken:
    name = "broken"

    async def run(self, session, item):
        raise KeyError("colour")


class Exits:
    name = "exits"

    async def run(self, session, item):
        raise SystemExit(3)


class Odd:
    name = "odd"

    async def run(self, session, item):
        return "42"


ready = Mine(word="now")
number = 3
"""
BASE = {"models": ("m",), "tasks": ("q.jsonl",), "base_url": "http://127.0.0.1:1/v1"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "q.jsonl").write_text('{"input": "2+2?", "target": "4"}\n')
    return tmp_path


def answer(seen):
    ended = [delta(finish="stop"), usage(prompt_tokens=9, completion_tokens=2), DONE]
    return stream(delta("Answer: 4"), *ended)


@pytest.fixture
def collect(folder, capsys):
    """Collect into a store of the folder; returns status and stderr."""

    def run(url, *words):
        status = main(["collect", *words, "--store", "s.duckdb", "--base-url", url, "--model", "m"])
        return status, capsys.readouterr().err

    return run


def test_a_strategy_of_a_file_is_typed_on_the_command_line(folder, collect):
    """With parameters; what it is called, its parameters and its source are the configuration's."""
    with Stub(answer) as stub:
        words = ("--task", "q.jsonl", "--strategy", "mine.py:Mine:rounds=2")
        status, err = collect(stub.url, *words)
        sent = [r.json["messages"] for r in stub.requests]

    assert status == 0, err
    assert sent == [[{"role": "user", "content": "please 2+2?"}]] * 2
    store = open_store(folder / "s.duckdb")
    (row,) = store.sql("SELECT strategy, strategy_params, settings FROM configurations").rows()
    assert (row[0], json.loads(row[1])) == ("mine", {"word": "please", "rounds": 2, "extra": None})
    assert re.fullmatch(r"mine\.py:Mine#[0-9a-f]{12}", json.loads(row[2])["strategy_code"])


def test_another_source_is_another_configuration(folder):
    """The figures of two versions are never pooled; where the file lies does not matter."""
    plan = Plan.from_mapping(BASE | {"strategies": ("mine.py:Mine",), "allow_code": True})
    first = expand(plan, folder, trust=True).configuration_ids
    again = Plan.from_mapping(
        BASE | {"strategies": (f"{folder}/mine.py:Mine",), "allow_code": True}
    )
    same = expand(again, folder, trust=True).configuration_ids
    (folder / "mine.py").write_text(SOURCE.replace("please", "kindly"))

    assert first == same
    assert expand(plan, folder, trust=True).configuration_ids != first


@pytest.fixture
def plan(folder):
    named = 'models = ["m"]\ntasks = ["q.jsonl"]\nstrategies = ["mine.py:Mine"]\n'
    (folder / "plan.toml").write_text(named)
    return "plan.toml"


def test_code_that_a_plan_names_is_not_run_unless_it_is_allowed(folder, plan, collect):
    """Without a terminal nobody can be asked: the message says what to give; nothing is
    imported."""
    with Stub(answer) as stub:
        status, err = collect(stub.url, plan)
        assert (status, stub.n) == (1, 0)
        assert "give --trust" in err
        assert not (folder / "imported").exists()

        status, err = collect(stub.url, plan, "--allow-code")
    assert status == 0, err
    assert (folder / "imported").exists()


@pytest.mark.parametrize(("said", "status"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_on_a_terminal_the_user_is_asked_once(plan, collect, monkeypatch, said, status):
    """Yes imports it; no is the refusal, and so is a bare return."""
    monkeypatch.setattr("workbench.cli.collect._can_answer", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    with Stub(answer) as stub:
        found, err = collect(stub.url, plan)

    assert (found, stub.n) == (status, 1 - status), err
    assert err.count("run code with your rights: the strategy 'mine.py:Mine'") == 1


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("mine.py:Other", {}, "has no class 'Other'"),
        ("nowhere.py:Mine", {}, "no file nowhere.py"),
        ("nowhere_at_all:Mine", {}, "No module named"),
        ("mine.py:Mine", {"round": 2}, "has no parameter 'round'; it has word, rounds, extra"),
        ("mine.py:Mine", {"rounds": "2"}, "not a whole number"),
        ("mine.py:Nameless", {}, "has no name"),
        ("mine.py:Slow", {}, "async def run"),
        ("mine.py:number", {}, "has no name"),
        ("mine.py:Direct", {}, "is one that ships"),
        ("mine.py:ready", {"word": "x"}, "takes no parameters"),
        ("mine.py:", {}, "names no strategy"),
        ("mine py:Mine", {}, "names no strategy"),
    ],
)
def test_what_is_no_strategy_is_explained(folder, name, params, words):
    """Before anything is asked and paid."""
    with pytest.raises(ConfigError, match=words):
        strategies.find(name, params, allow_code=True, folder=folder)


def test_an_object_and_a_module_are_strategies_too(folder):
    """`module:object`, looked for beside the plan; how many calls it makes is not known."""
    ready = strategies.find("mine:ready", {}, allow_code=True, folder=folder)

    assert (ready.name, ready.params["word"], ready.most_calls) == ("mine", "now", None)
    assert strategies.find("direct", {}, allow_code=False).name == "direct"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Broken", "strategy 'broken' failed: KeyError: 'colour' at mine.py:"),
        ("Odd", "strategy 'odd' returned str, not an Outcome"),
        ("Exits", "strategy 'exits' failed: SystemExit: 3 at mine.py:"),
    ],
)
def test_a_fault_of_a_strategy_fails_its_attempt(folder, collect, name, words):
    """The trace says what and where; the run goes on to its end."""
    with Stub(answer) as stub:
        status, _ = collect(stub.url, "--task", "q.jsonl", "--strategy", f"mine.py:{name}")

    assert status == 1
    store = open_store(folder / "s.duckdb")
    (row,) = store.sql("SELECT error_type, error_message FROM traces").rows()
    assert row[0] == "strategy_failed"
    assert words in row[1]


def test_names_of_code_are_typed_with_parameters():
    """The second colon begins the parameters."""
    assert typed("mine:Mine") == "mine:Mine"
    assert typed("a/b.py:Mine:x=1,y=z") == {"name": "a/b.py:Mine", "x": 1, "y": "z"}
    assert typed("direct:shots=2") == {"name": "direct", "shots": 2}


def test_a_strategy_of_a_file_is_described_from_its_source(folder, capsys):
    """Docstring, fields and defaults, in the order of the source; nothing is imported."""
    described = SOURCE.replace("class Mine:", 'class Mine:\n    """Asks politely."""\n')
    (folder / "mine.py").write_text(described)

    assert main(["strategies", "mine.py:Mine:rounds=2", "mine:Direct", "mine:ready"]) == 0
    out = capsys.readouterr().out

    assert "mine.py:Mine\n\nAsks politely.\n" in out
    assert "    word = 'please'\n    rounds = 1\n    extra = None\n" in out
    source = f"Read from {folder / 'mine.py'}, not imported"
    assert f"{source}; parameters inherited from Mine are not shown." in out
    assert out.count("\n—\n") == 2
    assert not (folder / "imported").exists()
    assert main(["strategies", "mine.py:Nowhere"]) == 1
    assert "mine.py has no class 'Nowhere'" in capsys.readouterr().err
