"""Thinking tags in a model's text: the thinking between them is split off and counted."""

from collections.abc import Awaitable, Callable

import msgspec

from workbench.runner.providers.protocol import Reply

Count = Callable[[str], Awaitable[int | None]]
_USUAL = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))


def usual(reply: Reply) -> tuple[str, str] | None:
    """Find the tags that a model thinks between, where its server has left them in the text.

    The thinking begins the text, or was begun by the server's template: then only its end shows.
    """
    if reply.thinking is not None:
        return None
    text = reply.text.lstrip()
    for tags in _USUAL:
        if text.startswith(tags[0]) or (tags[1] in text and tags[0] not in text):
            return tags
    return None


async def split(reply: Reply, prefill: str, tags: tuple[str, str], count: Count) -> Reply:
    """Take the tagged thinking out of a reply's text, and count its tokens.

    The thinking reaches from the opening tag (in what the model wrote, or in the beginning that it
    was given, or by the template of the server: then only the closing tag shows) to the closing
    tag, or to the end of the text where the model never closed it. Its tokens are those of the
    received text up to and with the closing tag, no more than the output; none where there is no
    tag.
    """
    whole = prefill + reply.text
    opened, closed = whole.find(tags[0]), whole.find(tags[1])
    if opened < 0 and closed < 0:
        call = reply.call
        if call.reasoning_tokens is None and reply.thinking is None and not call.error_type:
            call = msgspec.structs.replace(call, reasoning_tokens=0, tokens_source="counted")
        return msgspec.structs.replace(reply, text=whole, call=call)
    inside = 0 if opened < 0 else opened + len(tags[0])
    closed = whole.find(tags[1], inside)
    end = len(whole) if closed < 0 else closed + len(tags[1])
    visible = whole[end:].lstrip()
    begun = max(opened, len(prefill))
    call = reply.call
    counted: int | None = 0
    by_engine = call.tokens_source == "counted" and call.reasoning_tokens is not None
    if by_engine or call.reasoning_tokens:
        counted = None  # already, token for token
    elif end > begun:
        counted = await count(whole[begun:end])
    if counted is not None and not call.error_type:
        most = counted if call.output_tokens is None else min(counted, call.output_tokens)
        call = msgspec.structs.replace(call, reasoning_tokens=most, tokens_source="counted")
    shown = reply.time_of(len(whole) - len(visible) - len(prefill)) if visible else None
    return msgspec.structs.replace(
        reply,
        text=whole[: max(opened, 0)].strip() + visible,
        thinking=whole[max(inside, len(prefill)) : closed if closed >= 0 else end].strip() or None,
        call=msgspec.structs.replace(call, answer_start_s=shown),
    )
