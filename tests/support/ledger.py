"""A server that keeps its own books: every request, and every reply that it wrote to the last byte.

What it notes is on the disk before the next byte is sent, so the books hold whatever is killed. It
is a process of its own:

    python tests/support/ledger.py --log ledger.jsonl --gap-s 0.01

It prints its port on the first line and ends with its standard input. The first part of a path
names who asks (`/first/v1/chat/completions`), and each reply carries its number, so that the
replies in a store are compared with the books one by one.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.support import runner_stub as stub

INPUT_TOKENS, OUTPUT_TOKENS = 12, 3
TOKENS = INPUT_TOKENS + OUTPUT_TOKENS  # of each reply
_NUMBER = re.compile(r"\[reply (\d+)\]")


def numbers_in(text: str) -> list[int]:
    """The numbers of the replies that a text holds."""
    return [int(number) for number in _NUMBER.findall(text)]


class Asked(NamedTuple):
    """One request: its number, who asked, and what (equal requests have equal keys)."""

    number: int
    launch: str
    key: str


class Books:
    """What the server noted, and what follows from it."""

    def __init__(self, log: Path) -> None:
        self.asked: dict[int, Asked] = {}
        self.whole: list[int] = []
        for line in log.read_text().splitlines() if log.exists() else ():
            kind, number, *rest = json.loads(line)
            if kind == "asked":
                self.asked[number] = Asked(number, *rest)
            else:
                self.whole.append(number)

    @property
    def tokens(self) -> int:
        """What the server bills: all whole replies."""
        return TOKENS * len(self.whole)

    @property
    def n_keys(self) -> int:
        """Different requests that were answered."""
        return len({self.asked[number].key for number in self.whole})

    def not_in(self, stored: Iterable[int]) -> Counter[str]:
        """Whole replies that are not among the stored, counted by who had asked."""
        known = set(stored)
        return Counter(self.asked[n].launch for n in self.whole if n not in known)

    def again(self) -> Counter[str]:
        """Whole replies that were asked for once more later, counted by who had the earlier one."""
        by_key: dict[str, list[int]] = defaultdict(list)
        for number in sorted(self.whole):
            by_key[self.asked[number].key].append(number)
        return Counter(self.asked[n].launch for same in by_key.values() for n in same[:-1])


class Server:
    """The server as a process, for the length of a block."""

    def __init__(self, log: Path, *, gap_s: float = 0.01) -> None:
        self.log = log
        command = [sys.executable, __file__, "--log", str(log), "--gap-s", str(gap_s)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def url(self, launch: str) -> str:
        """The address for one launch, by which the books tell it from others."""
        return f"http://127.0.0.1:{self._port}/{launch}/v1"

    def books(self) -> Books:
        """Read the books as they stand."""
        return Books(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _reply(seen: stub.Seen, gap_s: float) -> list[stub.Step]:
    pieces = [stub.delta(f"[reply {seen.number}] "), stub.delta("so it is. ")]
    pieces.append(stub.delta("Answer: 4", finish="stop"))
    counts = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
    paced: list[bytes | float] = []
    for piece in pieces:
        paced += [piece, gap_s]
    return stub.stream(*paced, stub.usage(**counts, total_tokens=TOKENS), stub.DONE)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--gap-s", type=float, default=0.01)
    options = parser.parse_args()
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(*what: object) -> None:
        os.write(log, json.dumps(what).encode() + b"\n")
        os.fsync(log)

    def respond(seen: stub.Seen) -> list[stub.Step]:
        launch = seen.path.split("/")[1]
        note("asked", seen.number, launch, hashlib.blake2b(seen.body, digest_size=8).hexdigest())
        return _reply(seen, options.gap_s)

    async def run() -> None:
        server = stub.Stub(respond)
        server.keep, server.answered = False, lambda seen, took_s: note("whole", seen.number)
        await server.serve()
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    asyncio.run(run())


if __name__ == "__main__":
    _main()
