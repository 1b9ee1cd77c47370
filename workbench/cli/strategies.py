"""`workbench strategies`: the ways of using a model, with their parameters; and how they are typed."""

import dataclasses
import json
import re
from typing import Any

import click

from workbench.cli.options import output_options

_OWN = re.compile(r"([A-Za-z_]\w*)(:|$)")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@output_options
def strategies(names: tuple[str, ...], format_: str | None, output: Any) -> None:
    """List strategies with their parameters; with names, say what these do.

    On the command line parameters follow the name: --strategy budgeted:thinking_tokens=64,by=tags

    One of your own is named by its file or module: --strategy mine.py:Mine:rounds=2
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

    kind = known.kind(name)
    given = "\n".join(f"    {n} = {json.dumps(v)}" for n, v in _parameters(kind).items())
    return f"{name}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\nDefaults:\n{given}\n"


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
