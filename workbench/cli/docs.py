"""`workbench docs`: the catalogue as pages, written from the declarations, each with an example that was run."""

import contextlib
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import analysis
from workbench.cli.options import open_store, store_option, talk
from workbench.errors import AnalysisError

if TYPE_CHECKING:
    import polars as pl

    from workbench.analysis import Analysis, Result
    from workbench.schema import Column
    from workbench.store import Store

_ROWS = 4  # of an example's table, on their side: a column of the page each


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--output", "-o", "folder", metavar="FOLDER",
              type=click.Path(file_okay=False, path_type=Path),
              help="Write a page per analysis, and an index, into a folder.")  # fmt: skip
@store_option
def docs(names: tuple[str, ...], folder: Path | None, store_path: str | None) -> None:
    """Write the pages of analyses: question, definition, options, columns, an example.

    The examples are run on the sample traces, or on --store.
    """
    wanted = _wanted(names)
    with _examples(store_path) as store:
        if folder is None:
            for name in wanted:
                click.echo(page(analysis.get(name), store))
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            (folder / f"{name}.md").write_text(page(analysis.get(name), store), encoding="utf-8")
    if not names:
        (folder / "README.md").write_text(index(), encoding="utf-8")
    talk(f"wrote {len(wanted)} pages to {folder}")


def _wanted(names: Sequence[str]) -> list[str]:
    try:
        return [analysis.get(name).name for name in names] or list(analysis.names())
    except AnalysisError as error:
        raise click.UsageError(str(error)) from error


@contextlib.contextmanager
def _examples(store_path: str | None) -> "Iterator[Store]":
    """Open the store that was named, or a passing one of the sample traces."""
    from workbench.store import demo_store

    if store_path:
        yield open_store(store_path)
        return
    with tempfile.TemporaryDirectory(prefix="workbench-docs-") as folder:
        yield demo_store(Path(folder) / "samples.duckdb")


def index() -> str:
    """Write the list of all pages, by family."""
    lines = ["# The analyses", ""]
    for title, found in analysis.by_family().items():
        pages = (f"- [{a.title}]({a.name}.md): {_plain(a.question)}" for a in found)
        lines += [f"## {title}", "", *pages, ""]
    return "\n".join(lines)


def page(declared: "Analysis", store: "Store") -> str:
    """Write the page of one analysis as Markdown."""
    from workbench.analysis import outlook

    lines = [f"# {declared.title}", "", f"**{_plain(declared.question)}**", ""]
    lines += [_plain(paragraph) + "\n" for paragraph in _paragraphs(declared.doc)]
    settled = outlook.described(declared)
    lines += [_plain(settled), ""] if settled else []
    lines += [f"Source: {_plain(declared.source)}.", ""] if declared.source else []
    if declared.options:
        lines += ["## Options", "", *_options(declared), ""]
    lines += ["## Columns", "", *_columns(declared.columns), ""]
    lines += ["## Example", "", *_example(declared, store)]
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(doc: str) -> list[str]:
    """Split a docstring; lines of a paragraph flow together."""
    first, _, rest = doc.partition("\n")
    text = f"{first}\n{textwrap.dedent(rest)}"
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _plain(text: str) -> str:
    """Keep Markdown from reading a formula as markup; what stands in backquotes is left alone."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        for mark in ("\\", "*", "_", "|", "<", "[", "~"):
            parts[place] = parts[place].replace(mark, "\\" + mark)
    return "`".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _options(declared: "Analysis") -> Iterator[str]:
    rows = []
    for option in declared.options:
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("from", option.low), ("to", option.high))
            if bound is not None
        ]
        choices = [", ".join(option.choices)] if option.choices else []
        usual = "—" if option.default is None else f"`{option.default}`"
        values = "; ".join((option.type, *choices, *bounds))
        rows.append((f"`{option.name}`", _plain(values), usual, _plain(option.help)))
    return _table(("option", "values", "default", "what it does"), rows)


def _columns(columns: Sequence["Column"]) -> Iterator[str]:
    rows = [
        (f"`{c.name}`", _plain(c.heading), c.unit or "—", _plain(c.doc), _plain(c.null))
        for c in columns
    ]
    return _table(("column", "title", "unit", "meaning", "null means"), rows)


def _example(declared: "Analysis", store: "Store") -> Iterator[str]:
    """Run the declared example, and show its first rows and what the answer says beside them."""
    from workbench.cli.analyze import ask
    from workbench.slice import Slice

    given = dict(declared.example)
    where, by = given.pop("where", ""), given.pop("by", None)
    result = ask(store, declared.name, where=Slice.parse(where), by=by, options=given)
    yield from ("```", _command(declared.name, where, by, given), "```", "")
    yield from _answer(result)


def _command(name: str, where: str, by: Sequence[str] | None, options: Mapping[str, Any]) -> str:
    words = ["workbench analyze", name]
    words += [f"--where '{where}'"] if where else []
    words += [f"--by {','.join(by)}"] if by else []
    for option, value in options.items():
        flag = option.replace("_", "-")
        words.append(f"--{flag}" if value is True else f"--{flag} {value}")
    return " ".join(words)


def _answer(result: "Result") -> Iterator[str]:
    frame = result.frame
    if frame.is_empty():
        yield "The sample traces hold nothing to answer this from."
    else:
        yield from _sideways(result, frame.head(_ROWS))
        if frame.height > _ROWS:
            yield f"\n… and {frame.height - _ROWS} more rows."
    for name, table in result.more.items():
        yield f"\nBeside them: `{name}`, {table.height} rows."
    said = [f"{reason}: {n:,}" for reason, n in result.dropped.items()]
    if said:
        yield f"\nLeft out: {'; '.join(said)}."
    for note in result.notes:
        yield f"\n> {_plain(note)}"


def _sideways(result: "Result", frame: "pl.DataFrame") -> Iterator[str]:
    """Turn a wide table: a line per column, a column per row."""
    from workbench.tui.formats import value_text

    meaning = {c.name: c for c in result.columns}
    keys = [c for c in result.by if c in frame.columns]
    head = ["", *(_plain(label) for label in result.labels(frame))] if keys else [""] * (frame.height + 1)  # fmt: skip
    rows = [
        [
            _plain(meaning[name].heading),
            *(_plain(value_text(v, meaning[name])) for v in frame[name]),
        ]
        for name in frame.columns
        if name not in keys
    ]
    return _table(head, rows)
