"""Inspect logs written here by hand: both compressions, unfinished, old forms, hostile ones."""

import contextlib
import json
import random
import struct
import zipfile
from pathlib import Path

import pytest

from tests.support.inspect_logs import (
    HEADER,
    PLAN,
    SPEC,
    T1,
    T2,
    USAGE,
    archive,
    load,
    model,
    of,
    one,
    sample,
    whole,
)
from workbench.errors import ImportFormatError
from workbench.records import Configuration, Item, Run, Trace
from workbench.sources.inspect import log_zip as inspect_zip


def span(id: str, type: str, parent: str | None = None) -> dict:
    return {"event": "span_begin", "id": id, "type": type, "name": type, "parent_id": parent}


def test_both_compressions_stored_and_json_give_the_same_records(tmp_path: Path) -> None:
    """Only the wrapping differs."""
    samples = [sample(), sample(id="b", epoch=2)]
    plain = tmp_path / "log.json"
    plain.write_text(json.dumps(HEADER | {"samples": samples}))

    every = [load(plain)] + [
        load(whole(tmp_path / f"log{method}.eval", *samples, method=method))
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93)
    ]

    for records, report in every:
        assert records[1:] == every[0][0][1:]
        assert records[0].run_id == every[0][0][0].run_id
        assert (report.rows_in, report.rows_out, report.adds_up) == (2, 2, True)


def test_the_header_becomes_run_task_and_configuration(tmp_path: Path) -> None:
    """Settings of the transport are left out; keys never come along."""
    records, report = load(whole(tmp_path / "log.eval", sample()))

    [run], [configuration] = of(records, Run), of(records, Configuration)
    assert (run.kind, run.source, run.origin, run.status) == (
        "import",
        "inspect",
        "log.eval",
        "done",
    )
    assert run.started_at is not None
    assert run.started_at.isoformat() == "2026-01-02T02:04:05+00:00"
    assert (run.n_planned, run.commit_sha) == (4, "abc")
    assert (records[1].task, records[1].version, records[1].scorer) == ("quiz", "3", "match")
    assert (configuration.provider, configuration.model) == ("openai", "gpt-x")
    assert (configuration.strategy, configuration.effort) == ("react", "high")
    assert (configuration.temperature, configuration.max_tokens) == (0.5, 100)
    assert json.loads(configuration.strategy_params or "") == [
        {"solver": "react", "params": {"a": 1}}
    ]
    assert json.loads(configuration.settings or "") == {
        "generate": {"top_k": 7},
        "model_args": {"base_url": "http://x"},
        "task_args": {"shots": 2},
        "limits": {"message_limit": 9},
    }
    assert "sk-secret" not in repr(records)
    assert report.notes["planned samples missing in the log"] == 3


def test_a_log_without_ids_is_told_by_its_bytes(tmp_path: Path) -> None:
    """As the earliest ones are; a time that is none is unknown."""
    spec = {"task": "t", "model": "local", "dataset": {}}
    header = {
        "eval": spec,
        "status": "error",
        "error": {"message": "out of memory"},
        "stats": {"started_at": "", "completed_at": "later"},
    }
    records, _ = load(archive(tmp_path / "a.eval", {"header.json": header}))
    again, _ = load(archive(tmp_path / "b.eval", {"header.json": header}))
    other, _ = load(archive(tmp_path / "c.eval", {"header.json": header | {"status": "x"}}))

    run = records[0]
    assert (run.status, run.error_message, run.ended_at) == ("failed", "out of memory", None)
    assert records[2].provider is None
    assert run.run_id == again[0].run_id != other[0].run_id


def test_a_sample_becomes_a_trace(tmp_path: Path) -> None:
    """Every field, once."""
    trace, _ = one(tmp_path, epoch=2, turn_count=1, uuid="u1")

    [call] = trace.calls
    assert (trace.trial, trace.e2e_s, trace.working_s) == (1, 3.5, 2.5)
    assert (trace.answer, trace.score, trace.passed, trace.stop_reason) == ("4", 1.0, True, "stop")
    assert json.loads(trace.metadata or "") == {"uuid": "u1"}
    assert (call.provider, call.model, call.response_model) == ("openai", "gpt-x", "gpt-x-1")
    assert (call.input_tokens, call.cache_read_tokens) == (100, 40)
    assert (call.output_tokens, call.reasoning_tokens, call.total_tokens) == (20, 15, 120)
    assert (call.e2e_s, call.role, call.n_requests) == (1.25, "subject", 1)
    assert json.loads(call.usage or "") == USAGE
    assert trace.started_at == call.started_at


def test_an_unfinished_log_gives_the_samples_written_so_far(tmp_path: Path) -> None:
    """It has a journal and no header."""
    start = {"version": 2, "eval": SPEC, "plan": PLAN}
    journal = [{"id": 1, "epoch": 1}, {"id": "b", "epoch": 1}]
    path = archive(
        tmp_path / "log.eval",
        {
            "_journal/start.json": start,
            "samples/1_epoch_1.json": sample(),
            "samples/b_epoch_1.json": sample(id="b"),
            "_journal/summaries/1.json": journal,
        },
    )

    records, report = load(path)

    assert [t.trial for t in of(records, Trace)] == [0, 0]
    assert [i.item for i in of(records, Item)] == ["1", "b"]
    assert of(records, Run)[0].status == "interrupted"
    assert any("unfinished log" in note for note in report.notes)
    assert [(t.name, t.stated, t.computed) for t in report.totals] == [
        ("samples in the journal", 2, 2)
    ]


def test_the_finished_log_continues_the_unfinished_one(tmp_path: Path) -> None:
    """Same run and traces, so that importing it later adds only what is new."""
    start = {"version": 2, "eval": SPEC, "plan": PLAN}
    members = {"_journal/start.json": start, "samples/1_epoch_1.json": sample()}
    before, _ = load(archive(tmp_path / "a.eval", members))
    after, _ = load(whole(tmp_path / "b.eval", sample(), sample(epoch=2)))

    ids = [[t.trace_id for t in of(records, Trace)] for records in (before, after)]
    assert ids[0] == ids[1][:1]


@pytest.mark.parametrize(
    "events",
    [
        [span("s", "scorers"), span("t", "scorer", "s"), model(span_id="t")],
        [span("t", "scorer"), span("u", "agent", "t"), model(span_id="u")],
        [{"event": "step", "action": "begin", "type": "scorer", "name": "m"}, model()],
        [model(role="grader")],
        [{"event": "subtask", "span_id": "t", "events": [model(role="grader")]}],
    ],
    ids=["span", "span inside", "step of old logs", "role", "nested"],
)
def test_graders_tokens_are_kept_apart(tmp_path: Path, events: list) -> None:
    """All roles together are what Inspect says; the subject's are less."""
    usage = {key: 2 * value for key, value in USAGE.items()}
    trace, report = one(tmp_path, events=[model(), *events], model_usage={"openai/gpt-x": usage})

    assert [c.role for c in trace.calls] == ["subject", "judge"]
    assert [c.input_tokens for c in trace.calls] == [100, 100]
    assert trace.n_turns == 1
    assert report.mismatches.n == 0


def test_calls_after_an_old_scorer_step_are_the_subjects(tmp_path: Path) -> None:
    """Steps end."""
    begin = {"event": "step", "action": "begin", "type": "scorer", "name": "m"}
    trace, _ = one(tmp_path, events=[begin, model(), begin | {"action": "end"}, model()])

    assert [c.role for c in trace.calls] == ["judge", "subject"]


def test_other_roles_are_the_subjects_and_said(tmp_path: Path) -> None:
    """A red team's tokens are spent too; the report says that they are there."""
    trace, report = one(tmp_path, events=[model(role="red_team")])

    assert trace.calls[0].role == "subject"
    assert report.notes["calls in the role 'red_team', counted as the subject's"] == 1


def test_conversation_thinking_tools_and_references(tmp_path: Path) -> None:
    """Pooled inputs, attachments, reasoning, a stripped submit: each part once and in order."""
    ask = {"id": "c1", "function": "add", "arguments": {"x": "attachment://a1"}}
    submit = {"id": "c2", "function": "submit", "arguments": {"answer": "4"}}
    pool = [
        {"role": "user", "content": "2+2?", "id": "m1"},
        {
            "role": "assistant",
            "id": "m2",
            "tool_calls": [ask],
            "content": [
                {"type": "reasoning", "reasoning": "attachment://a2"},
                {"type": "text", "text": "I add"},
            ],
        },
        {"role": "tool", "content": "4", "id": "m3", "tool_call_id": "c1", "function": "add"},
    ]
    last = {"role": "assistant", "content": "done", "id": "m4", "tool_calls": [submit]}
    out = [{"choices": [{"message": m, "stop_reason": "tool_calls"}]} for m in (pool[1], last)]
    tool = {"event": "tool", "timestamp": T1, "completed": T2, "events": []}
    events = [
        model(input=[], input_refs=[[0, 1]], output=out[0]),
        tool | {"id": "c1", "function": "add", "arguments": {"x": "attachment://a1"}, "result": 4},
        model(input=[], input_refs=[[0, 3]], output=out[1]),
        tool
        | {
            "id": "c2",
            "function": "submit",
            "arguments": {"answer": "4"},
            "result": "4",
            "working_time": 0.25,
            "error": {"type": "timeout", "message": "slow"},
        },
    ]
    trace, _ = one(
        tmp_path,
        events=events,
        model_usage={},
        messages=[*pool, {**last, "tool_calls": None}],
        events_data={"messages": pool, "calls": []},
        attachments={"a1": 'long "x"', "a2": "long thought"},
    )

    said = [(m.role, m.kind, m.text, m.call_ordinal, m.tool_call_ordinal) for m in trace.messages]
    assert said == [
        ("user", "text", "2+2?", None, None),
        ("assistant", "thinking", "long thought", 0, None),
        ("assistant", "text", "I add", 0, None),
        ("assistant", "tool_call", 'add({"x":"long \\"x\\""})', 0, 0),
        ("tool", "tool_result", "4", None, 0),
        ("assistant", "text", "done", 1, None),
        ("assistant", "tool_call", 'submit({"answer":"4"})', 1, 1),
        ("tool", "tool_result", "4", None, 1),
    ]
    add, end = trace.tool_calls
    assert (add.tool, add.call_ordinal, add.e2e_s, add.result_bytes) == ("add", 0, 2.0, 1)
    assert json.loads(add.arguments or "") == {"x": 'long "x"'}
    assert (end.tool, end.call_ordinal, end.e2e_s) == ("submit", 1, 0.25)
    assert (end.error_type, end.error_message) == ("timeout", "slow")


def test_messages_without_ids_are_told_by_place_and_text(tmp_path: Path) -> None:
    """As early logs have them: the second input repeats the first turn."""
    turn = [
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "go on"},
    ]
    out = [{"choices": [{"message": {"role": "assistant", "content": c}}]} for c in "12"]
    events = [model(input=turn[:1], output=out[0]), model(input=turn, output=out[1])]
    trace, _ = one(
        tmp_path, events=events, model_usage={}, messages=[*turn, out[1]["choices"][0]["message"]]
    )

    assert [m.text for m in trace.messages] == ["go on", "1", "go on", "2"]


def test_other_content_is_named_and_redacted_thinking_is_its_summary(tmp_path: Path) -> None:
    """Pictures are not kept; hidden thinking has only a summary."""
    content = [
        {"type": "image", "image": "data:image/png;base64,AAAA"},
        {"type": "reasoning", "reasoning": "gibberish", "redacted": True, "summary": "I thought"},
        {
            "type": "tool_use",
            "tool_type": "web_search",
            "id": "w",
            "name": "search",
            "arguments": "{}",
            "result": "found",
        },
    ]
    message = {"role": "assistant", "content": content, "id": "x"}
    trace, report = one(tmp_path, events=[], messages=[message])

    said = [(m.kind, m.text) for m in trace.messages]
    assert said == [
        ("text", "[image]"),
        ("thinking", "I thought"),
        ("tool_call", "search({})"),
        ("tool_result", "found"),
    ]
    assert report.notes["message parts of type 'image': only the type is stored"] == 1


def test_without_events_the_totals_are_one_call(tmp_path: Path) -> None:
    """How many requests they sum up is not known."""
    trace, report = one(tmp_path, events=[])

    [call] = trace.calls
    assert (call.n_requests, call.input_tokens, call.output_tokens) == (None, 100, 20)
    assert any("without model events" in note for note in report.notes)


def test_errors_limits_and_retries(tmp_path: Path) -> None:
    """A failed sample is data; its error is named by its exception."""
    traceback = "Traceback (most recent call last):\n  File x\nopenai.RateLimitError: no"
    failed, _ = one(
        tmp_path,
        scores=None,
        error={"message": "no", "traceback": traceback},
        error_retries=[{"message": "a", "traceback": "b", "traceback_ansi": ""}],
        limit={"type": "token", "limit": 100, "reason": "too many"},
        events=[model(error="Cancelled by limit", retries=2, output={"choices": []})],
        model_usage={},
    )

    [call] = failed.calls
    assert (failed.error_type, failed.error_message) == ("RateLimitError", "no")
    assert (failed.stop_reason, failed.limit_type) == ("error", "tokens")
    assert (failed.score, failed.passed) == (None, None)
    metadata = json.loads(failed.metadata or "")
    assert metadata == {"error_retries": 1, "limit": {"value": 100, "reason": "too many"}}
    assert (call.error_type, call.stop_reason, call.n_retries) == ("cancelled", "error", 2)
    assert (call.input_tokens, call.output_tokens) == (None, None)
    assert call.e2e_s == 1.0


def test_a_reply_bears_the_providers_id_unless_it_came_from_the_cache(tmp_path: Path) -> None:
    """One request is on the bill, though the log holds its response twice; Gemini's name counts."""
    gemini = {"request": {}, "response": {"responseId": "r-1"}}
    sent, repeated = model(call=gemini), model(call=gemini, cache="read")
    trace, _ = one(tmp_path, events=[sent, repeated])

    assert [call.response_id for call in trace.calls] == ["r-1", None]


def test_an_answer_from_inspects_cache_costs_nothing(tmp_path: Path) -> None:
    """Its usage is that of the first time, which Inspect does not count again."""
    trace, report = one(tmp_path, events=[model(), model(cache="read")])

    assert [(c.n_requests, c.input_tokens, c.output_tokens) for c in trace.calls] == [
        (1, 100, 20),
        (0, 0, 0),
    ]
    assert report.mismatches.n == 0


def test_what_only_the_provider_says_is_taken_from_its_usage(tmp_path: Path) -> None:
    """Hour-long cache writes, the bill, the request's name, the tier."""
    usage = {
        "cost": 0.01,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 7},
    }
    response = {"id": "req1", "service_tier": "flex", "usage": usage}
    trace, _ = one(tmp_path, events=[model(call={"request": {}, "response": response})])

    [call] = trace.calls
    assert (call.request_id, call.service_tier, call.billed_cost_usd) == ("req1", "flex", 0.01)
    assert call.response_id == "req1"
    assert (call.cache_write_5m_tokens, call.cache_write_1h_tokens) == (3, 7)
    assert json.loads(call.usage or "") == usage


@pytest.mark.parametrize(
    ("value", "score", "passed", "text"),
    [
        ("C", 1.0, True, "C"),
        ("I", 0.0, False, "I"),
        ("P", 0.5, False, "P"),
        ("N", 0.0, False, "N"),
        (True, 1.0, True, "true"),
        (0.25, 0.25, False, "0.25"),
        ("yes", 1.0, True, "yes"),
        ("0.5", 0.5, False, "0.5"),
        ("words", None, None, "words"),
        (7, None, None, "7"),
        ([1, 0], None, None, "[1,0]"),
        (None, None, None, None),
    ],
)
def test_score_values(tmp_path: Path, value, score, passed, text) -> None:
    """Letters, numbers and words; what is no number in 0..1 is null and kept as text."""
    trace, _ = one(tmp_path, scores={"s": {"value": value, "explanation": "because"}})

    [found] = trace.scores
    assert (found.score, found.passed, found.value) == (score, passed, text)
    assert (trace.score, trace.passed, found.explanation) == (score, passed, "because")


def test_several_scorers_and_one_with_keys(tmp_path: Path) -> None:
    """The first gives the trace's score; a dict gives one score per key."""
    scores = {"a": {"value": {"x": 1, "y": 0}}, "b": {"value": "P"}}
    trace, _ = one(tmp_path, scores=scores)

    assert [(s.scorer, s.score) for s in trace.scores] == [("a/x", 1), ("a/y", 0), ("b", 0.5)]
    assert trace.score == 1.0


def test_item_with_chat_input_choices_targets_and_metadata(tmp_path: Path) -> None:
    """What has no column is kept as metadata."""
    given = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "attachment://a"},
    ]
    path = whole(
        tmp_path / "log.eval",
        sample(
            input=given,
            choices=["x", "y"],
            target=["x", "z"],
            metadata={"k": 1},
            attachments={"a": "which?"},
        ),
    )

    [item] = of(load(path)[0], Item)

    assert item.input == "system: be brief\n\nuser: which?"
    assert json.loads(item.target or "") == ["x", "z"]
    assert json.loads(item.metadata or "") == {"choices": ["x", "y"], "sample": {"k": 1}}


def test_nan_becomes_null_and_is_told(tmp_path: Path) -> None:
    """Inspect writes NaN where JSON has none."""
    trace, report = one(tmp_path, scores={"s": {"value": float("nan")}, "t": {"value": "C"}})

    assert [s.score for s in trace.scores] == [None, 1.0]
    assert report.notes["NaN or infinite numbers, read as null"] == 1


def test_half_a_surrogate_pair_is_replaced_and_told(tmp_path: Path) -> None:
    """A cut emoji is no reason to lose a log."""
    data = json.dumps(sample(target="XYZ")).replace("XYZ", "\\ud83d").encode()
    path = archive(tmp_path / "log.eval", {"header.json": HEADER, "samples/1_epoch_1.json": data})

    records, report = load(path)

    assert of(records, Item)[0].target == "?"
    assert report.notes["documents with half surrogate pairs, read as ?"] == 1


def test_a_sample_whose_calls_do_not_add_up_is_reported(tmp_path: Path) -> None:
    """With the sample and both figures."""
    _, report = one(tmp_path, events=[model(), model()])

    assert report.mismatches.n == 2
    assert (
        "samples/1_epoch_1.json: input_tokens of its calls add up to 120, not to the stated 60"
        in (report.mismatches.texts[0])
    )


def test_the_logs_own_results_are_held_against_ours(tmp_path: Path) -> None:
    """Accuracy over items after averaging epochs, and tokens of all models."""
    header = HEADER | {
        "results": {
            "completed_samples": 2,
            "scores": [{"name": "match", "metrics": {"accuracy": {"value": 0.25}}}],
        },
        "stats": {"model_usage": {"openai/gpt-x": {"input_tokens": 120, "output_tokens": 41}}},
    }
    wrong = sample(epoch=2, scores={"match": {"value": "I"}})
    path = archive(
        tmp_path / "log.eval",
        {
            "header.json": header,
            "samples/1_epoch_1.json": sample(),
            "samples/1_epoch_2.json": wrong,
        },
    )

    _, report = load(path)

    assert [(t.name, t.stated, t.computed, t.agrees) for t in report.totals] == [
        ("input tokens of all models, as logged", 120, 120, True),
        ("output tokens of all models, as logged", 41, 40, False),
        ("samples without error", 2, 2, True),
        ("accuracy of match", 0.25, 0.5, False),
    ]


def test_a_sample_that_stands_twice_is_reported(tmp_path: Path) -> None:
    """In a .json log, where nothing prevents it."""
    path = tmp_path / "log.json"
    path.write_text(json.dumps(HEADER | {"samples": [sample(), sample()]}))

    records, report = load(path)

    assert len(of(records, Trace)) == 1
    assert report.duplicates.texts == [
        "samples[1]: item '1', epoch 1 occurs twice; the first one is imported"
    ]
    assert report.is_accounted_for


# -- bad input ---------------------------------------------------------------------------------


def fails(path: Path, *parts: str) -> None:
    with pytest.raises(ImportFormatError) as caught:
        load(path)
    for part in (path.name, *parts):
        assert part in str(caught.value)


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    """Cut anywhere."""
    path = whole(tmp_path / "log.eval", sample())
    data = path.read_bytes()
    for cut in (len(data) - 1, len(data) - 30, len(data) // 2, 60):
        path.write_bytes(data[:cut])
        fails(path, "truncated or not a zip file")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, 93])
def test_a_damaged_member_is_an_error(tmp_path: Path, method: int) -> None:
    """Named, with what to do."""
    path = whole(tmp_path / "log.eval", sample(), method=method)
    data = bytearray(path.read_bytes())
    at = data.index(b"samples/1_epoch_1.json") + 60
    data[at : at + 20] = b"\x55" * 20
    path.write_bytes(bytes(data))

    fails(path, "samples/1_epoch_1.json", "damaged", "copy the log again")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, 93])
def test_a_member_that_inflates_to_more_than_it_says_is_refused(
    tmp_path: Path, method: int
) -> None:
    """The declared size is not believed."""
    name = "samples/1_epoch_1.json"
    path = archive(tmp_path / "log.eval", {"header.json": HEADER, name: b" " * 10**6}, method)
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 10**6), struct.pack("<L", 50)))

    fails(path, name, "more than the 50 bytes")


def test_a_bomb_is_refused_before_it_inflates(tmp_path: Path) -> None:
    """Over 2 GiB, or over 2000-fold beyond 64 MiB."""
    name = "samples/1_epoch_1.json"
    path = archive(tmp_path / "log.eval", {"header.json": HEADER, name: b" " * 10**6})
    data = path.read_bytes()
    size = struct.pack("<L", 10**6)

    path.write_bytes(data.replace(size, struct.pack("<L", 2**31 + 1)))
    fails(path, name, "over the limit", "not read")
    path.write_bytes(data.replace(size, struct.pack("<L", 2**27)))
    fails(path, name, "which no log does")
    assert inspect_zip.MEMBER_LIMIT == 2**31


def test_an_encrypted_or_strange_member_is_refused(tmp_path: Path) -> None:
    """With the reason."""
    path = archive(tmp_path / "log.eval", {"header.json": HEADER}, method=12)
    fails(path, "zip method 12")
    directory = b"PK\x01\x02\x14\x00\x14\x00"
    plain = archive(path, {"header.json": HEADER}).read_bytes()
    path.write_bytes(plain.replace(directory + b"\0", directory + b"\1"))
    fails(path, "encrypted")


def test_a_zip_of_something_else_is_no_log(tmp_path: Path) -> None:
    """An office document, say."""
    path = archive(tmp_path / "thing.docx", {"word/document.xml": b"<x/>"})

    fails(path, "no known format")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"{", ["1_epoch_1.json", "not JSON"]),
        (b'{"epoch": 1}', ["1_epoch_1.json", "`id`"]),
        (b'{"id": 1, "events": "x"}', ["1_epoch_1.json", "$.events"]),
        (b'{"id": 1, "epoch": 99999999999999999999999}', ["$.epoch"]),
        (b'{"id": 1, "target": "\xff"}', ["1_epoch_1.json", "not UTF-8 at byte 21"]),
        (b'{"id": 1, "metadata": ' + b"[" * 100_000, ["1_epoch_1.json"]),
        (b'{"id": 1, "total_time": 1e999}', ["out of range", "$.total_time"]),
        (b'{"id": 1, "started_at": "yesterday"}', ["$.started_at"]),
    ],
    ids=["torn", "no id", "wrong type", "huge", "latin-1", "deep", "infinite", "time"],
)
def test_a_broken_sample_names_file_member_and_field(
    tmp_path: Path, data: bytes, parts: list[str]
) -> None:
    """A clear error, never a traceback of another library."""
    path = archive(tmp_path / "log.eval", {"header.json": HEADER, "samples/1_epoch_1.json": data})

    fails(path, *parts)


@pytest.mark.parametrize("tokens", [10**25, -5, "many"])
def test_impossible_token_counts_name_the_field(tmp_path: Path, tokens: object) -> None:
    """Beyond 64 bits, negative, or no number."""
    event = model()
    event["output"]["usage"] = USAGE | {"input_tokens": tokens}
    path = whole(tmp_path / "log.eval", sample(events=[event]))

    fails(path, "samples/1_epoch_1.json", "$.input_tokens")


def test_a_json_log_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    """With the place of the first wrong byte."""
    path = tmp_path / "log.json"
    text = json.dumps(HEADER | {"samples": [sample(target="grün")]}, ensure_ascii=False)
    path.write_bytes(text.encode("latin-1"))

    fails(path, "not UTF-8 at byte")


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_gives_anything_but_an_import_error(tmp_path: Path, seed: int) -> None:
    """Bytes changed, cut out or doubled at random, in archives, members and plain logs."""
    rng = random.Random(seed)
    text = json.dumps(HEADER | {"samples": [sample(), sample(epoch=2)]}).encode()
    zipped = whole(tmp_path / "log.eval", sample(), sample(epoch=2), method=93).read_bytes()
    member = json.dumps(sample()).encode()

    for n in range(60):
        path = tmp_path / f"broken{n}.eval"
        if n % 3 == 0:
            path.write_bytes(damaged(zipped, rng))
        elif n % 3 == 1:
            path.write_bytes(damaged(text, rng))
        else:
            broken = damaged(member, rng)
            archive(path, {"header.json": HEADER, "samples/1_epoch_1.json": broken})
        with contextlib.suppress(ImportFormatError):
            load(path)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change, cut out or double a few bytes."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, n = rng.randrange(len(broken)), rng.randint(1, 8)
        filler = rng.choice([b"", bytes(broken[at : at + n]) * 2, rng.randbytes(n), b"null", b"-9"])
        broken[at : at + n] = filler
    return bytes(broken)


def test_many_members_that_are_harmless_one_by_one_are_refused_together(tmp_path: Path) -> None:
    """A log is bounded as a whole."""
    path = tmp_path / "log.eval"
    whole(path, sample())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as zipped:
        for n in range(8):
            zipped.writestr(f"samples/many{n}_epoch_1.json", b" " * 2**24)

    fails(path, "members, which no log does")
