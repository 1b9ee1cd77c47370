"""The connected models of a plan: one provider and one caller for each server."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.errors import ConfigError
from workbench.runner.execution.connect import POOL, Recordings, connect
from workbench.runner.limits import Caller
from workbench.runner.limits.progress import ModelState
from workbench.runner.planning.plan import Plan
from workbench.runner.planning.target import IN_PROCESS, LOCAL, Target
from workbench.runner.providers import chat_templates, services
from workbench.runner.providers.exchange import HttpProvider
from workbench.runner.providers.own import OwnProvider
from workbench.runner.providers.protocol import BegunTurns, Line, Provider

_START = 16  # initial limit on concurrent requests to a remote model
Batching = Callable[[HttpProvider], Provider]

if TYPE_CHECKING:
    from workbench.runner.batch import Batches
    from workbench.runner.energy.watch import Watch


class ConnectedModels:
    """Connects a plan's targets to providers; targets on one server share its slots.

    Attributes:
        callers: by `Target.place_id`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        provider: Provider | None = None,
        environ: Mapping[str, str] = os.environ,
        rng: random.Random,
        clock: Callable[[], float] = time.perf_counter,
        recordings: Recordings | None = None,
        batching: Batching | None = None,
        providers: Mapping[str, OwnProvider] = MappingProxyType({}),
    ) -> None:
        """Connect the models and helpers of a plan.

        Args:
            plan: names the targets and helpers.
            provider: serves all of them, if given.
            environ: where keys are looked up.
            rng: randomness of the jitter of waits.
            clock: monotonic seconds.
            recordings: reads the recording of a replay.
            batching: wraps a provider to send requests in batches; None sends them one by one.
            providers: classes of the user's providers, by endpoint.
        """
        self._plan = plan
        self._given = provider
        self._environ = environ
        self._rng = rng
        self._clock = clock
        self._recordings = recordings
        self._batching = batching
        self._own = providers
        self.callers: dict[str, Caller] = {}
        # fixed upper limits on concurrent requests, by place
        self._max_concurrency: dict[str, int] = {}
        self._providers: dict[str, Provider] = {}
        self._begun_turns: dict[str, BegunTurns] = {}
        self._helpers = {name: plan.helper(name) for name in plan.helpers}
        self.retries, self.timeout_s = plan.retries, plan.timeout_s
        for target in (*plan.targets, *self._helpers.values()):
            self._connect(target)

    def _connect(self, target: Target) -> None:
        place = target.place_id
        if place in self.callers:
            return
        takes_begun_turns = services.takes_begun_turns(target.provider_name, target.endpoint)
        self._begun_turns[place] = BegunTurns(target.endpoint in LOCAL or takes_begun_turns)
        key = target.api_key(self._environ) if self._given is None else None
        if key and key in self._plan.as_json():
            raise ConfigError(
                "the plan contains the API key itself; write the name of the environment variable"
                " that holds it"
            )
        if self._batching is not None and target.is_own:
            raise ConfigError(
                f"the provider {target.endpoint!r} is of your own and sends its requests itself, so"
                " that they cannot be put into batches; leave out batch"
            )
        provider = self._given or connect(target, key, self._recordings, self._own)
        is_batched = False
        if self._batching is not None and isinstance(provider, HttpProvider):
            provider = self._batching(provider)
            is_batched = True
        if self._given is None:
            self._providers[place] = provider
            if target.endpoint in LOCAL:  # the memory of its slots is allocated once
                self._max_concurrency[place] = target.concurrency
        at_once = is_batched or target.is_on_this_host or target.endpoint in IN_PROCESS
        self.callers[place] = Caller(
            provider,
            slots=POOL if is_batched else target.concurrency,
            backoff=self._plan.backoff,
            rng=self._rng,
            machine=target.machine,
            clock=self._clock,
            start=None if at_once else _START,
        )

    def line(self, target: Target, sampling: Mapping[str, Any]) -> Line:
        """Return the line to a model, with the sampling settings of one attempt."""
        caller = self.callers[target.place_id]
        render = chat_templates.get(target.template) if target.is_base_model else None
        endpoint = "completions" if target.is_base_model else target.endpoint
        return Line(
            target.model,
            caller.ask,
            caller.count_tokens,
            endpoint,
            {**target.sampling, **sampling},
            render,
            target.provider_name,
            self._begun_turns[target.place_id],
        )

    async def start(self) -> None:
        """Load the models that run in this process, so that no call waits for the loading."""
        for provider in self._providers.values():
            load = getattr(provider, "load", None)
            if load is not None:
                await asyncio.to_thread(load)

    def watch(self, target: Target, watch: "Watch") -> None:
        """Report the calls and engine steps of a model on this machine to its energy meters."""
        caller = self.callers[target.place_id]
        caller.watch = watch
        if hasattr(caller.provider, "on_step"):  # the local engine
            caller.provider.on_step = watch.step

    def is_timed(self, target: Target) -> bool:
        """Whether durations of calls describe the model; those of replays and batches do not."""
        return bool(getattr(self.callers[target.place_id].provider, "timed", True))

    @property
    def batches(self) -> "list[Batches]":
        """The providers that send their requests in batches."""
        providers: list[Any] = list(self._providers.values())
        return [p for p in providers if hasattr(p, "left_running")]

    @property
    def states(self) -> list[ModelState]:
        """The states of the models that have got requests so far."""
        return [state for caller in self.callers.values() for state in caller.states]

    def helpers(self, sampling: Mapping[str, Any]) -> dict[str, Line]:
        """Return the lines to the helper models, by name."""
        return {name: self.line(target, sampling) for name, target in self._helpers.items()}

    def retune(
        self,
        concurrency: int | None = None,
        retries: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Change limits during the run; None leaves one as it is, and calls in flight continue.

        A model in this process keeps its initial concurrency as the upper limit.
        """
        for place, caller in self.callers.items():
            if concurrency is not None:
                caller.resize(min(concurrency, self._max_concurrency.get(place, concurrency)))
            if retries is not None:
                caller.backoff = msgspec.structs.replace(caller.backoff, retries=retries)
        if timeout_s is not None:
            for provider in (self._given, *self._providers.values()):
                retime = getattr(provider, "retime", None)  # replays and batches have no timeout
                if retime is not None:
                    retime(timeout_s)
        self.retries = self.retries if retries is None else retries
        self.timeout_s = self.timeout_s if timeout_s is None else timeout_s

    async def aclose(self) -> None:
        """Close the connections that were made here."""
        for provider in self._providers.values():
            await provider.aclose()
