"""Phoenix's database and frames: the spans of OpenInference, nested or flat."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support import span_files
from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Task, Trace
from workbench.sources.report import FileReport
from workbench.store import open_store

SCHEMA = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE traces (id INTEGER PRIMARY KEY, project_rowid INTEGER, trace_id TEXT);
CREATE TABLE spans (id INTEGER PRIMARY KEY, trace_rowid INTEGER, span_id TEXT, parent_id TEXT,
  name TEXT, span_kind TEXT, start_time TEXT, end_time TEXT, attributes TEXT, events TEXT,
  status_code TEXT, status_message TEXT, cumulative_llm_token_count_prompt INTEGER);
CREATE TABLE span_annotations (id INTEGER PRIMARY KEY, span_rowid INTEGER, name TEXT, label TEXT,
  score REAL, explanation TEXT, annotator_kind TEXT);
CREATE TABLE trace_annotations (id INTEGER PRIMARY KEY, trace_rowid INTEGER, name TEXT, label TEXT,
  score REAL, explanation TEXT);
"""


def plain(value: dict[str, Any]) -> Any:
    """A value of an attribute."""
    [(kind, inner)] = value.items()
    return int(inner) if kind == "intValue" else inner


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Attributes as Phoenix stores them: dots are levels, indexes are lists."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = tree
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value

    def listed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value and all(key.isdecimal() for key in value):
            return [listed(value[key]) for key in sorted(value, key=int)]
        return {key: listed(inner) for key, inner in value.items()}

    return listed(tree)


def rows() -> list[dict[str, Any]]:
    """The spans of an agent's run."""
    spans = []
    for span in span_files.agent_run():
        flat = {a["key"]: plain(a["value"]) for a in span["attributes"]}
        start, end = (int(span[f"{edge}TimeUnixNano"]) // 1000 for edge in ("start", "end"))
        kind = flat["openinference.span.kind"]
        times = pl.Series([start, end], dtype=pl.Datetime("us")).dt.strftime(
            "%Y-%m-%d %H:%M:%S%.6f"
        )
        spans.append(
            {
                "span_id": span["spanId"],
                "parent_id": span.get("parentSpanId"),
                "name": span["name"],
                "span_kind": kind,
                "start_time": times[0],
                "end_time": times[1],
                "flat": flat,
            }
        )
    return spans


def database(path: Path, *, trace: str = span_files.TRACE) -> None:
    """A database with one trace and its annotations."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO projects VALUES (1, 'helpdesk')")
        connection.execute("INSERT INTO traces VALUES (7, 1, ?)", [trace])
        for number, row in enumerate(rows(), start=1):
            values = (number, 7, *[row[n] for n in ("span_id", "parent_id", "name", "span_kind")])
            values += (row["start_time"], row["end_time"], json.dumps(nested(row["flat"])), "[]")
            values += ("OK", "", 999)
            connection.execute(f"INSERT INTO spans VALUES ({', '.join('?' * 13)})", values)
        annotation = (1, 2, "helpful", "yes", 0.25, "It was.", "LLM")
        connection.execute("INSERT INTO span_annotations VALUES (?, ?, ?, ?, ?, ?, ?)", annotation)
        whole = (1, 7, "rubric", None, 7.0, None)
        connection.execute("INSERT INTO trace_annotations VALUES (?, ?, ?, ?, ?, ?)", whole)
        connection.commit()


def frame() -> pl.DataFrame:
    """The frame that `get_spans_dataframe` gives."""
    table = []
    for row in rows():
        columns = {
            "context.span_id": row["span_id"],
            "context.trace_id": span_files.TRACE,
            "parent_id": row["parent_id"],
            "name": row["name"],
            "span_kind": row["span_kind"],
            "start_time": row["start_time"],
            "end_time": row["end_time"],
            "status_code": "OK",
            "status_message": "",
        }
        messages = {"llm.input_messages", "llm.output_messages"}
        tree = nested(row["flat"])
        for name in messages:
            value = tree.get("llm", {}).get(name.removeprefix("llm."))
            columns[f"attributes.{name}"] = None if value is None else json.dumps(value)
        for name, value in row["flat"].items():
            if not name.startswith(tuple(messages)):
                columns[f"attributes.{name}"] = float(value) if isinstance(value, int) else value
        table.append(columns)
    return pl.DataFrame(table, infer_schema_length=None)


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == "phoenix"
    return list(sources.read(path, report=report)), report


def one(path: Path) -> Trace:
    """The one trace of a file."""
    [found] = [record for record in read(path)[0] if isinstance(record, Trace)]
    return found


def check(trace: Trace) -> None:
    """The figures of the agent's run."""
    first, second = trace.calls
    assert (first.input_tokens, first.cache_read_tokens, first.reasoning_tokens) == (100, 40, 8)
    assert (second.input_tokens, second.output_tokens, second.e2e_s) == (150, 11, 3.0)
    [tool] = trace.tool_calls
    assert (tool.tool, tool.e2e_s, tool.result_bytes) == ("ls", 2.0, 5)
    assert [m.text for m in trace.messages] == [
        "You are a clerk.",
        "List the files.",
        'ls({"all":true,"path":"/"})',
        "a.txt",
        "There is a.txt.",
    ]
    assert json.loads(trace.metadata or "")["session"] == "s-17"


def test_the_database(tmp_path: Path) -> None:
    path = tmp_path / "phoenix.db"
    database(path)
    records, _ = read(path)
    check(one(path))
    [task] = [record for record in records if isinstance(record, Task)]
    assert task.task == "helpdesk"
    scores = [(s.scorer, s.score, s.metric, s.value, s.explanation) for s in one(path).scores]
    assert scores == [
        ("helpful", 0.25, None, "yes", "It was."),
        ("rubric", None, 7.0, "7", None),
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"spans{suffix}"
    frame().write_parquet(path) if suffix == ".parquet" else frame().write_csv(path)
    check(one(path))


def test_a_trace_by_two_routes_is_one(tmp_path: Path) -> None:
    """Its spans of OTLP, and what Phoenix made of them."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    spans = tmp_path / "spans.jsonl"
    spans.write_bytes(span_files.lines(*span_files.agent_run()))
    store.ingest(sources.read(spans))
    database(tmp_path / "phoenix.db")
    store.ingest(sources.read(tmp_path / "phoenix.db"))
    assert store.sql("SELECT count(*) FROM traces").rows() == [(1,)]
    assert store.sql("SELECT count(*) FROM calls").rows() == [(2,)]


def test_what_waits_in_the_log_of_a_running_phoenix_is_read(tmp_path: Path) -> None:
    path = tmp_path / "phoenix.db"
    database(path)
    with closing(sqlite3.connect(path)) as running:
        running.execute("PRAGMA journal_mode = wal")
        running.execute("UPDATE projects SET name = 'renamed'")
        running.commit()
        [task] = [record for record in read(path)[0] if isinstance(record, Task)]
    assert task.task == "renamed"


def test_a_frame_of_the_default_limit_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "spans.parquet"
    pl.concat([frame()] * 250).write_parquet(path)
    _, report = read(path)
    assert any("limit of get_spans_dataframe" in note for note in report.notes)


def test_another_database_is_not_phoenix(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE spans (id INTEGER)")
        connection.commit()
    assert sources.detect(path) is None


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "phoenix.db"
    database(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(ImportFormatError, match=r"phoenix\.db"):
        list(sources.get("phoenix").read(path, report=FileReport(path)))
