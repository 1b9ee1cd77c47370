"""Model shapes from the reference rows, for laws that need layers and heads."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import Option
from workbench.analysis.core.result import label

REFERENCE = Option(
    "reference",
    "text",
    None,
    "a file with rows of your own ([[model]], [[accelerator]], [[grid]], [[latency]]), "
    "which win over those that ship",
)
SHAPE = Option(
    "model", "text", None, "whose shape counts for all; that of each trace's model if open"
)
Fact = Callable[[hardware.Model], float | None]


class Shapes(NamedTuple):
    """Shapes by model as recorded; None where one serves all.

    Attributes:
        by_model: the shapes that are known.
        missing: the models of which nothing, or too little, is known.
    """

    by_model: dict[str | None, hardware.Model]
    missing: tuple[str, ...]

    def column(self, fact: Fact) -> nw.Expr:
        """A fact of each row's model as an expression; null where unknown."""
        expression = nw.lit(None, nw.Float64)
        for model, shape in self.by_model.items():
            value = fact(shape)
            if value is None:
                continue
            if model is None:
                return nw.lit(float(value))
            expression = (
                nw.when(nw.col("model") == model).then(nw.lit(float(value))).otherwise(expression)
            )
        return expression

    def notes(self, what: str) -> tuple[str, ...]:
        """Name the models without a shape, and what to do."""
        if not self.missing:
            return ()
        more = f" and {len(self.missing) - 5} more" if len(self.missing) > 5 else ""
        return (
            f"no {what} known of {', '.join(self.missing[:5])}{more}: add a [[model]] row "
            "(option reference), "
            "or name a shape (option model)",
        )


def of_traces(frame: "nw.LazyFrame[Any]", options: dict[str, Any], needs: Sequence[Fact]) -> Shapes:
    """Look up the shape of every model in a frame.

    Args:
        frame: rows with the column model; without it nothing is known.
        options: `reference` and `model` of the analysis.
        needs: facts without which a shape does not serve.
    """
    rows = hardware.in_force(options["reference"])
    if options["model"] is not None:
        return Shapes({None: rows.model(options["model"])}, ())
    if "model" not in frame.collect_schema().names():
        return Shapes({}, ("any model: the frame does not name them",))
    models: pl.DataFrame = frame.select("model").unique().collect("polars").to_native()
    known: dict[str | None, hardware.Model] = {}
    missing = []
    for name in sorted(models["model"].drop_nulls().cast(pl.String).to_list()):
        shape = rows.find_model(name)
        if shape is None or any(fact(shape) is None for fact in needs):
            missing.append(name)
        else:
            known[name] = shape
    return Shapes(known, tuple(missing))


def of_groups(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], shapes: Shapes
) -> dict[str, hardware.Model]:
    """Map labels of groups to shapes; groups of several models, or of an unknown one, have none."""
    named = [*by] if "model" in by else [*by, "model"]
    if None in shapes.by_model:
        rows: pl.DataFrame = frame.select(*by).unique().collect("polars").to_native()
        return {label(row): shapes.by_model[None] for row in rows.iter_rows()}
    if "model" not in frame.collect_schema().names():
        return {}
    rows = frame.select(*named).unique().collect("polars").to_native()
    models: dict[str, set[str | None]] = {}
    for row in rows.select(named).iter_rows(named=True):
        models.setdefault(label([row[c] for c in by]), set()).add(row["model"])
    single = {name: next(iter(found)) for name, found in models.items() if len(found) == 1}
    return {n: shapes.by_model[m] for n, m in single.items() if m in shapes.by_model}
