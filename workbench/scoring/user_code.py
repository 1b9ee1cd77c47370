"""Code of the user's own: `module:name` or `file.py:name`, imported only where the user named or allowed it.

A scorer is a function that takes (item, text) and gives a `Score`, True or False, a number 0..1, or
None (not scored); it may be `async`. Its module is looked for in the plan's folder first, then
where Python looks. It runs with the user's rights: it is the user's code, and nothing that a file
or a model says makes it run.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from workbench.errors import TaskError
from workbench.records import Score
from workbench.scoring.base import share_score
from workbench.scoring.items import TaskItem

Function = Callable[[TaskItem, str], Any]
_NAME = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|[^:\0]+\.py):[A-Za-z_]\w*")


def is_user_code(name: str) -> bool:
    """Whether a scorer's name says `module:function`."""
    return ":" in name


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
        """Call the function; a fault of it is a score of null that says so. Null text is not shown to it."""
        if text is None:
            return Score(scorer=self.name)
        try:
            found = self.function(item, text)
            if inspect.iscoroutine(found):
                import asyncio

                found = asyncio.run(_finish(found))
            return self._as_score(item, found)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any fault of the user's code, and no more
            return Score(scorer=self.name, explanation=f"the scorer failed: {told(error)}")

    def _as_score(self, item: TaskItem, found: Any) -> Score:
        if found is None:
            return Score(scorer=self.name, explanation="the scorer gave no score")
        if isinstance(found, bool):
            return Score(
                scorer=self.name, score=float(found), passed=found, value="C" if found else "I"
            )
        if isinstance(found, Score):
            if found.score is not None and not 0.0 <= found.score <= 1.0:
                raise ValueError(f"a score of {found.score!r} is not within 0 and 1")
            # what was read back must fit the columns, whatever was put into the record
            whole = msgspec.convert(msgspec.to_builtins(found), Score)
            return msgspec.structs.replace(whole, scorer=self.name)
        share = float(found)
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a score of {share!r} is not within 0 and 1")
        return share_score(self.name, item, share, None, "")


async def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def told(error: BaseException) -> str:
    """Say what a fault of the user's code is, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {error}{where}"[:1_000]


def load(name: str, folder: Path | None = None) -> UserScorer:
    """Import a scorer of the user's; the caller has made sure that the user named or allowed it.

    Args:
        name: `module:function`; the module may be dotted, or a file: `mine.py:score`.
        folder: where the module is looked for first: the plan's.

    Raises:
        TaskError: there is no such module or function, or the import failed.
    """
    function, identity = find(name, folder, "scorer", "function")
    if not callable(function):
        raise TaskError(f"the scorer {name!r} has no function {name.rpartition(':')[2]!r}")
    return UserScorer(name, function, identity)


def find(name: str, folder: Path | None, what: str, kind: str) -> tuple[Any, str]:
    """Import what the user named in code of theirs.

    Args:
        name: `module:name` or `file.py:name`.
        folder: where it is looked for first.
        what: the user's word for it, in messages: scorer, strategy.
        kind: what it is in Python, in messages: function, class.

    Returns:
        It, and its name, without folders, with a hash of the module's source; helpers in other
        modules are not in the hash.

    Raises:
        TaskError: there is no such module or name, or the import failed.
    """
    if not _NAME.fullmatch(name):
        raise TaskError(
            f"{name!r} names no {what}; write module:{kind} or file.py:{kind}, for example mine.py:{what}"
        )
    module_name, _, attribute = name.rpartition(":")
    try:
        module = _import(module_name, folder)
    except (Exception, SystemExit) as error:
        raise TaskError(f"the {what} {name!r} could not be imported: {told(error)}") from error
    found = getattr(module, attribute, None)
    if found is None:
        raise TaskError(f"the {what} {name!r}: {module_name} has no {kind} {attribute!r}")
    return found, f"{Path(module_name).name}:{attribute}#{_source_hash(module)}"


def _import(name: str, folder: Path | None) -> ModuleType:
    path = _file(name, folder) if name.endswith(".py") else _beside(name, folder)
    if path is None:
        return importlib.import_module(name)
    # a name of its own, so that two plans may each have a module of the same name, and an edited
    # file is read anew
    content = path.read_bytes()
    key = hashlib.blake2b(str(path).encode() + b"\0" + content, digest_size=8).hexdigest()
    own = f"_workbench_own_{key}"
    if own in sys.modules:
        return sys.modules[own]
    spec = importlib.util.spec_from_file_location(own, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # its neighbours, after everything else
    sys.modules[own] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[own]
        raise
    return module


def _file(name: str, folder: Path | None) -> Path:
    """Find a file: beside the plan, else from where the command runs."""
    beside = None if folder is None else folder / name
    path = beside if beside is not None and beside.is_file() else Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {name}")
    return path.resolve()


def _beside(name: str, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    path = folder.resolve().joinpath(*name.split("."))
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.is_file():
            return found
    return None


def _source_hash(module: ModuleType) -> str:
    path = getattr(module, "__file__", None)
    content = Path(path).read_bytes() if path else repr(module).encode()
    return hashlib.blake2b(content, digest_size=6).hexdigest()
