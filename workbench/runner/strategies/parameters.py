"""The parameters of strategies: the fields of their classes, and checks of a plan's values.

A field is a whole number, a number, a text, yes or no, a list of texts, or one of these or None.
Its metadata may hold more:

- `least`, `most`: bounds of a number; from 0 up where nothing is said. Of a list, bounds of its
  length.
- `choices`: the texts that there are. Any other text must not be empty, unless `empty` is true.
"""

import dataclasses
import difflib
import math
import types
from typing import Any, get_args

from workbench.errors import ConfigError

Field = dataclasses.Field[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """Base of strategies: the fields of the class are its parameters."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as the configuration keeps them."""
        return dataclasses.asdict(self)


def checked(strategy: str, field: Field, value: Any) -> Any:
    """Return a parameter as its field holds it; ConfigError says what was wanted."""
    kind = field.type
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(k for k in get_args(kind) if k is not types.NoneType)
    if kind is bool:
        return _boolean(strategy, field, value)
    if kind is str:
        return _text(strategy, field, value)
    if kind == tuple[str, ...]:
        return _texts(strategy, field, value)
    return _number(strategy, field, value, whole=kind is not float)


def _wrong(strategy: str, field: Field, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"strategy {strategy!r}: {field.name} = {value!r} is not {wanted}")


def _number(strategy: str, field: Field, value: Any, *, whole: bool) -> int | float:
    least, most = field.metadata.get("least", 0), field.metadata.get("most", math.inf)
    kinds = (int,) if whole else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if not right or not least <= value <= most or math.isinf(value):
        bound = "up" if most == math.inf else f"to {most}"
        wanted = f"a {'whole ' if whole else ''}number from {least} {bound}"
        raise _wrong(strategy, field, value, wanted)
    return int(value) if whole else float(value)


def _boolean(strategy: str, field: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(strategy, field, value, "true or false")
    return value


def _text(strategy: str, field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(strategy, field, value, "a text")
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise _wrong(strategy, field, value, f"one of {', '.join(choices)}{hint}")
    if not value and not choices and not field.metadata.get("empty"):
        raise _wrong(strategy, field, value, "a text with something in it")
    return value


def _texts(strategy: str, field: Field, value: Any) -> tuple[str, ...]:
    least, most = field.metadata.get("least", 0), field.metadata.get("most", math.inf)
    right = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    if not right or not least <= len(value) <= most:
        bound = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise _wrong(strategy, field, value, f"a list of {bound} texts")
    return tuple(value)
