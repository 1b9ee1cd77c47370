"""Strategies by name: ways of using a model to answer an item, one file each, imported when asked for."""

import dataclasses
import difflib
import importlib
import math
from typing import Any

from workbench.errors import ConfigError
from workbench.runner.session import Strategy

_HOMES = {
    "direct": ("workbench.runner.strategies.direct", "Direct"),
    "cot": ("workbench.runner.strategies.cot", "ChainOfThought"),
    "think": ("workbench.runner.strategies.think", "Think"),
    "self_consistency": ("workbench.runner.strategies.self_consistency", "SelfConsistency"),
    "self_refine": ("workbench.runner.strategies.self_refine", "SelfRefine"),
    "best_of_n": ("workbench.runner.strategies.best_of_n", "BestOfN"),
}


def names() -> tuple[str, ...]:
    """List the strategies."""
    return tuple(_HOMES)


def get(name: str, **params: Any) -> Strategy:
    """Make a strategy by name; its parameters are the fields of its class.

    Raises:
        ConfigError: there is no such strategy, or it has no such parameter.
    """
    if name not in _HOMES:
        near = difflib.get_close_matches(name, _HOMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_HOMES)}"
        raise ConfigError(f"no strategy is called {name!r}; {hint}")
    module, attribute = _HOMES[name]
    kind = getattr(importlib.import_module(module), attribute)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in params:
        if key not in fields:
            raise ConfigError(
                f"strategy {name!r} has no parameter {key!r}; it has {', '.join(fields)}"
            )
    given = {key: _number(name, fields[key], value) for key, value in params.items()}
    strategy: Strategy = kind(**given)
    return strategy


def _number(strategy: str, field: "dataclasses.Field[Any]", value: Any) -> int | float:
    """Check a parameter: whole, or any number for a float field, not below the field's `least`."""
    least = field.metadata.get("least", 0)
    kinds = (int, float) if field.type is float else (int,)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if not right or not least <= value < math.inf:
        wanted = "number" if field.type is float else "whole number"
        raise ConfigError(
            f"strategy {strategy!r}: {field.name} = {value!r} is not a {wanted} from {least} up"
        )
    return float(value) if field.type is float else int(value)
