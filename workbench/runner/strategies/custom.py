"""Strategies of the user's own: a class, or an object, in a module or a file that the user named.

It has a `name` and an async `run(session, item)` that returns an `Outcome`, as `Strategy` says;
`params` are the fields of a dataclass where it has none of its own. A hash of its source is part of
the configuration, so that the figures of two versions are never pooled.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from workbench.errors import ConfigError, ProviderRejected, WorkbenchError
from workbench.external_code import ExternalCode, fault
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.parameters import checked
from workbench.scoring import TaskItem

_CHECKED = frozenset({int, float, str, bool})


class UserStrategy:
    """A strategy of the user's; what else it says of itself (`most_calls`, `helpers`) is passed on.

    Attributes:
        name: as it calls itself.
        params: as the configuration keeps them.
        identity: `module:Class` with a hash of the module's source.
    """

    def __init__(self, strategy: Any, identity: str, params: Mapping[str, Any]) -> None:
        """Wrap it."""
        self._strategy, self.identity, self.params = strategy, identity, params
        self.name: str = strategy.name

    def __getattr__(self, name: str) -> Any:
        """Pass on the strategy's attributes; without `most_calls` their number is unknown."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "most_calls":
            return getattr(self._strategy, name, None)
        return getattr(self._strategy, name)

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item; a fault of the user's code fails the attempt, not the run."""
        try:
            outcome = await self._strategy.run(session, item)
        except WorkbenchError:
            raise
        except (Exception, SystemExit) as error:
            message = f"the strategy {self.name!r} failed: {fault(error)}"
            raise ProviderRejected(message, kind="strategy_failed") from error
        if not isinstance(outcome, Outcome):
            message = (
                f"the strategy {self.name!r} returned {type(outcome).__name__}, not an"
                " Outcome: end with `return Outcome(reply.text)`, after"
                " `from workbench.runner import Outcome`"
            )
            raise ProviderRejected(message, kind="strategy_failed")
        return outcome


@dataclasses.dataclass(frozen=True)
class Unimported:
    """A strategy of the user's that was located and not imported: what it is called is not known.

    Attributes:
        params: those that were given; the others are not known either.
    """

    code: ExternalCode
    params: Mapping[str, Any]
    most_calls: ClassVar[int | None] = None

    @property
    def name(self) -> str:
        """As it was named, for want of what it calls itself."""
        return self.code.plugin or self.code.name

    @property
    def identity(self) -> str:
        """As of `UserStrategy`."""
        return self.code.identity

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Refuse to answer."""
        raise ConfigError(f"the strategy {self.name!r} was not imported, as it is not trusted")


def make(code: ExternalCode, params: Mapping[str, Any]) -> UserStrategy:
    """Import and make a strategy; the caller has made sure that it may run.

    Raises:
        ConfigError: there is none, it is no strategy, or it has no such parameter.
    """
    name, loaded = code.name, code.load("class")
    strategy = _made(name, loaded, params) if isinstance(loaded, type) else loaded
    if not isinstance(loaded, type) and params:
        raise ConfigError(f"strategy {name!r} is an object, not a class, and takes no parameters")
    if not isinstance(getattr(strategy, "name", None), str) or not strategy.name:
        raise ConfigError(f'strategy {name!r} has no name; give the class `name = "…"`')
    if not inspect.iscoroutinefunction(getattr(strategy, "run", None)):
        raise ConfigError(f"strategy {name!r} has no `async def run(self, session, item)`")
    recorded = getattr(strategy, "params", None)
    if recorded is None and dataclasses.is_dataclass(strategy):
        recorded = dataclasses.asdict(strategy)  # type: ignore[arg-type]  # an object, made above
    return UserStrategy(strategy, code.identity, dict(recorded or {}))


def _made(name: str, kind: type[Any], params: Mapping[str, Any]) -> Any:
    """Make an object of a class; the fields of a dataclass are checked as those of our own are."""
    known = (
        {f.name: f for f in dataclasses.fields(kind) if f.init}
        if dataclasses.is_dataclass(kind)
        else {}
    )
    for key in params:
        if key not in known:
            has = ", ".join(known) or "none"
            raise ConfigError(f"strategy {name!r} has no parameter {key!r}; it has {has}")
    try:
        return kind(**{key: _value(name, known[key], value) for key, value in params.items()})
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"strategy {name!r} could not be made: {fault(error)}") from error


def _value(name: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """Check a parameter of a plain type; any other is the user's affair."""
    return checked(name, field, value) if field.type in _CHECKED else value
