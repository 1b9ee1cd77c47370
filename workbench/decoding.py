"""Decoding of untrusted JSON and TOML: exceptions to catch beside those that the libraries name.

A document that is nested too deeply is a RecursionError, a text with half a surrogate pair a
UnicodeError, and a whole number of thousands of digits in TOML a plain ValueError.
"""

import tomllib
from typing import Any

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Every way in which msgspec refuses a document."""


def toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        tomllib.TOMLDecodeError: it is none, or holds what nobody means to read.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deeply to be read") from None
    except ValueError as error:
        raise tomllib.TOMLDecodeError(str(error).partition(";")[0]) from None
