"""The bridge from an event loop to the engine's thread: one loop turn's requests go together."""

import asyncio
from typing import TYPE_CHECKING

from workbench.errors import ProviderUnavailable
from workbench.runner.local.sequence import Sequence
from workbench.runner.providers.protocol import OnChunk

if TYPE_CHECKING:
    from workbench.runner.local.engine import Engine


class _Ticket:
    """Somebody who waits for a sequence."""

    def __init__(self, wait: "asyncio.Future[None]", on_chunk: OnChunk | None) -> None:
        self.wait, self.on_chunk = wait, on_chunk
        self.shown = 0  # pieces

    def show(self, sequence: Sequence) -> None:
        pieces = sequence.pieces[self.shown :]
        self.shown += len(pieces)
        for _, piece in pieces:
            if self.on_chunk is not None and piece.kind == "text" and not self.wait.done():
                self.on_chunk(piece.text)
        if sequence.has_ended and not self.wait.done():
            self.wait.set_result(None)


class LoopBridge:
    """The bridge between one event loop and an engine.

    Requests of one loop turn are submitted together, so that their prompts are read in one step. A
    step wakes the loop once, for any number of sequences, and only where it ends one or has a
    listener.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: "Engine") -> None:
        """Bind the two; neither is held up."""
        self.loop, self.engine = loop, engine
        self._fresh: list[Sequence] = []
        self._tickets: dict[str, _Ticket] = {}

    async def run(self, sequence: Sequence, on_chunk: OnChunk | None) -> None:
        """Have a sequence written to its end; cancelling frees its slot before the next step.

        Raises:
            Whatever the sequence failed with, or `on_chunk` raised.
        """
        ticket = _Ticket(self.loop.create_future(), on_chunk)
        self._tickets[sequence.key] = ticket
        if not self._fresh:
            self.loop.call_soon(self._submit)
        self._fresh.append(sequence)
        try:
            await ticket.wait
        finally:
            del self._tickets[sequence.key]
            if not sequence.has_ended:
                self.engine.cancel(sequence)
        if sequence.error is not None:
            raise sequence.error

    def deliver(self, sequences: list[Sequence]) -> None:
        """Bring what a step wrote to the loop; called by the engine's thread."""
        seen = [s for s in sequences if s.has_ended or self._is_watched(s)]
        if seen:
            self.loop.call_soon_threadsafe(self._show, seen)

    def _is_watched(self, sequence: Sequence) -> bool:
        ticket = self._tickets.get(sequence.key)
        if ticket is None or ticket.on_chunk is None:
            return False
        return len(sequence.pieces) > ticket.shown

    def _submit(self) -> None:
        fresh, self._fresh = self._fresh, []
        try:
            self.engine.submit(*fresh)
        except ProviderUnavailable as error:
            for sequence in fresh:
                self._fail(sequence, error)

    def _show(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            ticket = self._tickets.get(sequence.key)
            if ticket is None:
                continue  # cancelled
            try:
                ticket.show(sequence)
            except Exception as error:  # noqa: BLE001  # a failing listener fails its own call only
                self._fail(sequence, error)

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        ticket = self._tickets.get(sequence.key)
        if ticket is not None and not ticket.wait.done():
            ticket.wait.set_exception(error)
