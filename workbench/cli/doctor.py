"""`workbench doctor`: is everything in order, and if not, what to do."""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import __version__, config
from workbench import schema as stored
from workbench.cli.options import output_options, settings, store_option, talk

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.store.checks import Check

LIBRARIES = ("duckdb", "polars", "narwhals", "pyarrow", "textual", "altair", "genai-prices")
Row = dict[str, str]


@click.command()
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
    help="With --repair: another store, or an exported folder, that has some of it; repeatable.",
)
@output_options
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    store_path: str | None,
    copy: Path | None,
    sources: tuple[Path, ...],
    format_: str | None,
    output: Path | None,
    quick: bool,
) -> None:
    """Check the installation and the store.

    Every column of every table is read. Exit status 1 if the store is damaged; what is only worth
    knowing does not count. A store that --repair made is checked in place of the one that it was
    made of.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    found = settings(store=store_path)
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
        rows.append(_row("holds", f"{overview.n_traces:,} traces of {overview.n_runs:,} runs"))
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
        _row(f"saved from {source}", f"{n:,} traces") for source, n in done.traces_from.items()
    ] + [_row("not saved", note) for note in done.notes]
