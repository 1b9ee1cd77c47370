"""What killed commands leave beside a store goes with the next command of the kind."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.support import making
from workbench.store import exports, scratch


def _killed_in(folder: Path, prefix: str) -> None:
    """Let a process of its own make a folder, write a file, and die without a word."""
    pid = os.fork()
    if not pid:
        with scratch.folder(folder, prefix) as made:
            (made / "half.parquet").write_bytes(b"PAR1")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_what_a_killed_command_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    """By a lock that ends with its owner; no clock and no process id says who is dead."""
    _killed_in(tmp_path, ".staging-")
    (dead,) = tmp_path.iterdir()
    with scratch.folder(tmp_path, ".staging-") as one, scratch.folder(tmp_path, ".staging-") as two:
        assert set(tmp_path.iterdir()) == {one, two}
        assert dead not in {one, two}
    assert not list(tmp_path.iterdir())


def test_a_killed_export_leaves_nothing_after_the_next_one(tmp_path: Path) -> None:
    """Its half-written folder has another name, and goes."""
    store = making.small_store(tmp_path)
    _killed_in(tmp_path, ".export.partial-")
    store.export(tmp_path / "export")

    exports.verify(tmp_path / "export")
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".export.")]


@pytest.mark.parametrize("renamed", [False, True])
def test_an_exchange_that_a_kill_cut_short_is_finished(tmp_path: Path, renamed: bool) -> None:
    """Between two renames the earlier export has no name: it gets it back, or what is not its own
    goes to the one that took its place."""
    store = making.small_store(tmp_path)
    folder = tmp_path / "export"
    store.export(folder)
    (folder / "notes.txt").write_text("mine")
    before = folder.with_name(".export.before-0123abcd")
    if renamed:
        shutil.copytree(folder, before)
        (folder / "notes.txt").unlink()
    else:
        folder.rename(before)

    store.export(folder)

    assert (folder / "notes.txt").read_text() == "mine"
    exports.verify(folder)
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".export.")]
