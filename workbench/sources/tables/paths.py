"""Paths of the mapping language: to a cell in a row, to rows in a document, into a file's name.

`usage.input`, `choices[0].text` and `runs[-1]` lead to a cell. A step into a text reads the text as
JSON. In paths to rows, `[]` stands for each element of a list and `{name}` for each key of an
object; the key is then the value of `@name`.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from workbench.errors import ImportFormatError

Row = dict[str, Any]
Step = str | int

MISSING: Final = object()
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
VALUE: Final = "value"  # name of a row that is no object: @value
EACH: Final = "[]"
MAX_STEPS: Final = 32
_STEP = re.compile(r"([^\[\].]*)((?:\[-?\d{1,9}\])*)")
_INDEX = re.compile(r"\[(-?\d+)\]")
_KEY = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_JSON = msgspec.json.Decoder()


class Key(NamedTuple):
    """Step of a path to rows: each key of an object, as the value of a name."""

    name: str


class Found(NamedTuple):
    """A row, and what its place says.

    Attributes:
        place: the place in the file, for messages.
        cells: the row.
        beside: fields of the objects around the row; an inner one hides an outer one.
        names: values of the names in braces.
        number: the row's number in the file, from 1.
    """

    place: str
    cells: Row
    beside: Mapping[str, Any] = NOTHING
    names: Mapping[str, Any] = NOTHING
    number: int = 0


# -- cells -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def steps(path: str) -> tuple[Step, ...]:
    """Return the steps of a path to a cell: names and indexes."""
    found: list[Step] = []
    for part in path.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            found.append(part)  # a bracket that is no index belongs to the name
            continue
        found += [match[1]] if match[1] or not match[2] else []
        found += [int(index) for index in _INDEX.findall(match[2])]
    return tuple(found)


def lookup(source: Mapping[str, Any], path: str) -> Any:
    """Return what a path leads to in a row; MISSING if it leads nowhere.

    A column whose whole name is the path has precedence.
    """
    if path in source:
        return source[path]
    value: Any = source
    for step in steps(path):
        value = _member(value, step)
        if value is MISSING:
            return MISSING
    return value


def _member(value: Any, step: Step) -> Any:
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(step, int):
        has_it = isinstance(value, (list, tuple)) and -len(value) <= step < len(value)
    else:
        has_it = isinstance(value, Mapping) and step in value
    return value[step] if has_it else MISSING


@functools.lru_cache(maxsize=8)  # several columns of a row lead into one text
def _parsed(text: str) -> Any:
    """Read a text as JSON; None if it is neither a list nor an object."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return _JSON.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:  # NaN and infinities, which Python writes
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


# -- rows --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def row_steps(path: str) -> tuple[Step | Key, ...]:
    """Return the steps of a path to rows: names, `[]`, indexes and keys.

    Raises:
        ValueError: a step is none of them, or there are too many.
    """
    found: list[Step | Key] = []
    for part in filter(None, path.split(".")):
        if key := _KEY.match(part):
            name, rest = Key(key[1]), part[key.end() :]
            found.append(name)
        else:
            name_end = part.find("[") if "[" in part else len(part)
            found += [part[:name_end]] if part[:name_end] else []
            rest = part[name_end:]
        if re.fullmatch(r"(?:\[(?:-?\d{1,9})?\])*", rest) is None:
            msg = f"{part!r} is no step; use name, name[], name[0] or {{name}}"
            raise ValueError(msg)
        found += [int(index) if index else EACH for index in re.findall(r"\[(-?\d*)\]", rest)]
    if len(found) > MAX_STEPS:
        msg = f"more than {MAX_STEPS} steps"
        raise ValueError(msg)
    return tuple(found)


def names_in(path: str) -> tuple[str, ...]:
    """Return the names in braces, in their order."""
    return tuple(_KEY.findall(path))


class Nodes(Protocol):
    """Access to the nodes of a document, which may be parsed only where a path leads."""

    def members(self, node: Any, where: str) -> Mapping[str, Any] | None:
        """Return the members of an object; None if the node is none."""
        ...

    def elements(self, node: Any, where: str) -> list[Any] | None:
        """Return the elements of a list; None if the node is none."""
        ...

    def value(self, node: Any, where: str) -> Any:
        """Return the value of a node."""
        ...


class Beside(Mapping[str, Any]):
    """Fields of the objects around a row; a field is read when it is asked for."""

    __slots__ = ("_known", "_levels", "_read", "_where")

    def __init__(
        self, levels: tuple[Mapping[str, Any], ...], read: Callable[[Any, str], Any], where: str
    ) -> None:
        """Take the objects, the outermost first."""
        self._levels, self._read, self._where = levels, read, where
        self._known: Row = {}

    def __getitem__(self, name: str) -> Any:
        """Return a field of the nearest object that has it."""
        if name not in self._known:
            level = next(level for level in reversed(self._levels) if name in level)
            self._known[name] = self._read(level[name], f"{self._where}, {name}")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        """Whether an object has the field."""
        return any(name in level for level in self._levels)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter({name: None for level in self._levels for name in level})

    def __len__(self) -> int:
        """Return the number of names."""
        return len({name for level in self._levels for name in level})


class _At(NamedTuple):
    """A node on the way to rows.

    Attributes:
        node: the node.
        place: its place in the document.
        levels: the objects around it, the outermost first.
        names: values of the names in braces so far.
        is_certain: whether it must be there: no element of a list was chosen so far.
    """

    node: Any
    place: str
    levels: tuple[Mapping[str, Any], ...]
    names: Row
    is_certain: bool


class Unfolding:
    """Rows at any depth of a document."""

    def __init__(
        self,
        nodes: Nodes,
        path: str,
        where: str,
        empty: Callable[[str], None],
        *,
        is_optional: bool = False,
    ) -> None:
        """Prepare for a path.

        Args:
            nodes: access to the document.
            path: the path to the rows.
            where: the file, for messages.
            empty: is told the place of an element of a list that lacks a member of the path.
            is_optional: whether the document itself may lack it too.
        """
        self._nodes, self._path, self._file, self._empty = nodes, path, where, empty
        self._is_certain = not is_optional
        self._steps = row_steps(path)

    def rows(self, root: Any) -> Iterator[tuple[str, Any, Beside, Row]]:
        """Yield place, node, fields beside it and names of each row.

        Raises:
            ImportFormatError: the document has no such place.
        """
        return self._walk(_At(root, "", (), {}, self._is_certain), 0)

    def _walk(self, at: _At, depth: int) -> Iterator[tuple[str, Any, Beside, Row]]:
        """Take the step of a depth, and those after it."""
        if depth == len(self._steps):
            beside = Beside(at.levels, self._nodes.value, self._where(at.place))
            yield at.place, at.node, beside, at.names
            return
        step = self._steps[depth]
        if isinstance(step, Key):
            following = self._keys(at, step)
        elif step == EACH or isinstance(step, int):
            following = self._elements(at, step)
        else:
            following = self._member(at, step)
        for inner in following:
            yield from self._walk(inner, depth + 1)

    def _elements(self, at: _At, step: Step) -> Iterator[_At]:
        elements = self._nodes.elements(at.node, self._where(at.place))
        if elements is None:
            self._missing(at, "a list", "for the keys of an object use {name}")
        elif isinstance(step, str):
            for index, element in enumerate(elements):
                place = f"{at.place}[{index}]"
                yield at._replace(node=element, place=place, is_certain=False)
        elif -len(elements) <= step < len(elements):
            index = step % len(elements)
            yield at._replace(node=elements[index], place=f"{at.place}[{index}]")
        else:
            self._missing(at, f"an element [{step}]", "give another index")

    def _keys(self, at: _At, step: Key) -> Iterator[_At]:
        members = self._nodes.members(at.node, self._where(at.place))
        if members is None:
            self._missing(at, "an object", "for the elements of a list use []")
            return
        for key, member in members.items():
            names = {**at.names, step.name: key}
            yield at._replace(node=member, place=self._join(at, key), names=names, is_certain=False)

    def _member(self, at: _At, step: str) -> Iterator[_At]:
        members = self._nodes.members(at.node, self._where(at.place))
        if members is None:
            self._missing(at, "an object", "for the elements of a list use []")
        elif step in members:
            beside = {name: member for name, member in members.items() if name != step}
            levels = (*at.levels, beside)
            yield at._replace(node=members[step], place=self._join(at, step), levels=levels)
        elif at.is_certain:
            there = ", ".join(list(members)[:20]) or "nothing"
            raise ImportFormatError(f"{self._where(at.place)} has no {step!r}; it has {there}")
        else:
            self._empty(self._join(at, step))

    def _join(self, at: _At, name: str) -> str:
        return f"{at.place}.{name}" if at.place else name

    def _where(self, place: str) -> str:
        return f"{self._file}, {place}" if place else self._file

    def _missing(self, at: _At, wanted: str, hint: str) -> None:
        """Pass over a null within a list; refuse anything else."""
        value = self._nodes.value(at.node, self._where(at.place))
        if value is not None or at.is_certain:
            raise ImportFormatError(
                f"{self._where(at.place or 'root')}: rows = {self._path!r} needs {wanted} here, but"
                f" there is {shown(value)}; {hint}"
            )
        self._empty(at.place)


class Values:
    """Nodes that are Python values; a text that is JSON is read."""

    def members(self, node: Any, where: str) -> Mapping[str, Any] | None:
        """Return the members of an object; None if the node is none."""
        del where
        node = _parsed(node) if isinstance(node, str) else node
        if not isinstance(node, dict):
            return None
        return {str(name): member for name, member in node.items()}

    def elements(self, node: Any, where: str) -> list[Any] | None:
        """Return the elements of a list; None if the node is none."""
        del where
        node = _parsed(node) if isinstance(node, str) else node
        return node if isinstance(node, list) else None

    def value(self, node: Any, where: str) -> Any:
        """Return the value itself; an empty text is none."""
        del where
        return None if node == "" else node


def shown(value: object) -> str:
    """Show what stands in a place, in a few words."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(str, list(value)[:8])) or 'no member'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is MISSING:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


# -- names of files ----------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _name_pattern(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    end = 0
    for key in _KEY.finditer(pattern):
        parts += [_glob(pattern[end : key.start()]), f"(?P<{key[1]}>[^/]+?)"]
        end = key.end()
    return re.compile("".join([*parts, _glob(pattern[end:])]), re.DOTALL)


def _glob(text: str) -> str:
    """Translate a part of a glob: `*`, `?`, `[…]`; other characters stand for themselves."""
    import fnmatch

    return fnmatch.translate(text).removeprefix("(?s:").removesuffix(")\\Z") if text else ""


def file_names(pattern: str, path: PurePath) -> dict[str, str] | None:
    """Return the names in braces of a pattern, by a file's name; None if it does not fit.

    A pattern with a slash is compared with the end of the path.
    """
    depth = pattern.count("/") + 1
    match = _name_pattern(pattern).fullmatch("/".join(path.parts[-depth:]))
    return None if match is None else match.groupdict()
