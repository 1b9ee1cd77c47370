"""Providers of the user's own: a class in a module or a file that the user named, or a plug-in's.

It is made as those that ship are: `Class(base_url, name=…, api_key=…, concurrency=…, timeout_s=…,
extra_body=…, quirks=…)`, and has the methods of `Provider`. A subclass of one that ships needs only
what it changes. A hash of its source is part of the configuration.
"""

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Callable
from typing import Any

from workbench.errors import ConfigError, ProviderRejected, WorkbenchError
from workbench.external_code import ExternalCode, fault
from workbench.runner.providers import transport
from workbench.runner.providers.protocol import Provider, Reply
from workbench.runner.providers.services import quirks_of

_LOG = logging.getLogger(__name__)
_METHODS = {
    "generate": "async def generate(self, request, on_chunk=None)",
    "count_tokens": "async def count_tokens(self, text)",
    "aclose": "async def aclose(self)",
}


@dataclasses.dataclass(frozen=True, slots=True)
class OwnProvider:
    """The class of a provider, imported."""

    name: str
    kind: type[Any]

    @classmethod
    def imported(cls, code: ExternalCode) -> "OwnProvider":
        """Import the class; the caller has made sure that it may run.

        Raises:
            ConfigError: its import failed, or it is no provider.
        """
        name, kind = code.plugin or code.name, code.load("class")
        if not isinstance(kind, type):
            raise ConfigError(f"the provider {name!r} is an object, not a class")
        lacking = [
            text
            for method, text in _METHODS.items()
            if not inspect.iscoroutinefunction(getattr(kind, method, None))
        ]
        if lacking:
            raise ConfigError(f"the provider {name!r} has no `{'`, no `'.join(lacking)}`")
        return cls(name, kind)

    def make(self, base_url: str, *, name: str, **options: Any) -> Provider:
        """Make the provider, as `registry.make` does those that ship.

        Raises:
            ConfigError: the class cannot be made so.
        """
        key = options.get("api_key")
        try:
            made = self.kind(base_url, name=name, quirks=quirks_of(name), **options)
            made.name = name
            made.generate = _Guarded(self.name, made.generate, key, _is_reply, "a Reply")
            made.count_tokens = _Guarded(
                self.name, made.count_tokens, key, _is_count, "a number of tokens or None"
            )
            made.aclose = _GuardedClose(self.name, made.aclose, key)
        except WorkbenchError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any fault of theirs
            why = transport.redact(fault(error), key)
            raise ConfigError(f"the provider {self.name!r} could not be made: {why}") from None
        provider: Provider = made
        return provider


def _is_reply(value: object) -> bool:
    return isinstance(value, Reply)


def _is_count(value: object) -> bool:
    """Whether it is what `count_tokens` may return."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value is None or is_number


class _Guarded:
    """A method of the user's: its faults fail the attempt, not the run, and hold no key."""

    def __init__(
        self,
        name: str,
        method: Any,
        key: str | None,
        is_valid: Callable[[object], bool],
        expected: str,
    ) -> None:
        self._name, self._method, self._key = name, method, key
        self._is_valid, self._expected = is_valid, expected

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        try:
            value = await self._method(*arguments, **named)
        except WorkbenchError as error:
            text = str(error).encode("utf-8", "backslashreplace").decode()
            error.args = (transport.redact(text, self._key),)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # any fault of theirs
            why = transport.redact(fault(error), self._key)
            message = f"the provider {self._name!r} failed: {why}"
            raise ProviderRejected(message, kind="provider_failed") from None
        if not self._is_valid(value):
            kind = type(value).__name__
            shown = f" {value!r}" if isinstance(value, int | float) else ""
            message = f"the provider {self._name!r} returned {kind}{shown}, not {self._expected}"
            raise ProviderRejected(message, kind="provider_failed")
        return value


class _GuardedClose:
    """`aclose` of the user's: a fault of it is a warning, as the attempts have ended by then."""

    def __init__(self, name: str, method: Any, key: str | None) -> None:
        self._name, self._method, self._key = name, method, key

    async def __call__(self) -> None:
        try:
            await self._method()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any fault of theirs
            why = transport.redact(fault(error), self._key)
            _LOG.warning("the provider %r could not be closed: %s", self._name, why)
