"""The client of a batch API: collects requests into batches, polls them and hands out the results.

Each batch is recorded before it is sent; see `batch_journal.py`. A batch is polled until it has
ended; its results are written to the disk before they are handed out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.records import content_id
from workbench.runner.batch.api import BatchApi, BatchState, Result, Undecided
from workbench.runner.batch.batch_journal import Note, Notes, Stored
from workbench.runner.providers.exchange import HttpProvider


class Limits(msgspec.Struct, frozen=True):
    """When a batch is sent, and how often it is polled.

    Attributes:
        quiet_s: seconds without a new request before a batch is sent.
        most_wait_s: most seconds that requests wait for attempts without one.
        poll_s, most_poll_s: first and longest wait between two polls; it grows by half each time.
        sends: most tries to send a batch that the service refuses for a temporary reason.
        most_requests, most_bytes: of a batch, where that is less than the service takes.
    """

    quiet_s: float = 2.0
    most_wait_s: float = 60.0
    poll_s: float = 5.0
    most_poll_s: float = 120.0
    sends: int = 5
    most_requests: int = 50_000
    most_bytes: int = 100_000_000


class State(msgspec.Struct, frozen=True):
    """Progress of one batch.

    Attributes:
        batch_id: the service's id; "" until it is known.
        n: requests in it; `n_done` have ended, `n_failed` of them without an answer.
    """

    batch_id: str
    status: str
    n: int
    n_done: int = 0
    n_failed: int = 0

    def __str__(self) -> str:
        """Format it in a few words."""
        failed = f", {self.n_failed:,} failed" if self.n_failed else ""
        name = self.batch_id or "a batch"
        return f"{name} {self.status}: {self.n_done:,} of {self.n:,} done{failed}"


class Pending:
    """A request whose result a caller awaits."""

    def __init__(self, custom_id: str, attempt: str, group: tuple[str, str], line: bytes) -> None:
        self.custom_id, self.attempt, self.group, self.line = custom_id, attempt, group, line
        # the note of its batch, and the line of its result; None where the batch has none for it
        self.future: asyncio.Future[tuple[Note, bytes | None]] = (
            asyncio.get_running_loop().create_future()
        )


class BatchClient:
    """Sends requests and waits for their results.

    Attributes:
        states: progress of the unfinished batches, by label.
        active: returns the number of attempts in flight; None sends after the first `quiet_s`.
    """

    def __init__(
        self,
        provider: HttpProvider,
        api: BatchApi,
        notes: Notes,
        *,
        limits: Limits,
        active: Callable[[], int] | None,
        on_change: Callable[[], object] | None,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        """Load the notes of this service from earlier runs; nothing is sent yet."""
        self.states: dict[str, State] = {}
        self._provider, self._api, self._notes, self._limits = provider, api, notes, limits
        self.active, self._on_change, self._sleep, self._clock = active, on_change, sleep, clock
        self._known: dict[str, Note] = {}
        self._labels: dict[str, str] = {}  # custom id → the batch that it is or will be in
        self._stored: dict[str, tuple[Note, Stored]] = {}
        self._pending: dict[str, Pending] = {}
        self._waiting: dict[str, Pending] = {}
        self._fresh = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.take_up()

    def take_up(self) -> None:
        """Load new notes of this service, such as those of a collector that has died."""
        for note in self._notes:
            is_ours = (note.kind, note.base) == (self._api.kind, self._provider.base)
            if not is_ours or note.label in self._known:
                continue
            self._known[note.label] = note
            if note.is_ended:
                self._index(note)
            else:
                self._labels |= dict.fromkeys(note.custom_ids, note.label)

    @property
    def n_waiting(self) -> int:
        """Count the requests that are not in a batch yet."""
        return len(self._waiting)

    async def aclose(self) -> None:
        """Stop waiting; batches that were sent continue at the service."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def result(self, pending: Pending) -> tuple[Note, bytes | None]:
        """Wait for the result of a request, sent now or by an earlier run.

        Returns:
            The note of its batch, and its result line (None where the batch has none for it).
        """
        custom_id = pending.custom_id
        if custom_id in self._stored:
            note, stored = self._stored[custom_id]
            return note, await asyncio.to_thread(stored.read)
        self._pending[custom_id] = pending
        label = self._labels.get(custom_id)
        if label is None:
            self._wait(pending)
        else:
            self._task(label, lambda: self._follow(self._known[label]))
        try:
            return await pending.future
        finally:
            if self._pending.get(custom_id) is pending:
                del self._pending[custom_id]
            if self._waiting.get(custom_id) is pending:
                del self._waiting[custom_id]

    def set_aside(self, custom_id: str) -> None:
        """Discard a result that is no answer; the request's next try goes into another batch."""
        self._stored.pop(custom_id, None)
        self._labels.pop(custom_id, None)

    def _wait(self, pending: Pending) -> None:
        self._waiting[pending.custom_id] = pending
        self._fresh.set()
        self._task("", self._gather)

    def _task(self, name: str, work: Callable[[], Any]) -> None:
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.create_task(self._guard(name, work))

    async def _guard(self, name: str, work: Callable[[], Any]) -> None:
        """Pass the error that ends a task to the waiting requests, which would hang without it."""
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # passed to the waiting requests
            note = self._known.get(name)
            custom_ids = self._pending.keys() if note is None else note.custom_ids
            for custom_id in list(custom_ids):
                self._fail(custom_id, error)

    def _fail(self, custom_id: str, error: Exception) -> None:
        pending = self._pending.get(custom_id)
        if pending is not None and not pending.future.done():
            pending.future.set_exception(error)

    # -- sending ---------------------------------------------------------------------------------

    async def _gather(self) -> None:
        """Send the waiting requests whenever no attempt can continue without a result."""
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            await self._quiet()
            waiting, self._waiting = self._waiting, {}
            for group in self._cut(waiting.values()):
                self._note(group)

    async def _quiet(self) -> None:
        """Wait until all attempts wait for a result, or a batch is full."""
        start_s = self._clock()
        while True:
            before = len(self._waiting)
            if before >= self._most_requests:
                return
            await self._sleep(self._limits.quiet_s)
            if len(self._waiting) != before:
                continue
            attempts = {p.attempt or p.custom_id for p in self._pending.values()}
            idle = self.active is None or len(attempts) >= self.active()
            if idle or self._clock() - start_s >= self._limits.most_wait_s:
                return

    @property
    def _most_requests(self) -> int:
        return min(self._limits.most_requests, self._api.most_requests)

    def _cut(self, waiting: Iterable[Pending]) -> Iterator[list[Pending]]:
        """Divide the waiting requests into batches of one model and path, none too long."""
        most_bytes = min(self._limits.most_bytes, self._api.most_bytes)
        groups: dict[tuple[str, str], list[Pending]] = {}
        for pending in waiting:
            groups.setdefault(pending.group, []).append(pending)
        for group in groups.values():
            batch: list[Pending] = []
            size = 0
            for pending in group:
                size += len(pending.line) + 1
                if batch and (len(batch) >= self._most_requests or size > most_bytes):
                    yield batch
                    batch = []
                    size = len(pending.line) + 1
                batch.append(pending)
            yield batch

    def _note(self, group: list[Pending]) -> None:
        """Make the note of a batch, and a task that sends and polls it."""
        now, (model, path) = self._provider.now(), group[0].group
        ids = [p.custom_id for p in group]
        note = Note(
            label=content_id(now.isoformat(), ids),
            kind=self._api.kind,
            base=self._provider.base,
            path=path,
            model=model,
            created_at=now,
            custom_ids=ids,
            attempts=[p.attempt for p in group],
        )
        self._known[note.label] = note
        self._labels |= dict.fromkeys(ids, note.label)
        lines = [p.line for p in group]
        self._task(note.label, lambda: self._send(note, lines))

    async def _send(self, note: Note, lines: list[bytes]) -> None:
        """Write the note, send the batch, add its id to the note, and poll it."""
        await asyncio.to_thread(self._notes.write, note)
        self._move(note, State("", "being sent", len(note.custom_ids)))
        wait = self._limits.poll_s
        sends = 0
        while True:
            sends += 1
            state = await self._submitted(note, lines)
            if isinstance(state, BatchState):
                await self._name(note, state)
                return
            if isinstance(state, ProviderRejected) or sends >= self._limits.sends:
                break
            await self._sleep(max(wait, state.retry_after_s or 0.0))
            wait = self._longer(wait)
        self._void(note)
        for custom_id in note.custom_ids:
            self._fail(custom_id, state)

    async def _submitted(self, note: Note, lines: list[bytes]) -> BatchState | ProviderError:
        """Send a batch once; an error is returned where the service certainly did not make it."""
        try:
            return await self._api.submit(note, lines)
        except ProviderRejected as error:
            return error
        except ProviderUnavailable as error:
            batch_id = await self._find(note)  # it may have been made in spite of the error
            return error if batch_id is None else await self._poll(batch_id)

    async def _find(self, note: Note) -> str | None:
        """Ask the service for a batch until it tells whether there is one; returns its id."""
        wait = self._limits.poll_s
        while True:
            others = {n.batch_id for n in self._known.values() if n.batch_id and n is not note}
            try:
                return await self._api.find(note, others)
            except (Undecided, ProviderUnavailable):
                self._move(note, State("", "not known to have been made", len(note.custom_ids)))
            await self._sleep(wait)
            wait = self._longer(wait)

    def _longer(self, wait: float) -> float:
        return min(wait * 1.5, self._limits.most_poll_s)

    async def _name(self, note: Note, state: BatchState) -> None:
        """Write the service's id of a batch to its note, and poll it."""
        note.batch_id, note.status = state.batch_id, state.status
        note.created_at = state.created_at or note.created_at
        await asyncio.to_thread(self._notes.write, note)
        self._look(note, state)
        await self._follow(note)

    # -- following -------------------------------------------------------------------------------

    async def _follow(self, note: Note) -> None:
        """Wait for a batch to end, store its results, and hand them out."""
        if note.batch_id is None:
            batch_id = await self._find(note)
            if batch_id is None:
                self._send_again(note)
            else:
                await self._name(note, await self._poll(batch_id))
            return
        batch_id = note.batch_id
        wait = self._limits.poll_s
        while not (state := await self._poll(batch_id)).ended:
            self._look(note, state)
            await self._sleep(wait)
            wait = self._longer(wait)
        note.status = state.status
        await self._store(note, batch_id)
        self._hand_out(note)
        self._move(note, None)

    async def _poll(self, batch_id: str) -> BatchState:
        """Read a batch's state; a service that does not answer is asked again without limit."""
        wait = self._limits.poll_s
        while True:
            try:
                return await self._api.poll(batch_id)
            except ProviderUnavailable as error:
                await self._sleep(max(wait, error.retry_after_s or 0.0))
                wait = self._longer(wait)
            except ProviderRejected as error:
                raise ProviderRejected(
                    f"{error}; the batch {batch_id} was sent, and its answers may be paid for: it"
                    f" is noted in {self._notes.folder}",
                    kind="batch_unknown" if error.kind == "http_404" else error.kind,
                ) from None

    async def _store(self, note: Note, batch_id: str) -> None:
        wait = self._limits.poll_s
        while True:
            try:
                return await self._notes.store(note, self._clean(self._api.results(batch_id)))
            except ProviderUnavailable:
                await self._sleep(wait)
                wait = self._longer(wait)

    async def _clean(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Redact the key in a service's lines before they are written to the disk."""
        async for line in lines:
            yield self._provider.redact(line.decode("utf-8", "replace")).encode()

    def _hand_out(self, note: Note) -> None:
        """Give the results to the waiting requests; one without a result may be sent again."""
        results = self._index(note)
        for custom_id in note.custom_ids:
            if custom_id not in self._stored:
                self._labels.pop(custom_id, None)
            pending = self._pending.get(custom_id)
            if pending is not None and not pending.future.done():
                pending.future.set_result(
                    (note, results[custom_id].read() if custom_id in results else None)
                )

    def _index(self, note: Note) -> dict[str, Stored]:
        """Index the results of an ended batch; final ones are stored for later requests."""
        results: dict[str, Stored] = {}
        for stored, line in self._notes.results(note):
            result = self._api.parse(line)
            for custom_id in _custom_ids(note, result):
                results.setdefault(custom_id, stored)
                if result is not None and not isinstance(result.error, ProviderUnavailable):
                    self._stored[custom_id] = (note, stored)
        return results

    def _void(self, note: Note) -> None:
        """Delete the note of a batch that was certainly never made."""
        self._notes.forget(note)
        self._known.pop(note.label, None)
        self._move(note, None)
        for custom_id in note.custom_ids:
            self._labels.pop(custom_id, None)

    def _send_again(self, note: Note) -> None:
        self._void(note)
        for custom_id in note.custom_ids:
            if custom_id in self._pending:
                self._wait(self._pending[custom_id])

    def _look(self, note: Note, state: BatchState) -> None:
        n = len(note.custom_ids)
        self._move(note, State(state.batch_id, state.status, n, state.n_done, state.n_failed))

    def _move(self, note: Note, state: State | None) -> None:
        before = self.states.get(note.label)
        if state is None:
            self.states.pop(note.label, None)
        else:
            self.states[note.label] = state
        if before != state and self._on_change is not None:
            self._on_change()


def _custom_ids(note: Note, result: Result | None) -> Collection[str]:
    """Return the requests of a result: one; for "#" all of the batch, for "#3" its third."""
    if result is None:
        return ()
    if not result.custom_id.startswith("#"):
        return (result.custom_id,)
    place = result.custom_id[1:]
    if not place:
        return note.custom_ids
    return note.custom_ids[int(place) - 1 : int(place)] if place.isdecimal() and int(place) else ()
