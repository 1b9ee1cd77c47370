"""A first mapping for a file, from the names and cells of its columns; it works on that file."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workbench import cells
from workbench.errors import ImportFormatError
from workbench.sources import json_bytes
from workbench.sources.report import FileReport
from workbench.sources.tables.columns import fields
from workbench.sources.tables.mapping_parser import parse
from workbench.sources.tables.paths import Row, shown
from workbench.sources.tables.table_rows import file_kind, open_table
from workbench.toml_reader import toml

_ROWS = 200  # that are looked at for names and examples
_DEPTH = 4  # of objects within rows
_DOCUMENT = 2**28  # bytes of a JSON document in which rows are searched
_MAX_COLUMNS = 300
_NEEDED = ("task", "item", "model")
# names that tools give a field; a name is compared without case and marks, first names first
_NAMES: dict[str, tuple[str, ...]] = {
    "task": (
        "task",
        "task_name",
        "benchmark",
        "dataset",
        "dataset_name",
        "eval",
        "suite",
        "subset",
    ),
    "item": (
        "item",
        "item_id",
        "question_id",
        "sample_id",
        "example_id",
        "instance_id",
        "task_id",
        "problem_id",
        "doc_id",
        "qid",
        "uid",
        "index",
        "id",
        "idx",
        "generation_id",
    ),
    "model": ("model", "model_name", "model_id", "model_slug", "system", "llm", "engine"),
    "provider": ("provider", "provider_name", "vendor", "api_provider"),
    "strategy": ("strategy", "scaffold", "method", "agent", "agent_name", "prompting"),
    "effort": ("effort", "reasoning_effort"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens"),
    "trial": ("trial", "epoch", "repeat", "attempt", "run_index", "sample_index", "seed_index"),
    "started_at": (
        "started_at",
        "start_time",
        "timestamp",
        "created_at",
        "created",
        "time",
        "date",
        "at",
    ),
    "ended_at": ("ended_at", "end_time", "completed_at", "finished_at"),
    "e2e_s": (
        "e2e_s",
        "latency",
        "duration",
        "elapsed",
        "total_time",
        "request_latency",
        "wall_time",
        "generation_time",
        "response_time",
        "seconds",
        "runtime",
        "e2e_latency",
    ),
    "ttft_s": ("ttft_s", "ttft", "time_to_first_token", "first_token_latency"),
    "passed": ("passed", "resolved", "is_correct", "correct", "success", "solved", "verdict"),
    "score": ("score", "accuracy", "acc", "reward", "points", "grade"),
    "input_tokens": (
        "input_tokens",
        "prompt_tokens",
        "tokens_in",
        "tokens_prompt",
        "n_input_tokens",
        "num_input_tokens",
        "context_tokens",
        "input_token_count",
    ),
    "cache_read_tokens": (
        "cache_read_tokens",
        "cached_tokens",
        "tokens_cached",
        "cache_read_input_tokens",
        "cached_input_tokens",
    ),
    "cache_write_5m_tokens": ("cache_creation_input_tokens", "cache_write_tokens"),
    "output_tokens": (
        "output_tokens",
        "completion_tokens",
        "tokens_out",
        "tokens_completion",
        "n_output_tokens",
        "num_output_tokens",
        "generated_tokens",
        "output_token_count",
    ),
    "reasoning_tokens": (
        "reasoning_tokens",
        "thinking_tokens",
        "tokens_reasoning",
        "thoughts_tokens",
    ),
    "total_tokens": ("total_tokens",),
    "billed_cost_usd": (
        "billed_cost_usd",
        "cost",
        "cost_usd",
        "total_cost",
        "cost_total",
        "price",
        "usd",
    ),
    "energy_j": ("energy_j", "energy", "joules"),
    "n_turns": ("n_turns", "turns", "num_turns", "steps", "n_steps", "num_steps"),
    "stop_reason": ("stop_reason", "finish_reason"),
    "error_type": ("error_type", "exception_type", "error"),
    "input": ("input", "question", "problem", "query", "instruction"),
    "target": ("target", "answer_key", "ground_truth", "gold", "reference", "expected", "label"),
    "answer": ("answer", "prediction", "predicted", "extracted_answer", "pred", "parsed_answer"),
    "prompt": ("prompt", "full_prompt", "rendered_prompt"),
    "system_prompt": ("system_prompt",),
    "thinking": ("thinking", "reasoning", "reasoning_content", "chain_of_thought"),
    "output": ("output", "response", "completion", "raw_output", "generation", "model_output"),
    "request_id": ("request_id",),
    "response_id": ("response_id", "generation_id"),
}
_UNITS = {"ms": "ms", "millis": "ms", "milliseconds": "ms", "us": "us", "ns": "ns", "s": "s"}
_UNITS |= {"sec": "s", "secs": "s", "seconds": "s", "min": "min", "minutes": "min", "h": "h"}
_UNITS |= {"j": "J", "kj": "kJ", "wh": "Wh", "kwh": "kWh", "joules": "J", "usd": "USD"}
_UNITS |= {"cents": "cent", "percent": "percent", "pct": "percent"}


class _Column(NamedTuple):
    """A column of the file, with the first cells that are known."""

    path: str
    examples: tuple[Any, ...]


class _Guess(NamedTuple):
    """A field, what the mapping says of it, and why."""

    field: str
    text: str
    why: str = ""


def sketch(path: Path) -> str:
    """Write a mapping for a file: what is clear is assigned, the rest is a comment.

    Raises:
        ImportFormatError: the file is no table, or has no row.
    """
    rows_path = _find_rows(path)
    found = list(itertools.islice(open_table(path, rows_path, FileReport(path)).rows, _ROWS))
    if not found:
        raise ImportFormatError(f"{path} has no row to make a mapping of")
    columns = list(_columns(row.cells for row in found))[:_MAX_COLUMNS]
    beside = list(_columns([dict(found[0].beside)], mark="^"))[:_MAX_COLUMNS]
    guesses = _guesses(columns, beside)
    head = f"rows = {_quoted(rows_path)}" if rows_path else ""
    kept, dropped = _tried(path, head, guesses)
    used = {column for guess in kept for column in re.findall(r'"((?:[^"\\]|\\.)*)"', guess.text)}
    unused = [c for c in (*columns, *beside) if json.dumps(c.path)[1:-1] not in used]
    return "\n".join(_lines(path.name, head, kept, dropped, unused)) + "\n"


def _lines(
    name: str, head: str, kept: list[_Guess], dropped: list[_Guess], unused: list[_Column]
) -> Iterator[str]:
    yield f"# A sketch of a mapping for {_one_line(name)}: check each line, then run"
    yield "#   workbench import FILE --mapping THIS.toml --dry-run"
    yield "# workbench docs mapping explains the language; what no line names is not imported."
    yield from ("", head) if head else ()
    constants = [guess for guess in kept if guess.why.startswith("constant")]
    if constants:
        yield from ("", "[constants]")
        yield from (_line(guess) for guess in constants)
    yield from ("", "[columns]")
    yield from (_line(guess) for guess in kept if guess not in constants)
    for guess in dropped:
        yield f"# {_line(guess)}"
    if unused:
        yield from (
            "",
            "# Columns that are not used, with an example. They may be fields, parts of",
        )
        yield "# the configuration ([settings], [strategy_params]), [scores] or [metrics], or they"
        yield "# describe the attempt ([metadata]) or the item ([item_metadata]):"
    for column in unused:
        example = _one_line(shown(column.examples[0]) if column.examples else "always unknown")
        yield f"# {_quoted(column.path)}  # {example}"


def _line(guess: _Guess) -> str:
    why = guess.why.removeprefix("constant").removeprefix(": ")
    return f"{guess.field} = {guess.text}" + (f"  # {_one_line(why)}" if why else "")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:160]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


_INSTEAD = {
    "task": _Guess("task", '"@stem"', "no column has the task: the name of the file"),
    "item": _Guess("item", '"@row"', "no column has the item: the number of the row"),
    "model": _Guess("model", '"unknown"', "constant: no column has the model: write its name"),
}


# -- rows ----------------------------------------------------------------------------------------


def _find_rows(path: Path) -> str:
    """Return the path to the rows of a JSON document: those with the most names that are known."""
    if file_kind(path) != "json" or path.stat().st_size > _DOCUMENT:
        return ""
    report = FileReport(path)
    root = json_bytes.decode(json_bytes.ANY, json_bytes.document(path), str(path), report)
    places = list(_places(root, "", 0))
    if not places:
        return ""
    return max(places, key=lambda place: (place[1], -place[0].count("["), -len(place[0])))[0]


def _places(value: object, path: str, depth: int) -> Iterator[tuple[str, int]]:
    """Yield the lists of objects of a document, with how many names of fields each has."""
    if depth > _DEPTH:
        return
    if isinstance(value, list):
        objects = [element for element in value[:20] if isinstance(element, dict)]
        if objects and len(objects) == len(value[:20]):
            known = {_plain_name(column.path) for column in _columns(objects)}
            yield path if not path else f"{path}[]", sum(_is_known(name) for name in known)
        for element in objects[:3]:
            for name, member in list(element.items())[:_MAX_COLUMNS]:
                if _is_step(name):
                    yield from _places(
                        member, f"{path}[].{name}" if path else f"[].{name}", depth + 1
                    )
    elif isinstance(value, dict):
        for name, member in list(value.items())[:_MAX_COLUMNS]:
            if _is_step(name):
                yield from _places(member, f"{path}.{name}" if path else name, depth + 1)


def _is_step(name: str) -> bool:
    return bool(name) and not set(name) & set(".[]{}^@")


def _is_known(name: str) -> bool:
    return any(name in names for names in _NAMES.values())


# -- columns -------------------------------------------------------------------------------------


def _columns(rows: Iterable[Row], mark: str = "") -> Iterator[_Column]:
    """Yield the columns of rows, those within objects among them, with their first cells."""
    seen: dict[str, list[Any]] = {}
    for row in rows:
        for path, cell in _cells(row, "", 0):
            examples = seen.setdefault(path, [])
            if len(examples) < _ROWS and not cells.is_unknown(cell):
                examples.append(cell)
    for path, examples in seen.items():
        yield _Column(mark + path, tuple(examples))


def _cells(row: Row, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, cell in row.items():
        path = f"{prefix}{name}"
        if name[:1] in {"^", "@"} or "{" in name or (depth and not _is_step(name)):
            continue
        if isinstance(cell, dict) and depth < _DEPTH and cell:
            yield from _cells({str(k): v for k, v in cell.items()}, f"{path}.", depth + 1)
        else:
            yield path, cell


def _plain_name(path: str) -> str:
    """Return the last name of a path in lower case, its words joined by _, without a unit."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path.removeprefix("^").rpartition(".")[2])
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    if len(words) > 1 and words[-1] in _UNITS and "_".join(words) not in _ALL_NAMES:
        words.pop()
    return "" if {"cumulative", "running"} & set(words) or "so_far" in path else "_".join(words)


_ALL_NAMES = frozenset(name for names in _NAMES.values() for name in names)


def _unit(path: str) -> str:
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower())
    return _UNITS.get(words[-1], "") if len(words) > 1 else ""


# -- guesses -------------------------------------------------------------------------------------


def _guesses(columns: list[_Column], beside: list[_Column]) -> list[_Guess]:
    guesses: list[_Guess] = []
    taken: set[str] = set()
    for field, names in _NAMES.items():
        around = beside if field in {"task", "model", "provider", "strategy", "effort"} else []
        known = [c for c in (*columns, *around) if c.path not in taken and c.examples]
        fitting = (c for name in names for c in known if _plain_name(c.path) == name)
        column = next((c for c in fitting if _fits(field, c)), None)
        if column is not None:
            taken.add(column.path)
            guesses.append(_Guess(field, _text(field, column)))
    found = {guess.field for guess in guesses}
    return [*(_INSTEAD[name] for name in _NEEDED if name not in found), *guesses]


def _fits(field: str, column: _Column) -> bool:
    """Whether a column's cells can be the values of a field."""
    kind = fields()[field].type
    examples = column.examples
    if any(isinstance(cell, (dict, list)) for cell in examples):
        return False
    if kind in {"int", "float"}:
        return all(_is_number(cell) for cell in examples)
    if field == "passed":
        return all(_is_flag(cell) for cell in examples)
    if kind == "time":
        return all(_is_time(cell) for cell in examples)
    return True


def _is_number(cell: object) -> bool:
    try:
        cells.quantity(cell) if isinstance(cell, str) else cells.number(cell)
    except ValueError:
        return isinstance(cell, bool)
    return True


def _is_flag(cell: object) -> bool:
    try:
        cells.flag(cell)
    except ValueError:
        return False
    return True


def _is_time(cell: object) -> bool:
    try:
        cells.moment(cell)
    except ValueError:
        return False
    return True


def _text(field: str, column: _Column) -> str:
    """Write the right side of a field."""
    options = [f"column = {_quoted(column.path)}"]
    unit = _unit(column.path)
    if field == "score" and not unit:
        largest = max((_size(cell) for cell in column.examples), default=0.0)
        unit = "percent" if 1 < largest <= 100 else ""
    target = fields()[field].unit
    if unit and unit != target and (target in {"s", "J", "USD", "0..1"}):
        options.append(f"unit = {_quoted(unit)}")
    return _quoted(column.path) if len(options) == 1 else f"{{ {', '.join(options)} }}"


def _size(cell: object) -> float:
    try:
        return float(cells.quantity(cell).number if isinstance(cell, str) else cells.number(cell))
    except ValueError:
        return 0.0


# -- trials --------------------------------------------------------------------------------------


def _tried(path: Path, head: str, guesses: list[_Guess]) -> tuple[list[_Guess], list[_Guess]]:
    """Leave out what the file refuses, one field after another; repeats are counted as trials."""
    kept, dropped = list(guesses), list[_Guess]()
    while True:
        report, error = _try(path, head, kept)
        if error is None:
            break
        wrong = _refused(path, head, kept)
        if wrong is None:
            raise error
        if wrong[0].field in _NEEDED:
            kept.insert(0, _INSTEAD[wrong[0].field])
        kept.remove(wrong[0])
        dropped.append(_Guess(wrong[0].field, wrong[0].text, f"refused: {wrong[1]}"))
    if report.duplicates.n and not any(guess.field == "trial" for guess in kept):
        repeat = _Guess("trial", '"@repeat"', "items occur several times: counted as trials")
        if _try(path, head, [*kept, repeat])[1] is None:
            kept.append(repeat)
    return kept, dropped


def _refused(path: Path, head: str, kept: list[_Guess]) -> tuple[_Guess, ImportFormatError] | None:
    """Return the first field that the file refuses, with the reason."""
    needed = [guess for guess in kept if guess.field in _NEEDED]
    sure = list(_INSTEAD.values())
    for guess in (g for g in needed if g not in sure):
        others = [other for other in sure if other.field != guess.field]
        if (error := _try(path, head, [*others, guess])[1]) is not None:
            return guess, error
    for guess in (g for g in kept if g not in needed):
        if (error := _try(path, head, [*needed, guess])[1]) is not None:
            return guess, error
    return None


def _try(
    path: Path, head: str, guesses: list[_Guess]
) -> tuple[FileReport, ImportFormatError | None]:
    """Read the file with some fields; returns the report and the error."""
    from workbench.sources.tables.tables import records

    constants = [guess for guess in guesses if guess.why.startswith("constant")]
    columns = [_line(guess) for guess in guesses if guess not in constants]
    text = "\n".join([head, "[constants]", *map(_line, constants), "[columns]", *columns])
    report = FileReport(path)
    try:
        for _ in records(path, parse("sketch.toml", toml(text)), report, in_bulk=True):
            pass
    except ImportFormatError as error:
        return report, error
    return report, None
