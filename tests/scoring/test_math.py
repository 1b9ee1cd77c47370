"""Scorer `math`: answers as LaTeX, compared by what they mean, within a time."""

import asyncio
import importlib.util

import pytest

from workbench import scoring
from workbench.datasets import load_task
from workbench.errors import MissingExtra, TaskError
from workbench.runner.attempts.grading import grade
from workbench.runner.attempts.math_comparison import Algebra
from workbench.scoring import TaskItem, mathematics
from workbench.scoring.answers import boxed, candidate

here = importlib.util.find_spec("math_verify") is not None
needs_library = pytest.mark.skipif(
    not here, reason="math-verify is not installed: pip install '.[math]'"
)


def item(target, **metadata):
    return TaskItem("t", "1", "q", target, scorer="math", metadata=metadata)


def never(targets, answer, limit_s):
    """The comparison of a test in which no algebra is needed."""
    raise AssertionError(f"{answer!r} was compared with {targets}")


READ = [
    (r"So it is \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"\boxed{1}, no: \boxed {\{1, \{2\}\}}", r"\{1, \{2\}\}"),
    (r"\boxed{3} and then \boxed{4", "3"),
    ("Answer: $x = 5$.", "$x = 5$"),
    (r"\boxed{1} is wrong. Answer: 2", "2"),
    (r"Answer: 2, that is \boxed{2.0}", "2.0"),
    ("We add.\nIt is 12", "It is 12"),
    ("**Answer:** 7**", "7"),
    ("", None),
    (r"\boxed{}", None),
]


@pytest.mark.parametrize(("text", "answer"), READ)
def test_the_answer_is_found_where_it_is_marked(text, answer):
    """In the last box that is closed, braces and all, or after the last mark."""
    assert mathematics.read(text) == answer


def test_boxes_hold_braces_for_every_scorer():
    """The span that other scorers read is whole too; only so much is looked at."""
    assert candidate(r"so \boxed{\frac{a}{b}}") == (r"\frac{a}{b}", True)
    assert boxed(r"\boxed" * 100_000) is None
    assert boxed(r"\boxed{" * 10_000 + "x") is None
    assert boxed("no box") is None


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (r"\frac{1}{2}", r"$\dfrac{1}{2}$"),
        (r"\text{Tuesday}", "tuesday"),
        (r"(1, 2)", r"\left( 1,2 \right)"),
        ("12", "12."),
        (r"x \in [0, 1]", r"x\in[0,1]"),
    ],
)
def test_what_is_written_alike_is_the_same_without_algebra(target, answer):
    """Spaces, \\left and \right, \text, \\dfrac have no meaning of their own."""
    score = mathematics.Mathematics().score(item(target), f"\\boxed{{{answer}}}", never)
    assert (score.passed, score.score, score.explanation) == (True, 1.0, None)


def test_no_answer_is_wrong():
    """The model was asked for one."""
    score = mathematics.Mathematics().score(item("1"), " \n ", never)
    assert (score.passed, score.answer) == (False, None)
    assert "no answer" in score.explanation


def test_without_the_library_it_says_what_to_install(monkeypatch):
    """Before anything is asked; a target is needed too."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"math-verify.*\[math\]"):
        scoring.get("math").check(item("1"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    with pytest.raises(TaskError, match="target is empty"):
        scoring.get("math").check(item(""))


def test_targets_in_latex_are_noticed(tmp_path):
    """The guess stays `exact`; a note says what there is."""
    path = tmp_path / "m.csv"
    path.write_text("question,answer\nq1,\\frac{1}{2}\nq2,x\n")
    task = load_task(str(path))
    assert task.scorer.name == "exact"
    assert any('scorer = "math"' in note for note in task.notes)


# ---- with the library
# ------------------------------------------------------------------------------

SAME = [
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac{1}{2}", "1/2", True),
    (r"\{1, 2\}", r"\{2, 1\}", True),
    ("[0, 1)", "[0, 1]", False),
    (r"10\text{ cm}", "10", True),
    ("5", "x = 5", True),
    ("5", "The value is 5", True),
    (r"2\sqrt{2}", r"\sqrt{8}", True),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)", True),
    ("(1,2)", "(2,1)", False),
    ("1,234", "1234", True),
    ("12", "12 inches", True),
    ("10%", "0.1", True),
    (r"x^2+2x+1", "(x+1)^2", True),
    ("p - q", "q - p", False),
    ("7", "8", False),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True),
    ("2", "5 or 2", False),
    (r"\frac{\pi}{4}", r"$\frac{\pi}{4}$ cm", True),
    (r"\text{even}", "odd", False),
]


@pytest.fixture(scope="module")
def algebra():
    found = Algebra()
    yield found
    found.close()


@needs_library
@pytest.mark.parametrize(("target", "answer", "same"), SAME)
def test_mathematics_is_compared_by_its_meaning(algebra, target, answer, same):
    """Fractions, roots, sets, intervals, matrices, units; and what differs differs."""
    assert algebra.same([target], answer, 20.0) == (same, None)
    assert algebra.same(["nothing like it", target], answer, 20.0) == (same, None)


@needs_library
def test_a_text_that_would_take_for_ever_is_ended(algebra):
    """By the time of computing; the next question has a process of its own."""
    found, why = algebra.same(["1"], "9^{9^{9^{9}}}", 1.0)
    assert (found, "within 1 s" in (why or "")) == (False, True)
    assert algebra.same(["1"], "1.0", 20.0) == (True, None)


@needs_library
@pytest.mark.parametrize(
    "text",
    [
        "{" * 400,
        "\\frac" * 80,
        "$" * 333,
        "\\left(" * 60,
        "\0\ud800",
        "1" * 480,
        "x^" * 200,
        "\\begin{pmatrix}" * 20,
        "__import__('os')",
    ],
)
def test_hostile_texts_are_no_answers(algebra, text):
    """Whatever the library makes of them: not the same, and nothing gets out."""
    assert algebra.same(["42"], text.encode("utf-8", "replace").decode(), 5.0)[0] is False


@needs_library
async def test_items_are_graded_side_by_side(tmp_path):
    """From a file to scores, through the runner's own grading."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"input": "half?", "target": "\\\\frac{1}{2}"}\n')
    task = load_task({"path": str(path), "scorer": "math"})
    texts = [r"\boxed{0.5}", "Answer: 1/2", "Answer: 2", "Answer: 3", None]
    scores = await asyncio.gather(*[grade(None, task, task.items[0], text) for text in texts])

    assert "boxed" in task.prompt
    assert [s[0].passed for s in scores] == [True, True, False, False, None]
    assert scores[0][0].answer == "0.5"


@needs_library
def test_accepted_targets_count_too():
    """Any of them."""
    algebra = Algebra()
    both = item("1", accepted=["2"])
    assert mathematics.Mathematics().score(both, r"\boxed{\frac{4}{2}}", algebra.same).passed
    algebra.close()


def test_an_answer_that_could_not_be_compared_has_no_score():
    """It was wrong, as if somebody had found it so."""
    one = item("1")
    late = "not compared within 1 s of computing (timeout_s)"

    score = mathematics.Mathematics().score(one, r"\boxed{9^{9^{9}}}", lambda *_: (False, late))

    assert (score.score, score.passed, score.value) == (None, None, None)
    assert (score.answer, score.explanation) == ("9^{9^{9}}", late)
