"""Folders of sessions: every call once and at its price, beside the generator's own ledger."""

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.session_folders import ClaudeFolder, CodexFolder, Ledger
from workbench import sources
from workbench.cli import main
from workbench.cli.import_files import FileImporter
from workbench.cli.import_progress import ImportBar
from workbench.cli.import_report import ImportOutcome, remarks
from workbench.errors import StoreError
from workbench.store import Store, open_store

# USD per million tokens: fresh input, cache read, write for 5 minutes, for an hour, output
PRICES = {
    "claude-opus-4-5-20251101": (5, 0.5, 6.25, 10, 25),
    "claude-sonnet-4-5-20250929": (3, 0.3, 3.75, 6, 15),
    "claude-haiku-4-5-20251001": (1, 0.1, 1.25, 2, 5),
    "gpt-5": (1.25, 0.125, 0, 0, 10),
    "gpt-5-codex": (1.25, 0.125, 0, 0, 10),
}
KINDS = ("fresh", "read", "write_5m", "write_1h", "output")
TOTALS = """SELECT strftime(started_at, '%Y-%m-%d'), call_model,
  sum(input_tokens - coalesce(cache_read_tokens, 0) - coalesce(cache_write_5m_tokens, 0)
    - coalesce(cache_write_1h_tokens, 0)),
  sum(cache_read_tokens), coalesce(sum(cache_write_5m_tokens), 0),
  coalesce(sum(cache_write_1h_tokens), 0), sum(output_tokens), sum(cost_usd)
FROM call_facts GROUP BY ALL ORDER BY ALL"""


def claude(folder: Path) -> Ledger:
    """A small folder with a resumed and a forked session and a sub-agent."""
    ledger = ClaudeFolder(folder, result_words=20).write(8, 3)
    settle(folder)
    return ledger


def settle(folder: Path) -> None:
    """Give all files a time in the past: what changes again would have another."""
    for file in folder.rglob("*.jsonl"):
        os.utime(file, ns=(10**18, 10**18))


def imported(store: Store, folder: Path) -> list[ImportOutcome]:
    """Import a folder."""
    return list(FileImporter(store).files(sources.detect_files(folder)))


def expected(ledger: Ledger) -> list[tuple[object, ...]]:
    """The rows of TOTALS, from the generator's ledger."""
    by_day: dict[tuple[str, str], Counter[str]] = {}
    for (day, model, kind), tokens in ledger.tokens.items():
        by_day.setdefault((day, model), Counter())[kind] += tokens
    rows: list[tuple[object, ...]] = []
    for (day, model), tokens in sorted(by_day.items()):
        counts = [tokens[kind] for kind in KINDS]
        cost = sum(n * price for n, price in zip(counts, PRICES[model], strict=True)) / 1e6
        rows.append((day, model, *counts, pytest.approx(cost, abs=1e-9)))
    return rows


def whole(store: Store) -> list[object]:
    """What the store holds of sessions, in an order of its own."""
    tables = ("runs", "items", "traces", "calls", "tool_calls", "messages", "call_copies")
    return [store.sql(f"FROM {table} ORDER BY ALL").rows() for table in tables]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "s.duckdb", create=True)


def test_a_folder_of_claude_code_costs_what_its_ledger_says(store: Store, tmp_path: Path) -> None:
    """By day and model, tokens exactly and dollars to less than a cent of a cent."""
    ledger = claude(tmp_path / "claude")

    outcomes = imported(store, tmp_path / "claude")

    assert {o.status for o in outcomes} == {"ok"}
    assert store.sql("SELECT count(*) FROM calls").rows() == [(ledger.n_calls,)]
    assert store.sql(TOTALS).rows() == expected(ledger)


def test_a_folder_of_codex_costs_what_its_ledger_says(store: Store, tmp_path: Path) -> None:
    """Forked threads and counts that are told again among them."""
    ledger = CodexFolder(tmp_path / "codex", result_words=20).write(6, 3)

    imported(store, tmp_path / "codex")

    assert store.sql(TOTALS).rows() == expected(ledger)


def test_files_together_are_what_they_are_one_by_one(store: Store, tmp_path: Path) -> None:
    """A transaction of many files leaves what many transactions do."""
    claude(tmp_path / "claude")
    other = open_store(tmp_path / "o.duckdb", create=True)

    together = imported(store, tmp_path / "claude")
    for file in sources.detect_files(tmp_path / "claude"):
        other.ingest(sources.read(file.path))

    assert whole(store) == whole(other)
    new = [o.ingest.rows_new["traces"] for o in together if o.ingest is not None]
    assert new == [1] * len(together)


def test_a_bad_file_leaves_the_others(store: Store, tmp_path: Path) -> None:
    """Outcomes come in the order of the files."""
    claude(tmp_path / "claude")
    bad = tmp_path / "claude" / "projects" / "-work-p1" / "a.json"
    bad.write_text('{"sessionId": "g", "projectHash": "h", "messages": [')

    outcomes = imported(store, tmp_path / "claude")

    paths = [f.path for f in sources.detect_files(tmp_path / "claude")]
    assert [o.path for o in outcomes] == paths
    assert [o.path for o in outcomes if o.status == "failed"] == [bad]
    assert store.sql("SELECT count(*) FROM traces").rows() == [(len(paths) - 1,)]


class Refusing:
    """A store that refuses one session."""

    def __init__(self, store: Store, refused: str) -> None:
        """Stand before a store."""
        self._store = store
        self._refused = refused
        self.path = store.path
        self.sql = store.sql

    def ingest(self, records: Any) -> Any:
        """Write, or refuse."""
        held = list(records)
        if any(getattr(r, "item", None) == self._refused for r in held):
            raise StoreError(f"{self._refused} is refused")
        return self._store.ingest(held)


def test_a_file_that_the_store_refuses_leaves_the_others(store: Store, tmp_path: Path) -> None:
    """The files of its group are written one by one."""
    claude(tmp_path / "claude")
    files = sources.detect_files(tmp_path / "claude")
    refused = files[2].path
    importer = FileImporter(Refusing(store, refused.stem))  # type: ignore[arg-type]  # a stand-in

    outcomes = list(importer.files(files))

    assert [(o.path, o.failed) for o in outcomes if o.failed] == [
        (refused, f"{refused.stem} is refused")
    ]
    assert store.sql("SELECT count(*) FROM traces").rows() == [(len(files) - 1,)]


def test_only_what_changed_is_read_again(store: Store, tmp_path: Path) -> None:
    """A file of the same size and time is not opened: what it holds now is not seen."""
    claude(tmp_path / "claude")
    imported(store, tmp_path / "claude")
    before = whole(store)
    same, grown, *_ = sorted((tmp_path / "claude" / "projects" / "-work-p0").glob("*.jsonl"))
    same.write_bytes(same.read_bytes().replace(b"claude-", b"clyude-"))
    settle(tmp_path / "claude")
    with grown.open("a") as file:
        file.write(json.dumps({"type": "progress", "sessionId": "s"}) + "\n")

    outcomes = imported(store, tmp_path / "claude")

    assert [o.path for o in outcomes if not o.is_unchanged] == [grown]
    assert {o.status for o in outcomes} == {"ok"}
    assert whole(store) == before
    assert "did not change since the import" in list(remarks(outcomes))[-1]


def test_a_file_is_read_again_where_the_list_may_be_wrong(store: Store, tmp_path: Path) -> None:
    """Its traces are gone, the user names it, or the list is broken."""
    folder = tmp_path / "claude"
    claude(folder)
    imported(store, folder)
    files = sources.detect_files(folder)
    named = list(FileImporter(store).files(files[:1], named=files[0].path))
    with store.lease() as connection:
        connection.execute("DELETE FROM traces WHERE trace_id = (SELECT min(trace_id) FROM traces)")
    once = imported(store, folder)
    listed = store.path.with_name("s.duckdb.imported")
    mode = listed.stat().st_mode & 0o777
    listed.write_bytes(listed.read_bytes()[:-9])
    broken = imported(store, folder)

    assert [o.is_unchanged for o in named] == [False]
    assert [o.is_unchanged for o in once].count(False) == 1
    assert not any(o.is_unchanged for o in broken)
    assert mode == 0o600


def test_a_folder_prints_the_notes_of_a_few_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how many more have some."""
    claude(tmp_path / "claude")
    store = str(tmp_path / "s.duckdb")

    assert main(["import", str(tmp_path / "claude"), "--store", store]) == 0

    written = capsys.readouterr().err
    assert "notes on 9 more files; to list them, add --format json" in written


def test_the_bar_shows_bytes_and_is_silent_at_first(store: Store, tmp_path: Path) -> None:
    """A short import shows none."""
    claude(tmp_path / "claude")
    files = sources.detect_files(tmp_path / "claude")
    shown: list[str] = []
    for after in (0.0, 3600.0):
        importer = FileImporter(store)
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        bar = ImportBar(importer, 10**6, console=console, shown_after_s=after)
        list(importer.files(files))
        with console.capture() as capture:
            console.print(bar.get_renderable())
        shown.append(capture.get().strip())

    assert "importing" in shown[0]
    assert "1.0 MB" in shown[0]
    assert shown[1] == ""
    assert importer.n_bytes_read == sum(f.path.stat().st_size for f in files)
