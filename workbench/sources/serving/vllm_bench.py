"""Results of `vllm bench serve`, in detail (--save-detailed) or as aggregates only.

A file has one JSON object per run; with --append-result further ones follow on lines of their own.
In detail, each request is a trace with one call. The prompts are not in the file: item n of the
workload is request n, and two runs with as many prompts and input tokens have the same workload.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Message,
    Run,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import documents, measured
from workbench.sources.serving.measured import HIGHER, LOWER, Figure

NAME = "vllm-bench"
_KEYS = frozenset({"model_id", "num_prompts", "request_rate", "duration", "completed"})
_OTHER_FORMAT = frozenset({"steady_state_energy", "gpu_model"})  # ML.ENERGY grew out of this format
_LISTS = (
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
)
_LATENCY = re.compile(
    r"(mean|median|std|p\d+(?:\.\d+)?)_"
    r"(ttft|tpot|itl|e2el|client_queue_time|e2el_including_client_queue)_ms"
)
_LATENCIES = {
    "e2el": "e2e",
    "client_queue_time": "queue",
    "e2el_including_client_queue": "e2e_with_queue",
}
# figure → (metric, unit, direction, units per unit of the file)
_FIGURES: dict[str, tuple[str, str, str | None, float]] = {
    "duration": ("duration_s", "s", None, 1.0),
    "completed": ("n_completed", "count", None, 1.0),
    "failed": ("n_failed", "count", LOWER, 1.0),
    "total_input_tokens": ("input_tokens", "tokens", None, 1.0),
    "total_output_tokens": ("output_tokens", "tokens", None, 1.0),
    "request_throughput": ("requests_per_s", "requests/s", HIGHER, 1.0),
    "request_goodput": ("goodput_requests_per_s", "requests/s", HIGHER, 1.0),
    "output_throughput": ("output_tokens_per_s", "tokens/s", HIGHER, 1.0),
    "total_token_throughput": ("tokens_per_s", "tokens/s", HIGHER, 1.0),
    "input_sequence_throughput": ("inputs_per_s", "inputs/s", HIGHER, 1.0),
    "max_output_tokens_per_s": ("output_tokens_per_s_max", "tokens/s", HIGHER, 1.0),
    "max_concurrent_requests": ("concurrent_requests_max", "count", None, 1.0),
    "spec_decode_acceptance_rate": ("draft_acceptance_rate", "0..1", HIGHER, 0.01),
    "spec_decode_acceptance_length": ("draft_acceptance_length", "tokens", HIGHER, 1.0),
}
_TRAFFIC = (
    "request_rate",
    "burstiness",
    "max_concurrency",
    "ramp_up_strategy",
    "ramp_up_start_rps",
    "ramp_up_end_rps",
)
_RUN_FIELDS = (
    "date",
    "label",
    "backend",
    "endpoint_type",
    "tokenizer_id",
    "num_prompts",
    "rps_change_events",
)
_PROVIDERS = {"vllm": "vllm", "vllm-chat": "vllm", "sglang": "sglang", "tgi": "tgi"}


class VLLMBench:
    """Source of the results of `vllm bench serve`."""

    name = NAME
    title = "vLLM serving benchmark (vllm bench serve --save-result, --save-detailed)"

    def detect(self, path: Path) -> bool:
        """Return whether the file's first object has the keys of a run."""
        keys = set(heads.keys(path))
        return keys >= _KEYS and not keys & _OTHER_FORMAT

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield for each run its requests, if they are in the file, and the stated figures.

        Raises:
            ImportFormatError: the file is truncated, or its lists are of different lengths.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        for where, run in documents.objects(path, report):
            if not run.keys() >= _KEYS:
                missing = ", ".join(sorted(_KEYS - run.keys()))
                raise ImportFormatError(f"{where} is no run of vllm bench: it has no {missing}")
            yield from _run(run, where, path, report)


SOURCE = VLLMBench()


def _run(
    fields: Mapping[str, Any], where: str, path: Path, report: FileReport
) -> Iterator[AnyRecord]:
    run = Run(
        run_id=content_id(NAME, fields),
        kind="import",
        source=NAME,
        origin=path.name,
        status="done",
        n_planned=measured.count(fields["num_prompts"]),
        metadata=json_text({n: fields[n] for n in _RUN_FIELDS if fields.get(n) is not None}),
    )
    configuration = _configuration(fields)
    task = _task(fields)
    yield from (run, task, configuration)
    lists = _lists(fields, where)
    in_detail = "input_lens" in lists and ("itls" in lists or "latencies" in lists)
    if in_detail:
        yield from _traces(lists, (run, configuration, task), report)
        report.totals += _totals(fields, lists)
    yield from measured.results(figures(fields), (run, configuration, task))
    if not in_detail:
        report.rows_in += 1
        report.rows_out += 1
        report.notes["runs without requests (--save-detailed), read as figures"] += 1


def _configuration(fields: Mapping[str, Any]) -> Configuration:
    backend = str(fields.get("backend") or fields.get("endpoint_type") or "")
    settings = {name: fields[name] for name in _TRAFFIC if fields.get(name) is not None}
    settings |= _own_metadata(fields)
    machine = settings.pop("machine", None)
    return Configuration(
        model=str(fields["model_id"]),
        provider=_PROVIDERS.get(backend),
        machine=str(machine) if machine is not None else None,
        settings=json_text(settings) if settings else None,
    )


def _own_metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return what the user added with --metadata KEY=VALUE: texts under names of their own."""
    known = {*_RUN_FIELDS, *_TRAFFIC, *_LISTS, "model_id"}
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and name not in known
    }


def _task(fields: Mapping[str, Any]) -> Task:
    """Name the workload: its prompts are not in the file, their number and tokens are."""
    prompts = measured.count(fields["num_prompts"])
    lens = fields.get("input_lens")
    tokens = (
        sum(measured.count(n) or 0 for n in lens)
        if isinstance(lens, list)
        else measured.count(fields.get("total_input_tokens"))
    )
    return Task(
        task="vllm bench",
        version=None if prompts is None else f"{prompts} prompts, {tokens} input tokens",
        description="Requests of a serving benchmark; nothing is asked of the answers.",
    )


def _lists(fields: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """Return the lists with one value per request.

    Raises:
        ImportFormatError: a list is none, or they are of different lengths.
    """
    lists: dict[str, list[Any]] = {}
    for name in _LISTS:
        value = fields.get(name)
        if value is None or value == 0:  # output_lens of an embedding run
            continue
        if not isinstance(value, list):
            raise ImportFormatError(f"{where}: {name} is {type(value).__name__}, not a list")
        lists[name] = value
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ImportFormatError(
            f"{where}: the lists have different numbers of requests ({told}); the file was changed"
        )
    return lists


def _traces(
    lists: Mapping[str, list[Any]],
    ids: tuple[Run, Configuration, Task],
    report: FileReport,
) -> Iterator[AnyRecord]:
    run, configuration, task = ids
    n = len(lists["input_lens"])
    column: dict[str, Sequence[Any]] = {name: lists.get(name) or [None] * n for name in _LISTS}
    calls = [_call(column, i, configuration) for i in range(n)]
    if configuration.machine is not None:
        intervals = [_interval(column["start_times"][i], call) for i, call in enumerate(calls)]
        shares = measured.machine_shares(intervals)
    else:
        shares = [None] * n
    started = [measured.number(at) for at in column["start_times"]]
    first = min((at for at in started if at is not None), default=None)
    for i, (call, share) in enumerate(zip(calls, shares, strict=True)):
        report.rows_in += 1
        item = Item(task_id=task.task_id, item=str(i))
        yield item
        start = started[i]
        offset = None if start is None or first is None else start - first
        text = column["generated_texts"][i]
        text = text if isinstance(text, str) and text else None
        message = Message(ordinal=0, role="assistant", kind="text", text=text or "", call_ordinal=0)
        waited = (call.queue_s or 0.0) + call.e2e_s if call.e2e_s is not None else None
        yield Trace(
            run_id=run.run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            e2e_s=waited,
            working_s=call.e2e_s,
            answer=text,
            stop_reason="error" if call.error_type else None,
            error_type=call.error_type,
            error_message=call.error_message,
            n_turns=0 if call.error_type else 1,
            metadata=None if offset is None else json_text({"start_offset_s": offset}),
            calls=(_with_share(call, share),),
            messages=(message,) if text else (),
        )
        report.rows_out += 1
    if n:
        report.conventions["input counted by the client's tokenizer"] += n


def _call(column: Mapping[str, Sequence[Any]], i: int, configuration: Configuration) -> Call:
    itls = column["itls"][i]
    itls = itls if isinstance(itls, list) else []
    ttft_s = measured.positive(column["ttfts"][i])
    output_tokens = measured.count(column["output_lens"][i])
    text = column["errors"][i]
    latency_s = measured.positive(column["latencies"][i])
    failed = bool(text) or (not output_tokens and ttft_s is None and latency_s is None)
    if latency_s is None and ttft_s is not None:  # versions before the list of latencies
        latency_s = ttft_s + sum(measured.number(gap) or 0.0 for gap in itls)
    error = measured.error(str(text or "no reply")) if failed else {}
    return Call(
        provider=configuration.provider,
        model=configuration.model,
        queue_s=measured.number(column["queue_times"][i]),
        ttft_s=ttft_s,
        e2e_s=latency_s,
        n_chunks=len(itls) + 1 if ttft_s is not None else None,
        input_tokens=measured.count(column["input_lens"][i]),
        output_tokens=None if failed else output_tokens,
        tokens_source="counted",
        machine=configuration.machine,
        stop_reason="error" if failed else None,
        error_type=error.get("error_type"),
        error_message=error.get("error_message"),
        **measured.gaps(itls),
    )


def _interval(start: object, call: Call) -> tuple[float, float] | None:
    begun = measured.number(start)
    return None if begun is None or call.e2e_s is None else (begun, begun + call.e2e_s)


def _with_share(call: Call, share: float | None) -> Call:
    return call if share is None else msgspec.structs.replace(call, machine_s=share)


def _totals(fields: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> Iterator[Total]:
    """Compare the stated totals with the sums over the requests that were answered."""
    errors = lists.get("errors") or [""] * len(lists["input_lens"])
    answered = [i for i, text in enumerate(errors) if not text]
    computed = {"completed": len(answered)}
    for total, name in (
        ("total_input_tokens", "input_lens"),
        ("total_output_tokens", "output_lens"),
    ):
        if name in lists:
            computed[total] = sum(measured.count(lists[name][i]) or 0 for i in answered)
    for name, value in computed.items():
        stated = measured.number(fields.get(name))
        if stated is not None:
            yield Total(name, stated, value)


def figures(fields: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the aggregates that a run states; ML.ENERGY's results have the same."""
    n = measured.count(fields.get("completed"))
    for name, value in fields.items():
        match = _LATENCY.fullmatch(name)
        if match is not None:
            metric = _LATENCIES.get(match[2], match[2])
            yield from measured.statistics(
                metric, "s", {match[1]: value, "count": n}, unit="s", scale=1e-3, direction=LOWER
            )
        elif name in _FIGURES:
            metric, unit, direction, scale = _FIGURES[name]
            yield Figure(metric, measured.number(value, scale), unit, direction, n)
