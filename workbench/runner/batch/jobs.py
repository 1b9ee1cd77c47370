"""`Batches`, a provider that sends its requests as batch jobs, at batch prices.

Requests are collected until no attempt can continue without an answer, or a batch is full.
Strategies of several calls proceed round by round. Batches are noted before they are sent
(`batch_journal.py`): a kill at any moment loses no answer and pays for none twice. A request is
identified by its attempt, its ordinal and its content, so that a later try of the attempt finds its
batch or its result. Requests that a batch did not answer are retried by the caller, in a later
batch.

A call of a batch has no times, and the service tier "batch", which price sheets know.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from workbench.errors import ConfigError, ProviderRejected
from workbench.records import Call, content_id
from workbench.runner.batch.anthropic import AnthropicBatches
from workbench.runner.batch.api import BatchApi, Result, missing
from workbench.runner.batch.batch_client import BatchClient, Limits, Pending
from workbench.runner.batch.batch_journal import Note, Notes
from workbench.runner.batch.openai import OpenAIBatches
from workbench.runner.batch.wire import Wire
from workbench.runner.providers.anthropic import AnthropicMessages
from workbench.runner.providers.current_attempt import CURRENT_ATTEMPT, ORDINAL
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.openai_chat import OpenAIChat
from workbench.runner.providers.openai_responses import OpenAIResponses
from workbench.runner.providers.protocol import CallRefused, OnChunk, Reply, Request, StreamBroken


class Batches:
    """A provider that sends requests in batches.

    Attributes:
        timed: whether durations of its calls describe the model.
        client: sends the batches; its `states` hold their progress.
    """

    timed: ClassVar[bool] = False

    def __init__(
        self,
        provider: HttpProvider,
        api: BatchApi,
        spool_folder: Path,
        *,
        limits: Limits | None = None,
        settled: Iterable[tuple[str, str, int]] = (),
        active: Callable[[], int] | None = None,
        on_change: Callable[[], object] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the batches of earlier runs; nothing is sent yet.

        Args:
            provider: encodes requests, decodes replies, holds the key.
            api: the service's batch API.
            spool_folder: folder of notes and results.
            limits: when batches are sent.
            settled: attempts that need not be made again; the files of their batches are deleted.
            active: returns the number of attempts in flight; None sends after the first quiet time.
            on_change: called whenever the state of a batch changes.
            sleep: waits.
            clock: monotonic seconds.
        """
        self.name, self._provider, self._api = provider.name, provider, api
        self._notes, self._slots = Notes(spool_folder), set[str]()
        self.forget(settled)
        self.client = BatchClient(
            provider,
            api,
            self._notes,
            limits=limits or Limits(),
            active=active,
            on_change=on_change,
            sleep=sleep,
            clock=clock,
        )

    # -- a provider ------------------------------------------------------------------------------

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Reply:
        """Send a request in a batch, or find it in one of an earlier run, and wait for its result.

        Raises:
            CallRefused, StreamBroken: as for a request that is sent alone.
        """
        outgoing = self._provider.outgoing(request)
        path = str(self._provider.url(request)).removeprefix(self._provider.base)
        current = CURRENT_ATTEMPT.get()
        attempt = content_id(*current.key) if current is not None else ""
        custom_id = self._name(attempt, ORDINAL.get(), path, outgoing)
        line = self._api.line(custom_id, path, outgoing)
        try:
            note, result = await self.client.result(
                Pending(custom_id, attempt, (request.model, path), line)
            )
            reply = self._read(
                request, note, self._api.parse(result) if result is not None else None
            )
        except BaseException as error:
            self._slots.discard(custom_id)  # a retry is the same request
            if isinstance(error, StreamBroken):
                self.client.set_aside(custom_id)
            raise
        if on_chunk is not None and reply.text:
            on_chunk(reply.text)
        return reply

    async def count_tokens(self, text: str) -> int | None:
        """Count with the server's own tokenizer; None where it offers none."""
        return await self._provider.count_tokens(text)

    async def aclose(self) -> None:
        """Stop waiting; batches that were sent continue at the service."""
        await self.client.aclose()
        await self._provider.aclose()

    # -- descriptions for the user ---------------------------------------------------------------

    def describe(self) -> str:
        """Describe the progress of the batches in one line; "" where there are none."""
        parts = [str(state) for state in self.client.states.values()]
        if waiting := self.client.n_waiting:
            verb = "request waits" if waiting == 1 else "requests wait"
            parts.append(f"{waiting:,} {verb} for the next batch")
        return "; ".join(parts)

    def left_running(self) -> str:
        """Name the batches that continue at the service, and how to get them; "" for none."""
        sent = {s.batch_id: s.n for s in self.client.states.values() if s.batch_id}
        if not sent:
            return ""
        n = len(sent)
        n_requests = sum(sent.values())
        batches, go = ("batch", "goes") if n == 1 else ("batches", "go")
        return (
            f"{n:,} {batches} with {n_requests:,} requests {go} on at {self.name}:"
            f" {', '.join(sent)}; run the same command again to take in the answers"
        )

    def forget(self, settled: Iterable[tuple[str, str, int]]) -> None:
        """Delete the results of batches that no open attempt needs any more."""
        self._notes.forget_settled({content_id(*key) for key in settled})

    # -- requests --------------------------------------------------------------------------------

    def _name(self, attempt: str, ordinal: int | None, path: str, body: dict[str, Any]) -> str:
        """Return the id of a request, the same when its attempt is made again."""
        if ordinal is not None:
            return content_id(attempt, ordinal, path, body)
        place = 0  # without an ordinal, equal requests are distinguished by their order
        while (custom_id := content_id(attempt, None, path, body, place)) in self._slots:
            place += 1
        self._slots.add(custom_id)
        return custom_id

    def _read(self, request: Request, note: Note, result: Result | None) -> Reply:
        """Return the reply of a result, or raise its error."""
        about: dict[str, Any] = {
            "provider": self.name,
            "model": request.model,
            "started_at": note.created_at,
            "service_tier": "batch",
        }
        error = missing(note.status) if result is None else result.error
        if error is not None or result is None or result.body is None:
            reply = Reply(call=Call(**about))
            message = self._provider.redact(str(error))
            if isinstance(error, ProviderRejected):
                raise CallRefused(message, kind=error.kind, reply=reply)
            kind = error.kind if error is not None else "bad_response"
            raise StreamBroken(message, kind=kind, reply=reply)

        def with_batch_fields(reply: Reply) -> Reply:
            request_id = result.request_id or reply.call.request_id
            call = msgspec.structs.replace(reply.call, **about, request_id=request_id)
            return msgspec.structs.replace(reply, call=call, text_ends=(), text_times=())

        try:
            return with_batch_fields(self._provider.read(request, result.body))
        except (StreamBroken, CallRefused) as broken:  # paid for at batch prices too
            broken.reply = with_batch_fields(broken.reply)
            raise


def make(provider: HttpProvider, spool_folder: Path, **options: Any) -> Batches:
    """Wrap a provider so that it sends its requests in batches.

    Args:
        provider: as `registry.make` makes it.
        spool_folder: folder of notes and results.
        options: `limits`, `settled`, `active` … of `Batches`.

    Raises:
        ConfigError: its service has no batch API that is known here.
    """
    wire = Wire(provider)
    if isinstance(provider, OpenAIChat | OpenAIResponses):
        return Batches(provider, OpenAIBatches(wire), spool_folder, **options)
    if isinstance(provider, AnthropicMessages):
        return Batches(provider, AnthropicBatches(wire), spool_folder, **options)
    raise ConfigError(
        f"requests to {provider.name} cannot go out in batches; OpenAI's chat and responses and"
        " Anthropic's messages can; leave out batch"
    )
