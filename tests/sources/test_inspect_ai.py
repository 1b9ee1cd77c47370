"""Our reader beside inspect-ai's own, on real logs and on logs that it writes here."""

import json
import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from workbench import sources
from workbench.records import Call, Item, Trace
from workbench.sources import FileReport

REAL = (
    "inspect_logs/2025-05-12T20-28-13-04-00_popularity.json",
    "inspect_logs/2025-09-23T08-09-58-04-00_popularity_DN2wbX2ZvACsBpjwptzBRo.eval",
    "inspect_logs/2025-09-23T08-09-58-04-00_security-guide_LuxZJVwvymC3S3SyoJczxB.eval",
    "generated/inspect_0.3.285_mockllm_react_5items_3epochs_zstd.eval",
    "generated/inspect_0.3.285_mockllm_react_5items_3epochs.json",
)


def compare(path: Path) -> FileReport:
    """Hold every sample of a log against what inspect-ai reads from it."""
    from inspect_ai.log import read_eval_log

    theirs = read_eval_log(str(path), resolve_attachments=True)
    report = FileReport(path)
    records = list(sources.read(path, report=report))
    items = {r.item_id: r for r in records if isinstance(r, Item)}
    traces = {(items[t.item_id].item, t.trial + 1): t for t in records if isinstance(t, Trace)}
    assert report.is_accounted_for
    assert report.adds_up
    assert len(traces) == len(theirs.samples) == report.rows_in
    for sample in theirs.samples:
        trace = traces[str(sample.id), sample.epoch]
        assert items[trace.item_id].input.endswith(last_text(sample.input))
        same_tokens(sample, trace)
        same_outcome(sample, trace)
        same_conversation(sample, trace)
    everything = Counter()
    for usage in theirs.stats.model_usage.values():
        everything.update(total=usage.total_tokens, output=usage.output_tokens)
    calls = [c for t in traces.values() for c in t.calls]
    assert sum(c.total_tokens or 0 for c in calls) == everything["total"]
    assert sum(c.output_tokens or 0 for c in calls) == everything["output"]
    return report


def last_text(given) -> str:
    return given if isinstance(given, str) else given[-1].text


def same_tokens(sample, trace: Trace) -> None:
    """Tokens per model over all roles; the input is inclusive, theirs may not be."""
    for name, usage in sample.model_usage.items():
        provider, _, model = name.partition("/")
        calls = [c for c in trace.calls if (c.provider, c.model) == (provider, model)]
        read, write = usage.input_tokens_cache_read, usage.input_tokens_cache_write
        cached = (read or 0) + (write or 0)
        excluded = usage.total_tokens == usage.input_tokens + cached + usage.output_tokens
        assert added(calls, "input_tokens") == usage.input_tokens + (cached if excluded else 0)
        assert added(calls, "output_tokens") == usage.output_tokens
        assert added(calls, "reasoning_tokens") == usage.reasoning_tokens
        assert added(calls, "cache_read_tokens") == read
        assert added(calls, "cache_write_5m_tokens") == write


def added(calls: list[Call], field: str) -> int | None:
    values = [getattr(c, field) for c in calls if getattr(c, field) is not None]
    return sum(values) if values else None


def same_outcome(sample, trace: Trace) -> None:
    """Scores, errors, limits, times, counts of events."""
    from inspect_ai.scorer import value_to_float

    to_float = value_to_float()
    scores = {s.scorer: s for s in trace.scores}
    for name, score in (sample.scores or {}).items():
        values = score.value if isinstance(score.value, dict) else {None: score.value}
        for key, value in values.items():
            ours = scores.pop(name if key is None else f"{name}/{key}")
            if not (isinstance(value, float) and math.isnan(value)):  # which is null here
                assert ours.score == to_float(value)
            assert ours.answer == score.answer
            assert ours.explanation == score.explanation
    assert not scores
    assert trace.error_message == (sample.error.message if sample.error else None)
    assert (trace.limit_type is None) == (sample.limit is None)
    assert (trace.e2e_s, trace.working_s) == (sample.total_time, sample.working_time)
    kinds = Counter(e.event for e in sample.events)
    assert len(trace.calls) == kinds["model"]
    assert len(trace.tool_calls) == kinds["tool"]
    for event, call in zip(
        [e for e in sample.events if e.event == "model"], trace.calls, strict=True
    ):
        assert call.started_at == event.timestamp
        assert call.e2e_s == event.output.time
    for event, tool in zip(
        [e for e in sample.events if e.event == "tool"], trace.tool_calls, strict=True
    ):
        assert tool.tool == event.function
        assert json.loads(tool.arguments) == event.arguments
        assert (tool.error_type, tool.error_message) == (
            (event.error.type, event.error.message) if event.error else (None, None)
        )


def same_conversation(sample, trace: Trace) -> None:
    """Every text of theirs is one of ours; thinking too, wherever it was said."""
    said = {m.text for m in trace.messages}
    thought = {m.text for m in trace.messages if m.kind == "thinking"}
    outputs = [
        e.output.choices[0].message
        for e in sample.events
        if e.event == "model" and e.output.choices and not graded(sample, e)
    ]
    for message in [*sample.messages, *outputs]:
        parts = [message.content] if isinstance(message.content, str) else message.content
        for part in parts:
            if isinstance(part, str) or part.type == "text":
                text = part if isinstance(part, str) else part.text
                assert not text or text in said
            elif part.type == "reasoning":
                assert part.reasoning in thought
    assert [m.ordinal for m in trace.messages] == list(range(len(trace.messages)))


def graded(sample, event) -> bool:
    spans = {e.id: e for e in sample.events if e.event == "span_begin"}
    span = spans.get(event.span_id)
    while span is not None:
        if span.type in {"scorer", "scorers"}:
            return True
        span = spans.get(span.parent_id)
    return False


@pytest.mark.parametrize("name", REAL, ids=lambda name: name.split("/")[1][:24])
def test_real_logs_agree_with_inspects_own_reader(shared_data: Path, name: str) -> None:
    """Tokens per sample and model, scores, counts, limits, errors, texts."""
    report = compare(shared_data / name)

    assert report.mismatches.n == 0


def test_the_published_accuracy_of_popularity(shared_data: Path) -> None:
    """.63 of 100."""
    traces = [r for r in sources.read(shared_data / REAL[1]) if isinstance(r, Trace)]

    assert sum(t.passed for t in traces) / len(traces) == pytest.approx(0.63)


def test_the_graders_tokens_of_security_guide_are_apart(shared_data: Path) -> None:
    """The subject spent a small part of what the log states as usage of the model."""
    traces = [r for r in sources.read(shared_data / REAL[2]) if isinstance(r, Trace)]

    spent = Counter()
    for trace in traces:
        assert [c.role for c in trace.calls] == ["subject", "judge"]
        for call in trace.calls:
            spent[call.role] += call.input_tokens + call.output_tokens
    assert spent["subject"] + spent["judge"] == 5279 + 5622
    assert spent["judge"] > 5 * spent["subject"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that inspect-ai writes now: cached input, a grader, a failing item, a limit, dict
    scores."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
        ModelOutput,
        ModelUsage,
        get_model,
    )
    from inspect_ai.scorer import Score, accuracy, includes, model_graded_qa, scorer
    from inspect_ai.solver import generate, solver

    def answer(input, tools, tool_choice, config):
        grading = "GRADE" in input[-1].text
        text = "GRADE: C" if grading else "the answer is 4, " * 10
        content = [ContentReasoning(reasoning="hm " * 60), ContentText(text=text)]
        message = ChatMessageAssistant(content=content)
        usage = ModelUsage(
            input_tokens=60,
            output_tokens=20,
            total_tokens=130,
            input_tokens_cache_read=40,
            input_tokens_cache_write=10,
            reasoning_tokens=15,
        )
        choice = ChatCompletionChoice(message=message, stop_reason="stop")
        return ModelOutput(model="mock-1", choices=[choice], usage=usage, time=0.5)

    @solver
    def breaks():
        async def solve(state, generate):
            if "bad" in state.input_text:
                msg = "cannot solve this"
                raise ValueError(msg)
            if "long" in state.input_text:
                for _ in range(5):
                    state.messages.append(ChatMessageUser(content="go on"))
                    state = await generate(state)
            return state

        return solve

    @scorer(metrics={"*": [accuracy()]})
    def odd():
        async def score(state, target):
            return Score(value={"x": 1.0, "y": float("nan")}, answer="4", explanation="odd")

        return score

    chat = [ChatMessageUser(content="What is 2+2? " * 20)]
    task = Task(
        name="made",
        dataset=[
            Sample(id=1, input=chat, target="4", metadata={"k": [1, 2]}),
            Sample(id="two", input="What is 1+3?", target=["4", "four"], choices=["4", "5"]),
            Sample(id="bad", input="bad", target="x"),
            Sample(id="long", input="long", target="4"),
        ],
        solver=[generate(), breaks()],
        scorer=[includes(), model_graded_qa(), odd()],
        message_limit=6,
    )
    folder = tmp_path_factory.mktemp("logs")
    model = get_model("mockllm/model", custom_outputs=answer)
    [log] = eval(
        task,
        model=model,
        epochs=2,
        log_dir=str(folder),
        display="none",
        fail_on_error=False,
        log_format="eval",
    )
    assert log.status == "success"
    return Path(str(log.location).removeprefix("file://"))


def test_a_log_written_now_agrees_with_inspects_own_reader(written: Path) -> None:
    """With all that the real logs lack."""
    report = compare(written)

    records = [r for r in sources.read(written) if isinstance(r, Trace)]
    assert "input excludes cached: added back" in report.conventions
    assert report.notes["NaN or infinite numbers, read as null"] >= 6
    assert sum(t.error_type == "ValueError" for t in records) == 2
    assert sum(t.limit_type == "messages" for t in records) == 2
    assert {c.role for t in records for c in t.calls} == {"subject", "judge"}


def test_the_same_log_as_json_gives_the_same_records(written: Path, tmp_path: Path) -> None:
    """Run, traces and texts do not depend on the wrapping."""
    from inspect_ai.log import read_eval_log, write_eval_log

    plain = tmp_path / "log.json"
    write_eval_log(read_eval_log(str(written)), str(plain), format="json")

    ours = [
        {r.trace_id: r for r in sources.read(p) if isinstance(r, Trace)} for p in (written, plain)
    ]
    assert ours[0].keys() == ours[1].keys()
    for id, trace in ours[0].items():
        assert trace == ours[1][id]


def test_chunked_samples_give_the_same_records(written: Path, tmp_path: Path) -> None:
    """As inspect-ai's own converter writes them, in chunks of two entries.

    It gives messages of equal text one id, so that only the texts of a conversation can be
    compared.
    """
    from inspect_ai.log._recorders.chunked import convert_eval_logs_to_chunked

    convert_eval_logs_to_chunked(
        str(written), str(tmp_path), chunk_size=2, attachments_chunk_bytes=50
    )
    chunked = tmp_path / written.name
    report = FileReport(chunked)

    ours = [
        {r.trace_id: r for r in sources.read(path, report=report) if isinstance(r, Trace)}
        for path in (written, chunked)
    ]

    assert ours[0].keys() == ours[1].keys()
    for id, trace in ours[0].items():
        other = ours[1][id]
        texts, others = ({(m.role, m.kind, m.text) for m in t.messages} for t in (trace, other))
        assert texts == others
        bare = [msgspec.structs.replace(t, messages=()) for t in (trace, other)]
        assert bare[0] == bare[1]
    assert not report.skipped
    assert not report.incomplete.n


@pytest.fixture(scope="module")
def retried(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A log of inspect-ai with a sample that fails, and the log of its eval-retry."""
    from inspect_ai import Task, eval, eval_retry, task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate, solver

    class Fixed(ModelAPI):
        async def generate(self, input, tools, tool_choice, config):
            output = ModelOutput.from_content("fixed-1", "4")
            output.usage = ModelUsage(input_tokens=100, output_tokens=20, total_tokens=120)
            return output

    @modelapi(name="fixed")
    def fixed():
        return Fixed

    tries: Counter[str] = Counter()

    @solver
    def fails_thrice():
        async def solve(state, generate):
            tries[str(state.sample_id)] += 1
            if state.sample_id == "flaky/1" and tries["flaky/1"] < 4:
                raise RuntimeError("boom")
            return state

        return solve

    @task
    def made_again():
        dataset = [Sample(id=f"{n}/1", input="2+2?", target="4") for n in ("good", "flaky")]
        return Task(dataset=dataset, solver=[generate(), fails_thrice()], scorer=includes())

    folder = str(tmp_path_factory.mktemp("retried"))
    shared = {"log_dir": folder, "display": "none", "fail_on_error": False, "retry_on_error": 1}
    [first] = eval(made_again(), model="fixed/model", **shared)
    [second] = eval_retry(first, **shared)
    return [Path(str(log.location).removeprefix("file://")) for log in (first, second)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_eval_retry_and_retry_on_error_as_inspect_writes_them(
    retried: list[Path], tmp_path: Path, order: tuple[int, int]
) -> None:
    """Two answers; three tries that failed were made again; five requests, each once."""
    from workbench.store import open_store

    store = open_store(tmp_path / "s.duckdb", create=True)
    for number in order:
        report = FileReport(retried[number])
        store.ingest(sources.read(retried[number], report=report))
        assert report.is_whole, report

    found = store.sql(
        "SELECT item, passed, is_replaced, n_calls FROM trace_facts"
        " ORDER BY item, passed NULLS LAST"
    )
    assert found.rows() == [
        ("flaky/1", True, None, 1),
        *[("flaky/1", None, True, 1)] * 3,
        ("good/1", True, None, 1),
    ]
    assert store.sql("SELECT sum(input_tokens)::INT AS n FROM calls")["n"][0] == 500
