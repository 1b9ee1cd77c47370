"""Lines of append-only logs in JSON, and access to values whose type is not certain."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ImportFormatError
from workbench.sources import json_bytes
from workbench.sources.heads import Line
from workbench.sources.report import FileReport

_ANY = msgspec.json.Decoder()
_BOM = b"\xef\xbb\xbf"


def lines(path: Path, report: FileReport) -> Iterator[tuple[int, Line]]:
    """Yield (number, object) of each line.

    A last line without its end was being written by a running session: it is skipped with a note.
    NaN and infinities, as Python writes them, become null. Any other line that is not a JSON object
    is skipped, counted and named.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            report.n_bytes += len(raw)
            try:
                value = _ANY.decode(raw)
            except UNDECODABLE:
                line = raw.removeprefix(_BOM).strip() if number == 1 else raw.strip()
                if not line:
                    continue
                try:
                    value = json_bytes.decode(_ANY, line, f"line {number}", report)
                except ImportFormatError as error:
                    if not raw.endswith(b"\n"):
                        report.notes[_TORN] += 1
                    else:
                        _report_bad_line(report, str(error))
                    continue
            if isinstance(value, dict):
                yield number, value
            else:
                _report_bad_line(report, f"line {number} is not a JSON object")


_TORN = "the last line is incomplete: the session was still running; import it again later"


def _report_bad_line(report: FileReport, text: str) -> None:
    if report.skip_bad_rows:
        report.bad_row(text)
    else:
        report.add_missing(f"{text}: not imported")


def moment(value: object) -> dt.datetime | None:
    """Parse a time in ISO form or Unix seconds as UTC; None if the value is not a time."""
    try:
        if isinstance(value, str):
            time = dt.datetime.fromisoformat(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time = dt.datetime.fromtimestamp(value, dt.UTC)
        else:
            return None
        time = time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time
        return time.astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    """Return the seconds between two times; None if one is unknown or they are out of order."""
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()


def member(value: object, name: str) -> Line:
    """Return a member of an object that is an object itself; {} if there is none."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def type_of(value: object) -> str:
    """Return the `type` of an object; "" if it has none."""
    type_name = value.get("type") if isinstance(value, dict) else None
    return type_name if isinstance(type_name, str) else ""


def text(value: object) -> str | None:
    """Return a value that is a text and not empty; else None."""
    return value if isinstance(value, str) and value else None


def content_text(content: object) -> str:
    """Return the text of a message's content; parts without text are replaced by their type."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return msgspec.json.encode(content).decode()
    texts = []
    for piece in content:
        if isinstance(piece, dict) and isinstance(piece.get("text"), str):
            texts.append(piece["text"])
        elif isinstance(piece, str):
            texts.append(piece)
        else:
            texts.append(f"[{type_of(piece) or type(piece).__name__}]")
    return "\n".join(texts)
