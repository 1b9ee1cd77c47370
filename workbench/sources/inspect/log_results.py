"""Results of an Inspect log without samples: its metrics with n and standard error, its tokens."""

from collections.abc import Iterator
from typing import Any

from workbench.records import Result, Run, json_text
from workbench.sources.inspect.calls import Log, utc
from workbench.sources.inspect.log_schema import USAGE, Header, ScoreResult
from workbench.sources.inspect.model_usage import normalise

_ERRORS = ("stderr", "bootstrap_stderr")  # standard errors of the scorer's mean, best first
_MEANS = {"accuracy", "mean"}


def results_of(header: Header, run: Run, log: Log) -> Iterator[Result]:
    """Yield every metric of every scorer, then the tokens of every model.

    If there are several scorers, their names precede those of the metrics: match/accuracy.
    """
    scores = header.results.all_scores if header.results else []
    has_several_scorers = len({s.full_name for s in scores}) > 1
    date = utc(header.eval.created) or run.started_at
    shared: dict[str, Any] = {
        "run_id": log.run_id,
        "configuration_id": log.configuration_id,
        "task_id": log.task_id,
        "date": date,
    }
    for score in scores:
        origin = {"scorer": score.full_name, "reducer": score.reducer}
        metadata = json_text({name: value for name, value in origin.items() if value})
        n = _n_of(header, score)
        error = _error_of(score)
        for name, metric in score.metrics.items():
            if name in _ERRORS and error is not None:
                continue
            value = metric.value if isinstance(metric.value, (int, float)) else None
            is_share = name == "accuracy"
            yield Result(
                **shared,
                metric=f"{score.full_name}/{name}" if has_several_scorers else name,
                value=None if value is None else float(value),
                n=n,
                standard_error=error if name in _MEANS else None,
                metadata=metadata,
                scale_low=0.0 if is_share else None,
                scale_high=1.0 if is_share else None,
                direction="higher" if is_share else None,
            )
    for model, raw in header.stats.model_usage.items():
        counts = normalise(USAGE.decode(raw), model, log.version)
        for total, tokens in (
            ("total_input_tokens", counts.input),
            ("total_output_tokens", counts.output),
            ("total_reasoning_tokens", counts.reasoning),
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
    """Return the standard error of a scorer's mean, if it has exactly one mean."""
    if len(_MEANS & score.metrics.keys()) != 1:
        return None
    values = (score.metrics[name].value for name in _ERRORS if name in score.metrics)
    return next((float(v) for v in values if isinstance(v, (int, float))), None)


def _n_of(header: Header, score: ScoreResult) -> int | None:
    """Return the number of items of a metric: as logged, else samples divided by epochs."""
    if score.scored_samples is not None:
        return score.scored_samples
    n = header.results.completed_samples if header.results else None
    epochs = header.eval.config.get("epochs") or 1
    return n // epochs if n is not None and isinstance(epochs, int) and n % epochs == 0 else None
