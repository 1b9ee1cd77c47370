"""Replay: what was recorded is answered again, byte for byte, and nothing else is."""

import asyncio
import dataclasses
import json
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runner_stub import DONE, Stub, delta, fixed, stream, usage
from tests.support.sums import task_set
from workbench import spool
from workbench.errors import ProviderRejected, ProviderUnavailable, StoreMissing
from workbench.records import Call, Configuration, Message, ToolCall, Trace
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts.session import Outcome
from workbench.runner.planning.plan import seed_of
from workbench.runner.providers import thinking_tags
from workbench.runner.providers.current_attempt import CURRENT_ATTEMPT, CurrentAttempt
from workbench.runner.providers.protocol import Reply, Request, ToolSpec
from workbench.runner.providers.recording import Part, Recorded, raw_text
from workbench.runner.providers.replay import Replay
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter
from workbench.store import open_store
from workbench.store.recorded import read

COUNTS = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


def said(seen):
    """A reply that differs from request to request, whatever it is asked."""
    if seen.path == "/tokenize":
        return fixed(200, json.dumps({"tokens": list(seen.json["content"])}).encode())
    number = seen.number
    body = seen.json
    begun = body["messages"][-1]
    if begun["role"] == "assistant" and begun["content"].endswith("<think>"):
        text = f" hm {number}\n" + ("</think>\n Answer: 2" if number % 2 else "")
    else:
        text = f" {number} \n Score: {number % 10} Answer: {number % 5}\n"
    return stream(
        delta(reasoning_content=f"thought {number}")
        if number % 3 == 0
        else delta(role="assistant"),
        delta(text[:3]),
        delta(text[3:], finish="stop"),
        usage(**COUNTS),
        DONE,
    )


def run(folder, run_id, *, url="http://127.0.0.1:9/v1", strategies, provider=None, **given):
    """Collect the sums into a spool folder."""
    chosen = [strategy(s) if isinstance(s, str) else s for s in strategies]
    place = (
        {"base_url": url} if provider is None else {"endpoint": "replay", "recording": str(folder)}
    )
    given = {"models": ("m",), "tasks": ("sums",), "retries": 0, "concurrency": 4} | place | given
    plan = Plan(strategies=tuple(s.name for s in chosen), **given)
    with SpoolWriter(folder / run_id, run_id) as writer:
        report = asyncio.run(
            collect(plan, spool=writer, work=Work(plan, [task_set()], chosen), provider=provider)
        )
    return report, [
        r for s in spool.segments(folder / run_id) for r in spool.read_segment(s.path).records
    ]


def facts(records):
    """What an answer is, by strategy, item and trial: everything but times, ids and names of
    places."""
    names = {r.configuration_id: r.strategy for r in records if isinstance(r, Configuration)}
    found = {}
    for t in (r for r in records if isinstance(r, Trace)):
        calls = [
            (c.role, c.input_tokens, c.output_tokens, c.stop_reason, c.error_type, c.response_model)
            for c in t.calls
        ]
        tools = [(c.tool, c.arguments, c.call_ordinal) for c in t.tool_calls]
        found[names[t.configuration_id], t.item_id, t.trial] = (
            t.answer,
            t.score,
            t.passed,
            t.scores,
            t.confidence,
            t.verifier_score,
            t.stop_reason,
            t.error_type,
            t.n_turns,
            t.messages,
            calls,
            tools,
        )
    return found


SHIPPED = ("direct", "cot", "think", "self_consistency", "best_of_n", "self_refine")


def test_strategies_over_a_replay_give_the_same_traces(tmp_path):
    """Collected, replayed: texts, thinking, answers, scores and counts of every trial are equal."""
    with Stub(said) as stub:
        _, recorded = run(tmp_path, "live", url=stub.url, strategies=SHIPPED, trials=2, seed=5)
        n_asked = stub.n
    report, replayed = run(
        tmp_path, "again", strategies=SHIPPED, trials=2, seed=5, provider=Replay(recorded)
    )

    assert n_asked > 100
    assert (report.status, report.collected, report.failed) == ("done", 48, 0)
    assert facts(replayed) == facts(recorded)


def test_a_replayed_call_is_no_measurement(tmp_path):
    """Provider replay, no times, nothing billed, the recorded call named; the counts are facts."""
    with Stub(said) as stub:
        _, recorded = run(tmp_path, "live", url=stub.url, strategies=("direct",))
    _, replayed = run(tmp_path, "again", strategies=("direct",), provider=Replay(recorded))

    before = {f"{t.trace_id}-0" for t in recorded if isinstance(t, Trace)}
    calls = [t.calls[0] for t in replayed if isinstance(t, Trace)]
    assert {c.request_id for c in calls} == before
    for call in calls:
        assert (call.provider, call.billed_cost_usd, call.output_tokens) == ("replay", 0.0, 7)
        assert (call.ttft_s, call.answer_start_s, call.e2e_s, call.n_chunks, call.gap_max_s) == (
            None,
        ) * 5
    (configuration,) = [r for r in replayed if isinstance(r, Configuration)]
    assert configuration.provider == "replay"


@dataclasses.dataclass(frozen=True)
class ThreeTurns:
    """Asks with a tool until the model answers, at most three times."""

    name: ClassVar[str] = "three_turns"
    most_calls: ClassVar[int] = 3
    params: ClassVar[dict] = {}

    async def run(self, session, item):
        tools = (ToolSpec("add", "adds", {"type": "object"}),)
        chat = [
            {"role": "system", "content": "Use the tool."},
            {"role": "user", "content": item.question},
        ]
        reply = await session.generate(chat, tools=tools)
        while reply.tool_calls:
            chat.append(reply.turn)
            for place, tool in enumerate(reply.tool_calls):
                result = str(sum(json.loads(tool.arguments).values()))
                chat.append(
                    {
                        "role": "tool",
                        "tool_call_id": reply.tool_ids[place],
                        "name": tool.tool,
                        "content": result,
                    }
                )
                session.record_tool(
                    reply.call.ordinal, msgspec.structs.replace(tool, result_bytes=1), place=place
                )
            reply = await session.generate(chat, tools=tools)
        return Outcome(reply.text)


def with_tools(seen):
    """Asks for one tool, then for two, then answers."""
    done = [m for m in seen.json["messages"] if m["role"] == "tool"]
    question = next(m["content"] for m in seen.json["messages"] if m["role"] == "user")
    number = int("".join(c for c in question.split("+")[0] if c.isdigit()))
    if len(done) == 3:
        return stream(delta(f"Answer: {number + 1}", finish="stop"), usage(**COUNTS), DONE)
    asked = [
        {
            "index": n,
            "id": f"c{seen.number}-{n}",
            "function": {"name": "add", "arguments": json.dumps({"a": number, "b": n})},
        }
        for n in range(2 if done else 1)
    ]
    text = [delta("I add. ")] if done else []
    return stream(*text, delta(tool_calls=asked), delta(finish="tool_calls"), usage(**COUNTS), DONE)


def test_a_chat_of_three_turns_with_tools_is_found_turn_by_turn(tmp_path):
    """The prompt of each turn repeats what was said: text, calls of tools and their answers."""
    with Stub(with_tools) as stub:
        _, recorded = run(tmp_path, "live", url=stub.url, strategies=[ThreeTurns()], trials=2)
        assert stub.n == 24
    report, replayed = run(
        tmp_path, "again", strategies=[ThreeTurns()], trials=2, provider=Replay(recorded)
    )

    assert (report.failed, report.collected) == (0, 8)
    assert facts(replayed) == facts(recorded)
    trace = next(r for r in replayed if isinstance(r, Trace))
    assert [c.tool for c in trace.tool_calls] == ["add"] * 3
    assert len(trace.calls) == 3


@pytest.mark.parametrize("through", ["store", "export", "spool"])
def test_a_recording_is_a_store_an_export_or_a_spool(tmp_path, through):
    """All three hold the same conversations."""
    with Stub(with_tools) as stub:
        _, recorded = run(tmp_path, "live", url=stub.url, strategies=[ThreeTurns()])
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(recorded)
    store.export(tmp_path / "out")
    place = {"store": store.path, "export": tmp_path / "out", "spool": tmp_path / "live"}[through]

    report, replayed = run(
        tmp_path, "again", strategies=[ThreeTurns()], provider=Replay(read(place))
    )

    assert report.failed == 0
    assert facts(replayed) == facts(recorded)
    with pytest.raises(StoreMissing, match="nosuch"):
        list(read(tmp_path / "nosuch"))


def test_recorded_failures_fail_again(tmp_path):
    """A refusal, a broken stream with the beginning of an answer; kind, message and texts are the
    same."""

    def respond(seen):
        item = seen.number % 2
        if item:
            return fixed(400, b'{"error": {"message": "too long"}}')
        return stream(delta("Answ"), b"data: {oops\n\n")

    with Stub(respond) as stub:
        report, recorded = run(tmp_path, "live", url=stub.url, strategies=("direct",))
    assert report.failed == 4
    report, replayed = run(tmp_path, "again", strategies=("direct",), provider=Replay(recorded))

    assert report.failed == 4
    assert facts(replayed) == facts(recorded)
    messages = {t.error_message for t in replayed if isinstance(t, Trace)}
    assert messages == {t.error_message for t in recorded if isinstance(t, Trace)}


# -- single requests -----------------------------------------------------------------------------

DIRECT = Configuration(model="m", strategy="direct", temperature=0.5)
CHAT = ({"role": "user", "content": "What is 2 + 2?"},)


def recorded_trace(text="four", trial=0, *, item="i", configuration=DIRECT, heard=CHAT, **call):
    messages = [
        Message(ordinal=n, role=m["role"], kind="text", text=m["content"], call_ordinal=0)
        for n, m in enumerate(heard)
    ]
    messages.append(
        Message(ordinal=len(messages), role="assistant", kind="text", text=text, call_ordinal=0)
    )
    return Trace(
        run_id="r",
        configuration_id=configuration.configuration_id,
        task_id="t",
        item_id=item,
        trial=trial,
        calls=(Call(model="m", **call),),
        messages=tuple(messages),
    )


def ask(replay, messages=CHAT, model="m", asker=None, **sampling):
    async def go():
        if asker is not None:
            CURRENT_ATTEMPT.set(asker)
        return await replay.generate(
            Request(model=model, messages=messages, sampling={"temperature": 0.5} | sampling)
        )

    return asyncio.run(go())


def refusal(replay, *args, **kwargs):
    with pytest.raises(ProviderRejected) as caught:
        ask(replay, *args, **kwargs)
    assert caught.value.kind == "not_recorded"
    return str(caught.value)


def test_the_nth_equal_request_gets_the_nth_recorded_reply():
    """Then there are no more, and it says so."""
    replay = Replay([DIRECT, *(recorded_trace(f"answer {n}", n) for n in range(3))])

    assert [ask(replay).text for _ in range(3)] == ["answer 0", "answer 1", "answer 2"]
    assert "recorded 3 times, and is asked once more" in refusal(replay)


def test_a_trial_gets_its_own_recording_in_whatever_order_trials_ask():
    """Also in a program that begins in the middle, as after a kill; every configuration for
    itself."""
    traces = [DIRECT, *(recorded_trace(f"answer {n}", n) for n in range(3))]
    ours = DIRECT
    other = Configuration(model="m", strategy="other")
    replay = Replay(traces)

    assert ask(replay, asker=CurrentAttempt(ours, "i", 2)).text == "answer 2"
    assert ask(replay, asker=CurrentAttempt(ours, "i", 0)).text == "answer 0"
    assert ask(replay, asker=CurrentAttempt(other, "i", 0)).text == "answer 0"
    assert "recorded once, and is asked once more" in refusal(
        replay, asker=CurrentAttempt(ours, "i", 0)
    )
    assert "not recorded in trial 7" in refusal(replay, asker=CurrentAttempt(ours, "i", 7))
    assert ask(Replay(traces), asker=CurrentAttempt(ours, "i", 1)).text == "answer 1"


def test_the_same_strategy_s_recording_is_preferred():
    """Two strategies sent the same chat; each gets its own back."""
    cot = Configuration(model="m", strategy="cot", temperature=0.5)
    replay = Replay(
        [DIRECT, cot, recorded_trace("direct's"), recorded_trace("cot's", configuration=cot)]
    )

    assert ask(replay, asker=CurrentAttempt(cot, "i", 0)).text == "cot's"
    assert ask(replay, asker=CurrentAttempt(DIRECT, "i", 0)).text == "direct's"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "n"}, "nothing is recorded for the model 'n'; recorded are m"),
        (
            {"messages": ({"role": "user", "content": "What is 2 + 3?"},)},
            "the nearest recorded one is 'What is 2 + 2?'",
        ),
        (
            {"messages": ({"role": "system", "content": "Be brief."}, *CHAT)},
            "but not after these 1 messages",
        ),
        (
            {"messages": ({"role": "system", "content": "What is 2 + 2?"},)},
            "recorded as user text, not as system text",
        ),
        ({"temperature": 1.0}, "another temperature (0.5, not 1.0)"),
        ({"reasoning_effort": "high"}, "another reasoning_effort (none, not high)"),
        ({"messages": ()}, "not recorded"),
    ],
)
def test_what_is_not_recorded_is_refused_and_says_what_differs(change, said):
    """Never an answer to another question."""
    assert said in refusal(Replay([DIRECT, recorded_trace()]), **change)


def test_a_seed_is_its_recording_s(tmp_path):
    """With the seed of the recording the reply of that attempt; another seed is another sample."""
    seeded = Configuration(model="m", strategy="direct", temperature=0.5, settings='{"seed":1}')
    traces = [recorded_trace(f"answer {n}", n, configuration=seeded) for n in range(2)]
    replay = Replay([seeded, *traces])
    assert ask(replay, seed=seed_of(1, "i", 1)).text == "answer 1"
    assert ask(replay, seed=seed_of(1, "i", 0)).text == "answer 0"
    assert "another seed" in refusal(Replay([seeded, *traces]), seed=3)
    assert ask(Replay([seeded, *traces], strict=False), seed=3).text == "answer 0"


def test_a_pace_is_the_recorded_one():
    """It waits as long as was waited, and says so again."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    times = {"ttft_s": 0.25, "answer_start_s": 1.0, "e2e_s": 3.0, "n_chunks": 4, "gap_max_s": 0.5}
    reply = ask(Replay([DIRECT, recorded_trace(**times)], pace=True, sleep=sleep))

    assert waits == [1.0, 2.0]
    assert {name: getattr(reply.call, name) for name in times} == times


def test_a_failure_asked_again_fails_again_and_an_answer_after_it_is_given():
    """As recorded: the strategy caught the failure and asked the same once more."""
    calls = (
        Call(model="m", error_type="http_503", error_message="busy"),
        Call(ordinal=1, model="m"),
    )
    messages = (
        Message(ordinal=0, role="user", kind="text", text=CHAT[0]["content"], call_ordinal=0),
        Message(ordinal=1, role="assistant", kind="text", text="four", call_ordinal=1),
    )
    trace = Trace(
        run_id="r",
        configuration_id=DIRECT.configuration_id,
        task_id="t",
        item_id="i",
        calls=calls,
        messages=messages,
    )
    replay = Replay([DIRECT, trace])

    with pytest.raises(ProviderUnavailable, match="busy"):
        ask(replay)
    assert ask(replay).text == "four"
    only = Replay([DIRECT, recorded_trace(error_type="timeout", error_message="late")])
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="late"):
            ask(only)


def test_a_recording_without_tool_records_still_tells_the_tools():
    """As an import may leave them: in the text of the message."""
    messages = (
        Message(ordinal=0, role="user", kind="text", text=CHAT[0]["content"]),
        Message(ordinal=1, role="assistant", kind="tool_call", text='add({"a":1})', call_ordinal=0),
    )
    trace = Trace(
        run_id="r",
        configuration_id="c",
        task_id="t",
        item_id="i",
        calls=(Call(model="m"),),
        messages=messages,
    )

    assert ask(Replay([trace])).tool_calls == (
        ToolCall(ordinal=0, tool="add", arguments='{"a":1}'),
    )


TEXT = st.text(alphabet=st.sampled_from("ab \n<>/AnswerTHINK:"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    before=st.sampled_from(["", "ok "]),
    inside=TEXT,
    after=TEXT,
    written=TEXT,
    shape=st.sampled_from(["none", "plain", "open", "begun", "closed"]),
    closes=st.booleans(),
)
def test_tagged_thinking_is_put_back_so_that_it_comes_out_the_same(
    *, before, inside, after, written, shape, closes
):
    """Whatever a session made of a reply, it makes of the replayed one."""
    tags = ("<think>", "</think>")
    begun = {
        "none": "",
        "plain": f"{before}x",
        "open": f"{before}<think>",
        "begun": f"{before}<think>{inside}",
        "closed": f"{before}<think>{inside}</think>{after}",
    }[shape]
    sent = f"{written}</think>{after}" if closes and shape in {"open", "begun"} else written

    async def no_count(_text):
        return None

    def taken(text):
        return asyncio.run(thinking_tags.split(Reply(text=text), begun, tags, no_count))

    first = taken(sent)
    recorded = Recorded(
        trace=recorded_trace(),
        configuration=None,
        call=Call(),
        heard=(),
        thinking=first.thinking,
        tools=(),
        seed=None,
        reply_chat=recorded_chat(first.text),
    )
    raw = raw_text(recorded, begun)

    assert raw is not None
    second = taken(raw)
    assert (second.text, second.thinking) == (first.text, first.thinking)


def recorded_chat(text):
    return (Part("assistant", "text", text),) if text else ()
