"""`workbench strategies`: the ways of using a model, with their parameters; and how they are typed."""

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from workbench.cli.options import output_options
from workbench.external_code import is_external, locate
from workbench.formats import UNKNOWN
from workbench.safe import safe

_OWN = re.compile(r"([A-Za-z_]\w*)(:|$)")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@output_options
def strategies(names: tuple[str, ...], format_: str | None, output: Any) -> None:
    """List strategies with their parameters; with names, say what these do.

    On the command line parameters follow the name: --strategy budgeted:thinking_tokens=64,by=tags

    One of your own is named by its file or module: --strategy mine.py:Mine:rounds=2. Its source is
    read for this list, and not imported.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.runner import strategies as known

    if names:
        for name in names:
            click.echo(_describe(name))
        return
    rows = []
    for name in known.names():
        kind = known.kind(name)
        summary = (kind.__doc__ or "").strip().partition("\n")[0]
        given = ", ".join(f"{n}={v}" for n, v in _parameters(kind).items())
        rows.append({"strategy": name, "what it does": summary, "parameters": given})
    columns = ["strategy", "what it does", "parameters"]
    emit(Document("strategies", frame_of(rows, columns)), format_, output)


def _describe(name: str) -> str:
    """Write what a strategy does, as its class says it."""
    import inspect

    from workbench.runner import strategies as known

    if is_external(name):
        return _describe_code(name)
    kind = known.kind(name)
    given = "\n".join(f"    {n} = {json.dumps(v)}" for n, v in _parameters(kind).items())
    return f"{name}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\nDefaults:\n{given}\n"


def _describe_code(name: str) -> str:
    """Write what the source of a strategy of the user's says of it; nothing of it is imported."""
    read = typed(name)
    code = locate("strategy", read if isinstance(read, str) else read["name"], [Path()])
    code.check("class")
    tree = code.syntax()
    nodes = [] if tree is None else tree.body
    found = next(
        (n for n in nodes if isinstance(n, ast.ClassDef) and n.name == code.attribute), None
    )
    about, given, bases = UNKNOWN, f"    {UNKNOWN}", ""
    if found is not None:
        about = ast.get_docstring(found) or UNKNOWN
        fields = [f"    {n} = {v}" for n, v in _fields(found)]
        given = "\n".join(fields) or "    none of its own"
        bases = ", ".join(_text(b) for b in found.bases)
    also = f"; what it has of {bases} is not shown" if bases else ""
    source = f"Read from {code.place}, not imported{also}."
    return safe(f"{code.name}\n\n{about}\n\nDefaults:\n{given}\n\n{source}\n", lines=True)


def _fields(found: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """List the fields of a dataclass, with their defaults, as its source has them."""
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = _text(node.annotation)
            if "ClassVar" not in kind:
                default = f"({kind}, required)" if node.value is None else _text(node.value)
                yield node.target.id, default


def _text(node: ast.expr) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:  # nested deeper than anybody would read
        return UNKNOWN


def _parameters(kind: type[Any]) -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(kind):
        factory = field.default_factory
        found[field.name] = field.default if factory is dataclasses.MISSING else factory()
    return found


def typed(text: str) -> str | dict[str, Any]:
    """Read NAME or NAME:PARAMETER=VALUE,… as a plan has it; values are JSON where they can be, else text.

    >>> typed("mine.py:Mine:shots=3")
    {'name': 'mine.py:Mine', 'shots': 3}
    """
    from workbench.runner import strategies as known

    name, colon, rest = text.partition(":")
    own = None if name in known.names() else _OWN.match(rest)
    if own:  # code of the user's: the name itself holds a colon
        name, colon, rest = f"{name}:{own[1]}", own[2], rest[own.end() :]
    if not colon:
        return name
    table: dict[str, Any] = {"name": name}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(
                f"--strategy {text}: {part!r} is not PARAMETER=VALUE; see: workbench strategies {name}"
            )
        try:
            table[key.strip()] = json.loads(value)
        except ValueError:
            table[key.strip()] = value.strip()
    return table
