"""Worker process that compares mathematical answers: a JSON question per line, an answer per line.

It imports nothing of this package. Symbolic algebra may take for ever, or all memory, on a text
that is made for it (9^9^9^9): whoever asks ends this process when its time is up, and the kernel
bounds its memory.
"""

import contextlib
import json
import logging
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

MEMORY_BYTES = 2 << 30
_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")  # prose, not a command or a product of letters


def same(target: str, answer: str) -> bool:
    """Return whether an answer means what the target says, as math-verify reads both."""
    from math_verify import parse, verify

    wanted = parse(_formula(target), parsing_timeout=None)
    given = parse(_formula(answer), parsing_timeout=None)
    return bool(verify(wanted, given, timeout_seconds=None))


def _formula(text: str) -> str:
    """Mark a bare formula as one; prose is searched for what is in it."""
    return text if "$" in text or _WORDS.search(text) else f"${text}$"


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answer {"targets", "answer"}: {"same"}, or {"error"}."""
    try:
        return {"same": any(same(target, question["answer"]) for target in question["targets"])}
    except (Exception, RecursionError) as error:  # noqa: BLE001  # any fault of the algebra
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def _limit() -> None:
    """Limit this process; where the system cannot, the caller's timeout is the only limit."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    for kind, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


@contextlib.contextmanager
def _within(cpu_s: float) -> Iterator[None]:
    """Have the kernel end this process after some time of computing, whatever it is busy with."""
    timed = hasattr(signal, "setitimer")
    if timed:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
    yield
    if timed:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Answer each line of stdin; the first line out says that the library is loaded."""
    _limit()
    logging.disable()
    import math_verify  # noqa: F401  # so that no answer's time holds it

    _say("ready")
    for line in sys.stdin:
        question = json.loads(line)
        with _within(question["limit_s"]):
            reply = answer(question)
        _say(json.dumps(reply))


if __name__ == "__main__":
    main()
