"""Reader of TOML that others wrote, for which every refusal is one exception.

Kept apart from `decoding`, as the settings are read with it and must load nothing heavy.
"""

import tomllib
from typing import Any


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
