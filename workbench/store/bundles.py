"""Bundles: a slice of a store as one zip file, which can be encrypted.

A bundle is an export (`exports`) with its files in a zip, uncompressed, as Parquet is compressed
already. An encrypted one is an age file (age-encryption.org/v1) with a passphrase: the program
`age` decrypts it as well.
"""

import contextlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import private, schema
from workbench.errors import ImportFormatError, StoreError
from workbench.store import causes, exports, scratch

SUFFIX, ENCRYPTED = ".zip", ".age"
_AGE = b"age-encryption.org/"
_BLOCK = 1 << 20
_RATIO = 200  # unpacked ÷ packed, of all files together
_RATIO_FREE = 1 << 26  # bytes; below this unpacked size any ratio is allowed
_MEMBERS = {exports.MANIFEST, *(f"{name}.parquet" for name in schema.TABLES)}


def is_encrypted(path: Path) -> bool:
    """Whether a file is encrypted by age."""
    try:
        with private.open_regular(path) as file:
            return file.read(len(_AGE)) == _AGE
    except OSError:
        return False


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle; an encrypted file is taken for one."""
    if is_encrypted(path):
        return True
    try:
        with private.open_regular(path) as file:
            if file.read(2) != b"PK":
                return False
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                return set(archive.namelist()) >= {exports.MANIFEST, "traces.parquet"}
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def write(
    path: Path, file: Path, predicate: str, *, where: str = "", passphrase: str | None = None
) -> dict[str, int]:
    """Write a slice as one file: the whole file, or nothing.

    Args:
        path: the store.
        file: what to write; one that is there is replaced.
        predicate: the slice in SQL, over `trace_facts`.
        where: the slice as the user wrote it.
        passphrase: encrypts it; the whole bundle is held in memory then.

    Returns:
        Rows by table.

    Raises:
        StoreError: it cannot be written, or the library that encrypts is not installed.
    """
    if passphrase is not None:
        _pyrage()  # before the work
    with _explained(file), scratch.folder(file.parent, f".{file.name}.partial-") as folder:
        rows = exports.export(path, folder / "export", predicate, where=where)
        packed = folder / "bundle"
        with private.only_owner(), zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for part in sorted((folder / "export").iterdir()):
                archive.write(part, part.name)
        if passphrase is not None:
            encrypt = _pyrage().passphrase.encrypt
            private.write_bytes(packed, encrypt(packed.read_bytes(), passphrase))
        packed.replace(file)
    return rows


@contextlib.contextmanager
def unpacked(file: Path, parent: Path, passphrase: str | None = None) -> Iterator[Path]:
    """Unpack a bundle to a scratch folder, for the length of the block.

    Args:
        file: the bundle.
        parent: where to make the folder.
        passphrase: of an encrypted one.

    Raises:
        ImportFormatError: it is damaged, holds what no bundle holds, or the passphrase is wrong.
        StoreError: the folder cannot be written.
    """
    with _explained(file), scratch.folder(parent, ".bundle-") as folder:
        packed = file
        if is_encrypted(file):
            packed = folder / "bundle"
            private.write_bytes(packed, _decrypted(file, passphrase))
        target = folder / "export"
        private.make_folder(target)
        _unpack(file, packed, target)
        try:
            yield target
        except ImportFormatError as error:
            raise ImportFormatError(str(error).replace(str(target), str(file))) from error


def _unpack(file: Path, packed: Path, target: Path) -> None:
    try:
        with (
            private.only_owner(),
            private.open_regular(packed) as data,
            zipfile.ZipFile(data) as archive,
        ):
            members = archive.infolist()
            names = [member.filename for member in members]
            foreign = set(names) - _MEMBERS
            if foreign or len(set(names)) < len(names):
                named = f"it holds {min(foreign)[:60]!r}" if foreign else "it holds a file twice"
                raise ImportFormatError(f"{file} is no bundle: {named}")
            size = sum(member.file_size for member in members)
            if size > max(_RATIO_FREE, _RATIO * packed.stat().st_size):
                raise ImportFormatError(
                    f"{file} would unpack to {size:,} bytes, more than {_RATIO} times its size;"
                    " not read"
                )
            for member in members:
                # `zipfile` reads no more than the stated size, and compares the checksum
                with archive.open(member) as part, (target / member.filename).open("xb") as copy:
                    shutil.copyfileobj(part, copy, _BLOCK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ImportFormatError(f"{file} is damaged: {error}; copy it again") from error


def _decrypted(file: Path, passphrase: str | None) -> bytes:
    if passphrase is None:
        raise ImportFormatError(
            f"{file} is encrypted; give its passphrase at the prompt of workbench import, or in"
            " WORKBENCH_PASSPHRASE"
        )
    pyrage = _pyrage()
    try:
        return bytes(pyrage.passphrase.decrypt(file.read_bytes(), passphrase))
    except pyrage.DecryptError as error:
        raise ImportFormatError(
            f"{file} cannot be decrypted: {error}; check the passphrase, or copy the file again"
        ) from error


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError:
        raise StoreError(
            "encryption needs the package pyrage: pip install 'trace-workbench[encrypt]'"
        ) from None
    return pyrage


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{file}: {causes.reason(error, 'another folder')}") from error
