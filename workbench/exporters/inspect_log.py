"""Export to Inspect AI's logs: one JSON file for each run, task and configuration.

`inspect view` and `inspect_ai.log.read_eval_log` read them. What the format has no place for stays
behind: prices and costs that were computed, energy, times between chunks, annotations.
"""

import datetime as dt
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import polars as pl

from workbench import private
from workbench.errors import StoreError
from workbench.records import Call, Message, Score, ToolCall, Trace
from workbench.slice import Slice
from workbench.store import Store, causes, recorded, scratch

VERSION = "0.3.285"  # of Inspect, whose layout and convention of usage are written
_STATUS = {"done": "success", "failed": "error", "cancelled": "cancelled"}
_LIMITS = {"tokens": "token", "messages": "message", "turns": "turn", "working time": "working"}
_KNOWN_LIMITS = {"context", "time", "working", "message", "turn", "token", "cost", "operator"}
_TOOL_ERRORS = {
    "parsing",
    "timeout",
    "unicode_decode",
    "permission",
    "file_not_found",
    "is_a_directory",
    "limit",
    "approval",
    "cancelled",
    "sandbox_unavailable",
    "output_limit",
}
_STOPS = {"stop", "max_tokens", "model_length", "tool_calls", "content_filter"}
_NO_TIME = "1970-01-01T00:00:00+00:00"  # the format demands a time, and none is known
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_KEYS = ("run_id", "task_id", "configuration_id")
_STEP = 2_000  # traces whose items are read at a time
_ITEMS = """FROM items WHERE item_id IN
    (SELECT item_id FROM traces WHERE trace_id IN (SELECT unnest($ids)))"""
_encode = msgspec.json.Encoder().encode


class LogFile(NamedTuple):
    """One written log."""

    path: Path
    n_samples: int


def write_logs(store: Store, folder: Path, where: Slice | str = "") -> list[LogFile]:
    """Write the traces of a slice as logs; the whole folder, or nothing.

    Args:
        store: the store; its spool is not read.
        folder: a new folder, or one that is empty.
        where: the slice.

    Returns:
        The files, with their numbers of samples.

    Raises:
        StoreError: the folder is there and holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there and not empty; name a new folder")
    try:
        with scratch.folder(folder.parent, f".{folder.name}.partial-") as scratched:
            partial = scratched / "logs"
            private.make_folder(partial)
            files = list(_write_all(store, partial, where))
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {causes.reason(error, 'another folder')}"
        ) from error
    return [LogFile(folder / file.path.name, file.n_samples) for file in files]


class _Group(NamedTuple):
    """What the samples of one log share."""

    run: Mapping[str, Any]
    task: Mapping[str, Any]
    configuration: Mapping[str, Any]
    n_items: int
    n_epochs: int


def _write_all(store: Store, folder: Path, where: Slice | str) -> Iterator[LogFile]:
    with store.facts(where) as frame:
        rows = frame.select(*_KEYS, "item", "trial", "trace_id").collect("polars").to_native()
    rows = rows.sort(*_KEYS, "item", "trial", "trace_id")
    sizes = rows.group_by(_KEYS).agg(
        n_items=pl.col("item").n_unique(), n_epochs=pl.col("trial").max() + 1
    )
    described = [
        {row[key]: row for row in store.sql(f"FROM {table}").iter_rows(named=True)}
        for table, key in zip(("runs", "tasks", "configurations"), _KEYS, strict=True)
    ]
    runs, tasks, configurations = described
    groups = {
        (run, task, configuration): _Group(
            runs[run], tasks[task], configurations[configuration], n_items, n_epochs
        )
        for run, task, configuration, n_items, n_epochs in sizes.iter_rows()
    }
    traces = _traces(store, rows["trace_id"].to_list())
    by_group = itertools.groupby(traces, lambda pair: _key(pair[0]))
    for number, (key, of_group) in enumerate(by_group):
        yield _write(folder, groups[key], number, of_group)


def _key(trace: Trace) -> tuple[str, str, str]:
    return trace.run_id, trace.task_id, trace.configuration_id


def _write(
    folder: Path,
    group: _Group,
    number: int,
    traces: Iterable[tuple[Trace, Mapping[str, Any]]],
) -> LogFile:
    task = _UNSAFE.sub("-", str(group.task["task"]))[:60]
    started = group.run.get("started_at")
    day = f"{started:%Y-%m-%dT%H-%M-%S}" if started else "undated"
    path = folder / f"{day}_{task}_{number:04d}.json"
    totals = _Totals()
    with private.only_owner(), path.open("xb") as file:
        file.write(b'{"version":2,"eval":%s,' % _encode(_eval(group)))
        file.write(b'"plan":%s,"samples":[' % _encode(_plan(group)))
        for trace, item in traces:
            file.write((b",\n" if totals.n_samples else b"\n") + _encode(_sample(trace, item)))
            totals.add(trace)
        file.write(b"\n],")
        _finish(file, group, totals)
    return LogFile(path, totals.n_samples)


class _Totals:
    """Sums over the samples of a log."""

    def __init__(self) -> None:
        self.n_samples = 0
        self.n_completed = 0
        self.scores: dict[str, list[float]] = {}
        self.usage: dict[str, dict[str, int]] = {}

    def add(self, trace: Trace) -> None:
        """Add a sample."""
        self.n_samples += 1
        self.n_completed += trace.error_type is None
        for score in _scores(trace):
            value = score.metric if score.metric is not None else score.score
            if value is not None:
                self.scores.setdefault(score.scorer, []).append(value)
        for model, counts in _usage_by_model(trace.calls).items():
            total = self.usage.setdefault(model, {})
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count


def _finish(file: IO[bytes], group: _Group, totals: _Totals) -> None:
    """Write what is known only when all samples are: status, results, totals."""
    run = group.run
    status = _STATUS.get(str(run.get("status")), "success" if run.get("ended_at") else "started")
    results = {
        "total_samples": totals.n_samples,
        "completed_samples": totals.n_completed,
        "scores": [
            {
                "name": name,
                "scorer": name,
                "params": {},
                "metrics": {"mean": {"name": "mean", "value": sum(values) / len(values)}},
            }
            for name, values in totals.scores.items()
        ],
    }
    stats = {
        "started_at": _time(run.get("started_at")) or "",
        "completed_at": _time(run.get("ended_at")) or "",
        "model_usage": totals.usage,
    }
    ended = {"status": status, "results": results, "stats": stats}
    if status == "error":
        message = str(run.get("error_message") or "the run failed")
        ended["error"] = {"message": message, "traceback": "", "traceback_ansi": ""}
    file.write(_encode(ended)[1:])


def _traces(store: Store, ids: Sequence[str]) -> Iterator[tuple[Trace, dict[str, Any]]]:
    """Read traces with their items."""
    for start in range(0, len(ids), _STEP):
        some = ids[start : start + _STEP]
        rows = store.sql(_ITEMS, {"ids": list(some)})
        items = {row["item_id"]: row for row in rows.iter_rows(named=True)}
        for trace in recorded.traces(store.path, some):
            yield trace, items.get(trace.item_id, {})


def _eval(group: _Group) -> dict[str, Any]:
    run, task = group.run, group.task
    return {
        "eval_id": f"{run.get('run_id')}-{group.configuration.get('configuration_id')}",
        "run_id": run.get("run_id") or "",
        "created": _time(run.get("started_at")) or _NO_TIME,
        "task": task["task"],
        "task_id": task["task_id"],
        "task_version": task.get("version") or 0,
        "model": _model_name(group.configuration.get("provider"), group.configuration.get("model")),
        "dataset": {"name": task["task"], "samples": group.n_items},
        "config": {"epochs": group.n_epochs},
        "packages": {"inspect_ai": VERSION},
        "metadata": {
            "workbench": {
                "source": run.get("source"),
                "configuration": group.configuration.get("configuration"),
            }
        },
    }


def _plan(group: _Group) -> dict[str, Any]:
    configuration = group.configuration
    generate = {
        "temperature": configuration.get("temperature"),
        "top_p": configuration.get("top_p"),
        "max_tokens": configuration.get("max_tokens"),
        "reasoning_effort": configuration.get("effort"),
        "reasoning_tokens": configuration.get("thinking_budget_tokens"),
    }
    params = _decoded(configuration.get("strategy_params"))
    step = {
        "solver": configuration.get("strategy") or "generate",
        "params": params if isinstance(params, dict) else {"params": params} if params else {},
    }
    return {"name": "plan", "steps": [step], "config": _known(generate)}


def _sample(trace: Trace, item: Mapping[str, Any]) -> dict[str, Any]:
    messages = list(_chat(trace))
    last = trace.calls[-1] if trace.calls else Call()
    ended = None
    if trace.started_at is not None and trace.e2e_s is not None:
        ended = _time(trace.started_at + dt.timedelta(seconds=trace.e2e_s))
    sample = {
        "id": item.get("item") or trace.item_id,
        "epoch": trace.trial + 1,
        "input": item.get("input") or "",
        "target": item.get("target") or "",
        "messages": [message for message, _ in messages],
        "output": _output(last, messages, len(trace.calls) - 1, trace.answer or ""),
        "scores": {score.scorer: _score(score) for score in _scores(trace)},
        "metadata": {},
        "store": {},
        "events": list(_events(trace, messages)),
        "events_data": {"messages": [message for message, _ in messages], "calls": []},
        "model_usage": _usage_by_model(trace.calls),
        "uuid": trace.trace_id,
        "started_at": _time(trace.started_at),
        "completed_at": ended,
        "total_time": trace.e2e_s,
        "working_time": trace.working_s,
        "turn_count": trace.n_turns,
        "limit": _limit(trace),
        "attachments": {},
    }
    if trace.error_type is not None:
        text = trace.error_message or trace.error_type
        named = f"{trace.error_type}: {text}"
        sample["error"] = {"message": text, "traceback": named, "traceback_ansi": named}
    return _known(sample)


def _limit(trace: Trace) -> dict[str, Any] | None:
    if trace.limit_type is None:
        return None
    kind = _LIMITS.get(trace.limit_type, trace.limit_type)
    return {"type": kind if kind in _KNOWN_LIMITS else "custom", "limit": 0.0}


def _chat(trace: Trace) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Put parts together to messages; yield each with the call that it belongs to."""
    parts: list[Message] = []
    for part in trace.messages:
        joins = (
            parts
            and part.role == "assistant" == parts[-1].role
            and part.call_ordinal == parts[-1].call_ordinal
        )
        if parts and not joins:
            yield _message(trace, parts), parts[0].call_ordinal
            parts = []
        parts.append(part)
    if parts:
        yield _message(trace, parts), parts[0].call_ordinal


def _message(trace: Trace, parts: Sequence[Message]) -> dict[str, Any]:
    first = parts[0]
    message: dict[str, Any] = {"id": f"{trace.trace_id}-{first.ordinal}", "role": first.role}
    if first.role == "tool":
        place = first.tool_call_ordinal
        tool = trace.tool_calls[place] if place is not None else None
        named = {} if tool is None else {"tool_call_id": _tool_id(tool), "function": tool.tool}
        return message | {"content": first.text} | named | _tool_error(tool)
    if first.role != "assistant":
        return message | {"content": first.text}
    content = []
    calls = []
    for part in parts:
        if part.kind == "thinking":
            content.append({"type": "reasoning", "reasoning": part.text})
        elif part.kind == "tool_call" and part.tool_call_ordinal is not None:
            calls.append(_requested(trace.tool_calls[part.tool_call_ordinal]))
        else:
            content.append({"type": "text", "text": part.text})
    is_text = len(content) == 1 and content[0]["type"] == "text"
    message["content"] = content[0]["text"] if is_text else content or ""
    return message | ({"tool_calls": calls} if calls else {})


def _requested(tool: ToolCall) -> dict[str, Any]:
    return {
        "id": _tool_id(tool),
        "function": tool.tool,
        "arguments": _arguments(tool),
        "type": "function",
    }


def _tool_id(tool: ToolCall) -> str:
    return tool.tool_call_id or f"tool-{tool.ordinal}"


def _arguments(tool: ToolCall) -> dict[str, Any]:
    """Return the arguments; the format takes objects only, so others are put into one."""
    arguments = _decoded(tool.arguments)
    if isinstance(arguments, dict):
        return arguments
    return {} if arguments is None else {"arguments": arguments}


def _tool_error(tool: ToolCall | None) -> dict[str, Any]:
    if tool is None or tool.error_type is None:
        return {}
    kind = tool.error_type if tool.error_type in _TOOL_ERRORS else "unknown"
    return {"error": {"type": kind, "message": tool.error_message or tool.error_type}}


def _events(
    trace: Trace, messages: Sequence[tuple[dict[str, Any], int | None]]
) -> Iterator[dict[str, Any]]:
    """Yield a model event for each call and a tool event for each tool call, in order.

    The prompt of a call is written as a range of `events_data`, so that the size of a log is linear
    in the length of a conversation.
    """
    results = {
        message["tool_call_id"]: message["content"]
        for message, _ in messages
        if message["role"] == "tool" and "tool_call_id" in message
    }
    of_call: dict[int | None, list[ToolCall]] = {}
    for tool in trace.tool_calls:
        of_call.setdefault(tool.call_ordinal, []).append(tool)
    n_prompt = 0
    for call in trace.calls:
        while n_prompt < len(messages) and not _is_reply(messages[n_prompt], call.ordinal):
            known = messages[n_prompt][1]
            if known is not None and known > call.ordinal:
                break
            n_prompt += 1
        yield _model_event(call, messages, n_prompt)
        for tool in of_call.get(call.ordinal, ()):
            yield _tool_event(tool, results)
    for tool in of_call.get(None, ()):
        yield _tool_event(tool, results)


def _is_reply(message: tuple[dict[str, Any], int | None], ordinal: int) -> bool:
    return message[0]["role"] == "assistant" and message[1] == ordinal


def _model_event(
    call: Call, messages: Sequence[tuple[dict[str, Any], int | None]], n_prompt: int
) -> dict[str, Any]:
    is_judge = call.role != "subject"
    completed = None
    if call.started_at is not None and call.e2e_s is not None:
        completed = _time(call.started_at + dt.timedelta(seconds=call.e2e_s))
    event = {
        "event": "model",
        "timestamp": _time(call.started_at) or _NO_TIME,
        "working_start": 0.0,
        "model": _model_name(call.provider, call.model),
        "role": "grader" if call.role == "judge" else call.role if is_judge else None,
        "input": [],
        "input_refs": [] if is_judge else [[0, n_prompt]],
        "tools": [],
        "tool_choice": "auto",
        "config": {},
        "output": _output(call, messages, call.ordinal, ""),
        "retries": call.n_retries,
        "error": call.error_message or call.error_type,
        "completed": completed,
        "working_time": call.e2e_s,
    }
    return _known(event)


def _tool_event(tool: ToolCall, results: Mapping[str, str]) -> dict[str, Any]:
    completed = None
    if tool.started_at is not None and tool.e2e_s is not None:
        completed = _time(tool.started_at + dt.timedelta(seconds=tool.e2e_s))
    event = {
        "event": "tool",
        "type": "function",
        "timestamp": _time(tool.started_at) or _NO_TIME,
        "working_start": 0.0,
        "id": _tool_id(tool),
        "function": tool.tool,
        "arguments": _arguments(tool),
        "result": results.get(_tool_id(tool), ""),
        "events": [],
        "completed": completed,
        "working_time": tool.e2e_s,
    }
    return _known(event | _tool_error(tool))


def _output(
    call: Call,
    messages: Sequence[tuple[dict[str, Any], int | None]],
    ordinal: int,
    answer: str,
) -> dict[str, Any]:
    reply = next((m for m, of in messages if m["role"] == "assistant" and of == ordinal), None)
    message = reply or {"role": "assistant", "content": answer}
    stop = call.stop_reason if call.stop_reason in _STOPS else "unknown"
    choices = [{"message": message, "stop_reason": stop}] if reply or answer else []
    output = {
        "model": call.response_model or call.model or "unknown",
        "choices": choices,
        "usage": _usage([call]),
        "time": call.e2e_s,
        "error": call.error_message or call.error_type,
    }
    return _known(output)


def _usage_by_model(calls: Sequence[Call]) -> dict[str, Any]:
    by_model: dict[str, list[Call]] = {}
    for call in calls:
        by_model.setdefault(_model_name(call.provider, call.model), []).append(call)
    usages = {model: _usage(of_model) for model, of_model in by_model.items()}
    return {model: usage for model, usage in usages.items() if usage is not None}


def _usage(calls: Sequence[Call]) -> dict[str, int] | None:
    """Sum tokens as Inspect counts them: input without cached tokens, output with thinking."""
    counted = [c for c in calls if c.input_tokens is not None and c.output_tokens is not None]
    if not counted:
        return None
    read = _sum(c.cache_read_tokens for c in counted)
    write = _sum(
        None
        if c.cache_write_5m_tokens is None and c.cache_write_1h_tokens is None
        else (c.cache_write_5m_tokens or 0) + (c.cache_write_1h_tokens or 0)
        for c in counted
    )
    prompt = _sum(c.input_tokens for c in counted) or 0
    output = _sum(c.output_tokens for c in counted) or 0
    usage = {
        "input_tokens": prompt - (read or 0) - (write or 0),
        "output_tokens": output,
        "total_tokens": prompt + output,
        "input_tokens_cache_read": read,
        "input_tokens_cache_write": write,
        "reasoning_tokens": _sum(c.reasoning_tokens for c in counted),
    }
    return _known(usage)


def _sum(values: Iterator[int | None] | Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _scores(trace: Trace) -> Sequence[Score]:
    if trace.scores or trace.score is None:
        return trace.scores
    return (Score(scorer="score", score=trace.score, answer=trace.answer),)


def _score(score: Score) -> dict[str, Any]:
    value: Any = score.value
    if score.metric is not None:
        value = score.metric
    elif score.value not in {"C", "I", "P", "N"}:
        value = score.score if score.score is not None else score.value
    written = {
        "value": "N" if value is None else value,
        "answer": score.answer,
        "explanation": score.explanation,
    }
    return _known(written)


def _model_name(provider: object, model: object) -> str:
    """Write a model as Inspect names it: provider first."""
    return f"{provider or 'unknown'}/{model or 'unknown'}"


def _decoded(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _time(value: dt.datetime | None) -> str | None:
    if value is None:
        return None
    return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).isoformat()


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
