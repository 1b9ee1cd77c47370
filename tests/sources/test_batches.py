"""Batch results, EvalPlus results and OpenRouter's activity export."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Trace
from workbench.sources import FileReport
from workbench.store import Store, open_store

Line = dict[str, Any]


def write(path: Path, lines: Iterable[Line]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """Read one file."""
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def store_of(folder: Path, *paths: Path) -> Store:
    """Import files one by one."""
    store = open_store(folder / "s.duckdb", create=True)
    for path in paths:
        store.ingest(sources.read(path))
    return store


# -- batches -------------------------------------------------------------------------------------


def result(key: str, words: str = "42", **usage: int) -> Line:
    """A result of OpenAI's chat completions."""
    counts = {"prompt_tokens": 120, "completion_tokens": 900, "total_tokens": 1020} | usage
    details = {"reasoning_tokens": 832}
    counts["completion_tokens_details"] = details  # type: ignore[assignment]  # nested
    message = {"role": "assistant", "content": words, "refusal": None}
    body = {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "gpt-5-2025-08-07",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": counts,
    }
    response = {"status_code": 200, "request_id": f"req_{key}", "body": body}
    return {"id": f"batch_req_{key}", "custom_id": key, "response": response, "error": None}


def failure(key: str) -> Line:
    """A line of the file of errors."""
    fault = {"message": "bad", "type": "invalid_request_error", "code": None}
    response = {"status_code": 400, "request_id": "r", "body": {"error": fault}}
    return {"id": f"batch_req_{key}", "custom_id": key, "response": response, "error": None}


def request(key: str, **more: Any) -> Line:
    """A request of the batch."""
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": f"what is {key}?"},
    ]
    body = {"model": "gpt-5", "messages": messages, "reasoning_effort": "high", "seed": 7, **more}
    return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_results_and_errors_of_a_batch_are_traces_at_batch_prices(tmp_path: Path) -> None:
    """Half of the ordinary price, for thinking too; what failed is a failure and not an answer."""
    store = store_of(
        tmp_path,
        write(tmp_path / "output.jsonl", [result("q-1"), result("q-2", "7")]),
        write(tmp_path / "errors.jsonl", [failure("q-3")]),
    )

    rows = store.sql(
        "SELECT item, answer, t.error_type, c.service_tier, t.input_tokens, t.reasoning_tokens,"
        " t.cost_usd "
        "FROM trace_facts t JOIN calls c USING (trace_id) ORDER BY item"
    ).rows()

    cost = pytest.approx(120 * 0.625e-6 + 900 * 5e-6)
    assert rows == [
        ("q-1", "42", None, "batch", 120, 832, cost),
        ("q-2", "7", None, "batch", 120, 832, cost),
        ("q-3", None, "invalid_request_error", "batch", None, None, None),
    ]


def test_results_of_a_batch_bear_the_ids_of_reply_and_request(tmp_path: Path) -> None:
    """A bill names one or the other; a failed line has no reply."""
    store = store_of(tmp_path, write(tmp_path / "output.jsonl", [result("q-1"), failure("q-3")]))

    rows = store.sql("SELECT response_id, request_id FROM calls ORDER BY request_id DESC").rows()

    assert rows == [("chatcmpl-q-1", "req_q-1"), (None, "r")]


def test_requests_in_the_same_folder_are_joined_by_their_custom_id(tmp_path: Path) -> None:
    """The question, the model and the settings as asked; those of a failed request too."""
    path = write(tmp_path / "output.jsonl", [result("q-2"), failure("q-1")])
    write(
        tmp_path / "input.jsonl",
        [request("q-1"), request("q-2", temperature=1, max_completion_tokens=9000)],
    )

    records, report = read(path)

    second, first = (r for r in records if isinstance(r, Configuration))
    assert (first.model, first.effort, first.provider, first.settings) == (
        "gpt-5",
        "high",
        "openai",
        '{"seed":7}',
    )
    assert (second.temperature, second.max_tokens) == (1.0, 9000)
    items = {r.item: r.input for r in records if isinstance(r, Item)}
    assert items["q-1"] == "system: be brief\n\nuser: what is q-1?"
    trace = next(r for r in records if isinstance(r, Trace))
    assert [(m.ordinal, m.role, m.kind, m.text) for m in trace.messages] == [
        (0, "system", "text", "be brief"),
        (1, "user", "text", "what is q-2?"),
        (2, "assistant", "text", "42"),
    ]
    assert trace.calls[0].response_model == "gpt-5-2025-08-07"
    assert not any("without their request" in note for note in report.notes)


def test_requests_of_two_batches_with_one_custom_id_are_not_guessed(tmp_path: Path) -> None:
    """Which of the two was asked is not known."""
    path = write(tmp_path / "output.jsonl", [result("q-1")])
    write(tmp_path / "a.jsonl", [request("q-1")])
    write(tmp_path / "b.jsonl", [request("q-1", model="gpt-4o")])

    records, report = read(path)

    assert next(r for r in records if isinstance(r, Configuration)).model == "gpt-5-2025-08-07"
    assert report.notes["custom_ids that occur in several files of requests: not joined"] == 1


def test_a_batch_imported_again_with_its_requests_is_the_same_traces(tmp_path: Path) -> None:
    """Results are known by the service's ids."""
    path = write(tmp_path / "output.jsonl", [result("q-1"), result("q-1")])
    store = store_of(tmp_path, path)
    write(tmp_path / "input.jsonl", [request("q-1")])
    store.ingest(sources.read(path))
    moved = write(tmp_path / "other name.txt", [result("q-1")])
    store.ingest(sources.read(moved))

    assert store.count() == 1
    assert read(path)[1].duplicates.n == 1


def test_a_file_of_requests_alone_says_that_it_is_read_with_its_results(tmp_path: Path) -> None:
    """It is a part of the format, and holds no answer."""
    records, report = read(write(tmp_path / "input.jsonl", [request("q-1")]))

    assert not records
    assert report.why_empty == "requests of a batch, which are read with its results"
    assert report.is_accounted_for


def test_answers_of_the_responses_api_and_tools_are_read(tmp_path: Path) -> None:
    """Its output is a list of items; what was cut says why."""
    body = {
        "id": "resp_1",
        "created_at": 1790000000,
        "model": "gpt-5-2025-08-07",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "name": "add", "arguments": '{"a":1}', "call_id": "c"},
            {"type": "message", "content": [{"type": "output_text", "text": "so"}]},
        ],
        "usage": {
            "input_tokens": 10,
            "output_tokens": 20,
            "total_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 5},
        },
    }
    line = {
        "id": "batch_req_1",
        "custom_id": "x",
        "response": {"status_code": 200, "body": body},
        "error": None,
    }
    records, _ = read(write(tmp_path / "o.jsonl", [line]))
    (trace,) = (r for r in records if isinstance(r, Trace))

    assert [(m.kind, m.text) for m in trace.messages] == [
        ("thinking", "hm"),
        ("tool_call", 'add({"a":1})'),
        ("text", "so"),
    ]
    assert (trace.calls[0].stop_reason, trace.calls[0].reasoning_tokens) == ("max_tokens", 5)
    assert trace.tool_calls[0].tool == "add"


def test_anthropics_results_are_read(tmp_path: Path) -> None:
    """Succeeded, errored and expired; the provider is known by the form."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "output_tokens": 7,
    }
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "four"}]
    message = {
        "id": "msg_1",
        "model": "claude-opus-4-5-20251101",
        "content": content,
        "stop_reason": "end_turn",
        "usage": usage,
    }
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    store = store_of(
        tmp_path,
        write(
            tmp_path / "results.jsonl",
            [
                {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
                {"custom_id": "b", "result": {"type": "errored", "error": fault}},
                {"custom_id": "c", "result": {"type": "expired"}},
            ],
        ),
    )

    rows = store.sql(
        "SELECT item, answer, provider, error_type, input_tokens, cost_usd FROM trace_facts"
        " ORDER BY item"
    ).rows()

    cost = pytest.approx((10 * 2.5 + 5 * 0.25 + 7 * 12.5) / 1e6)
    assert rows == [
        ("a", "four", "anthropic", None, 15, cost),
        ("b", None, "anthropic", "overloaded_error", None, None),
        ("c", None, "anthropic", "expired", None, None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "x", "response": {"body": None}},
        {"custom_id": "x", "response": {"status_code": 200, "body": {"choices": [5]}}},
        {
            "custom_id": "x",
            "response": {
                "status_code": 200,
                "body": {"choices": [{"message": {"tool_calls": [3]}}]},
            },
        },
        {"custom_id": "x", "response": {"status_code": 200, "body": {"output": [7, {"type": {}}]}}},
        {"custom_id": "x", "response": None, "error": {"code": "batch_expired", "message": "late"}},
        {"custom_id": "x", "result": {"type": "succeeded", "message": {"content": 5}}},
        {"custom_id": "x"},
        {"custom_id": 5, "response": {"body": {}}},
    ],
)
def test_a_result_of_another_shape_ends_nothing(tmp_path: Path, line: Line) -> None:
    """Files of others hold anything."""
    records, report = read(write(tmp_path / "o.jsonl", [result("q-1"), line]))

    assert any(isinstance(r, Trace) and r.answer == "42" for r in records)
    assert report.is_accounted_for


# -- EvalPlus ------------------------------------------------------------------------------------


def sample(task: str, base: str, plus: str | None, solution: str = "x") -> Line:
    """One sample as EvalPlus writes it."""
    found = {"task_id": task, "solution": solution, "base_status": base, "plus_status": plus}
    return found | {"base_fail_tests": [], "plus_fail_tests": [[1]] if plus == "fail" else []}


def results(**more: Any) -> Line:
    """Two tasks, of two samples and of one."""
    first = [sample("HumanEval/0", "pass", "fail"), sample("HumanEval/0", "pass", "pass")]
    tasks = {"HumanEval/0": first, "HumanEval/1": [sample("HumanEval/1", "timeout", "pass")]}
    return {"date": "2026-09-01 10:00", "hash": "h", "eval": tasks, **more}


def test_a_sample_passes_the_added_tests_only_with_the_base_ones(tmp_path: Path) -> None:
    """Each sample is a trial; both verdicts are scores, the stricter one first."""
    path = tmp_path / "gpt-4o_temp_0.8_eval_results.json"
    path.write_text(json.dumps(results(), indent=1))

    records, report = read(path)

    traces = [r for r in records if isinstance(r, Trace)]
    assert [
        (t.trial, t.passed, [(s.scorer, s.passed, s.value) for s in t.scores]) for t in traces
    ] == [
        (0, False, [("plus", False, "fail"), ("base", True, "pass")]),
        (1, True, [("plus", True, "pass"), ("base", True, "pass")]),
        (0, False, [("plus", False, "pass"), ("base", False, "timeout")]),
    ]
    (configuration,) = (r for r in records if isinstance(r, Configuration))
    assert (configuration.model, configuration.temperature) == ("gpt-4o", 0.8)
    assert report.notes["the model is taken from the file's name"] == 1
    assert report.is_accounted_for


def test_results_of_evalplus_are_no_inspect_log(tmp_path: Path) -> None:
    """Though both have an "eval"."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results()))

    found = sources.detect(path)

    assert found is not None
    assert found.name == "evalplus"


def test_the_pass_rate_that_the_file_states_is_checked(tmp_path: Path) -> None:
    """By the unbiased estimator over its samples."""
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps(results(pass_at_k={"base": {"pass@1": 0.5}, "plus": {"pass@1": 0.9}}))
    )

    _, report = read(path)

    assert [(t.name, t.computed, t.agrees) for t in report.totals] == [
        ("base pass@1", 0.5, True),
        ("plus pass@1", 0.25, False),
    ]


def test_older_results_are_pairs_of_status_and_details(tmp_path: Path) -> None:
    """And base tests may have been run alone."""
    old = {"nfiles": 2, "base": [["success", [True]], ["failed", [False]]], "plus": []}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"eval": {"Mbpp/2": old}}))

    records, _ = read(path)

    traces = [r for r in records if isinstance(r, Trace)]
    assert [(t.passed, [s.scorer for s in t.scores]) for t in traces] == [
        (True, ["base"]),
        (False, ["base"]),
    ]


@pytest.mark.parametrize("value", [{"base": 5}, [1], "x"])
def test_results_of_another_form_are_refused_with_the_place(tmp_path: Path, value: object) -> None:
    """Rather than read as no samples."""
    path = tmp_path / "r.json"
    whole = results()
    whole["eval"]["HumanEval/9"] = value
    path.write_text(json.dumps(whole))

    with pytest.raises(ImportFormatError, match="HumanEval/9"):
        read(path)


# -- OpenRouter ----------------------------------------------------------------------------------

ACTIVITY_COLUMNS = (
    "generation_id,created_at,cost_total,byok_usage_inference,"
    "tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,"
    "model_permaslug,provider_name,variant,cancelled,finish_reason_normalized,"
    "generation_time_ms,time_to_first_token_ms"
)
ROUTED = "anthropic/claude-4.5-sonnet-20250929,Anthropic"
ACTIVITY = f"""{ACTIVITY_COLUMNS}
gen-1,2026-09-28 03:46:57.713,0.0123,0,10389,137,64,9000,\
openai/gpt-5-2025-08-07,OpenAI,,false,stop,2210.5,410
gen-2,2026-09-28 03:47:10.100,0,0.044,2000,900,700,0,{ROUTED},,false,length,9000,1200
gen-3,2026-09-28 03:48:10.100,0.0001,0,500,0,0,0,{ROUTED},,true,,300,
"""


def test_an_activity_export_is_recognised_and_its_slugs_find_their_prices(tmp_path: Path) -> None:
    """Billed and computed cost stand beside each other, a key of one's own within; cancelled is
    failed."""
    path = tmp_path / "activity.csv"
    path.write_text(ACTIVITY)
    store = store_of(tmp_path, path)

    rows = store.sql(
        "SELECT item, canonical_model, billed_cost_usd, round(cost_usd, 6), e2e_s, ttft_s,"
        " stop_reason, error_type "
        "FROM trace_facts ORDER BY item"
    ).rows()

    assert rows == [
        ("gen-1", "gpt-5", 0.0123, 0.004231, 2.2105, 0.41, "stop", None),
        ("gen-2", "claude-sonnet-4-5", 0.044, 0.0195, 9.0, 1.2, "max_tokens", None),
        ("gen-3", "claude-sonnet-4-5", 0.0001, 0.0015, 0.3, None, None, "cancelled"),
    ]


@pytest.mark.parametrize(
    ("plus", "fault"), [('["a", 3]', "must be a list of texts"), ('["a"]', "is not a number")]
)
def test_only_numbers_are_added(tmp_path: Path, plus: str, fault: str) -> None:
    """A mapping that adds texts is refused."""
    mapping = tmp_path / "m.toml"
    mapping.write_text(f'[columns]\nitem = {{ column = "q", plus = {plus} }}')
    (tmp_path / "t.csv").write_text("q,a\n1,2\n")

    with pytest.raises(ImportFormatError, match=fault):
        list(sources.read(tmp_path / "t.csv", mapping=mapping))
