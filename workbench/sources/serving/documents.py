"""Documents of serving benchmarks: one JSON object in a file, or one on each line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.errors import ImportFormatError
from workbench.sources import json_bytes
from workbench.sources.report import FileReport

_OBJECT = msgspec.json.Decoder(dict[str, Any])
_BOM = b"\xef\xbb\xbf"


def whole(path: Path, report: FileReport) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        ImportFormatError: the file is empty, truncated or no object.
    """
    return json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), report)


def objects(path: Path, report: FileReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for the object of a file, or for each line of a file of objects.

    Only one line is in memory at a time. NaN and infinities are read as null.

    Raises:
        ImportFormatError: a line, or the file, is truncated or no object.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.removeprefix(_BOM).strip()
            if not line:
                continue
            where = f"{path}, line {number}"
            try:
                value = json_bytes.decode(_OBJECT, line, where, report)
            except ImportFormatError:
                if number > 1:
                    raise
                yield str(path), whole(path, report)  # an object that spans several lines
                return
            yield where, value


def read_beside(path: Path, report: FileReport) -> dict[str, Any] | None:
    """Return the JSON object of a file beside the one that is read; None if there is none."""
    if not path.is_file():
        return None
    return whole(path, report)
