"""A key goes to its server in one header, and nowhere else: not to a file, a log, a record, a
screen."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import quote

import pytest

from tests.support import ROOT
from tests.support.batch_stub import Service
from tests.support.batches import run as run_batches
from tests.support.runner_stub import DONE, Stub, data, delta, fixed, stream, usage
from workbench.cli import main
from workbench.runner.providers import transport
from workbench.store import open_store

KEYS = [
    "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8t",
    "k/9+x=Zz&%q:~pa\"ss\\Wd'12345",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
]


def shapes(key):
    """The ways in which a server may say a key, or a file hold it."""
    yield key
    yield quote(key, safe="")
    yield quote(key, safe="").lower() if "%" in quote(key, safe="") else key
    yield json.dumps(key)[1:-1]
    yield key.encode().hex()
    for text in (key, f"user:{key}", f"u:{key}", f"us:{key}:more"):
        yield base64.b64encode(text.encode()).decode().rstrip("=")[4:-4]


def echoes(key):
    """Everything that a server may do with a key that it was sent."""
    said = [
        key,
        quote(key, safe=""),
        base64.b64encode(f"user:{key}".encode()).decode(),
        f"http://user:{quote(key, safe='')}@host/?key={key}",
    ]
    for text in said:
        yield stream(
            *[delta(text[i : i + 3]) for i in range(0, len(text), 3)],
            delta(reasoning_content=text),
            usage(prompt_tokens=1, completion_tokens=1, note=text),
            DONE,
            x_request_id=key.replace("\\", ""),
        )
        yield stream(delta("x"), data({"error": {"message": f"over quota: {text}", "code": 429}}))
        yield stream(delta("x"), b"data: {" + b"x" * 185 + text.encode() + b"\n\n")
        yield fixed(401, json.dumps({"error": {"message": f"Incorrect API key: {text}"}}).encode())
        yield fixed(500, f"<html>{'y' * 480}{text}</html>".encode(), "text/html")
        yield fixed(
            400,
            json.dumps(
                {"request": {"headers": {"authorization": f"Bearer {text}"}, "url": text}}
            ).encode(),
        )
    tool = [
        {"index": 0, "id": key, "function": {"name": key, "arguments": json.dumps({"key": key})}}
    ]
    yield stream(delta(tool_calls=tool), delta(finish="tool_calls"), DONE)
    yield stream(
        data(
            {
                "model": f"/models/{key}",
                "service_tier": key,
                "choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}],
            }
        ),
        DONE,
    )
    yield stream(delta("slow"), 0.5, delta(key, finish="stop"), DONE)


def found(key, where, *texts):
    """Say where a key shows: in files, in the tables of stores, in texts."""
    looked = {str(p): p.read_bytes() for p in where.rglob("*") if p.is_file()}
    for path in where.rglob("*.duckdb"):
        store = open_store(path)
        for (name,) in store.sql(
            "SELECT table_name FROM duckdb_tables()"
            " UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).iter_rows():
            looked[f"{path}:{name}"] = repr(store.sql(f'FROM "{name}"').rows()).encode()
    looked |= {f"text {n}": text.encode() for n, text in enumerate(texts)}
    return [
        (name, shape)
        for name, content in looked.items()
        for shape in set(shapes(key))
        if shape.encode() in content
    ]


class Cli:
    """The real command, in a process of its own, with everything it may write under one folder."""

    def __init__(self, folder, key):
        self.folder = folder
        for name in ("home", "tmp", "cwd"):
            (folder / name).mkdir()
        home = str(folder / "home")
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": home,
            "XDG_DATA_HOME": home,
            "XDG_CONFIG_HOME": home,
            "XDG_CACHE_HOME": home,
            "TMPDIR": str(folder / "tmp"),
            "SOME_KEY": key,
            "OPENAI_API_KEY": key,
            "ANTHROPIC_API_KEY": key,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, *args):
        command = [
            sys.executable,
            "-m",
            "workbench",
            "--store",
            str(self.folder / "s.duckdb"),
            "collect",
            *map(str, args),
        ]
        return subprocess.Popen(
            command,
            env=self.environ,
            cwd=self.folder / "cwd",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args):
        out, err = self.start(*args).communicate(timeout=60)
        return out, err


def test_a_key_that_a_server_says_in_every_way_is_nowhere(tmp_path):
    """Answers, errors, retries, a kill and an interrupt: files, tables and screens hold no shape of
    it."""
    key = KEYS[1]
    cli = Cli(tmp_path, key)
    replies = list(echoes(key))
    asked = [
        "--model",
        "m",
        "--task",
        "arithmetic",
        "--api-key-env",
        "SOME_KEY",
        "--limit",
        12,
        "--concurrency",
        3,
        "--retries",
        1,
    ]
    with Stub(lambda seen: replies[seen.number % len(replies)]) as stub:
        there = [*asked, "--base-url", stub.url]
        said = [*cli.run(*there, "--trials", 2)]
        assert "collected" in said[1], said[1]
        for number in (signal.SIGKILL, signal.SIGINT):
            before = stub.n
            process = cli.start(*there, "--trials", 4, "--seed", int(number))
            for _ in range(400):
                if stub.n > before + 6 or process.poll() is not None:
                    break
                time.sleep(0.02)
            process.send_signal(number)
            said += process.communicate(timeout=60)
        said += cli.run(*there, "--trials", 5, "--dry-run")
        sent = [s for s in stub.requests if s.path.endswith("/chat/completions")]
        assert len(sent) >= len(replies)
        assert all(s.headers["authorization"] == f"Bearer {key}" for s in sent)
        assert not any(key in s.path or key.encode() in s.body for s in stub.requests)

    assert found(key, tmp_path, *said) == []
    assert "[key]" in repr(
        open_store(tmp_path / "s.duckdb").sql("SELECT text FROM contents").rows()
    )


def test_a_key_in_the_wrong_place_of_a_plan_is_refused_without_saying_it(
    tmp_path, monkeypatch, capsys
):
    """In the address, as the variable's name, as a setting, in further fields."""
    key = KEYS[0]
    monkeypatch.setenv("SOME_KEY", key)
    here = 'base_url = "http://127.0.0.1:9/v1"'
    for number, wrong in enumerate(
        (
            f'base_url = "http://user:{key}@127.0.0.1:9/v1"',
            f'base_url = "http://127.0.0.1:9/v1?key={key}"',
            f'base_url = "ftp://user:{key}@127.0.0.1/v1?key={key}"',
            f'{here}\napi_key_env = "{key}"',
            f'{here}\napi_key = "{key}"',
            f'{here}\napi_key_env = "SOME_KEY"\nextra_body = {{key = "{key}"}}',
        )
    ):
        plan = tmp_path / "plan.toml"
        plan.write_text(f'models = ["m"]\ntasks = ["arithmetic"]\n{wrong}')
        kept = tmp_path / str(number)
        assert main(["--store", str(kept / "s.duckdb"), "collect", str(plan)]) == 1
        said = capsys.readouterr()
        assert "error: " in said.err
        assert found(key, kept, said.out, said.err) == []


@pytest.mark.parametrize("endpoint", ["chat", "messages"])
def test_a_key_in_the_results_of_a_batch_is_nowhere(tmp_path, monkeypatch, endpoint):
    """Results are kept as received, without the key."""
    key = "sk-test-0123456789abcdef"
    answers = [
        f"your key is {key}",
        ("error", 400, f"bad key {key}"),
        base64.b64encode(f"u:{key}".encode()).decode(),
        quote(key),
    ]
    service = Service(lambda body, n: answers[sum(service.asked.values()) % 4])
    with service.serve() as stub:
        report, _ = run_batches(tmp_path, stub, endpoint)

    assert (report.collected, report.failed) == (3, 1)
    assert found(key, tmp_path) == []
    assert b"[key]" in b"".join(p.read_bytes() for p in tmp_path.rglob("*.results.jsonl"))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_every_shape_of_a_key_is_taken_out(key, before):
    """Wherever it stands in base64; a short placeholder is left alone."""
    encoded = base64.b64encode(f"{before}{key}xyz".encode()).decode()
    for text in (key, quote(key, safe=""), json.dumps(key), key.encode().hex(), encoded):
        clean = transport.redact(f"({text})", key)
        assert "[key]" in clean
        assert not any(
            shape in clean
            for shape in (key, quote(key, safe=""), base64.b64encode(key.encode()).decode()[4:-4])
        )
    assert transport.redact("none and nothing", "none") == "none and nothing"
