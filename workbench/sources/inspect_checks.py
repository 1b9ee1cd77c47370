"""An Inspect log's own figures beside ours: samples, accuracy per scorer."""

from collections import defaultdict
from collections.abc import Iterator

from workbench.records import Item, Trace
from workbench.sources.inspect_schema import USAGE, Header, ModelUsage
from workbench.sources.report import Total


class Checks:
    """Adds up while traces pass by, and compares at the end."""

    def __init__(self, header: Header) -> None:
        """Take the log's own results."""
        self._header = header
        self._input = self._output = self._completed = 0
        self._scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, item: Item, trace: Trace, usages: list[ModelUsage]) -> None:
        """Take one trace's scores, and its token counts as logged."""
        self._completed += trace.error_type is None
        self._input += sum(u.input_tokens or 0 for u in usages)
        self._output += sum(u.output_tokens or 0 for u in usages)
        for score in trace.scores:
            if score.score is not None:
                self._scores[score.scorer][item.item].append(score.score)

    def totals(self) -> Iterator[Total]:
        """Compare what the log states; accuracies only where it averages over epochs."""
        results = self._header.results
        usages = [USAGE.decode(raw) for raw in self._header.stats.model_usage.values()]
        if usages:  # graders included, cached tokens counted as the log does
            stated = sum(u.input_tokens or 0 for u in usages)
            yield Total("input tokens of all models, as logged", stated, self._input)
            stated = sum(u.output_tokens or 0 for u in usages)
            yield Total("output tokens of all models, as logged", stated, self._output)
        if results is None:
            return
        if results.completed_samples is not None:
            yield Total("samples without error", results.completed_samples, self._completed)
        for result in results.scores:
            accuracy = result.metrics.get("accuracy")
            items = self._scores.get(result.name)
            if accuracy is None or items is None or result.reducer not in {None, "mean"}:
                continue
            if isinstance(accuracy.value, (int, float)):
                found = sum(sum(v) / len(v) for v in items.values()) / len(items)
                yield Total(f"accuracy of {result.name}", accuracy.value, found, 1e-9)
