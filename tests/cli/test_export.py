"""Exports of views: every row, in each format, without the whole in memory."""

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

from tests.support import making
from workbench.cli import export as exporting
from workbench.cli import main, output
from workbench.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A small store."""
    return making.small_store(tmp_path)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches of a small store."""
    monkeypatch.setattr(exporting, "_BATCH_ROWS", 5)


def written(store: Store, path: Path, *words: str) -> Path:
    """The file that a command writes."""
    assert main(["export", "trace_facts", "-o", str(path), "--store", str(store.path), *words]) == 0
    return path


READERS = {
    ".parquet": pl.read_parquet,
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
}


@pytest.mark.parametrize("suffix", READERS)
def test_every_row_is_written(store: Store, tmp_path: Path, suffix: str) -> None:
    expected = store.sql("FROM trace_facts").sort("trace_id")
    frame = READERS[suffix](written(store, tmp_path / f"x{suffix}")).sort("trace_id")
    assert set(frame.columns) == set(expected.columns)
    assert frame.height == expected.height > 10
    for name in ("trace_id", "model", "score", "passed", "cost_usd", "n_calls"):
        assert frame[name].to_list() == expected[name].to_list(), name


@pytest.mark.parametrize("suffix", READERS)
def test_a_slice_without_rows_is_a_file_with_its_columns(
    store: Store, tmp_path: Path, suffix: str
) -> None:
    path = written(store, tmp_path / f"x{suffix}", "--where", "trace:nothing")
    if suffix == ".jsonl":
        assert path.read_bytes() == b""
    else:
        frame = READERS[suffix](path)
        assert (frame.height, "trace_id" in frame.columns) == (0, True)


def test_lines_of_json_are_those_of_a_document(store: Store, tmp_path: Path) -> None:
    lines = written(store, tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    document = json.loads(written(store, tmp_path / "x.json").read_text(encoding="utf-8"))
    rows = {row["trace_id"]: row for row in map(json.loads, lines)}
    for row in document["rows"]:
        assert rows.pop(row["trace_id"]) == row
    assert not rows


def test_times_and_nested_values_are_written(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "at": pl.Series(
                [dt.datetime(2026, 3, 1, 12, 30, 0, 250_000, dt.UTC), None]
            ).dt.replace_time_zone(None),
            "values": [[1.5, None], []],
            "text": ['line\n"quoted", =1', "\x1b[31m"],
            "number": [float("nan"), 0.0],
        }
    )
    path = tmp_path / "x.jsonl"
    assert output.write_batches([frame, frame], path) == 4
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines()[:2])
    assert first["at"] == "2026-03-01T12:30:00.250000"
    assert (first["values"], first["text"]) == ([1.5, None], 'line\n"quoted", =1')
    assert (first["number"], second["number"], second["at"]) == (None, 0.0, None)


def test_a_header_with_a_line_end_is_written_once(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a\nb": [1], "c": [2]})
    path = tmp_path / "x.csv"
    output.write_batches([frame.clear(), frame, frame], path)
    assert pl.read_csv(path).rows() == [(1, 2), (1, 2)]


def test_a_file_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("before")

    def batches():
        yield pl.DataFrame({"a": [1]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.write_batches(batches(), path)
    assert path.read_text() == "before"
