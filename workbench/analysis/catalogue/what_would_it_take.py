"""What would it take: how many more items would settle a question that an interval leaves open.

Every analysis declares its question (`Settles`); `registry.run` adds the note after the function
has run. There are two kinds of question:

- a figure against a neutral value, as a gain against 0: open where its interval contains that
  value;
- groups against each other: the leader against each of the others, open where the interval of their
  difference contains 0. The groups are treated as independent
  (`sample_size.difference_half_width`), which is conservative where they share items.

The number is `sample_size.items_to_settle`: the interval excludes the neutral value with a chance
of 80 % if the true difference is the observed one. It may be smaller: an observed difference is an
estimate, and the leader was selected for being ahead. Further items are assumed to come in clusters
like the present ones.

`notes` goes through these steps: `find_question` selects the figure and the rows; `_nearest` (a
figure against a neutral value) or `_leader` (groups) makes a `Case` of every open comparison and
keeps the one that needs the fewest items; `_history` measures what an attempt of its groups costs;
`sentences.write` writes the note.
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
_REPEATS = {"repeats", "settings"}  # units that repeat all items


def notes(declared: Analysis, result: Result, lazy: Any) -> tuple[str, ...]:
    """Write in one sentence what would settle the question; () where nothing is open.

    Args:
        declared: the analysis.
        result: its answer.
        lazy: its rows, as a narwhals frame; queried once for the cost of attempts, if something is
            open.
    """
    question = find_question(declared, result)
    if question is None:
        return ()
    neutral = _neutral(question)
    case = _nearest(question, neutral) if neutral is not None else _leader(question)
    if case is None:
        counts = {question.count(row) for row in question.rows}
        single = counts == {1} and question.settles.unit == "items"
        return (sentences.SINGLE_ITEM,) if single else ()
    return (sentences.write(question, case, _history(question, case, lazy)),)


def describe_note(declared: Analysis) -> str:
    """Describe the note for a documentation page; "" for an analysis that has none."""
    settles = declared.settles
    if settles is None:
        return ""
    columns = {c.name: c for c in declared.columns}
    options = declared.parse({})
    name = settles.column or deciding_figure(declared, tuple(columns), options)
    neutral = 0.0 if settles.neutral is None and name in CONTRASTS else settles.neutral
    plan = (
        f"how many more {settles.unit} would {{}}, with a chance of "
        f"{100 * sample_size.POWER:.0f} % if it stays, and what they would cost"
    )
    if neutral is not None:
        value = f"`{neutral}`" if isinstance(neutral, str) else f"{neutral:g}"
        return (
            f"Where the interval of `{name}` holds {value}, a note says "
            f"{plan.format('leave it out')}."
        )
    unit = columns[name].unit if name in columns else ""
    end = "least" if is_less(settles, unit, options) else "most"
    question_text = plan.format("show the difference")
    return (
        f"Where the group with the {end} `{name}` is not told apart from the next, "
        f"a note says {question_text}."
    )


def find_question(declared: Analysis, result: Result) -> Question | None:
    """Apply the declared question to a result; None if there is none, or no figure for it."""
    settles = declared.settles
    if settles is None or result.options.get(settles.unless):
        return None
    table = result.more.get(settles.table) if settles.table else result.frame
    if table is None:
        return None
    figure = deciding_figure(declared, table.columns, result.options)
    if not figure:
        return None
    if settles.where is not None and settles.where[0] in table.columns:
        table = table.filter(pl.col(settles.where[0]) == settles.where[1])
    keys = _keys(table, result.by, settles.groups)
    groups = _group_columns(keys, result.by, settles.groups)
    used = {figure, f"{figure}_low", f"{figure}_high", *result.by, *keys, *settles.groups}
    used |= {settles.n, "n", str(settles.neutral), "task", "is_baseline"}
    rows = table.filter(pl.col(figure).is_finite()).select(c for c in table.columns if c in used)
    return Question(
        declared,
        result,
        settles,
        result[figure],
        rows.to_dicts(),
        groups,
        tuple(c for c in keys if c not in groups),
        float(result.options.get("level", 0.95)),
    )


def deciding_figure(declared: Analysis, names: Sequence[str], options: Mapping[str, Any]) -> str:
    """Name the column with an interval that decides the question; "" if there is none."""
    chart = declared.chart
    column = declared.settles.column if declared.settles else ""
    for option in declared.options:
        if column and option.type == "measure" and option.default == column:
            column = str(options[option.name])
    with_ends = [c for c in names if f"{c}_low" in names and f"{c}_high" in names]
    candidates = (column,) if column else (*CONTRASTS, chart.x, chart.y, *chart.also, *with_ends)
    return next((c for c in candidates if c in with_ends), "")


def _keys(table: pl.DataFrame, by: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Name columns that identify a row: those of groups, and the first others until rows differ."""
    keys = [c for c in (*by, *groups) if c in table.columns]
    for column in table.columns:
        if keys and not table.select(keys).is_duplicated().any():
            break
        if column not in keys:
            keys.append(column)
    return keys


def _group_columns(
    keys: Sequence[str], by: Sequence[str], groups: Sequence[str]
) -> tuple[str, ...]:
    """Choose the key columns that name a group; the other keys are strata, each with a leader.

    Groups are named by the columns of `by` without the task (unless it is the only one), else by
    those that the analysis declares, else by all keys but the task.
    """
    of_by = tuple(c for c in by if c in keys and (c != "task" or len(by) == 1))
    declared = tuple(c for c in groups if c in keys)
    return of_by or declared or tuple(c for c in keys if c != "task")


def _neutral(question: Question) -> float | str | None:
    """Return the neutral value of a figure, or its column; None if groups are compared."""
    neutral = question.settles.neutral
    if neutral is None:
        return 0.0 if question.column.name in CONTRASTS else None
    return question.result.options.get(neutral, neutral) if isinstance(neutral, str) else neutral


def _nearest(question: Question, neutral: float | str) -> Case | None:
    """Find the figure whose interval contains the neutral value and that needs the fewest items."""
    cases = []
    for row in question.rows:
        value, low, high = question.ends(row)
        against = row.get(neutral) if isinstance(neutral, str) else neutral
        if against is None or not low <= against <= high or not low < high:
            continue
        half = _half(low, value, high, below=value > against)
        n = question.count(row)
        needed = _needed(question, half, abs(value - against), n or 1)
        case = Case((row,), needed, n is None, float(against), half, abs(value - against))
        cases.append(dataclasses.replace(case, repeats=question.settles.unit in _REPEATS))
    if not cases:
        return None
    return dataclasses.replace(min(cases, key=lambda c: c.needed), others=len(cases) - 1)


def _leader(question: Question) -> Case | None:
    """Find a leader with an open comparison, in the task where that needs the fewest items."""
    strata: dict[tuple[Any, ...], list[Row]] = {}
    for row in question.rows:
        strata.setdefault(tuple(row[c] for c in question.within), []).append(row)
    cases = [case for rows in strata.values() if (case := _overlap(question, rows)) is not None]
    if not cases:
        return None
    return dataclasses.replace(min(cases, key=lambda c: c.needed), elsewhere=len(cases) - 1)


def _overlap(question: Question, rows: Sequence[Row]) -> Case | None:
    """Compare the leader of some rows with the others: the next, and the one with fewest items."""
    sign = -1.0 if question.less else 1.0
    ranked = sorted(rows, key=lambda row: -sign * question.ends(row)[0])
    known = [row for row in ranked if not any(math.isnan(x) for x in question.ends(row))]
    if len(known) < 2 or (known[0] is not ranked[0] and question.count(ranked[0]) == 1):
        return None
    first, *others = known
    cases = [case for row in others if (case := _pair(question, first, row, sign)) is not None]
    if not cases:
        return None
    nearest = min(cases, key=lambda c: c.needed)
    return dataclasses.replace(
        cases[0],
        others=len(cases) - 1,
        partial=known[0] is not ranked[0],
        easier=nearest if nearest.within_reach and not cases[0].within_reach else None,
    )


def _pair(question: Question, first: Row, other: Row, sign: float) -> Case | None:
    """Plan the items that separate two groups; None where they are separated."""
    (a, a_low, a_high), (b, b_low, b_high) = question.ends(first), question.ends(other)
    # the half widths that face each other: the leader's towards the other group, and vice versa
    facing = (a - a_low, b_high - b) if sign > 0 else (a_high - a, b - b_low)
    facing_width = sample_size.difference_half_width(*facing)
    difference = abs(a - b)
    if difference > facing_width or not facing_width > 0:
        return None
    halves = [
        _half(a_low, a, a_high, below=sign > 0),
        _half(b_low, b, b_high, below=sign < 0),
    ]
    counts = [question.count(row) for row in (first, other)]
    relative = None in counts
    per_item = [
        h * math.sqrt(1 if relative else n or 1) for h, n in zip(halves, counts, strict=True)
    ]
    needed = _needed(question, sample_size.difference_half_width(*per_item), difference, 1)
    case = Case(
        (first, other),
        needed,
        relative,
        None,
        sample_size.difference_half_width(*halves),
        difference,
    )
    return dataclasses.replace(case, repeats=question.settles.unit in _REPEATS)


def _half(low: float, value: float, high: float, *, below: bool) -> float:
    """Half width of the interval to plan with: that on one side of the value, or the larger mean.

    Asymmetric intervals become symmetric with more items, and then the mean of both sides counts.
    """
    side = value - low if below else high - value
    mean = (high - low) / 2
    return max(side, mean) if math.isfinite(mean) else side


def _needed(question: Question, half: float, difference: float, n: float) -> float:
    """Return the items that settle a difference, given half the width with n items; may be inf."""
    if not math.isfinite(half):
        return math.inf
    return sample_size.items_to_settle(half, difference, n, question.level)


def _history(
    question: Question, case: Case, lazy: Any
) -> list[list[cost_history.AttemptCost | None]]:
    """Measure the cost of a case's groups, row by row; no query if the number is unrealistic."""
    cases = [case] if case.easier is None else [case, case.easier]
    if not any(c.within_reach for c in cases):
        return [[] for c in cases for _ in c.rows]
    rows = list({id(row): row for c in cases for row in c.rows}.values())
    groups = [_groups(question, row) for row in rows]
    keys = list(dict.fromkeys(_key(g) for row in groups for g in row))
    distinct = {_key(g): g for row in groups for g in row}
    outcome = None
    if question.of_outcome:
        by_score = question.column.name == "score"
        outcome = (
            "score" if by_score else question.declared.reduction(question.result.options).outcome
        )
    costs = cost_history.attempt_costs(
        lazy,
        question.result.by,
        [distinct[k] for k in keys],
        outcome,
        counted=_counted(question, case, rows, groups),
    )
    cost_of = dict(zip(keys, costs, strict=True))
    by_row = {
        id(row): [cost_of[_key(g)] for g in part] for row, part in zip(rows, groups, strict=True)
    }
    return [by_row[id(row)] for c in cases for row in c.rows]


def _counted(
    question: Question,
    case: Case,
    rows: Sequence[Row],
    groups: Sequence[Sequence[cost_history.Group]],
) -> bool:
    """Whether the rows give the numbers of traces and items, so that no query need count them."""
    single = case.neutral is None and all(len(g) == 1 for g in groups)
    known = all(question.count(row) and row.get("n") for row in rows)
    return question.settles.unit != "items" or (single and known)


def _key(group: cost_history.Group) -> tuple[Any, ...]:
    return (*group.values.items(), group.label)


def _groups(question: Question, row: Row) -> list[cost_history.Group]:
    """Return the groups that a row needs more attempts of; all traces if it names no group.

    A row of a group needs the baseline of its task, too.
    """
    by = question.result.by
    values = {c: row[c] for c in by if c in row}
    names_group = any(c != "task" for c in values) or (by == ("task",) and "task" in row)
    if names_group:
        baselines = [
            {c: base[c] for c in values}
            for base in question.rows
            if base.get("is_baseline") and base.get("task") == row.get("task")
        ]
        return [cost_history.Group(group) for group in (values, *baselines)]
    cells = [row[c] for c in question.settles.groups if c in row]
    return cost_history.named_groups(cells, values) or [cost_history.Group(values)]
