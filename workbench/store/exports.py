"""Exports: a folder with a Parquet file for each table and a manifest, written atomically."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec

from workbench import private, schema
from workbench.decoding import UNDECODABLE
from workbench.errors import ImportFormatError, StoreError
from workbench.store import causes, database, scratch
from workbench.version import __version__

MANIFEST = "manifest.json"
_FORMAT = "workbench export 2"
_FIRST_FORMAT = "workbench export 1"  # it did not list tables without rows
# what each export needs to know of a table's rows to leave out those of other slices
_BY_TRACE = (
    "traces",
    "calls",
    "call_copies",
    "tool_calls",
    "scores",
    "energy",
    "messages",
    "annotations",
)
_DESCRIBING = ("runs", "tasks", "items", "configurations", "energy_balances")
_BLOCK = 1 << 20


class Part(msgspec.Struct):
    """One table's file: how many rows and bytes it has, and the SHA-256 of its bytes.

    A table without rows has no file, 0 bytes and no hash.
    """

    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, omit_defaults=True):
    """What an export holds.

    Attributes:
        format: of the manifest; anything else is of a later version.
        workbench: version of the program that wrote it.
        layout: of the store's tables.
        store_id: the store that it came from; null where a folder was given its manifest later.
        where: the slice, as it is written on the command line; "" for all.
        tables: by name, every table of the layout.
    """

    format: str
    workbench: str
    layout: int
    tables: dict[str, Part]
    store_id: str | None = None
    where: str = ""


def is_export(path: Path) -> bool:
    """Return whether a folder was written by `export`, or holds its tables."""
    tables = (path / f"{name}.parquet" for name in ("traces", "configurations"))
    return read_manifest(path) is not None or all(table.is_file() for table in tables)


def read_manifest(folder: Path) -> Manifest | None:
    """Read a folder's manifest; None where it has none of ours."""
    file = folder / MANIFEST
    if not file.is_file():  # the read of a pipe would wait for a writer
        return None
    try:
        data = file.read_bytes()
        return msgspec.json.decode(data, type=Manifest)
    except (OSError, *UNDECODABLE):
        return None


def verify(folder: Path) -> Manifest:
    """Check that a folder is one whole export.

    Raises:
        ImportFormatError: it has no manifest, lacks a part, or a part is damaged or of another
            export.
    """
    manifest = read_manifest(folder)
    insist = "export it again, or take its files as they are with --as-tables"
    if manifest is None:
        raise ImportFormatError(
            f"{folder} has no {MANIFEST}, so it cannot be checked for completeness; {insist}"
        )
    if manifest.format not in {_FORMAT, _FIRST_FORMAT}:
        raise ImportFormatError(
            f"{folder} is of the format {manifest.format!r}, {_FORMAT!r} is known; "
            "upgrade workbench"
        )
    problems = faults(folder, manifest)
    if problems:
        raise ImportFormatError(
            f"{folder} is not the whole export that its {MANIFEST} describes: "
            f"{'; '.join(problems)}; {insist}"
        )
    return manifest


def faults(folder: Path, manifest: Manifest, *, hashes: bool = True) -> list[str]:
    """List where a folder's files are not those of its manifest; without `hashes` sizes must do."""
    return list(_faults(folder, manifest, hashes=hashes))


def _faults(folder: Path, manifest: Manifest, *, hashes: bool) -> Iterator[str]:
    for name, part in manifest.tables.items():
        if name not in schema.TABLES:  # also what is no name of a file, or leads out of the folder
            yield f"it has a table {name[:40]!r}, which this version does not know"
        elif fault := _fault(folder / f"{name}.parquet", part, hashes=hashes):
            yield fault
    of_old = " (exports before format 2 list no tables without rows)"
    of_old = of_old if manifest.format == _FIRST_FORMAT else ""
    for name in sorted(schema.TABLES.keys() - manifest.tables.keys()):
        if (folder / f"{name}.parquet").exists():
            yield f"{name}.parquet does not belong to it"
        elif schema.TABLES[name].since <= manifest.layout:
            yield f"its {MANIFEST} does not list {name}{of_old}"


def _fault(file: Path, part: Part, *, hashes: bool) -> str | None:
    if not part.rows:
        return f"{file.name} does not belong to it" if file.exists() else None
    if file.is_symlink():
        return f"{file.name} is a link, not the file itself"
    if not file.is_file():
        return f"{file.name} is missing"
    if file.stat().st_size != part.bytes or (hashes and _sha256(file) != part.sha256):
        return f"{file.name} is damaged or of another export"
    return None


def export(
    path: Path, folder: Path, predicate: str, *, where: str = "", overwrite: bool = False
) -> dict[str, int]:
    """Write the rows of a slice, and all that they refer to: the whole folder, or nothing.

    An earlier export of the same slice of the same store is replaced; other files beside its
    tables stay.

    Args:
        path: the store.
        folder: where to write.
        predicate: the slice in SQL, over `trace_facts`.
        where: the slice as the user wrote it.
        overwrite: replace an export of another store or slice as well.

    Returns:
        Rows by table.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
    """
    folder = folder.resolve()
    if folder.exists() and not (
        folder.is_dir() and (is_export(folder) or not any(folder.iterdir()))
    ):
        raise StoreError(f"{folder} is there and is no export; name a new folder")
    if not overwrite and (difference := _difference(path, folder, where)):
        raise StoreError(
            f"{folder} holds an export {difference}; name another folder, or replace it with"
            " --overwrite"
        )
    with contextlib.ExitStack() as stack:
        with _explained(folder):
            partial = stack.enter_context(scratch.folder(folder.parent, f".{folder.name}.partial-"))
            _finish_exchange(folder)
        manifest = _write(path, partial, predicate, where)
        with _explained(folder):
            write_manifest(partial, manifest)
            for file in partial.iterdir():
                _sync(file)
            _put(partial, folder)
    return {name: manifest.tables[name].rows for name in schema.TABLES}


def _difference(path: Path, folder: Path, where: str) -> str | None:
    """Describe what an earlier export is of, unless it is of the same store and slice."""
    if not is_export(folder):
        return None
    manifest = read_manifest(folder)
    with database.reading(path) as connection:
        store_id = database.identity(connection)
    if manifest is None or manifest.store_id is None:
        return "that does not say which store it is of"
    if manifest.store_id != store_id:
        return f"of another store (id {manifest.store_id[:8]}, not {str(store_id)[:8]})"
    if manifest.where != where:
        return f"of another slice ({manifest.where or 'all traces'})"
    return None


def _write(path: Path, folder: Path, predicate: str, where: str) -> Manifest:
    rows: dict[str, int] = {}
    with (
        private.only_owner(),
        database.reading(path, permissions=database.Permissions(folders=(folder,))) as connection,
    ):
        store_id = database.identity(connection)
        connection.execute(
            f"CREATE TEMP TABLE chosen AS SELECT trace_id FROM trace_facts WHERE {predicate}"
        )
        for table in schema.TABLES.values():
            query = (
                f"FROM {table.name} {_belongs(table.name, predicate)} "
                f"ORDER BY {', '.join(table.key)}"
            )
            target = quoted(folder / f"{table.name}.parquet")
            copy = (
                f"COPY ({query}) TO '{target}' "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 15)"
            )
            try:
                written = connection.execute(copy).fetchall()
            except duckdb.IOException as error:
                if (refused := causes.refusal(folder)) is None:
                    raise
                why = causes.reason(refused, "another folder")
                raise StoreError(
                    f"cannot write to {folder.parent}: {why}; nothing was exported"
                ) from error
            rows[table.name] = int(written[0][0])
            if not rows[table.name]:
                (folder / f"{table.name}.parquet").unlink()
    return describe(folder, rows, store_id=store_id, where=where)


def describe(
    folder: Path, rows: dict[str, int], *, store_id: str | None = None, where: str = ""
) -> Manifest:
    """Make the manifest of a folder of tables from its files and their rows."""
    parts = {}
    for name, n in rows.items():
        file = folder / f"{name}.parquet"
        parts[name] = Part(n, file.stat().st_size, _sha256(file)) if n else Part(0, 0, "")
    return Manifest(_FORMAT, __version__, schema.VERSION, parts, store_id, where)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest as indented JSON."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    private.write_bytes(folder / MANIFEST, data + b"\n")


def _put(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; where an export is there already, in its place."""
    if not folder.exists():
        partial.rename(folder)
        return
    before = folder.with_name(f"{_before(folder)}{secrets.token_hex(4)}")
    folder.rename(before)
    partial.rename(folder)
    _clear(before, folder)


def _before(folder: Path) -> str:
    return f".{folder.name}.before-"


def _clear(before: Path, folder: Path) -> None:
    """Remove an export that another one has replaced; what is not its own goes to the new one."""
    ours = {MANIFEST, *(f"{name}.parquet" for name in schema.TABLES)}
    for entry in before.iterdir():
        if entry.name not in ours and not (folder / entry.name).exists():
            entry.rename(folder / entry.name)
    shutil.rmtree(before)


def _finish_exchange(folder: Path) -> None:
    """Recover from a killed export: the earlier one gets its name back, or goes if replaced."""
    name = re.compile(rf"{re.escape(_before(folder))}[0-9a-f]{{8}}")
    for before in [entry for entry in folder.parent.iterdir() if name.fullmatch(entry.name)]:
        if folder.exists():
            _clear(before, folder)
        else:
            before.rename(folder)


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {causes.reason(error, 'another folder')}"
        ) from error


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _belongs(table: str, predicate: str) -> str:
    if table in _BY_TRACE:
        return "SEMI JOIN chosen USING (trace_id)"
    if table in _DESCRIBING and predicate != "TRUE":
        return f"WHERE {_is_chosen(schema.TABLES[table].key[0])}"
    if table == "results" and predicate != "TRUE":
        return f"WHERE {' AND '.join(map(_is_chosen, ('run_id', 'configuration_id', 'task_id')))}"
    if table == "contents":
        return (
            "WHERE content_id IN "
            "(SELECT content_id FROM messages SEMI JOIN chosen USING (trace_id))"
        )
    return ""


def _is_chosen(key: str) -> str:
    return f"{key} IN (SELECT {key} FROM traces SEMI JOIN chosen USING (trace_id))"


def quoted(path: Path) -> str:
    """Write a path within the quotes of SQL."""
    return str(path).replace("'", "''")


def parquet(file: Path) -> str:
    """Return SQL that reads exactly one Parquet file: `*`, `?` and `[` in its path are escaped."""
    plain = "".join(f"[{c}]" if c in "*?[" else c for c in quoted(file))
    return f"read_parquet('{plain}')"
