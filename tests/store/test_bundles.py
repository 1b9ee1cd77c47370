"""Bundles: a slice as one file that another store reads, encrypted where that is wanted."""

import sys
import zipfile
from pathlib import Path

import pyrage
import pytest

from tests.support import making
from workbench.cli import main
from workbench.errors import ImportFormatError, StoreError
from workbench.store import Store, bundles, open_store

PASSPHRASE = "correct horse"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A small store."""
    return making.small_store(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A store with nothing in it."""
    return open_store(tmp_path / "elsewhere" / "other.duckdb", create=True)


def traces(store: Store, where: str = "true") -> list[tuple[object, ...]]:
    """The traces of a store."""
    columns = "trace_id, configuration, item, trial, score, cost_usd, n_messages"
    return store.sql(f"SELECT {columns} FROM trace_facts WHERE {where} ORDER BY trace_id").rows()


def test_a_bundle_read_back_is_the_slice(store: Store, other: Store, tmp_path: Path) -> None:
    file = tmp_path / "slice.zip"
    rows = store.export_bundle(file, "model:gpt-4o right")
    assert bundles.is_bundle(file)
    assert not bundles.is_encrypted(file)

    report = other.merge(file)
    assert report.rows_new["traces"] == rows["traces"] == 6
    assert traces(other) == traces(store, "model = 'gpt-4o' AND passed")
    assert not any(other.merge(file).rows_new.values())
    assert file.stat().st_mode & 0o777 == 0o600


def test_any_program_can_unpack_it(store: Store, tmp_path: Path) -> None:
    store.export_bundle(tmp_path / "slice.zip")
    with zipfile.ZipFile(tmp_path / "slice.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    fresh = open_store(tmp_path / "fresh.duckdb", create=True)
    fresh.merge(tmp_path / "unpacked")
    assert traces(fresh) == traces(store)


def test_an_encrypted_bundle_needs_its_passphrase(
    store: Store, other: Store, tmp_path: Path
) -> None:
    file = tmp_path / "slice.zip.age"
    store.export_bundle(file, passphrase=PASSPHRASE)
    assert bundles.is_encrypted(file)
    assert b"parquet" not in file.read_bytes()

    with pytest.raises(ImportFormatError, match=r"is encrypted; give its passphrase"):
        other.merge(file)
    with pytest.raises(ImportFormatError, match=r"cannot be decrypted: .*check the passphrase"):
        other.merge(file, passphrase="wrong")
    assert traces(other) == []
    other.merge(file, passphrase=PASSPHRASE)
    assert traces(other) == traces(store)


def test_age_itself_decrypts_it(store: Store, tmp_path: Path) -> None:
    """The library's own function, without any of ours."""
    file = tmp_path / "slice.zip.age"
    store.export_bundle(file, passphrase=PASSPHRASE)
    plain = tmp_path / "plain.zip"
    plain.write_bytes(pyrage.passphrase.decrypt(file.read_bytes(), PASSPHRASE))
    with zipfile.ZipFile(plain) as archive:
        assert archive.testzip() is None
        assert "manifest.json" in archive.namelist()


def test_without_the_library_the_error_says_what_to_install(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(StoreError, match=r"pip install 'trace-workbench\[encrypt\]'"):
        store.export_bundle(tmp_path / "slice.zip.age", passphrase=PASSPHRASE)
    assert not (tmp_path / "slice.zip.age").exists()


def repacked(file: Path, changes: dict[str, bytes | None]) -> Path:
    """A bundle with other members: new bytes, or None to leave one out."""
    target = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name not in changes:
                new.writestr(name, old.read(name))
        for name, data in changes.items():
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"../evil.parquet": b"x"}, r"changed\.zip is no bundle: it holds '\.\./evil\.parquet'"),
        ({"/etc/x": b"x"}, r"is no bundle: it holds '/etc/x'"),
        ({"scores.parquet": b"PAR1"}, r"changed\.zip is not the whole export .*scores\.parquet"),
        ({"calls.parquet": None}, r"calls\.parquet is missing"),
        ({"items.parquet": b"\0" * 200_000_000}, r"would unpack to 200,\d+,\d+ bytes"),
    ],
)
def test_what_is_no_bundle_is_refused_and_changes_nothing(
    store: Store, other: Store, tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    store.export_bundle(tmp_path / "slice.zip")
    file = repacked(tmp_path / "slice.zip", changes)
    if b"\0" * 9 in (changes.get("items.parquet") or b""):
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    with pytest.raises(ImportFormatError, match=message):
        other.merge(file)
    assert traces(other) == []
    assert [f.name for f in other.path.parent.iterdir() if f.name.startswith(".bundle")] == []


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_bundle_is_refused(
    store: Store, other: Store, tmp_path: Path, place: float
) -> None:
    file = tmp_path / "slice.zip"
    store.export_bundle(file)
    data = bytearray(file.read_bytes())
    at = int(place * len(data))
    data[at : at + 40] = bytes(b ^ 255 for b in data[at : at + 40])
    file.write_bytes(data)
    with pytest.raises((ImportFormatError, StoreError)):
        other.merge(file)
    assert traces(other) == []


def test_a_bundle_that_is_cut_is_refused(store: Store, other: Store, tmp_path: Path) -> None:
    file = tmp_path / "slice.zip"
    store.export_bundle(file)
    file.write_bytes(file.read_bytes()[:-100])
    assert not bundles.is_bundle(file)


def test_the_commands_write_and_read_bundles(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORKBENCH_PASSPHRASE", PASSPHRASE)
    fresh = tmp_path / "fresh.duckdb"
    for name, options in (("a.zip", []), ("b.zip.age", ["--encrypt"])):
        file = str(tmp_path / name)
        line = ["export", "all", "-o", file, "--store", str(store.path), *options]
        assert main(line) == 0
        assert f"to read it back, run: workbench import {file}" in capsys.readouterr().err
        assert main(["import", file, "--store", str(fresh)]) == 0
    assert traces(open_store(fresh)) == traces(store)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["all"], "VIEW all needs --folder FOLDER, or -o NAME.zip"),
        (["all", "-o", "x.csv"], "VIEW all needs --folder"),
        (["all", "--folder", "f", "-o", "x.zip"], "VIEW all needs --folder"),
        (["all", "-o", "x.zip", "--encrypt"], "--encrypt and -o NAME.zip.age need each other"),
        (["all", "-o", "x.zip.age"], "--encrypt and -o NAME.zip.age need each other"),
        (["traces", "--folder", "f"], "need VIEW all"),
        (["traces", "-o", "x.zip"], "has no known suffix"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    store: Store, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words, "--store", str(store.path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
