"""Strategies by name: ways of using a model to answer an item, one file each, imported when asked for."""

import dataclasses
import difflib
import importlib
from typing import Any

from workbench.errors import ConfigError
from workbench.runner.session import Strategy

_HOMES = {
    "direct": ("workbench.runner.strategies.direct", "Direct"),
    "cot": ("workbench.runner.strategies.cot", "ChainOfThought"),
    "think": ("workbench.runner.strategies.think", "Think"),
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
    for key, value in params.items():
        if key not in fields:
            raise ConfigError(
                f"strategy {name!r} has no parameter {key!r}; it has {', '.join(fields)}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(
                f"strategy {name!r}: {key} = {value!r} is not a whole number from 0 up"
            )
    strategy: Strategy = kind(**params)
    return strategy
