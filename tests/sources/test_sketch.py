"""Sketches of mappings: they say what is clear, and work on the file that they were made of."""

import csv
import io
import json
import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import Configuration, Item, Trace
from workbench.sources import FileReport
from workbench.sources.tables.sketch import sketch


def imported(path: Path) -> tuple[list, FileReport]:
    """Import a file with its own sketch."""
    mapping = path.with_suffix(".toml")
    mapping.write_text(sketch(path))
    report = FileReport(path)
    return list(sources.read(path, report=report, mapping=mapping)), report


def of(records: list, kind: type) -> list:
    return [r for r in records if isinstance(r, kind)]


def test_a_sketch_knows_the_usual_names_and_units(tmp_path: Path) -> None:
    """With units by the end of a name, and percentages by their size."""
    path = tmp_path / "runs.csv"
    path.write_text(
        "Question ID,modelName,latency_ms,Accuracy,promptTokens,tokens_out,cost_usd,at,odd\n"
        "q1,gpt-5,1500,62.5,10,20,0.5,2026-10-01T10:00:00Z,x\n"
        "q2,gpt-5,250,,11,21,,2026-10-01T10:00:05Z,\n"
    )

    records, report = imported(path)

    a, b = of(records, Trace)
    assert [i.item for i in of(records, Item)] == ["q1", "q2"]
    assert of(records, Configuration)[0].model == "gpt-5"
    assert (a.e2e_s, a.score, b.score) == (1.5, 0.625, None)
    call = a.calls[0]
    assert (call.input_tokens, call.output_tokens, call.billed_cost_usd) == (10, 20, 0.5)
    assert report.notes == {"columns not read: odd": 1}
    assert "# \"odd\"  # 'x'" in sketch(path)


def test_a_sketch_finds_the_rows_of_a_document(tmp_path: Path) -> None:
    """The list whose objects have names that are known, and the fields around it."""
    path = tmp_path / "runs.json"
    rows = [{"id": n, "usage": {"prompt_tokens": 5}, "log": [{"a": 1}] * 9} for n in range(2)]
    path.write_text(json.dumps({"meta": [{"x": 1}], "model": "m", "data": {"samples": rows}}))

    records, _ = imported(path)

    assert 'rows = "data.samples[]"' in sketch(path)
    assert of(records, Configuration)[0].model == "m"
    assert [t.calls[0].input_tokens for t in of(records, Trace)] == [5, 5]


def test_what_is_missing_is_a_line_to_fill_in(tmp_path: Path) -> None:
    """The task is the file's name, the item the row's number; nobody knows the model."""
    path = tmp_path / "quiz.jsonl"
    path.write_text('{"x": 1}\n{"x": 2}\n')

    records, _ = imported(path)

    assert [i.item for i in of(records, Item)] == ["1", "2"]
    assert of(records, Configuration)[0].model == "unknown"
    assert "write its name" in sketch(path)


def test_a_column_that_the_file_refuses_is_a_comment_with_the_reason(tmp_path: Path) -> None:
    """Although its first cells were sound."""
    path = tmp_path / "runs.csv"
    path.write_text("id,model,score\n" + "".join(f"{n},m,0.5\n" for n in range(300)) + "x,m,good\n")

    records, report = imported(path)

    assert "# score = " in sketch(path)
    assert "line 302, column 'score': 'good'" in sketch(path)
    assert len(of(records, Trace)) == report.rows_in == 301


def test_an_item_that_some_rows_lack_is_the_number_of_the_row(tmp_path: Path) -> None:
    """The sketch works on every row."""
    path = tmp_path / "runs.jsonl"
    path.write_text('{"id": "a", "model": "m"}\n{"model": "m"}\n')

    records, _ = imported(path)

    assert [i.item for i in of(records, Item)] == ["1", "2"]
    assert '# item = "id"  # refused' in sketch(path)


def test_repeats_are_trials(tmp_path: Path) -> None:
    """Where no column numbers them."""
    path = tmp_path / "runs.csv"
    path.write_text("id,model,passed\na,m,1\na,m,0\n")

    assert [t.trial for t in of(imported(path)[0], Trace)] == [0, 1]


@pytest.mark.parametrize(("name", "content"), [("a.csv", "id,model\n"), ("a.bin", "\0")])
def test_a_file_without_rows_has_no_sketch(tmp_path: Path, name: str, content: str) -> None:
    """An error of the import."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ImportFormatError, match=name):
        sketch(path)


NAMES = [
    "id",
    "model",
    "score",
    "a.b",
    "^x",
    "@y",
    "{z}",
    "latency_ms",
    'q"',
    "é",
    "passed",
    "time",
]
CELLS = [
    "1",
    "",
    "x",
    "n/a",
    "1,5",
    "1.234",
    "{}",
    "[1]",
    '{"k": 1}',
    "2026-01-01",
    'say "hi"',
    "-1",
]


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True),
    rows=st.lists(st.lists(st.sampled_from(CELLS), min_size=6, max_size=6), min_size=1, max_size=5),
    other=st.text(string.printable, max_size=8),
)
def test_the_sketch_of_any_table_works_on_it(
    names: list[str], rows: list[list[str]], other: str
) -> None:
    """Whatever the names and cells; or there is an error of ours."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names, *([*row[: len(names) - 1], other] for row in rows)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        path.write_text(text.getvalue(), newline="")
        try:
            mapping = sketch(path)
        except ImportFormatError:
            return
        Path(folder, "mine.toml").write_text(mapping)
        assert list(sources.read(path, mapping=Path(folder, "mine.toml")))
