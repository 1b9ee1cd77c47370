"""Parser of mapping files: checks every section, and names the place of what is wrong."""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping as Dict
from pathlib import PurePath
from typing import Any

from workbench import cells, schema
from workbench.errors import ImportFormatError
from workbench.sources.tables.columns import (
    CONVENTIONS,
    DIRECTIONS,
    KEEP,
    KINDS,
    TOOL_FIELDS,
    Column,
    Condition,
    JoinedFile,
    Mapping,
    StatedTotal,
    Unpivot,
    fields,
)
from workbench.sources.tables.paths import VALUE, file_names, names_in, row_steps
from workbench.sources.tables.units import UNITS, to_stored_unit

_PROPERTIES = {"stem", "name", "folder", "row", "repeat", "null", VALUE}  # names taken by @
_SECTIONS = {
    "title",
    "kind",
    "rows",
    "match",
    "where",
    "join",
    "unpivot",
    "keep",
    "constants",
    "columns",
    "tool_calls",
    "scores",
    "strategy_params",
    "settings",
    "metadata",
    "item_metadata",
    "totals",
    "results",
    "prices",
    "tokens",
    "metrics",
    "delimiter",
    "decimal",
}
_COLUMN_KEYS = {
    "column",
    "join",
    "separator",
    "default",
    "unit",
    "offset",
    "null_if",
    "map",
    "optional",
    "decimal",
    "format",
    "plus",
}
_SCALE_KEYS = {"range", "direction"}
_TIME_UNITS = {"s", "ms", "us", "µs", "ns", "min", "h"}


def parse(name: str, raw: Dict[str, Any], *, is_shipped: bool = False) -> Mapping:
    """Check the sections of a mapping.

    Args:
        name: the mapping file's name, for messages.
        raw: its content.
        is_shipped: whether it is part of the package.

    Raises:
        ImportFormatError: something is wrong; the message names the place.
    """
    parser = _Parser(name)
    parser.names("section", raw, _SECTIONS)
    match = parser.table(raw, "match")
    parser.names("key of [match]", match, {"files", "keys", "columns"})
    kind = raw.get("kind", "traces")
    if kind not in KINDS:
        raise ImportFormatError(f"mapping {name}: kind {kind!r}; use one of {KINDS}")
    tokens, tokens_column = parser.tokens(raw.get("tokens", []))
    constants = parser.table(raw, "constants")
    columns = parser.columns(raw, "columns")
    parser.names("field", constants, set(fields()))
    parser.names("field", columns, set(fields()))
    parser.added(columns)
    parser.timed(columns)
    prices = parser.columns(raw, "prices")
    delimiter = raw.get("delimiter", "")
    mark = raw.get("decimal", "")
    if delimiter and delimiter not in cells.DELIMITERS:
        raise parser.fail(f"delimiter {delimiter!r}; use one of {cells.DELIMITERS}")
    parser.mark("decimal", mark)
    parser.names("field of [prices]", prices, set(schema.PRICES.names))
    keep = parser.text("keep", raw.get("keep", KEEP[0]))
    parser.names("keep", {keep: 1}, set(KEEP))
    tool_rows, tool_calls = parser.tool_calls(raw)
    mapping = Mapping(
        name=PurePath(name).stem,
        is_shipped=is_shipped,
        title=str(raw.get("title", "")),
        kind=kind,
        rows=parser.rows("rows", raw.get("rows", "")),
        tokens=tokens,
        tokens_column=tokens_column,
        files=parser.texts("files of [match]", match.get("files", [])),
        keys=parser.texts("keys of [match]", match.get("keys", [])),
        match_columns=parser.texts("columns of [match]", match.get("columns", [])),
        constants=constants,
        columns=columns,
        strategy_params=parser.columns(raw, "strategy_params"),
        settings=parser.columns(raw, "settings"),
        metadata=parser.columns(raw, "metadata"),
        item_metadata=parser.columns(raw, "item_metadata"),
        totals=parser.totals(raw),
        results=parser.scaled(raw, "results"),
        prices=prices,
        metrics=parser.scaled(raw, "metrics", free_units=True),
        scores=parser.columns(raw, "scores"),
        delimiter=delimiter,
        decimal=mark,
        keep=keep,
        where=parser.where(raw),
        unpivot=parser.unpivot(raw),
        joins=parser.joins(raw),
        tool_calls=tool_calls,
        tool_rows=tool_rows,
    )
    parser.bound_names(mapping)
    parser.grouped(mapping)
    return mapping


@dataclasses.dataclass(frozen=True, slots=True)
class _Parser:
    """Parser of a mapping's sections, whose errors name the place in the mapping."""

    mapping: str

    def fail(self, text: str) -> ImportFormatError:
        return ImportFormatError(f"mapping {self.mapping}: {text}")

    def names(self, what: str, names: Dict[str, Any], known: set[str]) -> None:
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise self.fail(f"unknown {what} {name!r}{hint}")

    def table(self, raw: Dict[str, Any], section: str) -> dict[str, Any]:
        value = raw.get(section, {})
        if not isinstance(value, dict):
            raise self.fail(f"[{section}] must be a table, not {value!r}")
        return value

    def texts(self, where: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.fail(f'{where} must be a list of texts, ["…"], not {value!r}')
        return tuple(value)

    def text(self, where: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.fail(f"{where} must be a text, not {value!r}")
        return value

    def number(self, where: str, value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):  # type: ignore[arg-type]  # it is a number
            raise self.fail(f"{where} must be a number, not {value!r}")
        return value  # type: ignore[return-value]  # likewise

    def columns(self, raw: Dict[str, Any], section: str) -> dict[str, Column]:
        return {
            name: self.column(f"[{section}] {name}", value)
            for name, value in self.table(raw, section).items()
        }

    def column(self, where: str, value: object, *, free_units: bool = False) -> Column:
        if isinstance(value, str):
            return Column(value)
        paths, join = self.paths(where, value)
        assert isinstance(value, dict), "paths are of a table"
        self.names(f"key of {where}", value, _COLUMN_KEYS)
        unit = self.text(f"unit of {where}", value.get("unit", ""))
        if unit and not free_units:
            self.names(f"unit of {where}", {unit: 1}, set(UNITS))
        self.mark(f"decimal of {where}", value.get("decimal", ""))
        null_if = value.get("null_if", [])
        values = value.get("map")
        if not isinstance(null_if, list):
            raise self.fail(f"null_if of {where} must be a list of values, not {null_if!r}")
        if values is not None and not isinstance(values, dict):
            raise self.fail(f"map of {where} must be a table, {{ cell = value }}, not {values!r}")
        column = Column(
            path=paths[0],
            otherwise=() if join else paths[1:],
            join=paths if join else (),
            separator=self.text(f"separator of {where}", value.get("separator", "/")),
            default=self.scalar(f"default of {where}", value.get("default")),
            unit=unit,
            offset=self.number(f"offset of {where}", value.get("offset", 0)),
            null_if=tuple(null_if),
            values=values,
            optional=bool(value.get("optional", False)),
            decimal=value.get("decimal", ""),
            form=str(value.get("format", "")),
        )
        return dataclasses.replace(column, plus=self.plus(where, column, value.get("plus", [])))

    def paths(self, where: str, value: object) -> tuple[tuple[str, ...], bool]:
        """Read the paths of a column, and whether they are joined."""
        keys = value if isinstance(value, dict) else {}
        given = keys.get("column", keys.get("join"))
        paths = (given,) if isinstance(given, str) and "column" in keys else given
        is_list = isinstance(paths, (list, tuple)) and all(isinstance(p, str) for p in paths)
        if not is_list or not paths or ("column" in keys and "join" in keys):
            raise self.fail(
                f'{where} must be "column", {{ column = "…", … }}, {{ column = ["…", "…"], … }} or'
                f' {{ join = ["…", "…"] }}, not {value!r}'
            )
        return tuple(paths), "join" in keys

    def scalar(self, where: str, value: object) -> object:
        if value is not None and not isinstance(value, (str, int, float)):
            raise self.fail(f"{where} must be a text, a number or a flag, not {value!r}")
        return value

    def scalars(self, where: str, value: object) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.scalar(where, v) for v in values)

    def rows(self, where: str, value: object) -> str:
        path = self.text(where, value)
        try:
            row_steps(path)
        except ValueError as error:
            raise self.fail(f"{where} = {path!r}: {error}") from error
        return path

    def tokens(self, value: object) -> tuple[tuple[str, ...], Column | None]:
        """Read the token conventions: a list for all rows, or a column that gives each row's."""
        if not isinstance(value, dict):
            tokens = self.texts("tokens", value)
            self.names("tokens", dict.fromkeys(tokens), set(CONVENTIONS))
            return tokens, None
        rest = dict(value)
        default = self.texts("default of tokens", rest.pop("default", []))
        values = self.table(rest, "map")
        lists = {key: self.texts(f"map of tokens, {key}", v) for key, v in values.items()}
        for convention in (default, *lists.values()):
            self.names("tokens", dict.fromkeys(convention), set(CONVENTIONS))
        if not lists:
            raise self.fail('tokens needs map = { … = ["…"] }, or is a list')
        column = self.column("tokens", rest | {"map": lists})
        return default, column

    def where(self, raw: Dict[str, Any]) -> tuple[Condition, ...]:
        """Read the conditions on rows."""
        found = []
        for path, value in self.table(raw, "where").items():
            place = f"[where] {path}"
            if not isinstance(value, dict):
                found.append(Condition(path, among=self.scalars(place, value)))
                continue
            self.names(f"key of {place}", value, {"not", "min", "max"})
            low, high = (
                self.number(f"{end} of {place}", value[end]) if end in value else None
                for end in ("min", "max")
            )
            without = self.scalars(f"not of {place}", value.get("not", []))
            found.append(Condition(path, without=without, low=low, high=high))
        return tuple(found)

    def unpivot(self, raw: Dict[str, Any]) -> Unpivot | None:
        """Read which columns of a wide table become rows."""
        value = raw.get("unpivot")
        if value is None:
            return None
        if isinstance(value, str) and len(names_in(value)) == 1:
            return Unpivot(names_in(value)[0], pattern=value)
        if isinstance(value, dict) and len(value) == 1:
            [(name, values)] = value.items()
            texts = self.texts(f"unpivot.{name}", values)
            if texts and names_in(f"{{{name}}}"):
                return Unpivot(name, values=texts)
        raise self.fail(
            f'unpivot must be a pattern with one name, "{{system}}_score", or a list of values,'
            f' {{ system = ["…", "…"] }}, not {value!r}'
        )

    def joins(self, raw: Dict[str, Any]) -> tuple[JoinedFile, ...]:
        """Read the second files."""
        found = []
        for name, value in self.table(raw, "join").items():
            place = f"[join.{name}]"
            if not isinstance(value, dict) or not {"file", "on"} <= set(value):
                raise self.fail(f'{place} needs file = "…" and on = "…"')
            self.names(f"key of {place}", value, {"file", "on", "rows"})
            on = value["on"]
            if isinstance(on, dict):
                keys = tuple((mine, self.text(f"on of {place}", on[mine])) for mine in on)
            else:
                paths = self.texts(f"on of {place}", [on] if isinstance(on, str) else on)
                keys = tuple((path, path) for path in paths)
            if not keys:
                raise self.fail(f"on of {place} names no column")
            file = self.text(f"file of {place}", value["file"])
            rows = self.rows(f"rows of {place}", value.get("rows", ""))
            found.append(JoinedFile(name, file, keys, rows))
        return tuple(found)

    def tool_calls(self, raw: Dict[str, Any]) -> tuple[str | None, dict[str, Column]]:
        """Read the columns of tool calls, and the path from a row to them."""
        section = dict(self.table(raw, "tool_calls"))
        given = section.pop("rows", None)
        path = None if given is None else self.rows("rows of [tool_calls]", given)
        columns = self.columns({"tool_calls": section}, "tool_calls")
        self.names("field of [tool_calls]", columns, set(TOOL_FIELDS))
        if raw.get("tool_calls") and "tool" not in columns:
            raise self.fail("[tool_calls] needs tool, the column with the tool's name")
        optional = {n: dataclasses.replace(c, optional=n != "tool") for n, c in columns.items()}
        return path, optional

    def bound_names(self, mapping: Mapping) -> None:
        """Refuse names in braces that are given twice, or that a property of the file has."""
        bound = [*names_in(mapping.rows), *([mapping.unpivot.name] if mapping.unpivot else [])]
        for pattern in mapping.files or ("",):
            names = [*bound, *names_in(pattern)]
            for name in names:
                if name in _PROPERTIES or names.count(name) > 1:
                    why = "has a meaning" if name in _PROPERTIES else "occurs twice"
                    raise self.fail(f"the name {{{name}}} {why}; choose another one")
            try:
                file_names(pattern, PurePath("x"))
            except re.error as error:
                raise self.fail(f"files of [match], {pattern!r}: {error}") from error
        of_files = {name for pattern in mapping.files for name in names_in(pattern)}
        for join in mapping.joins:
            for name in names_in(join.file):
                if name not in of_files | {"stem", "name", "folder"}:
                    raise self.fail(
                        f"file of [join.{join.name}]: {{{name}}} is no name of files in [match],"
                        " nor stem, name or folder"
                    )

    def grouped(self, mapping: Mapping) -> None:
        """Refuse tool calls in rows of their own that no trace joins to calls."""
        if mapping.tool_calls and mapping.tool_rows is None and "trace" not in mapping.columns:
            raise self.fail(
                '[tool_calls] in rows of their own need trace = "…" in [columns], which says whose'
                ' they are; for those within a row set rows = "tool_calls[]"'
            )
        if mapping.kind != "traces" and ("trace" in mapping.columns or mapping.tool_calls):
            raise self.fail(f'trace and [tool_calls] are for kind = "traces", not {mapping.kind!r}')

    def timed(self, columns: Dict[str, Column]) -> None:
        """Refuse units of times that are none."""
        for name, column in columns.items():
            if fields()[name].type == "time" and column.unit:
                self.names(f"unit of [columns] {name}", {column.unit: 1}, _TIME_UNITS)

    def plus(self, where: str, column: Column, paths: object) -> tuple[Column, ...]:
        """Read the columns to add to a column."""
        return tuple(
            dataclasses.replace(
                column, path=path, optional=True, otherwise=(), join=(), default=None
            )
            for path in self.texts(f"plus of {where}", paths)
        )

    def added(self, columns: Dict[str, Column]) -> None:
        """Refuse sums of columns that are not numbers."""
        for name, column in columns.items():
            if column.plus and fields()[name].type not in {"int", "float"}:
                raise self.fail(f"plus of [columns] {name}: {name} is not a number; remove plus")

    def scaled(
        self, raw: Dict[str, Any], section: str, *, free_units: bool = False
    ) -> dict[str, Column]:
        """Read columns with an optional scale: range and direction."""
        columns: dict[str, Column] = {}
        for name, value in self.table(raw, section).items():
            where = f"[{section}] {name}"
            scale = value if isinstance(value, dict) else {}
            bare = {k: v for k, v in scale.items() if k not in _SCALE_KEYS} if scale else value
            low, high = self.range(where, scale.get("range", [-math.inf, math.inf]))
            direction = scale.get("direction")
            if direction is not None and direction not in DIRECTIONS:
                raise self.fail(f"direction of {where} is {direction!r}; use one of {DIRECTIONS}")
            column = self.column(where, bare, free_units=free_units)
            if column.unit in UNITS:
                low, high = (
                    None if end is None else to_stored_unit(end, column.unit) for end in (low, high)
                )
            columns[name] = dataclasses.replace(column, low=low, high=high, direction=direction)
        return columns

    def range(self, where: str, value: object) -> tuple[float | None, float | None]:
        """Read the ends of a scale; None for an infinite one."""
        try:
            low, high = (float(end) for end in value)  # type: ignore[attr-defined]  # or TypeError
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise self.fail(
                f"range of {where} must be [low, high], not {value!r}; inf stands for no end"
            )
        return (low if math.isfinite(low) else None, high if math.isfinite(high) else None)

    def mark(self, where: str, value: object) -> None:
        if value not in ("", cells.POINT, cells.COMMA):
            raise self.fail(f'{where} is {value!r}; use "." or ","')

    def totals(self, raw: Dict[str, Any]) -> dict[str, StatedTotal]:
        totals: dict[str, StatedTotal] = {}
        for name, value in self.table(raw, "totals").items():
            if not isinstance(value, dict) or "of" not in value:
                raise self.fail(f'[totals] {name} needs {{ column = "^…", of = "field" }}')
            of = self.text(f"of of [totals] {name}", value["of"])
            self.names(f"field of [totals] {name}", {of: 1}, set(fields()))
            how = self.text(f"how of [totals] {name}", value.get("how", "sum"))
            self.names(f"how of [totals] {name}", {how: 1}, {"sum", "mean", "count"})
            rest = {k: v for k, v in value.items() if k not in {"of", "how", "tolerance"}}
            column = self.column(f"[totals] {name}", rest)
            tolerance = self.number(f"tolerance of [totals] {name}", value.get("tolerance", 0))
            totals[name] = StatedTotal(column, of, how, tolerance)
        return totals
