"""`workbench doctor`: checks of the installation and the store, with repairs."""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import config, formats
from workbench import schema as stored
from workbench.cli.examples import examples
from workbench.cli.options import output_options, print_message, settings, store_option
from workbench.version import __version__

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.store.checks import Check

LIBRARIES = ("duckdb", "polars", "narwhals", "pyarrow", "textual", "altair", "genai-prices")
_NONE = "0"  # what a check found that passed
Row = dict[str, str]


@click.command(
    epilog=examples(
        "workbench doctor --quick",
        "workbench doctor --repair repaired.duckdb",
    ),
)
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@store_option
@click.option(
    "--quick", is_flag=True, help="Check relations between rows only; do not read every column."
)
@click.option(
    "--repair",
    "copy",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="COPY",
    help="Write a sound store to COPY, from what is readable and from backups.",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="With --repair: a copy of the store to read (file, backup or exported folder); may be"
    " repeated.",
)
@output_options
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    path: Path | None,
    store_path: str | None,
    copy: Path | None,
    sources: tuple[Path, ...],
    format_: str | None,
    output: Path | None,
    quick: bool,
) -> None:
    """Check the installation and the store.

    Give a PATH to check another store, an exported folder or a backup. Of a folder, the manifest
    and the hash and rows of each file are checked; of a store or backup, every column of every
    table is read. The exit status is 1 if something is damaged; remarks do not count.

    With --repair, rows that cannot be read are taken from the spool, backups and exports beside
    the store that carry its id. The new store is then checked in place of the damaged one.
    """
    from workbench.store import copies

    if path is not None and store_path is not None:
        raise click.UsageError("give PATH or --store, not both")
    if path is not None and copies.is_copy(path):
        if copy is not None:
            raise click.UsageError(
                f"--repair needs a store; {path} is an export or a backup of one"
            )
        ctx.exit(_copy(path, quick=quick, format_=format_, output=output))
    active_config = settings(store=store_path if path is None else str(path))
    if sources and copy is None:
        raise click.UsageError("--from names a source of --repair; give --repair COPY as well")
    rows = [*_installation(), *_settings(active_config)]
    damaged = False
    unsaved: list[str] = []
    n_traces = 0
    if active_config.store.exists():
        from workbench.store import open_store

        if copy is not None:
            repaired, unsaved = _repair(active_config.store, copy, sources)
            rows += repaired
        store = open_store(copy or active_config.store)
        n_traces = store.count()
        in_store, damaged = _store(store, quick=quick)
        rows += in_store
    else:
        rows.append(_row("store", "missing", "make one: workbench import PATH, or workbench demo"))
    _emit(rows, format_, output)
    scope = " as far as --quick checks" if quick and not damaged else ""
    print_message("the store is damaged" if damaged else f"nothing is damaged{scope}")
    if copy is not None and unsaved:
        print_message(
            f"not everything was saved: {copy} has {formats.counted(n_traces, 'trace')}; see the"
            " rows 'not saved', and name further copies of the store with --from"
        )
        damaged = damaged or not n_traces
    ctx.exit(1 if damaged else 0)


def _copy(path: Path, *, quick: bool, format_: str | None, output: Path | None) -> int:
    """Check an export or a backup, print the rows, and return the exit status."""
    from workbench.store import copies

    began = time.perf_counter()
    copy = copies.inspect(path, quick=quick)
    layout = "" if copy.layout is None else f", layout {copy.layout}"
    rows = [
        _row(copy.kind, path, f"of the store {copy.store_id or '—'}{layout}"),
        *(_check_row(check) for check in copy.checks),
        _row(
            "checked",
            f"{formats.counted(copy.n_rows, 'row')}, in {time.perf_counter() - began:.1f} s",
        ),
    ]
    damaged = any(check.is_damage for check in copy.checks)
    _emit(rows, format_, output)
    scope = " as far as --quick checks" if quick and not damaged else ""
    print_message(f"the {copy.kind} is damaged" if damaged else f"nothing is damaged{scope}")
    return int(damaged)


def _emit(rows: list[Row], format_: str | None, output: Path | None) -> None:
    """Write all rows; a table for people has one row for all the checks that passed."""
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    if output is None and format_ in {None, "table"}:
        passed = [row for row in rows if row["found"] == _NONE]
        rows = [row for row in rows if row["found"] != _NONE]
        rows.append(_row("checks that passed", f"{len(passed)} (--format csv lists them)"))
    emit(Document("doctor", frame_of(rows, ["check", "found", "what to do"])), format_, output)


def _row(check: str, finding: object, advice: str = "") -> Row:
    return {"check": check, "found": str(finding), "what to do": advice}


def _installation() -> list[Row]:
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    return [
        _row("workbench", __version__),
        _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _row("libraries", ", ".join(versions)),
        _meters(),
        _sandbox(),
    ]


def _meters() -> Row:
    """List the devices whose energy can be measured, or the reason why there is none."""
    from workbench.runner.energy.meters import open_meter

    meter = open_meter()
    names = ", ".join(device.name for device in meter.devices)
    return _row("energy meters", names or "none", "" if names else meter.reason)


def _sandbox() -> Row:
    """Report whether the sandbox for code that models write works here."""
    from workbench import sandbox

    reason = sandbox.why_not()
    return _row("sandbox for code", "none" if reason else "ready", reason or "")


def _settings(active_config: config.Config) -> list[Row]:
    path = config.config_path()
    return [
        _row("settings file", path if path.exists() else f"none at {path}"),
        _row("store", active_config.store, f"set by {active_config.origins['store']}"),
    ]


def _store(store: "Store", *, quick: bool) -> tuple[list[Row], bool]:
    from workbench.errors import StoreError
    from workbench.store import checks, reading

    began = time.perf_counter()
    size = store.path.stat().st_size
    rows = [_row("size", f"{size / 1e6:,.1f} MB, layout {stored.VERSION}")]
    read = None if quick else reading.read_all(store)
    results = checks.checks(store, quick=quick, read=read)
    try:
        overview = store.overview()
        traces = formats.counted(overview.n_traces, "trace")
        runs = formats.counted(overview.n_runs, "run")
        rows.append(_row("contains", f"{traces} of {runs}"))
        names = checks.unpriced_models(store)
    except StoreError as error:  # the checks below name the damaged columns
        rows.append(_row("contains", "—", str(error)))
        names = []
    rows += [_check_row(result) for result in results]
    if names:
        rows.append(_row("without a price", ", ".join(names), "workbench prices add FILE"))
    took = f"{time.perf_counter() - began:.1f} s"
    if read is None:
        rows.append(_row("checked", f"{len(results)} relations, in {took}"))
    else:
        rows.append(
            _row(
                "looked at",
                f"{read.n_rows:,} rows of {read.n_columns} columns in {read.n_tables} tables,"
                f" {read.n_blocks:,} blocks ({read.n_bytes / 1e6:,.1f} MB), the views and the"
                f" spool, in {took}",
            )
        )
    return rows, any(result.is_damage for result in results)


def _check_row(check: "Check") -> Row:
    """Make the row of one check; the advice is shown unless the count is 0."""
    count = "—" if check.n is None else f"{check.n:,}"
    return _row(check.name, count, check.advice if check.n != 0 else "")


def _repair(store: Path, copy: Path, sources: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """Write what can be saved to a copy; returns rows of the table, and what was not saved."""
    from workbench.store import repair

    report = repair.repair(store, copy, sources)
    print_message(f"{copy} contains what could be saved of {store}, which was not changed")
    saved = [
        _row(f"saved from {source}", formats.counted(n, "trace"))
        for source, n in report.traces_from.items()
    ]
    return [*saved, *(_row("not saved", note) for note in report.notes)], report.notes
