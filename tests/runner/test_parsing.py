"""Event streams, chunks and usage objects: what arrives is read the same however it arrives."""

import datetime as dt
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.providers import ratelimits, transport
from workbench.runner.providers.chunks import PartialChatReply, decode_chunk, quantile
from workbench.runner.providers.sse import Event, EventStream
from workbench.runner.providers.usage import billed_usd, stop_reason, token_fields

EVENTS = [
    ("one", b"data: x\n\n", [b"x"]),
    ("no space", b"data:x\n\n", [b"x"]),
    ("two spaces", b"data:  x\n\n", [b" x"]),
    ("two lines", b"data: x\ndata: y\n\n", [b"x\ny"]),
    ("carriage returns", b"data: x\r\rdata: y\r\r", [b"x", b"y"]),
    ("both", b"data: x\r\n\r\ndata: y\r\n\r\n", [b"x", b"y"]),
    ("comments", b": ping\n\n: ping\ndata: x\n: ping\ndata: y\n\n", [b"x\ny"]),
    ("byte order mark", b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
    ("other fields", b"id: 7\nretry: 10\nnoise\ndata: x\n\n", [b"x"]),
    ("no data", b"event: ping\n\ndata: x\n\n", [b"x"]),
    ("empty data", b"data\n\ndata: x\n\n", [b"", b"x"]),
    ("no blank line at the end", b"data: x\n\ndata: y", [b"x", b"y"]),
    ("many blank lines", b"\n\n\ndata: x\n\n\n\n\ndata: y\n\n", [b"x", b"y"]),
    ("error field", b'error: {"code":500}\n\n', [b'{"code":500}']),
]


def read(pieces) -> list[Event]:
    stream = EventStream()
    found = [event for piece in pieces for event in stream.feed(piece)]
    return found + stream.close()


@pytest.mark.parametrize(("_name", "raw", "expected"), EVENTS, ids=[e[0] for e in EVENTS])
def test_events_are_read(_name, raw, expected):
    """Each form of the format gives its data."""
    assert [e.data for e in read([raw])] == expected


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [e[1] for e in EVENTS] + [b"\r", b"\n", b"data: \xf0\x9f\xa7\xae\n\n", b"event: e\n"]
        )
    ),
    st.lists(st.integers(0, 200)),
)
def test_any_chunking_gives_the_same_events(parts, cuts):
    """Where the network splits the bytes does not matter: not in a line end, not in a character."""
    raw = b"".join(parts)
    places = sorted({c % (len(raw) + 1) for c in cuts})
    pieces = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]

    assert read(pieces) == read([raw]) == read([raw[i : i + 1] for i in range(len(raw))])


def _standard(raw: bytes) -> list[Event]:
    """Read a stream as the HTML standard words it, line by line: a second derivation."""
    text = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, kind = [], [], b""
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            events += [Event(kind or b"message", b"\n".join(data))] if data else []
            data, kind = [], b""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            kind = value
    return events


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"data", b"event", b":", b" ", b"x", b"\n", b"\r", b"\n\n", b"data: y\n\n", b"\r\n"]
        )
    )
)
def test_events_agree_with_the_standard(parts):
    """The quick reading of common blocks changes nothing."""
    assert read(parts) == _standard(b"".join(parts))


def test_an_endless_line_is_refused():
    """A server cannot fill the memory."""
    stream = EventStream(max_event_bytes=1000)

    def flood():
        for _ in range(100):
            stream.feed(b"data: " + b"x" * 100)

    with pytest.raises(ValueError, match=r"more than 1,000 bytes"):
        flood()


def test_half_surrogates_and_broken_utf8_do_not_break_a_chunk():
    """Text that JSON allows and UTF-8 does not is mended."""
    lone = decode_chunk(rb'{"choices":[{"delta":{"content":"a\ud83db"}}]}')
    broken = decode_chunk(b'{"choices":[{"delta":{"content":"a\xffb"}}]}')

    assert lone.choices[0].delta.content == "a\ufffdb"
    assert broken.choices[0].delta.content == "a\ufffdb"


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'"x"', b'{"choices": 3}', b"[" * 100_000])
def test_what_is_no_chunk_is_a_value_error(raw):
    """Nothing else escapes, however hostile the bytes."""
    with pytest.raises(ValueError, match=r"."):
        decode_chunk(raw)


def chunk(**delta):
    finish = delta.pop("finish_reason", None)
    return decode_chunk(
        json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode()
    )


def test_empty_chunks_do_not_count_as_first():
    """Time to first token is that of the first chunk with something in it."""
    got = PartialChatReply()
    for at_s, delta in enumerate(
        [
            {"role": "assistant", "content": ""},
            {"reasoning_content": "hm"},
            {"content": None},
            {"content": "4"},
        ]
    ):
        got.add(chunk(**delta), float(at_s))

    times = got.times_of_chunks()

    assert (times["ttft_s"], times["answer_start_s"], times["n_chunks"]) == (1.0, 3.0, 2)
    assert times["gap_max_s"] == 2.0


def test_tool_calls_are_put_together_by_index():
    """Arguments arrive in pieces and out of turn."""
    got = PartialChatReply()
    for index, name, arguments in [
        (0, "add", ""),
        (1, "mul", '{"a'),
        (0, None, '{"x":'),
        (1, None, '":2}'),
        (0, None, "1}"),
    ]:
        got.add(
            chunk(
                tool_calls=[{"index": index, "function": {"name": name, "arguments": arguments}}]
            ),
            0.0,
        )

    assert [(t.tool, t.arguments) for t in got.tool_calls()] == [
        ("add", '{"x":1}'),
        ("mul", '{"a":2}'),
    ]


def test_whole_tool_calls_without_an_index_stay_apart():
    """Some servers send each call whole, without a number."""
    got = PartialChatReply()
    for name in ("one", "two"):
        got.add(
            chunk(tool_calls=[{"id": name, "function": {"name": name, "arguments": {"a": 1}}}]), 0.0
        )

    assert [(t.tool, t.arguments) for t in got.tool_calls()] == [
        ("one", '{"a":1}'),
        ("two", '{"a":1}'),
    ]


def test_typed_parts_are_told_apart():
    """Content as a list of parts gives text and thinking."""
    got = PartialChatReply()
    got.add(
        chunk(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"},
            ]
        ),
        0.0,
    )

    assert ("".join(got.text), "".join(got.thinking)) == ("4", "hm")


def test_a_refusal_is_text_and_a_content_filter():
    """A refusal is shown, and known as one."""
    got = PartialChatReply()
    got.add(chunk(refusal="I can't.", finish_reason="stop"), 0.0)

    assert ("".join(got.text), got.stop_reason()) == ("I can't.", "content_filter")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_quantiles_agree_with_numpy(values, q):
    """The same definition as everybody's default."""
    assert quantile(sorted(values), q) == pytest.approx(
        float(np.quantile(values, q)), rel=1e-9, abs=1e-9
    )


USAGES = [
    (
        "openai",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        {
            "input_tokens": 11,
            "cache_read_tokens": 5,
            "output_tokens": 7,
            "reasoning_tokens": 3,
            "total_tokens": 18,
        },
    ),
    (
        "reported zero",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        {"input_tokens": 11, "output_tokens": 7, "reasoning_tokens": 0},
    ),
    (
        "deepseek",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "prompt_cache_hit_tokens": 4,
            "prompt_cache_miss_tokens": 7,
        },
        {"input_tokens": 11, "cache_read_tokens": 4, "output_tokens": 7},
    ),
    (
        "sglang zero",
        {"prompt_tokens": 11, "completion_tokens": 7, "reasoning_tokens": 0},
        {"input_tokens": 11, "output_tokens": 7},
    ),
    (
        "sglang",
        {"prompt_tokens": 11, "completion_tokens": 7, "reasoning_tokens": 2},
        {"input_tokens": 11, "output_tokens": 7, "reasoning_tokens": 2},
    ),
    (
        "vllm",
        {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": None},
        {"input_tokens": 11, "output_tokens": 7},
    ),
    (
        "mistral",
        {"prompt_tokens": 11, "completion_tokens": 7, "num_cached_tokens": 2},
        {"input_tokens": 11, "output_tokens": 7, "cache_read_tokens": 2},
    ),
    (
        "cache write",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cache_write_tokens": 6},
        },
        {"input_tokens": 11, "output_tokens": 7, "cache_write_5m_tokens": 6},
    ),
    ("nonsense", {"prompt_tokens": -1, "completion_tokens": True, "total_tokens": 1e300}, {}),
    ("float", {"prompt_tokens": 11.0, "completion_tokens": 7.5}, {"input_tokens": 11}),
]


@pytest.mark.parametrize(("_name", "usage", "expected"), USAGES, ids=[u[0] for u in USAGES])
def test_usage_is_read_by_each_convention(_name, usage, expected):
    """Inclusive totals; what is not reported stays unknown."""
    assert token_fields(usage) == (expected | {"tokens_source": "reported"} if expected else {})


def test_gemini_leaves_thinking_out_of_its_completion():
    """Only its total holds the thinking: 35 + 12 reported, 109 in all."""
    usage = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}

    found = token_fields(usage, model="gemini-2.5-flash")

    assert (found["output_tokens"], found["reasoning_tokens"], found["tokens_source"]) == (
        74,
        62,
        "derived",
    )
    assert token_fields(usage, model="other")["output_tokens"] == 12


def test_llama_cpp_timings_stand_in_for_a_missing_usage():
    """`prompt_n` there excludes what was cached: 690 + 87 = 777."""
    found = token_fields(None, {"cache_n": 87, "prompt_n": 690, "predicted_n": 64})

    assert found == {
        "input_tokens": 777,
        "cache_read_tokens": 87,
        "output_tokens": 64,
        "tokens_source": "derived",
    }
    assert token_fields(None) == token_fields({}) == {}


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.25}, 0.25),
        ({"cost": 0}, 0.0),
        ({"cost": None}, None),
        ({}, None),
        (None, None),
        ({"cost": True}, None),
        ({"cost": "1"}, None),
        ({"cost": float("nan")}, None),
    ],
)
def test_billed_cost_is_only_what_was_said(usage, usd):
    """A cost of zero is a statement; a missing one is not."""
    assert billed_usd(usage) == usd


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", "stop"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        (None, "unknown"),
        ("odd", "unknown"),
    ],
)
def test_finish_reasons_are_mapped(reason, ours):
    """Words of others become ours."""
    assert stop_reason(reason) == ours


NOW = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:09 GMT"}, 9.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
        ({"retry-after": "-3"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, wait):
    """Seconds, milliseconds and dates; nonsense is no wish."""
    assert ratelimits.retry_after_s(headers, NOW) == wait


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 302])
def test_refusals_are_not_worth_asking_again(status):
    """The request itself is wrong."""
    error = transport.status_error(status, "no", None)

    assert isinstance(error, ProviderRejected)
    assert error.kind == f"http_{status}"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_passing_troubles_are_worth_asking_again(status):
    """The server could not answer now."""
    error = transport.status_error(status, "busy " * 1000, 3.0)

    assert isinstance(error, ProviderUnavailable)
    assert (error.kind, error.retry_after_s) == (f"http_{status}", 3.0)
    assert len(str(error)) < 600
