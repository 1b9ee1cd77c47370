"""Ownership of spools: a folder belongs to the store whose id it carries.

A spool has the name of its store with a suffix, `traces.duckdb.spool`. Earlier versions dropped the
last suffix of the store first, so that `gpt-4.1` and `gpt-4.5` shared a spool; such a folder is
moved if only one store can own it.
"""

import contextlib
import logging
import os
from pathlib import Path

from workbench import spool
from workbench.errors import StoreError
from workbench.store import database

_LOG = logging.getLogger(__name__)
_LOCKS = (".turnstile", ".readers")
FOREIGN = "foreign"  # folder within a spool: files that another store's collector wrote
# files that name their store: segments, journals, claims, notes of batches (with their results)
_OWNED = ("*-*.jsonl", f"{spool.ARRIVED}/*-*.jsonl", "claims/*-*.jsonl", f"{spool.BATCHES}/*.json")


def settle(path: Path, store_id: str) -> None:
    """Make sure that the spool folder beside a store belongs to that store.

    A folder in the old place is moved, as is that of a store which was renamed within its folder.
    Files that belong to another store are moved aside, with a warning; in a folder that cannot be
    written, nothing changes.

    Raises:
        StoreError: a collector of another store is still writing there.
    """
    folder = spool.folder_of(path)
    with contextlib.suppress(OSError):
        _take_over_old(path, folder)
        _follow(path, folder, store_id)
    owner = spool.owner(folder)
    if owner not in {None, store_id}:
        _set_aside(folder, str(owner))
    with contextlib.suppress(OSError):
        if folder.is_dir():
            spool.write_owner(folder, store_id)
            _refuse_foreign(folder, store_id)


def is_live(folder: Path) -> bool:
    """Return whether a collector works in a spool."""
    files = (
        *folder.glob("*-*.jsonl"),
        *folder.glob("claims/*-*.jsonl"),
        *folder.glob("control/*/lock"),
    )
    return any(spool.is_live(file) for file in files)


def _take_over_old(path: Path, folder: Path) -> None:
    """Move the folder that was named after the file's stem."""
    old = path.with_suffix(".spool")
    if old == folder or not old.is_dir() or spool.owner(old) is not None:
        return
    if not any(entry.name not in _LOCKS for entry in old.iterdir()):
        return
    sharers = [p.name for p in path.parent.iterdir() if p != path and _may_own(p, old)]
    if sharers:
        _LOG.warning(
            "%s may belong to %s or to %s, and nothing in it says to which; "
            "nothing of it was taken in. "
            "Rename it to NAME.spool, "
            "NAME being the whole file name of the store that collected it",
            old,
            path.name,
            ", ".join(sorted(sharers)),
        )
    elif is_live(old):
        _LOG.warning(
            "a collector of an earlier version still writes to %s; it is taken in later", old
        )
    else:
        _move_into(old, folder)


def _may_own(other: Path, old: Path) -> bool:
    """Return whether a file is a database whose spool had the same name."""
    if other.with_suffix(".spool") != old or not other.is_file():
        return False
    if database.is_open(other):  # closing a file that is open here would let go of its locks
        return True
    with other.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _move_into(old: Path, new: Path) -> None:
    """Move the files of a folder; skips those that another process moves, or that exist already."""
    new.mkdir(mode=0o700, exist_ok=True)
    for entry in list(old.iterdir()):
        target = new / entry.name
        with contextlib.suppress(FileNotFoundError):
            if entry.name in _LOCKS:
                entry.unlink()
            elif not target.exists():
                entry.rename(target)
            elif entry.is_dir():
                _move_into(entry, target)
    with contextlib.suppress(OSError):
        old.rmdir()


def _follow(path: Path, folder: Path, store_id: str) -> None:
    """Find the spool of a store renamed within its folder: same id, and its own store is gone."""
    if folder.is_dir():
        return
    for other in sorted(path.parent.glob("*.spool")):
        gone = not other.with_name(other.name.removesuffix(".spool")).exists()
        if gone and spool.owner(other) == store_id and not is_live(other):
            other.rename(folder)
            return


def _set_aside(folder: Path, owner: str) -> None:
    conflict = f"{folder} belongs to another store (id {owner[:8]})"
    if is_live(folder):
        raise StoreError(
            f"{conflict}, whose collector still runs; stop it, or name another file with --store"
        )
    aside = folder.with_name(f"{folder.name.removesuffix('.spool')}.{owner[:8]}.spool")
    if aside.exists():
        aside = aside.with_name(f"{aside.name.removesuffix('.spool')}-{os.getpid()}.spool")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return  # another process has moved it
    except OSError as error:
        raise StoreError(
            f"{conflict} and cannot be moved: {error.strerror}; move it yourself"
        ) from error
    _LOG.warning(
        "%s; it was moved to %s and nothing of it was taken in. "
        "To take it into this store: workbench import %s",
        conflict,
        aside,
        aside,
    )


def _refuse_foreign(folder: Path, store_id: str) -> None:
    """Set aside the files within a spool that another store's collector wrote, and say so.

    Segments, journals of unfinished attempts, claims and notes of batches: taken in, they would be
    answers that this store never paid for, or attempts in flight that no collector makes.
    """
    moved: list[tuple[Path, str]] = []
    stuck: list[Path] = []
    for pattern in _OWNED:
        for path in sorted(folder.glob(pattern)):
            if not spool.is_foreign(path, store_id) or spool.is_live(path):
                continue
            owner = str(spool.file_owner(path))[:8]
            try:
                for part in (path, path.with_suffix(".results.jsonl")):
                    _set_file_aside(folder, part)
            except OSError:
                stuck.append(path)
            else:
                moved.append((path, owner))
    aside = folder / FOREIGN
    if moved:
        owners = ", ".join(sorted({owner for _, owner in moved}))
        _LOG.warning(
            "%d files in %s were written for another store (id %s); they are set aside in %s. "
            "They belong into the spool of that store%s",
            len(moved),
            folder,
            owners,
            aside,
            f"; to take its answers into this store: workbench import {aside}"
            if any(path.parent == folder for path, _ in moved)
            else "",
        )
    if stuck:
        _LOG.warning(
            "%d files in %s were written for another store and cannot be moved; nothing of them is "
            "used. Move them yourself: %s",
            len(stuck),
            folder,
            ", ".join(str(path) for path in stuck[:3]),
        )


def _set_file_aside(folder: Path, path: Path) -> None:
    target = folder / FOREIGN / path.relative_to(folder)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(target)
