"""Sentences about what would settle an open question; see `what_would_it_take`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.catalogue.questions import Case, Question
from workbench.analysis.core.result import label
from workbench.analysis.stats import sample_size

if TYPE_CHECKING:
    from workbench.analysis.inputs.cost_history import AttemptCost

SINGLE_ITEM = "one item tells nothing about others: it takes at least two"
_MOST_TRIALS = 1000
_CHANCE = f"{100 * sample_size.POWER:.0f} % chance"
History = Sequence[Sequence["AttemptCost | None"]]
_SCALES = {
    "j": ((3.6e6, "kWh"), (1e3, "kJ"), (1, "J")),
    "s": ((3600, "h"), (60, "min"), (1, "s")),
}


def write(question: Question, case: Case, history: "History") -> str:
    """Write the sentence of a case.

    Args:
        question: the question.
        case: the open comparison.
        history: what each row's groups have cost, those of `case.easier` after those of the case.
    """
    if case.neutral is not None:
        return _against(question, case, history)
    return _between(question, case, history)


def _against(question: Question, case: Case, history: History) -> str:
    """Write the sentence of a figure that is compared with a neutral value."""
    row = case.rows[0]
    neutral = case.neutral or 0.0
    signed = neutral == 0
    value, low, high = (_value(x, question, signed=signed) for x in question.ends(row))
    subject = (_name(question, row) + _stratum(question, row)).removeprefix(", ").removeprefix(" ")
    unit = " points" if signed and question.column.unit == "0..1" else _unit(question)
    head = f"{subject + ': ' if subject else ''}{_title(question)} {value} ({low} to {high}){unit}"
    more = _more(question, case, history)
    plan = f"no realistic number of {question.settles.unit} would settle it"
    if more is not None:
        plan = f"about {_many(question, case, more)} would settle it ({_CHANCE} if it stays)"
        plan += _price(question, case, more, history) + _trials(case, history[0], question.level)
    others = f"; {case.others:,} more {'is' if case.others == 1 else 'are'} as open"
    return f"{head} may be {_value(neutral, question)}; {plan}{others if case.others else ''}"


def _between(question: Question, case: Case, history: History) -> str:
    """Write the sentence of a leader that is not distinguished from the next group."""
    names = _named_figures(question, case.rows)
    among = ", of those with an interval" if case.partial else ""
    others = f" and {case.others:,} more" if case.others else ""
    end = "lowest" if question.less else "highest"
    head = f"{end} {_title(question)}{_stratum(question, case.rows[0])}{among}"
    head += f": {names[0]}, not told apart from {names[1]}{others}"
    more = _more(question, case, history)
    plan = f"no realistic number of {question.settles.unit} would tell these two apart"
    if more is not None:
        plan = (
            f"about {_many(question, case, more)} would tell these two apart ({_CHANCE} if the "
            "difference stays)"
        )
        plan += _price(question, case, more, history)
        plan += _trials(case, [row[0] for row in history[:2]], question.level)
        plan += "; compare, item by item, may need fewer" if question.of_outcome else ""
    elif case.easier is not None:
        plan += _easier(question, case.easier, history[2:])
    unit = "task" if question.within == ("task",) else "case"
    alike = f"; likewise in {case.elsewhere:,} more {unit}{'' if case.elsewhere == 1 else 's'}"
    return f"{head}; {plan}{alike if case.elsewhere else ''}"


def _easier(question: Question, case: Case, history: History) -> str:
    """Write which group needs the fewest items, where the next one needs an unrealistic number."""
    more = _more(question, case, history)
    if more is None:
        return ""
    name = _named_figures(question, case.rows)[1]
    many = _many(question, case, more)
    price = _price(question, case, more, history)
    return f"; {name} would take about {many}{price} ({_CHANCE} if the difference stays)"


def _more(question: Question, case: Case, history: History) -> list[float] | None:
    """Count the further items of each row.

    Returns:
        One number per row; [] where the present number is unknown, None where none would do.
    """
    if not case.within_reach:
        return None
    if not case.relative:
        return [max(case.needed - (question.count(row) or 0), 0.0) for row in case.rows]
    present = [max((o.items or 0 for o in costs if o is not None), default=0) for costs in history]
    if question.settles.unit != "items" or not all(present):
        return []
    return [(case.needed - 1) * n for n in present[: len(case.rows)]]


def _many(question: Question, case: Case, more: Sequence[float]) -> str:
    """Write how many items: "1,400 more items", "900 items each (75 and 150 now)"."""
    unit = question.settles.unit
    per_group = " each" if len(case.rows) > 1 else ""
    if not more:
        return f"{_number(max(case.needed, 1.1), 2)} times as many {unit}"
    if _rounded(min(more)) != _rounded(max(more)) and not case.relative:
        now = " and ".join(f"{question.count(row):,}" for row in case.rows)
        return f"{_rounded(case.needed):,} {unit}{per_group} ({now} now)"
    n = _rounded(max(more))
    return f"{n:,} more {unit.removesuffix('s') if n == 1 else unit}{per_group}"


def _rounded(number: float) -> int:
    """Round up to two digits, at least 1: estimates are no more exact."""
    step: int = 10 ** max(math.floor(math.log10(max(number, 1.0))) - 1, 0)
    return max(math.ceil(number / step - 1e-9) * step, 1)


def _price(question: Question, case: Case, more: Sequence[float], history: History) -> str:
    """Write the cost of further items at the mean cost of present ones, if known of every group."""
    if not more:
        return ""
    sums: dict[str, float] = {"usd": 0.0, "j": 0.0, "s": 0.0}
    for row, n, costs in zip(case.rows, more, history, strict=False):
        for cost in costs:
            attempts = None if cost is None else _attempts(question, row, cost)
            for key in list(sums):
                if cost is None or attempts is None or key not in cost.per_row:
                    del sums[key]
                else:
                    sums[key] += n * attempts * cost.per_row[key]
    parts = [f"${_number(sums['usd'], 2)}"] if "usd" in sums else []
    for key, scale in _SCALES.items():
        if key in sums:
            size, unit = next((x for x in scale if sums[key] >= x[0]), scale[-1])
            parts.append(f"{_number(sums[key] / size, 2)} {unit}")
    lacking = "" if "usd" in sums else ", dollars unknown" if parts else ", cost unknown"
    listed = " and ".join(x for x in (", ".join(parts[:-1]), *parts[-1:]) if x)
    return (f", for about {listed}" if parts else "") + lacking


def _attempts(question: Question, row: Mapping[str, Any], cost: "AttemptCost") -> float | None:
    """Rows of a group per item, or per repeat of all items; None where unknown."""
    if question.settles.unit == "items":
        if cost.items is None:
            return float(row["n"] / row[question.settles.n])
        return cost.rows / cost.items
    n = question.count(row)
    return cost.rows / n if n else None


def _trials(case: Case, history: Sequence["AttemptCost | None"], level: float) -> str:
    """Write whether more trials of the same items would settle it.

    Solves V − T + T K / K' = (δ / z)².

    V is the variance of the difference, of which T comes from trials: K of each item now, K' then.
    """
    known = [cost for cost in history if cost is not None and cost.noise is not None]
    if len(known) < 2 or len(known) < len(history):
        return ""
    z = sample_size.required_z(1 - level, 0.5)
    variance = (case.half / z) ** 2
    noise = min(sum(cost.noise or 0.0 for cost in known), variance)
    trial_variance = (
        case.difference / sample_size.required_z(1 - level, sample_size.POWER)
    ) ** 2 - (variance - noise)
    most = max(cost.trials or 1.0 for cost in known)
    if trial_variance <= 0 or noise * most / trial_variance > _MOST_TRIALS:
        return "; more trials of the same items hardly would"
    return (
        f"; so would about {_rounded(noise * most / trial_variance):,} trials of each in place of "
        f"{_number(most, 2)}"
    )


def _name(question: Question, row: Mapping[str, Any]) -> str:
    """Name the group of a row: its values, "a against b", or "budget 0.01"."""
    if question.group_columns == ("a", "b"):
        return f"{row['a']} against {row['b']}"
    cells = [_cell(question, column, row[column]) for column in question.group_columns]
    return label(cells)


def _cell(question: Question, column: str, value: Any) -> Any:
    if isinstance(value, int | float) and column not in question.result.by:
        known = question.result[column]
        price = "$" if known.unit == "USD" else ""
        return f"{known.title or column.replace('_', ' ')} {price}{_number(value, 3)}"
    return value


def _stratum(question: Question, row: Mapping[str, Any]) -> str:
    """Write the task, or the size, of a row."""
    parts = []
    for column in question.within:
        value = row[column]
        if value is not None:
            cell = _cell(question, column, value)
            parts.append(f" on {cell}" if column == "task" else f", {cell}")
    return "".join(parts)


def _named_figures(question: Question, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name groups with their figures, with enough digits for them to differ."""
    values = [question.ends(row)[0] for row in rows]
    candidates = [
        [_value(value, question, digits=d) + _unit(question) for value in values]
        for d in (3, 4, 5, 6)
    ]
    texts = next((w for w in candidates if len(set(w)) == len(set(values))), candidates[0])
    return [f"{_name(question, row)} ({text})" for row, text in zip(rows, texts, strict=True)]


def _title(question: Question) -> str:
    return question.column.title or question.column.name.replace("_", " ")


def _value(value: float, question: Question, *, signed: bool = False, digits: int = 3) -> str:
    """Write a value of the figure: differences of shares in points, money with "$"."""
    if signed and question.column.unit == "0..1":
        return _number(100 * value, 2, sign="+")
    sign = "+" if signed else ""
    if question.column.unit == "USD":
        return ("-" if value < 0 else sign) + f"${_number(abs(value), digits)}"
    return _number(value, digits, sign=sign)


def _unit(question: Question) -> str:
    unit = question.column.unit
    return "" if unit in {"", "0..1", "count", "USD"} else f" {unit}"


def _number(value: float, digits: int, sign: str = "") -> str:
    """Write a number to a number of digits, with an exponent only from 10¹² up."""
    value = 0.0 if abs(value) < 1e-12 else value  # a rounding error, not a value
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1e12:
        return f"{value:{sign}.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{round(value, places):{sign},.{max(places, 0)}f}" if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text
