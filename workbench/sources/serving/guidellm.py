"""Reports of GuideLLM (benchmarks.json): each benchmark of a sweep is a run, never pooled.

A conversation is a trace, each of its requests a call. Requests sent before the measurement began
or that ended after it (warm-up and cool-down) are left out, and counted. A report may hold a sample
of the requests only; the stated number of all is compared with it.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workbench import usage
from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Task,
    ToolCall,
    Trace,
    attempt_id,
    content_id,
    json_text,
)
from workbench.sources import heads, json_bytes
from workbench.sources.json_lines import content_text, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import measured
from workbench.sources.serving.measured import HIGHER, LOWER, Figure
from workbench.sources.transcript import Transcript

NAME = "guidellm"
_MARKS = (b'"guidellm_version"', b'"generative_benchmark"')
_STATUSES = ("successful", "errored", "incomplete")
_DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BENCHMARKS = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ANY = msgspec.json.Decoder()
# distribution → (metric, suffix, unit, units per unit of the file, direction)
_DISTRIBUTIONS: dict[str, tuple[str, str, str, float, str | None]] = {
    "request_latency": ("e2e", "s", "s", 1.0, LOWER),
    "time_to_first_token_ms": ("ttft", "s", "s", 1e-3, LOWER),
    "time_to_first_output_token_ms": ("answer_start", "s", "s", 1e-3, LOWER),
    "inter_token_latency_ms": ("itl", "s", "s", 1e-3, LOWER),
    "time_per_output_token_ms": ("time_per_output_token", "s", "s", 1e-3, LOWER),
    "prompt_token_count": ("input", "tokens", "tokens", 1.0, None),
    "output_token_count": ("output", "tokens", "tokens", 1.0, None),
    "request_concurrency": ("concurrent", "requests", "count", 1.0, None),
}
_RATES = {
    "requests_per_second": ("requests_per_s", "requests/s"),
    "output_tokens_per_second": ("output_tokens_per_s", "tokens/s"),
    "tokens_per_second": ("tokens_per_s", "tokens/s"),
}
_INCOMPLETE = "the benchmark ended before the reply did"


class Request(NamedTuple):
    """A request of the report, with the list in which it stands."""

    fields: Mapping[str, Any]
    status: str

    @property
    def timings(self) -> dict[str, Any]:
        """Times of its stages in Unix seconds; {} in files before version 0.4."""
        return member(self.fields.get("info"), "timings")

    @property
    def start(self) -> float | None:
        """When it was sent, in Unix seconds."""
        for value in (
            self.timings.get("request_start"),
            self.fields.get("request_start_time"),
            self.fields.get("start_time"),
            self.timings.get("resolve_start"),
        ):
            known = measured.positive(value)
            if known is not None:
                return known
        return None

    @property
    def end(self) -> float | None:
        """When its reply was whole, in Unix seconds; for failed ones, when they were given up."""
        for value in (
            self.timings.get("request_end"),
            self.fields.get("request_end_time"),
            self.fields.get("end_time"),
        ):
            known = measured.positive(value)
            if known is not None:
                return known
        return None

    def since_start(self, *names: str) -> float | None:
        """Return the seconds from its start to a stage."""
        for name in names:
            at = measured.positive(self.timings.get(name, self.fields.get(name)))
            if at is not None and self.start is not None and at >= self.start:
                return at - self.start
        return None


class GuideLLM:
    """Source of GuideLLM's JSON reports."""

    name = NAME
    title = "GuideLLM report (benchmarks.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is an object of benchmarks that names GuideLLM."""
        return "benchmarks" in heads.keys(path) and any(m in heads.start(path) for m in _MARKS)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, requests and figures of each benchmark, one after the other.

        Raises:
            ImportFormatError: the file is truncated or has another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        data = json_bytes.document(path)
        document = json_bytes.decode(_DOCUMENT, data, str(path), report)
        if "benchmarks" not in document:
            raise ImportFormatError(f"{path} has no benchmarks; it is no report of GuideLLM")
        whole: dict[str, Any] = {
            name: json_bytes.decode(_ANY, memoryview(document[name]), f"{path}, {name}", report)
            for name in ("metadata", "config", "args")
            if name in document
        }
        raw_benchmarks = json_bytes.decode(
            _BENCHMARKS, memoryview(document["benchmarks"]), f"{path}, benchmarks", report
        )
        for n, raw in enumerate(raw_benchmarks):
            where = f"{path}, benchmark {n}"
            benchmark = json_bytes.decode(_OBJECT, memoryview(raw), where, report)
            yield from _benchmark(benchmark, whole, path, report)


SOURCE = GuideLLM()


def _benchmark(
    benchmark: Mapping[str, Any], whole: Mapping[str, Any], path: Path, report: FileReport
) -> Iterator[AnyRecord]:
    config = member(benchmark, "config")
    metadata = member(whole, "metadata")
    identity = text(config.get("id_")) or text(benchmark.get("id_")) or text(benchmark.get("id"))
    strategy = member(config, "strategy") or member(benchmark.get("args"), "strategy")
    platform = text(metadata.get("platform"))
    version = text(metadata.get("guidellm_version"))
    run = Run(
        run_id=content_id(NAME, identity or benchmark),
        kind="import",
        source=NAME,
        origin=path.name,
        status="done",
        started_at=moment(benchmark.get("start_time")),
        ended_at=moment(benchmark.get("end_time")),
        platform=platform,
        versions=json_text({"guidellm": version}) if version else None,
        metadata=json_text({"strategy": strategy}) if strategy else None,
    )
    configuration = _configuration(strategy, benchmark, whole, report)
    task = Task(task=NAME, description="Requests of a serving benchmark.")
    yield from (run, task, configuration)
    requests = _requests(benchmark, report)
    n_before = report.rows_out
    yield from _traces(requests, (run, configuration, task), report)
    yield from measured.results(_figures(benchmark), (run, configuration, task))
    report.totals += _totals(benchmark, requests)
    if report.rows_out == n_before:
        report.rows_in += 1
        report.rows_out += 1
        report.notes["benchmarks without requests, read as figures"] += 1


def _configuration(
    strategy: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    whole: Mapping[str, Any],
    report: FileReport,
) -> Configuration:
    config = member(whole, "config")
    spec = member(config, "spec")
    # the addresses and keys of the backend stay in the file
    model = (
        text(member(spec, "backend").get("model"))
        or text(member(whole, "args").get("model"))
        or text(member(member(benchmark, "config"), "backend").get("model"))
        or text(member(benchmark, "worker").get("backend_model"))
    )
    if model is None:
        model = "unknown"
        report.add_missing("the report does not name the model")
    settings: dict[str, Any] = {
        name: value
        for name, value in strategy.items()
        if name in {"type_", "rate", "streams", "max_concurrency"} and value is not None
    }
    labels = member(member(config, "metadata"), "labels")
    settings |= {name: str(value) for name, value in labels.items() if name != "machine"}
    machine = labels.get("machine")
    return Configuration(
        model=model,
        machine=str(machine) if machine is not None else None,
        settings=json_text(settings) if settings else None,
    )


def _requests(benchmark: Mapping[str, Any], report: FileReport) -> list[Request]:
    """Return the requests of the measurement by their start; those before and after are counted."""
    lists = member(benchmark, "requests")
    scheduler = member(benchmark, "scheduler_metrics")
    begin = measured.positive(scheduler.get("measure_start_time"))
    end = measured.positive(scheduler.get("measure_end_time"))
    has_warm_up = bool(measured.positive(benchmark.get("warmup_duration")))
    has_cool_down = bool(measured.positive(benchmark.get("cooldown_duration")))
    requests = []
    for status in _STATUSES:
        entries = lists.get(status)
        for fields in entries if isinstance(entries, list) else ():
            if not isinstance(fields, dict):
                report.bad_row(f"{report.path}: a request in {status} is no object")
                continue
            request = Request(fields, status)
            started = request.start
            ended = request.end
            if has_warm_up and begin is not None and started is not None and started < begin:
                report.notes["requests of the warm-up, left out"] += 1
            elif has_cool_down and end is not None and ended is not None and ended > end:
                report.notes["requests of the cool-down, left out"] += 1
            else:
                requests.append(request)
    return sorted(requests, key=lambda request: request.start or 0.0)


def _traces(
    requests: list[Request], ids: tuple[Run, Configuration, Task], report: FileReport
) -> Iterator[AnyRecord]:
    run, configuration, task = ids
    conversations: dict[str, list[Request]] = {}
    for n, request in enumerate(requests):
        info = member(request.fields, "info")
        own_id = text(request.fields.get("request_id")) or f"{run.run_id}/{n}"
        name = text(info.get("conversation_id")) or own_id
        conversations.setdefault(name, []).append(request)
    calls = {id(request): _call(request, configuration, report) for request in requests}
    if configuration.machine is not None:
        intervals = [
            (request.start, request.end) if request.start and request.end else None
            for request in requests
        ]
        shares = measured.machine_shares(intervals)
        for request, share in zip(requests, shares, strict=True):
            if share is not None:
                call = calls[id(request)]
                calls[id(request)] = msgspec.structs.replace(call, machine_s=share)
    trials: dict[str, int] = {}
    for name, turns in conversations.items():
        prompts = [_prompt(request) for request in turns]
        first = next(filter(None, prompts), "")
        key = content_id("prompt", first)[:12] if first else name
        item = Item(task_id=task.task_id, item=key, input=first or None)
        trial = trials.get(item.item_id, 0)
        trials[item.item_id] = trial + 1
        if not trial:
            yield item
        report.rows_in += 1
        own = [
            (request, msgspec.structs.replace(calls[id(request)], ordinal=n))
            for n, request in enumerate(turns)
        ]
        yield _trace(name, own, item, trial, (run, configuration, task))
        report.rows_out += 1


def _trace(
    name: str,
    requests: list[tuple[Request, Call]],
    item: Item,
    trial: int,
    ids: tuple[Run, Configuration, Task],
) -> Trace:
    run, configuration, task = ids
    turns = [request for request, _ in requests]
    calls = [call for _, call in requests]
    transcript = Transcript()
    tool_calls: list[ToolCall] = []
    for n, request in enumerate(turns):
        transcript.add("user", "text", _prompt(request))
        transcript.add(
            "assistant", "thinking", text(request.fields.get("reasoning_output")) or "", call=n
        )
        transcript.add("assistant", "text", text(request.fields.get("output")) or "", call=n)
        asked = request.fields.get("tool_calls")
        for entry in asked if isinstance(asked, list) else ():
            function = member(entry, "function")
            arguments = text(function.get("arguments"))
            tool = ToolCall(
                ordinal=len(tool_calls),
                tool=text(function.get("name")) or "unknown",
                call_ordinal=n,
                arguments=arguments,
            )
            tool_calls.append(tool)
            transcript.add("assistant", "tool_call", arguments or "", call=n, tool=tool.ordinal)
    start = turns[0].start
    ends = [request.end for request in turns]
    end = None if None in ends else max(e for e in ends if e is not None)
    last = calls[-1]
    return Trace(
        run_id=run.run_id,
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=trial,
        trace_id=attempt_id(NAME, f"{run.run_id}/{name}"),
        started_at=moment(start),
        e2e_s=None if start is None or end is None or end < start else end - start,
        answer=text(turns[-1].fields.get("output")),
        stop_reason=last.stop_reason,
        error_type=last.error_type,
        error_message=last.error_message,
        n_turns=sum(call.error_type is None for call in calls),
        calls=tuple(calls),
        tool_calls=tuple(tool_calls),
        messages=tuple(transcript.messages),
    )


def _prompt(request: Request) -> str:
    """Return the last prompt that a request sent; "" if the report does not hold it."""
    arguments = request.fields.get("request_args")
    if isinstance(arguments, str) and arguments:
        try:
            arguments = _ANY.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return ""
    body = member(arguments, "body") or (arguments if isinstance(arguments, dict) else {})
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, list):
        users = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
        return content_text(users[-1].get("content")) if users else ""
    for prompt in (messages, body.get("prompt"), request.fields.get("prompt")):
        if isinstance(prompt, str):
            return prompt
    return ""


def _call(request: Request, configuration: Configuration, report: FileReport) -> Call:
    fields = request.fields
    sent = member(fields, "input_metrics")
    received = member(fields, "output_metrics")
    raw = member(fields, "response_metrics")
    counts = usage.normalise(raw) if "prompt_tokens" in raw else usage.Usage()
    ttft_s = request.since_start("first_token_iteration", "first_token_time")
    input_tokens = _first(sent.get("total_tokens"), fields.get("prompt_tokens"))
    output_tokens = _first(received.get("total_tokens"))
    source: str | None = "reported" if output_tokens is not None else None
    if output_tokens is None and request.status == "successful":
        output_tokens = _first(fields.get("output_tokens"))
        if output_tokens is not None:
            source = "derived"
            report.notes["output tokens that the server did not report: chunks counted"] += 1
    details = {} if request.status == "successful" else _failure(request)
    start = request.start
    end = request.end
    return Call(
        provider=configuration.provider,
        model=configuration.model,
        started_at=moment(start),
        ttft_s=ttft_s or measured.positive(fields.get("time_to_first_token_ms"), 1e-3),
        answer_start_s=request.since_start("first_output_token_iteration")
        or measured.positive(fields.get("time_to_first_output_token_ms"), 1e-3),
        e2e_s=end - start
        if start is not None and end is not None and end >= start and request.status != "errored"
        else None,
        n_chunks=measured.count(request.timings.get("token_iterations")) or None,
        input_tokens=input_tokens or None,
        cache_read_tokens=_first(sent.get("cached_tokens"), counts.cache_read_tokens),
        output_tokens=output_tokens,
        reasoning_tokens=counts.reasoning_tokens,
        tokens_source=source,
        machine=configuration.machine,
        request_id=text(fields.get("request_id")),
        response_id=text(fields.get("response_id")),
        usage=json_text(raw) if raw else None,
        **details,
    )


def _first(*values: object) -> int | None:
    return next((n for n in map(measured.count, values) if n is not None), None)


def _failure(request: Request) -> dict[str, Any]:
    """Return the columns of a failed request; one cut off at the end is cancelled, not wrong."""
    if request.status == "incomplete":
        return {
            "stop_reason": "error",
            "error_type": "cancelled",
            "error_message": _INCOMPLETE,
        }
    info = member(request.fields, "info")
    message = text(info.get("error")) or text(request.fields.get("error")) or "no reply"
    return {"stop_reason": "error", **measured.error(message)}


def _figures(benchmark: Mapping[str, Any]) -> Iterator[Figure]:
    metrics = member(benchmark, "metrics")
    for name, (metric, suffix, unit, scale, direction) in _DISTRIBUTIONS.items():
        values = _flat(member(member(metrics, name), "successful"))
        if values.get("count"):
            yield from measured.statistics(
                metric, suffix, values, unit=unit, scale=scale, direction=direction
            )
    for name, (metric, unit) in _RATES.items():
        values = member(member(metrics, name), "successful")
        yield Figure(metric, measured.number(values.get("mean")), unit, HIGHER)
    totals = member(metrics, "request_totals")
    for status in _STATUSES:
        yield Figure(f"n_{status}", measured.number(totals.get(status)), "count")
    yield Figure("duration_s", measured.number(benchmark.get("duration")), "s")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, **member(values, "percentiles")}


def _totals(benchmark: Mapping[str, Any], requests: list[Request]) -> Iterator[Total]:
    """Compare the stated number of requests with those in the file."""
    if not requests or benchmark.get("warmup_duration") or benchmark.get("cooldown_duration"):
        return
    stated = member(member(benchmark, "metrics"), "request_totals")
    by_status = {
        status: sum(1 for _ in group)
        for status, group in itertools.groupby(sorted(r.status for r in requests))
    }
    for status in _STATUSES:
        n = measured.number(stated.get(status))
        if n is not None:
            yield Total(f"{status} requests", n, by_status.get(status, 0))
