"""`workbench import`: logs, tables and stores into the store, one transaction per file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.examples import examples
from workbench.cli.options import (
    ask_passphrase,
    open_store,
    output_options,
    print_message,
    settings,
    store_option,
)

if TYPE_CHECKING:
    from workbench.cli.import_report import ImportOutcome
    from workbench.sources import Source
    from workbench.store import Store
    from workbench.store.contradictions import Prefer

STORE_SUFFIXES = (".duckdb", ".db")


def _show_mapping_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from workbench.sources.tables import mapping

        click.echo((mapping.__doc__ or "").strip())
        click.echo(f"\nShipped: {', '.join(mapping.shipped())}")
        ctx.exit()


def _show_formats(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from workbench import sources
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.plugins import SHIPPED

    rows = [
        {"format": s.name, "what it is": s.title, "origin": getattr(s, "origin", SHIPPED)}
        for s in sources.sources().values()
    ]
    columns = ["format", "what it is", "origin"]
    emit(Document("formats", frame_of(rows, columns), notes=tuple(sources.problems())))
    ctx.exit()


@click.command(
    "import",
    epilog=examples(
        "workbench import logs/",
        "workbench import results.csv --sketch -o mapping.toml",
        "workbench import results.csv --mapping mapping.toml --dry-run",
        "workbench import other.duckdb --prefer mine",
    ),
)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--mapping",
    metavar="FILE",
    help="A mapping from a table's columns to the store's, or the name of a shipped mapping.",
)
@click.option(
    "--mapping-help",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_mapping_help,
    help="Print every key of a mapping, and the names of the shipped ones; workbench docs mapping"
    " explains them.",
)
@click.option(
    "--sketch",
    "is_sketch",
    is_flag=True,
    help="Print a first mapping for a table, from its columns; import nothing.",
)
@click.option(
    "--source",
    "source_name",
    metavar="NAME",
    help="Read all files in this format: one of --formats, or file.py:NAME of your own.",
)
@click.option(
    "--formats",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_formats,
    help="List the formats with their origin, those of plug-ins included.",
)
@click.option(
    "--skip-bad-rows",
    is_flag=True,
    help="Skip unreadable rows of a table and list them; without this the file is refused.",
)
@click.option(
    "--as-tables",
    is_flag=True,
    help="Import an exported folder although its manifest is missing or does not match.",
)
@click.option(
    "--prefer",
    type=click.Choice(["mine", "theirs"]),
    help="Which side to take where both stores have a trace, item or price and differ; without"
    " this nothing is imported.",
)
@click.option("--dry-run", is_flag=True, help="Read the files and print the report; write nothing.")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Exit with status 0 if anything was imported, even if rows are missing or totals differ.",
)
@store_option
@output_options
@click.pass_context
def import_(
    ctx: click.Context,
    *,
    paths: tuple[Path, ...],
    mapping: str | None,
    is_sketch: bool,
    source_name: str | None,
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

    You can import files and folders of every format that workbench import --formats lists: logs of
    evaluations, sessions of agents, spans of tracers, batch results, serving benchmarks, tables
    (CSV, JSON, JSONL, YAML, Parquet) with a mapping. You can also import stores (.duckdb), their
    spools, and folders and bundles that workbench export wrote. Importing a file twice changes
    nothing. If a file fails, none of it is stored; the other files are imported.

    The status of a file is ok (everything was imported and agrees with the totals that the file
    states), partial (samples or rows are missing, or its version is not known), differs (its rows
    add up to other totals than it states) or failed.

    Exit status: 0 if all files are ok, 1 if one is not, 2 if the command is not understood. With
    --allow-partial it is 0 if anything was imported, and the last line says so. Rows that you skip
    with --skip-bad-rows do not count as missing.
    """
    from workbench.cli.import_report import conclusion, document, exit_status, remarks
    from workbench.cli.output import check_output, emit

    if is_sketch:
        _print_sketch(paths, output)
        return
    check_output(output)
    source = None
    if source_name is not None:
        from workbench import sources

        if mapping is not None:
            raise click.UsageError("--mapping is for tables; give it or --source, not both")
        source = sources.get(source_name, is_typed=True)
    store = None if dry_run else open_store(store_path, create=True)
    outcomes = [
        outcome
        for path in paths
        for outcome in _import(
            store,
            path,
            mapping,
            source=source,
            skip_bad_rows=skip_bad_rows,
            as_tables=as_tables,
            prefer=prefer,
        )
    ]
    full = output is not None or (format_ or settings().format) == "json"
    emit(document(outcomes, store.path if store else None, full=full), format_, output)
    for line in remarks(outcomes):
        print_message(line)
    print_message(conclusion(outcomes, allow_partial=allow_partial))
    ctx.exit(exit_status(outcomes, allow_partial=allow_partial))


def _print_sketch(paths: tuple[Path, ...], output: Path | None) -> None:
    from workbench.sources.tables.sketch import sketch

    if len(paths) != 1 or not paths[0].is_file():
        raise click.UsageError("--sketch takes one file")
    text = sketch(paths[0])
    if output is None:
        click.echo(text.rstrip())
    else:
        output.write_text(text, encoding="utf-8")
        print_message(f"wrote {output}; check it, then import with --mapping {output}")


def _import(
    store: "Store | None",
    path: Path,
    mapping: str | None,
    *,
    source: "Source | None",
    skip_bad_rows: bool,
    as_tables: bool,
    prefer: "Prefer | None",
) -> Iterator["ImportOutcome"]:
    from workbench import sources
    from workbench.cli.import_files import FileImporter
    from workbench.cli.import_progress import with_progress
    from workbench.cli.import_report import ImportOutcome
    from workbench.errors import WorkbenchError
    from workbench.sources.heads import is_sqlite
    from workbench.spool import is_spool
    from workbench.store.bundles import is_bundle
    from workbench.store.exports import is_export

    has_suffix = path.suffix.lower() in STORE_SUFFIXES and not is_sqlite(path)
    is_store = has_suffix or is_export(path) or is_spool(path) or is_bundle(path)
    if source is None and is_store:
        yield _merge(store, path, as_tables=as_tables, prefer=prefer)
        return
    try:
        files = sources.detect_files(path, mapping=mapping, source=source)
    except WorkbenchError as error:
        yield ImportOutcome(path, failed=str(error))
        return
    if not files:
        yield ImportOutcome(path, failed=f"{path} contains no file that can be imported")
    importer = FileImporter(store, mapping=mapping, source=source, skip_bad_rows=skip_bad_rows)
    yield from with_progress(importer, files, named=path)


def _merge(
    store: "Store | None", path: Path, *, as_tables: bool, prefer: "Prefer | None"
) -> "ImportOutcome":
    from workbench.cli.import_report import ImportOutcome
    from workbench.errors import WorkbenchError
    from workbench.store.bundles import is_encrypted

    if store is None:
        return ImportOutcome(path, failed=f"{path}: --dry-run reads files only, not stores")
    passphrase = ask_passphrase() if is_encrypted(path) else None
    try:
        merged = store.merge(path, as_tables=as_tables, prefer=prefer, passphrase=passphrase)
        return ImportOutcome(path, ingest=merged)
    except WorkbenchError as error:
        return ImportOutcome(path, failed=str(error))
