"""`workbench strategies`: strategies with their parameters, and the parser of `--strategy`."""

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from workbench.cli.examples import examples
from workbench.cli.options import output_options
from workbench.external_code import ExternalCode, is_external, locate
from workbench.formats import UNKNOWN
from workbench.safe import safe

_ATTRIBUTE = re.compile(r"([A-Za-z_]\w*)(:|$)")


@click.command(
    epilog=examples(
        "workbench strategies",
        "workbench strategies cot budgeted",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@output_options
def strategies(names: tuple[str, ...], format_: str | None, output: Any) -> None:
    """List strategies with their parameters, or describe those that you name.

    A strategy is a way of using a model: one call, a vote over many, an agent loop. You give its
    parameters after the name: --strategy budgeted:thinking_tokens=64,by=tags

    The list includes those of installed plug-ins. You name a strategy of your own by its file or
    module: --strategy mine.py:Mine:rounds=2. This command reads its source and does not import it.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.plugins import SHIPPED, listed
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
        row = {"strategy": name, "what it does": summary, "parameters": given}
        rows.append(row | {"origin": SHIPPED})
    others = listed("strategy", known.names())
    for plugin in others:
        about = UNKNOWN if plugin.problem else plugin.summary() or UNKNOWN
        row = {"strategy": plugin.name, "what it does": about, "parameters": UNKNOWN}
        rows.append(row | {"origin": plugin.origin})
    notes = tuple(p.problem or p.untrusted for p in others if p.problem or p.untrusted)
    columns = ["strategy", "what it does", "parameters", "origin"]
    emit(Document("strategies", frame_of(rows, columns), notes=notes), format_, output)


def _describe(name: str) -> str:
    """Describe a strategy by the docstring and the defaults of its class."""
    import inspect

    from workbench.runner import strategies as known

    if is_external(name):
        parsed = typed(name)
        own_name = parsed if isinstance(parsed, str) else parsed["name"]
        return _describe_code(locate("strategy", own_name, [Path()]))
    plugin = known.own(name)
    if plugin is not None:
        return _describe_code(plugin)
    kind = known.kind(name)
    given = "\n".join(f"    {n} = {json.dumps(v)}" for n, v in _parameters(kind).items())
    return f"{name}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\nDefaults:\n{given}\n"


def _describe_code(code: ExternalCode) -> str:
    """Describe a strategy from outside the package by its source; nothing is imported."""
    code.check("class")
    tree = code.syntax()
    nodes = [] if tree is None else tree.body
    definition = next(
        (n for n in nodes if isinstance(n, ast.ClassDef) and n.name == code.attribute), None
    )
    about = UNKNOWN
    defaults = f"    {UNKNOWN}"
    bases = ""
    if definition is not None:
        about = ast.get_docstring(definition) or UNKNOWN
        fields = [f"    {n} = {v}" for n, v in _fields(definition)]
        defaults = "\n".join(fields) or "    no parameters of its own"
        bases = ", ".join(_text(b) for b in definition.bases)
    inherited = f"; parameters inherited from {bases} are not shown" if bases else ""
    source = f"Read from {code.place}, not imported{inherited}."
    name = code.plugin or code.name
    return safe(f"{name}\n\n{about}\n\nDefaults:\n{defaults}\n\n{source}\n", lines=True)


def _fields(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """List the fields of a dataclass with their defaults, as its source writes them."""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = _text(node.annotation)
            if "ClassVar" not in kind:
                default = f"({kind}, required)" if node.value is None else _text(node.value)
                yield node.target.id, default


def _text(node: ast.expr) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:  # an expression nested deeper than the interpreter's stack
        return UNKNOWN


def _parameters(kind: type[Any]) -> dict[str, Any]:
    defaults = {}
    for field in dataclasses.fields(kind):
        factory = field.default_factory
        defaults[field.name] = field.default if factory is dataclasses.MISSING else factory()
    return defaults


def typed(text: str) -> str | dict[str, Any]:
    """Parse NAME or NAME:PARAMETER=VALUE,… into a strategy as a plan writes it.

    Values are JSON if they parse as JSON, else text.

    >>> typed("mine.py:Mine:shots=3")
    {'name': 'mine.py:Mine', 'shots': 3}
    """
    from workbench.runner import strategies as known

    name, colon, rest = text.partition(":")
    attribute = None if name in known.names() else _ATTRIBUTE.match(rest)
    if attribute:  # a strategy outside the package: its name contains a colon, module:Class
        name = f"{name}:{attribute[1]}"
        colon = attribute[2]
        rest = rest[attribute.end() :]
    if not colon:
        return name
    table: dict[str, Any] = {"name": name}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(
                f"--strategy {text}: {part!r} is not PARAMETER=VALUE; for the parameters, run:"
                f" workbench strategies {name}"
            )
        try:
            table[key.strip()] = json.loads(value)
        except ValueError:
            table[key.strip()] = value.strip()
    return table
