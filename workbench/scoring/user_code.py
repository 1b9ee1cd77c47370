"""Scorers of the user's own, `module:function` or `file.py:function`: located, or imported.

A scorer is a function that takes (item, text) and gives a `Score`, True or False, a number 0..1, or
None (not scored); it may be `async`. Its module is looked for in the plan's folder first, then
where Python looks. It runs with the user's rights: it is the user's code, and nothing that a file
or a model says makes it run.
"""

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workbench import external_code, plugins
from workbench.errors import ConfigError, TaskError
from workbench.external_code import ExternalCode, fault, is_external
from workbench.records import Score
from workbench.scoring.base import share_score
from workbench.scoring.items import TaskItem

Function = Callable[[TaskItem, str], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class UserScorer:
    """A function of the user's.

    Attributes:
        name: `module:function`, as it was named.
        identity: the same with a hash of the module's source; helpers in other modules are not in
            it.
    """

    name: str
    function: Function
    identity: str

    def check(self, item: TaskItem) -> None:
        """Take any item; what the function needs is its own."""

    def score(self, item: TaskItem, text: str | None) -> Score:
        """Call the function; its errors become a null score with the reason; skips null text."""
        if text is None:
            return Score(scorer=self.name)
        try:
            returned = self.function(item, text)
            if inspect.iscoroutine(returned):
                import asyncio

                returned = asyncio.run(_finish(returned))
            return self._as_score(item, returned)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any fault of theirs
            return Score(scorer=self.name, explanation=f"the scorer failed: {fault(error)}")

    def _as_score(self, item: TaskItem, returned: Any) -> Score:
        if returned is None:
            return Score(scorer=self.name, explanation="the scorer gave no score")
        if isinstance(returned, bool):
            return Score(
                scorer=self.name,
                score=float(returned),
                passed=returned,
                value="C" if returned else "I",
            )
        if isinstance(returned, Score):
            if returned.score is not None and not 0.0 <= returned.score <= 1.0:
                raise ValueError(f"a score of {returned.score!r} is not within 0 and 1")
            # what was read back must fit the columns, whatever was put into the record
            whole = msgspec.convert(msgspec.to_builtins(returned), Score)
            return msgspec.structs.replace(whole, scorer=self.name)
        share = float(returned)
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a score of {share!r} is not within 0 and 1")
        return share_score(self.name, item, share, None, "")


async def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


@dataclasses.dataclass(frozen=True, slots=True)
class UnimportedScorer:
    """A scorer of the user's that was located and not imported: what it is, not what it does."""

    code: ExternalCode

    @property
    def name(self) -> str:
        """`module:function` or a plug-in's name, as it was named."""
        return self.code.plugin or self.code.name

    @property
    def identity(self) -> str:
        """As of `UserScorer`: the same source gives the same."""
        return self.code.identity

    def check(self, item: TaskItem) -> None:
        """Take any item; what the function needs is its own."""

    def load(self) -> UserScorer:
        """Import it; the caller has made sure that it may run.

        Raises:
            TaskError: the import failed, or there is no such function.
        """
        try:
            function = self.code.load("function")
        except ConfigError as error:
            raise TaskError(str(error)) from error
        if not callable(function):
            raise TaskError(f"the scorer {self.name!r} has no function {self.code.attribute!r}")
        return UserScorer(self.name, function, self.identity)


def locate(name: str, folders: Sequence[Path], *, is_typed: bool = False) -> UnimportedScorer:
    """Find a scorer of the user's without importing it.

    Args:
        name: `module:function`; the module may be dotted, or a file: `mine.py:score`; or the name
            of a plug-in.
        folders: where the module is looked for first.
        is_typed: whether the user named it, not a file.

    Raises:
        TaskError: there is no such module, or its source holds no such name.
    """
    try:
        plugin = None if is_external(name) else plugins.find("scorer", name)
        if plugin is not None:
            return UnimportedScorer(plugin.code())
        code = external_code.locate("scorer", name, folders, kind="function", is_typed=is_typed)
        code.check("function")
    except ConfigError as error:
        raise TaskError(str(error)) from error
    return UnimportedScorer(code)


def load(name: str, folder: Path | None = None) -> UserScorer:
    """Import a scorer of the user's; the caller has made sure that the user named or allowed it.

    Args:
        name: `module:function`; the module may be dotted, or a file: `mine.py:score`.
        folder: where the module is looked for first: the plan's.

    Raises:
        TaskError: there is no such module or function, or the import failed.
    """
    return locate(name, [folder] if folder is not None else []).load()
