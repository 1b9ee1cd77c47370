"""`connect` makes the provider that a target names; heavy modules are imported only then."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from workbench.errors import ConfigError
from workbench.records import AnyRecord
from workbench.runner.planning.target import LOCAL, Target
from workbench.runner.providers.own import OwnProvider
from workbench.runner.providers.protocol import Provider

Recordings = Callable[[str], Iterable[AnyRecord]]  # reads the records at a path
POOL = 10_000  # connections; the caller's slots are the real limit, and can be raised in the run


def connect(
    target: Target,
    key: str | None,
    recordings: Recordings | None = None,
    providers: Mapping[str, OwnProvider] = MappingProxyType({}),
) -> Provider:
    """Make the provider of a target; no request is sent and no model is loaded yet.

    Args:
        target: the model.
        key: of the provider's service.
        recordings: reads the recording of a replay.
        providers: classes of the user's providers, by endpoint.

    Raises:
        ConfigError: a replay, and no reader of recordings was given.
        MissingExtra: a model in this process, and torch is not installed.
    """
    if target.endpoint in LOCAL:
        from workbench.runner.local.provider import LocalProvider

        return LocalProvider(
            target.model,
            name=target.provider_name,
            slots=target.concurrency,
            device=target.device,
            dtype=target.precision or "auto",
            timeout_s=target.timeout_s,
        )
    if target.endpoint == "replay":
        from workbench.runner.providers.replay import Replay

        if recordings is None or target.recording is None:
            raise ConfigError(
                "a replay needs the reader of a recording, which is missing here; replay with:"
                " workbench collect"
            )
        return Replay(recordings(target.recording), name=target.provider_name)
    options: dict[str, Any] = {
        "api_key": key,
        "concurrency": POOL,
        "timeout_s": target.timeout_s,
        "extra_body": target.extra_body,
    }
    if target.is_own:
        own = providers[target.endpoint]
        return own.make(target.base_url, name=target.provider_name, **options)
    from workbench.runner.providers import registry

    return registry.make(target.endpoint, target.base_url, name=target.provider_name, **options)
