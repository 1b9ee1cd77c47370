"""The models of a plan, connected: a provider for each place, a caller for each provider."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
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
from workbench.runner.providers.protocol import BegunTurns, Line, Provider

_START = 16  # requests at once that a model far away begins with
Batching = Callable[[HttpProvider], Provider]

if TYPE_CHECKING:
    from workbench.runner.batch import Batches
    from workbench.runner.energy.watch import Watch


class ConnectedModels:
    """Makes the way from an attempt to its models; what shares a place shares its slots and connections.

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
    ) -> None:
        """Connect the models and helpers of a plan.

        Args:
            plan: says which.
            provider: serves all of them, if given.
            environ: where keys are looked up.
            rng: for the jitter of waits.
            clock: monotonic seconds.
            recordings: reads what a replay answers from.
            batching: sends requests in batches, where the plan wants that.
        """
        self._plan, self._given, self._environ = plan, provider, environ
        self._rng, self._clock = rng, clock
        self._recordings, self._batching = recordings, batching
        self.callers: dict[str, Caller] = {}
        self._most: dict[
            str, int
        ] = {}  # requests at once that a place can serve, however many are wanted
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
        taken = services.takes_begun_turns(target.provider_name, target.endpoint)
        self._begun_turns[place] = BegunTurns(target.endpoint in LOCAL or taken)
        key = target.api_key(self._environ) if self._given is None else None
        if key and key in self._plan.as_json():
            raise ConfigError(
                "the plan holds the key itself; only its variable's name belongs there"
            )
        provider = self._given or connect(target, key, self._recordings)
        waits = False  # for a batch: then as many as can go into it are under way
        if self._batching is not None and isinstance(provider, HttpProvider):
            provider, waits = self._batching(provider), True
        if self._given is None:
            self._providers[place] = provider
            if target.endpoint in LOCAL:  # the memory of its slots is laid out once
                self._most[place] = target.concurrency
        at_once = waits or target.is_on_this_host or target.endpoint in IN_PROCESS
        self.callers[place] = Caller(
            provider,
            slots=POOL if waits else target.concurrency,
            backoff=self._plan.backoff,
            rng=self._rng,
            machine=target.machine,
            clock=self._clock,
            start=None if at_once else _START,
        )

    def line(self, target: Target, sampling: Mapping[str, Any]) -> Line:
        """Return the way to a model, with the settings of one attempt."""
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
        """Load the models that run in this process, so that no call waits for it."""
        for provider in self._providers.values():
            load = getattr(provider, "load", None)
            if load is not None:
                await asyncio.to_thread(load)

    def watch(self, target: Target, watch: "Watch") -> None:
        """Tell the meters of this machine when a model that runs on it is asked, and what it works on."""
        caller = self.callers[target.place_id]
        caller.watch = watch
        if hasattr(caller.provider, "on_step"):  # an engine of ours
            caller.provider.on_step = watch.step

    def is_timed(self, target: Target) -> bool:
        """Say whether the times of a model's calls say anything about it: a replay's and a batch's do not."""
        return bool(getattr(self.callers[target.place_id].provider, "timed", True))

    @property
    def batches(self) -> "list[Batches]":
        """Those of the providers that send batches."""
        return [p for p in self._providers.values() if hasattr(p, "left_running")]  # type: ignore[misc]  # only they have it

    @property
    def states(self) -> list[ModelState]:
        """How the models stand that were asked so far."""
        return [state for caller in self.callers.values() for state in caller.states]

    def helpers(self, sampling: Mapping[str, Any]) -> dict[str, Line]:
        """Return the ways to the helper models."""
        return {name: self.line(target, sampling) for name, target in self._helpers.items()}

    def retune(
        self,
        concurrency: int | None = None,
        retries: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Change limits while calls are under way; None leaves one as it is. Those under way go on.

        A model in this process never takes more at once than it began with.
        """
        for place, caller in self.callers.items():
            if concurrency is not None:
                caller.resize(min(concurrency, self._most.get(place, concurrency)))
            if retries is not None:
                caller.backoff = msgspec.structs.replace(caller.backoff, retries=retries)
        if timeout_s is not None:
            for provider in (self._given, *self._providers.values()):
                retime = getattr(provider, "retime", None)  # a replay and a batch have no such cap
                if retime is not None:
                    retime(timeout_s)
        self.retries = self.retries if retries is None else retries
        self.timeout_s = self.timeout_s if timeout_s is None else timeout_s

    async def aclose(self) -> None:
        """Let go of the connections that were made here."""
        for provider in self._providers.values():
            await provider.aclose()
