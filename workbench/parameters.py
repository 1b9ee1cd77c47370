"""Parameters of a configuration, value by value, and the names that tell configurations apart.

A configuration is known by its content; its name is for people. Two of them may come with one name:
the same model and strategy at another temperature, in another launch, from another store. Then each
name is completed by all in which they differ: `m direct temperature=0`, `m direct temperature=1`.
What is not set is not said, so that of `m direct` and `m direct temperature=1` the first is the one
without. The names are a function of the set of configurations alone: neither order nor repetition
changes them.
"""

import collections
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from workbench.cells import NUMBER, number_text
from workbench.decoding import UNDECODABLE
from workbench.records import content_id, json_text

COLUMNS = (
    "provider",
    "model",
    "strategy",
    "effort",
    "thinking_budget_tokens",
    "temperature",
    "top_p",
    "max_tokens",
    "precision",
    "machine",
)
"""The columns of `configurations` that hold one value each, in the order in which names say
them."""
GROUPS = {"strategy_params": "params", "settings": "settings"}
"""The columns that hold many values as JSON, and what the names of those begin with."""
_MOST = 40  # characters of a value that a name shows
_CUT = 24
_HEX = 6  # digits of a hash, where it has to tell what a text cannot
_WHOLE = 2**63


class Parameter(NamedTuple):
    """One value that was set.

    Attributes:
        name: `params.docs`, `settings.seed`; values inside of values have the path,
            `settings.limits.tokens`.
        type: int, float, bool or text, as it was given.
        value: as text; lists as JSON.
        number: as a number; None where the text is none.
    """

    name: str
    type: str
    value: str
    number: float | None


def parameters(strategy_params: str | None, settings: str | None) -> list[Parameter]:
    """Flatten the two JSON columns of a configuration, in order of the names; nulls are not set."""
    given = {"strategy_params": strategy_params, "settings": settings}
    leaves: dict[str, Any] = {}
    for column, prefix in GROUPS.items():
        for name, value in _leaves(prefix, _decoded(given[column])):
            leaves.setdefault(name, value)
    return [_parameter(name, leaves[name]) for name in sorted(leaves)]


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE:
        return text


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk to the single values; what a list of solvers says is told by the solver's name."""
    if isinstance(value, dict):
        for key in sorted(value, key=lambda k: (isinstance(value[k], dict), k)):
            yield from _leaves(f"{path}.{key}", value[key])
    elif isinstance(value, list) and _are_steps(value):
        for step in value:
            yield from _leaves(f"{path}.{step['solver']}", step.get("params"))
    elif value is not None:
        yield path, value


def _are_steps(values: list[Any]) -> bool:
    """Whether a list is that of an Inspect log's solvers, none of them twice."""
    names = [v.get("solver") if isinstance(v, dict) else None for v in values]
    return bool(names) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, bool):
        return Parameter(name, "bool", "true" if value else "false", None)
    if isinstance(value, int) and abs(value) < _WHOLE:
        return Parameter(name, "int", str(value), float(value))
    if isinstance(value, float):
        return Parameter(name, "float", number_text(value), value)
    text = value if isinstance(value, str) else json_text(value)
    number = float(text) if re.fullmatch(NUMBER, text) else None
    known = number is not None and abs(number) < float("inf")
    return Parameter(name, "text", text, number if known else None)


class Named(NamedTuple):
    """A configuration as naming sees it: its id, the name it came with, and what was set."""

    configuration_id: str
    base_name: str
    values: Mapping[str, str]


def named(row: Mapping[str, Any]) -> Named:
    """Give what naming needs of a row of `configurations`."""
    values = {c: _plain(row[c]) for c in COLUMNS if row[c] is not None}
    for parameter in parameters(row["strategy_params"], row["settings"]):
        values[parameter.name] = _shown(parameter)
    return Named(row["configuration_id"], row["base_name"], values)


def names(configurations: Iterable[Named]) -> dict[str, str]:
    """Give every configuration a name of its own; by id.

    Names that are unique stay. Where several share one, each is completed by every value in which
    they differ. What no value tells apart, as where the same is spelled in two ways, gets the id's
    first digits.
    """
    known = {c.configuration_id: c for c in configurations}
    shown: dict[str, frozenset[str]] = dict.fromkeys(known, frozenset())
    while True:
        labels = {id: _name(c, shown[id]) for id, c in known.items()}
        changed = False
        for ids in _shared(labels):
            differing = _differing([known[id].values for id in ids])
            for id in ids:
                changed |= not differing <= shown[id]
                shown[id] |= differing
        if not changed:
            break
    for ids in _shared(labels):
        length = next(n for n in range(_HEX, 99) if len({id[:n] for id in ids}) == len(ids))
        labels |= {id: f"{labels[id]} #{id[:length]}" for id in ids}
    return labels


def _shared(labels: Mapping[str, str]) -> list[list[str]]:
    by_name: dict[str, list[str]] = collections.defaultdict(list)
    for id, name in labels.items():
        by_name[name].append(id)
    return [ids for ids in by_name.values() if len(ids) > 1]


def _differing(all_values: list[Mapping[str, str]]) -> frozenset[str]:
    every = set().union(*all_values)
    return frozenset(n for n in every if len({values.get(n) for values in all_values}) > 1)


def _name(configuration: Named, shown: Iterable[str]) -> str:
    order = {name: place for place, name in enumerate(COLUMNS)}
    values = configuration.values
    chosen = sorted((n for n in shown if n in values), key=lambda n: (order.get(n, len(order)), n))
    return " ".join([configuration.base_name, *(f"{n}={values[n]}" for n in chosen)])


def _plain(value: Any) -> str:
    return _short(number_text(value) if isinstance(value, int | float) else str(value))


def _shown(parameter: Parameter) -> str:
    """Write a value as a name says it; a text that could be taken for something else in quotes."""
    value = parameter.value
    if parameter.type == "text" and (
        value in {"true", "false", ""} or parameter.number is not None
    ):
        return json_text(value)
    return _short(value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST else f"{line[:_CUT]}…{content_id(text)[:_HEX]}"


def better_base(one: str, other: str, derived: str) -> str:
    """Choose between two names of one configuration: a given one before a derived one."""
    return min((one, other), key=lambda name: (name == derived, name))
