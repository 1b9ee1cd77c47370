"""Hostile inputs for each reader of what others wrote, and what the reader may do with them.

A target has sound examples, and a reader that is given them changed: bytes flipped, cut, doubled,
values of JSON and TOML put in the place of others. The reader may refuse with an error of ours; any
other exception is a crash. `tests/trust/test_hostile_inputs.py` runs a little of each,
`tests/benchmarks/fuzz.py` as much as there is time for.
"""

import asyncio
import contextlib
import io
import json
import re
import resource
import signal
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click
import hypothesis
from hypothesis import strategies as st

from tests.support import making, serving_files, session_files, span_files, trajectory_files
from tests.support.runner_stub import DONE, delta, usage
from workbench import cells, sources, spool
from workbench.errors import ConfigError, SliceError, WorkbenchError
from workbench.runner import Plan, expand
from workbench.runner.attempts import journal
from workbench.runner.local import tool_text
from workbench.runner.providers import partial_reply, registry, sse
from workbench.runner.providers.protocol import Reply
from workbench.runner.tools import arguments
from workbench.scoring import json_values, unit_tests
from workbench.slice import Slice
from workbench.sources.report import FileReport
from workbench.store import exports, frames, open_store

LIMIT_S = 5.0  # of CPU time for one input; a few take a second, as bombs that are refused
LIMIT_BYTES = 1 << 30  # that one input may add to the address space

_DEEP = 20_000
JSON_VALUES = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"-0.0",
    b"NaN",
    b"1" * 30,
    b"9" * 5_000,
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"' + b"x" * 70_000 + b'"',
    b'"9999-12-31T23:59:59+14:00"',
    b'"0001-01-01T00:00:00-14:00"',
    b"[]",
    b"{}",
    b"[null]",
    b'{"a": [1, {"b": null}]}',
    b"[" * _DEEP + b"]" * _DEEP,
    b'{"a":' * _DEEP,
)
WORDS = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b"'", b'"', b"\\", b"%", b"{", b"}")
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|\[\]|\{\}')


class Crash(AssertionError):
    """A reader did with an input what it may not."""


class Target(NamedTuple):
    """One reader.

    Attributes:
        examples: inputs that it takes.
        read: gives it an input and a folder of its own.
        values: what stands in the place of a value.
    """

    name: str
    examples: tuple[bytes, ...]
    read: Callable[[bytes, Path], object]
    values: tuple[bytes, ...] = JSON_VALUES


@st.composite
def changed(draw: st.DrawFn, target: Target) -> bytes:
    """An example with up to six changes."""
    data = draw(st.sampled_from(target.examples))
    for _ in range(draw(st.integers(0, 6))):
        data = _change(draw, data, target)
    return data


def _change(draw: st.DrawFn, data: bytes, target: Target) -> bytes:
    kind = draw(st.sampled_from(["value", "value", "word", "cut", "double", "flip", "splice"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    length = draw(st.integers(1, 40))
    if kind == "value":
        places = list(_VALUE.finditer(data))
        if places:
            place = places[draw(st.integers(0, len(places) - 1))]
            value = draw(st.sampled_from(target.values))
            return data[: place.start()] + value + data[place.end() :]
    if kind == "word":
        return data[:at] + draw(st.sampled_from(WORDS)) + data[at:]
    if kind == "cut":
        return data[:at] + data[at + length :]
    if kind == "double":
        return data[: at + length] + data[at:]
    if kind == "flip":
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    other = draw(st.sampled_from(target.examples))
    begin = draw(st.integers(0, max(len(other) - 1, 0)))
    return data[:at] + other[begin : begin + 20 * length] + data[at:]


class _TooLong(BaseException):
    """The CPU time of one input is over."""


def attempt(target: Target, data: bytes, folder: Path) -> None:
    """Give a reader an input within bounds of time and memory; Crash where it misbehaves."""
    try:
        with _bounded():
            target.read(data, folder)
    except WorkbenchError as error:
        if not str(error).strip():
            raise Crash(f"{target.name}: an error without a word") from error
    except _TooLong:
        raise Crash(f"{target.name}: more than {LIMIT_S} s of CPU time") from None
    except Crash:
        raise
    except Exception as error:
        raise Crash(f"{target.name}: {type(error).__name__}: {str(error)[:300]}") from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Bound CPU time, and what the address space may grow by."""

    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before, limit = (
        signal.signal(signal.SIGVTALRM, too_long),
        resource.getrlimit(resource.RLIMIT_AS),
    )
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_BYTES, limit[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.signal(signal.SIGVTALRM, before)


def run(target: Target, folder: Path, *, examples: int, seed: int) -> int:
    """Try so many inputs; returns how many were tried. Crash shows the smallest that misbehaves."""
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(changed(target))
    def each(data: bytes) -> None:
        nonlocal tried
        tried += 1
        attempt(target, data, folder)

    each()
    return tried


# -- the readers ---------------------------------------------------------------------------------


def _spool_lines() -> tuple[bytes, ...]:
    """A segment, and its lines one by one."""
    with tempfile.TemporaryDirectory() as folder:
        with spool.SpoolWriter(Path(folder) / "s", "run-1", store_id="a" * 32) as writer:
            for record in [*list(making.records(1))[:12], making.rich_trace()]:
                writer.append(record)
        (segment,) = spool.segments(Path(folder) / "s")
        data = segment.path.read_bytes()
    lines = data.splitlines(keepends=True)
    return (data, lines[0], lines[1], lines[-1])


def _read_spool(data: bytes, folder: Path) -> None:
    path = folder / "run-1-000000.jsonl"
    path.write_bytes(data)
    batch = spool.read_segment(path)
    list(spool.read_summaries(path))
    for batch_of_frames in frames.batches(batch.records):
        assert batch_of_frames


def _read_records(data: bytes, folder: Path) -> None:
    """Lines whose checksums fit, whatever they say: somebody else's program wrote them."""
    lines = []
    for line in data.split(b"\n"):
        body = line[spool._RECORD_AT : -1]
        crc = b"%08x" % zlib.crc32(body)
        lines.append(b'{"crc":"' + crc + b'","record":' + body + b"}\n")
    _read_spool(b"".join(lines), folder)


def _kept_lines() -> tuple[bytes, ...]:
    """The file of an attempt's replies."""
    call = making.trace(making.COT, making.ITEMS[0]).calls[0]
    with tempfile.TemporaryDirectory() as folder:
        kept = journal.Journal(Path(folder), "run-1").open(("c", "i", 0), "t")
        for number in range(2):
            asyncio.run(kept.keep(f"r{number}", Reply(text="4", call=call)))
        kept.close()
        (file,) = journal.files(Path(folder))
        return (file.read_bytes(),)


def _read_journal(data: bytes, folder: Path) -> None:
    path = folder / "0a-run-1.jsonl"
    path.write_bytes(data)
    attempt_journal = journal.AttemptJournal(folder / "0a-run-2.jsonl", [path])
    assert isinstance(attempt_journal.unused, list)


def _manifests() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        making.small_store(Path(folder)).export(Path(folder) / "export")
        return ((Path(folder) / "export" / exports.MANIFEST).read_bytes(),)


def _read_manifest(data: bytes, folder: Path) -> None:
    (folder / exports.MANIFEST).write_bytes(data)
    exports.is_export(folder)
    exports.verify(folder)


_MAPPING = b"""
title = "a table"
kind = "traces"
rows = "records"
tokens = ["input excludes cached"]
delimiter = ";"
decimal = ","
[match]
files = ["*.csv"]
keys = ["model_name"]
columns = ["index", "cost"]
[constants]
strategy = "direct"
[columns]
item = "index"
model = "^model_name"
task = "@stem"
trial = "@repeat"
e2e_s = { column = "latency_ms", unit = "ms" }
score = { column = "points", unit = "percent" }
difficulty = { column = "level", offset = 1 }
billed_cost_usd = { column = "cost", null_if = [0], decimal = ",", optional = true, plus = ["tax"] }
started_at = { column = "day", format = "%d/%m/%Y" }
passed = { column = "verdict", map = { ok = true, bad = false, timeout = "@null" } }
[metrics]
rubric = { column = "judge", range = [0, 10], direction = "higher" }
[settings]
flag = "flag"
[totals]
cost = { column = "^cost", of = "billed_cost_usd", how = "sum", tolerance = 0.005 }
"""
_NESTED_MAPPING = b"""
rows = "groups.{group}[].records[]"
keep = "last"
unpivot = "{who}_points"
[tokens]
column = "flag"
map = { True = ["input excludes cached"] }
default = ["output excludes thinking"]
[match]
files = ["{name_part}.json", "*.json"]
[where]
level = { min = 1, max = 9 }
verdict = { not = ["bad", "@null"] }
flag = [true, false]
[join.other]
file = "{stem}.json"
on = { index = "@group" }
rows = "groups.{group}[0]"
[constants]
task = "t"
[columns]
item = { join = ["index", "@group"], separator = ":" }
model = "@who"
trace = "index"
trial = { column = ["none", "level"], default = 0 }
started_at = { column = "latency_ms", unit = "ms" }
ended_at = { column = "level", unit = "s" }
score = { column = "{who}_points", unit = "percent" }
answer = "raw.a[0]"
target = { column = "other.records", optional = true }
[scores]
again = { column = "{who}_points", unit = "percent" }
[item_metadata]
group = "@group"
level = "^level"
[tool_calls]
rows = "tools[]"
tool = "name"
arguments = "args"
e2e_s = { column = "ms", unit = "ms" }
"""
_TABLE = {
    "groups": {
        "g": [
            {
                "level": 2,
                "records": [
                    {"index": i, "latency_ms": 5000, "a_points": 50, "b_points": 0, "level": 9}
                    | {"flag": True, "verdict": "ok", "raw": '{"a": ["x"]}'}
                    | {"tools": [{"name": "sh", "args": {"c": 1}, "ms": 5}]}
                    for i in range(2)
                ],
            }
        ]
    },
    "model_name": "m",
    "cost": 3,
    "records": [
        {"index": i, "latency_ms": 5, "points": 50, "level": 1, "cost": 1, "tax": 0.5, "flag": True}
        | {"day": "03/04/2026", "verdict": "ok", "judge": 4}
        for i in range(3)
    ],
}
TOML_VALUES = (
    b'""',
    b"1",
    b"-1",
    b"true",
    b"nan",
    b"inf",
    b"1e400",
    b"9" * 5_000,
    b"[]",
    b"{}",
    b"[1]",
    b'["a"]',
    b"[[]]",
    b'{ a = "b" }',
    b'{ column = "index" }',
    b"2026-01-01",
    b"12:00:00",
    b"[" * _DEEP + b"]" * _DEEP,
    b'"""' + b"x" * 10_000 + b'"""',
    b'"%"',
    b'"*[!"',
    b'"\\u0000"',
)


def _read_mapping(data: bytes, folder: Path) -> None:
    mapping, table = folder / "map.toml", folder / "table.json"
    mapping.write_bytes(data)
    table.write_text(json.dumps(_TABLE))
    report = FileReport(table)
    for batch in frames.batches(sources.read(table, report=report, mapping=mapping)):
        assert batch


_PLAN = b"""
models = ["a", { model = "b", provider = "x", base_url = "http://127.0.0.1:9/v1", max_tokens = 5 }]
tasks = ["arithmetic"]
strategies = ["direct", { name = "self_consistency", samples = 3, shots = 0 }]
trials = 2
limit = 3
seed = 1
concurrency = 4
budget_usd = 1.5
budget_tokens = 1000
temperature = 0.5
timeout_s = 10.0
retries = 2
energy = "off"
base_url = "http://127.0.0.1:9/v1"
[helpers.judge]
model = "j"
[strategy_params.direct]
"""


def _read_plan(data: bytes, folder: Path) -> None:
    from workbench.cli.collect import _plan

    path = folder / "plan.toml"
    path.write_bytes(data)
    try:
        plan = Plan.from_mapping(_plan(path, {}))
    except click.UsageError as error:
        raise ConfigError(str(error)) from error
    work = expand(plan, folder)
    assert len(work) >= 0
    plan.as_json()


_FILTERS = (
    b'model:gpt* task:gsm8k wrong thinking>2000 cost>0.1 since:2026-10-01 "text in transcript"',
    b'-model=a,b params."docs">=2k settings.x:"a b",none metrics.rubric<50% error latency<500ms',
    b"until:7d since:2026-01-01T10:00:00 tokens!=3 replaced -right strategy:any energy>3kJ",
)


def _engine() -> "Callable[[str], object]":
    """Runs a filter on an empty store."""
    folder = tempfile.TemporaryDirectory()
    store = open_store(Path(folder.name) / "s.duckdb", create=True)
    store.ingest(making.records(1))

    def ask(where: str) -> object:
        assert folder
        return store.count(where)

    return ask


_asked: list[Callable[[str], object]] = []


def _read_filter(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "replace")
    slice_ = Slice.of(text, now=making.START)
    if str(Slice.of(str(slice_), now=making.START)) != str(slice_):
        raise Crash(f"the text of a filter is another filter: {slice_}")
    slice_.sql()
    with contextlib.suppress(SliceError):
        slice_.polars()
    if not _asked:
        _asked.append(_engine())
    _asked[0](text)


def _events() -> tuple[bytes, ...]:
    counts = usage(prompt_tokens=12, completion_tokens=3, total_tokens=15)
    tool = [{"index": 0, "id": "c0", "function": {"name": "calc", "arguments": '{"x": 1}'}}]
    chat = [delta(role="assistant", text=""), delta("4"), delta(tool_calls=tool)]
    chat += [delta(reasoning_content="so"), delta(finish="stop"), counts, DONE]
    messages = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "4"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t"},
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]
    responses = [
        {"type": "response.created", "response": {"id": "r", "model": "m"}},
        {"type": "response.output_text.delta", "delta": "4", "item_id": "i", "output_index": 0},
        {
            "type": "response.completed",
            "response": {"id": "r", "status": "completed", "output": []},
        },
    ]
    gemini = [
        {"candidates": [{"content": {"parts": [{"text": "4"}], "role": "model"}, "index": 0}]},
        {"candidates": [{"finishReason": "STOP", "content": {"parts": []}}], "usageMetadata": {}},
    ]

    def written(events: list[dict[str, Any]]) -> bytes:
        named = ((str(e.get("type", "message")), json.dumps(e)) for e in events)
        return "".join(f"event: {name}\ndata: {text}\n\n" for name, text in named).encode()

    return (b"".join(chat), written(messages), written(responses), written(gemini))


_ENDPOINTS = ("chat", "completions", "responses", "messages", "gemini")


def _read_events(data: bytes, folder: Path) -> None:
    """Any cut of the bytes gives the same events, and every format takes or refuses them."""
    del folder
    whole = sse.EventStream()
    events = [*whole.feed(data), *whole.close()]
    pieces, found = sse.EventStream(), []
    for at in range(0, len(data), max(len(data) // 40, 7)):
        found += pieces.feed(data[at : at + max(len(data) // 40, 7)])
    if [*found, *pieces.close()] != events:
        raise Crash("other events from other pieces")
    for endpoint in _ENDPOINTS:
        got = _provider(endpoint).partial_reply()
        with contextlib.suppress(ValueError, partial_reply.StreamFailed):
            for number, event in enumerate(events):
                got.take(event, 0.1 * number)
        got.fault()
        got.stop_reason()
        got.tool_calls()
        got.tool_ids()
        got.state()


_providers: dict[str, Any] = {}


def _provider(endpoint: str) -> Any:
    if endpoint not in _providers:

        async def make() -> Any:
            return registry.make(endpoint, "http://127.0.0.1:9/v1", name="fuzz")

        _providers[endpoint] = asyncio.run(make())
    return _providers[endpoint]


def _archives() -> tuple[bytes, ...]:
    from tests.support import inspect_logs as logs

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for method in (0, 8):
            path = logs.whole(Path(folder) / f"{method}.eval", logs.sample(), method=method)
            found.append(path.read_bytes())
    return tuple(found)


def _read_file(name: str) -> Callable[[bytes, Path], None]:
    """Reads a file of any known format, to the tables that the store takes."""

    def read(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(data)
        report = FileReport(path)
        for batch in frames.batches(sources.read(path, report=report)):
            assert batch

    return read


def _logs() -> tuple[bytes, ...]:
    """The members of a log as JSON, put together in one document."""
    import zipfile

    found = []
    for data in _archives()[:1]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name).decode() for name in archive.namelist()}
            found.append(json.dumps(members).encode())
    return tuple(found)


def _read_members(data: bytes, folder: Path) -> None:
    """Members that say anything, in a sound archive."""
    import zipfile

    try:
        members = json.loads(data)
        assert isinstance(members, dict)
    except (ValueError, RecursionError, AssertionError):
        return
    path = folder / "members.eval"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            if isinstance(text, str) and name.isprintable() and 0 < len(name) < 100:
                archive.writestr(name, text.encode("utf-8", "replace"))
    _read_file("members.eval")(path.read_bytes(), folder)


_ROWS = (
    b"item,model,task,passed,input_tokens,output_tokens,cost,started_at\n"
    b'1,m,t,true,"1,250",3,$0.05,2026-01-01\n2,m,t,no,12,4,"0,5",1767225600\n'
    b"3,m,t,\xe2\x80\x94,1 234,5,81.3%,03/04/2026\n",
    b'"sep=;"\nitem;model;task;passed\n1;m;t;pass\n',
    b"item\tmodel\ttask\tscore\n1\tm\tt\t0.5\n",
)
_CSV_MAPPING = b"""
kind = "traces"
[columns]
item = "item"
model = "model"
task = "task"
passed = { column = "passed", optional = true }
score = { column = "score", optional = true }
input_tokens = { column = "input_tokens", optional = true }
billed_cost_usd = { column = "cost", optional = true }
started_at = { column = "started_at", optional = true }
"""


def _read_cells(data: bytes, folder: Path) -> None:
    """A table, and each of its cells by every rule; as questions, too."""
    from workbench.datasets import load_task

    text = data.decode("utf-8", "replace")
    for cell in re.split(r"[,;\t\n]", text):
        for rule in (cells.number, cells.quantity, cells.flag, cells.moment):
            with contextlib.suppress(ValueError):
                rule(cell)
        cells.seconds(cell)
        cells.decimal_mark(cell)
    table, mapping = folder / "table.csv", folder / "csv.toml"
    table.write_bytes(data)
    mapping.write_bytes(_CSV_MAPPING)
    with contextlib.suppress(WorkbenchError):
        load_task(str(table))
    faults: list[WorkbenchError | None] = [None, None]
    for place, read in enumerate((sources.read, sources.read_rows)):
        try:
            for batch in frames.batches(read(table, mapping=mapping)):
                assert batch
        except WorkbenchError as error:
            faults[place] = error
    if str(faults[0]) != str(faults[1]):
        raise Crash(f"cells: row by row {faults[0]}, in bulk {faults[1]}")
    if faults[0] is not None:
        raise faults[0]


_SAID = (
    b'I think <tool_call>{"name": "calc", "arguments": {"x": 1}}</tool_call> then',
    b'[TOOL_CALLS][{"name": "sql", "arguments": "{}"}]',
    b'<|python_tag|>{"name": "calc", "parameters": {"x": 2}}',
    b'```json\n{"query": "SELECT 1"}\n```\nAnswer: {"a": [1, 2]}',
    b"```python\ndef f(x):\n    return x\n```\nand ```\ncode",
    b'{"x": 1, "y": "z", "unit": "m", "list": [], "deep": {}}',
)
_SCHEMA = {
    "type": "object",
    "required": ["x"],
    "properties": {
        "x": {"type": "integer", "minimum": 0, "maximum": 9},
        "y": {"type": "string", "maxLength": 5},
        "unit": {"type": "string", "enum": ["m", "km"]},
        "list": {"type": "array"},
        "deep": {"type": "object"},
    },
}


def _read_answer(data: bytes, folder: Path) -> None:
    """What a model wrote: tools in its text, arguments, code, JSON, what graded code printed."""
    del folder
    text = data.decode("utf-8", "replace")
    left, asked = tool_text.parse(text, {"calc", "sql"})
    assert isinstance(left, str)
    for candidate in (text, *(call.arguments for call in asked)):
        with contextlib.suppress(arguments.BadArguments):
            arguments.read(candidate, _SCHEMA)
    json_values.find_value(text)
    unit_tests.last_block(text)
    unit_tests._results(text, "mark")
    unit_tests._results(text.replace(" ", " mark "), "mark")


def _sessions() -> tuple[bytes, ...]:
    claude = [
        {"type": "user", "uuid": "u1", "sessionId": "s", "timestamp": "2026-01-01T00:00:00Z"}
        | {"message": {"role": "user", "content": "2+2?"}},
        {"type": "assistant", "uuid": "a1", "parentUuid": "u1", "sessionId": "s", "requestId": "r"}
        | {"timestamp": "2026-01-01T00:00:01Z"}
        | {
            "message": {
                "id": "m1",
                "model": "claude-x",
                "role": "assistant",
                "content": [{"type": "text", "text": "4"}],
                "usage": {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 2},
            }
        },
    ]
    codex = [
        {"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "s"}},
        {"timestamp": "2026-01-01T00:00:00Z", "type": "turn_context", "payload": {"model": "m"}},
        {
            "timestamp": "2026-01-01T00:00:01Z",
            "type": "response_item",
            "payload": {"type": "message", "role": "user", "content": [{"text": "2+2?"}]},
        },
        {
            "timestamp": "2026-01-01T00:00:02Z",
            "type": "event_msg",
            "payload": {
                "type": "token_count",
                "info": {"total_token_usage": {"input_tokens": 3, "output_tokens": 1}},
            },
        },
    ]
    batch = [
        {
            "id": "b1",
            "custom_id": "c1",
            "response": {
                "status_code": 200,
                "body": {
                    "id": "x",
                    "model": "m",
                    "created": 1,
                    "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
                },
            },
        }
    ]
    written = (claude, codex, batch)
    return (
        *("\n".join(json.dumps(line) for line in lines).encode() for lines in written),
        *session_files.EXAMPLES,
    )


def _spans() -> tuple[bytes, ...]:
    run = span_files.agent_run()
    return span_files.lines(*run), json.dumps(span_files.request(*run)).encode()


_SHEET = b"""
[[price]]
provider = "openai"
model = "gpt-5"
input_usd_per_mtok = 1.25
output_usd_per_mtok = 10
effective_from = 2026-01-01
[[alias]]
name = "my-model"
model = "gpt-5"
[[accelerator]]
accelerator = "H200"
peak_tflops = 989
[[model]]
model = "m"
n_params = 8_000_000_000
"""


def _read_yaml(data: bytes, folder: Path) -> None:
    """The same table as YAML, of which JSON is a part."""
    table, mapping = folder / "table.yaml", folder / "map.toml"
    table.write_bytes(data)
    mapping.write_bytes(_MAPPING)
    report = FileReport(table)
    for batch in frames.batches(sources.read(table, report=report, mapping=mapping)):
        assert batch


def _read_sheets(data: bytes, folder: Path) -> None:
    """What else is written in TOML: prices, names of models, hardware."""
    from workbench import hardware, models, prices

    path = folder / "sheet.toml"
    path.write_bytes(data)
    for read in (prices.read_sheet, models.read_aliases, hardware.read):
        with contextlib.suppress(WorkbenchError):
            read(path)


_MADE: dict[str, Callable[[], Target]] = {
    "spool": lambda: Target("spool", _spool_lines(), _read_spool),
    "records": lambda: Target("records", _spool_lines(), _read_records),
    "journal": lambda: Target("journal", _kept_lines(), _read_journal),
    "manifest": lambda: Target("manifest", _manifests(), _read_manifest),
    "mapping": lambda: Target("mapping", (_MAPPING, _NESTED_MAPPING), _read_mapping, TOML_VALUES),
    "plan": lambda: Target("plan", (_PLAN,), _read_plan, TOML_VALUES),
    "sheets": lambda: Target("sheets", (_SHEET,), _read_sheets, TOML_VALUES),
    "filter": lambda: Target("filter", _FILTERS, _read_filter),
    "events": lambda: Target("events", _events(), _read_events),
    "archive": lambda: Target("archive", _archives(), _read_file("log.eval")),
    "members": lambda: Target("members", _logs(), _read_members),
    "cells": lambda: Target("cells", _ROWS, _read_cells),
    "yaml": lambda: Target("yaml", (json.dumps(_TABLE).encode(),), _read_yaml),
    "answer": lambda: Target("answer", _SAID, _read_answer),
    "sessions": lambda: Target("sessions", _sessions(), _read_file("lines.jsonl")),
    "spans": lambda: Target("spans", _spans(), _read_file("spans.json")),
    "serving": lambda: Target("serving", serving_files.EXAMPLES, _read_file("benchmark.json")),
    "trajectories": lambda: Target(
        "trajectories", trajectory_files.EXAMPLES, _read_file("trajectory.json")
    ),
}
NAMES = tuple(_MADE)


def target(name: str) -> Target:
    """A reader by its name."""
    return _MADE[name]()
