"""`workbench record` as a user runs it, with the vendors' own clients."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.runner_stub import DONE, Stub, delta, fixed, stream, usage
from workbench.store import open_store

KEYS = ("sk-openai-0123456789", "sk-ant-0123456789ab", "AIza0123456789abcdef")
CLIENTS = """
import anthropic, openai
from google import genai

chat = openai.OpenAI(api_key="sk-openai-0123456789")
messages = [{"role": "user", "content": "2 + 2?"}]
options = {"include_usage": True}
for _ in range(2):
    pieces = chat.chat.completions.create(
        model="gpt-x", messages=messages, stream=True, stream_options=options)
    text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Sure?"}]
first = chat.responses.create(model="gpt-y", input="One")
chat.responses.create(model="gpt-y", input="Two", previous_response_id=first.id)

claude = anthropic.Anthropic(api_key="sk-ant-0123456789ab")
turns = [{"role": "user", "content": "List sk-ant-0123456789ab."}]
for _ in range(2):
    reply = claude.messages.create(model="claude-x", max_tokens=9, messages=turns)
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "a.txt"}
               for block in reply.content if block.type == "tool_use"]
    turns += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]

gemini = genai.Client(api_key="AIza0123456789abcdef")
print(gemini.models.generate_content(model="gemini-x", contents="Hallo").text)
raise SystemExit(3)
"""


def answer(seen):
    """Answer as the vendors do, each in its own format."""
    if seen.path.endswith("/chat/completions"):
        counts = usage(prompt_tokens=11, completion_tokens=2, total_tokens=13)
        return stream(delta("Fo"), delta("ur"), delta(finish="stop"), counts, DONE)
    if seen.path.endswith("/responses"):
        part = {"type": "output_text", "text": "Yes", "annotations": []}
        item = {"type": "message", "id": "m", "role": "assistant", "content": [part]}
        counts = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
        body = {
            "id": f"resp_{seen.number}",
            "object": "response",
            "status": "completed",
            "model": "gpt-y-1",
            "output": [item | {"status": "completed"}],
            "usage": counts,
        }
    elif seen.path.endswith("/messages"):
        tool = {"type": "tool_use", "id": f"toolu_012345{seen.number}", "name": "ls", "input": {}}
        counts = {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 7}
        body = {
            "id": f"msg_{seen.number}",
            "type": "message",
            "role": "assistant",
            "model": "claude-x-1",
            "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, tool],
            "stop_reason": "tool_use",
            "usage": counts,
        }
    else:
        part = {"content": {"role": "model", "parts": [{"text": "Tag"}]}, "finishReason": "STOP"}
        body = {
            "candidates": [part],
            "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2},
        }
    return fixed(200, json.dumps(body).encode())


def workbench(store, *command, stub=None, options=(), **popen):
    """Start the command in a process of its own."""
    root = stub.url.removesuffix("/v1") if stub else "http://127.0.0.1:9"
    urls = {
        "OPENAI_BASE_URL": f"{root}/v1",
        "ANTHROPIC_BASE_URL": root,
        "GOOGLE_GEMINI_BASE_URL": root,
    }
    line = [sys.executable, "-m", "workbench", "record", "--store", str(store), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line += ["--", *command] if command else []
    return subprocess.Popen(line, env=os.environ | urls, **pipes, **popen)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.duckdb"


def test_calls_of_the_vendors_own_clients_are_recorded(path, tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(CLIENTS, encoding="utf-8")
    with Stub(answer) as stub:
        process = workbench(
            path, sys.executable, str(script), stub=stub, options=("--name", "my-agent")
        )
        out, err = process.communicate(timeout=240)

    assert process.returncode == 3, err
    assert out == "Tag\n"
    assert "recorded 7 calls in 4 traces; run " in err
    rows = open_store(path).sql(
        """SELECT c.model, count(*) AS calls, sum(c.input_tokens) AS input,
          sum(c.cache_read_tokens) AS cached, sum(c.output_tokens) AS output,
          any_value(t.strategy) AS strategy, any_value(t.n_tool_calls) AS tools
        FROM calls c JOIN trace_facts t USING (trace_id) GROUP BY c.model ORDER BY c.model"""
    )
    assert rows.drop("strategy").rows() == [
        ("claude-x", 2, 210, 200, 14, 2),
        ("gemini-x", 1, 4, None, 2, 0),
        ("gpt-x", 2, 22, None, 4, 0),
        ("gpt-y", 2, 6, None, 2, 0),
    ]
    assert set(rows["strategy"]) == {"my-agent"}
    for file in [f for f in tmp_path.rglob("*") if f.is_file() and f != script]:
        data = file.read_bytes()
        assert not [key for key in KEYS if key.encode() in data], file


def test_a_command_that_is_not_found(path):
    process = workbench(path, "no-such-program-here")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 127
    assert "no-such-program-here was not found; give its path" in err


def test_a_command_that_makes_no_call_is_told_what_to_check(path):
    process = workbench(path, sys.executable, "-c", "print('nothing')")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "nothing\n")
    assert "no call to a model came by the proxy; check that the program reads" in err


def test_without_a_command_the_addresses_are_printed_until_it_is_interrupted(path):
    import httpx

    with Stub(answer) as stub:
        process = workbench(path, stub=stub)
        line = process.stdout.readline()
        name, _, url = line.removeprefix("export ").strip().partition("=")
        assert name == "OPENAI_BASE_URL"
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        httpx.post(f"{url}/chat/completions", json=body, timeout=60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert process.returncode == 0
    assert "recorded 1 call in 1 trace" in err


def test_a_signal_reaches_the_command_and_what_it_did_is_kept(path):
    script = """
import os, urllib.request, json, time
body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())).read()
print("called", flush=True)
time.sleep(600)
"""
    with Stub(answer) as stub:
        process = workbench(path, sys.executable, "-c", script, stub=stub)
        assert process.stdout.readline() == "called\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)

    assert process.returncode == 128 + signal.SIGTERM
    assert "recorded 1 call in 1 trace" in err


def test_what_was_recorded_survives_a_kill(path):
    script = """
import os, urllib.request, json, time, pathlib
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
for n in range(3):
    body = {"model": "m", "messages": [{"role": "user", "content": f"Hi {n}"}]}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())).read()
print("called", flush=True)
time.sleep(600)
"""
    with Stub(answer) as stub:
        process = workbench(path, sys.executable, "-c", script, stub=stub, process_group=0)
        assert process.stdout.readline() == "called\n"
        spool = path.with_name(f"{path.name}.spool")
        while sum(f.read_bytes().count(b'"type":"Trace"') for f in spool.glob("*.jsonl")) < 3:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)

    assert open_store(path).sql("SELECT count(*) AS n FROM traces").rows() == [(3,)]
