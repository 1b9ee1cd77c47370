"""Tools over the wire: a question, two tools at once, their answers, and the answer, in every
format.

A real server on a real socket; the agent is the runner's own.
"""

import asyncio
import json

import pytest

from tests.support.provider_formats import FORMATS, KEY, MessagesFormat, Tool, event, make, reply_of
from tests.support.runner_stub import Stub, data, delta, fixed, stream
from workbench import datasets, scoring
from workbench.errors import ProviderRejected
from workbench.records import Task
from workbench.runner import strategies
from workbench.runner.attempts.session import Request, Session, ToolSpec

ITEM = scoring.TaskItem(
    task="t", item="1", input="How tall, and 2+2?", target="4", scorer="numeric"
)
SET = datasets.TaskSet(Task(task="t"), [ITEM], scoring.get("numeric"), "Answer.")
ARGUMENTS = ('{"query": "Caf', 'é \U0001f9ee", "k"', ": 1}")
WHOLE = "".join(ARGUMENTS)
SUM = '{"expression": "2 + 2"}'
SIGNED = "c2lnbmF0dXJl"


def chat_pieces():
    google = {"google": {"thought_signature": SIGNED}}
    first = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "extra_content": google,
        "function": {"name": "search", "arguments": ""},
    }
    second = {"index": 1, "id": "c2", "function": {"name": "calculator", "arguments": SUM}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in ARGUMENTS]
    details = [{"type": "reasoning.encrypted", "data": SIGNED}]
    return [
        delta(role="assistant", content="", reasoning_content="hm, "),
        delta(reasoning_content="yes", reasoning_details=details),
        *[delta(tool_calls=[tool]) for tool in (first, *more, second)],
    ]


def responses_pieces():
    items = responses_items()
    calls = [
        event("response.function_call_arguments.delta", item_id="f1", delta=p) for p in ARGUMENTS
    ]
    return [
        event("response.output_item.added", item={**items[0], "encrypted_content": None}),
        event("response.reasoning_summary_text.delta", item_id="r1", delta="hm, yes"),
        event("response.output_item.done", item=items[0]),
        event("response.output_item.added", item={**items[1], "arguments": ""}),
        *calls,
        *[event("response.output_item.done", item=item) for item in items[1:]],
    ]


def responses_items():
    summary = [{"type": "summary_text", "text": "hm, yes"}]
    return [
        {"type": "reasoning", "id": "r1", "summary": summary, "encrypted_content": SIGNED},
        {
            "type": "function_call",
            "id": "f1",
            "call_id": "c1",
            "name": "search",
            "arguments": WHOLE,
        },
        {
            "type": "function_call",
            "id": "f2",
            "call_id": "c2",
            "name": "calculator",
            "arguments": SUM,
        },
    ]


def messages_pieces():
    def begin(place, **block):
        return event("content_block_start", index=place, content_block=block)

    def more(place, kind, **fields):
        return event("content_block_delta", index=place, delta={"type": kind, **fields})

    return [
        begin(0, type="thinking", thinking="", signature=""),
        more(0, "thinking_delta", thinking="hm, "),
        more(0, "thinking_delta", thinking="yes"),
        more(0, "signature_delta", signature=SIGNED),
        event("content_block_stop", index=0),
        begin(1, type="redacted_thinking", data="b3BhcXVl"),
        begin(2, type="text", text=""),
        begin(3, type="tool_use", id="c1", name="search", input={}),
        *[more(3, "input_json_delta", partial_json=piece) for piece in ARGUMENTS],
        begin(4, type="tool_use", id="c2", name="calculator", input={}),
        more(4, "input_json_delta", partial_json=""),
        more(4, "input_json_delta", partial_json=SUM),
    ]


def gemini_parts():
    return [
        {"text": "Let me look."},
        {
            "functionCall": {"id": "c1", "name": "search", "args": json.loads(WHOLE)},
            "thoughtSignature": SIGNED,
        },
        {"functionCall": {"name": "calculator", "args": json.loads(SUM)}},
    ]


def gemini_pieces():
    thought = {"text": "hm, yes", "thought": True}
    split = [thought, {"text": "Let me "}, {"text": "look."}, *gemini_parts()[1:]]
    return [
        data({"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}]})
        for part in split
    ]


PIECES = {
    "chat": chat_pieces,
    "responses": responses_pieces,
    "messages": messages_pieces,
    "gemini": gemini_pieces,
}


def function(name, arguments):
    return {"name": name, "arguments": arguments}


def given_back(seen, sum_):
    """What the second request holds of the first reply and of the tools' answers, in each
    format."""
    extra = {"google": {"thought_signature": SIGNED}}
    calls = [
        {
            "id": "c1",
            "type": "function",
            "function": function("search", WHOLE),
            "extra_content": extra,
        },
        {"id": "c2", "type": "function", "function": function("calculator", SUM)},
    ]
    thinking = {"type": "thinking", "thinking": "hm, yes", "signature": SIGNED}
    return {
        "chat": [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": calls,
                "reasoning_content": "hm, yes",
                "reasoning_details": [{"type": "reasoning.encrypted", "data": SIGNED}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": seen},
            {"role": "tool", "tool_call_id": "c2", "content": sum_},
        ],
        "responses": [
            *responses_items(),
            {"type": "function_call_output", "call_id": "c1", "output": seen},
            {"type": "function_call_output", "call_id": "c2", "output": sum_},
        ],
        "messages": [
            {
                "role": "assistant",
                "content": [
                    thinking,
                    {"type": "redacted_thinking", "data": "b3BhcXVl"},
                    {"type": "tool_use", "id": "c1", "name": "search", "input": json.loads(WHOLE)},
                    {
                        "type": "tool_use",
                        "id": "c2",
                        "name": "calculator",
                        "input": json.loads(SUM),
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": seen},
                    {"type": "tool_result", "tool_use_id": "c2", "content": sum_},
                ],
            },
        ],
        "gemini": [
            {"role": "model", "parts": gemini_parts()},
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": "c1",
                            "name": "search",
                            "response": {"result": seen},
                        }
                    },
                    {"functionResponse": {"name": "calculator", "response": {"result": sum_}}},
                ],
            },
        ],
    }


def raw(pieces):
    """The bytes of some events, their characters not escaped."""
    whole = b"".join(pieces)
    return whole.replace(rb"\u00e9", "é".encode()).replace(rb"\ud83e\uddee", "\U0001f9ee".encode())


def act(form, stub, name="react", **params):
    """Let an agent answer through a new provider; returns (outcome or error, session)."""

    async def run():
        provider = make(form, stub)

        async def ask(request, role):
            return await provider.generate(request), None

        async def count(text):
            return None

        session = Session(
            task=SET,
            model="m",
            ask=ask,
            count=count,
            endpoint=form.endpoint,
            sampling={"max_tokens": 500},
        )
        strategy = strategies.get(name, **{"tools": ["search", "calculator"], **params})
        try:
            return await strategy.run(session, ITEM), session
        except ProviderRejected as error:
            return error, session
        finally:
            await provider.aclose()

    return asyncio.run(run())


@pytest.fixture(params=FORMATS, ids=[f.endpoint for f in FORMATS])
def form(request):
    return request.param


def test_an_exchange_with_tools_goes_back_as_it_came(form):
    """Two tools at once, arguments split within characters, thinking that is signed, ids: all of it
    returns."""
    pieces = [*form.begin(), *PIECES[form.endpoint](), *form.end(reason="tools")]
    first = raw(pieces)
    assert "\U0001f9ee".encode() in first

    def respond(seen):
        if seen.number == 0:
            return stream(*[first[i : i + 3] for i in range(0, len(first), 3)])
        return stream(*reply_of(form, form.text("Answer: 4")))

    with Stub(respond) as stub:
        outcome, session = act(form, stub)

    assert (outcome.answer_text, outcome.limit_type) == ("Answer: 4", None)
    searched, added = session.tool_calls
    assert (searched.tool, searched.arguments) == ("search", _same(form, WHOLE))
    assert (added.tool, added.arguments, added.result_bytes) == ("calculator", _same(form, SUM), 1)
    assert (searched.call_ordinal, searched.ordinal, added.ordinal) == (0, 0, 1)
    results = [m for m in session.messages if m.kind == "tool_result"]
    assert [m.tool_call_ordinal for m in results] == [0, 1]
    body = stub.requests[1].json
    sent = body.get("messages") or body.get("input") or body.get("contents")
    wanted = given_back(results[0].text, "4")[form.endpoint]
    assert sent[-len(wanted) :] == wanted
    assert [len(r.json["tools"]) for r in stub.requests] == [
        1 if form.endpoint == "gemini" else 2
    ] * 2


def _same(form, text):
    """Gemini sends objects, which are written anew."""
    return (
        json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        if form.endpoint == "gemini"
        else text
    )


@pytest.mark.parametrize("form", FORMATS[:3], ids=[f.endpoint for f in FORMATS[:3]])
def test_arguments_that_are_no_json_are_answered_and_go_back(form):
    """Cut or broken arguments: the model is told, the API gets a request that it takes. Gemini's
    are objects."""
    broken = form.tool(0, Tool("calculator", ('{"expression": "2 +',)))

    def respond(seen):
        middle = [broken] if seen.number == 0 else [form.text("Answer: 4")]
        return stream(*reply_of(form, *middle, reason="tools" if seen.number == 0 else "stop"))

    with Stub(respond) as stub:
        _, session = act(form, stub)

    assert session.tool_calls[0].error_type == "bad_arguments"
    sent = json.dumps(stub.requests[1].json)
    assert "no JSON" in sent
    if form.endpoint == "messages":
        result = stub.requests[1].json["messages"][-1]["content"][0]
        assert (result["is_error"], '"input": {}' in sent) == (True, True)


def test_no_more_tools_is_said_in_the_format_s_own_words(form):
    """After the last turn the tools stay described, and may not be used; what follows is the
    answer."""

    def respond(seen):
        middle = (
            [form.tool(0, Tool("calculator", (SUM,)))]
            if seen.number == 0
            else [form.text("Answer: 4")]
        )
        return stream(*reply_of(form, *middle, reason="tools" if seen.number == 0 else "stop"))

    with Stub(respond) as stub:
        outcome, _ = act(form, stub, max_turns=1)

    first, last = (request.json for request in stub.requests)
    none = {"messages": {"type": "none"}}.get(form.endpoint, "none")
    said = last["toolConfig"] if form.endpoint == "gemini" else last["tool_choice"]
    assert said == (
        {"functionCallingConfig": {"mode": "NONE"}} if form.endpoint == "gemini" else none
    )
    assert last["tools"] == first["tools"]
    assert not {"tool_choice", "toolConfig"} & set(first)
    assert (outcome.answer_text, outcome.limit_type) == ("Answer: 4", "turns")
    assert "No more tools" in json.dumps(last)


def test_a_server_that_does_not_stream_gives_the_same_turn(form):
    """Ids and signatures of a body that comes whole."""
    call = function("search", WHOLE)
    body = {
        "chat": {
            "choices": [
                {
                    "message": {"content": None, "tool_calls": [{"id": "c1", "function": call}]},
                    "finish_reason": "tool_calls",
                }
            ]
        },
        "responses": {"object": "response", "status": "completed", "output": responses_items()[:2]},
        "messages": {
            "type": "message",
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": SIGNED},
                {"type": "tool_use", "id": "c1", "name": "search", "input": json.loads(WHOLE)},
            ],
        },
        "gemini": {
            "candidates": [{"content": {"parts": gemini_parts()[1:2]}, "finishReason": "STOP"}]
        },
    }[form.endpoint]

    async def run(stub):
        provider = make(form, stub)
        reply = await provider.generate(
            Request(
                model="m", messages=({"role": "user", "content": "x"},), sampling={"max_tokens": 9}
            )
        )
        await provider.aclose()
        return reply

    with Stub(lambda seen: fixed(200, json.dumps(body).encode())) as stub:
        reply = asyncio.run(run(stub))

    assert reply.tool_ids == ("c1",)
    assert [t.tool for t in reply.tool_calls] == ["search"]
    assert (SIGNED in json.dumps(reply.state)) is (form.endpoint != "chat")


def test_the_key_leaves_what_goes_back_too():
    """A server that echoes the key in its thinking does not get it into the next record."""
    form = MessagesFormat()
    pieces = [
        event(
            "content_block_start",
            index=0,
            content_block={"type": "thinking", "thinking": KEY, "signature": ""},
        ),
        event(
            "content_block_start",
            index=1,
            content_block={"type": "tool_use", "id": KEY, "name": "x", "input": {"k": [KEY]}},
        ),
    ]

    async def run(stub):
        provider = make(form, stub, api_key=KEY)
        reply = await provider.generate(
            Request(
                model="m", messages=({"role": "user", "content": "x"},), sampling={"max_tokens": 9}
            )
        )
        await provider.aclose()
        return reply

    with Stub(lambda seen: stream(*form.begin(), *pieces, *form.end(reason="tools"))) as stub:
        reply = asyncio.run(run(stub))

    assert reply.state is not None
    assert KEY not in repr(reply)


def test_a_template_that_drops_tools_is_found_out():
    """The tokens that arrived are too few for what was sent: refused, with what to do."""
    form = FORMATS[0]
    dropped = {"input": 40, "read": 0, "output": 5, "thinking": 0}
    pieces = [*form.begin(), *form.text("Forty metres."), *form.end(counts=dropped)]
    with Stub(lambda seen: stream(*pieces)) as stub:
        error, session = act(form, stub)

    assert (error.kind, len(session.calls)) == ("tools_dropped", 1)
    assert "protocol = 'text'" in str(error)


def test_tools_are_described_once_and_in_full():
    """OpenAI's Responses take optional arguments only where they are not read strictly."""
    tool = ToolSpec("f", "does", {"type": "object", "properties": {"a": {"type": "string"}}})
    request = Request(
        model="m",
        messages=({"role": "user", "content": "x"},),
        sampling={"max_tokens": 9},
        tools=(tool,),
    )
    seen = {}

    async def run(form, stub):
        provider = make(form, stub)
        await provider.generate(request)
        await provider.aclose()

    for form in FORMATS:
        with Stub(lambda _, form=form: stream(*reply_of(form, form.text("x")))) as stub:
            asyncio.run(run(form, stub))
        seen[form.endpoint] = stub.requests[0].json["tools"][0]

    schema = dict(tool.parameters)
    assert seen["chat"]["function"]["parameters"] == schema
    assert (seen["responses"]["parameters"], seen["responses"]["strict"]) == (schema, False)
    assert seen["messages"]["input_schema"] == schema
    assert seen["gemini"]["functionDeclarations"][0]["parametersJsonSchema"] == schema
