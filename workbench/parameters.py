"""Parameters of configurations, one by one, and unique names of configurations made from them.

A configuration is identified by its content; its name is for people. Several configurations may
have the same name: the same model and strategy at another temperature, in another launch, from
another store. Then every parameter in which they differ is added to the name: `m direct
temperature=0`, `m direct temperature=1`. A parameter that is not set is not added: of `m direct`
and `m direct temperature=1`, the first sets no temperature. The names depend only on the set of
configurations, not on order or repetition.
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
"""The columns of `configurations` that hold one value each, in their order within names."""
GROUPS = {"strategy_params": "params", "settings": "settings"}
"""The columns that hold several values as JSON, with the prefix of the names of these values."""
_MAX_SHOWN = 40  # characters of a value in a name
_SHOWN_IF_CUT = 24  # characters of a longer value, before the digits of its hash
_HASH_DIGITS = 6
_WHOLE = 2**63


class Parameter(NamedTuple):
    """One value that a configuration sets.

    Attributes:
        name: `params.docs`, `settings.seed`; a path for nested values, `settings.limits.tokens`.
        type: int, float, bool or text, as given.
        value: as text; lists as JSON.
        number: as a number; None if the text is not a number.
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
    """Yield (path, value) of the scalar values; steps of a list of solvers by the solver's name."""
    if isinstance(value, dict):
        for key in sorted(value, key=lambda k: (isinstance(value[k], dict), k)):
            yield from _leaves(f"{path}.{key}", value[key])
    elif isinstance(value, list) and _are_steps(value):
        for step in value:
            yield from _leaves(f"{path}.{step['solver']}", step.get("params"))
    elif value is not None:
        yield path, value


def _are_steps(values: list[Any]) -> bool:
    """Whether a list is the list of solvers of an Inspect log, without repetition."""
    solvers = [v.get("solver") if isinstance(v, dict) else None for v in values]
    return (
        bool(solvers)
        and all(isinstance(n, str) for n in solvers)
        and len(set(solvers)) == len(solvers)
    )


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


class NamingInput(NamedTuple):
    """Input of `unique_names` for one configuration: its id, its given name and its parameters."""

    configuration_id: str
    base_name: str
    values: Mapping[str, str]


def naming_input(row: Mapping[str, Any]) -> NamingInput:
    """Build the input of `unique_names` from a row of `configurations`."""
    values = {c: _scalar_text(row[c]) for c in COLUMNS if row[c] is not None}
    for parameter in parameters(row["strategy_params"], row["settings"]):
        values[parameter.name] = _text_in_name(parameter)
    return NamingInput(row["configuration_id"], row["base_name"], values)


def unique_names(configurations: Iterable[NamingInput]) -> dict[str, str]:
    """Return a unique name for every configuration, by id.

    Names that are unique stay. If several configurations share one, every parameter in which they
    differ is added. If no parameter differs, as with two spellings of one value, the first digits
    of the id are added.
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
        length = next(n for n in range(_HASH_DIGITS, 99) if len({id[:n] for id in ids}) == len(ids))
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


def _name(configuration: NamingInput, shown: Iterable[str]) -> str:
    order = {name: place for place, name in enumerate(COLUMNS)}
    values = configuration.values
    chosen = sorted((n for n in shown if n in values), key=lambda n: (order.get(n, len(order)), n))
    return " ".join([configuration.base_name, *(f"{n}={values[n]}" for n in chosen)])


def _scalar_text(value: Any) -> str:
    return _shortened(number_text(value) if isinstance(value, int | float) else str(value))


def _text_in_name(parameter: Parameter) -> str:
    """Write a value for a name; a text that looks like a number or flag is quoted."""
    value = parameter.value
    if parameter.type == "text" and (
        value in {"true", "false", ""} or parameter.number is not None
    ):
        return json_text(value)
    return _shortened(value)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return (
        line
        if len(line) <= _MAX_SHOWN
        else f"{line[:_SHOWN_IF_CUT]}…{content_id(text)[:_HASH_DIGITS]}"
    )


def better_base(one: str, other: str, derived: str) -> str:
    """Choose between two names of one configuration: a given name before the derived one."""
    return min((one, other), key=lambda name: (name == derived, name))
