"""Text as it comes from a local model: thinking apart, stop texts, tools, settings; no model
needed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ProviderRejected
from workbench.runner.local import settings, tool_text
from workbench.runner.local.output_parser import Detokenizer, Output

TAGS = ("<think>", "</think>")


def written(parts, *, tags=TAGS, stops=(), thinking=False, keep_tags=False):
    """Return (thinking, text, reasoning tokens, stopped) of an output whose tokens are the
    parts."""
    output = Output(tags, stops, thinking=thinking, keep_tags=keep_tags)
    pieces, ends = [], []
    for part in parts:
        pieces += output.take(part)
        ends.append(output.length)
        if output.stopped:
            break
    pieces += output.end()
    join = {k: "".join(p.text for p in pieces if p.kind == k) for k in ("thinking", "text")}
    return join["thinking"], join["text"], output.spans_over(ends), output.stopped


@pytest.mark.parametrize(
    ("parts", "options", "expected"),
    [
        (["Par", "is"], {}, ("", "Paris", 0, False)),
        (["<think>", "a", "b", "</think>", "\n\n", "c"], {}, ("ab", "c", 4, False)),
        (["<th", "ink>a", "b</", "think>c"], {}, ("ab", "c", 4, False)),
        (["a", "</think>", "c"], {"thinking": True}, ("a", "c", 2, False)),
        (["a", "b"], {"thinking": True}, ("ab", "", 2, False)),
        (["<", "b", ">"], {}, ("", "<b>", 0, False)),
        (["x<think>", "a</think>y", "<think>b</think>", "z"], {}, ("ab", "xyz", 3, False)),
        (
            ["a", "</think>", "c"],
            {"thinking": True, "keep_tags": True},
            ("", "a</think>c", 2, False),
        ),
        (["one", " two", "\n", "\nthree"], {"stops": ["\n\n"]}, ("", "one two", 0, True)),
        (
            ["a\n\n", "b</think>", "c\n\nd"],
            {"thinking": True, "stops": ["\n\n"]},
            ("a\n\nb", "c", 2, True),
        ),
        (
            ["a</think>", "\n\n", "b\n\nc"],
            {"thinking": True, "stops": ["\n\n"]},
            ("a", "b", 1, True),
        ),
        (["an end", "less"], {"stops": ["end", "endless"]}, ("", "an ", 0, True)),
        (["<think>a"], {"tags": None}, ("", "<think>a", 0, False)),
    ],
)
def test_thinking_and_stops_are_found_across_tokens(parts, options, expected):
    """Tags and stop texts may be cut anywhere; tokens that hold a part of a tag are thinking."""
    assert written(parts, **options) == expected


@given(st.text(alphabet="<>/thinkab \n", max_size=60), st.lists(st.integers(1, 5), max_size=60))
def test_the_split_of_a_text_does_not_depend_on_its_chunks(text, sizes):
    """However a text is cut into chunks, the same comes out, and nothing is lost without a stop."""
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    parts.append(text[at:])

    assert written(parts, stops=["nk"])[:2] == written([text], stops=["nk"])[:2]
    assert "".join(written(parts, tags=None)[:2]) == text


class Bytes:
    """A tokenizer of bytes: the hardest case for text that comes token by token."""

    def decode(self, tokens, **_):
        return bytes(tokens).decode("utf-8", "replace")


@given(st.text(max_size=40))
def test_characters_of_many_tokens_appear_when_whole(text):
    """Byte by byte, no broken character is shown, and the text is the whole text."""
    writer = Detokenizer(Bytes(), {}, list(b"prompt"))
    pieces = [writer.take(b) for b in text.encode()]

    assert all(p in text for p in pieces)
    assert "".join(pieces) + writer.flush() == text


def test_special_tokens_are_written_as_told():
    """A special token shows as its tag or not at all, and ends what waits."""
    writer = Detokenizer(Bytes(), {1: "", 2: "<think>"}, [])

    assert [writer.take(t) for t in (65, 1, 2, 0xC3, 1, 66)] == ["A", "", "<think>", "", "�", "B"]


@pytest.mark.parametrize(
    ("text", "left", "calls"),
    [
        (
            '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
            "",
            [("add", {"a": 1})],
        ),
        ('So:<tool_call>{"name": "add", "arguments": {}}', "So:", [("add", {})]),
        (
            '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}},'
            ' {"name": "sub", "arguments": {}}]',
            "",
            [("add", {"a": 1}), ("sub", {})],
        ),
        ('<|python_tag|>{"name": "add", "parameters": {"a": 2}}', "", [("add", {"a": 2})]),
        ('{"name": "rm", "arguments": {}}', '{"name": "rm", "arguments": {}}', []),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
        ("no tool ", "no tool ", []),
    ],
)
def test_tools_are_read_in_the_common_forms(text, left, calls):
    """Hermes', Mistral's and Llama's forms; what is broken or unknown stays text."""
    rest, found = tool_text.parse(text, {"add", "sub"})

    assert rest == left
    assert [(c.name, json.loads(c.arguments)) for c in found] == calls


def test_settings_come_from_the_request_then_the_model_then_chance():
    """What is asked wins over generation_config; a seed is drawn only where none is asked."""
    found = settings.read(
        {"top_p": 0.5, "max_completion_tokens": 7, "stop": "x", "seed": None},
        {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": 2},
        lambda: 42,
    )

    assert (found.temperature, found.top_p, found.top_k, found.seed) == (0.6, 0.5, 20, 42)
    assert (found.max_tokens, found.stop) == (7, ("x",))


@pytest.mark.parametrize(
    "asked", [{"n": 2}, {"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {"stop": [""]}]
)
def test_what_cannot_be_honoured_is_refused_by_name(asked):
    """No setting is ignored in silence."""
    with pytest.raises(ProviderRejected, match=next(iter(asked))) as refused:
        settings.read(asked, {}, lambda: 0)

    assert refused.value.kind == "bad_request"
