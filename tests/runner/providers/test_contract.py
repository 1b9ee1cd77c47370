"""One contract for every provider that speaks HTTP, against a real server on a real socket.

Each format writes the same replies in its own events; whatever the tests say holds for all of them.
"""

import asyncio
import json
import logging
import re
import time
import traceback

import pytest

from tests.support.provider_formats import (
    FORMATS,
    KEY,
    ChatFormat,
    GeminiFormat,
    MessagesFormat,
    ResponsesFormat,
    Tool,
    event,
    make,
    reply_of,
)
from tests.support.runner_stub import DONE, Stub, data, fixed, stream
from workbench.errors import ConfigError, ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import Trace
from workbench.runner.attempts.session import CallRefused, Request, StreamBroken, ToolSpec
from workbench.runner.attempts.transcript import Transcript
from workbench.runner.planning.plan import Plan
from workbench.runner.providers import registry
from workbench.runner.providers.replay import Replay

CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
)
ASK = Request(model="m", messages=CHAT, sampling={"max_tokens": 9})
OURS = {"input_tokens": 100, "cache_read_tokens": 60, "output_tokens": 30, "reasoning_tokens": 20}


@pytest.fixture(params=FORMATS, ids=[f.endpoint for f in FORMATS])
def form(request):
    return request.param


def ask(form, stub, request=ASK, on_chunk=None, **options):
    """Ask once through a new provider."""

    async def run():
        provider = make(form, stub, **options)
        try:
            return await provider.generate(request, on_chunk)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def answered(form, *steps, **options):
    with Stub(lambda seen: steps[0] if isinstance(steps[0], list) else stream(*steps)) as stub:
        return ask(form, stub, **options)


def fails(form, steps, **options) -> ProviderError:
    with Stub(lambda seen: steps) as stub, pytest.raises(ProviderError) as caught:
        ask(form, stub, **options)
    return caught.value


def test_text_and_thinking_are_streamed_timed_and_counted(form):
    """The same reply in every format gives the same record."""
    heard = []
    pieces = [
        *form.begin(),
        0.03,
        *form.thought("hm, "),
        0.02,
        *form.thought("yes"),
        0.03,
        *form.text("fo"),
        0.01,
        *form.text("ur"),
        *form.end(),
    ]
    reply = answered(form, *pieces, on_chunk=heard.append)

    call = reply.call
    assert (reply.text, reply.thinking, reply.stop_reason) == ("four", "hm, yes", "stop")
    assert heard == ["fo", "ur"]
    assert {name: getattr(call, name) for name in OURS} == OURS
    assert (call.provider, call.model, call.response_model) == ("acme", "m", "stub-1")
    assert (call.n_chunks, call.tokens_source) == (4, "reported")
    assert 0.02 <= call.ttft_s < call.answer_start_s <= call.e2e_s
    assert call.answer_start_s >= 0.07
    assert call.gap_p50_s <= call.gap_p99_s <= call.gap_max_s
    assert reply.text_ends == (2, 4)


def test_thinking_alone_is_no_answer(form):
    """The cap came while the model was thinking: no text, no start of an answer."""
    reply = answered(form, *reply_of(form, form.thought("hm"), reason="cap"))

    assert (reply.text, reply.thinking, reply.stop_reason) == ("", "hm", "max_tokens")
    assert (reply.call.answer_start_s, reply.call.n_chunks) == (None, 1)
    assert reply.call.ttft_s > 0


def test_tool_calls_are_put_together_from_their_pieces(form):
    """Two calls, in order, each with its own arguments; they end the turn."""
    tools = [Tool("add", ('{"a":', "1}")), Tool("mul", ('{"b":2}',))]
    middle = [form.tool(place, tool) for place, tool in enumerate(tools)]
    reply = answered(form, *reply_of(form, *middle, reason="tools"))

    assert [(t.tool, t.arguments, t.ordinal) for t in reply.tool_calls] == [
        ("add", '{"a":1}', 0),
        ("mul", '{"b":2}', 1),
    ]
    assert (reply.text, reply.stop_reason) == ("", "tool_calls")
    assert reply.call.answer_start_s is not None


def test_an_empty_answer_is_an_answer(form):
    """Nothing was said, and that was counted."""
    reply = answered(form, *reply_of(form))

    assert (reply.text, reply.thinking, reply.tool_calls, reply.stop_reason) == (
        "",
        None,
        (),
        "stop",
    )
    assert (reply.call.n_chunks, reply.call.ttft_s, reply.call.output_tokens) == (0, None, 30)


@pytest.mark.parametrize(("reason", "ours"), [("cap", "max_tokens"), ("refused", "content_filter")])
def test_a_reply_says_why_it_ended(form, reason, ours):
    """Each format's word becomes ours."""
    assert answered(form, *reply_of(form, form.text("x"), reason=reason)).stop_reason == ours


def test_bytes_may_be_split_within_a_character(form):
    """One byte a write; a character of four bytes, as text and not escaped."""
    raw = b"".join(reply_of(form, form.text("\U0001f9eeé")))
    raw = raw.replace(rb"\ud83e\uddee", "\U0001f9ee".encode()).replace(rb"\u00e9", "é".encode())
    assert b"\xf0\x9f\xa7\xae" in raw

    reply = answered(form, *[raw[i : i + 1] for i in range(len(raw))])

    assert reply.text == "\U0001f9eeé"


def test_a_missing_usage_is_unknown_and_not_zero(form):
    """Null, never 0."""
    call = answered(form, *reply_of(form, form.text("4"), counts=None)).call

    assert (call.output_tokens, call.reasoning_tokens, call.total_tokens) == (None, None, None)
    assert call.billed_cost_usd is None


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("garbage", "bad_response"),
        ("wrong type", "bad_response"),
        ("truncated", "truncated"),
        ("dropped", "connection"),
        ("hang", "timeout"),
        ("overloaded", "http_500"),
        ("slow down", "http_429"),
    ],
)
def test_a_broken_stream_keeps_what_arrived_and_may_be_asked_again(form, broken, kind):
    """The beginning of the answer is not lost; its output is not counted."""
    begun = [*form.begin(), *form.text("fo")]
    rest = {
        "garbage": [b"data: {oops\n\n"],
        "wrong type": [b"data: [1]\n\n"],
        "truncated": [],
        "dropped": [],
        "hang": [5.0],
        "overloaded": [form.failed("worker died", 500)],
        "slow down": [form.failed("slow down", 429)],
    }[broken]
    error = fails(form, stream(*begun, *rest, end=broken != "dropped"), timeout_s=0.3)

    assert isinstance(error, StreamBroken)
    assert (error.kind, error.reply.text, error.reply.call.n_chunks) == (kind, "fo", 1)
    assert error.reply.call.output_tokens is None
    assert {"overloaded": "worker died", "slow down": "slow down", "garbage": "oops"}.get(
        broken, ""
    ) in str(error)


@pytest.mark.parametrize("end", ["dropped", "hang"])
def test_a_reply_that_is_whole_is_not_asked_for_again(form, end):
    """It was paid for: what happens to the connection after its last event does not matter."""
    pieces = [p for p in reply_of(form, form.text("four")) if p != DONE]
    reply = answered(
        form, stream(*pieces, *([2.0] if end == "hang" else []), end=False), timeout_s=0.3
    )

    assert (reply.text, reply.stop_reason, reply.call.output_tokens) == ("four", "stop", 30)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 529])
def test_a_status_says_whether_asking_again_helps(form, status):
    """Refusals are final, the rest may pass; the server's words are kept."""
    body = json.dumps(
        {"type": "error", "error": {"type": "x", "message": "because of this", "code": status}}
    )
    error = fails(form, fixed(status, body.encode(), retry_after="7"))

    expected = StreamBroken if status in {429, 500, 529} else CallRefused
    assert type(error) is expected
    assert isinstance(error, ProviderUnavailable if status in {429, 500, 529} else ProviderRejected)
    assert error.kind == f"http_{status}"
    assert "because of this" in str(error)
    assert error.retry_after_s == (7.0 if status in {429, 500, 529} else None)
    assert error.reply.call.output_tokens is None


def test_google_says_in_the_body_how_long_to_wait():
    """RetryInfo among the details of the error."""
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
    body = json.dumps({"error": {"code": 429, "message": "quota", "details": [detail]}})

    assert fails(GeminiFormat(), fixed(429, body.encode())).retry_after_s == 17.5


def test_a_server_that_says_nothing_is_given_up(form):
    """Neither headers nor body within the time."""
    start = time.perf_counter()
    error = fails(form, [60.0], timeout_s=0.2)

    assert error.kind == "timeout"
    assert time.perf_counter() - start < 30.0


def test_a_cancelled_call_lets_its_connection_go(form):
    """Cancelled in the middle of a stream: at once, and the next call is served."""

    def respond(seen):
        first = [*form.begin(), *form.text("x"), 30.0]
        return stream(*first) if seen.number == 0 else stream(*reply_of(form, form.text("ok")))

    async def run(stub):
        provider = make(form, stub, concurrency=1)
        heard = asyncio.Event()
        task = asyncio.create_task(provider.generate(ASK, lambda text: heard.set()))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reply = await asyncio.wait_for(provider.generate(ASK), 5.0)
        await provider.aclose()
        return reply

    with Stub(respond) as stub:
        assert asyncio.run(run(stub)).text == "ok"


def test_a_reply_of_ten_megabytes_is_read_whole(form):
    """In pieces of 100 kB, and in one event of 10 MB."""
    piece = "ab cd " * 16_667
    for pieces in ([form.text(piece)] * 100, [form.text(piece * 100)]):
        reply = answered(form, *reply_of(form, *pieces))

        assert len(reply.text) == 100 * len(piece)
        assert reply.text.startswith(piece)


def test_a_server_that_does_not_stream_is_read_too(form):
    """A body of JSON: tokens, tools, no times of chunks."""
    tool = {"name": "add", "arguments": '{"a":1}'}
    body = {
        "chat": {
            "model": "w",
            "choices": [
                {
                    "message": {"content": "4", "tool_calls": [{"function": tool}]},
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        },
        "responses": {
            "object": "response",
            "status": "completed",
            "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "4"}]},
                {"type": "function_call", "id": "f", **tool},
            ],
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
        "messages": {
            "type": "message",
            "content": [
                {"type": "text", "text": "4"},
                {"type": "tool_use", "name": "add", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
        "gemini": {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"text": "4"},
                            {"functionCall": {"name": "add", "args": {"a": 1}}},
                        ]
                    },
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1},
        },
    }[form.endpoint]
    reply = answered(form, fixed(200, json.dumps(body).encode()))

    assert (reply.text, reply.call.input_tokens, reply.call.output_tokens) == ("4", 3, 1)
    assert [(t.tool, t.arguments) for t in reply.tool_calls] == [("add", '{"a":1}')]
    assert (reply.stop_reason, reply.call.ttft_s, reply.call.n_chunks) == ("tool_calls", None, None)


def test_requests_and_tiers_have_names(form):
    """The header's name of the request, else the body's; the tier where the format has one."""
    pieces = reply_of(form, form.text("x"))
    named = answered(form, stream(*pieces, x_request_id="req-9"))
    unnamed = answered(form, *pieces)

    in_body = {"responses": "resp_1", "messages": "msg_1", "gemini": "r-1"}
    assert named.call.request_id == "req-9"
    assert unnamed.call.request_id == in_body.get(form.endpoint)
    assert named.call.service_tier == (None if form.endpoint == "chat" else "flex")
    assert named.call.response_id == in_body.get(form.endpoint)


@pytest.mark.parametrize("end", [True, False])
def test_a_chat_completion_bears_the_id_of_its_chunks(end: bool) -> None:
    """In a stream, whole or broken off, and in a body that came whole; the header has another."""
    chunk = {"id": "chatcmpl-7", "model": "m", "choices": [{"index": 0, "delta": {"content": "4"}}]}
    last = {"id": "", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    pieces = [data(chunk), data(last), DONE] if end else [data(chunk)]
    form = ChatFormat()
    if end:
        call = answered(form, stream(*pieces, x_request_id="req-9")).call
        body = {"id": "gen-1", "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}
        assert answered(form, fixed(200, json.dumps(body).encode())).call.response_id == "gen-1"
    else:
        with pytest.raises(StreamBroken) as broken:
            answered(form, stream(*pieces, end=False, x_request_id="req-9"))
        call = broken.value.reply.call

    assert (call.response_id, call.request_id) == ("chatcmpl-7", "req-9")


def test_a_stream_that_fails_at_its_first_word_bears_its_id() -> None:
    """A router bills what its host had begun, and says so in the chunk with the error."""
    failing = {"id": "gen-2", "choices": [], "error": {"message": "no", "code": 502}}
    with pytest.raises(StreamBroken) as broken:
        answered(ChatFormat(), data(failing))

    assert broken.value.reply.call.response_id == "gen-2"


def test_a_recorded_reply_is_replayed_as_it_came(form):
    """Text, thinking, tools, counts and the reason of its end; without times, and for nothing."""
    tools = [Tool("add", ('{"a":', "1}")), Tool("mul", ('{"b":2}',))]
    middle = [
        form.thought("hm"),
        form.text("four"),
        *[form.tool(n, t) for n, t in enumerate(tools)],
    ]
    came = answered(form, *reply_of(form, *middle, reason="tools"))
    transcript = Transcript()
    transcript.answer(transcript.hear(CHAT), came)
    trace = Trace(
        run_id="r",
        configuration_id="c",
        task_id="t",
        item_id="i",
        calls=(came.call,),
        tool_calls=tuple(transcript.tool_calls),
        messages=tuple(transcript.messages),
    )

    again = asyncio.run(Replay([trace]).generate(ASK))

    assert (again.text, again.thinking, again.stop_reason) == (
        came.text,
        came.thinking,
        came.stop_reason,
    )
    assert [(t.tool, t.arguments) for t in again.tool_calls] == [
        ("add", '{"a":1}'),
        ("mul", '{"b":2}'),
    ]
    assert {name: getattr(again.call, name) for name in OURS} == OURS
    assert (again.call.provider, again.call.ttft_s, again.call.billed_cost_usd) == (
        "replay",
        None,
        0.0,
    )


def test_the_key_goes_into_one_header_and_nowhere_else(form, caplog):
    """Echoed in a header, an error, a stream, a text or a tool: never in what we keep or say."""
    caplog.set_level(logging.DEBUG)
    tool = Tool("add", (json.dumps({"k": KEY}),))
    whole = reply_of(form, form.thought(KEY), form.text(f"your key is {KEY}"), form.tool(0, tool))
    replies = [
        stream(*whole, x_request_id=KEY),
        stream(*form.begin(), *form.text("x"), form.failed(f"key {KEY} is over its limit", 429)),
        stream(*form.begin(), b"data: " + KEY.encode() + b"\n\n"),
        fixed(401, json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), x_request_id=KEY),
    ]
    seen = []

    async def run(stub):
        provider = make(form, stub, api_key=KEY)
        seen.append(repr(provider) + str(vars(provider).get("name")))
        for _ in replies:
            try:
                seen.append(repr(await provider.generate(ASK)))
            except ProviderError as error:
                seen.append(str(error) + repr(error) + "".join(traceback.format_exception(error)))
                seen.append(repr(getattr(error, "reply", "")))
        await provider.aclose()

    with Stub(lambda got: replies[got.number]) as stub:
        asyncio.run(run(stub))

    assert len(stub.requests) == len(replies)
    for got in stub.requests:
        assert [name for name, value in got.headers.items() if KEY in value] == [form.key_header]
        assert KEY not in got.path + got.body.decode()
    assert KEY not in "".join(seen) + caplog.text
    assert "".join(seen).count("[key]") >= 6


TOOL = ToolSpec("add", "adds", {"type": "object"})
FUNCTION = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
TALK = (
    *CHAT,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "name": "add", "arguments": '{"a":2}'}],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "4"},
)
SETTINGS = {
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "reasoning_effort": "high",
    "seed": 7,
}
SENT = {
    "chat": {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        **SETTINGS,
        "tools": [{"type": "function", "function": FUNCTION}],
        "messages": [
            *map(dict, CHAT),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a":2}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "4"},
        ],
    },
    "responses": {
        "model": "m",
        "stream": True,
        "store": False,
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning": {"effort": "high"},
        "tools": [{"type": "function", **FUNCTION, "strict": False}],
        "include": ["reasoning.encrypted_content"],
        "input": [
            *map(dict, CHAT),
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":2}'},
            {"type": "function_call_output", "call_id": "c1", "output": "4"},
        ],
    },
    "messages": {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "system": "Be brief.",
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "tools": [{"name": "add", "description": "adds", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "2+2?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 2}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "4"}],
            },
        ],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "add",
                        "description": "adds",
                        "parametersJsonSchema": {"type": "object"},
                    }
                ]
            }
        ],
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "seed": 7,
            "thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True},
        },
        "contents": [
            {"role": "user", "parts": [{"text": "2+2?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 2}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "add", "response": {"result": "4"}}}],
            },
        ],
    },
}


def sent(form, **options):
    """What goes over the wire for a request."""
    with Stub(lambda seen: stream(*reply_of(form, form.text("x")))) as stub:
        ask(form, stub, **options)
    return stub.requests[0]


def test_a_chat_with_tools_goes_out_in_the_format_s_own_words(form):
    """Settings, effort, tools and their answers, as each API wants them."""
    got = sent(form, request=Request(model="m", messages=TALK, sampling=SETTINGS, tools=(TOOL,)))

    assert (got.method, got.path) == ("POST", form.path)
    assert got.json == SENT[form.endpoint]


def test_a_thinking_budget_is_sent_or_refused_before_it_costs(form):
    """Anthropic and Gemini take one; the others say that they do not."""
    request = Request(
        model="m", messages=CHAT, sampling={"max_tokens": 9, "thinking_budget_tokens": 2048}
    )
    if form.endpoint in {"chat", "responses"}:
        with (
            Stub(lambda seen: ()) as stub,
            pytest.raises(ProviderRejected, match="thinking") as caught,
        ):
            ask(form, stub, request=request)
        assert (caught.value.kind, stub.n) == ("unsupported", 0)
        return
    body = sent(form, request=request).json
    if form.endpoint == "messages":
        assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    else:
        thinking = {"thinkingBudget": 2048, "includeThoughts": True}
        assert body["generationConfig"] == {"maxOutputTokens": 9, "thinkingConfig": thinking}


def test_no_effort_is_said_in_the_format_s_own_words(form):
    """Thinking is turned off where that can be said apart from an effort."""
    asked = {"max_tokens": 9, "reasoning_effort": "none"}
    body = sent(form, request=Request(model="m", messages=CHAT, sampling=asked)).json

    where = {
        "chat": ("reasoning_effort", "none"),
        "responses": ("reasoning", {"effort": "none"}),
        "messages": ("thinking", {"type": "disabled"}),
        "gemini": (
            "generationConfig",
            {"maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": 0}},
        ),
    }
    name, value = where[form.endpoint]
    assert body[name] == value


def test_systems_and_blocks_of_content_are_kept():
    """Several system messages, and content in parts, with the marks of a cache."""
    marked = [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}]
    messages = (
        *CHAT[:1],
        {"role": "system", "content": marked},
        {"role": "user", "content": marked},
    )
    body = sent(
        MessagesFormat(), request=Request(model="m", messages=messages, sampling={"max_tokens": 9})
    ).json

    assert body["system"] == [{"type": "text", "text": "Be brief."}, *marked]
    assert body["messages"] == [{"role": "user", "content": marked}]


def test_a_tool_that_the_service_ran_does_not_end_the_turn():
    """Anthropic says itself when it waits for a tool."""
    form = MessagesFormat()
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    piece = event("content_block_start", index=5, content_block=block)
    reply = answered(form, *reply_of(form, [piece], form.text("x")))

    assert ([t.tool for t in reply.tool_calls], reply.stop_reason) == (["web_search"], "stop")


def test_tokens_are_counted_in_the_server_s_own_words():
    """vLLM's /tokenize takes a prompt, llama.cpp's a content; OpenAI is never asked."""

    async def run(stub, name):
        provider = registry.make("chat", stub.url, name=name, timeout_s=5.0)
        found = await provider.count_tokens("a b c")
        await provider.aclose()
        return found

    with Stub(lambda seen: fixed(200, b'{"count":3,"tokens":[1,2,3]}')) as stub:
        assert [asyncio.run(run(stub, n)) for n in ("vllm", "llama.cpp", "openai")] == [3, 3, None]

    assert [set(s.json) & {"prompt", "content"} for s in stub.requests] == [{"prompt"}, {"content"}]


def test_further_fields_are_laid_under_the_request(form):
    """Also within objects that the request has itself."""
    extra = {"metadata": {"user_id": "u"}, "generationConfig": {"topK": 3}}
    body = sent(form, extra_body=extra).json

    assert body["metadata"] == {"user_id": "u"}
    assert body["generationConfig"] == (
        {"topK": 3, "maxOutputTokens": 9} if form.endpoint == "gemini" else {"topK": 3}
    )


def test_services_differ_by_configuration():
    """OpenAI's new name of the cap; OpenRouter's reasoning object, with effort and budget."""
    asked = {"max_tokens": 9, "reasoning_effort": "low"}

    def body(name, **more):
        request = Request(model="m", messages=CHAT, sampling={**asked, **more})
        return json.loads(registry.make("chat", "http://127.0.0.1:1/v1", name=name).body(request))

    assert body("openai")["max_completion_tokens"] == 9
    assert "max_tokens" not in body("openai")
    routed = body("openrouter", thinking_budget_tokens=64)
    assert routed["reasoning"] == {"effort": "low", "max_tokens": 64}
    assert routed["usage"] == {"include": True}
    assert body("vllm")["max_tokens"] == 9
    assert body("vllm")["stream_options"] == {"include_usage": True}
    with pytest.raises(ConfigError, match="no endpoint 'soap'"):
        registry.make("soap", "http://127.0.0.1:1/v1", name="openai")


def test_mistral_is_sent_no_field_that_it_refuses():
    """It calls the seed `random_seed`, refuses `stream_options`, and sends usage unasked."""
    request = Request(model="m", messages=CHAT, sampling={"max_tokens": 9, "seed": 7})
    provider = registry.make("chat", "https://api.mistral.ai/v1", name="mistral")

    body = json.loads(provider.body(request))

    assert set(body) == {"model", "messages", "stream", "max_tokens", "random_seed"}
    assert body["random_seed"] == 7


BASE = {"models": ["m"], "tasks": ["t"], "max_tokens": 9}


@pytest.mark.parametrize(
    ("settings", "endpoint", "url", "key"),
    [
        ({}, "chat", "http://127.0.0.1:8080/v1", None),
        ({"provider": "openai"}, "chat", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        (
            {"provider": "openai", "endpoint": "responses"},
            "responses",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
        ),
        (
            {"provider": "anthropic"},
            "messages",
            "https://api.anthropic.com/v1",
            "ANTHROPIC_API_KEY",
        ),
        (
            {"provider": "google"},
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta",
            "GEMINI_API_KEY",
        ),
        (
            {"provider": "google", "endpoint": "chat"},
            "chat",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
        ),
        (
            {"base_url": "https://openrouter.ai/api/v1"},
            "chat",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
        ),
        ({"provider": "deepseek"}, "chat", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        ({"provider": "groq"}, "chat", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ({"provider": "mistral"}, "chat", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ({"provider": "together"}, "chat", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        (
            {"provider": "x-ai", "endpoint": "responses"},
            "responses",
            "https://api.x.ai/v1",
            "XAI_API_KEY",
        ),
        (
            {"base_url": "https://api.fireworks.ai/inference/v1"},
            "chat",
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_API_KEY",
        ),
        ({"provider": "vllm"}, "chat", "http://127.0.0.1:8000/v1", None),
        ({"provider": "sglang"}, "chat", "http://127.0.0.1:30000/v1", None),
        (
            {"provider": "ollama", "endpoint": "completions"},
            "completions",
            "http://127.0.0.1:11434/v1",
            None,
        ),
        (
            {"provider": "anthropic", "base_url": "https://proxy.example/v1"},
            "messages",
            "https://proxy.example/v1",
            None,
        ),
        (
            {"provider": "openai", "base_url": "http://api.openai.com/v1"},
            "chat",
            "http://api.openai.com/v1",
            None,
        ),
        (
            {"provider": "openai", "api_key_env": "OTHER"},
            "chat",
            "https://api.openai.com/v1",
            "OTHER",
        ),
    ],
)
def test_a_provider_s_name_fills_the_plan_in(settings, endpoint, url, key):
    """Address, endpoint and the key's variable; the key never goes to another host, or without
    TLS."""
    plan = Plan.from_mapping({**BASE, **settings})

    assert (plan.endpoint, plan.base_url, plan.api_key_env) == (endpoint, url, key)


def test_a_plan_says_at_once_what_its_endpoint_cannot_do():
    """Messages need a cap; there is no address of Gemini's at OpenAI's."""
    with pytest.raises(ConfigError, match="max_tokens"):
        Plan.from_mapping({"models": ["m"], "tasks": ["t"], "provider": "anthropic"})
    with pytest.raises(ConfigError, match=re.escape("no address of openai")):
        Plan.from_mapping({**BASE, "provider": "openai", "endpoint": "gemini"})


def test_a_blocked_prompt_is_a_reply_without_candidates():
    """Gemini refuses the prompt itself."""
    blocked = data(
        {
            "promptFeedback": {"blockReason": "SAFETY"},
            "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
        }
    )
    reply = answered(GeminiFormat(), blocked)

    assert (reply.text, reply.stop_reason, reply.call.input_tokens, reply.call.output_tokens) == (
        "",
        "content_filter",
        5,
        0,
    )


def test_cache_writes_have_lifetimes():
    """Anthropic's, of five minutes and of an hour, in the stream's first event."""
    counts = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    }
    form = MessagesFormat()
    begin = event("message_start", message={"model": "m", "usage": counts})
    call = answered(form, begin, *form.text("x"), *form.end()).call

    assert (call.input_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens) == (
        51,
        20,
        30,
    )
    assert call.output_tokens == 30


def test_log_probabilities_are_summed_where_they_are_offered():
    """Chat and Responses give one per token."""
    logs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}
    chat = data({"choices": [{"index": 0, "delta": {"content": "ab"}, "logprobs": logs}]})
    item = event("response.output_text.delta", item_id="m", delta="ab", logprobs=logs["content"])
    for form, piece in ((ChatFormat(), chat), (ResponsesFormat(), item)):
        assert answered(form, piece, *form.end()).call.logprob_sum == -0.75
        assert answered(form, *reply_of(form, form.text("x"))).call.logprob_sum is None
