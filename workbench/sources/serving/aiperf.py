"""Exports of NVIDIA AIPerf: requests (profile_export.jsonl) and the figures of their run.

A session is a trace, each of its requests a call. Requests of the warm-up are left out, and
counted. Beside the requests lie the figures (profile_export_aiperf.json), which name the model, the
prompts (inputs.json) and the graded answers (accuracy_export.jsonl); all of them are read together.
Figures without requests are read by themselves.

Tokens are the server's where it reported them (usage_*), else those of the client's tokenizer.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Score,
    Task,
    Trace,
    attempt_id,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.json_lines import content_text, lines, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import documents, measured
from workbench.sources.serving.measured import HIGHER, LOWER, Figure
from workbench.sources.transcript import Transcript

NAME = "aiperf"
FIGURES = "profile_export_aiperf.json"
INPUTS = "inputs.json"
ACCURACY = "accuracy_export.jsonl"
_RECORD_KEYS = frozenset({"x_request_id", "request_start_ns", "benchmark_phase"})
_FIGURE_KEYS = frozenset({"schema_version", "aiperf_version"})
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_JOULES = {"J": 1.0, "mJ": 1e-3, "kJ": 1e3, "MJ": 1e6}
_PROFILING = "profiling"
_MODEL_UNKNOWN = "no file beside the requests names the model"
# metric → (name, suffix, unit, direction); times are converted to seconds
_METRICS: dict[str, tuple[str, str, str, str | None]] = {
    "request_latency": ("e2e", "s", "s", LOWER),
    "time_to_first_token": ("ttft", "s", "s", LOWER),
    "time_to_first_output_token": ("answer_start", "s", "s", LOWER),
    "inter_token_latency": ("tpot", "s", "s", LOWER),
    "inter_chunk_latency": ("itl", "s", "s", LOWER),
    "output_sequence_length": ("output", "tokens", "tokens", None),
    "input_sequence_length": ("input", "tokens", "tokens", None),
}
_SINGLE: dict[str, tuple[str, str, str | None]] = {
    "request_throughput": ("requests_per_s", "requests/s", HIGHER),
    "goodput": ("goodput_requests_per_s", "requests/s", HIGHER),
    "output_token_throughput": ("output_tokens_per_s", "tokens/s", HIGHER),
    "total_token_throughput": ("tokens_per_s", "tokens/s", HIGHER),
    "request_count": ("n_completed", "count", None),
    "error_request_count": ("n_failed", "count", LOWER),
    "benchmark_duration": ("duration_s", "s", None),
    "effective_concurrency": ("concurrent_requests_mean", "count", None),
}
_STATED = {
    "request_count": "requests answered",
    "total_usage_completion_tokens": "output tokens",
    "total_usage_prompt_tokens": "input tokens",
}


class AIPerf:
    """Source of AIPerf's exported requests, with the files beside them."""

    name = NAME
    title = "NVIDIA AIPerf export (profile_export.jsonl, profile_export_aiperf.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the first line is a measured request, or the file holds figures."""
        return _has_requests(path) or _has_figures(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the figures, prompts and graded answers beside a file of requests."""
        if not _has_requests(path):
            return ()
        beside = [path.with_name(name) for name in (INPUTS, ACCURACY)]
        beside += [file for file in path.parent.glob("*.json") if _has_figures(file)]
        beside += path.parent.glob("phases/*/profile_export_aiperf.json")
        beside += path.parent.glob("*_raw.jsonl")
        return tuple(sorted({file for file in beside if file.is_file()}))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run and its requests or figures.

        Raises:
            ImportFormatError: a file is truncated or has another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        if _has_requests(path):
            yield from _read_requests(path, report)
        else:
            yield from _read_figures(path, report)


SOURCE = AIPerf()


class Metrics(NamedTuple):
    """The metrics of a request or a run: {name: {"value": …, "unit": …}}."""

    values: Mapping[str, Any]

    def raw(self, name: str) -> object:
        """Return a value as it is; None if there is none."""
        entry = member(self.values, name)
        return entry.get("value", entry.get("avg"))

    def tokens(self, *names: str) -> int | None:
        """Return the first known number of tokens."""
        counts = (measured.count(self.raw(name)) for name in names)
        return next((n for n in counts if n is not None), None)

    def scale(self, name: str) -> float | None:
        """Return the seconds per unit of a time; None for an unknown unit."""
        return _SECONDS.get(str(member(self.values, name).get("unit")))

    def seconds(self, name: str) -> float | None:
        """Return a time in seconds; None if it or its unit is unknown."""
        scale = self.scale(name)
        return None if scale is None else measured.positive(self.raw(name), scale)


def _has_requests(path: Path) -> bool:
    first = heads.lines(path)[:1]
    return bool(first) and _is_request(first[0])


def _is_request(line: Mapping[str, Any]) -> bool:
    # a line of the raw export has the same metadata, and the replies in place of metrics
    return "metrics" in line and member(line, "metadata").keys() >= _RECORD_KEYS


def _has_figures(path: Path) -> bool:
    return set(heads.keys(path)) >= _FIGURE_KEYS


class Session(NamedTuple):
    """The requests of one conversation, in order.

    Attributes:
        number: of the session; a conversation that is sent again has another one.
        conversation: its id.
        lines: its requests, as the file has them.
    """

    number: int
    conversation: str
    lines: list[dict[str, Any]]


def _read_requests(path: Path, report: FileReport) -> Iterator[AnyRecord]:
    figures, n_files = _figures_beside(path, report)
    if n_files > 1:
        report.notes["several files of figures lie beside the requests, none is used"] += 1
    prompts = _prompts(path.with_name(INPUTS), report)
    grades = _grades(path.with_name(ACCURACY), report)
    first_id, sessions = _sessions(path, report)
    run = _run(content_id(NAME, first_id), path, figures)
    configuration = _configuration(figures, prompts.model, report)
    task = Task(task=NAME, description="Requests of a serving benchmark.")
    yield from (run, task, configuration)
    trials: dict[str, int] = {}
    computed = dict.fromkeys(_STATED, 0)
    for session in sessions:
        texts = prompts.texts.get(session.conversation, [])
        first = texts[0] if texts else None
        item = Item(task_id=task.task_id, item=session.conversation, input=first)
        trial = trials.get(item.item_id, 0)
        trials[item.item_id] = trial + 1
        if not trial:
            yield item
        report.rows_in += 1
        trace = _trace(session, (run, configuration, item), trial, texts, grades)
        yield trace
        report.rows_out += 1
        _add_counts(computed, trace)
    if figures:
        yield from measured.results(_figures(figures), (run, configuration, task))
        report.totals += _totals(figures, computed)


def _sessions(path: Path, report: FileReport) -> tuple[str, list[Session]]:
    """Return the id of the file's first request, and the sessions of the measurement."""
    sessions: dict[tuple[int, str], Session] = {}
    first_id = ""
    for number, line in lines(path, report):
        if not _is_request(line):
            report.bad_row(f"{path}, line {number} is no measured request")
            continue
        metadata = line["metadata"]
        first_id = first_id or str(metadata["x_request_id"])
        if metadata["benchmark_phase"] != _PROFILING:
            report.notes["requests of the warm-up, left out"] += 1
            continue
        conversation = text(metadata.get("conversation_id")) or str(metadata["x_request_id"])
        key = (measured.count(metadata.get("session_num")) or 0, conversation)
        sessions.setdefault(key, Session(*key, [])).lines.append(line)
    if not first_id:
        raise ImportFormatError(f"{path} has no measured request")
    for session in sessions.values():
        session.lines.sort(key=_sent_ns)
    return first_id, [session for _, session in sorted(sessions.items())]


def _sent_ns(line: Mapping[str, Any]) -> float:
    return measured.number(line["metadata"]["request_start_ns"]) or 0.0


def _add_counts(computed: dict[str, int], trace: Trace) -> None:
    """Add the answered requests of a trace, and their tokens as the server reported them."""
    for call in trace.calls:
        if call.error_type is None:
            computed["request_count"] += 1
            if call.tokens_source == "reported":
                computed["total_usage_completion_tokens"] += call.output_tokens or 0
                computed["total_usage_prompt_tokens"] += call.input_tokens or 0


def _totals(figures: Mapping[str, Any], computed: Mapping[str, int]) -> Iterator[Total]:
    for name, title in _STATED.items():
        stated = measured.number(Metrics(figures).raw(name))
        if stated is not None:
            yield Total(title, stated, computed[name])


def _read_figures(path: Path, report: FileReport) -> Iterator[AnyRecord]:
    fields = documents.whole(path, report)
    if not fields.keys() >= _FIGURE_KEYS:
        raise ImportFormatError(f"{path} holds no figures of AIPerf")
    run = _run(content_id(NAME, text(fields.get("benchmark_id")) or fields), path, fields)
    configuration = _configuration(fields, None, report)
    task = Task(task=NAME, description="Requests of a serving benchmark.")
    yield from (run, task, configuration)
    yield from measured.results(_figures(fields), (run, configuration, task))
    report.rows_in += 1
    report.rows_out += 1


def _figures_beside(path: Path, report: FileReport) -> tuple[dict[str, Any], int]:
    """Return the figures of the requests; {} if there are none, or several with other names."""
    files = sorted(file for file in path.parent.glob("*.json") if _has_figures(file))
    named = [file for file in files if file.name == FIGURES]
    chosen = named or files
    if len(chosen) != 1:
        return {}, len(chosen)
    return documents.whole(chosen[0], report), 1


class Prompts(NamedTuple):
    """The prompts of inputs.json: the model that was asked, and the texts by session."""

    model: str | None
    texts: dict[str, list[str]]


def _prompts(path: Path, report: FileReport) -> Prompts:
    document = documents.read_beside(path, report) or {}
    entries = document.get("data")
    model: str | None = None
    texts: dict[str, list[str]] = {}
    for entry in entries if isinstance(entries, list) else ():
        payloads = entry.get("payloads") if isinstance(entry, dict) else None
        prompts = []
        for payload in payloads if isinstance(payloads, list) else ():
            if isinstance(payload, dict):
                model = model or text(payload.get("model"))
                prompts.append(_prompt(payload))
        if prompts:
            texts[str(entry.get("session_id"))] = prompts
    return Prompts(model, texts)


def _prompt(payload: Mapping[str, Any]) -> str:
    messages = payload.get("messages", payload.get("input"))
    if isinstance(messages, list):
        users = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
        return content_text(users[-1].get("content")) if users else ""
    prompt = messages if isinstance(messages, str) else payload.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def _grades(path: Path, report: FileReport) -> dict[str, Mapping[str, Any]]:
    """Return the graded answers by the request's id."""
    if not path.is_file():
        return {}
    return {
        str(line["x_request_id"]): line for _, line in lines(path, report) if "x_request_id" in line
    }


def _run(run_id: str, path: Path, figures: Mapping[str, Any]) -> Run:
    version = text(figures.get("aiperf_version"))
    cancelled = figures.get("was_cancelled") is True
    telemetry = member(member(figures, "telemetry_data"), "endpoints")
    gpus = {
        name
        for endpoint in telemetry.values()
        for gpu in member(endpoint, "gpus").values()
        if (name := text(member({"gpu": gpu}, "gpu").get("gpu_name")))
    }
    return Run(
        run_id=run_id,
        kind="import",
        source=NAME,
        origin=path.name,
        status="cancelled" if cancelled else "done",
        started_at=moment(figures.get("start_time")),
        ended_at=moment(figures.get("end_time")),
        accelerator=", ".join(sorted(gpus)) or None,
        versions=json_text({"aiperf": version}) if version else None,
    )


def _configuration(
    figures: Mapping[str, Any], model_of_inputs: str | None, report: FileReport
) -> Configuration:
    config = member(figures, "input_config")
    items = member(config, "models").get("items")
    names = [text(m.get("name")) for m in items if isinstance(m, dict)] if items else []
    endpoint = member(config, "endpoint")
    old_names = endpoint.get("model_names")  # versions before 0.10
    names += [text(name) for name in old_names] if isinstance(old_names, list) else []
    model = next(filter(None, [*names, model_of_inputs]), None)
    if model is None:
        model = "unknown"
        report.add_missing(_MODEL_UNKNOWN)
    phases = config.get("phases")
    measured_phases = [
        phase
        for phase in (phases if isinstance(phases, list) else [])
        if isinstance(phase, dict) and phase.get("kind") == _PROFILING
    ]
    # the addresses of the endpoint stay in the file
    settings = {
        name: value
        for phase in measured_phases[:1]
        for name, value in phase.items()
        if name not in {"name", "kind"} and isinstance(value, str | int | float | bool)
    }
    loadgen = member(config, "loadgen")
    settings |= {
        name: loadgen[name]
        for name in ("concurrency", "request_rate", "request_count")
        if loadgen.get(name) is not None
    }
    return Configuration(model=model, settings=json_text(settings) if settings else None)


def _trace(
    session: Session,
    ids: tuple[Run, Configuration, Item],
    trial: int,
    prompts: list[str],
    grades: Mapping[str, Mapping[str, Any]],
) -> Trace:
    run, configuration, item = ids
    calls = tuple(_call(line, n, configuration) for n, line in enumerate(session.lines))
    transcript = Transcript()
    scores: list[Score] = []
    answer = None
    for n, line in enumerate(session.lines):
        turn = measured.count(line["metadata"].get("turn_index"))
        if turn is not None and turn < len(prompts):
            transcript.add("user", "text", prompts[turn])
        grade = grades.get(str(line["metadata"]["x_request_id"]))
        if grade is not None:
            transcript.add("assistant", "thinking", text(grade.get("model_thinking")) or "", call=n)
            transcript.add("assistant", "text", text(grade.get("model_output")) or "", call=n)
            answer = text(grade.get("actual")) or text(grade.get("model_output"))
            scores.append(_score(grade))
    metadata = [line["metadata"] for line in session.lines]
    last = calls[-1]
    score = scores[-1] if scores else None
    return Trace(
        run_id=run.run_id,
        configuration_id=configuration.configuration_id,
        task_id=item.task_id,
        item_id=item.item_id,
        trial=trial,
        trace_id=attempt_id(NAME, f"{run.run_id}/{session.number}/{session.conversation}"),
        started_at=_moment(metadata[0]["request_start_ns"]),
        e2e_s=_between(metadata[0]["request_start_ns"], metadata[-1].get("request_end_ns")),
        answer=answer,
        score=score.score if score else None,
        passed=score.passed if score else None,
        stop_reason=last.stop_reason,
        error_type=last.error_type,
        error_message=last.error_message,
        n_turns=sum(call.error_type is None for call in calls),
        calls=calls,
        messages=tuple(transcript.messages),
        scores=tuple({s.scorer: s for s in scores}.values()),
    )


def _score(grade: Mapping[str, Any]) -> Score:
    """Return a grade; an answer in which the grader found nothing is not scored."""
    unparsed = grade.get("unparsed") is True
    passed = grade.get("passed")
    known = isinstance(passed, bool) and not unparsed
    return Score(
        scorer=text(grade.get("grader_name")) or "accuracy",
        score=float(bool(passed)) if known else None,
        passed=bool(passed) if known else None,
        value="unparsed" if unparsed else None,
        answer=text(grade.get("actual")),
        explanation=text(grade.get("explanation")),
    )


def _moment(ns: object) -> dt.datetime | None:
    known = measured.count(ns)
    return moment(known * 1e-9) if known else None


def _between(start_ns: object, end_ns: object) -> float | None:
    """Return the seconds between two times, subtracted as whole numbers: a float rounds them."""
    start, end = measured.count(start_ns), measured.count(end_ns)
    return (end - start) * 1e-9 if start and end and end >= start else None


def _call(line: Mapping[str, Any], ordinal: int, configuration: Configuration) -> Call:
    metadata = line["metadata"]
    metrics = Metrics(member(line, "metrics"))
    error = _error(line)
    input_tokens = metrics.tokens("usage_prompt_tokens")
    output_tokens = metrics.tokens("usage_completion_tokens")
    source = "reported" if output_tokens is not None else "counted"
    if source == "counted":
        input_tokens = input_tokens or metrics.tokens("input_sequence_length", "error_isl")
        output_tokens = metrics.tokens("output_sequence_length")
    reasoning = "usage_reasoning_tokens" if source == "reported" else "reasoning_token_count"
    chunks = metrics.raw("inter_chunk_latency")
    chunks = chunks if isinstance(chunks, list) else None
    scale = metrics.scale("inter_chunk_latency")
    gaps = measured.gaps(chunks, scale) if chunks and scale is not None else {}
    return Call(
        ordinal=ordinal,
        model=configuration.model,
        started_at=_moment(metadata["request_start_ns"]),
        queue_s=_between(metadata.get("credit_issued_ns"), metadata["request_start_ns"]),
        ttft_s=metrics.seconds("time_to_first_token"),
        answer_start_s=metrics.seconds("time_to_first_output_token"),
        e2e_s=metrics.seconds("request_latency"),
        n_chunks=len(chunks) + 1 if chunks is not None else None,
        input_tokens=input_tokens,
        cache_read_tokens=metrics.tokens("usage_prompt_cache_read_tokens"),
        output_tokens=None if error else output_tokens,
        reasoning_tokens=metrics.tokens(reasoning),
        total_tokens=metrics.tokens("usage_total_tokens"),
        tokens_source=source,
        request_id=text(metadata["x_request_id"]),
        **error,
        **gaps,
    )


def _error(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a failed, cancelled or skipped request; {} for one that succeeded."""
    metadata = line["metadata"]
    if metadata.get("was_cancelled") is True:
        columns = {"error_type": "cancelled", "error_message": "the request was cancelled"}
    elif metadata.get("context_overflow_skip") is True:
        message = "the context was full, and the request was not sent"
        columns = {"error_type": "context_overflow", "error_message": message}
    elif line.get("error"):
        error = line["error"] if isinstance(line["error"], dict) else {"message": line["error"]}
        parts = (error.get("code"), error.get("type"), error.get("message"))
        columns = measured.error(" ".join(str(part) for part in parts if part is not None))
    else:
        return {}
    return {"stop_reason": "error", **columns}


def _figures(fields: Mapping[str, Any]) -> Iterator[Figure]:
    for tag, (metric, suffix, unit, direction) in _METRICS.items():
        values = member(fields, tag)
        scale = _SECONDS.get(str(values.get("unit"))) if unit == "s" else 1.0
        if scale is not None:
            yield from measured.statistics(
                metric, suffix, values, unit=unit, scale=scale, direction=direction
            )
    metrics = Metrics(fields)
    for tag, (metric, unit, direction) in _SINGLE.items():
        value = metrics.seconds(tag) if unit == "s" else measured.number(metrics.raw(tag))
        yield Figure(metric, value, unit, direction)
    for tag, values in fields.items():
        joules = _JOULES.get(str(member(fields, tag).get("unit")))
        if joules is not None and isinstance(values, dict):
            average = measured.number(values.get("avg"), joules)
            yield Figure(f"{tag}_j", average, "J", LOWER, measured.count(values.get("count")))
