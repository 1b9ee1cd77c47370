"""The models of a plan, connected: a provider for each place, a caller for each provider."""

import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import ConfigError
from workbench.runner import templates
from workbench.runner.limits import Caller
from workbench.runner.plan import Plan
from workbench.runner.session import Line, Provider
from workbench.runner.target import Target


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
        )  # fmt: skip

    def line(self, target: Target, sampling: Mapping[str, Any]) -> Line:
        """Return the way to a model, with the settings of one attempt."""
        caller = self.callers[target.place_id]
        render = templates.get(target.template) if target.endpoint == "completions" else None
        return Line(
            target.model, caller.ask, caller.count_tokens, target.endpoint,
            {**target.sampling, **sampling}, render,
        )  # fmt: skip

    def helpers(self, sampling: Mapping[str, Any]) -> dict[str, Line]:
        """Return the ways to the helper models."""
        return {name: self.line(target, sampling) for name, target in self._helpers.items()}

    async def aclose(self) -> None:
        """Let go of the connections that were made here."""
        for provider in self._providers.values():
            await provider.aclose()


def make_provider(target: Target, key: str | None) -> Provider:
    """Make the provider that a target names; heavy libraries are imported only then."""
    from workbench.runner.providers import registry

    return registry.make(
        target.endpoint, target.base_url, name=target.provider_name, api_key=key,
        concurrency=target.concurrency, timeout_s=target.timeout_s, extra_body=target.extra_body,
    )  # fmt: skip
