"""The models of a plan, connected: a provider for each place, a caller for each provider."""

import os
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.errors import ConfigError
from workbench.runner import templates
from workbench.runner.limits import Caller
from workbench.runner.plan import Plan
from workbench.runner.progress import ModelState
from workbench.runner.session import Line, Provider
from workbench.runner.target import IN_PROCESS, Target

_START = 16  # requests at once that a model far away begins with
_POOL = 10_000  # connections: the caller's slots are the limit, and may be raised while it runs

if TYPE_CHECKING:
    from workbench.runner.energy.watch import Watch


class Fleet:
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
    ) -> None:
        """Connect the models and helpers of a plan; `provider`, if given, serves all of them."""
        self._plan, self._given, self._environ = plan, provider, environ
        self._rng, self._clock = rng, clock
        self.callers: dict[str, Caller] = {}
        self._providers: dict[str, Provider] = {}
        self._helpers = {name: plan.helper(name) for name in plan.helpers}
        self.retries, self.timeout_s = plan.retries, plan.timeout_s
        for target in (*plan.targets, *self._helpers.values()):
            self._connect(target)

    def _connect(self, target: Target) -> None:
        place = target.place_id
        if place in self.callers:
            return
        key = target.api_key(self._environ) if self._given is None else None
        if key and key in self._plan.as_json():
            raise ConfigError(
                "the plan holds the key itself; only its variable's name belongs there"
            )
        provider = self._given or make_provider(target, key)
        if self._given is None:
            self._providers[place] = provider
        self.callers[place] = Caller(
            provider, slots=target.concurrency, backoff=self._plan.backoff, rng=self._rng,
            machine=target.machine, clock=self._clock,
            start=None if target.is_on_this_host or target.endpoint in IN_PROCESS else _START,
        )  # fmt: skip

    def line(self, target: Target, sampling: Mapping[str, Any]) -> Line:
        """Return the way to a model, with the settings of one attempt."""
        caller = self.callers[target.place_id]
        render = templates.get(target.template) if target.endpoint == "completions" else None
        return Line(
            target.model, caller.ask, caller.count_tokens, target.endpoint,
            {**target.sampling, **sampling}, render,
        )  # fmt: skip

    def watch(self, target: Target, watch: "Watch") -> None:
        """Tell the meters of this machine when a model that runs on it is asked, and what it works on."""
        caller = self.callers[target.place_id]
        caller.watch = watch
        if hasattr(caller.provider, "on_step"):  # an engine of ours
            caller.provider.on_step = watch.step

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
        """Change limits while calls are under way; None leaves one as it is. Those under way go on."""
        for caller in self.callers.values():
            if concurrency is not None:
                caller.resize(concurrency)
            if retries is not None:
                caller.backoff = msgspec.structs.replace(caller.backoff, retries=retries)
        if timeout_s is not None:
            for provider in (self._given, *self._providers.values()):
                retime = getattr(provider, "retime", None)  # one in this process has no requests
                if retime is not None:
                    retime(timeout_s)
        self.retries = self.retries if retries is None else retries
        self.timeout_s = self.timeout_s if timeout_s is None else timeout_s

    async def aclose(self) -> None:
        """Let go of the connections that were made here."""
        for provider in self._providers.values():
            await provider.aclose()


def make_provider(target: Target, key: str | None) -> Provider:
    """Make the provider that a target names; heavy libraries are imported only then."""
    from workbench.runner.providers import registry

    pool = target.concurrency if target.endpoint in IN_PROCESS else _POOL
    return registry.make(
        target.endpoint, target.base_url, name=target.provider_name, api_key=key,
        concurrency=pool, timeout_s=target.timeout_s, extra_body=target.extra_body,
    )  # fmt: skip
