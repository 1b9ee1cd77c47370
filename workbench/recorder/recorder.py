"""The recorder: puts forwarded calls together to traces, and writes these to the spool.

A thread does it, so that a long prompt delays no reply. A conversation is written again as it
grows: after its first call, whenever it has a quarter more calls than were written, every minute,
and at the end. So the spool holds a few times its size, and a kill loses a quarter of its calls at
most. The store keeps the longest.
"""

import contextlib
import datetime as dt
import queue
import threading
import time
from collections.abc import Callable

import msgspec

from workbench.recorder import requests
from workbench.recorder.conversations import Conversation, RecordedCall, Recording
from workbench.recorder.proxy import ForwardedCall
from workbench.records import AnyRecord, Run
from workbench.spool import SpoolWriter

_WRITE_EVERY_S = 60.0
_GROWTH = 1.25


class Recorder:
    """Writes the traces of one recording; use it as a context manager.

    Attributes:
        recording: the conversations so far.
        n_failed: calls that brought no answer.
        n_without_usage: calls that were answered without token counts.
        faults: what went wrong in the recorder itself, in words.
    """

    def __init__(
        self,
        recording: Recording,
        spool: SpoolWriter,
        run: Run,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            recording: an empty one.
            spool: where its traces go.
            run: the record of the run, without an end.
            clock: monotonic seconds.
        """
        self.recording = recording
        self.n_failed = 0
        self.n_without_usage = 0
        self.faults: list[str] = []
        self._spool, self._run, self._clock = spool, run, clock
        self._calls: queue.SimpleQueue[ForwardedCall | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder")
        self._grown: dict[int, Conversation] = {}  # since they were written
        self._written: dict[int, tuple[int, float]] = {}  # conversation → (calls, time)

    def take(self, call: ForwardedCall) -> None:
        """Take a call; it is recorded by the thread."""
        self._calls.put(call)

    def __enter__(self) -> "Recorder":
        """Write the run, and start."""
        self._spool.append(self._run)
        self._spool.append(self.recording.task)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, and the end of the run."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (call := self._next()) is not None:
            try:
                self._record(call)
            except Exception as fault:  # noqa: BLE001  # the calls that follow are recorded
                self._note(f"a call could not be recorded ({type(fault).__name__}: {fault})")
            self._write_grown()
        self._write_grown(all_of_them=True)
        ended = msgspec.structs.replace(self._run, ended_at=dt.datetime.now(dt.UTC), status="done")
        self._offer(ended)

    def _next(self) -> ForwardedCall | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._calls.get(timeout=_WRITE_EVERY_S)
            self._write_grown()

    def _record(self, forwarded: ForwardedCall) -> None:
        request = requests.read(forwarded.request)
        request = request._replace(model=self.recording.clean(request.model))
        call = msgspec.structs.replace(
            forwarded.call, model=request.model, effort_sent=request.effort_sent
        )
        reply = msgspec.structs.replace(forwarded.reply, call=call)
        conversation = self.recording.add(RecordedCall(request, reply, forwarded.ended_at))
        self._grown[conversation.number] = conversation
        self.n_failed += call.error_type is not None
        self.n_without_usage += call.error_type is None and call.usage is None

    def _write_grown(self, *, all_of_them: bool = False) -> None:
        """Write the conversations that have grown enough since they were written."""
        now = self._clock()
        for number, conversation in list(self._grown.items()):
            n_written, at = self._written.get(number, (0, now))
            n_calls = conversation.n_calls
            if n_calls >= n_written * _GROWTH or now - at >= _WRITE_EVERY_S or all_of_them:
                self._written[number] = (n_calls, now)
                del self._grown[number]
                self._write(conversation)

    def _write(self, conversation: Conversation) -> None:
        for record in conversation.records(self.recording):
            self._offer(record)

    def _offer(self, record: AnyRecord) -> None:
        if (refused := self._spool.offer(record)) is not None:
            self._note(str(refused))

    def _note(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
