"""Copies of a store (exports and backups): the store each belongs to, and whether it is whole."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from workbench import formats, schema, spool
from workbench.errors import StoreError, WorkbenchError
from workbench.store import checks, database, exports, migrations, reading, scratch
from workbench.store.checks import Check
from workbench.store.open import open_store
from workbench.store.store import Store

BACKUP = ".backup"
"""How the name of a backup ends; `backups.path_of` makes it."""
_AGAIN = "export it again, or use another copy"


@dataclasses.dataclass(slots=True)
class Copy:
    """A copy of a store, and the results of its checks.

    Attributes:
        kind: "export" or "backup".
        store_id: id of the store that it was made from; None where the copy has no id.
        layout: layout version of its tables; None where unknown.
        n_rows: number of rows of all tables that could be read.
        checks: results of its checks.
    """

    kind: str
    store_id: str | None = None
    layout: int | None = None
    n_rows: int = 0
    checks: list[Check] = dataclasses.field(default_factory=list)


def is_copy(path: Path) -> bool:
    """Return whether a path is that of an export (a folder) or a backup (by its suffix)."""
    return path.is_dir() or path.name.endswith(BACKUP)


def inspect(path: Path, *, quick: bool = False) -> Copy:
    """Check an export or a backup, which is only read.

    Args:
        path: the export's folder, or the backup's file.
        quick: do not read each byte of an export's files, each column of a backup.

    Raises:
        StoreError: the folder is a spool.
    """
    if not path.is_dir():
        return _backup(path, quick=quick)
    if not exports.is_export(path) and spool.is_spool(path):
        raise StoreError(
            f"{path} is a spool, the inbox of a store; check the store itself, with --store"
        )
    return _export(path, quick=quick)


# -- exports -----------------------------------------------------------------------------------


def _export(folder: Path, *, quick: bool) -> Copy:
    manifest = exports.read_manifest(folder)
    files = sorted(folder.glob("*.parquet"))
    copy = Copy("export")
    if manifest is None:
        advice = f"without {exports.MANIFEST} it cannot be checked for completeness; {_AGAIN}"
        copy.checks.append(Check("manifests that are missing or damaged", 1, True, advice))
    else:
        copy.store_id = manifest.store_id
        copy.layout = manifest.layout
        faults = exports.faults(folder, manifest, hashes=not quick)
        advice = f"{'; '.join(faults)}; {_AGAIN}"
        copy.checks.append(
            Check("files that are missing, damaged or of another export", len(faults), True, advice)
        )
    unequal: list[str] = []
    unreadable: list[str] = []
    for file in files:
        part = manifest.tables.get(file.stem) if manifest else None
        try:
            n_rows = _n_rows(file, quick=quick)
        except (pl.exceptions.PolarsError, OSError):
            unreadable.append(file.name)
            continue
        copy.n_rows += n_rows
        if part is not None and part.rows != n_rows:
            unequal.append(
                f"{file.name} has {formats.counted(n_rows, 'row')}, its manifest says {part.rows:,}"
            )
    copy.checks += [
        Check("tables that cannot be read", len(unreadable), True, f"{unreadable}; {_AGAIN}"),
        Check(
            "tables with another number of rows than the manifest says",
            len(unequal),
            True,
            f"{'; '.join(unequal)}; {_AGAIN}",
        ),
        _modes([folder / exports.MANIFEST, *files]),
    ]
    return copy


def _n_rows(file: Path, *, quick: bool) -> int:
    """Count the rows of a Parquet file; where not quick by reading every column."""
    rows = pl.scan_parquet(file, glob=False)
    if not quick:
        rows.select(pl.all().hash().sum()).collect(engine="streaming")
    return int(rows.select(pl.len()).collect().item())


def _modes(files: list[Path]) -> Check:
    readable = []
    if os.name == "posix":  # elsewhere there are no such rights
        readable = [str(f) for f in files if f.is_file() and f.stat().st_mode & 0o077]
    return Check(
        "files with transcripts that other users can read",
        len(readable),
        False,
        f"chmod go-rwx {checks.listed(readable)}",
    )


# -- backups -----------------------------------------------------------------------------------


def _backup(path: Path, *, quick: bool) -> Copy:
    copy = Copy("backup")
    with database.reading(path) as connection:
        copy.layout = migrations.version(connection, path)
        copy.store_id = database.identity(connection)
    if copy.layout > schema.VERSION:
        copy.checks.append(
            Check("layouts newer than this workbench's", 1, True, "upgrade workbench")
        )
        return copy
    if not quick:
        read = reading.read_all(Store(path))
        copy.n_rows = read.n_rows
        read.altered = []  # its views are made anew where it is used
        if copy.layout < schema.VERSION:
            read.missing = []  # tables without which it is not whole are missed below
        copy.checks += checks.of_reading(read)
    if not any(check.is_damage for check in copy.checks):
        with open_backup(path, path.parent) as store:
            copy.checks += checks.of_relations(store)
            copy.checks += [] if quick else checks.of_derived(store)
    copy.checks.append(_modes([path]))
    return copy


@contextlib.contextmanager
def open_backup(backup: Path, where: Path) -> Iterator[Store]:
    """Open a temporary copy of a backup, upgraded to the current layout.

    Args:
        backup: its file.
        where: the folder in which the copy is made, and deleted at the end of the block.
    """
    with scratch.folder(where, ".backup-") as folder:
        copied = Path(shutil.copy(backup, folder / "backup.duckdb"))
        yield open_store(copied, take_in=False)


# -- of which store ------------------------------------------------------------------------------


def store_id(path: Path) -> str | None:
    """Return the id of the store that a store, backup, export or spool belongs to, or None."""
    if path.is_dir():
        manifest = exports.read_manifest(path)
        return manifest.store_id if manifest else spool.owner(path)
    with contextlib.suppress(WorkbenchError), database.reading(path) as connection:
        return database.identity(connection)
    return spool.owner(spool.folder_of(path))  # damaged: its spool has the id too


def beside(path: Path, wanted: str) -> Iterator[Path]:
    """Find the backups, exports and spools of a store in its folder, by the id that they carry."""
    own = {path, spool.folder_of(path)}
    for found in sorted(path.parent.iterdir()):
        is_one = found.name.endswith(BACKUP) if found.is_file() else _is_part(found)
        if is_one and found not in own and store_id(found) == wanted:
            yield found


def _is_part(folder: Path) -> bool:
    return folder.is_dir() and (exports.is_export(folder) or spool.is_spool(folder))


def refusal(path: Path, wanted: str | None) -> str | None:
    """Return a message if a source belongs to another store than the repaired one; else None."""
    source_id = store_id(path)
    if wanted is None or source_id is None or source_id == wanted:
        return None
    return (
        f"{path} is of another store (id {source_id[:8]}, not {wanted[:8]}); nothing of it was"
        " taken. To add it all the same: workbench import it into the copy"
    )
