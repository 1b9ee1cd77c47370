"""Grading within a collection: scorers of every kind, judges that cost apart, and answers that are
never lost."""

import asyncio
import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runner_stub import DONE, Seen, Stub, delta, fixed, stream, usage
from workbench import datasets, sandbox, scoring, spool
from workbench.datasets import TaskSet
from workbench.errors import ConfigError
from workbench.records import Score, Task, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts import grading
from workbench.runner.strategies import get as strategy
from workbench.scoring import TaskItem
from workbench.spool import SpoolWriter


def set_of(*items: TaskItem, scorers: dict | None = None) -> TaskSet:
    """Make a task set."""
    first = (scorers or {}).get(items[0].scorer) or scoring.get(items[0].scorer)
    return TaskSet(Task(task="t"), list(items), first, "Answer.", scorers=scorers or {})


def said(text: str, n_output: int = 2) -> list:
    """A streamed reply."""
    counts = usage(prompt_tokens=20, completion_tokens=n_output, total_tokens=20 + n_output)
    return stream(delta(text), delta(finish="stop"), counts, DONE)


def gather(
    folder: Path, task: TaskSet, respond: Callable[[Seen], list], helpers: dict | None = None
) -> list[Trace]:
    """Collect a task from a server with one model and some helpers; returns its traces."""
    with Stub(respond) as stub:
        plan = Plan(
            models=("subject",),
            tasks=("t",),
            base_url=stub.url,
            retries=0,
            concurrency=4,
            helpers=helpers or {},
        )
        with SpoolWriter(folder, "r1") as writer:
            asyncio.run(collect(plan, spool=writer, work=Work(plan, [task], [strategy("direct")])))
    records = [r for s in spool.segments(folder) for r in spool.read_segment(s.path).records]
    return [r for r in records if isinstance(r, Trace)]


def by_model(**replies: str) -> Callable[[Seen], list]:
    """Answer by the model that is asked."""
    return lambda seen: said(replies[seen.json["model"]])


def test_several_scorers_are_recorded_and_the_first_counts(tmp_path: Path) -> None:
    """The trace has the first one's score; all of them are beside it."""
    item = TaskItem("t", "1", "2?", "2", scorer="exact", more_scorers=("numeric",))

    (trace,) = gather(tmp_path, set_of(item), by_model(subject=" 2.0"))

    assert [(s.scorer, s.passed) for s in trace.scores] == [("exact", False), ("numeric", True)]
    assert (trace.answer, trace.score, trace.passed) == ("2.0", 0.0, False)


def test_a_judge_is_asked_and_its_calls_cost_apart(tmp_path: Path) -> None:
    """The helper model gives the verdict; its call has its own role, model and tokens."""
    item = TaskItem("t", "1", "2?", "two", scorer="judge", options={"rubric": "Numbers are fine."})
    replies = by_model(subject="Answer: 2", jury="Two is 2.\nVerdict: CORRECT")

    (trace,) = gather(tmp_path, set_of(item), replies, {"judge": {"model": "jury"}})

    assert [(c.role, c.model) for c in trace.calls] == [("subject", "subject"), ("judge", "jury")]
    assert [c.output_tokens for c in trace.calls] == [2, 2]
    assert (trace.score, trace.passed, trace.n_turns) == (1.0, True, 1)
    asked = [m.text for m in trace.messages if m.call_ordinal == 1]
    assert "Numbers are fine." in asked[0]
    assert "Answer: 2" in asked[0]


def test_several_judges_vote(tmp_path: Path) -> None:
    """Two helpers, two votes each: three against one, one of them silent."""
    n_asked = []

    def respond(seen: Seen) -> list:
        model = seen.json["model"]
        n_asked.append(model)
        if model == "b" and n_asked.count("b") == 1:
            return said("Hard to say.")
        return said(" 2" if model == "subject" else "Verdict: INCORRECT")

    item = TaskItem("t", "1", "2?", "3", scorer="judge", options={"judges": ["x", "y"], "votes": 2})

    (trace,) = gather(tmp_path, set_of(item), respond, {"x": {"model": "a"}, "y": {"model": "b"}})

    assert sorted(n_asked) == ["a", "a", "b", "b", "subject"]
    assert (trace.score, trace.passed) == (0.0, False)
    assert trace.scores[0].explanation == "3 of 4 verdicts; y: its last line is no verdict"


def test_a_judge_that_fails_loses_no_answer(tmp_path: Path) -> None:
    """The paid answer and the other scorers' scores stay; the judge's score is null with the
    reason."""

    def respond(seen: Seen) -> list:
        return (
            said(" 2")
            if seen.json["model"] == "subject"
            else fixed(400, b'{"error": "no such model"}')
        )

    item = TaskItem("t", "1", "2?", "2", scorer="judge", more_scorers=("numeric",))

    (trace,) = gather(tmp_path, set_of(item), respond, {"judge": {"model": "jury"}})

    judged, counted = trace.scores
    assert (trace.score, trace.passed, trace.error_type) == (None, None, None)
    assert "could not be asked" in (judged.explanation or "")
    assert counted.passed is True
    assert any("2" in m.text for m in trace.messages if m.role == "assistant")


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., TaskSet]:
    """Make a task whose scorer is a function of the user's."""

    def make(code: str, **options: object) -> TaskSet:
        folder = tmp_path / "plan"
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(textwrap.dedent(code))
        (folder / "q.jsonl").write_text('{"input": "2?", "target": "2"}\n')
        told = {"path": "q.jsonl", "scorer": ["mine:f", "numeric"], "options": options}
        return datasets.load_task(told, folder=folder)

    return make


def test_code_of_the_user_that_fails_loses_no_answer(tmp_path: Path, own: Callable) -> None:
    """An exception is recorded as what it is; the attempt is whole and not tried again."""
    (trace,) = gather(tmp_path, own("def f(item, text): return {}['x']"), by_model(subject=" 2"))

    assert (trace.score, trace.passed, trace.error_type, trace.stop_reason) == (
        None,
        None,
        None,
        "stop",
    )
    assert trace.scores[0].explanation == "the scorer failed: KeyError: 'x' at mine.py:1"
    assert trace.scores[1].passed is True


def test_code_of_the_user_runs_beside_the_others(own: Callable) -> None:
    """Four that wait for each other all end, and the loop goes on meanwhile."""
    task = own(
        "import threading\nfour = threading.Barrier(4)\n"
        "def f(item, text):\n    four.wait(60)\n    return True\n"
    )

    async def run() -> list:
        return await asyncio.gather(
            *[grading.grade(None, task, task.items[0], "2") for _ in range(4)]
        )

    found = asyncio.run(run())

    assert all(scores[0].passed for scores in found)


def test_code_of_the_user_has_a_time_limit(own: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never ends is left behind, a few times; then it is not started again, and the program
    still ends."""
    monkeypatch.setattr(grading, "MOST_LEFT_BEHIND", 2)
    monkeypatch.setattr(grading, "_left_behind", [])
    task = own("import time\ndef f(item, text): time.sleep(20)\n", scorer_timeout_s=0.1)
    start = time.perf_counter()

    found = [asyncio.run(grading.grade(None, task, task.items[0], "2")) for _ in range(3)]

    told = [scores[0].explanation for scores in found]
    assert told[:2] == ["the scorer failed: it took longer than 0.1 s (scorer_timeout_s)"] * 2
    assert "have timed out and are still running" in (told[2] or "")
    assert all(scores[1].passed for scores in found)
    assert time.perf_counter() - start < 5


def test_unit_tests_run_within_a_collection(tmp_path: Path) -> None:
    """The model's code is run in the sandbox, its answer is the code."""
    if (why := sandbox.why_not()) is not None:
        pytest.skip(why)
    item = TaskItem(
        "t",
        "1",
        "Write f.",
        "",
        scorer="unit_tests",
        metadata={"tests": ["assert f(1) == 2", "assert f(2) == 5"]},
    )

    (trace,) = gather(
        tmp_path, set_of(item), by_model(subject="\n```python\ndef f(x): return x + 1\n```")
    )

    assert (trace.score, trace.passed, trace.scores[0].value) == (0.0, False, "1/2")
    assert trace.answer == "def f(x): return x + 1\n"


def test_stored_answers_can_be_graded_again() -> None:
    """Without a session deterministic scorers work as ever; a judge says that there is nobody to
    ask."""
    item = TaskItem("t", "1", "2?", "2", scorer="numeric", more_scorers=("judge",))

    counted, judged = asyncio.run(grading.grade(None, set_of(item), item, "Answer: 2"))

    assert counted.passed is True
    assert (judged.score, judged.explanation) == (None, "no verdict: there is no model to ask")


def test_no_text_gives_nulls() -> None:
    """Nothing is run and nobody asked."""
    item = TaskItem("t", "1", "2?", "2", scorer="judge", more_scorers=("unit_tests", "json"))

    found = asyncio.run(grading.grade(None, set_of(item), item, None))

    assert found == (Score(scorer="judge"), Score(scorer="unit_tests"), Score(scorer="json"))


def test_what_could_not_be_graded_is_refused_before_anything_is_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A judge that the plan does not have, and code without a sandbox."""
    judged = set_of(TaskItem("t", "1", "?", "", scorer="judge", options={"judges": ["one", "two"]}))
    coded = set_of(TaskItem("t", "1", "?", "", scorer="unit_tests", metadata={"tests": "x"}))

    with pytest.raises(ConfigError, match=r"helper model 'two', .* \[helpers.two\]"):
        grading.check([judged], {"one"})
    monkeypatch.setattr(sandbox, "why_not", lambda: "bwrap is missing")
    with pytest.raises(ConfigError, match="no sandbox here: bwrap is missing"):
        grading.check([coded], ())
    grading.check([judged], {"one", "two"})
    assert grading.most_calls(judged) == {"one": 1, "two": 1}


def test_packages_that_code_may_not_import_are_refused_before_anything_is_paid() -> None:
    """A package that is not on the sandbox's list."""
    if (why := sandbox.why_not()) is not None:
        pytest.skip(why)
    settings = {"tests": "x", "packages": ["msgspec"]}
    coded = set_of(TaskItem("t", "1", "?", "", scorer="unit_tests", metadata=settings))

    with pytest.raises(ConfigError, match="may not import the package 'msgspec'"):
        grading.check([coded], ())


def test_another_judge_is_another_version_of_the_task(tmp_path: Path) -> None:
    """What identifies the helper model, and the rubric, are part of the task's version."""
    (tmp_path / "q.jsonl").write_text('{"input": "2?"}\n')
    told = {"path": "q.jsonl", "scorer": "judge", "options": {"rubric": "Be kind."}}
    strict = told | {"options": {"rubric": "Be strict."}}

    def version(table: dict, model: str) -> str | None:
        helpers = {"judge": {"model": model}, "other": {"model": "x"}}
        return datasets.load_task(table, folder=tmp_path, helpers=helpers).task.version

    assert version(told, "a") == version(told, "a")
    assert len({version(told, "a"), version(told, "b"), version(strict, "a")}) == 3


def test_identity_and_settings_are_in_the_record(tmp_path: Path) -> None:
    """A reader of the store sees with what the answers were graded."""
    (tmp_path / "q.jsonl").write_text('{"input": "2?", "target": "2"}\n')
    told = {"path": "q.jsonl", "scorer": ["numeric", "judge"], "options": {"tolerance": 0.1}}

    task = datasets.load_task(told, folder=tmp_path, helpers={"judge": {"model": "a"}}).task

    about = json.loads(task.metadata)
    assert (about["options"], about["also"], about["judges"]) == (
        {"tolerance": 0.1},
        ["judge"],
        {"judge": {"model": "a"}},
    )
