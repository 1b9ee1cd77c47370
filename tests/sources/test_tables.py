"""Tables of rows with a mapping: every kind of file, units, faults, checks."""

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import Configuration, Item, Price, Result, Run, Task, Trace
from workbench.sources import FileReport

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
    assert report.is_accounted_for
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
        ("billed_cost_usd", "cent", "1,250.5", 12.505),
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


QUIZ = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\n'
BASE = '[constants]\ntask="t"\nmodel="m"\nitem="i"\n[columns]\n'


@pytest.mark.parametrize(
    ("name", "content", "text", "parts"),
    [
        ("a.csv", b"x,y\n1,2\n1,2,3\n", BASE + 'score="x"', ["a.csv, line 3", "3 cells", "2"]),
        ("a.csv", b"x,y\n1\n", BASE + 'score="x"', ["a.csv, line 2", "1 cells"]),
        ("a.csv", b"x,x\n1,2\n", BASE + 'score="x"', ["line 1", "repeated"]),
        ("a.csv", b'x\n"1\n', BASE + 'score="x"', ["a.csv, line 2"]),
        (
            "a.csv",
            b"x\nabc\n",
            BASE + 'score="x"',
            ["a.csv, line 2", "'x'", "'abc' is not a value of type float"],
        ),
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
        ("a.yaml", b"- x: [1\n", BASE + 'score="x"', ["a.yaml is not YAML"]),
        ("a.yaml", b"x: 1\n", BASE + 'score="x"', ["not a list of rows"]),
        ("a.parquet", b"PAR1 nothing", BASE + 'score="x"', ["a.parquet is not a Parquet file"]),
        ("a.bin", b"\0\1\2", BASE + 'score="x"', ["a.bin is not a table"]),
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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Comma, semicolon, tab and bar, outside of quotes."""
    path = tmp_path / "rows.csv"
    path.write_text(f'q{delimiter}"a,b;c|d\te,f;g|h\ti\nj"{delimiter}s\na{delimiter}{delimiter}1\n')
    text = '[constants]\ntask="t"\nmodel="m"\n[columns]\nitem="q"\nscore="s"'

    assert [t.score for t in of(load(path, mapping(tmp_path, text))[0], Trace)] == [1.0]


def test_the_line_of_a_spreadsheet_that_tells_the_delimiter_is_no_row(tmp_path: Path) -> None:
    """And the lines after it keep their numbers."""
    path = tmp_path / "rows.csv"
    path.write_text("sep=;\nq;s\na;0,5\nb;often\n")
    text = mapping(tmp_path, f"{QUIZ}score='s'")
    report = FileReport(path, skip_bad_rows=True)

    records = list(sources.read(path, report=report, mapping=text))

    assert [t.score for t in of(records, Trace)] == [0.5]
    assert "line 4, column 's'" in report.bad_rows.texts[0]


def test_a_repeated_item_and_trial_is_reported_and_the_first_kept(tmp_path: Path) -> None:
    """Two rows cannot both be the same trial."""
    path = write(tmp_path / "rows.csv", [{**ROWS[0]}, {**ROWS[0], "out": 99}])

    records, report = load(path, mapping(tmp_path))

    assert [t.calls[0].output_tokens for t in of(records, Trace)] == [20]
    assert report.duplicates.n == 1
    assert "line 3: item 'a', trial 0" in report.duplicates.texts[0]
    assert report.is_accounted_for


@pytest.mark.parametrize("trial", ["", "trial='@repeat'\n"])
def test_rows_of_one_request_are_one_call_and_the_last_usage_counts(
    tmp_path: Path, trial: str
) -> None:
    """A log of a stream writes a line per part, and the first ones hold an output of 1."""
    rows = [
        {"q": "a", "id": "r1", "out": 1},
        {"q": "a", "id": "r1", "out": 1},
        {"q": "b", "id": "r2", "out": 7},
        {"q": "a", "id": "r1", "out": 185},
        {"q": "b", "id": None, "out": 9},
    ]
    path = write(tmp_path / "rows.jsonl", rows[: 5 if trial else 4])
    text = f"{QUIZ}{trial}request_id='id'\noutput_tokens='out'"

    records, report = load(path, mapping(tmp_path, text))

    assert [t.calls[0].output_tokens for t in of(records, Trace)] == [7, 185, 9][
        : 3 if trial else 2
    ]
    assert report.duplicates.texts == [
        f"line {n}: request 'r1' continues in a later row; the last one is imported" for n in (1, 2)
    ]
    assert report.is_accounted_for


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
        "output excludes thinking: added",
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

    assert report.mismatches.texts == ["rows[0]: thinking 21 is more than the output 20"]
    assert [(t.name, t.stated, t.computed, t.agrees) for t in report.totals] == [
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


# -- decimal marks -------------------------------------------------------------------------------


def costs(tmp_path: Path, cells: list[str], more: str = "") -> list[float | None]:
    path = write(tmp_path / "rows.csv", [{"q": i, "c": c} for i, c in enumerate(cells)])
    records, _ = load(path, mapping(tmp_path, f"{more}{QUIZ}billed_cost_usd='c'"))
    return [t.calls[0].billed_cost_usd for t in of(records, Trace)]


def test_semicolons_and_decimal_commas_are_read_as_such(tmp_path: Path) -> None:
    """0,05 is five cents, never five dollars."""
    path = tmp_path / "rows.csv"
    path.write_text("q;cost;s;score;n\n1;0,05;1,75;0,5;1.200\n2;0,123;12,5;1;300\n")
    text = f"{QUIZ}billed_cost_usd='cost'\ne2e_s='s'\nscore='score'\ninput_tokens='n'"

    a, b = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert (a.calls[0].billed_cost_usd, a.e2e_s, a.score, a.passed) == (0.05, 1.75, 0.5, False)
    assert (b.calls[0].billed_cost_usd, b.e2e_s, b.score, b.passed) == (0.123, 12.5, 1.0, True)
    assert [t.calls[0].input_tokens for t in (a, b)] == [1200, 300]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234", "0,5"], [1.234, 0.5]),
        (["1,234", "1,234.5"], [1234.0, 1234.5]),
        (["1.234", "12,5"], [1234.0, 12.5]),
        (["1.234", "2.345"], [1.234, 2.345]),
        (["1,234", "2,345,678"], [1234.0, 2345678.0]),
    ],
)
def test_a_column_tells_its_decimal_mark_wherever_the_evidence_stands(
    tmp_path: Path, cells: list[str], expected: list[float]
) -> None:
    """A later row decides over an earlier one as well."""
    assert costs(tmp_path, cells) == expected
    assert costs(tmp_path, cells[::-1]) == expected[::-1]


def test_a_number_that_could_be_two_is_refused_until_the_mapping_says(tmp_path: Path) -> None:
    """1,234 is one dollar or a thousand."""
    with pytest.raises(
        ImportFormatError, match=r"line 2, column 'c': '1,234' is ambiguous.*decimal = "
    ):
        costs(tmp_path, ["1,234", "2,345"])

    assert costs(tmp_path, ["1,234", "2,345"], 'decimal = ","\n') == [1.234, 2.345]
    assert costs(tmp_path, ["1,234", "2,345"], 'decimal = "."\n') == [1234.0, 2345.0]


def test_a_column_with_both_decimal_marks_is_refused(tmp_path: Path) -> None:
    """There is no reading of both."""
    with pytest.raises(
        ImportFormatError,
        match="line 3, column 'c': '0,5' is not a value of type float: not a number",
    ):
        costs(tmp_path, ["0.5", "0,5"])


# -- scales --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "field"), [("57", "score"), ("81.3%", "score"), ("-1", "score"), ("70", "confidence")]
)
def test_what_is_outside_of_0_to_1_is_refused_with_a_hint(
    tmp_path: Path, cell: str, field: str
) -> None:
    """A score of 57 is no pass."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "s": cell}])

    with pytest.raises(ImportFormatError, match='unit = "percent"'):
        load(path, mapping(tmp_path, f"{QUIZ}{field}='s'"))


def test_a_score_that_a_mapping_sets_is_held_to_its_scale(tmp_path: Path) -> None:
    """A constant is a cell of every row."""
    path = write(tmp_path / "rows.csv", [{"q": "1"}])
    text = QUIZ.replace("[columns]", "score = 5\n[columns]")

    with pytest.raises(ImportFormatError, match=r"\[constants\] score: 5 is outside of 0\.\.1"):
        load(path, mapping(tmp_path, text))


def test_percentages_are_scores_where_the_mapping_says_so(tmp_path: Path) -> None:
    """With and without the sign; only all of it is a pass."""
    cells = ["57", "81.3%", "0", "100"]
    path = write(tmp_path / "rows.csv", [{"q": i, "s": c} for i, c in enumerate(cells)])
    text = f'{QUIZ}score={{column="s", unit="percent"}}'

    traces = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert [t.score for t in traces] == [0.57, 0.813, 0.0, 1.0]
    assert [t.passed for t in traces] == [False, False, False, True]


def test_scores_on_other_scales_are_metrics(tmp_path: Path) -> None:
    """With their range, unit and direction; no score of 0..1 is made of them."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "r": "7", "nll": "2.25", "ms": "40"}])
    text = f"""{QUIZ}
    [metrics]
    rubric = {{ column = "r", range = [0, 10], direction = "higher" }}
    loss = {{ column = "nll", unit = "nats", range = [0, inf], direction = "lower" }}
    delay = {{ column = "ms", unit = "ms", range = [0, 1000] }}
    """

    [trace] = of(load(path, mapping(tmp_path, text))[0], Trace)

    found = [
        (s.scorer, s.metric, s.unit, s.scale_low, s.scale_high, s.direction) for s in trace.scores
    ]
    assert found == [
        ("rubric", 7.0, None, 0.0, 10.0, "higher"),
        ("loss", 2.25, "nats", 0.0, None, "lower"),
        ("delay", 0.04, "s", 0.0, 1.0, None),
    ]
    assert (trace.score, trace.passed) == (None, None)
    assert {(s.score, s.passed) for s in trace.scores} == {(None, None)}


def test_a_metric_outside_of_its_range_is_refused(tmp_path: Path) -> None:
    """A declared scale is held."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "r": "11"}])
    text = f'{QUIZ}[metrics]\nrubric={{column="r", range=[0, 10]}}'

    with pytest.raises(
        ImportFormatError, match="line 2, column 'r': 11 is outside of the range 0 to 10"
    ):
        load(path, mapping(tmp_path, text))


def test_published_figures_have_a_scale(tmp_path: Path) -> None:
    """As metrics of traces have."""
    path = write(tmp_path / "rows.csv", [{"m": "a", "elo": "1250"}])
    text = 'kind="results"\n[constants]\ntask="t"\n[columns]\nmodel="m"\n[results]\n'
    text += 'elo={column="elo", range=[0, inf], direction="higher"}'

    [result] = of(load(path, mapping(tmp_path, text))[0], Result)

    assert (result.value, result.scale_low, result.scale_high, result.direction) == (
        1250.0,
        0.0,
        None,
        "higher",
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("range=[10, 0]", "range"),
        ("range=5", "range"),
        ('direction="up"', "direction"),
        ("rnage=[0, 1]", "rnage"),
    ],
)
def test_a_scale_that_is_none_is_an_error_of_the_mapping(
    tmp_path: Path, text: str, part: str
) -> None:
    """With the name of what is wrong."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "r": "1"}])

    with pytest.raises(ImportFormatError, match=part):
        load(path, mapping(tmp_path, f'{QUIZ}[metrics]\nrubric={{column="r", {text}}}'))


# -- counts --------------------------------------------------------------------------------------

COUNTS = f"""{QUIZ}e2e_s="e2e"
ttft_s="ttft"
input_tokens="in"
cache_read_tokens="cached"
output_tokens="out"
billed_cost_usd="cost"
"""


def test_counts_that_contradict_themselves_are_reported_with_their_lines(tmp_path: Path) -> None:
    """Amounts below zero are unknown; cached tokens beyond the input stay, and have no cost."""
    path = tmp_path / "rows.csv"
    path.write_text(
        "q,e2e,ttft,in,cached,out,cost\n1,-3.2,0.4,-5,0,10,-0.01\n2,2.0,3.5,100,500,20,0.01\n"
    )

    records, report = load(path, mapping(tmp_path, COUNTS))

    a, b = of(records, Trace)
    assert (a.e2e_s, a.calls[0].input_tokens, a.calls[0].billed_cost_usd) == (None, None, None)
    assert (b.e2e_s, b.calls[0].ttft_s, b.calls[0].input_tokens) == (2.0, None, 100)
    assert b.calls[0].cache_read_tokens == 500
    assert report.mismatches.texts == [
        "line 2: e2e_s is -3.2, below 0; stored as unknown",
        "line 2: input_tokens is -5, below 0; stored as unknown",
        "line 2: billed_cost_usd is -0.01, below 0; stored as unknown",
        "line 3: cached 500 is more than the input 100; no cost",
        "line 3: ttft_s 3.5 is after the end, 2 s; stored as unknown",
    ]


def test_the_total_decides_row_by_row_whether_the_input_holds_the_cached(tmp_path: Path) -> None:
    """Routers export rows of several providers."""
    rows = [
        {"q": "a", "in": 9000, "r": 8000, "w": 0, "out": 100, "think": 60, "total": 9100},
        {"q": "b", "in": 3, "r": 7917, "w": 350, "out": 442, "think": 0, "total": 8712},
        {"q": "c", "in": 10, "r": 4, "w": 0, "out": 20, "think": 5, "total": 35},
        {"q": "d", "in": 10, "r": 4, "w": 0, "out": 20, "think": 5, "total": 31},
        {"q": "e", "in": 10, "r": 4, "w": 0, "out": 20, "think": 5, "total": None},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    text = f"""{QUIZ}
    input_tokens = "in"
    cache_read_tokens = "r"
    cache_write_5m_tokens = "w"
    output_tokens = "out"
    reasoning_tokens = "think"
    total_tokens = "total"
    """

    records, report = load(path, mapping(tmp_path, text))

    found = {
        t.calls[0].total_tokens: (t.calls[0].input_tokens, t.calls[0].output_tokens)
        for t in of(records, Trace)
    }
    assert found == {
        9100: (9000, 100),
        8712: (8270, 442),
        35: (10, 25),
        31: (10, 20),
        None: (10, 20),
    }
    assert report.mismatches.texts == ["line 4: input 10 + output 20 is not the total 31"]
    assert report.conventions["a convention other than the mapping's, by the total"] == 2


@pytest.mark.parametrize(("n", "expected"), [("5", 5), ("1", 1), ("", None), ("0", None)])
def test_a_row_of_several_turns_is_a_sum_of_as_many_requests(
    tmp_path: Path, n: str, expected: int | None
) -> None:
    """Where it does not say how many, nobody knows."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "steps": n, "in": "10"}])

    [trace] = of(
        load(path, mapping(tmp_path, f'{QUIZ}n_turns="steps"\ninput_tokens="in"'))[0], Trace
    )

    assert trace.calls[0].n_requests == expected


# -- rows that cannot be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.jsonl", '{"q": "1", "s": 1}\n{"q": "2", "s\n{"q": "3", "s": 0}\n', "line 2"),
        ("a.jsonl", '{"q": "1", "s": 1}\n[2]\n{"q": "3", "s": 0}\n', "line 2"),
        ("a.csv", "q,s\n1,1\n2,1,1\n3,0\n", "line 3"),
        ("a.csv", "q,s\n1,1\n2,often\n3,0\n", "line 3"),
        ("a.csv", "q,s\n1,1\n,1\n3,0\n", "line 3"),
        ("a.json", '[{"q": "1", "s": 1}, 7, {"q": "3", "s": 0}]', "[1]"),
    ],
)
def test_bad_rows_are_passed_over_where_that_is_asked(
    tmp_path: Path, name: str, content: str, place: str
) -> None:
    """And counted, with their places; the others are all there."""
    path = tmp_path / name
    path.write_text(content)
    text = mapping(tmp_path, f"{QUIZ}score='s'")
    with pytest.raises(ImportFormatError) as caught:
        load(path, text)
    report = FileReport(path, skip_bad_rows=True)

    records = list(sources.read(path, report=report, mapping=text))

    assert place in str(caught.value)
    assert [t.score for t in of(records, Trace)] == [1.0, 0.0]
    assert (report.rows_in, report.rows_out, report.bad_rows.n) == (3, 2, 1)
    assert place in report.bad_rows.texts[0]
    assert report.is_accounted_for


# -- identity ------------------------------------------------------------------------------------


def items(tmp_path: Path, name: str, keys: list) -> list[str]:
    path = write(tmp_path / name, [{"q": k} for k in keys])
    return [i.item for i in of(load(path, mapping(tmp_path, QUIZ))[0], Item)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["1.0", "2.0"], ["1", "2"]),
        (["1.0", "2"], ["1", "2"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["007", "1.0"], ["007", "1.0"]),
        (["1e5", "2.0"], ["1e5", "2.0"]),
        (["1.0", "a"], ["1.0", "a"]),
    ],
)
def test_a_whole_number_is_one_item_in_a_column_of_whole_numbers(
    tmp_path: Path, keys: list[str], expected: list[str]
) -> None:
    """A name that looks like a number stays a name."""
    assert items(tmp_path, "rows.csv", keys) == expected


def test_an_item_is_the_same_in_every_format(tmp_path: Path) -> None:
    """1.0 as a column with gaps is written, 1 as JSON has it, 1.0 as Parquet does."""
    found = [
        items(tmp_path, "rows.csv", ["1.0", "2.0"]),
        items(tmp_path, "rows.jsonl", [1, 2]),
        items(tmp_path, "rows.parquet", [1.0, 2.0]),
        items(tmp_path, "rows.jsonl", ["1", "2"]),
    ]

    assert found == [["1", "2"]] * 4


def test_blanks_around_names_are_no_part_of_them(tmp_path: Path) -> None:
    """Tables of people align their columns; an answer is kept as it is."""
    path = tmp_path / "rows.csv"
    path.write_text("q , who, a\n 1 , gpt-5 , yes \n2,gpt-5,no\n")
    text = '[constants]\ntask="t"\n[columns]\nitem="q"\nmodel="who"\nanswer="a"'

    records, _ = load(path, mapping(tmp_path, text))

    assert [i.item for i in of(records, Item)] == ["1", "2"]
    assert [c.model for c in of(records, Configuration)] == ["gpt-5"]
    assert [t.answer for t in of(records, Trace)] == [" yes ", "no"]


def test_parquet_of_other_writers_is_read_as_any(tmp_path: Path) -> None:
    """Texts marked as bytes, times and durations in nanoseconds, decimal dollars, whole items as
    floats."""
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "q": pa.array([1.0, 2.0]),
            "who": pa.array([b"m", b"m"], pa.binary()),
            "at": pa.array([1767323045123456789] * 2, pa.timestamp("ns")),
            "s": pa.array([1_500_000_001, None], pa.duration("ns")),
            "usd": pa.array([Decimal("0.05"), None], pa.decimal128(10, 2)),
        }
    )
    pq.write_table(table, path)
    text = """
    [constants]
    task = "t"
    [columns]
    item = "q"
    model = "who"
    started_at = "at"
    e2e_s = "s"
    billed_cost_usd = "usd"
    """

    records, _ = load(path, mapping(tmp_path, text))

    a, b = of(records, Trace)
    assert [i.item for i in of(records, Item)] == ["1", "2"]
    assert of(records, Configuration)[0].model == "m"
    assert a.started_at == dt.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=dt.UTC)
    assert (a.e2e_s, a.calls[0].billed_cost_usd) == (1.5, 0.05)
    assert (b.e2e_s, b.calls[0].billed_cost_usd) == (None, None)


def test_parameters_keep_their_types_in_csv_as_in_json(tmp_path: Path) -> None:
    """So that the two are one configuration."""
    rows = [
        {"q": "1", "k": 3, "rate": 0.5, "cot": True, "tool": "sql", "code": "007"},
        {"q": "2", "k": 4, "rate": 0.25, "cot": False, "tool": "3", "code": "8"},
    ]
    text = f"{QUIZ}[strategy_params]\nk='k'\nrate='rate'\ncot='cot'\ntool='tool'\ncode='code'"
    by_csv, _ = load(write(tmp_path / "rows.csv", rows), mapping(tmp_path, text))
    by_json, _ = load(write(tmp_path / "rows.jsonl", rows), mapping(tmp_path, text))

    ids = [[c.configuration_id for c in of(found, Configuration)] for found in (by_csv, by_json)]

    assert ids[0] == ids[1]
    assert json.loads(of(by_csv, Configuration)[0].strategy_params or "") == {
        "k": 3,
        "rate": 0.5,
        "cot": True,
        "tool": "sql",
        "code": "007",
    }


def test_parameters_may_be_mapped_to_words(tmp_path: Path) -> None:
    """What a mapping says of a value is kept as it says it."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "p": "y"}, {"q": "2", "p": "?"}])
    text = f'{QUIZ}[settings]\np={{column="p", map={{y="on"}}, null_if=["?"]}}'

    found = [c.settings for c in of(load(path, mapping(tmp_path, text))[0], Configuration)]

    assert found == ['{"p":"on"}', None]


def test_a_map_can_name_what_is_unknown(tmp_path: Path) -> None:
    """On the right an unknown value, on the left an empty cell."""
    cells = ["resolved", "unresolved", "timeout", ""]
    path = write(tmp_path / "rows.csv", [{"q": i, "v": c} for i, c in enumerate(cells)])
    text = f"""{QUIZ}
    [columns.passed]
    column = "v"
    map = {{ resolved = true, unresolved = false, timeout = "@null", "@null" = false }}
    """

    traces = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert [t.passed for t in traces] == [True, False, None, False]


@pytest.mark.parametrize(("suffix", "value"), [(".csv", "1.0"), (".jsonl", 1), (".parquet", 1.0)])
def test_a_map_knows_a_number_however_it_is_typed(
    tmp_path: Path, suffix: str, value: object
) -> None:
    """1 of JSON, 1.0 of Parquet; a text is as it is written."""
    path = write(tmp_path / f"rows{suffix}", [{"q": "a", "v": value}])
    key = "1.0" if suffix == ".csv" else "1"
    text = f'{QUIZ}effort={{column="v", map={{"{key}"="low"}}}}'

    [configuration] = of(load(path, mapping(tmp_path, text))[0], Configuration)

    assert configuration.effort == "low"


# -- columns -------------------------------------------------------------------------------------


def test_columns_that_a_mapping_leaves_unread_are_named(tmp_path: Path) -> None:
    """A user sees what did not come in."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "s": "1", "cost": "3", "when": "now"}])

    _, report = load(path, mapping(tmp_path, f"{QUIZ}score='s'"))

    assert report.notes == {"columns not read: cost, when": 1}


def test_a_date_of_another_order_needs_a_format(tmp_path: Path) -> None:
    """The third of April or the fourth of March."""
    path = write(tmp_path / "rows.csv", [{"q": "1", "day": "03/04/2026"}])
    with pytest.raises(ImportFormatError, match=r"line 2, column 'day': .* format = "):
        load(path, mapping(tmp_path, f"{QUIZ}started_at='day'"))
    text = f'{QUIZ}started_at={{column="day", format="%d/%m/%Y"}}'

    [trace] = of(load(path, mapping(tmp_path, text))[0], Trace)

    assert trace.started_at == dt.datetime(2026, 4, 3, tzinfo=dt.UTC)


BOMBS = {
    "aliases of aliases": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    + "records:\n- {q: *a8, model: m1, verdict: ok, in: 1, out: 1, think: 0, ms: 1}\n",
    "mappings merged": "a0: &a0 {k: v}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))
    + "records:\n- {q: a, model: m1, verdict: ok, in: 1, out: 1, think: 0, ms: 1}\n",
    "an alias within itself": "records: &a\n- {q: *a, model: m1, verdict: ok}\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_aliases_that_explode_are_refused(tmp_path: Path, text: str) -> None:
    """Before anything is made of them: 398 bytes ran for ever."""
    (tmp_path / "t.yaml").write_text(text)

    with pytest.raises(ImportFormatError, match="alias"):
        load(tmp_path / "t.yaml", mapping(tmp_path, rows="records"))


def test_aliases_that_save_writing_are_read(tmp_path: Path) -> None:
    """The rows are those of a file that repeats itself."""
    (tmp_path / "t.yaml").write_text(
        "- &a {q: a, model: m1, verdict: ok, in: 10, out: 20, think: 5, ms: 1500}\n"
        "- {<<: *a, q: b}\n"
    )

    records, _ = load(tmp_path / "t.yaml", mapping(tmp_path))

    assert [item.item for item in of(records, Item)] == ["a", "b"]


def test_a_point_between_semicolons_is_refused_until_something_tells(tmp_path: Path) -> None:
    """1.234 is a thousand where the comma is the decimal mark, as semicolons let expect."""
    path = tmp_path / "rows.csv"
    text = f"{QUIZ}billed_cost_usd='cost'"
    path.write_text("q;cost\n1;1.234\n2;2.345\n")
    with pytest.raises(
        ImportFormatError, match=r"'1\.234' is ambiguous: a decimal point.*decimal = "
    ):
        list(load(path, mapping(tmp_path, text))[0])

    said = load(path, mapping(tmp_path, f'decimal = "."\n{text}'))[0]
    assert [t.calls[0].billed_cost_usd for t in of(said, Trace)] == [1.234, 2.345]
    path.write_text("q;cost\n1;1.234\n2;2.5\n")  # the second one tells
    told = load(path, mapping(tmp_path, text))[0]
    assert [t.calls[0].billed_cost_usd for t in of(told, Trace)] == [1.234, 2.5]
