"""The contract of a provider, against a real server on a real socket, over both transports."""

import asyncio
import contextlib
import json
import logging
import pickle
import time
import traceback

import pytest

from tests.support.runner_stub import (
    CLOSE,
    DONE,
    Stub,
    data,
    delta,
    fixed,
    reply_pieces,
    stream,
    usage,
)
from workbench.errors import ConfigError, ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.attempts.session import Request, StreamBroken
from workbench.runner.providers.openai_chat import OpenAIChat

KEY = "sk-test-0123456789abcdef"
ASK = Request(
    model="m",
    messages=({"role": "user", "content": "2+2?"},),
    sampling={"max_tokens": 9, "seed": None},
)


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request):
    return request.param


def ask(stub, transport="aiohttp", request=ASK, **options):
    """Ask once through a new provider."""

    async def run():
        provider = OpenAIChat(stub.url, http=transport, **{"timeout_s": 10.0, **options})
        try:
            return await provider.generate(request)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def fails(stub, transport="aiohttp", **options) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(stub, transport, **options)
    return caught.value


def test_a_streamed_reply_is_read_whole(transport):
    """Text, thinking, times, tokens and names, each with a value of its own."""
    pieces = [
        delta(role="assistant", content=""),
        0.05,
        delta(reasoning_content="hm, "),
        0.02,
        delta(reasoning="yes"),
        0.03,
        delta("fo"),
        0.01,
        delta("ur", service_tier="flex"),
        delta(finish="stop"),
        usage(
            prompt_tokens=11,
            completion_tokens=7,
            total_tokens=18,
            cost=0.125,
            prompt_tokens_details={"cached_tokens": 5},
            completion_tokens_details={"reasoning_tokens": 3},
        ),
        DONE,
    ]
    pieces[7] = data(
        {"model": "stub-1", "service_tier": "flex", "choices": [{"delta": {"content": "u"}}]}
    )
    pieces[8] = delta("r")
    with Stub(lambda seen: stream(*pieces, x_request_id="req-9")) as stub:
        reply = ask(stub, transport, name="acme")

    call = reply.call
    assert (reply.text, reply.thinking, reply.stop_reason) == ("four"[:2] + "ur", "hm, yes", "stop")
    assert (call.provider, call.model, call.response_model) == ("acme", "m", "stub-1")
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (11, 5, 7)
    assert (call.reasoning_tokens, call.total_tokens, call.billed_cost_usd) == (3, 18, 0.125)
    assert (call.request_id, call.service_tier, call.tokens_source) == ("req-9", "flex", "reported")
    assert json.loads(call.usage)["prompt_tokens_details"] == {"cached_tokens": 5}
    assert 0.05 <= call.ttft_s < call.answer_start_s <= call.e2e_s
    assert call.answer_start_s >= 0.1
    assert call.gap_p50_s <= call.gap_p90_s <= call.gap_p99_s <= call.gap_max_s
    assert call.started_at.utcoffset().total_seconds() == 0


def test_the_request_is_openai_s(transport):
    """What goes over the wire: settings as asked, nothing that was not set."""
    with Stub(lambda seen: stream(*reply_pieces(2))) as stub:
        ask(stub, transport, api_key=KEY, extra_body={"chat_template_kwargs": {"x": 1}})

    (seen,) = stub.requests
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"x": 1},
    }


def test_a_base_model_continues_a_prompt(transport):
    """Completions have their own path and their own chunks."""
    pieces = [
        data({"model": "b", "choices": [{"text": t, "finish_reason": f}]})
        for t, f in [("4", None), ("", "length")]
    ]
    with Stub(lambda seen: stream(*pieces, DONE)) as stub:
        reply = ask(stub, transport, request=Request(model="b", prompt="2+2="))

    assert (reply.text, reply.stop_reason) == ("4", "max_tokens")
    assert stub.requests[0].path == "/v1/completions"
    assert stub.requests[0].json["prompt"] == "2+2="


def test_bytes_may_be_split_anywhere(transport):
    """One byte a write, within a character of four bytes, with CRLF and comments."""
    raw = (
        b": hi\r\n\r\n"
        + delta("\U0001f9ee\u00e9")
        .replace(b"\\ud83e\\uddee", "\U0001f9ee".encode())
        .replace(b"\n\n", b"\r\n\r\n")
        + delta(finish="stop")
        + DONE
    )
    with Stub(lambda seen: stream(*[raw[i : i + 1] for i in range(len(raw))])) as stub:
        assert ask(stub, transport).text == "\U0001f9ee\u00e9"


def test_a_missing_usage_is_unknown_and_not_zero():
    """Null, never 0; not even an object of usage."""
    with Stub(lambda seen: stream(delta("4", finish="stop"), DONE)) as stub:
        call = ask(stub).call

    assert (call.input_tokens, call.output_tokens, call.reasoning_tokens, call.usage) == (None,) * 4
    assert (call.billed_cost_usd, call.tokens_source) == (None, None)


def test_tool_calls_are_returned():
    """Deltas become one call."""
    piece = [{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a":'}}]
    more = [{"index": 0, "function": {"arguments": "1}"}}]
    with Stub(
        lambda seen: stream(
            delta(tool_calls=piece), delta(tool_calls=more), delta(finish="tool_calls"), DONE
        )
    ) as stub:
        reply = ask(stub)

    assert [(t.tool, t.arguments) for t in reply.tool_calls] == [("add", '{"a":1}')]
    assert (reply.stop_reason, reply.call.n_chunks) == ("tool_calls", 2)


def test_a_server_that_does_not_stream_is_read_too(transport):
    """A JSON body has tokens, and no times of chunks."""
    body = {
        "model": "w",
        "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    with Stub(lambda seen: fixed(200, json.dumps(body).encode())) as stub:
        reply = ask(stub, transport)

    assert (reply.text, reply.call.output_tokens) == ("4", 1)
    assert (reply.call.ttft_s, reply.call.n_chunks) == (None, None)
    assert reply.call.e2e_s > 0


@pytest.mark.parametrize(
    ("steps", "kind", "said"),
    [
        (stream(delta("fo"), end=False), "connection", "connection"),
        (stream(delta("fo")), "truncated", "ended before"),
        (stream(delta("fo"), b"data: {oops\n\n"), "bad_response", "oops"),
        (
            stream(delta("fo"), data({"error": {"message": "worker died"}})),
            "stream_error",
            "worker died",
        ),
        (
            stream(delta("fo"), data({"error": {"message": "slow down", "code": 429}})),
            "http_429",
            "slow down",
        ),
        (stream(delta("fo"), b'event: error\ndata: {"detail":"gone"}\n\n'), "stream_error", "gone"),
        (stream(delta("fo"), 5.0), "timeout", "in time"),
    ],
    ids=["dropped", "truncated", "garbage", "error", "error with code", "error event", "stalled"],
)
def test_a_broken_stream_is_an_error_that_keeps_what_arrived(transport, steps, kind, said):
    """Worth asking again; the beginning of the answer is not lost; nothing is counted."""
    with Stub(lambda seen: steps) as stub:
        error = fails(stub, transport, timeout_s=0.5)

    assert isinstance(error, StreamBroken)
    assert (error.kind, error.reply.text, error.reply.call.n_chunks) == (kind, "fo", 1)
    assert said in str(error)
    assert error.reply.call.output_tokens is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no such model"}}',
        b'{"error":"no such model"}',
        b'{"detail":"no such model"}',
        b"no such model",
        b'"no such model"',
    ],
)
def test_the_server_s_reason_is_in_the_message(transport, body):
    """However it is wrapped; long ones are cut."""
    with Stub(lambda seen: fixed(404, body + b" " * 70_000)) as stub:
        error = fails(stub, transport)

    assert isinstance(error, ProviderRejected)
    assert error.kind == "http_404"
    assert "no such model" in str(error)
    assert len(str(error)) < 600


def test_retry_after_is_handed_on():
    """The wish of the server goes with the error."""
    with Stub(lambda seen: fixed(429, b"{}", retry_after="7")) as stub:
        assert fails(stub).retry_after_s == 7.0


def test_nobody_listening_is_worth_asking_again(transport):
    """A refused connection may pass."""
    with Stub(lambda seen: ()) as stub:
        pass

    error = fails(stub, transport)

    assert isinstance(error, ProviderUnavailable)
    assert error.kind == "connect"


def test_what_is_no_http_is_an_error_of_ours(transport):
    """Nothing of the transport's own errors gets out."""
    with Stub(lambda seen: [b"SSH-2.0-OpenSSH\r\n\r\n", CLOSE]) as stub:
        assert fails(stub, transport).kind == "connection"


def test_a_connection_closed_in_the_pool_is_replaced_at_once(transport):
    """The server closes after each reply without saying so; no request is lost or asked twice."""
    with Stub(lambda seen: [*stream(*reply_pieces(3)), 0.02, CLOSE]) as stub:

        async def run():
            provider = OpenAIChat(stub.url, http=transport, concurrency=4, timeout_s=5.0)
            texts = []
            for _ in range(4):
                texts += [
                    r.text
                    for r in await asyncio.gather(*(provider.generate(ASK) for _ in range(4)))
                ]
                time.sleep(0.1)  # noqa: ASYNC251  # the loop must not see the closing
            await provider.aclose()
            return texts

        texts = asyncio.run(run())

    assert texts == ["word0 word1 Answer: 4"] * 16
    assert stub.n == 16


def test_connections_are_used_again():
    """One connection for one request at a time."""
    with Stub(lambda seen: stream(*reply_pieces(3))) as stub:

        async def run():
            provider = OpenAIChat(stub.url, timeout_s=5.0)
            for _ in range(5):
                await provider.generate(ASK)
            await provider.aclose()

        asyncio.run(run())

    assert (stub.n, stub.n_connections) == (5, 1)


def test_a_body_that_never_ends_after_done_is_let_go(monkeypatch):
    """[DONE] is the end of the reply, and the time of it."""
    monkeypatch.setattr("workbench.runner.providers.exchange._AFTER_DONE_S", 0.1)
    with Stub(lambda seen: stream(*reply_pieces(2), 60.0)) as stub:
        start = time.perf_counter()
        reply = ask(stub)
        took = time.perf_counter() - start

    assert reply.call.e2e_s < took < 30.0


def echo(seen):
    key = seen.headers.get("authorization", "").removeprefix("Bearer ")
    where = seen.json["messages"][0]["content"]
    if where == "body":
        return fixed(
            401,
            json.dumps({"error": {"message": f"bad key {key} ({key})"}}).encode(),
            x_request_id=key,
        )
    if where == "stream":
        return stream(
            delta("x"),
            data({"error": {"message": f"key {key} is over its limit"}}),
            x_request_id=key,
        )
    if where == "garbage":
        return stream(delta("x"), b"data: " + key.encode() + b"\n\n")
    tool = [{"index": 0, "function": {"name": key, "arguments": key}}]
    return stream(
        delta(f"your key is {key}", reasoning_content=key, tool_calls=tool),
        data({"model": key, "service_tier": key}),
        usage(prompt_tokens=1, completion_tokens=2, note=key),
        delta(finish="stop"),
        DONE,
        x_request_id=key,
    )


@pytest.mark.parametrize("where", ["body", "stream", "garbage", "reply"])
def test_a_key_that_the_server_echoes_is_nowhere(transport, where, caplog):
    """Not in the error, its traceback, its pickle, the reply, the log or a repr."""
    caplog.set_level(logging.DEBUG)
    request = Request(model="m", messages=({"role": "user", "content": where},))
    seen = []

    async def run():
        provider = OpenAIChat(stub.url, api_key=KEY, http=transport, timeout_s=5.0)
        seen.append(repr(provider))
        try:
            seen.append(repr(await provider.generate(request)))
        except ProviderError as error:
            seen.append(str(error) + repr(error) + "".join(traceback.format_exception(error)))
            seen.append(repr(getattr(error, "reply", "")))
            with contextlib.suppress(TypeError):  # an error with keyword arguments may refuse
                seen.append(repr(pickle.dumps(str(error))))
        await provider.aclose()

    with Stub(echo) as stub:
        asyncio.run(run())

    assert stub.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in "".join(seen) + caplog.text
    assert "[key]" in "".join(seen)


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown():
    """A line end in a key would be another header."""
    with pytest.raises(ConfigError) as caught:
        OpenAIChat("http://127.0.0.1:1/v1", api_key="sk-secret\r\nx: y")

    assert "secret" not in str(caught.value)


def test_tokens_are_counted_by_the_server_where_it_can():
    """llama.cpp's /tokenize; asked once where there is none."""

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=5.0)
        counts = [await provider.count_tokens("a b c") for _ in range(2)]
        await provider.aclose()
        return counts

    with (
        Stub(lambda seen: fixed(200, b'{"tokens":[1,2,3]}')) as offers,
        Stub(lambda seen: fixed(404, b"{}")) as lacks,
    ):
        assert asyncio.run(run(offers)) == [3, 3]
        assert asyncio.run(run(lacks)) == [None, None]

    assert [s.path for s in offers.requests] == ["/tokenize"] * 2
    assert offers.requests[0].json["content"] == "a b c"
    assert lacks.n == 1


def test_chunks_are_handed_on_as_they_come():
    """A face may show the answer while it grows."""
    heard = []

    async def run(stub):
        provider = OpenAIChat(stub.url, timeout_s=5.0)
        await provider.generate(ASK, heard.append)
        await provider.aclose()

    with Stub(lambda seen: stream(*reply_pieces(3))) as stub:
        asyncio.run(run(stub))

    assert heard == ["word0 ", "word1 ", "Answer: 4"]
