"""Replay of recorded traces: the same texts, thinking, tools, counts and errors again, for $0.

The recorded call for a request is found by its model, its chat and its sampling. The n-th equal
request of an attempt gets the n-th recorded reply. Where the attempt is known
(`current_attempt.CURRENT_ATTEMPT`), every trial gets the replies of the recorded trial of that
number, preferably those of the same item and strategy.

A replayed call is no measurement: it belongs to the provider "replay", was billed 0 dollars, and
its times are null, unless the recorded pace is played and recorded again. `request_id` is the
recorded call.
"""

import asyncio
import datetime as dt
import difflib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import msgspec

from workbench.errors import ProviderError
from workbench.records import AnyRecord, Call
from workbench.runner.providers import recording
from workbench.runner.providers.current_attempt import CURRENT_ATTEMPT, ORDINAL, CurrentAttempt
from workbench.runner.providers.protocol import CallRefused, OnChunk, Reply, Request, StreamBroken
from workbench.runner.providers.recording import Chat, Conversation, Part, Recorded

_TIMES = (
    "ttft_s",
    "answer_start_s",
    "e2e_s",
    "gap_p50_s",
    "gap_p90_s",
    "gap_p99_s",
    "gap_max_s",
    "n_chunks",
)
_FACTS = (
    "response_model",
    "n_requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
    "tokens_source",
    "logprob_sum",
    "stop_reason",
    "usage",
    "effort_sent",
)
_PASSING = frozenset({"http_408", "http_409", "http_425", "http_429"})
_NEAR = 200  # recorded prompts that are compared with one that is not recorded
_SHOWN = 80  # characters of a text in a message


class _Candidate(NamedTuple):
    """A recorded call that may answer: where it is, and the text that a server would have sent."""

    conversation: int
    recorded: Recorded
    raw: str


class Replay:
    """A provider that answers from recordings.

    Attributes:
        timed: whether the times of its calls say anything about a model.
    """

    timed: ClassVar[bool] = False

    def __init__(
        self,
        records: Iterable[AnyRecord],
        *,
        name: str = "replay",
        pace: bool = False,
        strict: bool = True,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read the recordings.

        Args:
            records: traces with messages, and their configurations; other records are let pass.
            name: the provider's name in records.
            pace: take the recorded time to answer, and record it again.
            strict: whether replies recorded with another temperature, top_p, effort, thinking
                budget or seed are refused; else they rank last.
            now: the time of day in UTC.
            sleep: waits, for the pace.
        """
        self.name, self._pace, self._strict = name, pace, strict
        self._now, self._sleep = now, sleep
        self._conversations = recording.conversations(records)
        self._index: dict[tuple[str, Part], list[tuple[int, int]]] = {}
        for number, conversation in enumerate(self._conversations):
            self._note(number, conversation)
        self._used: dict[tuple[str, str], CurrentAttempt | None] = {}

    def _note(self, number: int, conversation: Conversation) -> None:
        for place, recorded in enumerate(conversation.calls):
            if recorded.model is not None:
                for part in conversation.last_parts(place):
                    self._index.setdefault((recorded.model, part), []).append((number, place))

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Reply:
        """Return the recorded reply.

        Raises:
            CallRefused: with the kind "not_recorded", or the recorded refusal.
            StreamBroken: the recorded failure, what had arrived beside it.
        """
        candidate = self._choose(request)
        recorded = candidate.recorded
        if self._pace:
            await self._sleep(recorded.call.answer_start_s or recorded.call.ttft_s or 0.0)
        if on_chunk is not None and candidate.raw:
            on_chunk(candidate.raw)
        if self._pace:
            begun = recorded.call.answer_start_s or recorded.call.ttft_s or 0.0
            await self._sleep(max((recorded.call.e2e_s or 0.0) - begun, 0.0))
        reply = self._reply(request, candidate)
        if recorded.call.error_type is not None:
            raise _failure(recorded.call, reply)
        return reply

    async def count_tokens(self, text: str) -> int | None:
        """Count nothing: the counts are those of the recording."""
        return None

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _choose(self, request: Request) -> _Candidate:
        """Find the recorded call that answers, and use it up."""
        chat, begun = recording.chat_of(request)
        fitting = self._fitting(request.model, chat, begun)
        if not fitting:
            raise _refused(self._what_differs(request.model, chat))
        differing = {f.recorded.call_id: _differences(f.recorded, request) for f in fitting}
        agreeing = [f for f in fitting if not differing[f.recorded.call_id]]
        if self._strict and not agreeing:
            least = min(differing.values(), key=len)
            raise _refused(f"this chat was recorded with another {' and another '.join(least)}")
        asker = CURRENT_ATTEMPT.get()
        free = self._free(agreeing if self._strict else fitting, asker)
        best = min(free, key=lambda f: (len(differing[f.recorded.call_id]), *self._rank(f, asker)))
        self._used[_user(asker), best.recorded.call_id] = asker
        return best

    def _fitting(self, model: str, chat: Chat, begun: str) -> list[_Candidate]:
        """List the recorded calls with this prompt, in the order of the recording."""
        candidates = []
        for number, place in self._index.get((model, chat[-1]), ()) if chat else ():
            conversation = self._conversations[number]
            if conversation.can_be_prompt(chat, place):
                raw = recording.raw_text(conversation.calls[place], begun)
                if raw is not None:
                    candidates.append(_Candidate(number, conversation.calls[place], raw))
        return candidates

    def _free(self, fitting: list[_Candidate], asker: CurrentAttempt | None) -> list[_Candidate]:
        """Leave out what was given before, and other trials than the asker's."""
        mine = fitting
        if asker is not None:
            mine = [f for f in fitting if f.recorded.trace.trial == asker.trial]
            mine = [f for f in mine if f.recorded.trace.item_id == asker.item_id] or mine
            if not mine:
                raise _refused(f"this chat was not recorded in trial {asker.trial}")
        user = _user(asker)
        free = [f for f in mine if (user, f.recorded.call_id) not in self._used]
        again = [f for f in mine if f.recorded.call.error_type is not None]
        if not free and not again:
            times = "once" if len(mine) == 1 else f"{len(mine):,} times"
            raise _refused(f"this chat was recorded {times}, and is asked once more")
        return free or again[-1:]  # asked again after a failure, it fails again

    def _rank(
        self, candidate: _Candidate, asker: CurrentAttempt | None
    ) -> tuple[bool, bool, int, int]:
        recorded = candidate.recorded
        ours, theirs = asker.configuration if asker else None, recorded.configuration
        same = (
            ours is not None
            and theirs is not None
            and ((ours.strategy, ours.strategy_params) == (theirs.strategy, theirs.strategy_params))
        )
        elsewhere = ORDINAL.get() not in {None, recorded.call.ordinal}
        return not same, elsewhere, candidate.conversation, recorded.call.ordinal

    def _reply(self, request: Request, candidate: _Candidate) -> Reply:
        recorded, raw = candidate.recorded, candidate.raw
        call = recorded.call
        given = {name: getattr(call, name) for name in (*_FACTS, *(_TIMES if self._pace else ()))}
        ends: tuple[int, ...] = ()
        times: tuple[float, ...] = ()
        start = call.answer_start_s if self._pace else None
        if start is not None and call.ttft_s is not None:
            hidden = len(raw) - len(recorded.text) if raw.endswith(recorded.text) else 0
            ends, times = (hidden, len(raw)), (call.ttft_s, start)
        thinking = recorded.thinking
        inside = (
            thinking is not None and thinking != "" and raw != recorded.text and thinking in raw
        )
        return Reply(
            text=raw,
            thinking=None if inside else recorded.thinking,
            tool_calls=recorded.tools,
            stop_reason=call.stop_reason,
            call=Call(
                provider=self.name,
                model=request.model,
                started_at=self._now(),
                billed_cost_usd=0.0,
                request_id=recorded.call_id,
                **given,
            ),
            text_ends=ends,
            text_times=times,
        )

    def _what_differs(self, model: str, chat: Chat) -> str:
        """Describe the difference of a request from the nearest recorded prompt."""
        models = sorted({r.model for c in self._conversations for r in c.calls if r.model})
        if model not in models:
            return (
                f"nothing is recorded for the model {model!r}; recorded are"
                f" {', '.join(models) or 'none'}"
            )
        last = chat[-1] if chat else Part("user", "text", "")
        texts = {part.text[:2000]: part for m, part in self._index if m == model}
        if not texts:
            return f"the recording of {model} holds no messages"
        near = difflib.get_close_matches(last.text[:2000], list(texts)[:_NEAR], 1, cutoff=0.0)
        part = texts[near[0]]
        if part == last:
            return (
                f"the last message is recorded, {_shown(last.text)}, but not after these"
                f" {len(chat) - 1} messages"
            )
        if part.text == last.text:
            return (
                f"the last message is recorded as {part.role} {part.kind}, not as {last.role}"
                f" {last.kind}: {_shown(last.text)}"
            )
        return (
            f"the last message is not recorded: {_shown(last.text)}; the nearest recorded one is"
            f" {_shown(part.text)}"
        )


def _user(asker: CurrentAttempt | None) -> str:
    """Name who uses a recorded call up: each configuration of its own, or everybody."""
    return asker.configuration.configuration_id if asker is not None else ""


def _differences(recorded: Recorded, request: Request) -> list[str]:
    """Name the settings that were others when the call was recorded, as far as that is known.

    The recording knows the settings of the configuration, and the temperature among a strategy's
    parameters. Calls of other roles, and of helper models, may have had settings of their own.
    """
    differences = []
    seed = request.sampling.get("seed")
    if seed is not None and recorded.seed is not None and seed != recorded.seed:
        differences.append("seed")
    configuration = recorded.configuration
    if (
        configuration is None
        or recorded.call.role != "subject"
        or recorded.model != configuration.model
    ):
        return differences
    params: Any = msgspec.json.decode(configuration.strategy_params or "{}")
    known = {
        "temperature": {configuration.temperature, params.get("temperature")},
        "top_p": {configuration.top_p, params.get("top_p")},
        "reasoning_effort": {configuration.effort},
        "thinking_budget_tokens": {configuration.thinking_budget_tokens},
    }
    return differences + [
        f"{name} ({_values(values)}, not {_values({request.sampling.get(name)})})"
        for name, values in known.items()
        if request.sampling.get(name) not in values
    ]


def _values(values: set[Any]) -> str:
    return " or ".join(sorted(str(v) for v in values if v is not None)) or "none"


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}…")


def _refused(why: str) -> CallRefused:
    message = f"no recorded reply: {why}; record it, or correct the plan"
    return CallRefused(message, kind="not_recorded", reply=Reply())


def _failure(call: Call, reply: Reply) -> ProviderError:
    """Make the recorded error again, of the kind that says whether asking again helps."""
    kind = call.error_type or "error"
    message = call.error_message or kind
    final = kind == "unsupported" or (kind.startswith("http_4") and kind not in _PASSING)
    if final:
        return CallRefused(message, kind=kind, reply=reply)
    return StreamBroken(message, kind=kind, reply=reply)
