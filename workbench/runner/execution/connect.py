"""Makes the provider that a target names; what is heavy is imported only then."""

from collections.abc import Callable, Iterable

from workbench.errors import ConfigError
from workbench.records import AnyRecord
from workbench.runner.planning.target import LOCAL, Target
from workbench.runner.providers.protocol import Provider

Recordings = Callable[[str], Iterable[AnyRecord]]  # reads the records at a path
POOL = 10_000  # connections: the caller's slots are the limit, and may be raised while it runs


def connect(target: Target, key: str | None, recordings: Recordings | None = None) -> Provider:
    """Make a provider; no request is made and no model loaded yet.

    Raises:
        ConfigError: a replay without anybody who reads recordings.
        MissingExtra: a model in this process without torch.
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
            raise ConfigError("nobody here reads recordings; replay with: workbench collect")
        return Replay(recordings(target.recording), name=target.provider_name)
    from workbench.runner.providers import registry

    return registry.make(
        target.endpoint,
        target.base_url,
        name=target.provider_name,
        api_key=key,
        concurrency=POOL,
        timeout_s=target.timeout_s,
        extra_body=target.extra_body,
    )
