"""Servers that misbehave: what they send is read as far as it is evidence, and their failures stay
theirs."""

import asyncio
import gzip
import json
import socket
import ssl
import zlib

import aiohttp
import httpx
import pytest

from tests.support.runner_stub import DONE, Stub, data, delta, fixed, stream, usage
from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.limits import Breaker
from workbench.runner.providers import registry, transport
from workbench.runner.providers.protocol import FATAL, CallRefused, Request, StreamBroken
from workbench.runner.providers.usage import laid_over, token_fields

ASK = Request(
    model="m", messages=({"role": "user", "content": "2+2?"},), sampling={"max_tokens": 9}
)
COUNTED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
TEXT = delta("Answer: 4")
STOP = delta(finish="stop")


def over(endpoint, steps):
    """Ask once; `steps` is what the server sends."""

    async def run(url):
        provider = registry.make(endpoint, url, name="acme", timeout_s=5.0)
        try:
            return await provider.generate(ASK)
        finally:
            await provider.aclose()

    with Stub(lambda seen: steps) as stub:
        return asyncio.run(run(stub.url))


def answered(*pieces, endpoint="chat"):
    return over(endpoint, stream(*pieces))


def fails(*pieces, endpoint="chat") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        answered(*pieces, endpoint=endpoint)
    return caught.value


def ended(finish="stop", **choice) -> bytes:
    """A last chunk with fields of the choice's own."""
    return data({"choices": [{"index": 0, "delta": {}, "finish_reason": finish, **choice}]})


# -- tool calls ----------------------------------------------------------------------------------


def tool(index=None, id=None, name=None, arguments=None):
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not None}
    known = {"index": index, "id": id, "function": function}
    return {k: v for k, v in known.items() if v is not None}


ADD, MUL = '{"x":"2+2"}', '{"x":"3*3"}'
TWO = [("add", ADD), ("mul", MUL)]
SAME = [("add", ADD), ("add", MUL)]
# every inner list is one chunk
TOOLS = [
    ("one index, ids", [[tool(0, "a", "add", ADD)], [tool(0, "b", "mul", MUL)]], TWO),
    ("one index, ids, same tool", [[tool(0, "a", "add", ADD)], [tool(0, "b", "add", MUL)]], SAME),
    ("one index, no ids", [[tool(0, None, "add", ADD)], [tool(0, None, "add", MUL)]], SAME),
    ("no index, one chunk", [[tool(None, None, "add", ADD), tool(None, None, "add", MUL)]], SAME),
    ("no index, ids", [[tool(None, "a", "add", ADD)], [tool(None, "b", "mul", MUL)]], TWO),
    ("no index, no ids", [[tool(None, None, "add", ADD)], [tool(None, None, "mul", MUL)]], TWO),
    (
        "one index, in pieces",
        [
            [tool(0, "a", "add", "")],
            [tool(0, None, None, ADD)],
            [tool(0, "b", "mul", MUL[:4])],
            [tool(0, None, None, MUL[4:])],
        ],
        TWO,
    ),
    (
        "interleaved by id",
        [
            [tool(0, "a", "add", ADD[:3]), tool(0, "b", "mul", MUL[:3])],
            [tool(0, "a", None, ADD[3:]), tool(0, "b", None, MUL[3:])],
        ],
        TWO,
    ),
    (
        "interleaved by index",
        [
            [tool(0, "a", "add", "")],
            [tool(1, "b", "mul", "")],
            [tool(0, None, None, ADD[:3])],
            [tool(1, None, None, MUL)],
            [tool(0, None, None, ADD[3:])],
        ],
        TWO,
    ),
    ("an id for all", [[tool(0, "x", "add", ADD)], [tool(1, "x", "mul", MUL)]], TWO),
    (
        "name and id in every piece",
        [[tool(0, "a", "add", ADD[:5])], [tool(0, "a", "add", ADD[5:])]],
        TWO[:1],
    ),
    (
        "name in every piece",
        [[tool(0, None, "add", ADD[:5])], [tool(0, None, "add", ADD[5:])]],
        TWO[:1],
    ),
    ("ids that are numbers", [[tool(0, 7, "add", ADD)], [tool(0, 8, "mul", MUL)]], TWO),
    ("an id that comes late", [[tool(0, None, "add", "")], [tool(0, "a", None, ADD)]], TWO[:1]),
    ("arguments as objects", [[tool(0, "a", "add", json.loads(ADD))]], TWO[:1]),
    ("no arguments", [[tool(0, "a", "add", "")]], [("add", None)]),
]


@pytest.mark.parametrize(("_name", "chunks", "calls"), TOOLS, ids=[t[0] for t in TOOLS])
def test_tool_calls_are_told_apart_by_id_then_by_place(_name, chunks, calls):
    """However a server numbers them, each call has its own name and arguments, in order."""
    reply = answered(*[delta(tool_calls=c) for c in chunks], delta(finish="tool_calls"), DONE)

    assert [(t.tool, t.arguments) for t in reply.tool_calls] == calls
    assert len(set(reply.tool_ids)) == len(calls) or _name == "an id for all"


def test_blocks_of_messages_with_one_index_are_blocks_of_their_own():
    """A proxy that numbers every block 0: two tool calls, not one."""

    def event(kind, **fields):
        return data({"type": kind, **fields})

    pieces = [event("message_start", message={"id": "m", "usage": {"input_tokens": 5}})]
    for name, arguments in TWO:
        block = {"type": "tool_use", "id": f"t-{name}", "name": name, "input": {}}
        piece = {"type": "input_json_delta", "partial_json": arguments}
        pieces.append(event("content_block_start", index=0, content_block=block))
        pieces.append(event("content_block_delta", index=0, delta=piece))
    pieces.append(event("message_delta", delta={"stop_reason": "tool_use"}))
    reply = answered(*pieces, event("message_stop"), endpoint="messages")

    assert [(t.tool, t.arguments) for t in reply.tool_calls] == TWO
    assert reply.tool_ids == ("t-add", "t-mul")


def test_function_calls_of_responses_without_ids_stand_by_their_place():
    """Items that have no id are told apart by their index in the output."""
    pieces = []
    for place, (name, arguments) in enumerate(TWO):
        item = {"type": "function_call", "name": name, "arguments": ""}
        done = item | {"arguments": arguments}
        pieces.append(
            data({"type": "response.output_item.added", "output_index": place, "item": item})
        )
        pieces.append(
            data({"type": "response.output_item.done", "output_index": place, "item": done})
        )
    end = {"type": "response.completed", "response": {"status": "completed"}}
    reply = answered(*pieces, data(end), endpoint="responses")

    assert [(t.tool, t.arguments) for t in reply.tool_calls] == TWO


# -- usage ---------------------------------------------------------------------------------------

USAGES = [
    ("zeros after", [TEXT, delta(finish="stop"), usage(**COUNTED), usage(**ZEROS)], (11, 7)),
    ("null after", [TEXT, usage(**COUNTED), data({"choices": [], "usage": None})], (11, 7)),
    ("empty after", [TEXT, usage(**COUNTED), usage()], (11, 7)),
    ("in the choice", [TEXT, ended(usage=COUNTED)], (11, 7)),
    ("of groq", [TEXT, data({"choices": [], "x_groq": {"usage": COUNTED}})], (11, 7)),
    (
        "with every chunk",
        [usage(prompt_tokens=11, completion_tokens=1), TEXT, usage(**COUNTED)],
        (11, 7),
    ),
    (
        "of an odd form",
        [TEXT, data({"choices": [], "usage": [1]}), data({"choices": [], "usage": "no"})],
        (None, None),
    ),
    ("zeros alone", [TEXT, usage(**ZEROS)], (None, None)),
    ("no output", [TEXT, usage(prompt_tokens=11, completion_tokens=0)], (11, None)),
    ("zeros beside nothing", [usage(**ZEROS)], (0, 0)),
]


@pytest.mark.parametrize(("_name", "pieces", "counts"), USAGES, ids=[u[0] for u in USAGES])
def test_absence_does_not_outrank_evidence(_name, pieces, counts):
    """Zeros and nulls never replace counts, and zeros beside a text are no counts."""
    call = answered(*pieces, STOP, DONE).call

    assert (call.input_tokens, call.output_tokens) == counts
    assert call.tokens_source == ("reported" if counts != (None, None) else None)


def test_a_later_usage_keeps_what_it_leaves_out():
    """Details of an earlier object stay; larger counts go on."""
    first = {
        "prompt_tokens": 11,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    last = {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 0},
    }

    assert laid_over(first, last) == first | {"completion_tokens": 7}
    assert laid_over(None, {}) is None
    assert laid_over(None, ZEROS) == ZEROS


def test_zeros_beside_a_text_are_no_bill_either():
    """A cost of 0 beside counts of 0 is a blank form; beside real counts it is a statement."""
    assert token_fields(ZEROS | {"cost": 0}, has_content=True) == {}
    assert token_fields(COUNTED | {"cost": 0}, has_content=True)["billed_cost_usd"] == 0.0
    assert (
        token_fields(ZEROS, {"prompt_n": 3, "predicted_n": 2}, has_content=True)["output_tokens"]
        == 2
    )


@pytest.mark.parametrize("endpoint", ["messages", "gemini", "responses"])
def test_zeros_beside_a_text_are_unknown_in_every_format(endpoint):
    """Null, never 0."""
    text, end = {
        "messages": (
            data(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": "4"},
                }
            ),
            data(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": {"input_tokens": 0, "output_tokens": 0},
                }
            ),
        ),
        "gemini": (
            data({"candidates": [{"content": {"parts": [{"text": "4"}]}}]}),
            data(
                {
                    "candidates": [{"finishReason": "STOP"}],
                    "usageMetadata": {
                        "promptTokenCount": 0,
                        "candidatesTokenCount": 0,
                        "totalTokenCount": 0,
                    },
                }
            ),
        ),
        "responses": (
            data({"type": "response.output_text.delta", "item_id": "m", "delta": "4"}),
            data(
                {
                    "type": "response.completed",
                    "response": {
                        "status": "completed",
                        "usage": {"input_tokens": 0, "output_tokens": 0},
                    },
                }
            ),
        ),
    }[endpoint]
    call = answered(text, end, endpoint=endpoint).call

    assert (call.input_tokens, call.output_tokens, call.tokens_source) == (None, None, None)


# -- failures of the host ------------------------------------------------------------------------

GEMINI = [
    data({"candidates": [{"content": {"parts": [{"text": "The "}]}}]}),
    data({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}),
]
HOST = [
    (
        "finish error",
        "chat",
        [delta("The answer is"), delta(finish="error"), DONE],
        "stream_error",
        "error",
    ),
    (
        "network error",
        "chat",
        [ended(native_finish_reason="network_error"), DONE],
        "stream_error",
        "network_error",
    ),
    (
        "no resources",
        "chat",
        [TEXT, delta(finish="insufficient_system_resource"), DONE],
        "stream_error",
        "resource",
    ),
    ("aborted", "chat", [TEXT, delta(finish="abort"), DONE], "stream_error", "abort"),
    (
        "error of a choice",
        "chat",
        [ended("error", error={"code": 502, "message": "gone"}), DONE],
        "http_502",
        "gone",
    ),
    (
        "no reply",
        "chat",
        [data({"choices": []}), usage(**COUNTED), DONE],
        "truncated",
        "without a reply",
    ),
    (
        "no tool call",
        "chat",
        [delta(finish="tool_calls"), usage(**COUNTED), DONE],
        "malformed_tool_call",
        "no tool call",
    ),
    ("no end", "chat", [TEXT], "truncated", "ended before"),
    ("malformed call", "gemini", GEMINI, "malformed_tool_call", "MALFORMED_FUNCTION_CALL"),
    (
        "cancelled",
        "responses",
        [data({"type": "response.cancelled", "response": {"status": "cancelled"}})],
        "stream_error",
        "cancelled",
    ),
    (
        "code as a text",
        "chat",
        [data({"error": {"code": "503", "message": "busy"}})],
        "http_503",
        "busy",
    ),
    (
        "word of Google",
        "gemini",
        [data({"error": {"status": "UNAVAILABLE", "message": "busy"}})],
        "http_503",
        "busy",
    ),
]


@pytest.mark.parametrize(
    ("_name", "endpoint", "pieces", "kind", "said"), HOST, ids=[h[0] for h in HOST]
)
def test_a_failure_of_the_host_is_no_answer_of_the_model(_name, endpoint, pieces, kind, said):
    """It is an error, and may be asked again."""
    error = fails(*pieces, endpoint=endpoint)

    assert isinstance(error, StreamBroken)
    assert (error.kind, said in str(error)) == (kind, True)


def test_a_redirect_says_where_it_leads():
    """It is not followed: the key would go with it."""
    steps = fixed(307, b"", location="http://127.0.0.1:1/v2/chat/completions")
    with pytest.raises(
        CallRefused, match=r"redirect to http://127\.0\.0\.1:1/v2.*base_url"
    ) as caught:
        over("chat", steps)
    assert caught.value.kind == "http_307"


def test_a_reply_that_was_not_streamed_fails_the_same_way():
    """A body of JSON with a failure within, though the status is 200."""
    bodies = {
        "stream_error": {"choices": [{"message": {"content": "The"}, "finish_reason": "error"}]},
        "truncated": {"choices": []},
        "http_429": {"error": {"message": "slow down", "code": 429}},
    }
    for kind, body in bodies.items():
        with pytest.raises(StreamBroken) as caught:
            over("chat", fixed(200, json.dumps(body).encode()))
        assert caught.value.kind == kind


@pytest.mark.parametrize("nothing", [None, {}, ""], ids=["null", "empty object", "empty text"])
def test_an_empty_error_beside_a_reply_is_none(nothing):
    """Some servers send the field with every chunk."""
    pieces = [data({"choices": [{"delta": {"content": "4"}}], "error": nothing}), STOP, DONE]

    assert answered(*pieces).text == "4"


def response_of(*deltas, done=None, output=None):
    """A reply of OpenAI's Responses with one part of text."""
    part = {"item_id": "m", "output_index": 0, "content_index": 0}
    pieces = [data({"type": "response.output_text.delta", **part, "delta": d}) for d in deltas]
    if done is not None:
        pieces.append(data({"type": "response.output_text.done", **part, "text": done}))
    items = [{"type": "message", "content": [{"type": "output_text", "text": output}]}]
    body = {"status": "completed", "output": items if output is not None else []}
    return [*pieces, data({"type": "response.completed", "response": body})]


def test_a_text_shorter_than_its_end_says_is_an_error():
    """A delta was lost on the way: 6 of 9 characters, by the end of the part or of the reply."""
    for pieces in (
        response_of("Answer", done="Answer: 4"),
        response_of("Answer", output="Answer: 4"),
    ):
        error = fails(*pieces, endpoint="responses")

        assert isinstance(error, StreamBroken)
        assert (error.kind, error.reply.text) == ("truncated", "Answer")
        assert "6 of 9" in str(error)


def test_a_text_that_comes_only_at_its_end_is_taken_once():
    """Whole by the part, by the reply, or both; also after thinking that was streamed."""
    thought = data({"type": "response.reasoning_text.delta", "item_id": "r", "delta": "hm"})
    for pieces in (
        response_of(done="Answer: 4"),
        response_of(output="Answer: 4"),
        response_of("Answer", ": 4", done="Answer: 4", output="Answer: 4"),
    ):
        assert answered(*pieces, endpoint="responses").text == "Answer: 4"
        reply = answered(thought, *pieces, endpoint="responses")
        assert (reply.text, reply.thinking) == ("Answer: 4", "hm")


def test_a_page_is_no_reply():
    """A proxy asks to sign in: the message shows it and says what to check."""
    page = b"<html><body>Please sign in to the corporate proxy</body></html>"
    with pytest.raises(StreamBroken, match=r"web page.*sign in.*base_url") as caught:
        over("chat", fixed(200, page, "text/html; charset=utf-8"))
    assert caught.value.kind == "bad_response"


# -- the wire ------------------------------------------------------------------------------------

WHOLE = TEXT + STOP + usage(**COUNTED) + DONE
EMPTY = [
    b"data:\n\n",
    b"data: \n\n",
    b"event: ping\ndata: \n\n",
    b"event: ping\ndata: {}\n\n",
    b": hi\n\n",
    b"event: ping\ndata: hello\n\n",
]


@pytest.mark.parametrize("nothing", EMPTY)
def test_events_without_data_and_pings_say_nothing(nothing):
    """They keep a connection open; before, between and after the reply."""
    reply = answered(nothing, TEXT, nothing, STOP, usage(**COUNTED), nothing, DONE)

    assert (reply.text, reply.call.output_tokens) == ("Answer: 4", 7)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("GZIP", gzip.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_a_body_compressed_though_nobody_asked_is_read(encoding, compress, kind):
    """Streams, whole replies and refusals."""
    message = {"message": {"content": "Answer: 4"}, "finish_reason": "stop"}
    whole = json.dumps({"choices": [message], "usage": COUNTED}).encode()
    body = compress(WHOLE if "event" in kind else whole)
    reply = over("chat", fixed(200, body, kind, content_encoding=encoding))

    assert (reply.text, reply.call.output_tokens) == ("Answer: 4", 7)
    refusal = compress(b'{"error": {"message": "no such model"}}')
    with pytest.raises(CallRefused, match="no such model"):
        over("chat", fixed(404, refusal, content_encoding=encoding))


def test_an_encoding_that_nobody_can_read_is_named():
    """An error that may pass, not a wrong answer."""
    with pytest.raises(StreamBroken, match="'lzma'") as caught:
        over("chat", fixed(200, WHOLE, "text/event-stream", content_encoding="lzma"))
    assert caught.value.kind == "bad_response"
    with pytest.raises(StreamBroken) as caught:
        over("chat", fixed(200, WHOLE, "text/event-stream", content_encoding="gzip"))
    assert caught.value.kind == "bad_response"


ODD = [
    ("null index", {"choices": [{"index": None, "delta": {"content": "4"}}]}),
    ("tier as a number", {"service_tier": 1, "choices": [{"delta": {"content": "4"}}]}),
    ("logprobs as a list", {"choices": [{"delta": {"content": "4"}, "logprobs": []}]}),
    ("created long ago", {"created": -1, "choices": [{"delta": {"content": "4"}}]}),
    ("created never", {"created": 1e300, "choices": [{"delta": {"content": "4"}}]}),
    ("reasoning as an object", {"choices": [{"delta": {"content": "4", "reasoning": {"a": 1}}}]}),
]


@pytest.mark.parametrize(("_name", "chunk"), ODD, ids=[o[0] for o in ODD])
def test_odd_fields_that_do_not_matter_cost_no_reply(_name, chunk):
    """What the answer does not depend on may be of any form."""
    assert answered(data(chunk), STOP, DONE).text == "4"


def test_thinking_in_details_alone_is_thinking():
    """OpenRouter's `reasoning_details`; the same text under two names counts once."""
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}]
    assert answered(delta(content="", reasoning_details=details), TEXT, STOP, DONE).thinking == "hm"
    both = delta(reasoning="hm", reasoning_content="hm", reasoning_details=details)
    assert answered(both, TEXT, STOP, DONE).thinking == "hm"


# -- what no waiting mends -----------------------------------------------------------------------

NO_CREDIT = [
    (
        429,
        {
            "message": "You exceeded your current quota",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        },
    ),
    (
        400,
        {
            "message": "Your credit balance is too low to access the API",
            "type": "invalid_request_error",
        },
    ),
    (403, {"message": "no", "code": "billing_hard_limit_reached"}),
]


@pytest.mark.parametrize(("status", "said"), NO_CREDIT)
def test_an_account_without_credit_is_not_asked_again(status, said):
    """It comes as one of several statuses; the configuration is stopped at once."""
    with pytest.raises(CallRefused, match="add some") as caught:
        over("chat", fixed(status, json.dumps({"error": said}).encode()))
    assert caught.value.kind == "insufficient_quota"
    assert Breaker(25).note(caught.value) == 1
    with pytest.raises(CallRefused):
        answered(data({"error": said}))


def test_a_quota_of_this_minute_is_worth_waiting_for():
    """Google says the same sentence of its limits per minute."""
    said = {"message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}
    with pytest.raises(StreamBroken) as caught:
        over("gemini", fixed(429, json.dumps({"error": said}).encode()))
    assert caught.value.kind == "http_429"


def connecting(cause, through="aiohttp"):
    """An error of connecting with its cause, as the transports raise it."""
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    inner = aiohttp.ClientConnectorError(key, cause) if through == "aiohttp" else cause
    outer = httpx.ConnectError("no")
    outer.__cause__ = inner
    return outer


def tls(reason):
    return ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:1000)")


@pytest.mark.parametrize("through", ["aiohttp", "httpx"])
@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "tls"),
        (tls("WRONG_VERSION_NUMBER"), "tls"),
    ],
)
def test_a_host_that_cannot_be_had_is_asked_once(through, cause, kind):
    """No address, no trust: every request would meet it, so that the first one ends it."""
    error = transport.transport_error(connecting(cause, through), "https://h/v1")

    assert isinstance(error, ProviderRejected)
    assert (error.kind, error.kind in FATAL) == (kind, True)
    assert "check base_url" in str(error)
    assert Breaker(25).note(error) == 1


def test_troubles_of_a_connection_that_pass_are_asked_again():
    """A name server that fails for a moment, a handshake that breaks off, nobody listening."""
    again = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    for error in (
        transport.transport_error(connecting(again), "h", reached=True),
        transport.transport_error(connecting(ssl.SSLEOFError(8, "EOF occurred")), "h"),
        transport.transport_error(connecting(ConnectionRefusedError(111, "refused")), "h"),
    ):
        assert isinstance(error, ProviderUnavailable)
        assert error.kind not in FATAL - {"dns"}


def test_a_server_without_tls_is_told_from_one_that_is_away():
    """https:// to a server of http:// over a real socket."""

    async def answer(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def run():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            provider = registry.make("chat", f"https://127.0.0.1:{port}/v1", name="acme")
            try:
                await provider.generate(ASK)
            finally:
                await provider.aclose()

    with pytest.raises(CallRefused, match="TLS") as caught:
        asyncio.run(run())
    assert caught.value.kind == "tls"
