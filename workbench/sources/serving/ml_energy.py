"""Results of the ML.ENERGY benchmark: requests with their energy, and the meter of each GPU.

The benchmark measures the energy of the steady state and gives each request the joules per token of
that time, times its output tokens. That is GPU energy at one batch size: configurations with
another `max_num_seqs` are other configurations.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyBalance,
    EnergyReading,
    Item,
    Run,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.json_lines import content_text, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import documents, measured, vllm_bench
from workbench.sources.serving.measured import LOWER, Figure
from workbench.sources.transcript import Transcript

NAME = "ml-energy"
_KEYS = frozenset({"model_id", "num_prompts", "steady_state_energy", "steady_state_duration"})
_SETTINGS = (
    "gpu_model",
    "num_gpus",
    "max_num_seqs",
    "max_num_batched_tokens",
    "request_rate",
    "burstiness",
    "max_concurrency",
)
_RUN_FIELDS = ("date", "endpoint_type", "seed", "num_unique_prompts", "num_request_repeats")
_NOTE = "GPUs only: joules per token of the steady state × output tokens of the request"
_METER_NOTE = "whole benchmark; requests have joules of its steady state, idle power included"


class MLEnergy:
    """Source of `results.json` of the ML.ENERGY benchmark."""

    name = NAME
    title = "ML.ENERGY benchmark results (results.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is an object with the energy of a steady state."""
        return set(heads.keys(path)) >= _KEYS

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, its requests with their energy, its meters and stated figures.

        Raises:
            ImportFormatError: the file is truncated, or its requests are no list of objects.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        fields = documents.whole(path, report)
        if not fields.keys() >= _KEYS:
            missing = ", ".join(sorted(_KEYS - fields.keys()))
            raise ImportFormatError(f"{path} is no result of ML.ENERGY: it has no {missing}")
        run = _run(fields, path)
        task = Task(task=NAME, description="Requests of the ML.ENERGY benchmark.")
        configuration = _configuration(fields)
        yield from (run, task, configuration)
        requests = fields.get("results", [])
        if not isinstance(requests, list) or not all(isinstance(r, dict) for r in requests):
            raise ImportFormatError(f"{path}: results is not a list of requests")
        yield from _traces(requests, (run, configuration, task), report)
        yield from _balances(fields, run)
        yield from measured.results(_figures(fields), (run, configuration, task))
        report.totals += _totals(fields, requests)
        if not requests:
            report.rows_in += 1
            report.rows_out += 1
            report.notes["runs without requests, read as figures"] += 1


SOURCE = MLEnergy()


def _run(fields: Mapping[str, Any], path: Path) -> Run:
    timeline = member(fields, "timeline")
    gpu = text(fields.get("gpu_model"))
    n_gpus = measured.count(fields.get("num_gpus"))
    return Run(
        run_id=content_id(NAME, fields),
        kind="import",
        source=NAME,
        origin=path.name,
        status="done",
        started_at=moment(timeline.get("benchmark_start_time")),
        ended_at=moment(timeline.get("benchmark_end_time")),
        accelerator=f"{n_gpus} × {gpu}" if gpu and n_gpus and n_gpus > 1 else gpu,
        n_planned=measured.count(fields.get("num_prompts")),
        metadata=json_text({n: fields[n] for n in _RUN_FIELDS if fields.get(n) is not None}),
    )


def _configuration(fields: Mapping[str, Any]) -> Configuration:
    settings = {name: fields[name] for name in _SETTINGS if fields.get(name) is not None}
    return Configuration(
        model=str(fields["model_id"]),
        max_tokens=measured.count(fields.get("max_output_tokens")) or None,
        settings=json_text(settings),
    )


def _traces(
    requests: list[dict[str, Any]],
    ids: tuple[Run, Configuration, Task],
    report: FileReport,
) -> Iterator[AnyRecord]:
    run, configuration, task = ids
    trials: dict[str, int] = {}
    for n, request in enumerate(requests):
        report.rows_in += 1
        prompt = content_text(request.get("prompt"))
        key = content_id("prompt", prompt)[:12] if prompt else str(n)
        item = Item(task_id=task.task_id, item=key, input=prompt or None)
        trial = trials.get(item.item_id, 0)
        trials[item.item_id] = trial + 1
        if not trial:
            yield item
        yield _trace(request, trial, item, (run, configuration, task))
        report.rows_out += 1


def _trace(
    request: Mapping[str, Any], trial: int, item: Item, ids: tuple[Run, Configuration, Task]
) -> Trace:
    run, configuration, task = ids
    call = _call(request, configuration)
    answer = text(request.get("output_text"))
    transcript = Transcript()
    transcript.add("user", "text", item.input or "")
    transcript.add(
        "assistant", "thinking", text(request.get("reasoning_output_text")) or "", call=0
    )
    transcript.add("assistant", "text", answer or "", call=0)
    energy_j = None if call.error_type else measured.positive(request.get("energy"))
    reading = EnergyReading(
        call_ordinal=0, device="gpu", method="reported", energy_j=energy_j, note=_NOTE
    )
    expected = measured.count(request.get("dataset_output_len"))
    return Trace(
        run_id=run.run_id,
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=trial,
        e2e_s=call.e2e_s,
        answer=answer,
        stop_reason=call.stop_reason,
        error_type=call.error_type,
        error_message=call.error_message,
        n_turns=0 if call.error_type else 1,
        metadata=None if expected is None else json_text({"dataset_output_tokens": expected}),
        calls=(call,),
        messages=tuple(transcript.messages),
        energy=(reading,) if energy_j is not None else (),
    )


def _call(request: Mapping[str, Any], configuration: Configuration) -> Call:
    failed = request.get("success") is False or bool(request.get("error"))
    error = measured.error(str(request.get("error") or "no reply")) if failed else {}
    itl = request.get("itl")
    itl = itl if isinstance(itl, list) else []
    ttft_s = measured.positive(request.get("ttft"))
    return Call(
        model=configuration.model,
        ttft_s=ttft_s,
        e2e_s=measured.positive(request.get("latency")),
        n_chunks=len(itl) + 1 if ttft_s is not None else None,
        input_tokens=measured.count(request.get("input_len")),
        output_tokens=None if failed else measured.count(request.get("output_len")),
        tokens_source="reported",
        stop_reason="error" if failed else None,
        error_type=error.get("error_type"),
        error_message=error.get("error_message"),
        **measured.gaps(itl),
    )


def _balances(fields: Mapping[str, Any], run: Run) -> Iterator[EnergyBalance]:
    """Yield what each GPU's meter read over the whole benchmark."""
    whole = member(fields, "entire_benchmark_measurement")
    for index, joules in member(whole, "gpu_energy").items():
        yield EnergyBalance(
            run_id=run.run_id,
            device=f"gpu{index}",
            meter="zeus",
            meter_j=measured.number(joules),
            duration_s=measured.number(whole.get("time")),
            note=_METER_NOTE,
        )


def _figures(fields: Mapping[str, Any]) -> Iterator[Figure]:
    energy_j = measured.positive(fields["steady_state_energy"])
    duration_s = measured.positive(fields["steady_state_duration"])
    n = measured.count(fields.get("completed"))
    per_token_j = measured.positive(fields.get("steady_state_energy_per_token"))
    yield Figure("energy_per_token_j", per_token_j, "J", LOWER, n)
    yield Figure("steady_state_energy_j", energy_j, "J", LOWER, n)
    yield Figure("steady_state_duration_s", duration_s, "s", None, n)
    if energy_j is not None and duration_s is not None:
        yield Figure("power_w", energy_j / duration_s, "W", LOWER, n)
    yield from vllm_bench.figures(fields)


def _totals(fields: Mapping[str, Any], requests: list[dict[str, Any]]) -> Iterator[Total]:
    answered = [r for r in requests if r.get("success") is not False and not r.get("error")]
    if not requests:
        return
    computed = {
        "completed": len(answered),
        "total_input_tokens": sum(measured.count(r.get("input_len")) or 0 for r in answered),
        "total_output_tokens": sum(measured.count(r.get("output_len")) or 0 for r in answered),
    }
    for name, value in computed.items():
        stated = measured.number(fields.get(name))
        if stated is not None:
            yield Total(name, stated, value)
