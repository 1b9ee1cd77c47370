"""Any file of the user's becomes a task set: formats, mappings, guesses that are said, and faults
that are placed."""

import contextlib
import json
import time
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import datasets
from workbench.datasets import reading, targets
from workbench.errors import TaskError
from workbench.records import content_id
from workbench.scoring.filling import blanks, fill

ROWS = [
    {"question": "One and one?", "answer": "2", "topic": "sums"},
    {"question": "Two and two?", "answer": "4", "topic": "sums"},
    {"question": "Two by three?", "answer": "6", "topic": "products"},
]


def write(path: Path, rows: list[dict], **options: object) -> Path:
    """Write rows in the format of the suffix."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix in {".csv", ".tsv"}:
        pl.DataFrame(rows).write_csv(
            path, **({"separator": "\t"} if path.suffix == ".tsv" else options)
        )
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- formats
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"])
def test_every_format_gives_the_same_items(tmp_path: Path, suffix: str) -> None:
    """The same rows are the same items with the same ids, whatever the file is."""
    task = datasets.load_task(write(tmp_path / f"quiz{suffix}", ROWS))

    assert [(i.input, i.target, i.tags) for i in task.items] == [
        ("One and one?", "2", ("sums",)),
        ("Two and two?", "4", ("sums",)),
        ("Two by three?", "6", ("products",)),
    ]
    assert [i.item for i in task.items] == [
        content_id(r["question"], [], [r["answer"]])[:12] for r in ROWS
    ]
    assert task.scorer.name == "numeric"
    assert "scorer: numeric (guessed)" in task.notes
    assert task.mapping["input"] == "question (guessed)"


def test_ids_follow_content_and_not_the_place(tmp_path: Path) -> None:
    """A row put before the others leaves their ids as they are; another target is another item."""
    first = datasets.load_task(write(tmp_path / "a.jsonl", ROWS))
    other = [{"question": "New?", "answer": "1"}, ROWS[2], {**ROWS[0], "answer": "3"}, ROWS[1]]
    second = datasets.load_task(write(tmp_path / "a.jsonl", other))

    ids = {i.input: first.record(i).item_id for i in first.items}
    again = {i.input: second.record(i).item_id for i in second.items}
    assert again["Two and two?"] == ids["Two and two?"]
    assert again["Two by three?"] == ids["Two by three?"]
    assert again["One and one?"] != ids["One and one?"]


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ("\ufeffquestion,answer\nGrün?,ja\n".encode(), {}),
        ("question,answer\nGrün?,ja\n".encode("utf-16"), {}),
        ("question,answer\nGrün?,ja\n".encode("utf-32"), {}),
        ("question,answer\nGrün?,ja\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("question;answer\r\nGrün?;ja\r\n".encode(), {}),
        ("question|answer\nGrün?|ja\n".encode(), {"delimiter": "|"}),
    ],
    ids=["bom", "utf-16", "utf-32", "cp1252", "semicolons", "bars"],
)
def test_encodings_and_delimiters_are_told_or_seen(
    tmp_path: Path, content: bytes, more: dict
) -> None:
    """A byte order mark and the commonest separator are seen; the rest is told."""
    (tmp_path / "a.csv").write_bytes(content)

    (item,) = datasets.load_task({"path": str(tmp_path / "a.csv"), **more}).items

    assert (item.input, item.target) == ("Grün?", "ja")


def test_nulls_and_nan_are_empty_cells(tmp_path: Path) -> None:
    """NaN as Python's JSON writes it, null, and a Parquet null are no values; the text "null" is
    one."""
    (tmp_path / "a.jsonl").write_text(
        '{"input": "a", "target": "null", "difficulty": NaN, "cluster": null}\n'
    )
    pl.DataFrame(
        {"input": ["a", "b"], "target": [1.0, 2.5], "difficulty": [None, float("nan")]}
    ).write_parquet(tmp_path / "b.parquet")

    (item,) = datasets.load_task(tmp_path / "a.jsonl").items
    both = datasets.load_task(tmp_path / "b.parquet").items

    assert (item.target, item.difficulty, item.cluster) == ("null", None, None)
    assert [(i.target, i.difficulty) for i in both] == [("1", None), ("2.5", None)]


def test_json_may_hold_its_rows_in_a_field_or_by_key(tmp_path: Path) -> None:
    """A field with the only list, a named one, and an object of objects."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert len(datasets.load_task(path).items) == 3
    path.write_text(json.dumps({"a": {"first": ROWS[:1]}, "b": {"second": ROWS[1:]}}))
    assert len(datasets.load_task({"path": str(path), "rows": "b.second"}).items) == 2
    path.write_text(json.dumps({"k1": ROWS[0], "k2": ROWS[1]}))
    assert [i.item for i in datasets.load_task(path).items] == ["k1", "k2"]
    path.write_text(json.dumps({"train": ROWS, "dev": ROWS}))
    with pytest.raises(TaskError, match=r"several lists \(train, dev\); name the"):
        datasets.load_task(path)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes, rows, or rows of a tiny Parquet file are refused before they are all read."""
    path = write(tmp_path / "a.jsonl", ROWS)
    packed = tmp_path / "b.parquet"
    pl.DataFrame({"input": ["x" * 1000] * 5000, "target": ["y"] * 5000}).write_parquet(packed)

    monkeypatch.setattr(reading, "MAX_ROWS", 2)
    with pytest.raises(TaskError, match="more than 2 rows; split"):
        datasets.load_task(path)
    with pytest.raises(TaskError, match="5,000 rows, more than 2"):
        datasets.load_task(packed)
    monkeypatch.setattr(reading, "MAX_ROWS", 10_000)
    monkeypatch.setattr(reading, "MAX_BYTES", 100_000)
    assert packed.stat().st_size < 100_000
    with pytest.raises(TaskError, match="once unpacked"):
        datasets.load_task(packed)
    monkeypatch.setattr(reading, "MAX_BYTES", 10)
    with pytest.raises(TaskError, match="split the file"):
        datasets.load_task(path)


def test_a_device_is_no_task_file(tmp_path: Path) -> None:
    """A link to an endless device is refused, not read."""
    (tmp_path / "a.csv").symlink_to("/dev/zero")
    with pytest.raises(TaskError, match="not a regular file"):
        datasets.load_task(tmp_path / "a.csv")


def test_many_rows_load_in_seconds(tmp_path: Path) -> None:
    """Ten thousand items take about a second."""
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(10_000)]
    path = write(tmp_path / "a.parquet", rows)
    start = time.perf_counter()

    task = datasets.load_task(path)

    assert len(task.items) == 10_000
    assert time.perf_counter() - start < 10


# ---- mapping
# --------------------------------------------------------------------------------------

TOLD = {
    "input": "{ctx}\n\nQ: {q}",
    "target": "gold",
    "item": "{set}-{n}",
    "scorer": "numeric",
    "tags": ["set", "n"],
    "cluster": "set",
    "difficulty": "n",
    "value_usd": "worth",
    "metadata": {"origin": "src"},
    "task": "mine",
    "version": "3",
    "prompt": "Count.",
    "options": {"tolerance": 0.5},
}
CELLS = {
    "ctx": "Two {q} apples.",
    "q": "How many?",
    "gold": 2,
    "set": "s",
    "n": 1,
    "worth": 0.25,
    "src": "me",
}


@pytest.mark.parametrize("where", ["plan", "beside"])
def test_columns_are_mapped_by_the_plan_or_a_file_beside(tmp_path: Path, where: str) -> None:
    """Both say the same; a template fills in columns, and what they hold is not filled again."""
    path = write(tmp_path / "quiz.jsonl", [CELLS])
    if where == "beside":
        lines = [f"{k} = {json.dumps(v)}\n" for k, v in TOLD.items() if not isinstance(v, dict)]
        tables = ['[metadata]\norigin = "src"\n', "[options]\ntolerance = 0.5\n"]
        (tmp_path / "quiz.toml").write_text("".join(lines + tables))
        task = datasets.load_task(path)
    else:
        task = datasets.load_task({"path": "quiz.jsonl", **TOLD}, folder=tmp_path)

    (item,) = task.items
    assert item == datasets.TaskItem(
        task="mine",
        item="s-1",
        input="Two {q} apples.\n\nQ: How many?",
        target="2",
        scorer="numeric",
        tags=("s", "1"),
        cluster="s",
        difficulty=1.0,
        value_usd=0.25,
        metadata={"origin": "me"},
        options={"tolerance": 0.5},
    )
    assert (task.name, task.prompt, task.record(item).value_usd) == ("mine", "Count.", 0.25)
    assert task.score(item, "Answer: 2.4").passed


def test_the_plan_goes_before_the_file_beside(tmp_path: Path) -> None:
    """What the plan says is taken; what it leaves open is the file's."""
    path = write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.toml").write_text('scorer = "exact"\nversion = "7"\n')

    task = datasets.load_task({"path": str(path), "scorer": "numeric"})

    assert (task.scorer.name, task.task.version) == ("numeric", "7")


def test_a_shipped_set_may_be_graded_otherwise() -> None:
    """A table that names a shipped set lays its own scorers over it, as another version of the
    task."""
    usual = datasets.load_task("arithmetic")
    other = datasets.load_task({"task": "arithmetic", "scorer": ["numeric", "exact"]})

    assert other.items[0].scorers == ("numeric", "exact")
    assert other.task.task_id != usual.task.task_id


FAULTS = [
    (
        "missing column",
        {"input": "quesion"},
        "input names the column 'quesion'.*did you mean 'question'",
    ),
    ("missing in a template", {"input": "{contxt}: {question}"}, "input names the column 'contxt'"),
    ("brace alone", {"input": "{question"}, "a brace stands alone at character 1"),
    ("attribute", {"input": "{question.__class__}"}, "names the column 'question.__class__'"),
    (
        "unknown field",
        {"inptu": "question"},
        "task 'PATH' of the plan: .*'inptu'; did you mean 'input'",
    ),
    ("wrong type", {"input": 3}, "of the plan: input = 3 must be a text"),
    ("unknown scorer", {"scorer": "numerik"}, "did you mean 'numeric'"),
    (
        "option",
        {"options": {"tolerance": "wide"}},
        "a.jsonl:1: tolerance = 'wide' is no number from 0 up",
    ),
    ("nan option", {"options": {"tolerance": float("nan")}}, "tolerance = nan is no number"),
    ("encoding", {"encoding": "klingon"}, "encoding = 'klingon' is not known"),
]


@pytest.mark.parametrize(("told", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_wrong_mapping_is_refused_with_what_there_is(
    tmp_path: Path, told: dict, words: str
) -> None:
    """The error names the field, the column and the nearest one; nothing in a template is
    evaluated."""
    path = write(tmp_path / "a.jsonl", ROWS)

    with pytest.raises(TaskError, match=words.replace("PATH", ".*")):
        datasets.load_task({"path": str(path), **told})


def test_all_faults_are_found_in_one_go(tmp_path: Path) -> None:
    """The first is the error, the others are counted; a preview has them with line and column."""
    rows = [{"question": f"q{i}", "answer": str(i) if i % 2 else "x"} for i in range(60)]
    path = write(tmp_path / "a.jsonl", rows)

    loaded = datasets.examine({"path": str(path), "scorer": "numeric"})

    assert (len(loaded.tasks.items), loaded.n_faults, len(loaded.faults)) == (30, 30, 20)
    assert loaded.faults[1] == f"{path}:3: target 'x' is not a number (column 'answer')"
    with pytest.raises(TaskError, match=r"a.jsonl:1: .* \(and 29 more"):
        datasets.load_task({"path": str(path), "scorer": "numeric"})


def test_incomplete_rows_are_left_out_only_when_told(tmp_path: Path) -> None:
    """Without a word they are faults; told, they are counted."""
    path = write(tmp_path / "a.jsonl", [*ROWS, {"question": "And?"}, {"answer": "3"}])

    task = datasets.load_task({"path": str(path), "skip_incomplete": True})

    assert len(task.items) == 3
    assert "2 rows without a question or a target left out" in task.notes
    faults = datasets.examine({"path": str(path), "scorer": "exact"}).faults
    assert faults == [
        f"{path}:5: `input` is empty (column 'question')",
        f"{path}:4: the target is empty; scorer 'exact' needs one (column 'answer')",
    ]


def test_a_fault_that_speaks_of_emptiness_leaves_no_row_out(tmp_path: Path) -> None:
    """Only a row without a question is incomplete, whatever a cell or the path says."""
    folder = tmp_path / "is empty"
    folder.mkdir()
    rows = [{"question": "q", "answer": "1", "difficulty": "x"}, *ROWS]
    path = write(folder / "a.jsonl", rows)
    with pytest.raises(TaskError, match="difficulty"):
        datasets.load_task({"path": str(path), "skip_incomplete": True})


def test_repeated_rows_are_said(tmp_path: Path) -> None:
    """The same row twice is one item; the same question with another answer stays, and is said
    too."""
    path = write(tmp_path / "a.jsonl", [*ROWS, ROWS[1], {**ROWS[0], "answer": "11"}])

    task = datasets.load_task(path)

    assert len(task.items) == 4
    assert "left out 1 row equal to an earlier one (first: 4)" in task.notes
    assert any(n.startswith("1 item with the question of an earlier one") for n in task.notes)


def test_an_unused_column_that_nearly_is_ours_is_said(tmp_path: Path) -> None:
    """`choises` is not silently dropped."""
    path = write(tmp_path / "a.jsonl", [{"input": "q", "target": "t", "choises": ["a"]}])

    assert "column 'choises' is not used; did you mean 'choices'?" in datasets.load_task(path).notes


def test_a_column_called_task_is_no_header(tmp_path: Path) -> None:
    """Only a first line that is alone in having `task` is about the set."""
    path = write(tmp_path / "a.jsonl", [{**row, "task": "x"} for row in ROWS])
    assert len(datasets.load_task(path).items) == 3


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=8), min_size=3, max_size=3))
def test_filling_puts_every_value_where_its_name_was(values: dict[str, str]) -> None:
    """Property: braces in values stay as they are; doubled braces write one."""
    text = fill("{a}|{{b}}|{b}{c}", values.__getitem__)

    assert text == f"{values['a']}|{{b}}|{values['b']}{values['c']}"
    assert blanks("{a}|{{b}}|{b}{c}") == ["a", "b", "c"]


CELL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(
    [
        "question",
        "input",
        "answer",
        "target",
        "choices",
        "item",
        "tags",
        "metadata",
        "tests",
        "task",
        "difficulty",
        "scorer",
        "A",
        "B",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(NAMES, CELL, max_size=6), max_size=4),
    st.sampled_from([".jsonl", ".json"]),
)
def test_whatever_the_rows_hold_is_read_or_refused(
    tmp_path_factory, rows: list[dict], suffix: str
) -> None:
    """Property: a file is a task set whose items can be recorded, or a TaskError; nothing else
    happens."""
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    text = json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows))
    path.write_text(text)

    try:
        task = datasets.load_task(path)
    except TaskError:
        return

    ids = [msgspec.json.encode(task.record(i)) for i in task.items]
    assert len(set(ids)) == len(ids) > 0
    assert task == datasets.load_task(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(reading.SUFFIXES))
def test_whatever_the_bytes_are_is_read_or_refused(
    tmp_path_factory, content: bytes, suffix: str
) -> None:
    """Property: no bytes in any format lead to anything but items or a TaskError."""
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(b"question,answer\n" * (suffix == ".csv") + content)
    with contextlib.suppress(TaskError):
        datasets.load_task(path)


# ---- other people's files
# -------------------------------------------------------------------------


def test_worked_solutions_give_their_answers(tmp_path: Path) -> None:
    """GSM8K's, MATH's, and a last line with its mark; one row without the mark leaves all as they
    are."""
    cases = {
        "#### 1,234": ["So 3.\n#### 1,234", "x\n#### -5"],
        "A: 7": ["So it is.\nA: 7", "Hm.\nAnswer: 5."],
        r"\boxed{\frac{1}{2}}": [r"Then \boxed{\frac{1}{2}} it is", r"\boxed{3}"],
    }
    wanted = [["1,234", "-5"], ["7", "5"], [r"\frac{1}{2}", "3"]]

    for texts, answers in zip(cases.values(), wanted, strict=True):
        found, note = targets.final_answers([(t,) for t in texts])
        assert [f for (f,) in found] == answers
        assert note is not None
    mixed = [("a #### 1",), ("2",)]
    assert targets.final_answers(mixed) == (mixed, None)


CHOICES = [
    ("letters", ["B", "a)"], ["B", "A"], None),
    ("indexes from 0", ["0", "2"], ["A", "C"], "from 0"),
    ("indexes from 1", ["3", "1"], ["C", "A"], "from 1"),
    ("texts", ["y", "x"], ["B", "A"], "the options' texts"),
]


@pytest.mark.parametrize(
    ("given_", "wanted", "note"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_answers_of_a_choice_become_letters(
    given_: list[str], wanted: list[str], note: str | None
) -> None:
    """What the targets are is found from all rows together."""
    found, said = targets.to_letters([(g,) for g in given_], [("x", "y", "z")] * 2, None, "f")

    assert [f for (f,) in found] == wanted
    assert (said is None) if note is None else (note in str(said))


def test_ambiguous_indexes_are_asked_about() -> None:
    """1 and 2 of three options may be counted from 0 or from 1: nobody guesses that."""
    with pytest.raises(TaskError, match=r"from 0 or numbers of the options, from 1, .* answers = "):
        targets.to_letters([("1",), ("2",)], [("x", "y", "z")] * 2, None, "f")
    assert targets.to_letters([("1",)], [("x", "y")], "index1", "f")[0] == [("A",)]
    with pytest.raises(TaskError, match="the options' texts or numbers"):
        targets.to_letters([("1",)], [("0", "2", "1")], None, "f")


MMLU = [
    (
        "list",
        [
            {"question": "q", "choices": ["w", "x", "y", "z"], "answer": 3},
            {"question": "r", "choices": ["w", "x", "y", "z"], "answer": 0},
        ],
    ),
    (
        "columns",
        [
            {"question": "q", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "D"},
            {"question": "r", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "A"},
        ],
    ),
    (
        "arc",
        [
            {
                "question": "q",
                "choices": {"text": ["w", "x", "y", "z"], "label": list("ABCD")},
                "answerKey": "D",
            },
            {
                "question": "r",
                "choices": {"text": ["w", "x", "y", "z"], "label": list("ABCD")},
                "answerKey": "A",
            },
        ],
    ),
    (
        "options",
        [
            {
                "question": "q",
                "option_a": "w",
                "option_b": "x",
                "option_c": "y",
                "option_d": "z",
                "label": "d",
            },
            {
                "question": "r",
                "option_a": "w",
                "option_b": "x",
                "option_c": "y",
                "option_d": "z",
                "label": "a",
            },
        ],
    ),
    (
        "endings",
        [
            {"ctx": "q", "endings": ["w", "x", "y", "z"], "label": "3"},
            {"ctx": "r", "endings": ["w", "x", "y", "z"], "label": "0"},
        ],
    ),
    (
        "written",
        [
            {"question": "q", "choices": '["w", "x", "y", "z"]', "answer": "z"},
            {"question": "r", "choices": "w|x|y|z", "answer": "w"},
        ],
    ),
]


@pytest.mark.parametrize("rows", [m[1] for m in MMLU], ids=[m[0] for m in MMLU])
def test_multiple_choice_as_others_write_it(tmp_path: Path, rows: list[dict]) -> None:
    """MMLU's, ARC's and HellaSwag's shapes are the same items."""
    task = datasets.load_task(write(tmp_path / "a.jsonl", rows))

    assert [(i.input, i.target, i.choices, i.scorer) for i in task.items] == [
        ("q", "D", ("w", "x", "y", "z"), "choice"),
        ("r", "A", ("w", "x", "y", "z"), "choice"),
    ]
    assert task.score(task.items[0], "Answer: D").passed


def test_options_may_be_the_same_for_all(tmp_path: Path) -> None:
    """Names that are no columns are the options; a mixture is a mistake."""
    path = write(tmp_path / "a.jsonl", [{"question": "Is it?", "answer": "no"}])

    (item,) = datasets.load_task({"path": str(path), "choices": ["yes", "no"]}).items

    assert (item.question, item.target) == ("Is it?\nA) yes\nB) no", "B")
    with pytest.raises(TaskError, match="choices names the column 'no'"):
        datasets.load_task({"path": str(path), "choices": ["question", "no"]})


def test_several_truths_are_all_accepted(tmp_path: Path) -> None:
    """A list of targets: any of them is right, and the record keeps them."""
    rows = [
        {
            "context": "The Seine.",
            "question": "City?",
            "answers": {"text": ["Paris", "Paris, France"], "answer_start": [1, 1]},
        }
    ]
    task = datasets.load_task(write(tmp_path / "a.jsonl", rows))

    (item,) = task.items
    assert (item.input, item.targets) == ("The Seine.\n\nCity?", ("Paris", "Paris, France"))
    assert [
        bool(task.score(item, f"Answer: {t}").passed) for t in ("paris", "Paris, France", "Lyon")
    ] == [True, True, False]
    assert task.record(item).metadata == '{"accepted":["Paris, France"]}'


def test_code_tasks_are_recognised(tmp_path: Path) -> None:
    """HumanEval's and MBPP's columns become tests, entry point, setup and the text that code goes
    on from."""
    human = [
        {
            "task_id": "H/0",
            "prompt": 'def f(x):\n    """Double."""\n',
            "entry_point": "f",
            "canonical_solution": "    return 2*x",
            "test": "def check(c):\n    assert c(2) == 4\n",
        }
    ]
    mbpp = [
        {
            "task_id": 1,
            "text": "Write f.",
            "test_list": ["assert f(2) == 4"],
            "test_setup_code": "import math",
        }
    ]

    (a,) = datasets.load_task(write(tmp_path / "a.jsonl", human)).items
    (b,) = datasets.load_task(write(tmp_path / "b.jsonl", mbpp)).items

    assert (a.item, a.scorer, a.target) == ("H/0", "unit_tests", "")
    assert a.metadata == {
        "tests": human[0]["test"],
        "entry_point": "f",
        "prefix": human[0]["prompt"],
    }
    assert (b.item, b.scorer) == ("1", "unit_tests")
    assert b.metadata == {"tests": ["assert f(2) == 4"], "setup": "import math"}


def test_gsm8k_scores_as_published(shared_data: Path) -> None:
    """Reading the real file and scoring its four systems' solutions gives their published
    counts."""
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    task = datasets.load_task(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    systems = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

    right = dict.fromkeys(systems, 0)
    for item, row in zip(task.items, rows, strict=True):
        for system in systems:
            passed = task.score(item, row[system]["solution"]).passed
            right[system] += bool(passed)

    assert task.scorer.name == "numeric"
    assert right == dict(zip(systems, (286, 515, 458, 742), strict=True))


# ---- cells, by the rule of all tables
# ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header", "expected"),
    [
        ("input;target;difficulty\nq1;a;0,5\nq2;b;1,25\n", {}, [0.5, 1.25]),
        ('input,target,difficulty\nq1,a,"1,234.5"\nq2,b,n/a\n', {}, [1234.5, None]),
        ("input;target;difficulty\nq1;a;1,234\nq2;b;0,5\n", {}, [1.234, 0.5]),
        ("input;target;difficulty\nq1;a;1,234\nq2;b;\n", {"decimal": ","}, [1.234, None]),
        ("input;target;difficulty\nq1;a;1.234\nq2;b;0,5\n", {}, [1234, 0.5]),
        ("input;target;difficulty\nq1;a;1.234\nq2;b;0.5\n", {}, [1.234, 0.5]),
        ("input;target;difficulty;value_usd\nq1;a;1.234;0,5\n", {}, [1234]),
        ("input;target;difficulty\nq1;a;1.234\n", {"decimal": "."}, [1.234]),
        ("input,target,difficulty\nq1,a,1.234\n", {}, [1.234]),
    ],
    ids=[
        "commas",
        "thousands",
        "told by another row",
        "told by the header",
        "semicolons, told by a comma",
        "semicolons, told by a point",
        "semicolons, told by another column",
        "semicolons, told by the header",
        "commas between cells",
    ],
)
def test_numbers_are_read_with_their_decimal_mark(
    tmp_path: Path, text: str, header: dict[str, str], expected: list[float | None]
) -> None:
    """As every other table is read."""
    path = tmp_path / "quiz.csv"
    path.write_text(text)

    task = datasets.load_task({"path": str(path), **header})

    assert [i.difficulty for i in task.items] == expected


def test_a_point_between_semicolons_is_asked_about_until_something_tells(tmp_path: Path) -> None:
    """1.234 is a thousand where the comma is the decimal mark, as semicolons let expect."""
    path = tmp_path / "quiz.csv"
    path.write_text("input;target;difficulty\nq1;a;1.234\nq2;b;2.345\n")

    with pytest.raises(TaskError, match=r"'1\.234' is ambiguous: set decimal"):
        datasets.load_task(str(path))


@pytest.mark.parametrize("cell", ["1,234", "hard", "true"])
def test_a_number_that_is_none_or_could_be_two_is_refused(tmp_path: Path, cell: str) -> None:
    """With its column."""
    path = tmp_path / "quiz.csv"
    path.write_text(f'input,target,difficulty\nq,a,"{cell}"\n')

    with pytest.raises(TaskError, match=r"quiz\.csv:2: .*difficulty"):
        datasets.load_task(str(path))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["1.0", "2.0"], ["1", "2"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["007", "1.0"], ["007", "1.0"]),
    ],
)
def test_a_key_is_the_same_item_as_in_a_table_of_answers(
    tmp_path: Path, keys: list[str], expected: list[str]
) -> None:
    """1.0 in a column of whole numbers is 1; a name stays a name."""
    path = tmp_path / "quiz.csv"
    path.write_text("item,input,target\n" + "".join(f"{k},q{k},a\n" for k in keys))

    assert [i.item for i in datasets.load_task(str(path)).items] == expected
