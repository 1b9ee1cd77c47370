"""Checks of the totals that an Inspect log states: samples, mean scores, tokens."""

from collections import defaultdict
from collections.abc import Iterator

from workbench.records import Item, Trace
from workbench.sources.inspect.log_schema import USAGE, Header, ModelUsage, ScoreResult
from workbench.sources.report import Total

_MEANS = ("accuracy", "mean")


class Checks:
    """Sums over the traces of a log, to compare with the log's own results."""

    def __init__(self, header: Header) -> None:
        """Start with no trace and the log's own results."""
        self._header = header
        self._input = 0
        self._output = 0
        self._completed = 0
        self._scores: dict[str, dict[str, list[float | None]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def add(self, item: Item, trace: Trace, usages: list[ModelUsage]) -> None:
        """Add a trace's scores, and its token counts as logged, failed tries included."""
        self._completed += trace.error_type is None
        for score in trace.scores:
            value = score.score if score.metric is None else score.metric
            self._scores[score.scorer][item.item].append(value)
        self._input += sum(u.input_tokens or 0 for u in usages)
        self._output += sum(u.output_tokens or 0 for u in usages)

    def totals(self) -> Iterator[Total]:
        """Yield the log's totals with computed ones; means only if it averages over epochs."""
        results = self._header.results
        usages = [USAGE.decode(raw) for raw in self._header.stats.model_usage.values()]
        if usages:  # graders included, in the log's own convention
            stated = sum(u.input_tokens or 0 for u in usages)
            yield Total("input tokens of all models, as logged", stated, self._input)
            stated = sum(u.output_tokens or 0 for u in usages)
            yield Total("output tokens of all models, as logged", stated, self._output)
        if results is None:
            return
        if results.completed_samples is not None:
            yield Total("samples without error", results.completed_samples, self._completed)
        for result in results.all_scores:
            if result.reducer in {None, "mean"}:
                yield from self._means(result)

    def _means(self, result: ScoreResult) -> Iterator[Total]:
        """Compare a scorer's mean over the items with a value, as in every analysis."""
        items = self._scores.get(result.full_name)
        for name in _MEANS if items else ():
            metric = result.metrics.get(name)
            if metric is None or not isinstance(metric.value, (int, float)) or items is None:
                continue
            known = [[v for v in values if v is not None] for values in items.values()]
            mean = _mean([sum(v) / len(v) for v in known if v])
            if mean is None:
                continue
            n_null = sum(v is None for values in items.values() for v in values)
            nulls = ""
            if n_null:
                nulls = f"{n_null} without a value left out"
                as_zero = _mean(
                    [sum(v or 0.0 for v in values) / len(values) for values in items.values()]
                )
                if as_zero is not None and abs(as_zero - metric.value) <= _TOLERANCE < abs(
                    mean - metric.value
                ):
                    nulls += ", which the log counts as 0"
            yield Total(f"{name} of {result.full_name}", metric.value, mean, _TOLERANCE, nulls)


_TOLERANCE = 1e-9


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
