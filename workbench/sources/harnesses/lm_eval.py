"""Source of the LM Evaluation Harness: a results file, and beside it the samples of its tasks.

`results_<time>.json` has the model, the settings and the metrics of every task; with
`--log_samples`, `samples_<task>_<time>.jsonl` has a line for each document and filter. A filter
takes the answer out of the same responses in its own way: it is a score of the trace, no trace of
its own. The harness writes no tokens, times or costs.
"""

import contextlib
import datetime as dt
import hashlib
import math
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
    Result,
    Run,
    Score,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads, json_bytes
from workbench.sources.heads import Line
from workbench.sources.json_lines import lines, member, text
from workbench.sources.prompts import content_text
from workbench.sources.report import FileReport, Total
from workbench.usage import count

NAME = "lm-eval"
_RESULTS = re.compile(r"results_(?P<time>.+)\.json")
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[^_]+)\.jsonl")
_METRIC = re.compile(rb'"[\w.@-]+(?:_stderr)?,[\w.@-]+"\s*:')
_SAMPLE = re.compile(rb'\s*\{\s*"doc_id"\s*:')
_SAMPLE_KEYS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps"}
_RESULT_KEYS = {"results", "versions", "config"}
_QUESTIONS = ("question", "query", "problem", "prompt", "input", "instruction", "text", "sentence")
_NAMES = {"name", "alias", "sample_len", "samples"}
_PRETRAINED = re.compile(r"(?:^|,)(?:pretrained|model|path)=([^,]+)")
_CHANCE = {"acc", "acc_norm", "exact_match", "em", "f1", "pass@1", "prompt_level_strict_acc"}
_DIRECTIONS = {"True": "higher", "False": "lower"}
_document = msgspec.json.Decoder(dict[str, Any])


class LmEval:
    """Source of results files and samples files."""

    name = NAME
    title = "LM Evaluation Harness: results (.json) and samples (.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is a results file, or has lines of samples."""
        start = heads.start(path)
        if start.lstrip()[:1] != b"{":
            return False
        if _is_samples(path):
            return True
        keys = set(heads.keys(path))
        if "results" not in keys:
            return False
        return bool(_METRIC.search(start)) or keys >= _RESULT_KEYS

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the samples files of a results file."""
        return () if _is_samples(path) else tuple(_samples_of(path).values())

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, and for each task its configuration, items and traces, or its results.

        Raises:
            ImportFormatError: a file is truncated or has another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        if _is_samples(path):
            yield from _only_samples(path, report)
            return
        header = _header_of(path, report)
        yield header.run
        samples = _samples_of(path)
        for task in header.tasks():
            if task in samples:
                yield from _traces(header, task, samples[task], report)
            else:
                yield from _results(header, task, report)


SOURCE = LmEval()


def _is_samples(path: Path) -> bool:
    first = heads.lines(path)[:1]
    if first:
        return len(_SAMPLE_KEYS & first[0].keys()) >= 5 and "doc_id" in first[0]
    start = heads.start(path)  # a line with a NaN is no JSON
    return bool(_SAMPLE.match(start)) and b'"resps"' in start


def _samples_of(path: Path) -> dict[str, Path]:
    """Return the samples files beside a results file, by task."""
    named = _RESULTS.fullmatch(path.name)
    if named is None:
        return {}
    beside = {}
    for file in sorted(path.parent.glob("samples_*.jsonl")):
        match = _SAMPLES.fullmatch(file.name)
        if match is not None and match["time"] == named["time"]:
            beside[match["task"]] = file
    return beside


def _header_of(path: Path, report: FileReport) -> "_Header":
    """Read a results file."""
    data = json_bytes.document(path)
    document = json_bytes.decode(_document, data, str(path), report)
    if not isinstance(document.get("results"), dict):
        raise ImportFormatError(f"{path} has no table of results")
    return _Header(document, content_id(NAME, hashlib.sha256(data).hexdigest()), path.name)


class _Header:
    """The results file: what all tasks of a run share."""

    def __init__(self, document: Line, run_id: str, origin: str) -> None:
        self.document, self.run_id = document, run_id
        self.results = member(document, "results")
        self.config = member(document, "config")
        self.run = self._run(origin)

    def _run(self, origin: str) -> Run:
        started = _time(self.document.get("date"))
        taken = _number(self.document.get("total_evaluation_time_seconds"))
        ended = started + dt.timedelta(seconds=taken) if started and taken is not None else None
        fields = {"lm_eval": "lm_eval_version", "transformers": "transformers_version"}
        versions = {
            name: self.document[field]
            for name, field in fields.items()
            if text(self.document.get(field))
        }
        return Run(
            run_id=self.run_id,
            kind="import",
            source=NAME,
            origin=origin,
            status="done",
            started_at=started,
            ended_at=ended,
            versions=json_text(versions) if versions else None,
            commit_sha=text(self.document.get("git_hash")),
            n_planned=sum(n for task in self.results if (n := self.n_documents(task))) or None,
            accelerator=text(self.config.get("device")),
        )

    def tasks(self) -> list[str]:
        """Return the names of tasks and groups that have a metric."""
        return [name for name, metrics in self.results.items() if isinstance(metrics, dict)]

    def n_documents(self, task: str) -> int | None:
        """Return how many documents of a task were evaluated."""
        return count(member(member(self.document, "n-samples"), task).get("effective"))

    def task(self, name: str) -> Task:
        """Build a task; its version is that of the harness' definition."""
        version = member(self.document, "versions").get(name)
        scorer = ", ".join(dict.fromkeys(m for m, _, _ in _metrics(self.results.get(name))))
        return Task(
            task=name,
            version=None if version in (None, "N/A", "Yaml") else str(version),
            scorer=scorer or None,
        )

    def configuration(self, task: str) -> Configuration:
        """Build the configuration of a task: the model, and how it was asked."""
        of_task = member(member(self.document, "configs"), task)
        generation = member(of_task, "generation_kwargs") | _pairs(self.config.get("gen_kwargs"))
        shots = member(self.document, "n-shot").get(task, of_task.get("num_fewshot"))
        params = {"num_fewshot": shots} if count(shots) is not None else {}
        settings = {
            "backend": self.config.get("model"),
            "model_args": self.config.get("model_args"),
            "system_instruction": self.document.get("system_instruction_sha"),
            "chat_template": self.document.get("chat_template_sha"),
            "seed": self.config.get("random_seed"),
            "repeats": of_task.get("repeats") if of_task.get("repeats") != 1 else None,
        }
        known = {name: value for name, value in settings.items() if value not in (None, "", {})}
        return Configuration(
            model=_model(self.document, self.config),
            strategy_params=json_text(params) if params else None,
            temperature=_number(generation.get("temperature")),
            top_p=_number(generation.get("top_p")),
            max_tokens=count(generation.get("max_gen_toks", generation.get("max_tokens"))),
            settings=json_text(known) if known else None,
        )

    def averages(self, task: str) -> set[str]:
        """Return the metrics of a task that are the mean over its documents."""
        listed = member(member(self.document, "configs"), task).get("metric_list")
        return {
            str(metric.get("metric"))
            for metric in (listed if isinstance(listed, list) else ())
            if isinstance(metric, dict) and metric.get("aggregation") == "mean"
        }


def _model(document: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the model's name: as the harness states it, else from the arguments."""
    if name := text(document.get("model_name")):
        return name
    arguments = config.get("model_args")
    if isinstance(arguments, dict):
        known = (text(arguments.get(name)) for name in ("pretrained", "model", "path"))
        return next(filter(None, known), None) or str(config.get("model") or "unknown")
    named = _PRETRAINED.search(arguments) if isinstance(arguments, str) else None
    return named[1] if named else text(config.get("model")) or "unknown"


def _pairs(value: object) -> dict[str, Any]:
    """Read generation settings: an object, or `temperature=0.5,top_p=1`."""
    if isinstance(value, dict):
        return value
    pairs = (pair.partition("=") for pair in value.split(",")) if isinstance(value, str) else ()
    return {name.strip(): _number(given) for name, _, given in pairs if name.strip()}


def _metrics(table: object) -> Iterator[tuple[str, float, float | None]]:
    """Yield (metric, value, standard error) of a task; a filter stands after a comma."""
    if not isinstance(table, dict):
        return
    for name, value in table.items():
        metric, _, filter_ = name.partition(",")
        number = _number(value) if not isinstance(value, str) else None
        if name in _NAMES or metric.endswith("_stderr") or number is None:
            continue
        error = table.get(f"{metric}_stderr,{filter_}" if filter_ else f"{metric}_stderr")
        shown = _scorer(metric, filter_)
        yield shown, number, _number(error) if not isinstance(error, str) else None


def _scorer(metric: str, filter_: str) -> str:
    return metric if filter_ in ("", "none") else f"{metric},{filter_}"


def _results(header: _Header, name: str, report: FileReport) -> Iterator[AnyRecord]:
    """Yield the metrics of a task or group without samples."""
    metrics = list(_metrics(header.results[name]))
    if not metrics:
        return
    task, configuration = header.task(name), header.configuration(name)
    yield from (task, configuration)
    better = member(member(header.document, "higher_is_better"), name)
    for metric, value, error in metrics:
        report.rows_in += 1
        report.rows_out += 1
        yield Result(
            run_id=header.run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            metric=metric,
            value=value,
            n=header.n_documents(name),
            standard_error=error,
            date=header.run.started_at,
            direction=_DIRECTIONS.get(str(better.get(metric.partition(",")[0]))),
        )


def _only_samples(path: Path, report: FileReport) -> Iterator[AnyRecord]:
    """Read a samples file that was named by itself, with the results file beside it, if any."""
    match = _SAMPLES.fullmatch(path.name)
    if match is not None:
        results = path.with_name(f"results_{match['time']}.json")
        if results.is_file():
            header = _header_of(results, report)
            yield header.run
            yield from _traces(header, match["task"], path, report)
            return
    report.notes["no results file beside the samples: the model is named after the folder"] += 1
    run_id = content_id(NAME, hashlib.sha256(path.read_bytes()).hexdigest())
    header = _Header({"model_name": path.resolve().parent.name}, run_id, path.name)
    yield header.run
    yield from _traces(header, match["task"] if match else path.stem, path, report)


def _traces(header: _Header, name: str, path: Path, report: FileReport) -> Iterator[AnyRecord]:
    """Yield a task's items and traces: the rows of one document are one trace."""
    task, configuration = header.task(name), header.configuration(name)
    yield from (task, configuration)
    documents: dict[str, list[Line]] = {}
    for _, row in lines(path, report):
        documents.setdefault(str(row.get("doc_id")), []).append(row)
    sums: dict[str, list[float]] = {}
    ids = (header.run_id, configuration.configuration_id, task.task_id)
    for key, rows in documents.items():
        report.rows_in += 1
        item = _item(task.task_id, key, rows[0])
        trace = _trace(ids, item, rows, sums)
        report.rows_out += 1
        yield from (item, trace)
    averages = header.averages(name)
    for metric, stated, _ in _metrics(header.results.get(name)):
        values = sums.get(metric)
        if values and metric.partition(",")[0] in averages:
            mean = math.fsum(values) / len(values)
            report.totals.append(Total(f"{name}: {metric}", stated, mean, 1e-6))
    planned = header.n_documents(name)
    if planned is not None:
        report.totals.append(Total(f"{name}: documents", planned, len(documents)))


def _item(task_id: str, key: str, row: Line) -> Item:
    """Build the item: the same for every model, as prompts differ by their chat templates."""
    document = member(row, "doc")
    question = next((q for name in _QUESTIONS if (q := text(document.get(name)))), None)
    return Item(
        task_id=task_id,
        item=key,
        input=question or (json_text(document) if document else None),
        target=_shown(row.get("target")),
        metadata=json_text({"doc": document}) if document else None,
    )


def _trace(
    ids: tuple[str, str, str], item: Item, rows: Sequence[Line], sums: dict[str, list[float]]
) -> Trace:
    first = rows[0]
    prompts = _prompts(first.get("arguments"))
    responses = _responses(first.get("resps"))
    scores = tuple(_scores(rows, sums))
    primary = next((score for score in scores if score.score is not None), None)
    answer = _answer(rows[0])
    choices = [r for r in responses if isinstance(r, list)]
    is_choice = bool(choices) and len(choices) == len(responses)
    messages = list(_messages(prompts, responses, is_choice=is_choice))
    facts: dict[str, Any] = {
        name: first[name] for name in ("doc_hash", "prompt_hash") if text(first.get(name))
    }
    if is_choice:
        facts["log_likelihoods"] = choices
    return Trace(
        run_id=ids[0],
        configuration_id=ids[1],
        task_id=ids[2],
        item_id=item.item_id,
        answer=answer,
        score=primary.score if primary else None,
        passed=primary.passed if primary else None,
        metadata=json_text(facts) if facts else None,
        calls=tuple(_calls(responses, is_choice=is_choice)),
        messages=tuple(messages),
        scores=scores,
    )


def _calls(responses: Sequence[Any], *, is_choice: bool) -> Iterator[Call]:
    """Yield a call for each response; the likelihoods of choices are one call of many requests."""
    if is_choice:
        yield Call(ordinal=0, n_requests=len(responses))
        return
    for ordinal in range(len(responses)):
        yield Call(ordinal=ordinal)


def _prompts(arguments: object) -> list[str]:
    """Return the prompts: `gen_args_0.arg_0`, or in older files the first of each list."""
    if isinstance(arguments, dict):
        listed = [member(arguments, name).get("arg_0") for name in sorted(arguments)]
    else:
        pairs = arguments if isinstance(arguments, list) else []
        listed = [pair[0] for pair in pairs if isinstance(pair, list) and pair]
    return [shown for prompt in listed if (shown := _prompt(prompt))]


def _prompt(prompt: object) -> str:
    """Return a prompt as text; with a chat template it may be messages as JSON."""
    if isinstance(prompt, list):
        return "\n\n".join(content_text(m.get("content")) for m in prompt if isinstance(m, dict))
    return prompt if isinstance(prompt, str) else ""


def _responses(resps: object) -> list[Any]:
    """Return all responses: those of repeats lie within the list of a request."""
    flat: list[Any] = []
    for of_request in resps if isinstance(resps, list) else ():
        flat += of_request if isinstance(of_request, list) else [of_request]
    return flat


def _messages(
    prompts: Sequence[str], responses: Sequence[Any], *, is_choice: bool
) -> Iterator[Message]:
    parts = [("user", prompt, 0) for prompt in dict.fromkeys(prompts)]
    if not is_choice:
        parts += [
            ("assistant", response, ordinal)
            for ordinal, response in enumerate(responses)
            if isinstance(response, str) and response
        ]
    for place, (role, shown, call) in enumerate(parts):
        ordinal = call if responses else None
        yield Message(ordinal=place, role=role, kind="text", text=shown, call_ordinal=ordinal)


def _scores(rows: Sequence[Line], sums: dict[str, list[float]]) -> Iterator[Score]:
    seen: set[str] = set()
    for row in rows:
        filter_ = text(row.get("filter")) or ""
        named = row.get("metrics")
        names = named if isinstance(named, list) else sorted(row.keys() & _CHANCE)
        for metric in names:
            scorer = _scorer(str(metric), filter_)
            if scorer in seen or str(metric) not in row:
                continue
            seen.add(scorer)
            value = row[str(metric)]
            number = _number(value) if not isinstance(value, str) else None
            if number is not None:
                sums.setdefault(scorer, []).append(number)
            is_score = number is not None and 0 <= number <= 1
            yield Score(
                scorer=scorer,
                score=number if is_score else None,
                passed=number >= 1 if is_score and number is not None else None,
                value=None if number is not None else _shown(value),
                answer=_answer(row),
                metric=None if is_score else number,
            )


def _answer(row: Line) -> str | None:
    """Return what the filter took out of the responses; of choices the likeliest one's place."""
    filtered = row.get("filtered_resps")
    if not isinstance(filtered, list) or not filtered:
        return _shown(filtered)
    if all(isinstance(choice, list) and choice for choice in filtered):
        likelihoods = [_number(choice[0]) for choice in filtered]
        known = [(value, -place) for place, value in enumerate(likelihoods) if value is not None]
        return str(-max(known)[1]) if len(known) == len(filtered) else None
    first = filtered[0]
    return _shown(first[0] if isinstance(first, list) and first else first)


def _shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json_text(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float | str):
        return None
    with contextlib.suppress(ValueError, OverflowError):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _time(value: object) -> dt.datetime | None:
    number = _number(value)
    if number is None or not 0 < number < 253_402_300_799:
        return None
    return dt.datetime.fromtimestamp(number, dt.UTC)
