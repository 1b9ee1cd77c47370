"""What would it take: where an interval leaves the question of an analysis open, how much more would settle it.

Every analysis has this by its declaration (`Settles`): `registry.run` asks it after the function,
and what it says
is a note of the result. Two kinds of question:

- a figure against a neutral value, as a gain against 0: open where its interval holds that value;
- groups against each other: the leader against each of the others, open where the interval of their
  difference holds 0, taken as if they were independent (`planning.apart`), which is cautious where
  they share items.

How much it takes is `planning.to_settle`: the interval leaves the neutral value out with a chance
of 80 % if the difference stays what it is seen to be. It may not: a difference that is seen is
itself an estimate, and the leader was picked for being ahead. Items count with their clusters:
further ones are taken to come in clusters alike.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from workbench.analysis.catalogue import sentences
from workbench.analysis.catalogue.questions import Case, Question, Row, is_less
from workbench.analysis.core.declaration import Analysis
from workbench.analysis.core.result import Result
from workbench.analysis.inputs import cost_history
from workbench.analysis.stats import sample_size

CONTRASTS = ("gain", "difference", "change")
_REPEATS = {"repeats", "settings"}  # what is tried on all items again


def said(declared: Analysis, result: Result, lazy: Any) -> tuple[str, ...]:
    """Say in one sentence what would settle the question, or nothing where nothing is open.

    Args:
        declared: the analysis.
        result: its answer.
        lazy: the rows it was given, as a narwhals frame; asked once for what attempts cost, if
            something is open.
    """
    asked = question(declared, result)
    if asked is None:
        return ()
    neutral = _neutral(asked)
    case = _nearest(asked, neutral) if neutral is not None else _leader(asked)
    if case is None:
        counts = {asked.count(row) for row in asked.rows}
        alone = counts == {1} and asked.settles.unit == "items"
        return (sentences.ALONE,) if alone else ()
    return (sentences.write(asked, case, _history(asked, case, lazy)),)


def described(declared: Analysis) -> str:
    """Say for a page what the note is about; "" for an analysis that has none."""
    settles = declared.settles
    if settles is None:
        return ""
    columns, options = {c.name: c for c in declared.columns}, declared.parse({})
    name = settles.column or figure(declared, tuple(columns), options)
    neutral = 0.0 if settles.neutral is None and name in CONTRASTS else settles.neutral
    plan = (
        f"how many more {settles.unit} would {{}}, with a chance of "
        f"{100 * sample_size.POWER:.0f} % if it stays, and what they would cost"
    )
    if neutral is not None:
        held = f"`{neutral}`" if isinstance(neutral, str) else f"{neutral:g}"
        return (
            f"Where the interval of `{name}` holds {held}, a note says "
            f"{plan.format('leave it out')}."
        )
    unit = columns[name].unit if name in columns else ""
    end = "least" if is_less(settles, unit, options) else "most"
    told = plan.format("show the difference")
    return (
        f"Where whoever has the {end} `{name}` is not told apart from the next, a note says {told}."
    )


def question(declared: Analysis, result: Result) -> Question | None:
    """Find in a result what its declaration asks; None where it asks nothing, or the answer has no figure for it."""
    settles = declared.settles
    if settles is None or result.options.get(settles.unless):
        return None
    table = result.more.get(settles.table) if settles.table else result.frame
    name = "" if table is None else figure(declared, table.columns, result.options)
    if table is None or not name:
        return None
    if settles.where is not None and settles.where[0] in table.columns:
        table = table.filter(pl.col(settles.where[0]) == settles.where[1])
    keys = _keys(table, result.by, settles.groups)
    ends = (name, f"{name}_low", f"{name}_high")
    used = {
        *result.by,
        *keys,
        *ends,
        *settles.groups,
        settles.n,
        "n",
        settles.neutral,
        "task",
        "is_baseline",
    }
    rows = table.filter(pl.col(name).is_finite()).select(c for c in table.columns if c in used)
    own = tuple(c for c in result.by if c in keys and (c != "task" or len(result.by) == 1))
    own = (
        own
        or tuple(c for c in settles.groups if c in keys)
        or tuple(c for c in keys if c != "task")
    )
    return Question(
        declared,
        result,
        settles,
        result[name],
        rows.to_dicts(),
        own,
        tuple(c for c in keys if c not in own),
        float(result.options.get("level", 0.95)),
    )


def figure(declared: Analysis, names: Sequence[str], options: Mapping[str, Any]) -> str:
    """Name the figure with an interval, among the columns of a table, that decides the question; "" if there is none."""
    chart, column = declared.chart, declared.settles.column if declared.settles else ""
    for option in declared.options:
        if column and option.type == "measure" and option.default == column:
            column = str(options[option.name])
    with_ends = [c for c in names if f"{c}_low" in names and f"{c}_high" in names]
    wanted = (column,) if column else (*CONTRASTS, chart.x, chart.y, *chart.also, *with_ends)
    return next((c for c in wanted if c in with_ends), "")


def _keys(table: pl.DataFrame, by: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Name the columns that tell rows apart: those of groups, and as many of the first others as it takes."""
    keys = [c for c in (*by, *groups) if c in table.columns]
    for column in table.columns:
        if keys and not table.select(keys).is_duplicated().any():
            break
        if column not in keys:
            keys.append(column)
    return keys


def _neutral(asked: Question) -> float | str | None:
    neutral = asked.settles.neutral
    if neutral is None:
        return 0.0 if asked.column.name in CONTRASTS else None
    return asked.result.options.get(neutral, neutral) if isinstance(neutral, str) else neutral


def _nearest(asked: Question, neutral: float | str) -> Case | None:
    """Find the figure whose interval holds the neutral value and that takes the least to leave it out."""
    open_ = []
    for row in asked.rows:
        value, low, high = asked.ends(row)
        against = row.get(neutral) if isinstance(neutral, str) else neutral
        if against is None or not low <= against <= high or not low < high:
            continue
        half = _half(low, value, high, below=value > against)
        n = asked.count(row)
        needed = _needed(asked, half, abs(value - against), n or 1)
        found = Case((row,), needed, n is None, float(against), half, abs(value - against))
        open_.append(dataclasses.replace(found, repeats=asked.settles.unit in _REPEATS))
    if not open_:
        return None
    return dataclasses.replace(min(open_, key=lambda c: c.needed), others=len(open_) - 1)


def _leader(asked: Question) -> Case | None:
    """Find a leader that is not told from the next; where rows are of several tasks, that which takes the least."""
    strata: dict[tuple[Any, ...], list[Row]] = {}
    for row in asked.rows:
        strata.setdefault(tuple(row[c] for c in asked.within), []).append(row)
    found = [case for rows in strata.values() if (case := _overlap(asked, rows)) is not None]
    if not found:
        return None
    return dataclasses.replace(min(found, key=lambda c: c.needed), elsewhere=len(found) - 1)


def _overlap(asked: Question, rows: Sequence[Row]) -> Case | None:
    """Hold the leader of some rows against the others: the next, and who is open and takes the least."""
    sign = -1.0 if asked.less else 1.0
    ranked = sorted(rows, key=lambda row: -sign * asked.ends(row)[0])
    known = [row for row in ranked if not any(math.isnan(x) for x in asked.ends(row))]
    if len(known) < 2 or (known[0] is not ranked[0] and asked.count(ranked[0]) == 1):
        return None
    first, *others = known
    open_ = [case for row in others if (case := _pair(asked, first, row, sign)) is not None]
    if not open_:
        return None
    nearest = min(open_, key=lambda c: c.needed)
    return dataclasses.replace(
        open_[0],
        others=len(open_) - 1,
        partial=known[0] is not ranked[0],
        easier=nearest if nearest.within_reach and not open_[0].within_reach else None,
    )


def _pair(asked: Question, first: Row, other: Row, sign: float) -> Case | None:
    """Plan to tell two groups apart; None where they are."""
    (a, a_low, a_high), (b, b_low, b_high) = asked.ends(first), asked.ends(other)
    facing = (a - a_low, b_high - b) if sign > 0 else (a_high - a, b - b_low)
    difference = abs(a - b)
    if difference > sample_size.apart(*facing) or not sample_size.apart(*facing) > 0:
        return None
    halves = [
        _half(a_low, a, a_high, below=sign > 0),
        _half(b_low, b, b_high, below=sign < 0),
    ]
    counts = [asked.count(row) for row in (first, other)]
    unknown = None in counts
    weighed = [h * math.sqrt(1 if unknown else n or 1) for h, n in zip(halves, counts, strict=True)]
    needed = _needed(asked, sample_size.apart(*weighed), difference, 1)
    found = Case((first, other), needed, unknown, None, sample_size.apart(*halves), difference)
    return dataclasses.replace(found, repeats=asked.settles.unit in _REPEATS)


def _half(low: float, value: float, high: float, *, below: bool) -> float:
    """Half the width to plan with: that below or above the value, or the mean of the two if it is more.

    What is lopsided now is less so with more items, and then the mean of the two is what counts.
    """
    side, mean = (value - low if below else high - value), (high - low) / 2
    return max(side, mean) if math.isfinite(mean) else side


def _needed(asked: Question, half: float, difference: float, n: float) -> float:
    if not math.isfinite(half):
        return math.inf
    return sample_size.to_settle(half, difference, n, asked.level)


def _history(asked: Question, case: Case, lazy: Any) -> list[list[cost_history.Outlay | None]]:
    """Add up what the groups of a case's rows have cost, row by row; nothing is asked where it is out of reach."""
    cases = [case] if case.easier is None else [case, case.easier]
    if not any(c.within_reach for c in cases):
        return [[] for c in cases for _ in c.rows]
    rows = list({id(row): row for c in cases for row in c.rows}.values())
    groups = [_groups(asked, row) for row in rows]
    flat = list(dict.fromkeys(_key(g) for row in groups for g in row))
    distinct = {_key(g): g for row in groups for g in row}
    outcome = None
    if asked.of_outcome:
        by_score = asked.column.name == "score"
        outcome = "score" if by_score else asked.declared.reduction(asked.result.options).outcome
    told = cost_history.measured(
        lazy,
        asked.result.by,
        [distinct[k] for k in flat],
        outcome,
        counted=_counted(asked, case, rows, groups),
    )
    found = dict(zip(flat, told, strict=True))
    by_row = {
        id(row): [found[_key(g)] for g in part] for row, part in zip(rows, groups, strict=True)
    }
    return [by_row[id(row)] for c in cases for row in c.rows]


def _counted(
    asked: Question, case: Case, rows: Sequence[Row], groups: Sequence[Sequence[cost_history.Group]]
) -> bool:
    """Whether rows of single groups say how many traces and items they have, so that none need be counted."""
    alone = case.neutral is None and all(len(g) == 1 for g in groups)
    told = all(asked.count(row) and row.get("n") for row in rows)
    return asked.settles.unit != "items" or (alone and told)


def _key(group: cost_history.Group) -> tuple[Any, ...]:
    return (*group.values.items(), group.label)


def _groups(asked: Question, row: Row) -> list[cost_history.Group]:
    """Name the groups whose further attempts a row needs; all traces where it does not say."""
    by = asked.result.by
    values = {c: row[c] for c in by if c in row}
    if any(c in row for c in by if c != "task") or (by == ("task",) and "task" in row):
        own = [cost_history.Group(values)]
        bases = (r for r in asked.rows if r.get("is_baseline") and r.get("task") == row.get("task"))
        return [*own, *(cost_history.Group({c: base[c] for c in values}) for base in bases)]
    cells = [row[c] for c in asked.settles.groups if c in row]
    return cost_history.named(cells, values) or [cost_history.Group(values)]
