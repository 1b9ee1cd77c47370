"""Rate limits in the headers of a reply, and the function to call with them.

`Retry-After` is read here too (`retry_after_s`); `limits/backoff.py` makes a wait of it. The known
headers of limits, from documentation or replies:

- OpenAI, Azure, Groq, Fireworks, xAI, OpenRouter:
  `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; a reset is a duration ("6m0s", "20ms"),
  seconds, or a time (OpenRouter: milliseconds since 1970).
- Cerebras and Mistral: the same with a period, `…-requests-day`, `…-tokens-minute`, `…-req-minute`.
- Anthropic:
  `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, the
  reset an RFC 3339 time. Its `tokens` repeats whichever limit is the closest, so it is left aside.
- Together: `x-ratelimit-…` for requests and `x-tokenlimit-…` for tokens; the IETF's draft:
  `ratelimit-…`.

A header that is not understood is no limit.
"""

import contextlib
import datetime as dt
import email.utils
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import msgspec


class RateLimit(msgspec.Struct, frozen=True):
    """One limit of a server, as of one reply.

    Attributes:
        name: as in the headers, for example "tokens-minute".
        kind: requests, tokens, input_tokens or output_tokens.
        remaining: requests or tokens that are left.
        limit: how many there are in a period; null where it is not told.
        reset_s: seconds until all are there again; null where it is not told.
        period_s: the period that the name tells.
    """

    name: str
    kind: str
    remaining: float
    limit: float | None = None
    reset_s: float | None = None
    period_s: float | None = None


Hear = Callable[[Sequence[RateLimit]], None]
_hear: ContextVar[Hear | None] = ContextVar("_hear", default=None)

_OPENAI = re.compile(r"(?:x-)?(rate|token)limit-(limit|remaining|reset)(?:-(.+))?")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-(.+)-(limit|remaining|reset)")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?")
_PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


@contextlib.contextmanager
def listening(hear: Hear) -> Iterator[None]:
    """Call `hear` with the limits of every reply that begins in this block, as it begins."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


def tell(headers: Mapping[bytes, bytes], now: dt.datetime) -> None:
    """Pass on what the headers of a reply, names in lower case, say about limits."""
    hear = _hear.get()
    if hear is not None:
        limits = read(headers, now)
        if limits:
            hear(limits)


def read(headers: Mapping[bytes, bytes], now: dt.datetime) -> list[RateLimit]:
    """Read the limits that the headers (names in lower case) tell."""
    fields_by_limit: dict[str, dict[str, str]] = {}
    for header, value in headers.items():
        if b"limit" in header and (meaning := _meaning(header)):
            fields_by_limit.setdefault(meaning[0], {})[meaning[1]] = value.decode("latin-1").strip()
    limits = []
    for name, fields in fields_by_limit.items():
        kind, remaining = _kind(name), _number(fields.get("remaining"))
        if (
            kind is None
            or remaining is None
            or (name == "tokens" and "input-tokens" in fields_by_limit)
        ):
            continue
        period_s = _PERIODS_S.get(name.rpartition("-")[2])
        reset_s = _reset_s(fields.get("reset"), now)
        limits.append(
            RateLimit(name, kind, remaining, _number(fields.get("limit")), reset_s, period_s)
        )
    return limits


@functools.lru_cache(maxsize=256)
def _meaning(name: bytes) -> tuple[str, str] | None:
    """Split a header's name into (limit, field)."""
    text = name.decode("latin-1")
    if match := _ANTHROPIC.fullmatch(text):
        return match[1], match[2]
    if match := _OPENAI.fullmatch(text):
        return match[3] or ("tokens" if match[1] == "token" else "requests"), match[2]
    return None


@functools.lru_cache(maxsize=256)
def _kind(name: str) -> str | None:
    words = name.replace("_", "-").lower()
    if "token" in words:
        if "input" in words or "prompt" in words:
            return "input_tokens"
        wrote = any(w in words for w in ("output", "generated", "completion"))
        return "output_tokens" if wrote else "tokens"
    return "requests" if words.startswith("req") else None


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").partition(",")[0])
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _reset_s(text: str | None, now: dt.datetime) -> float | None:
    """Read a duration, seconds, seconds or milliseconds since 1970, or a time."""
    if not text:
        return None
    seconds = _number(text)
    if seconds is not None:
        if seconds > 1e11:
            seconds /= 1000.0
        return max(seconds - now.timestamp(), 0.0) if seconds > 1e9 else seconds
    if (match := _DURATION.fullmatch(text)) and any(match.groups()):
        with contextlib.suppress(ValueError):
            d, h, m, s, ms = (float(part or 0) for part in match.groups())
            return ((d * 24 + h) * 60 + m) * 60 + s + ms / 1000
    for parse in (dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
        with contextlib.suppress(ValueError):
            then = parse(text)
            then = then if then.tzinfo else then.replace(tzinfo=dt.UTC)
            return max((then - now).total_seconds(), 0.0)
    return None


def retry_after_s(headers: Mapping[str, str], now: dt.datetime) -> float | None:
    """Read how long the server asks us to wait: milliseconds, seconds or an HTTP date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                then = email.utils.parsedate_to_datetime(text)
            except ValueError:
                continue
            if then.tzinfo is None:
                then = then.replace(tzinfo=dt.UTC)
            seconds = (then - now).total_seconds()
        if not math.isnan(seconds):
            return max(seconds, 0.0)
    return None
