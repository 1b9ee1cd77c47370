"""Sentences that say what would settle a question that intervals leave open; see `outlook`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.catalogue.questions import Case, Question
from workbench.analysis.core.result import label
from workbench.analysis.stats import sample_size

if TYPE_CHECKING:
    from workbench.analysis.inputs.cost_history import Outlay

ALONE = "one item tells nothing about others: it takes at least two"
_MOST_TRIALS = 1000
_CHANCE = f"{100 * sample_size.POWER:.0f} % chance"
History = Sequence[Sequence["Outlay | None"]]
_SCALES = {
    "j": ((3.6e6, "kWh"), (1e3, "kJ"), (1, "J")),
    "s": ((3600, "h"), (60, "min"), (1, "s")),
}


def write(asked: Question, case: Case, history: "History") -> str:
    """Write the sentence of a case.

    Args:
        asked: the question.
        case: what is open.
        history: what each row's groups have cost, those of `case.easier` after those of the case.
    """
    if case.neutral is not None:
        return _against(asked, case, history)
    return _between(asked, case, history)


def _against(asked: Question, case: Case, history: History) -> str:
    """Write of a figure and its neutral value."""
    row, neutral = case.rows[0], case.neutral or 0.0
    signed = neutral == 0
    value, low, high = (_value(x, asked, signed=signed) for x in asked.ends(row))
    who = (_name(asked, row) + _stratum(asked, row)).removeprefix(", ").removeprefix(" ")
    unit = " points" if signed and asked.column.unit == "0..1" else _unit(asked)
    head = f"{who + ': ' if who else ''}{_title(asked)} {value} ({low} to {high}){unit}"
    more = _more(asked, case, history)
    told = f"no realistic number of {asked.settles.unit} would settle it"
    if more is not None:
        told = f"about {_many(asked, case, more)} would settle it ({_CHANCE} if it stays)"
        told += _price(asked, case, more, history) + _trials(case, history[0], asked.level)
    others = f"; {case.others:,} more {'is' if case.others == 1 else 'are'} as open"
    return f"{head} may be {_value(neutral, asked)}; {told}{others if case.others else ''}"


def _between(asked: Question, case: Case, history: History) -> str:
    """Write of a leader and the next."""
    names = _told(asked, case.rows)
    among = ", of those with an interval" if case.partial else ""
    others = f" and {case.others:,} more" if case.others else ""
    end = "lowest" if asked.less else "highest"
    head = f"{end} {_title(asked)}{_stratum(asked, case.rows[0])}{among}"
    head += f": {names[0]}, not told apart from {names[1]}{others}"
    more = _more(asked, case, history)
    told = f"no realistic number of {asked.settles.unit} would tell these two apart"
    if more is not None:
        told = (
            f"about {_many(asked, case, more)} would tell these two apart ({_CHANCE} if the "
            "difference stays)"
        )
        told += _price(asked, case, more, history)
        told += _trials(case, [row[0] for row in history[:2]], asked.level)
        told += "; compare, item by item, may need fewer" if asked.of_outcome else ""
    elif case.easier is not None:
        told += _easier(asked, case.easier, history[2:])
    unit = "task" if asked.within == ("task",) else "case"
    alike = f"; likewise in {case.elsewhere:,} more {unit}{'' if case.elsewhere == 1 else 's'}"
    return f"{head}; {told}{alike if case.elsewhere else ''}"


def _easier(asked: Question, case: Case, history: History) -> str:
    """Say whom it takes the least to tell from the leader, where the next is out of reach."""
    more = _more(asked, case, history)
    if more is None:
        return ""
    name = _told(asked, case.rows)[1]
    many, price = _many(asked, case, more), _price(asked, case, more, history)
    return f"; {name} would take about {many}{price} ({_CHANCE} if the difference stays)"


def _more(asked: Question, case: Case, history: History) -> list[float] | None:
    """Count the further items of each row; [] where it is not known how many there are, None where none would do."""
    if not case.within_reach:
        return None
    if not case.relative:
        return [max(case.needed - (asked.count(row) or 0), 0.0) for row in case.rows]
    there = [max((o.items or 0 for o in told if o is not None), default=0) for told in history]
    if asked.settles.unit != "items" or not all(there):
        return []
    return [(case.needed - 1) * n for n in there[: len(case.rows)]]


def _many(asked: Question, case: Case, more: Sequence[float]) -> str:
    """Write how many items: "1,400 more items", "900 items each (75 and 150 now)"."""
    unit, each = asked.settles.unit, " each" if len(case.rows) > 1 else ""
    if not more:
        return f"{_number(max(case.needed, 1.1), 2)} times as many {unit}"
    if _rounded(min(more)) != _rounded(max(more)) and not case.relative:
        now = " and ".join(f"{asked.count(row):,}" for row in case.rows)
        return f"{_rounded(case.needed):,} {unit}{each} ({now} now)"
    n = _rounded(max(more))
    return f"{n:,} more {unit.removesuffix('s') if n == 1 else unit}{each}"


def _rounded(number: float) -> int:
    """Round up to two digits, at least 1: it is no more exact than that."""
    step: int = 10 ** max(math.floor(math.log10(max(number, 1.0))) - 1, 0)
    return max(math.ceil(number / step - 1e-9) * step, 1)


def _price(asked: Question, case: Case, more: Sequence[float], history: History) -> str:
    """Write what further items cost at the price of those there are; a cost that one group lacks is unknown."""
    if not more:
        return ""
    sums: dict[str, float] = {"usd": 0.0, "j": 0.0, "s": 0.0}
    for row, n, told in zip(case.rows, more, history, strict=False):
        for one in told:
            attempts = None if one is None else _attempts(asked, row, one)
            for key in list(sums):
                if one is None or attempts is None or key not in one.each:
                    del sums[key]
                else:
                    sums[key] += n * attempts * one.each[key]
    parts = [f"${_number(sums['usd'], 2)}"] if "usd" in sums else []
    for key, scale in _SCALES.items():
        if key in sums:
            size, unit = next((x for x in scale if sums[key] >= x[0]), scale[-1])
            parts.append(f"{_number(sums[key] / size, 2)} {unit}")
    lacking = "" if "usd" in sums else ", dollars unknown" if parts else ", cost unknown"
    listed = " and ".join(x for x in (", ".join(parts[:-1]), *parts[-1:]) if x)
    return (f", for about {listed}" if parts else "") + lacking


def _attempts(asked: Question, row: Mapping[str, Any], one: "Outlay") -> float | None:
    """Rows of a group per item, or per repeat of all; None where it is not known."""
    if asked.settles.unit == "items":
        if one.items is None:
            return float(row["n"] / row[asked.settles.n])
        return one.rows / one.items
    n = asked.count(row)
    return one.rows / n if n else None


def _trials(case: Case, history: Sequence["Outlay | None"], level: float) -> str:
    """Say whether more trials of the same items would do, where trials tell: V − T + T K / K' = (δ / z)².

    V is the variance of the difference, of which T comes from trials: K of each item now, K' then.
    """
    known = [told for told in history if told is not None and told.noise is not None]
    if len(known) < 2 or len(known) < len(history):
        return ""
    touching = sample_size.reach(1 - level, 0.5)
    variance = (case.half / touching) ** 2
    noise = min(sum(told.noise or 0.0 for told in known), variance)
    room = (case.difference / sample_size.reach(1 - level, sample_size.POWER)) ** 2 - (
        variance - noise
    )
    most = max(told.trials or 1.0 for told in known)
    if room <= 0 or noise * most / room > _MOST_TRIALS:
        return "; more trials of the same items hardly would"
    return (
        f"; so would about {_rounded(noise * most / room):,} trials of each in place of "
        f"{_number(most, 2)}"
    )


def _name(asked: Question, row: Mapping[str, Any]) -> str:
    """Name what a row is of: its group, "a against b", "budget 0.01"."""
    if asked.own == ("a", "b"):
        return f"{row['a']} against {row['b']}"
    cells = [_cell(asked, column, row[column]) for column in asked.own]
    return label(cells)


def _cell(asked: Question, column: str, value: Any) -> Any:
    if isinstance(value, int | float) and column not in asked.result.by:
        known = asked.result[column]
        price = "$" if known.unit == "USD" else ""
        return f"{known.title or column.replace('_', ' ')} {price}{_number(value, 3)}"
    return value


def _stratum(asked: Question, row: Mapping[str, Any]) -> str:
    """Say in which task, or at which size, a row is."""
    parts = []
    for column in asked.within:
        value = row[column]
        if value is not None:
            cell = _cell(asked, column, value)
            parts.append(f" on {cell}" if column == "task" else f", {cell}")
    return "".join(parts)


def _told(asked: Question, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name groups with their figures, in as many digits as it takes for them to differ."""
    values = [asked.ends(row)[0] for row in rows]
    written = [
        [_value(value, asked, digits=d) + _unit(asked) for value in values] for d in (3, 4, 5, 6)
    ]
    texts = next((w for w in written if len(set(w)) == len(set(values))), written[0])
    return [f"{_name(asked, row)} ({text})" for row, text in zip(rows, texts, strict=True)]


def _title(asked: Question) -> str:
    return asked.column.title or asked.column.name.replace("_", " ")


def _value(value: float, asked: Question, *, signed: bool = False, digits: int = 3) -> str:
    """Write a value of the figure: a difference of shares in points, money with its sign, no other unit."""
    if signed and asked.column.unit == "0..1":
        return _number(100 * value, 2, sign="+")
    sign = "+" if signed else ""
    if asked.column.unit == "USD":
        return ("-" if value < 0 else sign) + f"${_number(abs(value), digits)}"
    return _number(value, digits, sign=sign)


def _unit(asked: Question) -> str:
    unit = asked.column.unit
    return "" if unit in {"", "0..1", "count", "USD"} else f" {unit}"


def _number(value: float, digits: int, sign: str = "") -> str:
    """Write a number with so many digits, never with an exponent where it can be read without."""
    value = 0.0 if abs(value) < 1e-12 else value  # what rounding left of 0
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1e12:
        return f"{value:{sign}.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{round(value, places):{sign},.{max(places, 0)}f}" if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text
