"""Logs of Inspect, made in the layout that it writes."""

import json
import struct
import zipfile
import zlib
from pathlib import Path

import zstandard

from workbench import sources
from workbench.records import Trace
from workbench.sources import FileReport

SPEC = {
    "eval_id": "E1",
    "run_id": "R1",
    "task": "quiz",
    "task_version": 3,
    "task_id": "T1",
    "model": "openai/gpt-x",
    "created": "2026-01-02T03:04:05+01:00",
    "model_args": {"api_key": "sk-secret", "base_url": "http://x"},
    "model_generate_config": {"reasoning_effort": "high", "temperature": 0.5, "top_k": 7},
    "task_args": {"shots": 2},
    "dataset": {"name": "d", "sample_ids": [1, "b"]},
    "config": {"epochs": 2, "message_limit": 9},
    "packages": {"inspect_ai": "0.3.285"},
    "revision": {"commit": "abc"},
    "tags": ["x"],
    "scorers": [{"name": "match"}],
}


PLAN = {
    "steps": [{"solver": "react", "params": {"a": 1, "b": 2}, "params_passed": {"a": 1}}],
    "config": {"max_tokens": 100, "max_connections": 4},
}


HEADER = {"version": 2, "status": "success", "eval": SPEC, "plan": PLAN}


USAGE = {
    "input_tokens": 60,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_tokens_cache_read": 40,
    "reasoning_tokens": 15,
}


T0, T1, T2 = (f"2026-01-02T03:04:0{n}.5+00:00" for n in (5, 6, 8))


def model(**more: object) -> dict:
    """A model event."""
    message = {"role": "assistant", "content": "4", "id": "m9"}
    output = {
        "model": "gpt-x-1",
        "choices": [{"message": message, "stop_reason": "stop"}],
        "usage": USAGE,
        "time": 1.25,
    }
    return {
        "event": "model",
        "model": "openai/gpt-x",
        "timestamp": T0,
        "completed": T1,
        "input": [{"role": "user", "content": "2+2?", "id": "m1"}],
        "output": output,
    } | more


def sample(**more: object) -> dict:
    """A sample with one call."""
    return {
        "id": 1,
        "epoch": 1,
        "input": "2+2?",
        "target": "4",
        "messages": [],
        "scores": {"match": {"value": "C", "answer": "4"}},
        "events": [model()],
        "model_usage": {"openai/gpt-x": USAGE},
        "total_time": 3.5,
        "working_time": 2.5,
    } | more


def archive(path: Path, members: dict[str, object], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip by hand, Zstandard (93) in two frames included."""
    written, directory = b"", b""
    for name, value in members.items():
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        if method == 93:
            frames = (data[:100], data[100:])
            packed = b"".join(zstandard.ZstdCompressor().compress(f) for f in frames)
        elif method == zipfile.ZIP_DEFLATED:
            packer = zlib.compressobj(wbits=-15)
            packed = packer.compress(data) + packer.flush()
        else:
            packed = data
        fields = (method, 0, 33, zlib.crc32(data), len(packed), len(data), len(name), 0)
        local = struct.pack("<4sHH", b"PK\x03\x04", 20, 0) + struct.pack("<HHHLLLHH", *fields)
        entry = struct.pack("<4sHHH", b"PK\x01\x02", 20, 20, 0)
        entry += struct.pack("<HHHLLLHH", *fields)
        directory += entry + struct.pack("<HHHLL", 0, 0, 0, 0, len(written)) + name.encode()
        written += local + name.encode() + packed
    n = len(members)
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, n, n, len(directory), len(written), 0)
    path.write_bytes(written + directory + end)
    return path


def whole(path: Path, *samples: dict, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a finished `.eval` log."""
    members = {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples}
    return archive(path, {"header.json": HEADER, **members}, method)


def load(path: Path) -> tuple[list, FileReport]:
    report = FileReport(path)
    return list(sources.read(path, report=report)), report


def one(tmp_path: Path, **more: object) -> tuple[Trace, FileReport]:
    """Read a log of one sample."""
    records, report = load(whole(tmp_path / "log.eval", sample(**more)))
    [trace] = [r for r in records if isinstance(r, Trace) and not r.is_replaced]
    return trace, report


def of(records: list, kind: type) -> list:
    return [r for r in records if isinstance(r, kind)]
