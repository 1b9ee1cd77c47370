"""Parallel calls, which do not depend on each other."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from workbench.runner.attempts.session import ChatMessage, Reply, Session


async def together(calls: Iterable[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """Make calls at once; return their replies in the order of asking, whichever arrives first.

    Each is a single `session.generate`, never a chain of calls: seeds and ordinals follow the order
    in which calls are asked, and that must not depend on arrival. Where one fails, the others are
    waited for, because they are paid for; then the first error in the order of asking is raised.
    """
    ended = await asyncio.gather(*calls, return_exceptions=True)
    replies = []
    for reply in ended:
        if isinstance(reply, BaseException):
            raise reply
        replies.append(reply)
    return replies


async def sampled(
    session: Session, chat: Sequence[ChatMessage], samples: int, temperature: float
) -> list[Reply]:
    """Ask the same so many times, at once."""
    return await together(session.generate(chat, temperature=temperature) for _ in range(samples))
