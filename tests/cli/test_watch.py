"""`workbench watch`: what changed is imported, what vanished is no error, Ctrl-C ends it."""

import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.session_files import gemini_answer, gemini_head, gemini_session, gemini_tokens
from tests.support.session_files import write as write_lines
from tests.support.session_folders import ClaudeFolder
from workbench.cli.watch import FolderWatcher
from workbench.errors import StoreError
from workbench.store import open_store


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return open_store(tmp_path / "s.duckdb", create=True)


@pytest.fixture
def folder(tmp_path):
    """A folder with sessions, and a file of no known format."""
    folder = tmp_path / "files"
    ClaudeFolder(folder, result_words=5).write(2, 1)
    (folder / "notes.txt").write_text("hello")
    return folder


def names(outcomes):
    """The files of outcomes."""
    return [outcome.path.name for outcome in outcomes]


def n_calls(store):
    """The calls in a store."""
    return store.sql("SELECT count(*) FROM calls").rows()[0][0]


def test_only_what_changed_is_imported(store, folder):
    watcher = FolderWatcher(store, [folder])
    first = watcher.look()
    second = watcher.look()
    new = write_lines(folder / "new" / "chat.jsonl", gemini_session())
    third = watcher.look()
    more = gemini_answer(9, 30, "More.", tokens=gemini_tokens(700, 5, 0, 0))
    write_lines(new, [*gemini_session(), more])
    before = n_calls(store)
    fourth = watcher.look()

    assert len(first) == 3
    assert second == []
    assert names(third) == ["chat.jsonl"]
    assert names(fourth) == ["chat.jsonl"]
    assert n_calls(store) == before + 1


def test_a_file_of_no_known_format_may_become_one(store, folder):
    watcher = FolderWatcher(store, [folder])
    watcher.look()
    write_lines(folder / "notes.txt", [gemini_head(), *gemini_session()[1:]])

    assert names(watcher.look()) == ["notes.txt"]


def test_what_vanishes_is_no_error(store, folder, tmp_path):
    watcher = FolderWatcher(store, [folder])
    watcher.look()
    kept = n_calls(store)
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    gone = watcher.look()
    shutil.move(moved, folder)
    back = watcher.look()

    assert gone == []
    assert all(outcome.status == "ok" for outcome in back)
    assert n_calls(store) == kept


def test_a_file_that_vanishes_while_it_is_looked_at_is_passed_over(store, folder, monkeypatch):
    victim = write_lines(folder / "victim.jsonl", gemini_session())
    watcher = FolderWatcher(store, [folder])
    look_at_files = watcher._look_at_files

    def vanishing():
        yield from list(look_at_files())
        victim.unlink()

    monkeypatch.setattr(watcher, "_look_at_files", vanishing)
    outcomes = watcher.look()

    assert "victim.jsonl" not in names(outcomes)
    assert len(outcomes) == 3


def test_a_busy_store_is_tried_again(store, folder, monkeypatch):
    watcher = FolderWatcher(store, [folder])

    def refuse(*_args, **_options):
        raise StoreError("another process writes")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "ingest", refuse)
        first = watcher.look()
    second = watcher.look()

    assert all(outcome.is_store_busy for outcome in first)
    assert names(second) == names(first)
    assert {outcome.status for outcome in second} == {"ok"}


def test_it_stops_between_two_files(store, folder):
    answers = itertools.chain([False, False], itertools.repeat(True))
    outcomes = FolderWatcher(store, [folder]).look(lambda: next(answers))

    assert len(outcomes) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_a_sentence(folder, tmp_path, number):
    path = tmp_path / "s.duckdb"
    line = [sys.executable, "-m", "workbench", "watch", str(folder), "--store", str(path)]
    with subprocess.Popen(
        [*line, "--every", "0.1"], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert "watching" in process.stderr.readline()
        written = [process.stderr.readline() for _ in range(3)]
        new = write_lines(folder / "new.jsonl", gemini_session())
        written.append(process.stderr.readline())
        process.send_signal(number)
        rest = process.stderr.read()

    assert all(text.endswith(": 1 trace written\n") for text in written)
    assert written[-1].startswith(new.name)
    assert rest == f"stopped watching; 4 traces written to {path}\n"
    assert process.returncode == 0
