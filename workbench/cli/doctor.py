"""`workbench doctor`: is everything in order, and if not, what to do."""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import __version__, config, formats
from workbench import schema as stored
from workbench.cli.options import output_options, settings, store_option, talk

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.store.checks import Check

LIBRARIES = ("duckdb", "polars", "narwhals", "pyarrow", "textual", "altair", "genai-prices")
Row = dict[str, str]


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@store_option
@click.option(
    "--quick", is_flag=True, help="Look at relations between rows only, not at every column."
)
@click.option(
    "--repair",
    "copy",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="COPY",
    help="Make a sound store of what can be read and of backups, at COPY.",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="With --repair: another copy of the store (file, backup or exported folder); repeatable.",
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

    PATH is another store, an exported folder, or a backup. Of a folder: its manifest, and the hash and rows of each file. Of a store or backup: every
    column of every table is read. Exit status 1 if something is damaged; what is only worth
    knowing does not count. --repair takes what it lacks from the spool, backups and exports beside
    the store that carry its id; the store that it made is checked in place of the damaged one.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.store import copies

    if path is not None and store_path is not None:
        raise click.UsageError("give PATH or --store, not both")
    if path is not None and copies.is_copy(path):
        if copy is not None:
            raise click.UsageError(f"--repair is for a store, and {path} is a copy of one")
        ctx.exit(_copy(path, quick=quick, format_=format_, output=output))
    found = settings(store=store_path if path is None else str(path))
    if sources and copy is None:
        raise click.UsageError("--from says what --repair takes more from; give --repair COPY too")
    rows = [*_installation(), *_settings(found)]
    damaged = False
    if found.store.exists():
        from workbench.store import open_store

        if copy is not None:
            rows += _repair(found.store, copy, sources)
        store = open_store(copy or found.store)
        in_store, damaged = _store(store, quick=quick)
        rows += in_store
    else:
        rows.append(_row("store", "missing", "workbench import PATH, or workbench demo, makes one"))
    emit(Document("doctor", frame_of(rows, ["check", "found", "what to do"])), format_, output)
    looked = " as far as --quick looks" if quick and not damaged else ""
    talk("the store is damaged" if damaged else f"nothing is damaged{looked}")
    ctx.exit(1 if damaged else 0)


def _copy(path: Path, *, quick: bool, format_: str | None, output: Path | None) -> int:
    """Print what is found of an export or a backup; returns the exit status."""
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.store import copies

    began = time.perf_counter()
    copy = copies.look(path, quick=quick)
    layout = "" if copy.layout is None else f", layout {copy.layout}"
    rows = [
        _row(copy.kind, path, f"of the store {copy.store_id or '—'}{layout}"),
        *(_of_look(check) for check in copy.checks),
        _row(
            "looked at",
            f"{formats.counted(copy.n_rows, 'row')}, in {time.perf_counter() - began:.1f} s",
        ),
    ]
    damaged = any(check.is_damage for check in copy.checks)
    emit(Document("doctor", frame_of(rows, ["check", "found", "what to do"])), format_, output)
    looked = " as far as --quick looks" if quick and not damaged else ""
    talk(f"the {copy.kind} is damaged" if damaged else f"nothing is damaged{looked}")
    return int(damaged)


def _row(check: str, found: object, advice: str = "") -> Row:
    return {"check": check, "found": str(found), "what to do": advice}


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
    """Say whose joules can be measured here, or why none."""
    from workbench.runner.energy.meters import open_meter

    meter = open_meter()
    names = ", ".join(device.name for device in meter.devices)
    return _row("energy meters", names or "none", "" if names else meter.reason)


def _sandbox() -> Row:
    """Say whether code that models write can be run here."""
    from workbench import sandbox

    why = sandbox.why_not()
    return _row("sandbox for code", "none" if why else "ready", why or "")


def _settings(found: config.Config) -> list[Row]:
    path = config.config_path()
    return [
        _row("settings file", path if path.exists() else f"none at {path}"),
        _row("store", found.store, f"set by {found.origins['store']}"),
    ]


def _store(store: "Store", *, quick: bool) -> tuple[list[Row], bool]:
    from workbench.errors import StoreError
    from workbench.store import checks, reading

    began = time.perf_counter()
    size = store.path.stat().st_size
    rows = [_row("size", f"{size / 1e6:,.1f} MB, layout {stored.VERSION}")]
    looks = checks.checks(store, quick=True)
    read = None if quick else reading.read_all(store)
    if read is not None:
        looks = [*checks.of_reading(read), *looks]
    try:
        overview = store.overview()
        rows.append(
            _row(
                "holds",
                f"{formats.counted(overview.n_traces, 'trace')} of {formats.counted(overview.n_runs, 'run')}",
            )
        )
        names = checks.unpriced_models(store)
    except StoreError as error:  # the looks tell which columns
        rows.append(_row("holds", "—", str(error)))
        names = []
    rows += [_of_look(look) for look in looks]
    if names:
        rows.append(_row("without a price", ", ".join(names), "workbench prices add FILE"))
    took = f"{time.perf_counter() - began:.1f} s"
    if read is None:
        rows.append(_row("looked at", f"{len(looks)} relations, in {took}"))
    else:
        rows.append(
            _row(
                "looked at",
                f"{read.n_rows:,} rows of {read.n_columns} columns in {read.n_tables} tables,"
                f" {read.n_blocks:,} blocks ({read.n_bytes / 1e6:,.1f} MB), the views and the spool, in {took}",
            )
        )
    return rows, any(look.is_damage for look in looks)


def _of_look(look: "Check") -> Row:
    found = "—" if look.n is None else f"{look.n:,}"
    return _row(look.name, found, look.advice if look.n != 0 else "")


def _repair(store: Path, copy: Path, sources: Sequence[Path]) -> list[Row]:
    from workbench.store import repair

    done = repair.repair(store, copy, sources)
    talk(f"{copy} holds what could be saved of {store}, which is as it was")
    return [
        _row(f"saved from {source}", formats.counted(n, "trace"))
        for source, n in done.traces_from.items()
    ] + [_row("not saved", note) for note in done.notes]
