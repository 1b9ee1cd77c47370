"""Scorer `json`: the last JSON value of the text, compared with the target or a schema.

Settings, of an item's metadata or of the set: `mode` (`exact`; `subset`: what the target has must
be there, more may be; `keys`: only the named `keys` are compared), `tolerance` and
`relative_tolerance` for numbers, `any_order` for lists, `schema` (see `json_schema.py`). With a
schema the target may be empty; with both, both must hold.
"""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from workbench.errors import TaskError
from workbench.scoring import json_schema
from workbench.scoring.answers import candidate
from workbench.scoring.base import Deterministic, word_option
from workbench.scoring.items import TaskItem
from workbench.scoring.numeric import near

MODES = ("exact", "subset", "keys")
_WINDOW = 200_000  # characters at the end of a text that are searched
_WORK = 5_000_000  # characters that failed attempts may read, all together
_DEEP_WORK = 5_000  # what an attempt that nested too deeply has cost, roughly
_OPENER = re.compile(r"\{\s{0,999}[\"}]|\[\s{0,999}[\[\]{\"\-\dtfn]")
_MOST_PAIRS = 100_000  # comparisons of list elements in any order


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def find_value(text: str, kind: type = object) -> tuple[bool, Any]:
    """Find the last JSON object or list in a text, fenced or not: (is there one, the value).

    Where there are values of the wanted kind, the last of those: "[1]" after an object may be a
    footnote. Without any value, the marked answer ("Answer: 42") may be a bare JSON value.
    """
    values = list(_values(text[-_WINDOW:]))
    fitting = [value for value in values if isinstance(value, kind)]
    if values:
        return True, (fitting or values)[-1]
    span, marked = candidate(text)
    if not marked and len(text.strip()) > len(span):
        return False, None
    try:
        return True, _DECODER.decode(span)
    except (ValueError, RecursionError):
        return False, None


def _values(text: str) -> Iterator[Any]:
    """Yield the outermost values from the left; stops when hostile text reaches the work limit."""
    work, place = 0, 0
    while work < _WORK and (opener := _OPENER.search(text, place)):
        place = opener.start()
        try:
            value, place = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            work += error.pos - place + 1 + place // 50  # the error counts the lines before it
        except ValueError:  # a number of too many digits, NaN
            work += _DEEP_WORK
        except RecursionError:
            work += _DEEP_WORK
        else:
            yield value
            continue
        place += 1


def canonical(value: Any) -> str:
    """Write a value as JSON text with sorted keys, in ASCII; equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _read(item: TaskItem, text: str) -> str | None:
    kind = {"{": dict, "[": list}.get(item.target.lstrip()[:1], object)
    found, value = find_value(text, kind)
    if not found:
        return None
    try:
        return canonical(value)
    except (RecursionError, ValueError):
        return None


def _wanted(item: TaskItem, target: str) -> Any:
    try:
        return _DECODER.decode(target)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{item.place}: target {target[:200]!r} is not JSON: {error}") from error


def _same(item: TaskItem, answer: str) -> bool:
    value = json.loads(answer)
    schema = item.option("schema")
    if schema is not None and not json_schema.valid(item, value, schema):
        return False
    if not item.target.strip():
        return True
    mode = word_option(item, "mode", MODES)
    if mode == "keys":
        return any(_same_keys(item, value, _wanted(item, t)) for t in item.targets)
    compare = _Comparison(item, subset=mode == "subset")
    try:
        return any(compare.same(value, _wanted(item, t)) for t in item.targets)
    except _TooMuch:
        return False


def _same_keys(item: TaskItem, value: Any, wanted: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(wanted, dict):
        return False
    compare = _Comparison(item, subset=False)
    return all(
        key in value and compare.same(value[key], wanted[key]) for key in _keys(item, wanted)
    )


def _keys(item: TaskItem, wanted: Any) -> list[str]:
    keys = item.option("keys")
    right = isinstance(keys, list | tuple) and keys and all(isinstance(k, str) for k in keys)
    if not right or not isinstance(wanted, dict) or any(k not in wanted for k in keys):
        raise TaskError(
            f"{item.place}: mode 'keys' needs `keys`, a list of names that the target has; "
            f"got {keys!r}"
        )
    return list(keys)


class _TooMuch(Exception):
    """The lists are too long to be compared in any order."""


class _Comparison:
    """Compares values; `true` is no 1, and 1.0 is 1."""

    def __init__(self, item: TaskItem, *, subset: bool) -> None:
        self.item, self.subset = item, subset
        self.any_order = item.option("any_order", default=False) is True
        self.pairs = 0

    def same(self, value: Any, wanted: Any) -> bool:
        if isinstance(wanted, bool) or isinstance(value, bool) or wanted is None or value is None:
            return value is wanted
        if isinstance(wanted, int | float):
            return isinstance(value, int | float) and near(self.item, _exact(value), _exact(wanted))
        if isinstance(wanted, dict):
            return isinstance(value, dict) and self._objects(value, wanted)
        if isinstance(wanted, list):
            return isinstance(value, list) and self._lists(value, wanted)
        return bool(value == wanted)

    def _objects(self, value: dict[str, Any], wanted: dict[str, Any]) -> bool:
        if not self.subset and value.keys() != wanted.keys():
            return False
        return all(k in value and self.same(value[k], w) for k, w in wanted.items())

    def _lists(self, value: list[Any], wanted: list[Any]) -> bool:
        if len(value) != len(wanted) and not (self.subset and self.any_order):
            return False
        if not self.any_order:
            return all(self.same(v, w) for v, w in zip(value, wanted, strict=True))
        return self._matched(value, wanted)

    def _matched(self, value: list[Any], wanted: list[Any]) -> bool:
        """Match each wanted value to a different element of the value (augmenting paths, Kuhn)."""
        fits = [[self._pair(v, w) for v in value] for w in wanted]
        owner: dict[int, int] = {}

        def place(row: int) -> bool:
            # breadth first, so that long lists do not nest calls
            came: dict[int, int] = {}
            queue = [row]
            for current in queue:
                for column, fit in enumerate(fits[current]):
                    if not fit or column in came:
                        continue
                    came[column] = current
                    if column not in owner:
                        _take(owner, came, column, fits_row=row)
                        return True
                    queue.append(owner[column])
            return False

        return all(place(row) for row in range(len(wanted)))

    def _pair(self, value: Any, wanted: Any) -> bool:
        self.pairs += 1
        if self.pairs > _MOST_PAIRS:
            raise _TooMuch
        return self.same(value, wanted)


def _take(owner: dict[int, int], came: dict[int, int], column: int, *, fits_row: int) -> None:
    """Walk a path back to its row, giving every column on it to the row that reached it."""
    column_of = {row: c for c, row in owner.items()}
    while True:
        row = came[column]
        owner[column] = row
        if row == fits_row:
            return
        column = column_of[row]


def _exact(number: float) -> Fraction:
    # through the decimal text, as the numeric scorer does: 0.1 is one tenth; 1e999 reads as
    # infinity
    if abs(number) < 1e308:
        return Fraction(str(number))
    return Fraction(10) ** 400 * (1 if number > 0 else -1)


def _check(item: TaskItem) -> None:
    schema = item.option("schema")
    if schema is not None:
        json_schema.check(item, schema)
    elif not item.target.strip():
        raise TaskError(
            f"{item.place}: the target is empty; scorer 'json' needs one, or a `schema`"
        )
    near(item, Fraction(0), Fraction(1))
    mode = word_option(item, "mode", MODES)
    for target in item.targets if item.target.strip() else ():
        wanted = _wanted(item, target)
        if mode == "keys":
            _keys(item, wanted)


JSON = Deterministic("json", _read, _same, _check)
