"""Exports are whole or not at all, and a folder that is not a whole one is refused."""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.support import making
from workbench import datasets, schema, spool
from workbench.cli import main
from workbench.errors import ImportFormatError, StoreError
from workbench.store import Store, copies, exports, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The export of a small store."""
    making.small_store(tmp_path).export(tmp_path / "export")
    return tmp_path / "export"


def fresh(tmp_path: Path) -> Store:
    """A store with nothing in it."""
    return open_store(tmp_path / "new.duckdb", create=True)


def test_the_manifest_says_what_the_export_holds(tmp_path: Path) -> None:
    """Tables with rows and hashes, the store, the slice, the versions."""
    store = making.small_store(tmp_path)
    rows = store.export(tmp_path / "export", "model:gpt-4o right")

    said = json.loads((tmp_path / "export" / "manifest.json").read_bytes())

    assert {name: part["rows"] for name, part in said["tables"].items()} == rows
    assert said["store_id"] == store.id
    assert said["where"] == "model:gpt-4o right"
    assert said["layout"] == schema.VERSION
    assert exports.verify(tmp_path / "export").tables["traces"].rows == 6


def test_a_manifest_lists_every_table_of_its_layout(folder: Path, tmp_path: Path) -> None:
    """A file that is gone, with its entry, was an empty table to whoever read it."""
    (folder / "scores.parquet").unlink(missing_ok=True)
    for layout in (schema.VERSION, 1):
        manifest = exports.read_manifest(folder)
        assert manifest is not None
        manifest.tables.pop("scores", None)
        manifest.layout = layout
        exports.write_manifest(folder, manifest)

        with pytest.raises(ImportFormatError, match=r"does not list scores"):
            fresh(tmp_path).merge(folder)

    assert any(check.is_damage for check in copies.inspect(folder).checks)


def test_a_part_of_an_export_is_refused_and_the_whole_then_has_all(
    folder: Path, tmp_path: Path
) -> None:
    """Traces came without calls, and the whole later was "ok" and changed nothing."""
    part, store = tmp_path / "part", fresh(tmp_path)
    shutil.copytree(folder, part)
    (part / "calls.parquet").unlink()

    with pytest.raises(ImportFormatError, match=r"calls\.parquet is missing"):
        store.merge(part)
    (part / "manifest.json").unlink()
    with pytest.raises(ImportFormatError, match=r"has no manifest\.json.*--as-tables"):
        store.merge(part)
    assert store.count() == 0

    store.merge(folder)
    assert store.sql("SELECT count(*) AS n FROM calls")["n"].to_list() == [33]


def test_a_folder_of_two_exports_is_refused(folder: Path, tmp_path: Path) -> None:
    """Whichever file is of the other one, also one that this one lacks."""
    other = tmp_path / "other"
    Store(tmp_path / "traces.duckdb").export(other, "model:gpt-5")
    mixed, more = tmp_path / "mixed", tmp_path / "more"
    shutil.copytree(folder, mixed)
    shutil.copy(other / "calls.parquet", mixed)
    shutil.copytree(folder, more)
    shutil.copy(other / "calls.parquet", more / "energy_balances.parquet")

    with pytest.raises(ImportFormatError, match=r"calls\.parquet is damaged or of another export"):
        fresh(tmp_path).merge(mixed)
    with pytest.raises(ImportFormatError, match=r"energy_balances\.parquet does not belong"):
        fresh(tmp_path).merge(more)


def test_one_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    """By the hash, before anything is written."""
    file = folder / "messages.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(ImportFormatError, match=r"messages\.parquet is damaged"):
        fresh(tmp_path).merge(folder)


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder with the name nor one beside it; what was there stays."""
    store = making.small_store(tmp_path)
    store.export(tmp_path / "export", "model:gpt-5")
    before = exports.verify(tmp_path / "export")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "write_manifest", full)
    for name in ("export", "new"):
        with pytest.raises(StoreError, match="the disk is full; make room"):
            store.export(tmp_path / name, overwrite=True)

    assert exports.verify(tmp_path / "export") == before
    assert not [p for p in tmp_path.iterdir() if p.name == "new" or "partial" in p.name]


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path: Path) -> None:
    """Tables that the new one lacks go; a script beside them stays; any other folder is left
    alone."""
    store, folder = making.small_store(tmp_path), tmp_path / "export"
    store.export(folder)
    (folder / "make.py").write_text("x")
    store.export(folder, "model:gpt-5 -right", overwrite=True)

    assert exports.verify(folder).where == "model:gpt-5 -right"
    assert (folder / "make.py").read_text() == "x"

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("x")
    with pytest.raises(StoreError, match="is no export"):
        store.export(tmp_path / "home")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_as_tables_takes_the_files_as_they_are(folder: Path, tmp_path: Path, capsys) -> None:
    """For those who know what is in the folder."""
    (folder / "manifest.json").unlink()
    store = ["--store", str(tmp_path / "new.duckdb")]

    assert main(["import", str(folder), *store]) == 1
    assert "--as-tables" in "".join(capsys.readouterr())
    assert main(["import", str(folder), "--as-tables", *store]) == 0
    assert open_store(tmp_path / "new.duckdb").count() == 31


@pytest.mark.parametrize("name", ["star*", "run[1]", "what?", "[a]*[b]"])
def test_a_path_is_never_a_pattern(name: str, tmp_path: Path) -> None:
    """ "star*" took the rows of "starX" as well."""
    store = making.small_store(tmp_path)
    names = [name, "starX", "run1", "whatX", "a_b"]
    for other in names:
        store.export(tmp_path / other, "model:gpt-5" if other == name else "model:gpt-4o")
    new = open_store(tmp_path / name.replace("?", "") / "new.duckdb", create=True)

    new.merge(tmp_path / name)

    assert set(new.sql("FROM configurations")["model"]) == {"gpt-5"}
    assert new.count() == store.count("model:gpt-5")


def test_a_store_cannot_have_a_question_mark_in_its_path(tmp_path: Path) -> None:
    """DuckDB takes what follows for no part of the name when it writes beside the file."""
    with pytest.raises(StoreError, match="question mark"):
        open_store(tmp_path / "what?" / "new.duckdb", create=True)


@pytest.mark.parametrize("folder", [datasets.sample_traces_dir(), datasets.by_hand_dir()])
def test_shipped_exports_are_whole(folder: Path) -> None:
    """Their manifests fit their files."""
    manifest = exports.verify(folder)

    for name, part in manifest.tables.items():
        assert part.rows == 0 or (
            pl.scan_parquet(folder / f"{name}.parquet").select(pl.len()).collect().item()
            == part.rows
        )


def test_a_pipe_in_a_folder_of_others_is_not_read(folder: Path, tmp_path: Path) -> None:
    """The read of one waits for a writer that never comes."""
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    os.mkfifo(folder / "run-1.jsonl")

    assert exports.read_manifest(folder) is None
    assert spool.segments(folder) == []
    with pytest.raises(ImportFormatError, match=r"has no manifest\.json"):
        fresh(tmp_path).merge(folder)


def test_a_link_is_no_part_of_an_export(folder: Path, tmp_path: Path) -> None:
    """The engine may not follow it out of the folder."""
    (folder / "calls.parquet").rename(tmp_path / "calls.parquet")
    (folder / "calls.parquet").symlink_to(tmp_path / "calls.parquet")

    with pytest.raises(ImportFormatError, match=r"calls\.parquet is a link"):
        fresh(tmp_path).merge(folder)


def test_an_export_of_something_else_is_replaced_only_on_request(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup was overwritten by the next store, or by a slice of itself, without a word."""
    before = exports.read_manifest(folder)
    other, own = fresh(tmp_path), making.small_store(tmp_path)
    run = ["export", "all", "--folder", str(folder), "--store"]

    with pytest.raises(StoreError, match=r"of another store .*--overwrite"):
        other.export(folder)
    with pytest.raises(StoreError, match=r"of another slice \(all traces\)"):
        own.export(folder, "right")
    assert main([*run, str(other.path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert exports.read_manifest(folder) == before
    own.export(folder)
    assert exports.read_manifest(folder) == before
    assert main([*run, str(other.path), "--overwrite"]) == 0
    assert exports.verify(folder).store_id == other.id


@pytest.mark.parametrize("name", ["x" * 300, "../secret", "a/b", "a\0b", "calls_2"])
def test_a_table_that_is_none_of_a_store_is_a_fault(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """The name comes from others: it may be no name of a file, or one outside the folder."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["tables"][name] = {"rows": 1, "bytes": 1, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(ImportFormatError, match="which this version does not know"):
        fresh(tmp_path).merge(folder)
