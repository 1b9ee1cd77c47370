"""Turns that are begun for the model, and thinking that a server leaves in the text."""

import json

import pytest

from tests.support.launches import records, run, task_set
from tests.support.runner_stub import DONE, Stub, delta, fixed, stream, usage
from tests.support.scripted import ITEM, InTurn
from workbench.records import Call
from workbench.runner import strategies
from workbench.runner.providers import services, thinking_tags
from workbench.runner.providers.protocol import BegunTurns, CallRefused, Reply

REFUSALS = [
    "This model does not support assistant message prefill."
    " The conversation must end with a user message.",
    "Assistant response prefill is incompatible with enable_thinking.",
    "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
    "Cannot have 2 or more assistant messages at the end of the list.",
]


def refusing(words, status=400):
    """A server that takes no begun turn, and thinks between tags otherwise."""

    def respond(seen):
        if "messages" not in seen.json:  # /tokenize, which it does not have
            return fixed(404, b"{}")
        messages = seen.json["messages"]
        if messages[-1]["role"] == "assistant":
            return fixed(status, json.dumps({"error": {"message": words}}).encode())
        ended = [delta(finish="stop"), usage(prompt_tokens=9, completion_tokens=8), DONE]
        cut = [delta("<think>let me see"), delta(finish="length"), *ended[1:]]
        return stream(*(cut if len(messages) == 2 else [delta("Answer: 1"), *ended]))

    return respond


@pytest.mark.parametrize("words", REFUSALS)
def test_a_refused_begun_turn_is_left_out_and_not_sent_again(tmp_path, words):
    """The first attempt learns it for all: of five requests, one is refused."""
    with Stub(refusing(words)) as stub:
        report = run(
            tmp_path,
            stub.url,
            strategies=("think",),
            trials=2,
            concurrency=1,
            tasks=[task_set(1)],
        )
        chats = [r.json["messages"] for r in stub.requests if "messages" in r.json]

    assert [chat[-1]["role"] for chat in chats] == ["assistant", "user", "user", "user", "user"]
    assert [m["role"] for m in chats[2][-3:]] == ["user", "assistant", "user"]
    assert chats[2][-2]["content"] == "<think>let me see</think>"
    assert (report.failed, report.collected) == (0, 2)
    first, second = sorted(records(tmp_path), key=lambda t: t.trial)
    assert (first.passed, second.passed) == (True, True)
    assert [c.error_type for c in first.calls] == ["http_400", None, None]
    assert [c.error_type for c in second.calls] == [None, None]


def test_any_other_refusal_is_a_refusal(tmp_path):
    """A parameter that is wrong, a server that is down: nothing is sent twice."""
    for words, status in (("'temperature' is not supported", 400), (REFUSALS[0], 404)):
        with Stub(refusing(words, status)) as stub:
            report = run(
                tmp_path / str(status), stub.url, strategies=("think",), tasks=[task_set(1)]
            )
        assert (report.failed, stub.n) == (1, 1)


def test_what_is_learnt_is_learnt_of_one_model():
    """A refusal by one model says nothing of another at the same server."""
    known = BegunTurns(True)
    error = CallRefused(REFUSALS[0], kind="http_400", reply=Reply())

    assert known.refused("a", error)
    assert (known.taken_by("a"), known.taken_by("b")) == (False, True)
    assert not known.refused("b", CallRefused("too long", kind="http_400", reply=Reply()))
    assert known.taken_by("b")


def test_services_are_known_by_what_they_do_with_a_begun_turn():
    """None where nobody knows."""
    assert services.takes_begun_turns("llama.cpp", "chat") is True
    assert services.takes_begun_turns("openai", "chat") is False
    assert services.takes_begun_turns("acme", "responses") is False
    assert services.takes_begun_turns("anthropic", "messages") is None


@pytest.mark.parametrize("name", ["think", "budgeted"])
async def test_thinking_strategies_end_with_a_question_where_no_turn_is_gone_on_with(name):
    """The thinking so far is a turn that has ended, and the answer is asked for."""
    script = InTurn(
        "<think>1 + 1 is</think>" if name == "budgeted" else "<think>1 + 1 is", "Answer: 2"
    )
    session = script.session(begun_turns=BegunTurns(False))
    outcome = await strategies.get(name).run(session, ITEM)

    first, second = (request.messages for request in script.requests)
    assert first[-1]["role"] == second[-1]["role"] == "user"
    assert second[-2] == {"role": "assistant", "content": "<think>1 + 1 is</think>"}
    assert outcome.answer_text == "Answer: 2"


# text of the reply → visible text, thinking
THOUGHTS = [
    ("closed", "<think>two and two</think>\nAnswer: 4", "Answer: 4", "two and two"),
    ("spaces before", "\n <think>two</think>Answer: 4", "Answer: 4", "two"),
    (
        "unclosed",
        "<think>two and two is 4. Answer: 4? let me see",
        "",
        "two and two is 4. Answer: 4? let me see",
    ),
    (
        "begun by the template",
        "maybe Answer: 5 no</think>\n\nAnswer: 4",
        "Answer: 4",
        "maybe Answer: 5 no",
    ),
    ("nothing thought", "<think>\n\n</think>\n\nAnswer: 4", "Answer: 4", None),
    ("brackets", "[THINK]two[/THINK]Answer: 4", "Answer: 4", "two"),
    (
        "tags of the answer",
        "Write <think> first, then </think>.",
        "Write <think> first, then </think>.",
        None,
    ),
    ("no tags", "Answer: 4", "Answer: 4", None),
]


@pytest.mark.parametrize(
    ("_name", "said", "text", "thinking"), THOUGHTS, ids=[t[0] for t in THOUGHTS]
)
async def test_thinking_that_a_server_leaves_in_the_text_is_no_answer(_name, said, text, thinking):
    """Whatever the strategy; the words thought are counted, and kept as thinking."""
    script = InTurn(said)
    outcome = await strategies.get("direct").run(session := script.session(), ITEM)

    assert outcome.answer_text == text
    assert [m.text for m in session.messages if m.kind == "thinking"] == (
        [thinking] if thinking else []
    )


async def test_a_count_of_thinking_that_was_reported_stands():
    """The service counted; a tokenizer is not asked."""

    async def nobody(text):
        raise AssertionError("not asked")

    reply = Reply(
        text="<think>a b c</think>4",
        call=Call(reasoning_tokens=2, output_tokens=9, tokens_source="reported"),
    )
    found = await thinking_tags.split(reply, "", ("<think>", "</think>"), nobody)

    assert (found.text, found.call.reasoning_tokens, found.call.tokens_source) == (
        "4",
        2,
        "reported",
    )
    assert thinking_tags.usual(Reply(text="<think>a", thinking="b")) is None


def test_an_unclosed_thought_is_scored_as_no_answer(tmp_path):
    """Cut by the limit in the middle of its thinking: wrong, without an answer, and the thinking
    kept."""
    pieces = [
        delta("<think>0 + 1 is 1. Answer: 1? let me see"),
        delta(finish="length"),
        usage(prompt_tokens=9, completion_tokens=20),
        DONE,
    ]
    with Stub(lambda seen: stream(*pieces)) as stub:
        run(tmp_path, stub.url, tasks=[task_set(1)])

    (trace,) = records(tmp_path)
    assert (trace.answer, trace.passed, trace.stop_reason) == (None, False, "max_tokens")
    assert {m.kind for m in trace.messages if m.role == "assistant"} >= {"thinking"}
