"""Profiles of Intelligence Per Watt (`ipw profile`): answers with their joules, one at a time.

The folder of a profile has summary.json and a data set in Arrow's stream format (data-*.arrow). The
energy of a query runs from the end of the one before it to its own end, idle time included; after a
reset of the counter it is unknown. A profile does not score: `lm_correctness` is false in each row.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyReading,
    Item,
    Run,
    Score,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.json_lines import member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.serving import documents, measured
from workbench.sources.transcript import Transcript

NAME = "intelligence-per-watt"
_KEYS = frozenset({"model", "hardware_label", "total_queries", "generated_at"})
_NOTE = "from the end of the query before to the end of this one, idle time between them included"


class IntelligencePerWatt:
    """Source of a profile: its summary, and the answers beside it."""

    name = NAME
    title = "Intelligence Per Watt profile (summary.json with data-*.arrow)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is the summary of a profile."""
        return set(heads.keys(path)) >= _KEYS

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the files of the data set beside the summary."""
        names = (path.with_name(name) for name in ("dataset_info.json", "state.json"))
        return (*_data(path), *(file for file in names if file.is_file()))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, and a trace for each answer.

        Raises:
            ImportFormatError: the data set is missing, truncated or has another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        summary = documents.whole(path, report)
        if not summary.keys() >= _KEYS:
            raise ImportFormatError(f"{path} is no summary of a profile")
        if not _data(path):
            raise ImportFormatError(f"{path} has no data-*.arrow beside it, which has its answers")
        run = _run(summary, path)
        task = Task(task=text(summary.get("dataset_name")) or text(summary.get("dataset")) or NAME)
        yield from (run, task)
        configurations: dict[str, Configuration] = {}
        trials: dict[tuple[str, str], int] = {}
        for row in _rows(path):
            report.rows_in += 1
            item = _item(row, task)
            for model, metrics in member(row, "model_metrics").items():
                if not isinstance(metrics, dict):  # a model that did not answer this query
                    continue
                configuration = _configuration(model, summary)
                if model not in configurations:
                    configurations[model] = configuration
                    yield configuration
                key = (model, item.item_id)
                trials[key] = trials.get(key, -1) + 1
                if not trials[key]:
                    yield item
                yield _trace(metrics, row, trials[key], (run, configuration, item))
            report.rows_out += 1
        report.totals.append(
            Total("queries", float(measured.count(summary["total_queries"]) or 0), report.rows_in)
        )


SOURCE = IntelligencePerWatt()


def _data(path: Path) -> list[Path]:
    return sorted(path.parent.glob("data-*.arrow"))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the data set, one record batch at a time."""
    import pyarrow as pa

    for file in _data(path):
        try:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
                for batch in stream:
                    yield from batch.to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise ImportFormatError(f"{file} is no whole Arrow stream: {error}") from error


def _run(summary: Mapping[str, Any], path: Path) -> Run:
    system = member(summary, "system_info")
    gpu = member(summary, "gpu_info")
    return Run(
        run_id=content_id(NAME, {k: v for k, v in summary.items() if k != "output_dir"}),
        kind="import",
        source=NAME,
        origin=path.name,
        status="done",
        ended_at=moment(summary["generated_at"]),
        platform=" ".join(filter(None, map(text, (system.get("os_name"), system.get("cpu_brand")))))
        or None,
        accelerator=text(gpu.get("name")),
        n_planned=measured.count(summary["total_queries"]),
        metadata=json_text({"hardware_label": summary["hardware_label"]}),
    )


def _configuration(model: str, summary: Mapping[str, Any]) -> Configuration:
    hardware = text(summary["hardware_label"])
    return Configuration(
        model=model, settings=json_text({"hardware": hardware}) if hardware else None
    )


def _item(row: Mapping[str, Any], task: Task) -> Item:
    problem = text(row.get("problem"))
    subject = text(row.get("subject"))
    metadata = {k: v for k, v in member(row, "dataset_metadata").items() if v is not None}
    return Item(
        task_id=task.task_id,
        item=content_id("problem", problem)[:12],
        input=problem,
        target=text(row.get("answer")),
        tags=json_text([subject]) if subject else None,
        metadata=json_text({k: str(v) for k, v in metadata.items()}) if metadata else None,
    )


def _trace(
    metrics: Mapping[str, Any],
    row: Mapping[str, Any],
    trial: int,
    ids: tuple[Run, Configuration, Item],
) -> Trace:
    run, configuration, item = ids
    latency = member(metrics, "latency_metrics")
    tokens = member(metrics, "token_metrics")
    e2e_s = measured.positive(latency.get("total_query_seconds"))
    known = bool(tokens.get("total"))  # the tool writes 0 for tokens that the server did not report
    answer = text(metrics.get("lm_response"))
    call = Call(
        model=configuration.model,
        ttft_s=measured.positive(latency.get("time_to_first_token_seconds")),
        e2e_s=e2e_s,
        input_tokens=measured.count(tokens.get("input")) if known else None,
        output_tokens=measured.count(tokens.get("output")) if known else None,
        tokens_source="reported" if known else None,
    )
    energy_j = measured.number(member(metrics, "energy_metrics").get("per_query_joules"))
    reading = EnergyReading(
        call_ordinal=0, device="gpu", method="reported", energy_j=energy_j, note=_NOTE
    )
    transcript = Transcript()
    transcript.add("user", "text", item.input or "")
    transcript.add("assistant", "text", answer or "", call=0)
    score = _score(metrics, row)
    return Trace(
        run_id=run.run_id,
        configuration_id=configuration.configuration_id,
        task_id=item.task_id,
        item_id=item.item_id,
        trial=trial,
        e2e_s=e2e_s,
        answer=answer,
        n_turns=1,
        score=score.score if score else None,
        passed=score.passed if score else None,
        calls=(call,),
        messages=tuple(transcript.messages),
        scores=(score,) if score else (),
        energy=(reading,) if energy_j is not None else (),
    )


def _score(metrics: Mapping[str, Any], row: Mapping[str, Any]) -> Score | None:
    """Return the score of `ipw analyze`, which newer rows have; a profile itself scores nothing."""
    for place in (metrics, row):
        passed = member(place, "evaluation").get("is_correct")
        if isinstance(passed, bool):
            return Score(scorer=NAME, score=float(passed), passed=passed)
    return None
