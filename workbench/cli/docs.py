"""`workbench docs`: pages of the analyses and of mappings as Markdown, with examples."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import analysis, datasets
from workbench.cli.examples import examples
from workbench.cli.options import open_store, print_message, store_option
from workbench.errors import AnalysisError

if TYPE_CHECKING:
    import polars as pl

    from workbench.analysis import Analysis, Result
    from workbench.schema import Column
    from workbench.store import Store

_STORE = "by-hand.duckdb"
_MAPPING = "mapping"  # name of the page on the mapping language
_MAX_ROWS = 4  # of an example; the table is transposed, so a row is a column of the page
_BY_HAND = (
    "The sample traces cannot show this. The example runs on rows that are **made by hand, not"
    " measured** (`data/examples`), in round numbers that can be worked out in one's head:"
)


@click.command(
    epilog=examples(
        "workbench docs frontier",
        "workbench docs frontier coverage -o pages",
        "workbench docs mapping",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--output",
    "-o",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a page per analysis, and an index, into a folder.",
)
@store_option
def docs(names: tuple[str, ...], folder: Path | None, store_path: str | None) -> None:
    """Write the pages of analyses: question, definition, options, columns, an example.

    The page "mapping" explains how a table of your own is imported. Without a NAME you get the
    pages of all analyses. The examples run on the sample traces, or on rows made by hand
    if the samples cannot show the analysis; with --store they run on your store.
    """
    if names == (_MAPPING,) and folder is None:
        from workbench.sources.tables import mapping

        click.echo(mapping.page().rstrip())
        return
    wanted = _wanted(names)
    with _examples(store_path) as stores:
        if folder is None:
            for name in wanted:
                click.echo(page(analysis.get(name), stores))
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            (folder / f"{name}.md").write_text(page(analysis.get(name), stores), encoding="utf-8")
    if not names:
        (folder / "README.md").write_text(index(), encoding="utf-8")
    print_message(f"wrote {len(wanted)} pages to {folder}")


def _wanted(names: Sequence[str]) -> list[str]:
    try:
        return [analysis.get(name).name for name in names] or list(analysis.names())
    except AnalysisError as error:
        raise click.UsageError(str(error)) from error


class Stores:
    """Stores that the examples run on; each is made on first use."""

    def __init__(self, folder: Path, named: "Store | None" = None) -> None:
        """Bind to a folder for temporary stores; a `named` store is used in place of all."""
        self._folder, self._named = folder, named

    @property
    def is_named(self) -> bool:
        """Whether the user named a store."""
        return self._named is not None

    @functools.cached_property
    def samples(self) -> "Store":
        """The sample traces, or the store that was named."""
        from workbench.store import demo_store

        return self._named or demo_store(self._folder / "samples.duckdb")

    @functools.cached_property
    def by_hand(self) -> "Store":
        """The rows made by hand."""
        from workbench.store import open_store

        store = open_store(self._folder / "by-hand.duckdb", create=True)
        store.merge(datasets.by_hand_dir())
        return store


@contextlib.contextmanager
def _examples(store_path: str | None) -> Iterator[Stores]:
    """Yield the store that was named, or temporary stores with the shipped rows."""
    with tempfile.TemporaryDirectory(prefix="workbench-docs-") as folder:
        yield Stores(Path(folder), open_store(store_path) if store_path else None)


def index() -> str:
    """Write the list of all pages, by family."""
    lines = ["# The analyses", ""]
    for title, analyses in analysis.by_family().items():
        pages = (f"- [{a.title}]({a.name}.md): {_plain(a.question)}" for a in analyses)
        lines += [f"## {title}", "", *pages, ""]
    return "\n".join(lines)


def page(declared: "Analysis", stores: Stores) -> str:
    """Write the page of one analysis as Markdown."""
    from workbench.analysis.catalogue import what_would_it_take
    from workbench.report import sentences

    lines = [f"# {declared.title}", "", f"**{_plain(declared.question)}**", ""]
    lines += [_plain(paragraph) + "\n" for paragraph in sentences.paragraphs(declared.doc)]
    settled = what_would_it_take.describe_note(declared)
    lines += [_plain(settled), ""] if settled else []
    lines += [f"Source: {_plain(declared.source)}.", ""] if declared.source else []
    if declared.options:
        lines += ["## Options", "", *_options(declared), ""]
    lines += ["## Columns", "", *_columns(declared.columns), ""]
    lines += ["## Example", "", *_example(declared, stores)]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Escape Markdown markup in a text, except inside backquotes."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for mark in ("\\", "*", "_", "|", "<", "[", "~"):
            parts[index] = parts[index].replace(mark, "\\" + mark)
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


def _example(declared: "Analysis", stores: Stores) -> Iterator[str]:
    """Run the declared example; write its first rows, its dropped rows and its notes."""
    from workbench.cli.analyze import ask
    from workbench.report.answers import command
    from workbench.slice import Slice

    by_hand = declared.by_hand is not None and not stores.is_named
    options = dict(declared.by_hand or {} if by_hand else declared.example)
    where = options.pop("where", "")
    by = options.pop("by", None)
    worked = options.pop("worked", "")
    store = stores.by_hand if by_hand else stores.samples
    result = ask(store, declared.name, where=Slice.parse(where), by=by, options=options)
    if by_hand:
        yield from (_BY_HAND, "", "```", f"workbench import data/examples --store {_STORE}")
    else:
        yield "```"
    yield from (command(result, _STORE if by_hand else "", where), "```", "")
    if worked:
        yield from (_plain(worked), "")
    yield from _answer(result)


def _answer(result: "Result") -> Iterator[str]:
    frame = result.frame
    if frame.is_empty():
        yield "There is nothing to answer this from."
    else:
        yield from _transposed(result, frame.head(_MAX_ROWS))
        if frame.height > _MAX_ROWS:
            yield f"\n… and {frame.height - _MAX_ROWS} more rows."
    for name, table in result.more.items():
        yield f"\nBeside them: `{name}`, {table.height} rows."
    reasons = [f"{reason}: {n:,}" for reason, n in result.dropped.items()]
    if reasons:
        yield f"\nLeft out: {'; '.join(reasons)}."
    for note in result.notes:
        yield f"\n> {_plain(note)}"


def _transposed(result: "Result", frame: "pl.DataFrame") -> Iterator[str]:
    """Transpose a wide table: a line per column, a column per row."""
    from workbench.formats import value_text

    columns = {c.name: c for c in result.columns}
    keys = [c for c in result.by if c in frame.columns]
    labels = result.labels(frame) if keys else [""] * frame.height
    head = ["", *(_plain(label) for label in labels)]
    rows = []
    for name in frame.columns:
        if name not in keys:
            values = (_plain(value_text(v, columns[name])) for v in frame[name])
            rows.append([_plain(columns[name].heading), *values])
    return _table(head, rows)
