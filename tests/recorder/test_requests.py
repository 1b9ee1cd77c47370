"""The bodies of four APIs as prompts: the same chat in each gives the same messages."""

import json
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from workbench.recorder import requests
from workbench.recorder.requests import RawRequest
from workbench.sources.prompts import PromptMessage, ToolRequest, ToolResult

CHAT = {
    "model": "gpt-x",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "List the files."}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_7f3a9c",
                    "type": "function",
                    "function": {"name": "ls", "arguments": '{"path": "/tmp", "all": true}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_7f3a9c", "content": "a.txt"},
    ],
    "temperature": 0.25,
    "max_completion_tokens": 512,
    "reasoning_effort": "low",
}
RESPONSES = {
    "model": "gpt-x",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
        {"type": "reasoning", "encrypted_content": "…"},
        {
            "type": "function_call",
            "call_id": "call_7f3a9c",
            "name": "ls",
            "arguments": '{"path": "/tmp", "all": true}',
        },
        {"type": "function_call_output", "call_id": "call_7f3a9c", "output": "a.txt"},
    ],
    "temperature": 0.25,
    "max_output_tokens": 512,
    "reasoning": {"effort": "low"},
}
MESSAGES = {
    "model": "gpt-x",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "List the files."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {
                    "type": "tool_use",
                    "id": "call_7f3a9c",
                    "name": "ls",
                    "input": {"path": "/tmp", "all": True},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call_7f3a9c",
                    "content": [{"type": "text", "text": "a.txt"}],
                }
            ],
        },
    ],
    "temperature": 0.25,
    "max_tokens": 512,
    "output_config": {"effort": "low"},
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "List the files."}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {
                    "functionCall": {
                        "id": "call_7f3a9c",
                        "name": "ls",
                        "args": {"path": "/tmp", "all": True},
                    }
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "call_7f3a9c",
                        "name": "ls",
                        "response": {"result": "a.txt"},
                    }
                }
            ],
        },
    ],
    "generationConfig": {
        "temperature": 0.25,
        "maxOutputTokens": 512,
        "thinkingConfig": {"thinkingLevel": "LOW"},
    },
}
PATHS = {
    "chat": ("/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSES),
    "messages": ("/v1/messages", MESSAGES),
    "gemini": ("/v1beta/models/gpt-x:streamGenerateContent", GEMINI),
}


def read(endpoint, path, body, encoding=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.read(RawRequest(endpoint, path, data, encoding))


@pytest.mark.parametrize("endpoint", PATHS)
def test_the_same_chat_in_each_api_gives_the_same_messages(endpoint):
    path, body = PATHS[endpoint]
    request = read(endpoint, path, body)

    system, user, assistant, result = request.messages
    assert system == PromptMessage("system", "Be brief.")
    assert user == PromptMessage("user", "List the files.")
    call = ToolRequest("call_7f3a9c", "ls", '{"all":true,"path":"/tmp"}')
    assert assistant == PromptMessage("assistant", "", (call,))
    answer = '{"result":"a.txt"}' if endpoint == "gemini" else "a.txt"
    name = "ls" if endpoint == "gemini" else ""
    assert result.tool_results == (ToolResult("call_7f3a9c", name, answer, False),)
    assert request.model == "gpt-x"
    assert request.settings == {"temperature": 0.25, "max_tokens": 512, "effort": "low"}


@pytest.mark.parametrize("endpoint", PATHS)
def test_the_path_tells_the_api(endpoint):
    assert requests.endpoint_of(PATHS[endpoint][0]) == endpoint


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/embeddings", "/v1/messages/count_tokens", "/v1/files", "/"]
)
def test_other_paths_are_no_requests_to_generate(path):
    assert requests.endpoint_of(path) is None


def test_a_prompt_to_complete_is_one_message_of_the_user():
    request = read("completions", "/v1/completions", {"model": "m", "prompt": "Once"})
    assert request.messages == (PromptMessage("user", "Once"),)


def test_thinking_budgets_are_read():
    body = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    request = read("messages", "/v1/messages", body)
    assert request.settings == {"thinking_budget_tokens": 2048}
    assert request.effort_sent == "thinking.type=enabled, thinking.budget_tokens=2048"


def test_an_image_becomes_its_type_and_size():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]}
    [message] = read("chat", "/chat/completions", body).messages
    size = len(json.dumps(part, separators=(",", ":")))
    assert message.text == f"Look:\n[image_url, {size:,} characters]"


def test_an_error_of_a_tool_is_one():
    block = {"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}
    body = {"messages": [{"role": "user", "content": [block]}]}
    [message] = read("messages", "/v1/messages", body).messages
    assert message.tool_results == (ToolResult("t", "", "no", True),)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("zstd", zstandard.ZstdCompressor().compress),
        ("gzip", lambda data: zlib.compress(data, wbits=31)),
    ],
)
def test_compressed_bodies_are_read(encoding, pack):
    body = pack(json.dumps(CHAT).encode())
    assert read("chat", "/chat/completions", body, encoding) == read(*("chat", *PATHS["chat"]))


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]", b"\xff", b'{"messages": 3}'])
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_what_cannot_be_read_is_an_empty_prompt(body, encoding):
    request = read("chat", "/chat/completions", body, encoding)
    assert (request.model, request.messages) == ("unknown", ())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "tool_calls", "function", "parts", "id", "name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
fields = ["model", "messages", "input", "contents", "system", "instructions", "prompt", "thinking"]


@given(
    endpoint=st.sampled_from([*PATHS, "completions"]),
    body=st.dictionaries(st.sampled_from([*fields, "generationConfig", "max_tokens"]), json_values),
)
def test_any_body_is_read(endpoint, body):
    request = read(endpoint, "/v1/models/m:generateContent", body)
    assert isinstance(request.model, str)
    for message in request.messages:
        assert message.role in {"system", "user", "assistant", "tool"}
        assert isinstance(message.text, str)
