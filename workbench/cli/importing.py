"""`workbench import`: files of others into the store, one transaction each, and a report that adds up."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.options import open_store, output_options, settings, store_option, talk

if TYPE_CHECKING:
    from workbench.cli.reconciliation import Imported
    from workbench.sources import Found
    from workbench.store import Store
    from workbench.store.contradictions import Prefer

STORES = (".duckdb", ".db")


def _show_mapping_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from workbench.sources import mapping

        click.echo((mapping.__doc__ or "").strip())
        click.echo(f"\nShipped: {', '.join(mapping.shipped())}")
        ctx.exit()


@click.command("import")
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--mapping", metavar="FILE", help="Mapping of a table's columns, or a shipped one's name."
)
@click.option(
    "--mapping-help",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_mapping_help,
    help="Show how a mapping is written, with every key, and the shipped ones' names.",
)
@click.option(
    "--skip-bad-rows",
    is_flag=True,
    help="Pass over rows of a table that cannot be read, and say which; else their file is refused.",
)
@click.option(
    "--as-tables",
    is_flag=True,
    help="Take a folder of tables as it is, without its manifest or against it; else it is refused.",
)
@click.option(
    "--prefer",
    type=click.Choice(["mine", "theirs"]),
    help="Which store is right where both know a trace, item or price and differ; else nothing is taken.",
)
@click.option("--dry-run", is_flag=True, help="Read and report, write nothing.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Exit with 0 also where not all came in, or what a file states does not agree; it is said.",
)
@store_option
@output_options
@click.pass_context
def import_(
    ctx: click.Context,
    *,
    paths: tuple[Path, ...],
    mapping: str | None,
    skip_bad_rows: bool,
    as_tables: bool,
    prefer: "Prefer | None",
    dry_run: bool,
    allow_partial: bool,
    store_path: str | None,
    format_: str | None,
    output: Path | None,
) -> None:
    """Import logs, tables, or another store.

    Files and folders of: Inspect logs (.eval, .json), sessions of Claude Code and Codex, batch
    results, EvalPlus results, tables (CSV, JSON, JSONL, YAML, Parquet) with a mapping, stores
    (.duckdb), their spools, and folders that export wrote. The same file twice changes nothing.
    A file that fails leaves nothing behind, the others land.

    A file is ok (all of it is in, and agrees with the totals that it states), partial (samples or
    rows did not come in, or its version is not known), differs (it adds up to other totals than it
    states) or failed.

    Exit status: 0 if all files are ok, 1 if one is not, 2 if the command is not understood. With
    --allow-partial it is 0 where anything came in, and the last line says so. Rows that
    --skip-bad-rows passes over were to be passed over.
    """
    from workbench.cli.output import check_output, emit
    from workbench.cli.reconciliation import conclusion, document, exit_status, remarks

    check_output(output)
    store = None if dry_run else open_store(store_path, create=True)
    done = [
        imported
        for path in paths
        for imported in _import(
            store,
            path,
            mapping,
            skip_bad_rows=skip_bad_rows,
            as_tables=as_tables,
            prefer=prefer,
        )
    ]
    full = output is not None or (format_ or settings().format) == "json"
    emit(document(done, store.path if store else None, full=full), format_, output)
    for line in remarks(done):
        talk(line)
    talk(conclusion(done, allow_partial=allow_partial))
    ctx.exit(exit_status(done, allow_partial=allow_partial))


def _import(
    store: "Store | None",
    path: Path,
    mapping: str | None,
    *,
    skip_bad_rows: bool,
    as_tables: bool,
    prefer: "Prefer | None",
) -> Iterator["Imported"]:
    from workbench import sources
    from workbench.cli.reconciliation import Imported
    from workbench.errors import WorkbenchError
    from workbench.spool import is_spool
    from workbench.store.exports import is_export

    if path.suffix.lower() in STORES or is_export(path) or is_spool(path):
        yield _merge(store, path, as_tables=as_tables, prefer=prefer)
        return
    try:
        found = sources.find(path, mapping=mapping)
    except WorkbenchError as error:
        yield Imported(path, failed=str(error))
        return
    if not found:
        yield Imported(path, failed=f"{path} holds no file to import")
    with _progress(found) as steps:
        for file in steps:
            named = file.path == path
            yield _read(store, file, mapping, named=named, skip_bad_rows=skip_bad_rows)


def _read(
    store: "Store | None", file: "Found", mapping: str | None, *, named: bool, skip_bad_rows: bool
) -> "Imported":
    """Import one file; one of no known format fails only if it was named itself."""
    from workbench import sources
    from workbench.cli.reconciliation import Imported
    from workbench.errors import WorkbenchError

    if file.source is None:
        reason = sources.why_not(file.path)
        return Imported(file.path, failed=reason) if named else Imported(file.path, skipped=reason)
    report = sources.FileReport(file.path, skip_bad_rows=skip_bad_rows)
    records = sources.read(file.path, report=report, mapping=mapping)
    try:
        if store is None:
            for _ in records:
                pass
            return Imported(file.path, report=report, skipped=report.nothing)
        ingested = store.ingest(records)
        return Imported(file.path, report=report, ingest=ingested, skipped=report.nothing)
    except WorkbenchError as error:
        return Imported(file.path, report=report, failed=str(error))
    except OSError as error:
        return Imported(file.path, report=report, failed=f"{file.path}: {error.strerror or error}")


def _merge(
    store: "Store | None", path: Path, *, as_tables: bool, prefer: "Prefer | None"
) -> "Imported":
    from workbench.cli.reconciliation import Imported
    from workbench.errors import WorkbenchError

    if store is None:
        return Imported(path, failed=f"{path}: a store cannot be read in a dry run")
    try:
        return Imported(path, ingest=store.merge(path, as_tables=as_tables, prefer=prefer))
    except WorkbenchError as error:
        return Imported(path, failed=str(error))


class _progress:  # noqa: N801 (used as a function)
    """Walk files with a bar on stderr, where a person sees it."""

    def __init__(self, found: list["Found"]) -> None:
        self.found = found

    def __enter__(self) -> Iterator["Found"]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("importing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.bar.start()
        return iter(self.bar.track(self.found))

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
