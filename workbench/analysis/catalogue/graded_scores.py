"""Graded scores: a note where pass rates are all 0 because scores lie between wrong and right."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import narwhals as nw

from workbench.analysis.inputs import engine

if TYPE_CHECKING:
    from workbench.analysis.core.declaration import Analysis


def notes(
    declared: "Analysis", rows: "nw.LazyFrame[Any]", options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write a note that every rate is 0 because scores are graded, and how to ask for their means.

    Args:
        declared: the analysis.
        rows: rows of a view.
        options: as parsed.

    Returns:
        One note, where no scored trace passed and a score is neither 0 nor 1; none where the
        outcome is the score already, or the analysis is not about outcomes.
    """
    plan = declared.reduction(options)
    takes = {o.name for o in declared.options}
    if plan.outcome != "passed" or not (plan.scored or "outcome" in takes):
        return ()
    if not {"passed", "score"} <= set(rows.collect_schema().names()):
        return ()
    passed = nw.col("passed")
    score = nw.col("score").cast(nw.Float64)
    between = (score > 0) & (score < 1)
    right, low, high = engine.collect(
        rows.filter(~passed.is_null()).select(
            right=nw.when(passed).then(nw.lit(1)).otherwise(nw.lit(0)).max(),
            low=nw.when(between).then(score).min(),
            high=nw.when(between).then(score).max(),
        )
    ).row(0)
    if right != 0 or low is None:
        return ()
    if "outcome" in takes:
        ask = "ask for their means: --outcome score (in Python outcome='score')"
    else:
        ask = f"{declared.name} only knows right and wrong: ask summary --outcome score"
    return (f"no trace passes, as scores are graded ({low:.3g} to {high:.3g}): {ask}",)
