"""What goes into the store: whole, once, summed and priced."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from tests.support import ROOT, making
from workbench import schema, spool
from workbench.errors import ImportFormatError
from workbench.records import (
    NOT_RUN,
    Attempt,
    Call,
    EnergyBalance,
    Message,
    Price,
    Result,
    Run,
    ToolCall,
    as_dict,
)
from workbench.store import Store, frames, open_store
from workbench.store.ingest import IngestReport
from workbench.store.transfer import Staging


def _content(store: Store) -> dict[str, pl.DataFrame]:
    """Every table in a fixed order, for comparing whole stores."""
    return {name: store.sql(f"FROM {name} ORDER BY ALL") for name in schema.TABLES}


def _same(a: Store, b: Store) -> bool:
    ours, theirs = _content(a), _content(b)
    return all(ours[name].equals(theirs[name]) for name in ours)


def test_every_record_field_is_a_column() -> None:
    """A record's field without a column would be lost in silence."""
    holders = {"calls", "tool_calls", "messages", "scores", "energy"}
    replaced = {"call_ordinal", "tool_call_ordinal", "text"}
    for record in (*making.records(), making.rich_trace()):
        table = {"Run": "runs", "Task": "tasks", "Item": "items", "Configuration": "configurations"}
        name = table.get(type(record).__name__, "traces")
        assert set(as_dict(record)) - holders - replaced <= set(schema.TABLES[name].names)
    parts = making.rich_trace()
    for name in holders:
        fields = set(as_dict(getattr(parts, name)[0])) - replaced
        assert fields <= set(schema.TABLES[name].names), name
    assert set(as_dict(Price(model="m", sheet="s"))) == set(schema.PRICES.names)
    result = Result(run_id="r", configuration_id="c", task_id="t", metric="m")
    assert set(as_dict(result)) == set(schema.RESULTS.names)
    balance = EnergyBalance(run_id="r", device="gpu:0")
    assert set(as_dict(balance)) == set(schema.ENERGY_BALANCES.names)


def test_every_column_arrives_where_it_belongs(tmp_path: Path) -> None:
    """Each field of a call has its own value, so a slip between columns shows."""
    values = {
        f: (n if t == "int" else n + 0.5 if t == "float" else f"{f}-text")
        for n, (f, t) in enumerate((c.name, c.type) for c in schema.CALLS.columns)
        if f in Call.__struct_fields__ and t != "time"
    }
    values |= {"role": "subject", "started_at": making.START, "ordinal": 0, "machine": None}
    call = Call(**values)
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(
        [
            making.run(),
            making.TASK,
            *making.ITEMS,
            making.DIRECT,
            making.trace(making.DIRECT, making.ITEMS[0], calls=(call,)),
        ]
    )

    row = store.sql("FROM calls").row(0, named=True)

    assert row["started_at"] == making.START.replace(tzinfo=None)
    assert {k: row[k] for k in values if k != "started_at"} == {
        k: v for k, v in values.items() if k != "started_at"
    }


def test_views_have_exactly_the_documented_columns(tmp_path: Path) -> None:
    """Names, order and types of tables and views are those of the schema."""
    store = making.small_store(tmp_path)
    for name, table in schema.RELATIONS.items():
        described = store.sql(f"DESCRIBE FROM {name}")
        assert tuple(described["column_name"]) == table.names, name
        found = dict(zip(described["column_name"], described["column_type"], strict=True))
        assert found == {c.name: c.sql_type for c in table.columns}, name


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second import of the same records finds only duplicates."""
    store = making.small_store(tmp_path)
    before = _content(store)

    report = store.ingest([*making.records(), making.rich_trace()])

    assert set(report.rows_new.values()) == {0}
    assert report.duplicates["traces"] == 31
    assert all(before[name].equals(frame) for name, frame in _content(store).items())


def test_merging_two_stores_gives_the_same_whichever_way(tmp_path: Path) -> None:
    """Overlapping stores merge to one content, from the file or from its export, twice as once."""
    all_records = list(making.records())
    head, tail = all_records[:-12], [*all_records[:10], *all_records[-20:]]
    one = open_store(tmp_path / "one.duckdb", create=True)
    one.ingest(head)
    two = open_store(tmp_path / "two.duckdb", create=True)
    two.ingest(tail)
    whole = open_store(tmp_path / "whole.duckdb", create=True)
    whole.ingest(all_records)
    two.export(tmp_path / "two")

    other = open_store(tmp_path / "other.duckdb", create=True)
    other.merge(tmp_path / "two")
    other.merge(one.path)
    one.merge(two.path)
    again = one.merge(tmp_path / "two")

    assert _same(one, whole)
    assert _same(other, whole)
    assert set(again.rows_new.values()) == {0}


def test_exports_put_together_are_taken_once(tmp_path: Path) -> None:
    """Files with rows twice give one store of each and say so; rows of one key that differ are an
    error."""
    store = making.small_store(tmp_path)
    store.export(tmp_path / "part")
    for file in (tmp_path / "part").glob("*.parquet"):
        rows = pl.read_parquet(file)
        pl.concat([rows, rows.head(5)]).write_parquet(file)
    other = open_store(tmp_path / "other.duckdb", create=True)

    report = other.merge(tmp_path / "part", as_tables=True)

    assert _same(other, store)
    assert any("traces.parquet holds 5 rows more than once" in note for note in report.notes)

    file = tmp_path / "part" / "traces.parquet"
    rows = pl.read_parquet(file).with_columns(trial=pl.int_range(pl.len()))
    rows.write_parquet(file)
    third = open_store(tmp_path / "third.duckdb", create=True)
    with pytest.raises(ImportFormatError, match=r"traces\.parquet has 5 rows that contradict"):
        third.merge(tmp_path / "part", as_tables=True)
    assert third.count() == 0


def test_export_of_a_slice_holds_what_the_slice_refers_to(tmp_path: Path) -> None:
    """Merging an exported slice gives just those traces, with their texts."""
    store = making.small_store(tmp_path)
    store.export(tmp_path / "part", "model:gpt-4o right")
    part = open_store(tmp_path / "part.duckdb", create=True)

    part.merge(tmp_path / "part")

    assert part.count() == store.count("model:gpt-4o right") == 6
    assert set(part.sql("FROM configurations")["model"]) == {"gpt-4o"}
    texts = part.sql("FROM messages m LEFT JOIN contents c USING (content_id)")["text"]
    assert texts.null_count() == 0


def test_a_failing_source_leaves_nothing_behind(tmp_path: Path) -> None:
    """An error in the middle of a stream imports no row of it."""
    store = open_store(tmp_path / "s.duckdb", create=True)

    def broken():  # type: ignore[no-untyped-def]  # it yields and raises
        yield from making.records()
        raise ImportFormatError("the file ends here")

    with pytest.raises(ImportFormatError, match="ends here"):
        store.ingest(broken())
    assert store.overview().n_traces == 0
    assert not list(tmp_path.glob(".staging*"))


def test_a_huge_integer_is_refused_by_name_and_nothing_lands(tmp_path: Path) -> None:
    """2**70 tokens are no count; the message says which column."""
    store = making.small_store(tmp_path)
    bad = making.trace(making.COT, making.ITEMS[1], 7, calls=(Call(input_tokens=2**70),))
    with pytest.raises(ImportFormatError, match=r"calls\.input_tokens takes int, but got 1180591"):
        store.ingest([bad])
    assert store.count() == 31


@pytest.mark.parametrize(
    "text", ["lone \ud800 surrogate", "nul \x00 byte", "\x1b[31mansi", "'; DROP TABLE traces; --"]
)
def test_hostile_text_is_kept_and_harmless(tmp_path: Path, text: str) -> None:
    """Text comes back as it was; what UTF-8 cannot hold comes back escaped."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    messages = (Message(ordinal=0, role="user", kind="text", text=text),)
    odd = making.trace(making.DIRECT, making.ITEMS[0], answer=text, messages=messages)
    store.ingest([making.run(), making.DIRECT, odd])

    found = store.messages(odd.trace_id)["text"][0]

    assert found == text.encode("utf-8", "backslashreplace").decode()
    assert store.detail(odd.trace_id).facts["answer"] == found
    assert store.count() == 1


def test_totals_are_sums_over_the_subject_and_judges_are_apart(tmp_path: Path) -> None:
    """A judge's tokens and dollars are not the subject's."""
    store = making.small_store(tmp_path)
    facts = store.detail(making.rich_trace().trace_id).facts
    assert (facts["input_tokens"], facts["output_tokens"]) == (30, 11)
    assert (facts["judge_input_tokens"], facts["judge_output_tokens"]) == (7, 1)
    assert facts["cost_usd"] == pytest.approx((30 * 1.25 + 11 * 10) / 1e6)
    assert facts["judge_cost_usd"] == pytest.approx((7 * 2.5 + 1 * 10) / 1e6)
    assert facts["energy_j"] == 8.0
    assert (facts["n_calls"], facts["n_tool_calls"], facts["n_tool_errors"]) == (2, 1, 1)


def test_tool_calls_that_were_never_run_are_kept_and_not_counted(tmp_path: Path) -> None:
    """What was asked for beyond the budget is marked: no use of a tool, and no failure of one."""
    asked = {"refused": [NOT_RUN], "used": [None, "timeout", NOT_RUN]}
    traces = [
        making.trace(
            making.CONFIGURATIONS[0],
            making.ITEMS[0],
            trial,
            trace_id=name,
            tool_calls=tuple(
                ToolCall(ordinal=n, tool="sql", error_type=e) for n, e in enumerate(errors)
            ),
        )
        for trial, (name, errors) in enumerate(asked.items())
    ]
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest([making.run(), making.TASK, *making.ITEMS, *making.CONFIGURATIONS, *traces])

    counted = "SELECT trace_id, n_tool_calls, n_tool_errors FROM trace_facts ORDER BY 1"
    uses = "SELECT trace_id, tool, error_type FROM tool_uses ORDER BY ALL"
    assert store.sql(counted).rows() == [("refused", 0, 0), ("used", 2, 1)]
    assert store.sql(uses).rows() == [
        ("refused", None, None),
        ("used", "sql", "timeout"),
        ("used", "sql", None),
    ]
    assert store.sql("SELECT count(*) FROM tool_facts").item() == 4


def test_part_of_a_sum_is_no_sum(tmp_path: Path) -> None:
    """One call without a count makes the trace's count unknown; a call that failed does not."""
    answered, silent = (
        Call(ordinal=0, input_tokens=5, output_tokens=2),
        Call(ordinal=1, input_tokens=5),
    )
    failed = Call(ordinal=1, error_type="http_500")
    store = open_store(tmp_path / "s.duckdb", create=True)
    first = making.trace(making.DIRECT, making.ITEMS[0], calls=(answered, silent))
    second = making.trace(making.DIRECT, making.ITEMS[1], calls=(answered, failed))
    store.ingest([making.run(), making.DIRECT, first, second])

    sums = {t.trace_id: store.detail(t.trace_id).facts for t in (first, second)}

    assert sums[first.trace_id]["input_tokens"] == 10
    assert sums[first.trace_id]["output_tokens"] is None
    assert sums[second.trace_id]["output_tokens"] == 2


def test_the_single_call_shortcut_equals_the_grouped_sum(tmp_path: Path) -> None:
    """Traces of one call are summed without grouping; both ways agree."""
    from workbench.store import views

    store = making.small_store(tmp_path)
    calls = "(FROM calls WHERE trace_id IN (SELECT trace_id FROM traces WHERE trial < 9))"
    grouped = store.sql(f"SELECT * FROM ({views.totals(calls)}) ORDER BY trace_id")
    single = store.sql(f"SELECT * FROM ({views.totals(calls, single=True)}) ORDER BY trace_id")
    assert grouped.height == 30
    assert grouped.select(sorted(grouped.columns)).equals(single.select(sorted(single.columns)))


def test_batches_cut_a_stream_without_losing_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches and batches spilled to disk give the same store as one large batch."""
    whole = making.small_store(tmp_path / "a")
    monkeypatch.setattr(frames, "BATCH_TRACES", 4)
    monkeypatch.setattr(Staging.__init__, "__defaults__", (1,))
    parts = making.small_store(tmp_path / "b")
    assert _same(whole, parts)


def test_a_run_that_ended_replaces_what_was_known_of_it(tmp_path: Path) -> None:
    """The last word on a run is its end."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    begun = Run(
        run_id="r", kind="collect", source="runner", status="running", started_at=making.START
    )
    ended = Run(
        run_id="r",
        kind="collect",
        source="runner",
        status="done",
        started_at=making.START,
        ended_at=making.START,
    )
    store.ingest([begun])
    store.ingest([ended])
    store.ingest([begun])
    assert store.sql("SELECT status FROM runs")["status"].to_list() == ["done"]


def _attempt(item: int, trial: int = 0) -> Attempt:
    return Attempt(
        run_id="run-1",
        configuration_id=making.DIRECT.configuration_id,
        item_id=making.ITEMS[item].item_id,
        trial=trial,
        started_at=making.START,
    )


def test_the_spool_is_taken_in_live_and_deleted_when_its_writer_is_gone(tmp_path: Path) -> None:
    """Rows of a live segment arrive once; the segment goes only after it is closed and
    committed."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    begun = Run(
        run_id="run-1", kind="collect", source="runner", status="running", started_at=making.START
    )
    with spool.SpoolWriter(store.spool_dir, "run-1") as writer:
        for record in (
            begun,
            making.TASK,
            *making.ITEMS,
            making.DIRECT,
            _attempt(0),
            making.trace(making.DIRECT, making.ITEMS[0]),
        ):
            writer.append(record)
        live = store.ingest_spool()
        again = store.ingest_spool()
        assert live.rows_new["traces"] == 1
        assert not again.rows_in
        assert len(spool.segments(store.spool_dir)) == 1
        assert store.done([making.DIRECT.configuration_id]) == {
            (making.DIRECT.configuration_id, making.ITEMS[0].item_id, 0)
        }
        writer.append(_attempt(1))
    report = store.ingest_spool()

    assert report.in_flight == 1
    assert spool.segments(store.spool_dir) == []
    assert store.sql("SELECT status FROM runs")["status"].to_list() == ["interrupted"]
    assert store.count() == 1


def test_a_damaged_spool_line_is_set_aside_and_the_others_arrive(tmp_path: Path) -> None:
    """One flipped byte costs one line, which is kept and counted."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    with spool.SpoolWriter(store.spool_dir, "run-1") as writer:
        for record in making.records(trials=1):
            writer.append(record)
    segment = spool.segments(store.spool_dir)[0].path
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"score"', b'"scorn"')
    segment.write_bytes(b"".join(lines))

    report = store.ingest_spool()

    assert report.quarantined == 1
    assert store.count() == 14
    assert list((store.spool_dir / "quarantine").iterdir())


def test_a_full_disk_is_an_error_in_words_and_nothing_is_half_imported(tmp_path: Path) -> None:
    """The file may not grow: the import fails whole, and the store still opens."""
    store = making.small_store(tmp_path)
    script = f"""
        import resource, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        from tests.support import making
        from workbench.errors import StoreError
        from workbench.records import Message
        from workbench.store import open_store
        store = open_store({str(store.path)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = store.path.stat().st_size + 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        import random
        noise = random.Random(1)
        big = [
            making.trace(making.COT, item, trial, messages=(Message(
                ordinal=0, role="user", kind="text", text=noise.randbytes(40_000).hex()),))
            for item in making.ITEMS for trial in range(20, 40)
        ]
        try:
            store.ingest(big)
        except StoreError as error:
            print("StoreError:", error)
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert "StoreError" in done.stdout, done.stdout + done.stderr
    assert open_store(store.path).count() == 31


def test_reports_add_up() -> None:
    """Duplicates are what came in and was not new."""
    report = IngestReport()
    report.count("traces", 10, 4)
    report.count("traces", 5, 5)
    assert report.duplicates == {"traces": 6}


def test_a_store_is_not_merged_with_itself(tmp_path: Path) -> None:
    """Named by itself or through a link: an error in words, and the store is as it was."""
    store = making.small_store(tmp_path)
    link = tmp_path / "link.duckdb"
    link.symlink_to(store.path)

    for other in (store.path, link):
        with pytest.raises(ImportFormatError, match="is the store itself"):
            store.merge(other)
    assert store.count() == 31
