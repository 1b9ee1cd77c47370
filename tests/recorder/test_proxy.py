"""The proxy forwards every byte, and its record of a call is what the runner's would be."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support.provider_formats import FORMATS, KEY, SAID, Tool
from tests.support.runner_stub import DONE, Stub, data, delta, fixed, head, stream, usage
from workbench.errors import ConfigError
from workbench.recorder import proxy as proxies
from workbench.recorder import requests
from workbench.recorder.proxy import Keys, Proxy, Upstream

WHOLE = json.dumps(
    {
        "id": "cc-1",
        "model": "stub-1",
        "choices": [{"index": 0, "message": {"content": "Four."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
).encode()
BODY = {"model": "asked", "messages": [{"role": "user", "content": "2 + 2?"}]}


class Session:
    """A proxy before a stub, a client before the proxy, and the calls that were recorded."""

    def __init__(self, proxy, client, calls, keys):
        self.proxy, self.client, self.calls, self.keys = proxy, client, calls, keys

    async def post(self, path="/chat/completions", body=BODY, upstream="openai", **options):
        url = self.proxy.url_of(upstream) + path
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(url, content=content, **options)

    async def raw(self):
        """Post, and return the body as it came."""
        url = self.proxy.url_of("openai") + "/chat/completions"
        async with self.client.stream("POST", url, json=BODY) as reply:
            return b"".join([piece async for piece in reply.aiter_raw()])


@asynccontextmanager
async def session(respond):
    calls, keys = [], Keys()
    with Stub(respond) as stub:
        upstreams = [
            Upstream("openai", stub.url, ("OPENAI_BASE_URL",)),
            Upstream("anthropic", stub.url.removesuffix("/v1"), ("ANTHROPIC_BASE_URL",)),
            Upstream("gemini", stub.url.removesuffix("/v1"), ("GOOGLE_GEMINI_BASE_URL",)),
        ]
        async with (
            Proxy(upstreams, calls.append, keys=keys) as proxy,
            httpx.AsyncClient(timeout=30) as client,
        ):
            one = Session(proxy, client, calls, keys)
            one.stub = stub
            yield one


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.endpoint)
async def test_a_stream_of_each_api_is_recorded(form):
    pieces = [
        *form.begin(),
        *form.thought("Hm."),
        *form.text("It is "),
        *form.text("four."),
        *form.tool(0, Tool("add", ('{"a":', "2}"))),
        *form.end("tools"),
    ]
    sent = b"".join(pieces)
    upstream = {"messages": "anthropic", "gemini": "gemini"}.get(form.endpoint, "openai")
    path = form.path.removeprefix("/v1") if upstream == "openai" else form.path
    async with session(lambda _: stream(*pieces)) as one:
        reply = await one.post(path, upstream=upstream, headers={form.key_header: KEY})

    assert reply.content == sent
    [recorded] = one.calls
    assert one.stub.requests[0].path.split("?")[0] == form.path.split("?")[0]
    assert one.stub.requests[0].body == json.dumps(BODY).encode()
    assert one.stub.requests[0].headers[form.key_header] == KEY
    call = recorded.call
    assert recorded.reply.text == "It is four."
    assert recorded.reply.thinking == "Hm."
    assert [tool.tool for tool in recorded.reply.tool_calls] == ["add"]
    assert (call.input_tokens, call.output_tokens) == (SAID["input"], SAID["output"])
    assert call.cache_read_tokens == SAID["read"]
    assert call.error_type is None
    assert 0 < call.ttft_s <= call.e2e_s


async def test_a_whole_reply_is_recorded():
    async with session(lambda _: fixed(200, WHOLE, x_request_id="req-9")) as one:
        reply = await one.post()

    assert reply.content == WHOLE
    assert reply.headers["x-request-id"] == "req-9"
    [recorded] = one.calls
    assert recorded.reply.text == "Four."
    assert (recorded.call.input_tokens, recorded.call.request_id) == (7, "req-9")
    assert recorded.call.ttft_s is None
    assert requests.read(recorded.request).model == "asked"


async def test_a_compressed_reply_is_forwarded_as_it_came_and_read():
    packed = gzip.compress(WHOLE)
    async with session(lambda _: fixed(200, packed, content_encoding="gzip")) as one:
        raw = await one.raw()

    assert raw == packed
    assert one.stub.requests[0].headers["accept-encoding"] == "gzip, deflate"
    assert one.calls[0].reply.text == "Four."


async def test_an_encoding_that_cannot_be_read_is_forwarded_and_said():
    async with session(lambda _: fixed(200, b"???", content_encoding="zstd")) as one:
        raw = await one.raw()

    assert raw == b"???"
    assert one.calls[0].call.error_type == "bad_response"


async def test_a_compressed_request_is_forwarded_as_it_came():
    packed = gzip.compress(json.dumps(BODY).encode())
    async with session(lambda _: fixed(200, WHOLE)) as one:
        await one.post(body=packed, headers={"content-encoding": "gzip"})

    assert one.stub.requests[0].body == packed
    assert one.stub.requests[0].headers["content-encoding"] == "gzip"
    assert requests.read(one.calls[0].request).model == "asked"


async def test_a_reply_in_an_array_is_read():
    """Gemini's stream, where `alt=sse` was not asked for."""
    pieces = [
        {"candidates": [{"content": {"parts": [{"text": "Guten "}]}}]},
        {
            "candidates": [{"content": {"parts": [{"text": "Tag"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2},
        },
    ]
    async with session(lambda _: fixed(200, json.dumps(pieces).encode())) as one:
        await one.post("/v1beta/models/gemini-x:streamGenerateContent", upstream="gemini")

    [recorded] = one.calls
    assert recorded.reply.text == "Guten Tag"
    assert requests.read(recorded.request).model == "gemini-x"


async def test_a_refusal_is_forwarded_and_recorded():
    body = b'{"error":{"message":"slow down","type":"rate_limit_error"}}'
    async with session(lambda _: fixed(429, body, retry_after="7")) as one:
        reply = await one.post()

    assert (reply.status_code, reply.content, reply.headers["retry-after"]) == (429, body, "7")
    call = one.calls[0].call
    assert (call.error_type, call.stop_reason) == ("http_429", "error")
    assert call.error_message == "the server answered 429: slow down"


async def test_a_redirect_is_not_followed():
    async with session(lambda _: fixed(307, b"", location="http://127.0.0.1:9/")) as one:
        reply = await one.post()

    assert (reply.status_code, reply.headers["location"]) == (307, "http://127.0.0.1:9/")
    assert one.calls[0].call.error_type == "http_307"


async def test_an_error_within_a_stream_is_recorded_with_what_arrived():
    steps = stream(delta("It is "), data({"error": {"message": "overloaded", "code": 529}}))
    async with session(lambda _: steps) as one:
        reply = await one.post()

    assert reply.content.endswith(b"}}\n\n")
    assert one.calls[0].reply.text == "It is "
    assert one.calls[0].call.error_type == "http_529"


async def test_a_stream_that_breaks_off_breaks_off_for_the_client_too():
    async with session(lambda _: stream(delta("It is "), end=False)) as one:
        with pytest.raises(httpx.RemoteProtocolError):
            await one.post()

    assert one.calls[0].reply.text == "It is "
    assert one.calls[0].call.error_type == "connection"


async def test_an_upstream_that_is_not_there_is_said():
    calls = []
    nobody = Upstream("openai", "http://127.0.0.1:9/v1", ("OPENAI_BASE_URL",))
    async with Proxy([nobody], calls.append, keys=Keys()) as proxy, httpx.AsyncClient() as client:
        reply = await client.post(proxy.url_of("openai") + "/chat/completions", json=BODY)

    assert reply.status_code == 502
    assert "workbench record: the connection to http://127.0.0.1:9/v1 failed" in reply.text
    assert calls[0].call.error_type == "connect"


async def test_a_client_that_goes_away_ends_the_request_to_the_upstream():
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def respond(_):
        yield head() + b"transfer-encoding: chunked\r\n\r\n"
        piece = delta("word ")
        while True:
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
            yield 0.01

    async with session(respond) as one:
        url = one.proxy.url_of("openai") + "/chat/completions"
        calls = one.calls.append
        one.proxy._on_call = lambda call: (calls(call), loop.call_soon_threadsafe(gone.set))
        async with one.client.stream("POST", url, json=BODY) as reply:
            async for _ in reply.aiter_raw():
                break
        await asyncio.wait_for(gone.wait(), 30)

    [recorded] = one.calls
    assert recorded.call.error_type == "cancelled"
    assert recorded.reply.text.startswith("word ")


async def test_other_requests_are_forwarded_and_not_recorded():
    async with session(lambda seen: fixed(200, seen.path.encode())) as one:
        reply = await one.client.get(one.proxy.url_of("openai") + "/models?limit=5&x=%2F")
        count = await one.post("/v1/messages/count_tokens", upstream="anthropic")

    assert reply.text == "/v1/models?limit=5&x=%2F"
    assert count.text == "/v1/messages/count_tokens"
    assert (one.calls, one.proxy.n_forwarded) == ([], 2)


@pytest.mark.parametrize("change", ["token", "upstream", "nothing"])
async def test_only_its_own_addresses_are_served(change):
    """A web page, or another user's program, does not know the token."""
    async with session(lambda _: fixed(200, WHOLE)) as one:
        address = one.proxy.url_of("openai")
        base, token, name = address.rsplit("/", 2)
        url = {
            "token": f"{base}/{token[:-1]}?/{name}/chat/completions",
            "upstream": f"{base}/{token}/other/chat/completions",
            "nothing": f"{base}/",
        }[change]
        reply = await one.client.post(url, json=BODY)

    assert reply.status_code == 404
    assert not one.stub.requests


async def test_web_sockets_are_refused():
    async with session(lambda _: fixed(200, WHOLE)) as one:
        reply = await one.client.get(
            one.proxy.url_of("openai") + "/realtime",
            headers={"connection": "Upgrade", "upgrade": "websocket"},
        )
    assert reply.status_code == 501


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"authorization": f"Bearer {KEY}"}, "/chat/completions"),
        ({"x-api-key": KEY}, "/chat/completions"),
        ({"x-goog-api-key": KEY}, "/chat/completions"),
        ({}, f"/chat/completions?key={KEY}"),
    ],
)
async def test_a_key_that_the_server_repeats_is_taken_out(headers, path):
    echo = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    chunks = [delta(f"your key is {KEY}"), usage(prompt_tokens=1, note=KEY), DONE]
    replies = [fixed(401, echo), stream(*chunks)]
    async with session(lambda seen: replies[seen.number]) as one:
        for _ in replies:
            await one.post(path, headers=headers)

    for recorded in one.calls:
        shown = repr(recorded._replace(request=None))
        assert KEY not in shown
        assert "[key]" in shown
    assert one.keys.redact(f"x {KEY}") == "x [key]"


async def test_a_body_of_another_kind_is_a_bad_response():
    bodies = [
        (b"<html>Sign in</html>", "text/html"),
        (b"no json", "application/json"),
        (b"[1, 2", "application/json"),
        (b"data: no json\n\n", "text/event-stream"),
    ]
    async with session(lambda seen: fixed(200, *bodies[seen.number])) as one:
        for body, _ in bodies:
            assert (await one.post()).content == body

    assert [recorded.call.error_type for recorded in one.calls] == ["bad_response"] * 4


async def test_many_requests_at_once_are_recorded_each():
    def respond(seen):
        return stream(delta(seen.json["messages"][0]["content"]), delta(finish="stop"), DONE)

    async with session(respond) as one:
        bodies = [
            {"model": "m", "messages": [{"role": "user", "content": f"n{n}"}]} for n in range(100)
        ]
        await asyncio.gather(*[one.post(body=body) for body in bodies])

    assert {recorded.reply.text for recorded in one.calls} == {f"n{n}" for n in range(100)}


def test_the_addresses_in_the_environment_are_where_the_calls_go():
    environ = {"OPENAI_API_BASE": "http://localhost:8000/v1/", "ANTHROPIC_BASE_URL": ""}
    urls = {upstream.name: upstream.url for upstream in proxies.upstreams(environ)}
    assert urls == {
        "openai": "http://localhost:8000/v1",
        "anthropic": "https://api.anthropic.com",
        "gemini": "https://generativelanguage.googleapis.com",
    }


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="ANTHROPIC_BASE_URL is 'localhost:80'"):
        proxies.upstreams({"ANTHROPIC_BASE_URL": "localhost:80"})


async def test_a_program_with_a_proxy_of_its_own_reaches_this_one():
    nobody = Upstream("openai", "http://127.0.0.1:9/v1", ("OPENAI_BASE_URL",))
    async with Proxy([nobody], print, keys=Keys()) as proxy:
        plain = proxy.environment({"PATH": "/bin"})
        behind = proxy.environment({"HTTP_PROXY": "http://10.0.0.1", "NO_PROXY": "intranet"})

    assert set(plain) == {"OPENAI_BASE_URL"}
    assert behind == plain | dict.fromkeys(("no_proxy", "NO_PROXY"), "intranet,127.0.0.1")
