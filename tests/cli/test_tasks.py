"""`workbench tasks FILE`: how a file of the user's, or the tasks of a plan, are understood."""

import json
from pathlib import Path

import pytest

from workbench.cli import main


@pytest.fixture
def ask(capsys):
    """Run the command; returns status, stdout, stderr."""

    def run(*args):
        status = main(["tasks", *map(str, args)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    """A file as somebody else would write it."""
    path = tmp_path / "quiz.csv"
    path.write_text(
        "question,answer,extra\n" + "".join(f"What is {i} + 1?,{i + 1},x\n" for i in range(5))
    )
    return path


def test_a_file_is_shown_as_it_is_understood(ask, quiz):
    """First items, mapping, number of items, scorer, and what was guessed."""
    status, out, err = ask(quiz, "--format", "json")

    found = json.loads(out)
    assert status == 0
    assert [(r["question"], r["target"], r["scorer"]) for r in found["rows"]] == [
        (f"What is {i} + 1?", str(i + 1), "numeric") for i in range(3)
    ]
    assert found["more"]["read from"] == [
        {"field": "input", "read from": "question (guessed)"},
        {"field": "target", "read from": "answer (guessed)"},
    ]
    assert (found["provenance"]["n_items"], found["provenance"]["n_problems"]) == (5, 0)
    assert "columns not used: 'extra'" in found["notes"]
    assert "note: scorer: numeric (guessed)" in err


def test_settings_are_tried_before_they_are_written_down(ask, quiz):
    """`--set` takes what the plan would say; a text needs no quotes, a list is TOML."""
    status, out, _ = ask(
        quiz,
        "--format",
        "json",
        "--set",
        "input={question} ({extra})",
        "--set",
        'scorer=["exact", "numeric"]',
        "--set",
        "task=mine",
    )

    found = json.loads(out)
    assert status == 0
    assert (found["rows"][0]["question"], found["rows"][0]["scorer"]) == (
        "What is 0 + 1? (x)",
        "exact, numeric",
    )
    assert found["provenance"]["task"] == "mine"


def test_problems_are_said_with_their_lines_and_fail(ask, quiz):
    """The status tells a script; the table shows what could be read."""
    quiz.write_text(quiz.read_text() + "And?,none\n")

    status, out, err = ask(quiz, "--format", "json", "--set", "scorer=numeric")

    assert status == 1
    assert len(json.loads(out)["rows"]) == 3
    assert f"problem: {quiz}:7: target 'none' is not a number (column 'answer')" in err


def test_a_plan_shows_its_tasks(ask, quiz, tmp_path):
    """Tables and names of the plan, its folder, and the scorers that it names."""
    (tmp_path / "mine.py").write_text("def f(item, text): return True\n")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'models = ["m"]\ntasks = ["facts", {path = "quiz.csv", scorer = "mine:f", version = "2"}]\n'
    )

    status, out, _ = ask(plan)

    assert status == 0
    assert "facts" in out
    assert "mine:f" in out
    assert "2+" in out


@pytest.mark.parametrize("named_by", ["file", "plan", "typed"])
def test_code_is_shown_and_not_imported_without_a_flag(ask, quiz, tmp_path, named_by):
    """Whoever names it; the version of the task is the one that it gets when it is collected."""
    source = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    (tmp_path / "mine.py").write_text(source + "def f(item, text): return True\n")
    words = [quiz]
    if named_by == "file":
        quiz.with_suffix(".toml").write_text('scorer = "mine:f"\n')
    elif named_by == "plan":
        words = [tmp_path / "plan.toml"]
        words[0].write_text('allow_code = true\ntasks = [{path = "quiz.csv", scorer = "mine:f"}]\n')
    else:
        words += ["--set", "scorer=mine:f"]

    looked, out, err = ask(*words, "--format", "json")
    assert looked == 0
    assert f"the scorer 'mine:f' is code of {str(tmp_path / 'mine.py')!r}" in err
    assert not (tmp_path / "ran").exists()

    allowed, imported, _ = ask(*words, "--format", "json", "--allow-code")
    assert (allowed, (tmp_path / "ran").exists()) == (0, True)
    version = [json.loads(text)["provenance"]["version"] for text in (out, imported)]
    assert version[0] == version[1]


@pytest.mark.parametrize(
    ("source", "words"),
    [(None, "No module named 'mine'"), ("g = 1\n", "no function 'f'"), ("def f(:\n", "Syntax")],
)
def test_code_that_cannot_work_is_a_problem_before_it_is_imported(
    ask, quiz, tmp_path, source, words
):
    """As far as its source shows."""
    quiz.with_suffix(".toml").write_text('scorer = "mine:f"\n')
    if source is not None:
        (tmp_path / "mine.py").write_text(source)

    status, _, err = ask(quiz)

    assert status == 1
    assert words in err


def test_hostile_cells_do_not_reach_the_terminal(ask, tmp_path):
    """Escape sequences in questions and column names are shown by name."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "\x1b[2Jhi", "answer": "x", "\x1b]0;t\x07": 1}) + "\n")

    status, out, err = ask(path)

    assert status == 0
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--set", "input"], 1, "is not NAME=VALUE"),
        (["--set", "inptu=question"], 1, "inptu"),
        (["--set", "input=quesion"], 1, "did you mean 'question'"),
    ],
)
def test_misuse_is_explained(ask, quiz, args, status, words):
    """What is wrong, and what is there."""
    found, _, err = ask(quiz, *args)

    assert found == status
    assert words in err


def test_settings_without_a_file_are_misuse(ask):
    """They are about a file."""
    status, _, err = ask("--set", "a=b")
    assert (status, "need a FILE" in err) == (2, True)
