"""Results of an Inspect log without samples, each with its n and standard error."""

from collections.abc import Iterator
from typing import Any

from workbench.records import Result, Run, json_text
from workbench.sources.inspect_calls import Log, utc
from workbench.sources.inspect_schema import USAGE, Header, ScoreResult
from workbench.sources.inspect_usage import normalise

_ERRORS = ("stderr", "bootstrap_stderr")  # of the mean beside them, the better one first
_MEANS = {"accuracy", "mean"}


def results_of(header: Header, run: Run, log: Log) -> Iterator[Result]:
    """Yield every metric of every scorer, then the tokens of every model.

    A metric has its own name where one scorer scored, else the scorer's before it: match/accuracy.
    """
    scores = header.results.all_scores if header.results else []
    several = len({s.full_name for s in scores}) > 1
    date = utc(header.eval.created) or run.started_at
    shared: dict[str, Any] = {
        "run_id": log.run_id,
        "configuration_id": log.configuration_id,
        "task_id": log.task_id,
        "date": date,
    }
    for score in scores:
        about = {"scorer": score.full_name, "reducer": score.reducer}
        metadata = json_text({name: value for name, value in about.items() if value})
        n, error = _n_of(header, score), _error_of(score)
        for name, metric in score.metrics.items():
            if name in _ERRORS and error is not None:
                continue
            value = metric.value if isinstance(metric.value, (int, float)) else None
            is_share = name == "accuracy"
            yield Result(
                **shared,
                metric=f"{score.full_name}/{name}" if several else name,
                value=None if value is None else float(value),
                n=n,
                standard_error=error if name in _MEANS else None,
                metadata=metadata,
                scale_low=0.0 if is_share else None,
                scale_high=1.0 if is_share else None,
                direction="higher" if is_share else None,
            )
    for model, raw in header.stats.model_usage.items():
        found = normalise(USAGE.decode(raw), model, log.version)
        for total, tokens in (
            ("total_input_tokens", found.input),
            ("total_output_tokens", found.output),
            ("total_reasoning_tokens", found.reasoning),
        ):
            if tokens is not None:
                yield Result(
                    **shared,
                    metric=total,
                    value=float(tokens),
                    unit="tokens",
                    n=header.results.completed_samples if header.results else None,
                    metadata=json_text({"model": model}),
                )


def _error_of(score: ScoreResult) -> float | None:
    """The standard error of the scorer's mean, if it has one mean."""
    if len(_MEANS & score.metrics.keys()) != 1:
        return None
    values = (score.metrics[name].value for name in _ERRORS if name in score.metrics)
    return next((float(v) for v in values if isinstance(v, (int, float))), None)


def _n_of(header: Header, score: ScoreResult) -> int | None:
    """How many items a metric is over: as the log says, else the samples by the epochs."""
    if score.scored_samples is not None:
        return score.scored_samples
    n = header.results.completed_samples if header.results else None
    epochs = header.eval.config.get("epochs") or 1
    return n // epochs if n is not None and isinstance(epochs, int) and n % epochs == 0 else None
