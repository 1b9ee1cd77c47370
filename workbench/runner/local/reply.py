"""The reply of a local model, and the record of its call, from an engine's sequence."""

import datetime as dt
from typing import Any, NamedTuple

from workbench.records import Call, ToolCall, json_text
from workbench.runner.local import tool_text
from workbench.runner.local.loading import Loaded
from workbench.runner.local.sequence import Sequence
from workbench.runner.providers.partial_reply import PartialReply
from workbench.runner.providers.protocol import Reply, Request


class IncomingRequest(NamedTuple):
    """A request and when it was made.

    Attributes:
        key: name of the call, in its record and in the engine's steps.
        at_s: on the engine's clock.
    """

    request: Request
    provider: str
    key: str
    at: dt.datetime
    at_s: float


def reply(incoming: IncomingRequest, sequence: Sequence | None, loaded: Loaded | None) -> Reply:
    """Return the reply so far; a request that was never run has no tokens and no times."""
    known: dict[str, Any] = {
        "provider": incoming.provider,
        "model": incoming.request.model,
        "started_at": incoming.at,
        "request_id": incoming.key,
    }
    if sequence is None or loaded is None:
        return Reply(call=Call(**known))
    got = PartialReply()
    for at_s, piece in list(sequence.pieces):
        thought = piece.text if piece.kind == "thinking" else ""
        got.saw(at_s - incoming.at_s, "" if thought else piece.text, thought)
    text, tools = "".join(got.text), tuple[ToolCall, ...]()
    reason = sequence.stop_reason
    if incoming.request.tools and reason is not None:
        text, tool_calls = tool_text.parse(text, {t.name for t in incoming.request.tools})
        tools = tuple(
            ToolCall(ordinal=n, tool=t.name, arguments=t.arguments)
            for n, t in enumerate(tool_calls)
        )
        reason = "tool_calls" if tools and reason == "stop" else reason
    fields = _counts(sequence) | got.times_of_chunks()
    ended_s = sequence.ended_s
    call = Call(
        **known,
        stop_reason=reason,
        response_model=_name(incoming.request.model),
        e2e_s=None if ended_s is None else ended_s - incoming.at_s,
        usage=json_text(_usage(incoming, sequence, loaded)),
        **fields,
    )
    return Reply(
        text=text,
        thinking="".join(got.thinking).strip() or None,
        tool_calls=tools,
        stop_reason=reason,
        call=call,
        text_ends=tuple(got.text_ends),
        text_times=tuple(got.text_times),
    )


def _counts(sequence: Sequence) -> dict[str, Any]:
    """Return the token columns; nothing was cached, since nothing is kept between requests."""
    if sequence.admitted_s is None:
        return {}  # it never ran
    return {
        "input_tokens": len(sequence.prompt),
        "cache_read_tokens": 0,
        "output_tokens": len(sequence.tokens),
        "tokens_source": "counted",
        "reasoning_tokens": sequence.reasoning_tokens if sequence.looks_for_thinking else None,
        "logprob_sum": sequence.logprob_sum if sequence.tokens else None,
    }


def _usage(incoming: IncomingRequest, sequence: Sequence, loaded: Loaded) -> dict[str, Any]:
    """Return what the engine knows beside the columns; times in seconds."""
    sampling, first_s = sequence.sampling, sequence.first_s
    admitted_s, ended_s = sequence.admitted_s, sequence.ended_s
    return {
        "device": loaded.device,
        "precision": loaded.precision,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed if sampling.temperature else None,
        "waited_s": None if admitted_s is None else admitted_s - incoming.at_s,
        "prefill_s": sequence.prefill_s,
        "prefill_tokens": sequence.n_prefilled,
        "decode_s": None if first_s is None or ended_s is None else ended_s - first_s,
    }


def _name(model: str) -> str:
    """Cut a path to its last part."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", ".", "~")) else model
