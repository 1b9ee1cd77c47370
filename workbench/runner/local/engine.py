"""The engine of local models: continuous batching of sequences in a thread of its own.

A step either reads prompts (prefill) or gives every running sequence its next token (decode).
Waiting requests are read as soon as a slot is free, several short ones together and a long one in
parts, with a decode step after each part, so that running sequences are not delayed for long. Where
memory runs out, the number of slots is reduced; no answer is lost.
"""

import collections
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicCache

from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.local import device as devices
from workbench.runner.local import sampling
from workbench.runner.local.loading import Loaded
from workbench.runner.local.sequence import Deliver, Sequence
from workbench.runner.local.slots import SlotCache

_PREFILL_TOKENS = {"cpu": 512, "cuda": 2048, "mps": 1024}  # read at once


class Step(NamedTuple):
    """What the device worked on at one time.

    Attributes:
        begin_s, end_s: on `time.perf_counter`'s clock; the device had finished.
        work: (key of the call, prefill | thinking | answer, tokens) of each sequence. A decode step
            reads one token of each: the output token before the one that it chooses, which gives it
            its phase.
    """

    begin_s: float
    end_s: float
    work: tuple[tuple[str, str, int], ...]


OnStep = Callable[[Step], None]


class _Prefill:
    """Prompts that are being read together."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self.sequences = sequences
        self.inputs = [s.input for s in sequences]
        self.cache = DynamicCache()
        self.done = 0

    @property
    def width(self) -> int:
        return max(map(len, self.inputs))


class Engine:
    """Runs one model for many sequences at once.

    Attributes:
        slots: most sequences at once.
        limit: as many as memory has allowed so far; grows back by one for each round that went
            well.
        on_step: called by the engine's thread after each step.
        n_out_of_memory: how often memory ran out.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        slots: int = 8,
        prefill_tokens: int | None = None,
        cache_bytes: int | None = None,
        threads: int | None = None,
        on_step: OnStep | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare; the thread starts with the first sequence."""
        self.slots = self.limit = slots
        self.on_step = on_step
        self.n_out_of_memory = 0
        self._loaded, self._threads, self._clock = loaded, threads, clock
        self._cache = SlotCache(slots=slots, limit_bytes=cache_bytes)
        self._prefill_tokens = prefill_tokens or _PREFILL_TOKENS[loaded.device]
        self._waiting: collections.deque[Sequence] = collections.deque()
        self._running: list[Sequence] = []  # by row of the cache
        self._prefill: _Prefill | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._since_shortage = 0

    @property
    def active(self) -> int:
        """Sequences that hold a slot."""
        prefill = self._prefill
        return len(self._running) + (len(prefill.sequences) if prefill is not None else 0)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a slot."""
        return len(self._waiting)

    def submit(self, *sequences: Sequence) -> None:
        """Queue sequences; they are delivered step by step, and last with a stop reason.

        Those that are submitted together to an idle engine are read together.
        """
        with self._wake:
            if self._closed:
                raise ProviderUnavailable("the local engine was closed", kind="closed")
            self._waiting.extend(sequences)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="local-engine", daemon=True)
                self._thread.start()
            self._wake.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence before the next step."""
        with self._wake:
            sequence.cancelled = True
            self._wake.notify()

    def close(self) -> None:
        """End the thread after its step; sequences under way fail."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        error: BaseException = ProviderUnavailable("the local engine was closed", kind="closed")
        try:
            while self._has_work():
                with torch.inference_mode():
                    self._step()
        except BaseException as fault:  # noqa: BLE001  # every caller gets it
            error = fault
        with self._wake:
            self._closed = True
            unfinished = [*self._in_slots(), *self._waiting]
            self._running, self._prefill = [], None
            self._waiting.clear()
        self._cache.clear()
        for sequence in unfinished:
            sequence.end("error", self._clock(), error)
        self._deliver(unfinished)

    def _has_work(self) -> bool:
        """Wait for work; returns False once closed."""
        with self._wake:
            while not self._closed and not self._waiting and not self.active:
                self._wake.wait()
            return not self._closed

    def _step(self) -> None:
        """Remove cancelled sequences, read waiting prompts, then decode one token of each."""
        self._drop_cancelled()
        shortage: str | None = None
        try:
            self._read()
            if self._running:
                self._write()
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            shortage = " ".join(str(error).split())[:300]
        if shortage is not None:  # outside of the handler: a traceback holds tensors
            self._make_room(shortage)

    def _read(self) -> None:
        """Read at most `prefill_tokens` of the prompts; the last part samples the first tokens."""
        if self._prefill is None:
            self._prefill = self._admit()
        prefill = self._prefill
        if prefill is None:
            return
        begin_s = self._clock()
        upto = min(prefill.done + self._prefill_tokens, prefill.width)
        if len(prefill.sequences) > 1:
            upto = prefill.width
        last = self._forward_prompt(prefill, upto)
        is_whole = upto == prefill.width
        chosen = self._choose(last, prefill.sequences) if is_whole else None
        if chosen is None:
            devices.synchronize(self._loaded.device)
        else:
            self._cache.join(prefill.cache, [len(i) for i in prefill.inputs])
        end_s = self._clock()
        work = []
        for sequence, tokens in zip(prefill.sequences, prefill.inputs, strict=True):
            part = len(tokens) if len(prefill.sequences) > 1 else upto - prefill.done
            sequence.prefill_s += end_s - begin_s
            sequence.n_prefilled += part
            work.append((sequence.key, "prefill", part))
        prefill.done = upto
        if chosen is not None:
            self._running += prefill.sequences
            self._prefill = None
            self._take(prefill.sequences, chosen, end_s)
        self._tell(begin_s, end_s, work)
        if chosen is not None:
            self._deliver(prefill.sequences)

    def _admit(self) -> _Prefill | None:
        """Take from the queue what fits into the free slots and into one reading."""
        taken: list[Sequence] = []
        free, width = self.limit - len(self._running), 0
        with self._wake:
            while self._waiting and len(taken) < free:
                wide = max(width, len(self._waiting[0].input))
                if taken and wide * (len(taken) + 1) > self._prefill_tokens:
                    break
                width = wide
                taken.append(self._waiting.popleft())
        now = self._clock()
        for sequence in taken:
            sequence.admitted_s = sequence.admitted_s or now
        return _Prefill(taken) if taken else None

    def _forward_prompt(self, prefill: _Prefill, upto: int) -> Any:
        """Run the model over some prompts, padded on the left; returns the last logits."""
        width, begin = prefill.width, prefill.done
        pads = [width - len(i) for i in prefill.inputs]
        rows = [[0] * p + i for p, i in zip(pads, prefill.inputs, strict=True)]
        ids = torch.tensor([r[begin:upto] for r in rows])
        columns = torch.arange(upto)[None]
        starts = torch.tensor(pads)[:, None]
        positions = (columns[:, begin:] - starts).clamp(min=0)
        mask = (columns >= starts).long() if any(pads) else None
        return self._forward(ids, mask, positions, prefill.cache)

    def _write(self) -> None:
        """Choose the next token of every running sequence."""
        begin_s = self._clock()
        running = list(self._running)
        self._cache.reserve()
        mask, positions = self._cache.inputs(self._loaded.device)
        ids = torch.tensor([[s.tokens[-1]] for s in running])
        logits = self._forward(ids, mask, positions, self._cache)
        work = [(s.key, s.phase, 1) for s in running]
        chosen = self._choose(logits, running)
        self._cache.end += 1
        end_s = self._clock()
        self._take(running, chosen, end_s)
        self._tell(begin_s, end_s, work)
        self._deliver(running)

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
        """Run the model; returns the logits of the last column, (rows, vocabulary)."""
        model, where = self._loaded.model, self._loaded.device
        inputs = {
            "position_ids": positions.to(where, non_blocking=True),
            "attention_mask": None if mask is None else mask.to(where, non_blocking=True),
            "logits_to_keep": 1,
        }
        inputs = {name: value for name, value in inputs.items() if name in self._loaded.forward}
        out = model(
            input_ids=ids.to(where, non_blocking=True),
            past_key_values=cache,
            use_cache=True,
            **inputs,
        )
        return out.logits[:, -1]

    @staticmethod
    def _choose(logits: Any, sequences: list[Sequence]) -> sampling.Choice:
        return sampling.choose(
            logits,
            [s.sampling for s in sequences],
            [s.draw() for s in sequences],
            [s.forced for s in sequences],
        )

    def _take(self, sequences: list[Sequence], chosen: sampling.Choice, at_s: float) -> None:
        for sequence, token, logprob in zip(sequences, *chosen, strict=True):
            sequence.take(token, logprob, at_s)
        self._release()

    def _release(self) -> None:
        """Free the rows of what has ended; memory that held so long may hold one more."""
        for row in range(len(self._running) - 1, -1, -1):
            if not self._running[row].has_ended:
                continue
            self._cache.leave(row)
            self._running[row] = self._running[-1]
            self._running.pop()
            self._since_shortage += 1
            if self.limit < self.slots and self._since_shortage >= self.slots:
                self.limit, self._since_shortage = self.limit + 1, 0

    def _drop_cancelled(self) -> None:
        now = self._clock()
        with self._wake:
            waiting = [s for s in self._waiting if not s.cancelled]
            gone = [s for s in self._waiting if s.cancelled]
            if gone:
                self._waiting = collections.deque(waiting)
        for sequence in gone + [s for s in self._in_slots() if s.cancelled]:
            sequence.end("error", now)
        self._release()
        prefill = self._prefill
        if prefill is not None and any(s.cancelled for s in prefill.sequences):
            self._prefill = None  # read the others anew
            with self._wake:
                self._waiting.extendleft(s for s in reversed(prefill.sequences) if not s.cancelled)

    def _make_room(self, reason: str) -> None:
        """Halve the slots; the newest sequences wait, and go on later from where they were.

        All memory is let go first, since an allocation may have failed half-way: the oldest are
        read once more, with what they have written.
        """
        self.n_out_of_memory += 1
        self._since_shortage = 0
        in_slots = sorted(self._in_slots(), key=lambda s: (s.admitted_s or 0.0, s.submitted_s))
        self._running, self._prefill = [], None
        self._cache.clear()
        devices.give_back(self._loaded.device)
        self.limit = max(1, min(self.limit, len(in_slots)) // 2)
        if len(in_slots) == 1:
            tokens = len(in_slots[0].input)
            cause = ProviderRejected(
                f"the memory of {self._loaded.device} does not hold one sequence of {tokens} tokens"
                f" ({reason}); shorten the prompt, lower max_tokens, or take a smaller model or"
                " precision",
                kind="out_of_memory",
            )
            return self._fail(in_slots[0], cause)
        with self._wake:
            self._waiting.extendleft(reversed(in_slots))
        return None

    def _in_slots(self) -> Iterator[Sequence]:
        yield from self._running
        if self._prefill is not None:
            yield from self._prefill.sequences

    def _fail(self, sequence: Sequence, error: BaseException) -> None:
        sequence.end("error", self._clock(), error)
        self._deliver([sequence])

    @staticmethod
    def _deliver(sequences: list[Sequence]) -> None:
        """Deliver a step's tokens after reporting it, so that an ended call has all its steps."""
        groups: dict[Deliver, list[Sequence]] = {}
        for sequence in sequences:
            groups.setdefault(sequence.deliver, []).append(sequence)
        for deliver, group in groups.items():
            try:
                deliver(group)
            except RuntimeError:  # the event loop of their callers is gone
                for sequence in group:
                    sequence.cancelled = True

    def _tell(self, begin_s: float, end_s: float, work: list[tuple[str, str, int]]) -> None:
        if self.on_step is not None:
            self.on_step(Step(begin_s, end_s, tuple(work)))
