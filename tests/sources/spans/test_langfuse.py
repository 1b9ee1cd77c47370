"""Langfuse's exports in their shapes: the same observations give the same trace."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Trace
from workbench.sources.report import FileReport
from workbench.store import open_store

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def observation(id_: str, kind: str, start: str, end: str, **fields: Any) -> dict[str, Any]:
    """One observation, named as the API names it."""
    return {
        "id": id_,
        "traceId": TRACE_ID,
        "parentObservationId": None if id_ == "root" else "root",
        "type": kind,
        "name": f"name of {id_}",
        "startTime": f"2026-05-01T10:00:{start}Z",
        "endTime": f"2026-05-01T10:00:{end}Z",
        "level": "DEFAULT",
        "updatedAt": "2026-05-01T11:00:00.000Z",
    } | fields


def observations() -> list[dict[str, Any]]:
    """An agent with a call and a tool that fails."""
    usage = {
        "input": 24,
        "output": 378,
        "input_cached_tokens": 10,
        "output_reasoning_tokens": 1029,
        "total": 1441,
    }
    generation = observation(
        "gen",
        "GENERATION",
        "01.000",
        "03.000",
        completionStartTime="2026-05-01T10:00:01.500Z",
        model="gemini-x",
        modelParameters={"temperature": 0.5, "max_tokens": 99},
        input=[{"role": "user", "content": "hi"}],
        output={"role": "assistant", "content": "hello"},
        usageDetails=usage,
        costDetails={"total": 0.02},
        totalCost=0.02,
    )
    tool = observation(
        "tool",
        "TOOL",
        "03.000",
        "04.500",
        input={"q": "x"},
        output="nothing",
        level="ERROR",
        statusMessage="no network",
    )
    return [observation("root", "AGENT", "00.000", "05.000", output="done"), generation, tool]


def trace(**fields: Any) -> dict[str, Any]:
    """The trace itself."""
    score = {"name": "correct", "value": 1, "dataType": "BOOLEAN", "comment": "It is."}
    return {
        "id": TRACE_ID,
        "name": "chat",
        "sessionId": "s-17",
        "userId": "u-5",
        "totalCost": 0.02,
        "input": "hi",
        "scores": [score],
    } | fields


def snake(row: dict[str, Any]) -> dict[str, Any]:
    """Names as the tables have them."""
    return {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in name): value
        for name, value in row.items()
    }


def cells(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table whose nested values are JSON texts."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = [
        {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name in names
            for value in [row.get(name)]
        }
        for row in rows
    ]
    return pl.DataFrame(texts, infer_schema_length=None)


def download(path: Path) -> None:
    """A trace as the interface downloads it: every observation twice."""
    document = {"trace": trace(observations=observations()), "observations": observations()}
    path.write_text(json.dumps(document, indent=1))


def api(path: Path) -> None:
    """A page of the API."""
    path.write_text(json.dumps({"data": observations(), "meta": {}}))


def blob_lines(path: Path) -> None:
    """A table as JSON lines."""
    path.write_text("".join(json.dumps(snake(row)) + "\n" for row in observations()))


def blob_list(path: Path) -> None:
    """A table as a JSON list."""
    path.write_text(json.dumps([snake(row) for row in observations()]))


def blob_csv(path: Path) -> None:
    """A table as CSV."""
    cells([snake(row) for row in observations()]).write_csv(path)


def blob_parquet(path: Path) -> None:
    """A table as Parquet."""
    cells([snake(row) for row in observations()]).write_parquet(path)


SHAPES = {
    "download": (download, "trace.json"),
    "api": (api, "page.json"),
    "lines": (blob_lines, "table.jsonl"),
    "list": (blob_list, "table.json"),
    "csv": (blob_csv, "table.csv"),
    "parquet": (blob_parquet, "table.parquet"),
}


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == "langfuse"
    return list(sources.read(path, report=report)), report


def one(path: Path) -> Trace:
    """The one trace of a file."""
    [found] = [record for record in read(path)[0] if isinstance(record, Trace)]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_observations_in_every_shape(tmp_path: Path, shape: str) -> None:
    write, name = SHAPES[shape]
    path = tmp_path / name
    write(path)
    records, _ = read(path)
    [configuration] = [r for r in records if isinstance(r, Configuration)]
    assert (configuration.model, configuration.temperature, configuration.max_tokens) == (
        "gemini-x",
        0.5,
        99,
    )
    found = one(path)
    [call] = found.calls
    assert (call.input_tokens, call.cache_read_tokens) == (34, 10)
    assert (call.output_tokens, call.reasoning_tokens, call.total_tokens) == (1407, 1029, 1441)
    assert (call.billed_cost_usd, call.ttft_s, call.e2e_s) == (0.02, 0.5, 2.0)
    [tool] = found.tool_calls
    assert (tool.tool, tool.arguments, tool.e2e_s) == ("name of tool", '{"q":"x"}', 1.5)
    assert (tool.error_message, tool.result_bytes) == ("no network", 7)
    assert [(m.role, m.text) for m in found.messages] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("tool", "nothing"),
    ]
    assert (found.answer, found.e2e_s) == ("done", 5.0)


def test_what_a_trace_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    download(path)
    records, report = read(path)
    found = one(path)
    assert json.loads(found.metadata or "")["session"] == "s-17"
    assert [(s.scorer, s.score, s.explanation) for s in found.scores] == [
        ("correct", 1.0, "It is.")
    ]
    assert found.passed is True
    [item] = [record for record in records if isinstance(record, Item)]
    assert item.input == "hi"
    assert [(t.stated, t.agrees) for t in report.totals] == [(0.02, True)]


def test_every_shape_gives_the_same_ids(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.duckdb", create=True)
    for write, name in SHAPES.values():
        write(tmp_path / name)
        store.ingest(read(tmp_path / name)[0])
    assert store.sql("SELECT count(*) FROM traces").rows() == [(1,)]
    assert store.sql("SELECT count(*) FROM calls").rows() == [(1,)]


def generation(**fields: Any) -> dict[str, Any]:
    """One call, alone in its trace."""
    row = observation("gen", "GENERATION", "00.000", "01.000", model="m", **fields)
    return row | {"parentObservationId": None}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"usageDetails": {"input": 100, "output": 5, "total": 105}}, (100, None, 5)),
        (  # the total says that input includes what was cached
            {"usageDetails": {"input": 100, "input_cached_tokens": 90, "output": 5, "total": 105}},
            (100, 90, 5),
        ),
        (
            {
                "usageDetails": {
                    "input": 10,
                    "cache_read_input_tokens": 90,
                    "output": 5,
                    "total": 105,
                }
            },
            (100, 90, 5),
        ),
        ({"usage": {"input": 13, "output": 353, "total": 366, "unit": "TOKENS"}}, (13, None, 353)),
        ({"promptTokens": 5, "completionTokens": 12, "totalTokens": 17}, (5, None, 12)),
        ({"usageDetails": {}}, (None, None, None)),
    ],
)
def test_usage_of_every_age(
    tmp_path: Path, fields: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([generation(**fields)]))
    [call] = one(path).calls
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == expected


def test_a_cost_of_0_is_an_unknown_price(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([generation(totalCost=0, costDetails={})]))
    assert one(path).calls[0].billed_cost_usd is None


def test_the_latest_version_of_an_observation_counts(tmp_path: Path) -> None:
    """Exports overlap."""
    old = generation(usageDetails={"input": 1, "output": 1, "total": 2})
    new = generation(usageDetails={"input": 7, "output": 9, "total": 16})
    new["updatedAt"] = "2026-05-02T00:00:00.000Z"
    for rows in ([old, new], [new, old]):
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert [call.input_tokens for call in one(path).calls] == [7]


@pytest.mark.parametrize("field", ["usageDetails", "costDetails", "startTime", "metadata", "input"])
@pytest.mark.parametrize("value", [3, "x", [1], {"a": {"b": []}}, "[" * 100, None])
def test_fields_of_another_type_are_read_as_far_as_they_go(
    tmp_path: Path, field: str, value: Any
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([generation() | {field: value}]))
    assert len(one(path).calls) == 1


def test_what_is_broken_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([generation()])[:-9])
    with pytest.raises(ImportFormatError, match=r"x\.json"):
        list(sources.read(path))
