"""Tables of rows with a mapping: every kind of file, units, faults, checks."""

import csv
import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import Configuration, Item, Price, Result, Run, Task, Trace
from workbench.sources import FileReport
from workbench.sources.units import convert

ROWS = [
    {"q": "a", "model": "m1", "verdict": "ok", "in": 10, "out": 20, "think": 5, "ms": 1500},
    {"q": "b", "model": "m1", "verdict": "bad", "in": 11, "out": 21, "think": 6, "ms": 250},
]
MAPPING = """
title = "made by hand"
rows = "{rows}"
[constants]
task = "quiz"
strategy = "direct"
[columns]
item = "q"
model = "model"
passed = {{ column = "verdict", map = {{ ok = true, bad = false }} }}
input_tokens = "in"
output_tokens = "out"
reasoning_tokens = "think"
e2e_s = {{ column = "ms", unit = "ms" }}
"""


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows in the format that the suffix names."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def mapping(folder: Path, text: str = MAPPING, rows: str = "") -> Path:
    path = folder / "mine.toml"
    path.write_text(text.format(rows=rows) if text is MAPPING else text)
    return path


def load(path: Path, mapping: str | Path | None = None) -> tuple[list, FileReport]:
    report = FileReport(path)
    return list(sources.read(path, report=report, mapping=mapping)), report


def of(records: list, kind: type) -> list:
    return [r for r in records if isinstance(r, kind)]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".yaml", ".parquet"])
def test_every_kind_of_file_gives_the_same_traces(tmp_path: Path, suffix: str) -> None:
    """The format is only the wrapping."""
    records, report = load(write(tmp_path / f"rows{suffix}", ROWS), mapping(tmp_path))

    a, b = of(records, Trace)
    assert [type(r) for r in records[:4]] == [Run, Task, Item, Configuration]
    assert (a.passed, a.score, a.e2e_s) == (True, 1.0, 1.5)
    assert (b.passed, b.score, b.e2e_s) == (False, 0.0, 0.25)
    assert [c.input_tokens for t in (a, b) for c in t.calls] == [10, 11]
    assert [c.output_tokens for t in (a, b) for c in t.calls] == [20, 21]
    assert [c.reasoning_tokens for t in (a, b) for c in t.calls] == [5, 6]
    assert (report.rows_in, report.rows_out) == (2, 2)
    assert report.accounted
    assert report.adds_up
    assert report.format == "table:mine"


def test_importing_twice_gives_the_same_ids(tmp_path: Path) -> None:
    """The run is the file's content, whatever its name and place."""
    first, _ = load(write(tmp_path / "rows.csv", ROWS), mapping(tmp_path))
    again, _ = load(write(tmp_path / "other.csv", ROWS), mapping(tmp_path))

    assert [t.trace_id for t in of(first, Trace)] == [t.trace_id for t in of(again, Trace)]
    assert of(again, Run)[0].origin == "other.csv"


def test_rows_below_the_root_with_fields_beside_them(tmp_path: Path) -> None:
    """A ^ reaches a field beside the rows, a dot goes into an object, @ is about the file."""
    data = {"about": {"model": "m9"}, "run": 3, "data": {"list": [{"id": 7, "u": {"o": 12}}]}}
    path = tmp_path / "deep.json"
    path.write_text(json.dumps(data))
    text = """
    rows = "data.list"
    [columns]
    task = "@stem"
    item = "id"
    model = "^about.model"
    trial = { column = "^run", offset = 1 }
    output_tokens = "u.o"
    """

    records, _ = load(path, mapping(tmp_path, text))

    [trace], [configuration] = of(records, Trace), of(records, Configuration)
    assert configuration.model == "m9"
    assert trace.trial == 4
    assert trace.calls[0].output_tokens == 12
    assert of(records, Task)[0].task == "deep"


@pytest.mark.parametrize(
    ("field", "unit", "cell", "expected"),
    [
        ("e2e_s", "ms", 1500, 1.5),
        ("e2e_s", "min", "2", 120),
        ("ttft_s", "ns", 5e8, 0.5),
        ("energy_j", "kWh", 0.001, 3600),
        ("energy_j", "Wh", "1", 3600),
        ("score", "percent", "62.5%", 0.625),
        ("billed_cost_usd", "cent", "1,250", 12.5),
        ("input_tokens", "ktok", 1.5, 1500),
    ],
)
def test_units_are_converted(tmp_path: Path, field: str, unit: str, cell: object, expected) -> None:
    """Seconds, joules, dollars, tokens and 0..1, whatever the file counts in."""
    path = write(tmp_path / "rows.jsonl", [{"x": cell}])
    text = f"""
    [constants]
    task = "t"
    item = "i"
    model = "m"
    [columns]
    {field} = {{ column = "x", unit = "{unit}" }}
    """

    [trace] = of(load(path, mapping(tmp_path, text))[0], Trace)

    value = trace.energy[0].energy_j if field == "energy_j" else None
    value = getattr(trace.calls[0], field, value)
    assert (trace.score if field == "score" else value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        ("bool", "Yes", True), ("bool", 0, False), ("bool", False, False), ("float", True, 1.0),
        ("int", "1,000", 1000), ("int", 3.0, 3), ("int", "-4", -4), ("text", 3.0, "3"),
        ("text", 2.5, "2.5"), ("text", [1, {"a": None}], '[1,{"a":null}]'), ("text", True, "True"),
        ("time", "2026-01-02T03:00:00+01:00", dt.datetime(2026, 1, 2, 2, tzinfo=dt.UTC)),
        ("time", "2026-01-02 03:00", dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)),
        ("time", 1767323045, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("time", 1767323045000, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
    ],
)  # fmt: skip
def test_cells_become_the_columns_type(kind: str, cell: object, expected: object) -> None:
    """Flags, thousands, dates and seconds since 1970."""
    assert convert(cell, kind) == expected


@pytest.mark.parametrize(
    ("kind", "cell"),
    [("bool", "maybe"), ("int", [1]), ("float", "inf"), ("float", None), ("time", "soon"),
     ("time", 1e30), ("int", 2**70), ("float", "x" * 500)],
)  # fmt: skip
def test_a_cell_of_another_type_is_an_error(kind: str, cell: object) -> None:
    """Short, whatever the cell holds."""
    with pytest.raises(ImportFormatError, match=f"is no {kind}") as caught:
        convert(cell, kind)

    assert len(str(caught.value)) < 300


def test_unknown_cells_are_null_never_zero(tmp_path: Path) -> None:
    """Empty, NaN, n/a and the values that a mapping names as unknown."""
    cells = ["", "nan", "N/A", "None", "0", "0.00"]
    path = write(tmp_path / "rows.csv", [{"q": i, "cost": c} for i, c in enumerate(cells)])
    text = """
    [constants]
    task = "t"
    model = "m"
    [columns]
    item = "q"
    billed_cost_usd = { column = "cost", null_if = [0] }
    """

    traces = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert [t.calls[0].billed_cost_usd for t in traces] == [None] * 6


def test_a_text_none_is_text(tmp_path: Path) -> None:
    """An answer may well be the word None."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "a": "None"}])
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\nanswer="a"'

    [trace] = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert trace.answer == "None"


def test_nan_and_infinity_in_json_are_null_and_told(tmp_path: Path) -> None:
    """Python writes them though JSON has none."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "1", "s": NaN}\n{"q": "2", "s": -Infinity}\n{"q": "3", "s": 0.5}\n')
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\nscore="s"'

    records, report = load(path, mapping(tmp_path, text))

    assert [t.score for t in of(records, Trace)] == [None, None, 0.5]
    assert report.notes == {"NaN or infinite numbers, read as null": 2}


BASE = '[constants]\ntask="t"\nmodel="m"\nitem="i"\n[columns]\n'


@pytest.mark.parametrize(
    ("name", "content", "text", "parts"),
    [
        ("a.csv", b"x,y\n1,2\n1,2,3\n", BASE + 'score="x"', ["a.csv, line 3", "3 cells", "2"]),
        ("a.csv", b"x,y\n1\n", BASE + 'score="x"', ["a.csv, line 2", "1 cells"]),
        ("a.csv", b"x,x\n1,2\n", BASE + 'score="x"', ["line 1", "repeated"]),
        ("a.csv", b'x\n"1\n', BASE + 'score="x"', ["a.csv, line 2"]),
        ("a.csv", b"x\nabc\n", BASE + 'score="x"', ["a.csv, line 2", "'x'", "'abc' is no float"]),
        ("a.csv", b"x\n1.5\n", BASE + 'input_tokens="x"', ["line 2", "not a whole number"]),
        ("a.csv", b"x\n" + b"9" * 25, BASE + 'input_tokens="x"', ["line 2", "64 bits"]),
        ("a.csv", b"x\n1\n", BASE + 'score="points"', ["mine", "score = 'points'", "a.csv"]),
        ("a.csv", b"points\n1\n", BASE + 'score="pionts"', ["nearest name is 'points'"]),
        ("a.csv", "x\nä".encode("latin-1"), BASE + 'answer="x"', ["not UTF-8 at byte 2"]),
        ("a.csv", "x\n1".encode("utf-16"), BASE + 'score="x"', ["UTF-16"]),
        ("a.json", b'[{"x": 1', BASE + 'score="x"', ["a.json"]),
        ("a.json", b"", BASE + 'score="x"', ["empty"]),
        ("a.json", b'{"x": 1}', 'rows="r"\n' + BASE + 'score="x"', ["no 'r'", "it has x"]),
        ("a.json", b"[1, 2]", BASE + 'score="x"', ["[0]", "must be an object"]),
        ("a.json", b'[{"x": 1}]', BASE + 'score="^y"', ["'^y'", "beside its rows"]),
        ("a.json", b"[" * 100_000, BASE + 'score="x"', ["a.json"]),
        ("a.json", b'[{"x": "\xff"}]', BASE + 'score="x"', ["a.json", "not UTF-8 at byte"]),
        ("a.json", b'[{"x": 1e999}]', BASE + 'score="x"', ["a.json, [0]", "out of range"]),
        ("a.jsonl", b'{"x": 1}\n{"x"\n', BASE + 'score="x"', ["a.jsonl, line 2"]),
        ("a.yaml", b"- x: [1\n", BASE + 'score="x"', ["a.yaml is no YAML"]),
        ("a.yaml", b"x: 1\n", BASE + 'score="x"', ["no list of rows"]),
        ("a.parquet", b"PAR1 nothing", BASE + 'score="x"', ["a.parquet is no Parquet file"]),
        ("a.bin", b"\0\1\2", BASE + 'score="x"', ["a.bin is no table"]),
        ("a.csv", b"x\n1\n", '[columns]\nitem="x"', ["line 2", "no task", "[constants]"]),
        ("a.csv", b"x\n1\n", '[columns]\nitme="x"', ["unknown field 'itme'", "item"]),
        ("a.csv", b"x\n1\n", '[colums]\nitem="x"', ["unknown section", "columns"]),
        ("a.csv", b"x\n1\n", '[columns]\nitem={unit="ms"}', ["[columns] item must be"]),
        ("a.csv", b"x\n1\n", BASE + 'e2e_s={column="x",unit="msec"}', ["unit", "ms"]),
        ("a.csv", b"x\n1\n", "[columns", ["mine.toml is not TOML"]),
        ("a.csv", b"x\n1\n", 'kind = "rows"', ["kind 'rows'", "traces"]),
    ],
)
def test_bad_input_names_file_place_and_cause(
    tmp_path: Path, name: str, content: bytes, text: str, parts: list[str]
) -> None:
    """A clear error, not a traceback, and nothing guessed."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ImportFormatError) as caught:
        load(path, mapping(tmp_path, text))

    for part in parts:
        assert part in str(caught.value)


def test_a_mapping_that_is_not_there_names_the_shipped_ones(tmp_path: Path) -> None:
    """So that one sees what could have been meant."""
    path = write(tmp_path / "rows.csv", ROWS)

    with pytest.raises(ImportFormatError, match=r"aider.*pricing_reversal"):
        load(path, "no_such_mapping")


def test_a_missing_file_is_an_import_error(tmp_path: Path) -> None:
    """Errors of the system do not leak."""
    with pytest.raises(ImportFormatError, match="cannot be read"):
        load(tmp_path / "none.csv", mapping(tmp_path))


def test_an_optional_column_may_be_missing(tmp_path: Path) -> None:
    """Leaderboards grow columns."""
    path = write(tmp_path / "rows.csv", [{"q": "1"}])
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\n'
    text += 'effort={column="effort", optional=true}'

    [configuration] = of(load(path, mapping(tmp_path, text))[0], Configuration)

    assert configuration.effort is None


def test_multi_line_cells_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """And the place in an error counts lines of the file, not rows."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfq,"a"\r\n1,"two\nlines, ""quoted"""\r\n2,x\r\n')
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\nanswer="a"'

    records, _ = load(path, mapping(tmp_path, text))

    assert [t.answer for t in of(records, Trace)] == ['two\nlines, "quoted"', "x"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Comma, semicolon and tab."""
    path = tmp_path / "rows.csv"
    path.write_text(f"q{delimiter}s\na{delimiter}1\n")
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\nscore="s"'

    assert [t.score for t in of(load(path, mapping(tmp_path, text))[0], Trace)] == [1.0]


def test_a_repeated_item_and_trial_is_reported_and_the_first_kept(tmp_path: Path) -> None:
    """Two rows cannot both be the same trial."""
    path = write(tmp_path / "rows.csv", [{**ROWS[0]}, {**ROWS[0], "out": 99}])

    records, report = load(path, mapping(tmp_path))

    assert [t.calls[0].output_tokens for t in of(records, Trace)] == [20]
    assert report.duplicates.n == 1
    assert "line 3: item 'a', trial 0" in report.duplicates.kept[0]
    assert report.accounted


def test_repeats_can_be_counted_as_trials(tmp_path: Path) -> None:
    """Files of samples often have no column for it."""
    path = write(tmp_path / "rows.csv", [ROWS[0], ROWS[1], ROWS[0]])
    text = MAPPING.format(rows="") + 'trial = "@repeat"\n'

    records, report = load(path, mapping(tmp_path, text))

    assert [t.trial for t in of(records, Trace)] == [0, 0, 1]
    assert report.duplicates.n == 0


def test_a_row_number_can_name_the_item(tmp_path: Path) -> None:
    """For tables without a key."""
    path = write(tmp_path / "rows.csv", ROWS)
    text = MAPPING.format(rows="").replace('item = "q"', 'item = "@row"')

    assert [i.item for i in of(load(path, mapping(tmp_path, text))[0], Item)] == ["1", "2"]


def test_exclusive_counts_are_made_inclusive(tmp_path: Path) -> None:
    """As Anthropic's input and Gemini's output, when the mapping says so."""
    path = write(tmp_path / "rows.jsonl", [{"i": 10, "r": 30, "w": 4, "o": 7, "t": 50}])
    text = """
    tokens = ["input excludes cached", "output excludes thinking"]
    [constants]
    task = "t"
    item = "i"
    model = "m"
    [columns]
    input_tokens = "i"
    cache_read_tokens = "r"
    cache_write_5m_tokens = "w"
    output_tokens = "o"
    reasoning_tokens = "t"
    """

    records, report = load(path, mapping(tmp_path, text))

    [call] = of(records, Trace)[0].calls
    assert (call.input_tokens, call.output_tokens, call.reasoning_tokens) == (44, 57, 50)
    assert set(report.conventions) == {
        "input excludes cached: added back",
        "thinking beside output: added",
    }


def test_rows_that_do_not_add_up_are_reported(tmp_path: Path) -> None:
    """Thinking is part of the output; totals are what their rows give."""
    data = {"total": 50, "n": 2, "rows": [{**ROWS[0], "think": 21}, ROWS[1]]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(data))
    text = MAPPING.format(rows="rows") + (
        '[totals]\nout = { column = "^total", of = "output_tokens" }\n'
        'n = { column = "^n", of = "item", how = "count" }\n'
    )

    _, report = load(path, mapping(tmp_path, text))

    assert report.mismatches.kept == ["rows[0]: thinking 21 is more than the output 20"]
    assert [(t.name, t.stated, t.found, t.agrees) for t in report.totals] == [
        ("out", 50, 41, False),
        ("n", 2, 2, True),
    ]
    assert not report.adds_up


def test_messages_scores_and_energy_come_with_the_row(tmp_path: Path) -> None:
    """Prompt, thinking and output become parts of a conversation."""
    row = {"p": "2+2?", "t": "hm", "o": "It is 4", "a": "4", "s": 0.5, "j": 3.5, "why": "half"}
    path = write(tmp_path / "rows.jsonl", [row])
    text = """
    [constants]
    task = "t"
    item = "i"
    model = "m"
    scorer = "judge"
    [columns]
    prompt = "p"
    thinking = "t"
    output = "o"
    answer = "a"
    score = "s"
    explanation = "why"
    energy_j = "j"
    [metadata]
    reason = "why"
    """

    [trace] = of(load(path, mapping(tmp_path, text))[0], Trace)

    said = [(m.ordinal, m.role, m.kind, m.text) for m in trace.messages]
    assert said == [
        (0, "user", "text", "2+2?"),
        (1, "assistant", "thinking", "hm"),
        (2, "assistant", "text", "It is 4"),
    ]
    [score] = trace.scores
    assert (score.scorer, score.score, score.passed, score.answer) == ("judge", 0.5, False, "4")
    assert score.explanation == "half"
    assert (trace.energy[0].energy_j, trace.energy[0].method) == (3.5, "reported")
    assert json.loads(trace.metadata or "") == {"reason": "half"}


def test_aggregates_become_results_and_a_repeat_is_kept_apart(tmp_path: Path) -> None:
    """One result per row and metric, unknown ones null."""
    rows = [{"m": "a", "acc": 50, "cost": 0, "day": dt.date(2026, 1, 2)}] * 2
    path = write(tmp_path / "board.yaml", [dict(r) for r in rows])
    text = """
    kind = "results"
    [constants]
    task = "t"
    [columns]
    model = "m"
    date = "day"
    [results]
    pass_rate = { column = "acc", unit = "percent" }
    cost_usd = { column = "cost", unit = "USD", null_if = [0] }
    """

    results = of(load(path, mapping(tmp_path, text))[0], Result)

    found = [(r.metric, r.value, r.unit) for r in results[:2]]
    assert found == [("pass_rate", 0.5, "0..1"), ("cost_usd", None, "USD")]
    assert results[0].date == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert len({r.result_id for r in results}) == 4


def test_a_price_sheet_becomes_prices(tmp_path: Path) -> None:
    """Per token, per thousand or per million."""
    path = write(tmp_path / "prices.csv", [{"m": "a", "in": "0.002", "out": "0.004"}])
    text = """
    kind = "prices"
    [constants]
    provider = "p"
    [prices]
    model = "m"
    input_usd_per_mtok = { column = "in", unit = "USD/ktok" }
    output_usd_per_mtok = { column = "out", unit = "USD/ktok" }
    """

    [price] = load(path, mapping(tmp_path, text))[0]

    assert isinstance(price, Price)
    assert (price.sheet, price.provider) == ("mine", "p")
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (2.0, 4.0)
