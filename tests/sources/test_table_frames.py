"""Blocks of a CSV that Polars converts give what its rows give, one by one."""

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import schema, sources
from workbench.errors import ImportFormatError
from workbench.records import Rows
from workbench.sources import FileReport
from workbench.sources.tables.bulk import csv_blocks, table_frames
from workbench.store import frames, open_store

MAPPING = """
tokens = ["input excludes cached", "output excludes thinking"]
[columns]
item = "id"
task = "task"
model = "model"
provider = "vendor"
trial = "try"
started_at = "at"
e2e_s = { column = "ms", unit = "ms" }
ttft_s = "first"
score = { column = "points", unit = "percent" }
passed = { column = "verdict", map = { ok = true, bad = false, "@null" = false } }
input_tokens = "in"
cache_read_tokens = "cached"
output_tokens = "out"
reasoning_tokens = "think"
billed_cost_usd = { column = "usd", null_if = [0] }
answer = "answer"
input = "question"
prompt = "question"
thinking = "thought"
output = "answer"
n_turns = "turns"
energy_j = { column = "wh", unit = "Wh" }
effort = { column = "effort", optional = true }
difficulty = { column = "level", offset = 1 }
[scores]
f1 = "f1"
[metrics]
stars = { column = "stars", range = [0, 10], direction = "higher" }
share = { column = "f1", range = [0, 1], direction = "higher" }
[strategy_params]
k = "k"
[metadata]
note = "note"
[item_metadata]
topic = "topic"
"""
NUMBERS = ["0", "1", "12", "3.5", "1.234", "0.25", "", "n/a", "1e-3", "-1", " 7 ", "1,5", "100"]
WORDS = ["a", "b", "", " c ", "1", "1.0", "x,y", 'say "hi"', "two\nlines", "äö", "n/a", "None"]
USUAL: dict[str, list[str]] = {
    "id": ["q", " q", 'q"'],
    "task": ["t", "u"],
    "model": ["m", " m", "n"],
    "vendor": ["v", ""],
    "try": ["0", "1", "2", ""],
    "at": [
        "2026-10-01T10:00:00Z",
        "2026-10-01 10:00:00.25+02:00",
        "",
        "1790000000",
        "1790000000123",
    ],
    "ms": ["1500", "250.5", "", "90000"],
    "first": ["0.1", ""],
    "points": ["0", "50", "100", "62.5", ""],
    "verdict": ["ok", "bad", ""],
    "in": ["100", "5", ""],
    "cached": ["0", "3", ""],
    "out": ["50", "9", ""],
    "think": ["0", "2", ""],
    "usd": ["0", "0.01", "1.234", "1e-05", ""],
    "answer": WORDS,
    "question": ["2+2?", "back\\slash", "", "tab\there"],
    "thought": ["hm", "", "hm, two\nlines"],
    "turns": ["1", "3", "0", ""],
    "wh": ["0.5", ""],
    "level": ["1", "2", ""],
    "f1": ["0", "0.5", "1", ""],
    "stars": ["4", "10", ""],
    "k": ["1", "2", "3.0", "x", ""],
    "note": WORDS,
    "topic": ["sums", ""],
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, str]]:
    """Rows of usual cells; a few are of any kind."""
    n = draw(st.integers(1, 12))
    rows = [{name: draw(st.sampled_from(cells)) for name, cells in USUAL.items()} for _ in range(n)]
    for _ in range(draw(st.integers(0, 3))):
        row = rows[draw(st.integers(0, n - 1))]
        row[draw(st.sampled_from(sorted(USUAL)))] = draw(st.sampled_from(NUMBERS + WORDS))
    return rows


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def by_table(batches: list[frames.Frames]) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of each table, in an order of their own, without repeats of named ones."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for batch in batches:
        for name, frame in batch.items():
            columns = frames.polars_schema(schema.TABLES[name])
            missing = [
                pl.lit(None, dtype=columns[c]).alias(c) for c in columns.keys() - set(frame.columns)
            ]
            whole = frame.with_columns(missing).select(*columns)
            found.setdefault(name, []).extend(whole.rows())
    return {name: sorted(set(rows), key=repr) for name, rows in found.items() if rows}


def told(report: FileReport) -> dict[str, Any]:
    """What a report says, without the file."""
    return {
        name: getattr(report, name)
        for name in ("rows_in", "rows_out", "conventions", "notes", "skipped", "totals")
    } | {name: getattr(report, name).texts for name in ("duplicates", "mismatches", "bad_rows")}


def both(folder: Path, text: str, mapping: str, *, skip: bool = False) -> tuple[Any, Any, bool]:
    """What a file gives row by row, what it gives in bulk, and whether anything came in bulk."""
    path, mapping_path = folder / "rows.csv", folder / "mine.toml"
    path.write_text(text, newline="")
    mapping_path.write_text(mapping)
    results: list[Any] = []
    came_in_bulk = False
    for read in (sources.read, sources.read_rows):
        report = FileReport(path, skip_bad_rows=skip)
        try:
            records = list(read(path, report=report, mapping=mapping_path))
        except ImportFormatError as error:
            results.append(str(error))
            continue
        came_in_bulk = came_in_bulk or any(isinstance(record, Rows) for record in records)
        results.append((by_table(list(frames.batches(records))), told(report)))
    return results[0], results[1], came_in_bulk


@settings(max_examples=250, deadline=None)
@given(
    rows=tables(),
    size=st.sampled_from([60, 400, 1 << 24]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    skip=st.booleans(),
)
def test_blocks_give_what_rows_give(
    rows: list[dict[str, str]], size: int, delimiter: str, skip: bool
) -> None:
    """Records, reports and errors, wherever the file is cut."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK_BYTES", size)
        by_rows, in_bulk, _ = both(Path(folder), as_csv(rows, delimiter), MAPPING, skip=skip)

    assert in_bulk == by_rows


PLAIN = '[constants]\ntask = "t"\nmodel = "m"\n[columns]\nitem = "q"\n'


@pytest.mark.parametrize(
    "text",
    [
        "q,a\n1,x\n2,y\n",
        "q,a\r\n1,x\r\n2,y",
        '\ufeffq,a\n1,"x,""y"\n2,"two\nlines"\n',
        "sep=;\nq;a\n1;x\n",
        'q,a\n"1","2"\n"3",""\n',
    ],
)
def test_a_file_of_plain_cells_comes_in_bulk(tmp_path: Path, text: str) -> None:
    """With quotes, line ends and marks of every kind."""
    by_rows, in_bulk, came_in_bulk = both(tmp_path, text, f'{PLAIN}answer = "a"')

    assert in_bulk == by_rows
    assert came_in_bulk


@pytest.mark.parametrize(
    "text",
    [
        'q,a\n1,5" tube\n2,6" tube\n',
        'q,a\n1,5",x\n2,y\n',
        'q,a\n1,"x"y\n',
        "q,a\n1\n2,y\n",
        "q,a\n1,x,z\n2\n",
        "q,a\n\n1,x\n",
        "q,a\n1,x\ry\n",
        'q,a\n1,"open\n',
        "q,a\n1,\x00\n",
        "q,a\n\x1c,x\n",
    ],
)
@pytest.mark.parametrize("size", [8, 1 << 24])
def test_what_two_readers_could_read_in_two_ways_is_read_by_rows(
    tmp_path: Path, text: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes within cells, lines of other lengths, blank lines, marks of control."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", size)
    for skip in (False, True):
        by_rows, in_bulk, _ = both(tmp_path, text, f'{PLAIN}answer = "a"', skip=skip)
        assert in_bulk == by_rows


def test_a_repeat_in_a_later_block_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And named with its line."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 16)
    text = "q,a\n" + "".join(f"{n},x\n" for n in range(20)) + "3,y\n"

    by_rows, in_bulk, _ = both(tmp_path, text, f'{PLAIN}answer = "a"')

    assert in_bulk == by_rows
    assert in_bulk[1]["duplicates"] == [
        "line 22: item '3', trial 0 occurs twice; the first one is imported"
    ]


def test_repeats_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As trials, in the order of the file."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 8)
    text = "q,a\n1,x\n2,y\n1,z\n3,x\n1,v\n"

    by_rows, in_bulk, _ = both(tmp_path, text, f'{PLAIN}trial = "@repeat"\nanswer = "a"')

    assert in_bulk == by_rows


def test_a_store_takes_both_and_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """The same rows by either way are the same traces."""
    rows = [{name: cells[0] for name, cells in USUAL.items()} | {"id": f"q{n}"} for n in range(50)]
    path, mapping = tmp_path / "rows.csv", tmp_path / "mine.toml"
    path.write_text(as_csv(rows))
    mapping.write_text(MAPPING)
    store = open_store(tmp_path / "traces.duckdb", create=True)

    first = store.ingest(sources.read_rows(path, mapping=mapping))
    again = store.ingest(sources.read_rows(path, mapping=mapping))
    by_rows = store.ingest(sources.read(path, mapping=mapping))

    assert (first.rows_new["traces"], first.rows_new["calls"], first.rows_new["items"]) == (
        50,
        50,
        50,
    )
    assert not any(again.rows_new.values())
    assert not any(by_rows.rows_new.values())


@pytest.mark.parametrize(("n_rows", "n_bytes"), [(7, 1 << 26), (1000, 40)])
def test_batches_of_any_size_give_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int, n_bytes: int
) -> None:
    """Wherever a batch ends: within a block, or by the bytes of its texts."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(table_frames, "BATCH_ROWS", n_rows)
    monkeypatch.setattr(table_frames, "BATCH_BYTES", n_bytes)
    rows = [
        {name: cells[n % len(cells)] for name, cells in USUAL.items() if name != "id"}
        | {"id": f"q{n // 2}", "try": str(n % 2), "first": "0.1", "verdict": "ok"}
        for n in range(60)
    ]
    path, mapping = tmp_path / "rows.csv", tmp_path / "mine.toml"
    path.write_text(as_csv(rows), newline="")
    mapping.write_text(MAPPING)
    batches = [r for r in sources.read_rows(path, mapping=mapping) if isinstance(r, Rows)]
    stores = [open_store(tmp_path / f"{name}.duckdb", create=True) for name in ("a", "b")]
    stores[0].ingest(sources.read(path, mapping=mapping))
    stores[1].ingest(sources.read_rows(path, mapping=mapping))

    assert len(batches) >= 2
    for table in ("items", "traces", "calls", "scores", "energy", "messages", "contents"):
        one, other = (store.sql(f"FROM {table} ORDER BY ALL") for store in stores)
        assert one.rows() == other.rows()
        assert one.height
