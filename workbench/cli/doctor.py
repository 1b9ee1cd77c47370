"""`workbench doctor`: is everything in order, and if not, what to do."""

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import __version__, config
from workbench import schema as stored
from workbench.cli.options import output_options, settings, store_option, talk

if TYPE_CHECKING:
    from workbench.store import Store

LIBRARIES = ("duckdb", "polars", "narwhals", "pyarrow", "textual", "altair", "genai-prices")
Row = dict[str, str]


@click.command()
@store_option
@output_options
@click.pass_context
def doctor(
    ctx: click.Context, store_path: str | None, format_: str | None, output: Path | None
) -> None:
    """Check the installation and the store.

    Exit status 1 if the store is damaged; what is only worth knowing does not count.
    """
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    found = settings(store=store_path)
    rows = [*_installation(), *_settings(found)]
    damaged = False
    if found.store.exists():
        from workbench.store import open_store

        store = open_store(found.store)
        in_store, damaged = _store(store)
        rows += in_store
    else:
        rows.append(_row("store", "missing", "workbench import PATH, or workbench demo, makes one"))
    emit(Document("doctor", frame_of(rows, ["check", "found", "what to do"])), format_, output)
    talk("the store is damaged" if damaged else "nothing is damaged")
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


def _store(store: "Store") -> tuple[list[Row], bool]:
    from workbench.store import checks

    overview = store.overview()
    size = store.path.stat().st_size
    rows = [
        _row("size", f"{size / 1e6:,.1f} MB, layout {stored.VERSION}"),
        _row("holds", f"{overview.n_traces:,} traces of {overview.n_runs:,} runs"),
    ]
    looks = checks.checks(store)
    rows += [_row(look.name, f"{look.n:,}", look.advice if look.n else "") for look in looks]
    if names := checks.unpriced_models(store):
        rows.append(_row("without a price", ", ".join(names), "workbench prices add FILE"))
    return rows, any(look.fatal and look.n for look in looks)
