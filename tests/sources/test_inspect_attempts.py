"""Inspect logs: what an attempt is, tries that were made again, samples in odd places, figures
without samples."""

import json
import zipfile
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.support.inspect_logs import (
    HEADER,
    PLAN,
    SPEC,
    USAGE,
    archive,
    load,
    model,
    of,
    one,
    sample,
    whole,
)
from workbench import sources
from workbench.billing import reconcile
from workbench.records import Item, Result, Trace
from workbench.sources import FileReport
from workbench.sources.inspect import log as inspect_log
from workbench.store import Store, open_store

DAY = "2026-01-02T03:0{}:0{}.5+00:00"


def at(minute: int, **more: object) -> dict:
    """A model event of a minute of its own."""
    return model(timestamp=DAY.format(minute, 1), completed=DAY.format(minute, 2), **more)


def failed(uuid: str, *events: dict, **more: object) -> dict:
    """A sample that ended in an error, unscored."""
    error = {"message": "boom", "traceback": "RuntimeError: boom"}
    return (
        sample(id=3, uuid=uuid, error=error, scores=None, events=list(events), model_usage={})
        | more
    )


def log(path: Path, name: str, *samples: dict) -> Path:
    """Write a log of its own run, of one task."""
    header = HEADER | {"eval": SPEC | {"eval_id": name, "run_id": name}}
    members = {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples}
    return archive(path / f"{name}.eval", {"header.json": header, **members})


def bring(store: Store, *paths: Path) -> list[str]:
    """Import files one by one; returns what the store remarks."""
    return [note for p in paths for note in store.ingest(sources.read(p)).notes]


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    """A log with a finished sample and one that failed; and its retry, to which both were carried
    over."""
    done = sample(uuid="u1", events=[at(1)])
    retry = {
        "message": "boom",
        "traceback": "RuntimeError: boom",
        "traceback_ansi": "",
        "events": [at(3)],
    }
    again = sample(id=3, uuid="u9", events=[at(5)], error_retries=[retry])
    first = log(tmp_path, "first", done, failed("u2", at(2), at(3)))
    return [first, log(tmp_path, "second", done, again)]


def test_a_bill_has_the_tries_that_were_made_again_and_an_answer_does_not(tmp_path: Path) -> None:
    """Two attempts count, $0.65; three requests were paid, $0.975: by the bill, and by the log."""
    counts = {"input_tokens": 100_000, "output_tokens": 20_000, "total_tokens": 120_000}

    def sent(second: int) -> dict:
        return at(second) | {
            "output": model()["output"] | {"usage": counts},
            "model": "openai/gpt-5",
        }

    retry = {"message": "boom", "traceback": "RuntimeError: boom", "events": [sent(3)]}
    samples = [
        sample(uuid="u1", events=[sent(1)], model_usage={}),
        sample(id=2, uuid="u2", events=[sent(2)], model_usage={}),
        sample(id=3, uuid="u3", error=retry, scores=None, error_retries=[retry], events=[]),
    ]
    store = open_store(tmp_path / "s.duckdb", create=True)
    bring(store, log(tmp_path, "only", *samples))
    day = store.sql("SELECT min(started_at)::DATE AS d FROM calls")["d"][0]
    bill = tmp_path / "activity.json"
    row = {"date": str(day), "model": "gpt-5", "usage": 0.975, "requests": 3}
    tokens = {"prompt_tokens": 300_000, "completion_tokens": 60_000}
    bill.write_text(json.dumps({"data": [row | tokens]}))

    found = reconcile(store, bill, providers=["openai"])
    [summary] = store.analyze("summary", by="task").frame.rows(named=True)

    assert found.frame["verdict"].to_list() == ["agrees"]
    assert found.total["stored_usd"].to_list() == [pytest.approx(0.975)]
    assert any("tries that were made again: 1;" in note for note in found.notes)
    assert summary["total_cost_usd"] == pytest.approx(0.65)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1)], ids=str)
@pytest.mark.parametrize("together", [True, False], ids=["one command", "several"])
def test_what_a_retry_carries_over_is_one_attempt(
    tmp_path: Path, logs: list[Path], order: tuple[int, ...], *, together: bool
) -> None:
    """In whichever log, in any order: two answers, and the failed try with both of its requests."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    paths = [logs[n] for n in order]

    notes = bring(store, *paths) if together else [n for p in paths for n in bring(store, p)]

    found = store.sql(
        "SELECT passed, is_replaced, n_calls FROM traces ORDER BY is_replaced NULLS FIRST, n_calls"
    )
    assert found.rows() == [(True, None, 1), (True, None, 1), (None, True, 2)]
    assert store.sql("SELECT count(*) AS n, count(DISTINCT call_id) AS d FROM calls").row(0) == (
        4,
        4,
    )
    assert store.sql("SELECT count(*) AS n FROM traces ANTI JOIN runs USING (run_id)")["n"][0] == 0
    assert any("carried over" in note for note in notes)
    first = "SELECT run_id FROM runs ORDER BY started_at, run_id LIMIT 1"
    carried = store.sql(f"SELECT count(*) AS n FROM traces WHERE run_id = ({first})")["n"][0]
    assert carried == 2, "the answer of the first log is its own, in whichever log it came first"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_what_was_cancelled_and_made_again_is_replaced(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """eval-retry does not list it among the failed tries; the later log of the same task has it
    anew."""
    spec = [
        SPEC | {"eval_id": name, "run_id": name, "created": f"2026-01-0{day}T00:00:00+00:00"}
        for name, day in (("first", 2), ("second", 3))
    ]
    samples = (failed("u2"), sample(id=3, uuid="u9", events=[at(5)]))
    paths = [
        archive(
            tmp_path / f"{n}.eval",
            {"header.json": HEADER | {"eval": spec[n]}, "samples/3_epoch_1.json": samples[n]},
        )
        for n in (0, 1)
    ]
    store = open_store(tmp_path / "s.duckdb", create=True)

    bring(store, *(paths[n] for n in order))

    assert store.sql(
        "SELECT passed, is_replaced FROM traces ORDER BY passed NULLS LAST"
    ).rows() == [
        (True, None),
        (None, True),
    ]


def test_tries_that_were_made_again_are_traces_of_their_own(tmp_path: Path) -> None:
    """With their request, conversation and error; the log's tokens of all models then add up."""
    retry = {"message": "boom", "traceback": "openai.RateLimitError: boom", "events": [at(1)]}
    header = HEADER | {
        "stats": {"model_usage": {"openai/gpt-x": {"input_tokens": 180, "output_tokens": 60}}}
    }
    again = sample(uuid="u", events=[at(5)], error_retries=[retry, retry | {"events": [at(2)]}])
    path = archive(tmp_path / "log.eval", {"header.json": header, "samples/1_epoch_1.json": again})

    records, report = load(path)

    traces = of(records, Trace)
    assert [(t.is_replaced, t.error_type, len(t.calls)) for t in traces] == [
        (True, "RateLimitError", 1),
        (True, "RateLimitError", 1),
        (None, None, 1),
    ]
    assert len({t.trace_id for t in traces}) == 3
    assert [t.score for t in traces] == [None, None, 1.0]
    assert all(t.messages for t in traces)
    assert all(t.agrees for t in report.totals)
    assert (report.rows_in, report.rows_out, report.is_whole) == (1, 1, True)
    assert report.notes["failed tries that were made again: only their costs count"] == 2


def test_tries_whose_requests_a_log_does_not_keep_are_said(tmp_path: Path) -> None:
    """They were made, and what they cost is unknown."""
    retry = {"message": "boom", "traceback": "x.ValueError: boom"}
    records, report = load(whole(tmp_path / "log.eval", sample(error_retries=[retry, retry])))

    traces = of(records, Trace)
    assert [t.is_replaced for t in traces] == [True, True, None]
    assert len({t.trace_id for t in traces}) == 3
    assert report.notes["failed tries without requests in the log"] == 2


def test_a_store_of_an_older_layout_keeps_each_attempt_once(
    tmp_path: Path, logs: list[Path]
) -> None:
    """Its doubles go, the rest gets its id, and importing the logs again brings only what it
    lacked."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    for path in logs:
        store.ingest(
            r if not isinstance(r, Trace) else _as_before(r)
            for r in sources.read(path)
            if not (isinstance(r, Trace) and r.is_replaced)
        )
    assert store.count() == 4
    with duckdb.connect(str(store.path)) as connection:
        doubled, kept = (
            row[0]
            for row in connection.execute(
                "SELECT trace_id FROM traces JOIN items USING (item_id) WHERE item = '1'"
                " ORDER BY run_id"
            ).fetchall()
        )
        for trace_id in (doubled, kept):
            connection.execute(
                "INSERT INTO annotations VALUES (?, 'me', now(), 'odd', ?)", [trace_id, trace_id]
            )
        connection.execute("DELETE FROM migrations WHERE version > 2")

    store = open_store(store.path)

    assert store.count() == 3
    bring(store, *logs)
    assert store.sql("SELECT count(*) AS n, sum(n_calls)::INT AS calls FROM traces").row(0) == (
        3,
        4,
    )
    assert store.sql("FROM annotations SEMI JOIN traces USING (trace_id)").height == 2
    for table in ("calls", "messages", "scores"):
        assert store.sql(f"FROM {table} ANTI JOIN traces USING (trace_id)").height == 0
    assert store.sql("FROM messages WHERE call_id IS NOT NULL").height > 0
    assert store.sql(
        "FROM messages m ANTI JOIN calls USING (call_id) WHERE m.call_id IS NOT NULL"
    ).is_empty()


def _as_before(trace: Trace) -> Trace:
    """The trace as older versions told it: by run, item and trial."""
    fields = {name: getattr(trace, name) for name in trace.__struct_fields__ if name != "trace_id"}
    return Trace(**fields)


# -- where samples stand ------------------------------------------------------------------------


def test_ids_of_samples_may_hold_slashes(tmp_path: Path) -> None:
    """HumanEval/0, a path, and what looks like a part of another sample."""
    ids = ["HumanEval/0", "a/b/c.json", "HumanEval/0_epoch_1/sample", "x_epoch_1/events/0"]
    records, report = load(whole(tmp_path / "log.eval", *(sample(id=id) for id in ids)))

    assert [i.item for i in of(records, Item)] == ids
    assert (report.rows_in, report.rows_out, report.is_whole) == (4, 4, True)


def test_a_sample_in_chunks_is_put_together(tmp_path: Path) -> None:
    """A shell and four sequences; a log may mix both forms, and chunks are in the order of their
    numbers."""
    entire = sample(
        id="h/1",
        metadata={"k": 1},
        messages=[
            {"role": "user", "content": "2+2?", "id": "m1"},
            {"role": "assistant", "content": "4", "id": "m9"},
        ],
    )
    pooled = model(input=[], input_refs=[[0, 1]], timestamp=DAY.format(1, 1))
    later = model(
        input=[],
        input_refs=[[0, 2]],
        timestamp=DAY.format(2, 1),
        output=model()["output"]
        | {
            "choices": [
                {
                    "message": {"role": "assistant", "content": "attachment://1", "id": "m10"},
                    "stop_reason": "stop",
                }
            ]
        },
    )
    shell = {k: v for k, v in entire.items() if k not in {"messages", "events", "metadata"}}
    prefix = "samples/h/1_epoch_1"
    members = {
        f"{prefix}/sample.json": shell | {"message_refs": [[0, 2]], "model_usage": {}},
        f"{prefix}/metadata.json": {"k": 1},
        f"{prefix}/skeleton.json": {},
        f"{prefix}/messages/0.json": entire["messages"],
        f"{prefix}/events/0.json": [pooled],
        f"{prefix}/events/1.json": [later],
        f"{prefix}/events/stats.json": {},
        f"{prefix}/events/uuids.json": [None, None],
        f"{prefix}/attachments/0.json": ["no", "a long text"],
    }
    path = archive(
        tmp_path / "log.eval",
        {"header.json": HEADER, "samples/2_epoch_1.json": sample(id=2), **members},
    )

    records, report = load(path)

    [_, trace] = of(records, Trace)
    assert [i.item for i in of(records, Item)] == ["2", "h/1"]
    assert [m.text for m in trace.messages] == ["2+2?", "4", "a long text"]
    assert (len(trace.calls), trace.score, report.is_whole) == (2, 1.0, True)
    assert json.loads(of(records, Item)[1].metadata or "") == {"sample": {"k": 1}}

    del members[f"{prefix}/events/0.json"]
    path = archive(tmp_path / "torn.eval", {"header.json": HEADER, **members})
    with pytest.raises(sources.ImportFormatError, match="events lacks its entries 0 to 0"):
        load(path)


def test_members_that_are_part_of_no_sample_are_said(tmp_path: Path) -> None:
    """A later version may write what nothing is known of here."""
    members = {
        "header.json": HEADER,
        "samples/1_epoch_1.json": sample(),
        "samples/new/thing.json": {},
    }
    _, report = load(archive(tmp_path / "log.eval", members))

    assert (report.rows_in, report.rows_out, report.is_accounted_for) == (2, 1, True)
    assert not report.is_complete
    assert "samples/new/thing.json" in report.incomplete.texts[0]


def test_samples_that_are_listed_and_not_there_are_a_total_that_differs(tmp_path: Path) -> None:
    """Told by the summaries, in a journal once for each sample that was run again."""
    listed = [{"id": n, "epoch": 1} for n in range(5)]
    path = archive(
        tmp_path / "a.eval",
        {"header.json": HEADER, "summaries.json": listed, "samples/1_epoch_1.json": sample()},
    )
    start = {"version": 2, "eval": SPEC, "plan": PLAN}
    journal = archive(
        tmp_path / "b.eval",
        {
            "_journal/start.json": start,
            "samples/1_epoch_1.json": sample(),
            "_journal/summaries/1.json": [{"id": 1, "epoch": 1}],
            "_journal/summaries/2.json": [{"id": 1, "epoch": 1}],
        },
    )

    (total,) = load(path)[1].totals
    (again,) = load(journal)[1].totals

    assert (total.name, total.stated, total.computed, total.agrees) == (
        "samples in the summaries",
        5,
        1,
        False,
    )
    assert (again.name, again.agrees) == ("samples in the journal", True)


@pytest.mark.parametrize(("version", "whole_"), [(1, True), (2, True), (3, False)])
def test_a_log_of_an_unknown_version_is_not_all_in(
    tmp_path: Path, version: int, *, whole_: bool
) -> None:
    """It is read as far as it is known, and said."""
    path = archive(
        tmp_path / "log.eval",
        {"header.json": HEADER | {"version": version}, "samples/1_epoch_1.json": sample()},
    )

    records, report = load(path)

    assert len(of(records, Trace)) == 1
    assert report.is_complete is whole_


def test_a_broken_sample_is_passed_over_where_that_is_asked(tmp_path: Path) -> None:
    """And named; else the file is refused."""
    path = archive(
        tmp_path / "log.eval",
        {
            "header.json": HEADER,
            "samples/1_epoch_1.json": sample(),
            "samples/2_epoch_1.json": b'{"id": 2, "epoch": "x"}',
        },
    )
    report = FileReport(path, skip_bad_rows=True)

    records = list(sources.read(path, report=report))

    assert len(of(records, Trace)) == 1
    assert (report.rows_in, report.rows_out, report.bad_rows.n) == (2, 1, 1)
    with pytest.raises(sources.ImportFormatError, match="samples/2_epoch_1"):
        load(path)


def test_other_files_with_an_eval_are_no_logs(tmp_path: Path) -> None:
    """EvalPlus keeps its answers under that name."""
    path = tmp_path / "eval_results.json"
    path.write_text(
        json.dumps({"date": "2026", "eval": {"HumanEval/0": [{"task_id": "HumanEval/0"}]}})
    )
    assert not inspect_log.SOURCE.detect(path)
    path.write_text(json.dumps({"version": 1, "eval": {"task": "t", "model": "m"}}))
    assert inspect_log.SOURCE.detect(path)


# -- figures ------------------------------------------------------------------------------------


def _header(*scores: dict, **more: object) -> dict:
    results = {"total_samples": 8, "completed_samples": 8, "scores": list(scores)} | more
    config = SPEC["config"] | {"log_samples": False}  # type: ignore[operator]  # a dict
    return HEADER | {
        "eval": SPEC | {"config": config},
        "results": results,
        "stats": {"model_usage": {"openai/gpt-x": USAGE}},
    }


def _results(tmp_path: Path, header: dict) -> tuple[dict[str, Result], FileReport]:
    path = archive(tmp_path / "log.eval", {"header.json": header, "summaries.json": []})
    records, report = load(path)
    return {r.metric: r for r in of(records, Result)}, report


def test_a_log_without_samples_brings_its_metrics(tmp_path: Path) -> None:
    """Each with its n and standard error; tokens inclusive."""
    match = {
        "name": "match",
        "scorer": "match",
        "scored_samples": 4,
        "metrics": {"accuracy": {"value": 0.75}, "stderr": {"value": 0.25}, "std": {"value": 0.5}},
    }

    found, report = _results(tmp_path, _header(match))

    accuracy = found["accuracy"]
    assert (accuracy.value, accuracy.n, accuracy.standard_error) == (0.75, 4, 0.25)
    assert (accuracy.scale_low, accuracy.scale_high, accuracy.direction) == (0, 1, "higher")
    assert (found["std"].value, found["std"].standard_error) == (0.5, None)
    assert "stderr" not in found
    assert (found["total_input_tokens"].value, found["total_input_tokens"].unit) == (100, "tokens")
    assert (found["total_output_tokens"].value, found["total_reasoning_tokens"].value) == (20, 15)
    assert report.is_whole
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(sources.read(tmp_path / "log.eval"))
    assert store.sql("SELECT n, standard_error FROM result_facts WHERE metric = 'accuracy'").row(
        0
    ) == (4, 0.25)


def test_metrics_of_several_scorers_have_their_names_before_them(tmp_path: Path) -> None:
    """A dict's keys too; where n is not said, it is samples by epochs."""
    scores = [
        {"name": name, "scorer": scorer, "metrics": {"mean": {"value": value}}}
        for name, scorer, value in (("x", "dicts", 1), ("y", "dicts", 2.5), ("match", "match", 0.5))
    ]
    found, _ = _results(tmp_path, _header(*scores))

    values = {name: r.value for name, r in found.items() if r.unit is None}
    assert values == {"dicts/x/mean": 1, "dicts/y/mean": 2.5, "match/mean": 0.5}
    assert found["match/mean"].n == 4  # 8 samples in 2 epochs


def test_the_oldest_logs_have_one_scorer(tmp_path: Path) -> None:
    """Version 1 kept its metrics beside it."""
    found, _ = _results(
        tmp_path, _header(scorer={"name": "match"}, metrics={"accuracy": {"value": 0.5}})
    )

    assert found["accuracy"].value == 0.5


def test_a_log_with_nothing_in_it_is_not_all_in(tmp_path: Path) -> None:
    """Neither samples nor metrics."""
    _, report = load(
        archive(tmp_path / "log.eval", {"header.json": HEADER | {"status": "cancelled"}})
    )

    assert not report.is_complete


# -- scores on other scales ---------------------------------------------------------------------


def test_a_scorer_with_a_scale_of_its_own_gives_a_metric(tmp_path: Path) -> None:
    """All its numbers do: a 1 on a rubric to 10 is no pass; the trace's score is that of the next
    scorer."""
    values = (7, 1, 0.5, None)
    samples = [
        sample(id=n, scores={"rubric": {"value": value}, "match": {"value": "C"}})
        for n, value in enumerate(values)
    ]
    records, report = load(whole(tmp_path / "log.eval", *samples))

    scores = [t.scores[0] for t in of(records, Trace)]
    assert [s.metric for s in scores] == [7, 1, 0.5, None]
    assert {s.score for s in scores} == {s.passed for s in scores} == {None}
    assert [t.score for t in of(records, Trace)] == [1, 1, 1, 1]
    assert report.notes["scores of rubric, outside of 0..1: imported as the metric rubric"] == 3


@pytest.mark.parametrize("wrap", ["json", "summaries", "neither"])
def test_scales_are_known_before_the_first_sample(tmp_path: Path, wrap: str) -> None:
    """Whether a list of summaries tells them or the samples themselves; losses may be below 0."""
    samples = [
        sample(id=n, scores={"loss": {"value": {"nll": v}}}) for n, v in enumerate((1, -3.5))
    ]
    if wrap == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps(HEADER | {"samples": samples}))
    else:
        members = {f"samples/{s['id']}_epoch_1.json": s for s in samples}
        summaries = [{k: s[k] for k in ("id", "epoch", "scores")} for s in samples]
        listed = {"summaries.json": summaries} if wrap == "summaries" else {}
        path = archive(tmp_path / "log.eval", {"header.json": HEADER, **members, **listed})

    traces = of(load(path)[0], Trace)

    assert [(t.scores[0].scorer, t.scores[0].metric) for t in traces] == [
        ("loss/nll", 1),
        ("loss/nll", -3.5),
    ]
    assert [t.passed for t in traces] == [None, None]


@pytest.mark.parametrize(
    ("stated", "agrees", "told"),
    [(1.0, True, "1 without a value left out"), (0.5, False, "counts as 0")],
)
def test_stated_means_are_held_against_those_of_the_analyses(
    tmp_path: Path, stated: float, told: str, *, agrees: bool
) -> None:
    """Over what has a value; that the log counts nulls as 0 is said."""
    header = HEADER | {
        "results": {
            "scores": [{"name": "m", "scorer": "m", "metrics": {"mean": {"value": stated}}}]
        }
    }
    samples = [sample(id=n, scores={"m": {"value": v}}) for n, v in enumerate((1.0, None))]
    members = {f"samples/{s['id']}_epoch_1.json": s for s in samples}

    (total,) = load(archive(tmp_path / "log.eval", {"header.json": header, **members}))[1].totals

    assert (total.name, total.computed, total.agrees) == ("mean of m", 1.0, agrees)
    assert told in total.nulls


# -- what providers say themselves --------------------------------------------------------------

GROQ = {
    "prompt_tokens": 10_000,
    "completion_tokens": 500,
    "total_tokens": 10_500,
    "prompt_tokens_details": {"cached_tokens": 9_900},
    "completion_tokens_details": {"reasoning_tokens": 420},
}
SUMMARY = {"input_tokens": 10_000, "output_tokens": 500, "total_tokens": 10_500}


def _call(tmp_path: Path, response: dict, summary: dict = SUMMARY) -> tuple[dict, FileReport]:
    output = model()["output"] | {"usage": summary}
    event = model(output=output, call={"request": {}, "response": response})
    trace, report = one(tmp_path, events=[event], model_usage={})
    names = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
    return {name: getattr(trace.calls[0], name) for name in names}, report


@pytest.mark.parametrize(
    "response", [{"usage": GROQ}, {"choices": [{"usage": GROQ}]}], ids=["top", "choice"]
)
def test_the_providers_own_usage_is_read_before_a_summary_of_it(
    tmp_path: Path, response: dict
) -> None:
    """Cached and thinking tokens that Inspect's adapter passes over."""
    found, report = _call(tmp_path, response)

    assert list(found.values()) == [10_000, 9_900, 500, 420]
    assert report.conventions == {"the provider's own usage, read as chat": 1}


@pytest.mark.parametrize(
    ("raw", "summary", "expected"),
    [
        (
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            SUMMARY,
            [10_000, None, 500, None],
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 99},
            SUMMARY,
            [10_000, None, 500, None],
        ),
        (
            {"prompt_tokens": 10_000, "completion_tokens": 500},
            SUMMARY | {"input_tokens": 1_000, "input_tokens_cache_read": 9_000},
            [10_000, 9_000, 500, None],
        ),
        (
            {"prompt_tokens": 7, "completion_tokens": 500},
            SUMMARY | {"reasoning_tokens": 3},
            [7, None, 500, None],
        ),
    ],
    ids=[
        "zeros are no evidence",
        "not understood",
        "what it leaves out is filled in",
        "another count",
    ],
)
def test_a_summary_stands_where_the_usage_says_nothing(
    tmp_path: Path, raw: dict, summary: dict, expected: list
) -> None:
    """Zeros beside text, sums that do not add up, and what only Inspect knows."""
    found, _ = _call(tmp_path, {"usage": raw}, summary)

    assert list(found.values()) == expected


def test_thinking_beside_the_output_is_told_by_the_total(tmp_path: Path) -> None:
    """Of any model but those whose totals count it twice."""
    beside = {
        "input_tokens": 100,
        "output_tokens": 200,
        "total_tokens": 450,
        "reasoning_tokens": 150,
    }
    found, _ = _call(tmp_path, {}, beside)

    assert found["output_tokens"] == 350


def test_a_clock_that_was_set_back_gives_no_duration(tmp_path: Path) -> None:
    """Seconds below 0 are unknown, of calls and of the sample."""
    output = model()["output"] | {"time": None}
    event = at(5, output=output) | {"completed": DAY.format(4, 1)}
    trace, _ = one(tmp_path, events=[event], total_time=-3.5, working_time=-1)

    assert (trace.calls[0].e2e_s, trace.e2e_s, trace.working_s) == (None, None, None)


def test_counts_that_contradict_themselves_are_in_the_report(tmp_path: Path) -> None:
    """Such a call has no cost."""
    raw = GROQ | {"prompt_tokens_details": {"cached_tokens": 10_001}}
    _, report = _call(tmp_path, {"usage": raw})

    assert (
        "cache_read_tokens 10001 is more than input_tokens 10000; the call has no cost"
        in report.mismatches.texts[0]
    )


def test_zip_files_by_the_standard_library_are_read_too(tmp_path: Path) -> None:
    """Nothing here depends on how the test writes its archives."""
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("header.json", json.dumps(HEADER))
        zipped.writestr("samples/a/b_epoch_1.json", json.dumps(sample(id="a/b")))

    frame = pl.DataFrame({"item": [i.item for i in of(load(path)[0], Item)]})

    assert frame["item"].to_list() == ["a/b"]
