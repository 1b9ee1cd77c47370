"""Values of attributes: JSON within texts, numbers, texts."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.sources.prompts import content_text
from workbench.sources.spans.span import Attributes
from workbench.usage import count


def decoded(value: Any) -> Any:
    """Decode a text that is a JSON object, list or quoted text; other values stay."""
    if not isinstance(value, str) or value[:1] not in {"{", "[", '"'}:
        return value
    try:
        return msgspec.json.decode(value)
    except UNDECODABLE:
        return value


def decoded_list(content: Any) -> Any:
    """Decode a content that is a list of parts as JSON text; other text stays."""
    if isinstance(content, str) and content.startswith("[{"):
        value = decoded(content)
        return value if isinstance(value, list) else content
    return content


def unquoted(value: Any) -> Any:
    """Take the quotes off a text that was written as JSON, as MLflow writes all of them."""
    return decoded(value) if isinstance(value, str) and value[:1] == '"' else value


def text_in(attributes: Attributes, names: Sequence[str]) -> str | None:
    """Return the first of some attributes that is a text and not empty."""
    for name in names:
        value = unquoted(attributes.get(name))
        if isinstance(value, str) and value:
            return value
    return None


def first_in(attributes: Attributes, names: Sequence[str]) -> Any:
    """Return the first of some attributes that is there."""
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def count_in(attributes: Attributes, names: Sequence[str]) -> int | None:
    """Return the first of some attributes that is a count."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 19:
            value = int(value)
        if (n := count(value)) is not None:
            return n
    return None


def number_in(attributes: Attributes, names: Sequence[str]) -> float | None:
    """Return the first of some attributes that is a number."""
    return next((n for name in names if (n := real(attributes.get(name))) is not None), None)


def real(value: Any) -> float | None:
    """Return a finite number; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e15 else None


def as_text(value: Any) -> str:
    """Return a text; "" for anything else."""
    return value if isinstance(value, str) else ""


def shown(value: Any) -> str:
    """Write a value as text: texts as they are, a list of text parts joined, others as JSON."""
    parts = decoded_list(value)
    if isinstance(parts, list) and all(isinstance(p, dict) and "text" in p for p in parts):
        return content_text(parts)
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
