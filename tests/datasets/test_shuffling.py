"""Options of multiple choices whose order would give the right one away."""

import json
import string

import pytest

from tests.support.runner_stub import DONE, Stub, delta, stream, usage
from workbench.cli import main
from workbench.datasets import load_task
from workbench.errors import TaskError
from workbench.store import open_store

COLUMNS = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
TOLD = {
    "input": "Question",
    "target": "Correct Answer",
    "item": "Record ID",
    "choices": COLUMNS,
}


def written(folder, rows, name="gpqa.csv"):
    """Write a file as GPQA's is: a column for the right option, three for wrong ones."""
    lines = [",".join(["Record ID", "Question", *COLUMNS])]
    lines += [f"r{n},What is {n}?,{','.join(options)}" for n, options in enumerate(rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def of_gpqa(folder, n=40):
    return written(folder, [[f"right {i}", f"x{i}", f"y{i}", f"z{i}"] for i in range(n)])


def load(path, **told):
    return load_task({"path": str(path), **TOLD, **told})


def test_options_are_shuffled_where_the_right_one_is_always_first(tmp_path):
    """With a warning; the letter follows its option, the item keeps its key, and the order is on
    record."""
    task = load(of_gpqa(tmp_path))

    assert any("warning" in n and "first of all 40 items" in n for n in task.notes)
    assert {item.target for item in task.items} == set("ABCD")
    for n, item in enumerate(task.items):
        assert item.item == f"r{n}"
        assert item.choices[string.ascii_uppercase.index(item.target)] == f"right {n}"
        options = [f"right {n}", f"x{n}", f"y{n}", f"z{n}"]
        assert [options[place] for place in item.metadata["choice_order"]] == list(item.choices)
    assert json.loads(task.record(task.items[0]).metadata)["choice_order"]


def test_the_order_is_the_same_in_every_run(tmp_path):
    """Whatever else is in the file, and wherever the item stands; another seed is another order."""
    rows = [[f"right {i}", f"x{i}", f"y{i}", f"z{i}"] for i in range(20)]
    few = {i.item: i.question for i in load(written(tmp_path, rows[:10])).items}
    many = {i.item: i.question for i in load(written(tmp_path, rows)).items}
    other = {i.item: i.question for i in load(written(tmp_path, rows), shuffle=7).items}

    assert few.items() < many.items()
    assert many != other
    assert many.keys() == other.keys()


def test_other_files_keep_their_order_unless_they_are_told(tmp_path):
    """Letters that differ, a single item, `shuffle = false`; `shuffle = true` does it to any
    file."""
    rows = (
        '{"input": "q1", "choices": ["a", "b", "c"], "target": "A"}\n'
        '{"input": "q2", "choices": ["a", "b", "c"], "target": "B"}\n'
    )
    path = tmp_path / "mixed.jsonl"
    path.write_text(rows)
    assert [i.choices for i in load_task(str(path)).items] == [("a", "b", "c")] * 2
    assert "choice_order" in load_task({"path": str(path), "shuffle": True}).items[0].metadata

    kept = load(of_gpqa(tmp_path), shuffle=False)
    assert {i.target for i in kept.items} == {"A"}
    assert not any("warning" in n for n in kept.notes)
    assert load(of_gpqa(tmp_path, 1)).items[0].target == "A"


@pytest.mark.parametrize(
    "placed", ["All of the above", "none of the options above", "A and B", "both (A) and (C)"]
)
def test_options_that_speak_of_places_stay_where_they_are(tmp_path, placed):
    """Their item keeps the order of the file, the others do not."""
    rows = [["right", "x", "y", placed]] + [[f"right {i}", "x", "y", "z"] for i in range(20)]
    first, *others = load(written(tmp_path, rows)).items

    assert (first.choices[0], first.target, "choice_order" in first.metadata) == (
        "right",
        "A",
        False,
    )
    assert {i.target for i in others} > {"A"}


def test_a_letter_of_no_option_is_still_refused(tmp_path):
    """The message is the scorer's, not a fault of the shuffling."""
    path = tmp_path / "bad.jsonl"
    path.write_text('{"input": "q", "choices": ["a", "b"], "target": "Z"}\n')
    with pytest.raises(TaskError, match="no letter of its choices"):
        load_task({"path": str(path), "scorer": "choice", "shuffle": True, "answers": "letter"})


def test_the_prompt_is_the_same_when_it_is_resumed(tmp_path, monkeypatch, capsys):
    """A second launch asks nothing; a second trial asks the same prompts; the answers are graded by
    the moved letter."""
    monkeypatch.chdir(tmp_path)
    of_gpqa(tmp_path, 4)
    (tmp_path / "gpqa.toml").write_text(
        "".join(f"{k} = {json.dumps(v)}\n" for k, v in TOLD.items())
    )

    def answer(seen):
        line = next(x for x in seen.json["messages"][-1]["content"].split("\n") if ") right" in x)
        ended = [delta(finish="stop"), usage(prompt_tokens=9, completion_tokens=2), DONE]
        return stream(delta(f"Answer: {line[0]}"), *ended)

    with Stub(answer) as stub:
        command = [
            "collect",
            "--store",
            "s.duckdb",
            "--base-url",
            stub.url,
            "--model",
            "m",
            "--task",
            "gpqa.csv",
        ]
        assert main(command) == 0
        assert main(command) == 0
        assert stub.n == 4
        assert main([*command, "--trials", "2"]) == 0
        asked = [r.json["messages"][-1]["content"] for r in stub.requests]

    assert "first of all 4 items" in capsys.readouterr().err
    assert sorted(asked[:4]) == sorted(asked[4:])
    store = open_store(tmp_path / "s.duckdb")
    found = (
        "SELECT count(*) AS n, count(DISTINCT item_id) AS items, count(*) FILTER (passed) AS p"
        " FROM traces"
    )
    assert store.sql(found).rows() == [(8, 4, 8)]
