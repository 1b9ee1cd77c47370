"""Conversion of an Inspect log's header to a run, a task and a configuration."""

import datetime as dt
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from workbench.records import Configuration, Run, Task, content_id, json_text
from workbench.sources.inspect.calls import split, utc
from workbench.sources.inspect.log_schema import EvalConfig, Generate, Header

_STATUS = {
    "success": "done",
    "error": "failed",
    "cancelled": "cancelled",
    "started": "interrupted",
}
_TRANSPORT_SETTINGS = {  # have no influence on the answer, so that configurations exclude them
    "max_connections",
    "adaptive_connections",
    "max_retries",
    "timeout",
    "attempt_timeout",
    "batch",
    "cache",
    "cache_prompt",
    "stream",
}
_LIMITS = ("message_limit", "token_limit", "time_limit", "working_limit", "cost_limit")
_SECRET = re.compile(
    r"(?i)api.?key|secret|password|authori[sz]ation|credential|(access|auth).?token"
)


def run_of(header: Header, path: Path) -> Run:
    """Build the run of an evaluation; its id does not depend on the file."""
    spec = header.eval
    if spec.eval_id or spec.run_id:
        run_id = content_id("inspect", spec.eval_id, spec.run_id, spec.task_id)
    else:
        with path.open("rb") as file:
            run_id = content_id("inspect", hashlib.file_digest(file, "sha256").hexdigest())
    config = msgspec.convert(spec.config, EvalConfig)
    n_items = len(spec.dataset.sample_ids or ()) or spec.dataset.samples
    plan = {
        "task": spec.task,
        "model": spec.model,
        "solvers": _strategy(header),
        "dataset": spec.dataset.name,
        "config": without_secrets(spec.config),
    }
    metadata = {"tags": spec.tags, "metadata": without_secrets(spec.metadata)}
    metadata["invalidated"] = header.invalidated
    metadata = {name: value for name, value in metadata.items() if value}
    return Run(
        run_id=run_id,
        kind="import",
        source="inspect",
        origin=path.name,
        plan=json_text(plan),
        status=_STATUS.get(header.status, header.status),
        started_at=_time(header.stats.started_at) or utc(spec.created),
        ended_at=_time(header.stats.completed_at),
        versions=json_text(spec.packages) if spec.packages else None,
        commit_sha=spec.revision.commit if spec.revision else None,
        n_planned=n_items * (config.epochs or 1) if n_items else None,
        error_message=header.error.message if header.error else None,
        series_id=content_id("inspect", spec.task_id) if spec.task_id else None,
        metadata=json_text(metadata) if metadata else None,
    )


def task_of(header: Header) -> Task:
    """Build the task, with the names of its scorers."""
    spec = header.eval
    scorers = [s.name for s in spec.scorers or () if s.name]
    return Task(
        task=spec.task,
        version=None if spec.task_version is None else str(spec.task_version),
        scorer=", ".join(scorers) or None,
    )


def configuration_of(header: Header) -> Configuration:
    """Build the configuration: model, solvers with parameters, generation settings, limits."""
    spec = header.eval
    provider, model = split(spec.model)
    merged = (spec.model_generate_config or {}) | header.plan.config
    generate = {k: v for k, v in merged.items() if v is not None}
    typed = msgspec.convert(generate, Generate)
    others = set(generate) - set(Generate.__struct_fields__) - _TRANSPORT_SETTINGS
    limits = {k: v for k, v in spec.config.items() if k in _LIMITS and v is not None}
    settings = {
        "generate": {k: generate[k] for k in others},
        "model_args": spec.model_args,
        "task_args": spec.task_args,
        "model_roles": spec.model_roles,
        "limits": limits,
    }
    settings = {k: without_secrets(v) for k, v in settings.items() if v}
    return Configuration(
        model=model,
        provider=provider,
        strategy=_strategy(header),
        strategy_params=_strategy_params(header),
        effort=typed.reasoning_effort,
        thinking_budget_tokens=typed.reasoning_tokens,
        temperature=typed.temperature,
        top_p=typed.top_p,
        max_tokens=typed.max_tokens,
        settings=json_text(settings) if settings else None,
    )


def without_secrets(value: Any) -> Any:
    """Remove members named like a key or password, at any depth."""
    if isinstance(value, dict):
        return {k: without_secrets(v) for k, v in value.items() if not _SECRET.search(str(k))}
    if isinstance(value, list):
        return [without_secrets(v) for v in value]
    return value


def _strategy(header: Header) -> str | None:
    names = [step.solver for step in header.plan.steps if step.solver]
    return "+".join(names) or header.eval.solver


def _strategy_params(header: Header) -> str | None:
    passed = []
    for step in header.plan.steps:
        params = step.params if step.params_passed is None else step.params_passed
        if params:
            passed.append({"solver": step.solver, "params": without_secrets(params)})
    return json_text(passed) if passed else None


def _time(text: str | None) -> dt.datetime | None:
    try:
        return utc(dt.datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None
