"""A small HTTP server that answers as a test tells it, byte by byte; a real socket, no mock.

In a test: `with Stub(respond) as stub: …`. As a script it is a server in a process of its own,
which streams
replies and logs every one that it answered:

    python tests/support/runner_stub.py --chunks 20 --gap-s 0.1 --log answered.jsonl

It prints its port on the first line.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

CLOSE = None  # a step that drops the connection
Step = bytes | float | None  # bytes to write, seconds to wait, or CLOSE


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int  # of the server, from 0

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def head(status: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}"]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode()


def stream(
    *pieces: bytes | float, status: int = 200, end: bool = True, **headers: str
) -> list[Step]:
    """A chunked body, a piece a write; without `end` the connection drops instead."""
    steps: list[Step] = [head(status, **headers) + b"transfer-encoding: chunked\r\n\r\n"]
    steps += [p if isinstance(p, float) else b"%x\r\n%s\r\n" % (len(p), p) for p in pieces]
    return [*steps, b"0\r\n\r\n" if end else CLOSE]


def fixed(status: int, body: bytes, kind: str = "application/json", **headers: str) -> list[Step]:
    """A body of known length."""
    return [head(status, kind, content_length=str(len(body)), **headers) + b"\r\n" + body]


def data(value: object) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(text: str | None = None, *, finish: str | None = None, **fields: object) -> bytes:
    """One chat chunk."""
    body = dict(fields) if text is None else {"content": text, **fields}
    return data(
        {"model": "stub-1", "choices": [{"index": 0, "delta": body, "finish_reason": finish}]}
    )


def usage(**fields: object) -> bytes:
    return data({"model": "stub-1", "choices": [], "usage": fields})


DONE = b"data: [DONE]\n\n"


class _Connection(asyncio.Protocol):
    def __init__(self, server: "Stub") -> None:
        self.server, self.buffer, self.task = server, b"", None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.n_connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            top, _, rest = self.buffer.partition(b"\r\n\r\n")
            lines = top.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            headers = {
                k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])
            }
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            seen = Seen(method, path, headers, rest[:length], self.server.count())
            steps = self.server.respond(seen)
            if isinstance(steps, bytes):
                self.transport.write(steps)
            else:
                self.task = asyncio.get_running_loop().create_task(self._play(seen, steps))

    async def _play(self, seen: Seen, steps: Iterable[Step]) -> None:
        due = begun = (
            time.perf_counter()
        )  # waits keep to a timetable, so that a slow moment is caught up
        for step in steps:
            if step is CLOSE:
                self.transport.close()
                return
            if isinstance(step, float):
                due += step
                await asyncio.sleep(due - time.perf_counter())
            elif not self.transport.is_closing():
                self.transport.write(step)
            else:
                return
        self.server.answered(seen, time.perf_counter() - begun)


class Stub:
    """Serves on 127.0.0.1 from a thread; `respond` gives the steps of a reply, or all its bytes."""

    def __init__(self, respond: Callable[[Seen], Iterable[Step] | bytes]) -> None:
        self._respond, self.requests, self.n_connections, self.n = respond, [], 0, 0
        self.answered: Callable[[Seen, float], object] = lambda seen, took_s: None
        self.keep = True

    def respond(self, seen: Seen) -> Iterable[Step] | bytes:
        if self.keep:
            self.requests.append(seen)
        return self._respond(seen)

    def count(self) -> int:
        self.n += 1
        return self.n - 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, port: int = 0) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", port, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    def __enter__(self) -> "Stub":
        ready = threading.Event()

        async def run() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await self.serve()
            ready.set()
            await self._stop.wait()
            server.close()

        self._thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def reply_pieces(n_chunks: int) -> list[bytes]:
    """The pieces of a plain streamed reply of n chunks with text, as a server sends them."""
    words = [delta(f"word{i} ") for i in range(n_chunks - 1)]
    counts = usage(prompt_tokens=12, completion_tokens=n_chunks, total_tokens=12 + n_chunks)
    return [
        delta(role="assistant", text=""),
        *words,
        delta("Answer: 4", finish="stop"),
        counts,
        DONE,
    ]


class Storm:
    """Answers as a server has its bad days: what befalls a request follows from a seed, its body
    and its try.

    In each period there is a time of 429s, one in two with Retry-After. Outside of it, of a hundred
    requests five fail with a 5xx, one hangs for `hang_s`, one breaks off after its first chunk.
    With `tells`, none hangs, and three break off after two chunks with the usage so far, which is
    billed.
    """

    def __init__(
        self,
        seed: int,
        pieces: list[bytes],
        *,
        period_s: float = 1.5,
        storm_s: float = 0.15,
        hang_s: float = 30.0,
        tells: bool = False,
    ) -> None:
        self.tells, self.on_broken = tells, lambda seen, tokens: None
        self.seed, self.period_s, self.storm_s, self.hang_s = seed, period_s, storm_s, hang_s
        self.tries: Counter[bytes] = Counter()
        self.answers: set[int] = set()  # numbers of the requests that get a whole answer
        self.begun = time.monotonic()
        self.good, self.broken = stream(*pieces), stream(pieces[0], end=False)
        self.whole = [b"".join(s for s in self.good if isinstance(s, bytes))]

    def __call__(self, seen: Seen) -> Iterable[Step]:
        self.tries[seen.body] += 1
        told = b"%d %d %s" % (self.seed, self.tries[seen.body], seen.body)
        chance = int.from_bytes(hashlib.blake2b(told, digest_size=4).digest()) / 2**32
        if (time.monotonic() - self.begun) % self.period_s < self.storm_s:
            after = {"retry_after_ms": "120"} if chance < 0.5 else {}
            return fixed(429, b'{"error":{"message":"slow down"}}', **after)
        if chance < 0.05:
            return fixed(500 if chance < 0.025 else 502, b'{"error":{"message":"oh"}}')
        if self.tells and chance < 0.08:
            return self._broken_off(seen, chance)
        if chance < 0.06:
            return [self.hang_s, CLOSE]
        if chance < 0.07:
            return self.broken
        self.answers.add(seen.number)
        return self.whole

    def _broken_off(self, seen: Seen, chance: float) -> list[Step]:
        """Tell the usage of two chunks, differently from request to request, and break off."""
        n_input, n_output = 12, 2 + int(chance * 1e6) % 50
        counts = {"prompt_tokens": n_input, "total_tokens": n_input + n_output}
        chunks = [
            data(
                {
                    "model": "stub-1",
                    "usage": counts | {"completion_tokens": n},
                    "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}],
                }
            )
            for n in (1, n_output)
        ]
        self.on_broken(seen, n_input + n_output)
        return [
            b"".join(s for s in stream(*chunks, end=False) if isinstance(s, bytes)),
            0.02,
            CLOSE,
        ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--gap-s", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--storm", type=int, help="seed of bad days; --gap-s is left aside")
    parser.add_argument("--tells", action="store_true", help="in a storm: see Storm")
    options = parser.parse_args()
    pieces = reply_pieces(options.chunks)
    whole = b"".join(s for s in stream(*pieces) if s)
    paced = []
    for piece in pieces[1:]:
        paced += [options.gap_s, piece]
    log = options.log.open("a") if options.log else None
    storm = None if options.storm is None else Storm(options.storm, pieces, tells=options.tells)

    def respond(seen: Seen) -> Iterable[Step] | bytes:
        if not seen.json.get("stream"):
            text = "".join(f"word{i} " for i in range(options.chunks - 1)) + "Answer: 4"
            message = {"role": "assistant", "content": text}
            body = {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "stub-1",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32},
            }
            return b"".join(fixed(200, json.dumps(body).encode()))
        return whole if not options.gap_s else stream(pieces[0], *paced)

    def answered(seen: Seen, took_s: float) -> None:
        if log is not None and (storm is None or seen.number in storm.answers):
            entry = {"request": seen.json, "at": time.time(), "took_s": took_s}
            log.write(json.dumps(entry) + "\n")
            log.flush()

    def broken(seen: Seen, tokens: int) -> None:
        if log is not None:
            log.write(json.dumps({"request": seen.json, "broken_tokens": tokens}) + "\n")
            log.flush()

    if storm is not None:
        storm.on_broken = broken

    async def run() -> None:
        stub = Stub(storm or respond)
        stub.keep, stub.answered = False, answered
        await stub.serve()
        print(stub.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(
            None, sys.stdin.read
        )  # until the parent goes

    asyncio.run(run())


if __name__ == "__main__":
    main()
