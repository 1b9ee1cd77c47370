"""Results of EvalPlus: which samples of HumanEval+ or MBPP+ passed the base and the extra tests.

As in EvalPlus, a sample passes the extra tests only if it passes the base tests too. The file does
not contain the model; it is read from the file's name if that has EvalPlus' form.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Configuration,
    Item,
    Run,
    Score,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads, json_bytes
from workbench.sources.report import FileReport, Total

NAME = "evalplus"
_TASKS = {"HumanEval": "humaneval+", "Mbpp": "mbpp+"}
_FIRST = re.compile(
    rb'"eval"\s*:\s*\{\s*"[^"]{1,200}"\s*:\s*'
    rb'(?:\[\s*(?:\[\s*)?\{\s*"(?:task_id|solution|base_status|plus_status)"'
    rb'|\{\s*"(?:nfiles|base|plus|files)")'
)
_FILE_NAME = re.compile(
    r"^(?P<model>.+?)(?:_temp_(?P<temperature>\d+(?:\.\d+)?))?"
    r"(?:[-_.](?:sanitized|raw))?[-_.]eval_results$"
)
_DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EVAL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


class Sample(NamedTuple):
    """One sample of a task, with its status by each set of tests; None if that was not run."""

    base: str | None
    plus: str | None
    solution: str | None = None
    failed: dict[str, Any] | None = None


class EvalPlus:
    """Source of `…_eval_results.json`, in the current layout and the older one."""

    name = NAME
    title = "EvalPlus results (_eval_results.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is JSON whose "eval" contains samples with their status."""
        start = heads.start(path)
        return start.lstrip()[:1] == b"{" and bool(_FIRST.search(start))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run and the configuration, then each task's item and the traces of its samples.

        Raises:
            ImportFormatError: the file is truncated or has another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        data = json_bytes.document(path)
        whole = json_bytes.decode(_DOCUMENT, data, str(path), report)
        run_id = content_id(NAME, hashlib.sha256(data).hexdigest())
        yield Run(run_id=run_id, kind="import", source=NAME, origin=path.name, status="done")
        configuration = _configuration(path, report)
        yield configuration
        tasks = json_bytes.decode(_EVAL, memoryview(whole["eval"]), f"{path}, eval", report)
        counts: dict[str, list[tuple[int, int]]] = {}
        yielded_tasks: set[str] = set()
        for name, raw in tasks.items():
            where = f"{path}, {name}"
            samples = _samples(json_bytes.decode(_ANY, memoryview(raw), where, report), where)
            task = Task(task=_TASKS.get(name.partition("/")[0], NAME), scorer=NAME)
            if task.task_id not in yielded_tasks:
                yielded_tasks.add(task.task_id)
                yield task
            item = Item(task_id=task.task_id, item=name)
            yield item
            for trial, sample in enumerate(samples):
                report.rows_in += 1
                report.rows_out += 1
                yield _trace(sample, trial, (run_id, configuration.configuration_id), item)
            _count(counts, samples)
        if "pass_at_k" in whole:
            stated = json_bytes.decode(_ANY, memoryview(whole["pass_at_k"]), str(path), report)
            report.totals += _totals(stated, counts)


SOURCE = EvalPlus()


def _configuration(path: Path, report: FileReport) -> Configuration:
    match = _FILE_NAME.match(path.stem)
    model = match["model"] if match else path.stem
    report.notes["the model is taken from the file's name"] += 1
    temperature = float(match["temperature"]) if match and match["temperature"] else None
    return Configuration(model=model, temperature=temperature)


def _samples(value: object, where: str) -> list[Sample]:
    if isinstance(value, list) and all(isinstance(sample, dict) for sample in value):
        return [_sample(sample) for sample in value]
    if isinstance(value, dict) and isinstance(value.get("base"), list):
        plus = value.get("plus")
        plus = plus if isinstance(plus, list) else []
        pairs = enumerate(value["base"])
        return [
            Sample(_status(base), _status(plus[n]) if n < len(plus) else None) for n, base in pairs
        ]
    raise ImportFormatError(f"{where} is not a list of samples as EvalPlus writes it")


def _sample(sample: dict[str, Any]) -> Sample:
    names = ("base_fail_tests", "plus_fail_tests")
    failed = {name: sample[name] for name in names if sample.get(name)}
    solution = sample.get("solution")
    return Sample(
        _status(sample.get("base_status")),
        _status(sample.get("plus_status")),
        solution if isinstance(solution, str) else None,
        failed,
    )


def _status(value: object) -> str | None:
    """Return a status: pass, fail or timeout. Older files have it in a list with details."""
    if isinstance(value, list):
        value = value[0] if value else None
    return (
        {"success": "pass", "failed": "fail"}.get(value, value) if isinstance(value, str) else None
    )


def _verdicts(sample: Sample) -> dict[str, bool]:
    """Return whether the sample passes, by set of tests that was run; the extra tests first."""
    base = sample.base == "pass"
    verdicts = {} if sample.plus is None else {"plus": base and sample.plus == "pass"}
    return verdicts | ({} if sample.base is None else {"base": base})


def _trace(sample: Sample, trial: int, ids: tuple[str, str], item: Item) -> Trace:
    verdicts = _verdicts(sample)
    statuses = {"plus": sample.plus, "base": sample.base}
    scores = tuple(
        Score(
            scorer=name,
            score=float(passed),
            passed=passed,
            value=statuses[name],
            answer=sample.solution,
        )
        for name, passed in verdicts.items()
    )
    return Trace(
        run_id=ids[0],
        configuration_id=ids[1],
        task_id=item.task_id,
        item_id=item.item_id,
        trial=trial,
        answer=sample.solution,
        score=scores[0].score if scores else None,
        passed=scores[0].passed if scores else None,
        metadata=json_text(sample.failed) if sample.failed else None,
        scores=scores,
    )


def _count(counts: dict[str, list[tuple[int, int]]], samples: list[Sample]) -> None:
    """Append (number of samples, number passed) of a task, for each set of tests."""
    verdicts = [_verdicts(sample) for sample in samples]
    for name in ("base", "plus"):
        known = [v[name] for v in verdicts if name in v]
        if known:
            counts.setdefault(name, []).append((len(known), sum(known)))


def _totals(stated: object, counts: dict[str, list[tuple[int, int]]]) -> Iterator[Total]:
    """Compare the pass@k that the file states with the unbiased estimate from its samples."""
    for name, values in stated.items() if isinstance(stated, dict) else ():
        for metric, value in values.items() if isinstance(values, dict) else ():
            k = metric.removeprefix("pass@")
            if k.isdigit() and name in counts and isinstance(value, (int, float)):
                yield Total(
                    f"{name} {metric}", float(value), _pass_at_k(int(k), counts[name]), 1e-6
                )


def _pass_at_k(k: int, counts: list[tuple[int, int]]) -> float:
    """Return the mean over tasks of 1 − C(n − c, k) / C(n, k): Chen et al. 2021, equation 1."""
    estimates = [
        1 - math.comb(n - c, k) / math.comb(n, k) if n >= k else float("nan") for n, c in counts
    ]
    return sum(estimates) / len(estimates)
