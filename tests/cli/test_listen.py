"""`workbench listen` as a user runs it, with the SDK of OpenTelemetry and OpenInference's spans."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.runner_stub import Stub, fixed
from workbench.cli import main
from workbench.store import open_store

AGENT = """
import openai
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=Resource({"service.name": "helpdesk"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = openai.OpenAI(api_key="sk-secret-0123456789")
messages = [{"role": "user", "content": "List the files."}]
with provider.get_tracer("mine").start_as_current_span("agent") as root:
    root.set_attribute("openinference.span.kind", "AGENT")
    root.set_attribute("session.id", "s-1")
    for _ in range(2):
        reply = client.chat.completions.create(model="gpt-x", messages=messages, temperature=0.5)
        messages.append(reply.choices[0].message)
        for call in reply.choices[0].message.tool_calls or ():
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "a.txt"})
provider.shutdown()
raise SystemExit(5)
"""


def answer(seen):
    """Ask for a tool, then answer."""
    call = {
        "id": "call_7f3a9c01",
        "type": "function",
        "function": {"name": "ls", "arguments": "{}"},
    }
    first = {"role": "assistant", "content": None, "tool_calls": [call]}
    message = {"role": "assistant", "content": "a.txt"} if seen.number else first
    details = {"cached_tokens": 40}
    body = {
        "id": f"chatcmpl-{seen.number}",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-x-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": details,
        },
    }
    return fixed(200, json.dumps(body).encode())


def workbench(*words, **environ):
    """Start the command in a process of its own."""
    line = [sys.executable, "-m", "workbench", "listen", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=os.environ | environ, **pipes)


def test_an_instrumented_program_shows_up(tmp_path):
    path = tmp_path / "s.duckdb"
    with Stub(answer) as stub:
        process = workbench(
            "--store", str(path), "--", sys.executable, "-c", AGENT, OPENAI_BASE_URL=stub.url
        )
        _, err = process.communicate(timeout=240)

    assert process.returncode == 5, err
    assert "received 3 spans: 1 trace with calls" in err
    [row] = (
        open_store(path)
        .sql(
            """SELECT task, configuration, n_calls, n_tool_calls, input_tokens, cache_read_tokens,
              output_tokens, session, answer FROM trace_facts"""
        )
        .rows()
    )
    assert row == ("helpdesk", "gpt-x-1 agent", 2, 1, 200, 80, 40, "s-1", "a.txt")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if b"sk-secret-0123456789" in file.read_bytes()]


def test_without_a_command_it_receives_until_it_is_interrupted(tmp_path):
    process = workbench("--store", str(tmp_path / "s.duckdb"), "--port", "0")
    line = process.stdout.readline()
    assert line.startswith("export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "received 0 spans: 0 traces with calls" in err


def test_a_port_that_is_taken_is_said(tmp_path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["listen", "--port", port, "--store", str(tmp_path / "s.duckdb")]) == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_is_none_is_refused(port):
    assert main(["listen", "--port", port]) == 2
