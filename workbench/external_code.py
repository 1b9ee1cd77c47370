"""External code, named `module:name` or `file.py:name`: located unrun, hashed, imported.

Who may run it is decided elsewhere (`workbench.trust`); this module makes sure that what runs is
what was hashed. Source is compiled from the bytes that were read: bytecode files that lie beside it
could hold another program, and are neither read nor written.
"""

import ast
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from workbench.errors import ConfigError

_NAME = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|[^:\0]+\.py):[A-Za-z_]\w*")
_ROOTS: list[str] = []  # folders whose modules may be imported by name, the latest first
_OWN = "_workbench_own_"  # begins the names of modules that a plan or the user named
_MOST_SOURCE_BYTES, _MOST_BYTES = 4 << 20, 256 << 20  # of a source; of a compiled module
_MOST_FILES = 2_000  # of one program beside a plan; more is a mistake, or meant to exhaust us


def is_external(name: str) -> bool:
    """Whether a name says `module:name` or `file.py:name`, and is none of those that ship."""
    return ":" in name


@dataclasses.dataclass(frozen=True, slots=True)
class ExternalCode:
    """A class, function or object of a module outside this package; nothing is imported yet.

    Attributes:
        what: what it is used as, in messages: strategy, scorer, tool …
        name: as it was named, `module:name` or `file.py:name`.
        path: the module's file; None where it has none (built in).
        root: the folder that the module's neighbours are imported from; None where these are
            installed.
        is_beside: whether it was found in a folder that was given, not on Python's path.
        is_typed: whether the user named it (on the command line, from Python), not a file, or
            installed it.
        plugin: the name of the entry point that led to it; None where it was named itself.
    """

    what: str
    name: str
    path: Path | None
    root: Path | None
    is_beside: bool = False
    is_typed: bool = False
    plugin: str | None = None

    @property
    def module(self) -> str:
        """The module or file as it was named."""
        return self.name.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        """The name within the module."""
        return self.name.rpartition(":")[2]

    @property
    def identity(self) -> str:
        """`module:name`, without folders, with a hash of the module's source alone."""
        content = _read(self.path) if self.path is not None else self.module.encode()
        digest = hashlib.blake2b(content, digest_size=6).hexdigest()
        return f"{Path(self.module).name}:{self.attribute}#{digest}"

    @property
    def place(self) -> str:
        """Where it would be imported from, for messages."""
        return str(self.path) if self.path is not None else "Python itself"

    def sources(self) -> list[Path]:
        """List the files that importing it reads: its own, and those of `root` that these import.

        Import statements are followed, wherever in a file they stand. Code can load more than it
        imports; what does so can do anything, and is read before it is trusted.

        Raises:
            ConfigError: a file cannot be read, or there are too many.
        """
        if self.path is None:
            return []
        found: dict[Path, None] = {}
        waiting = [self.path]
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found[path] = None
            if len(found) > _MOST_FILES:
                raise ConfigError(
                    f"the {self.what} {self.name!r} imports more than {_MOST_FILES:,} files of"
                    f" {self.root}; put it into a folder of its own, or install it"
                )
            if self.root is not None and path.suffix == ".py":
                waiting += _imported(path, self.root)
        return sorted(found)

    def digest(self) -> str:
        """Hash what would run: the names and contents of `sources`."""
        state = hashlib.blake2b(digest_size=16)
        for path in self.sources():
            for part in (str(path).encode("utf-8", "surrogateescape"), _read(path)):
                state.update(len(part).to_bytes(8, "big") + part)
        return state.hexdigest()

    def syntax(self) -> ast.Module | None:
        """Parse the module's source; None where it has none.

        Raises:
            ConfigError: it is no Python.
        """
        if self.path is None or self.path.suffix != ".py":
            return None
        try:
            return _parse(self.path)
        except SyntaxError as error:
            raise self._failed(error) from None

    def check(self, kind: str) -> None:
        """Refuse what the source cannot define, as far as that is seen without running it.

        Raises:
            ConfigError: the source is no Python, or binds no such name.
        """
        tree = self.syntax()
        if tree is not None and not _may_bind(tree, self.attribute):
            raise ConfigError(self._lacks(kind))

    def load(self, kind: str) -> Any:
        """Import it; the caller has made sure that it may run.

        Args:
            kind: what it is in Python, in messages: function, class.

        Raises:
            ConfigError: there is no such name, or the import failed.
        """
        try:
            module = self._import()
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error
        found = getattr(module, self.attribute, None)
        if found is None:
            raise ConfigError(self._lacks(kind))
        return found

    def _failed(self, error: BaseException) -> ConfigError:
        return ConfigError(f"the {self.what} {self.name!r} could not be imported: {fault(error)}")

    def _lacks(self, kind: str) -> str:
        return f"the {self.what} {self.name!r}: {self.module} has no {kind} {self.attribute!r}"

    def _import(self) -> ModuleType:
        if self.path is None or self.root is None or not self.is_beside:
            return importlib.import_module(self.module)
        # a name of its own, so that two plans may each have a module of the same name, and edited
        # files are read anew
        content = _read(self.path)
        own = f"{_OWN}{self.digest()}"
        if own in sys.modules:
            return sys.modules[own]
        loader = _SourceLoader(own, str(self.path))
        loader.contents[str(self.path)] = content
        spec = importlib.util.spec_from_file_location(own, self.path, loader=loader)
        if spec is None:
            raise ImportError(f"{self.path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        _offer_neighbours(str(self.root))
        sys.modules[own] = module
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[own]
            raise
        return module


def locate(
    what: str, name: str, folders: Sequence[Path], *, kind: str = "class", is_typed: bool = False
) -> ExternalCode:
    """Find the file behind `module:name` or `file.py:name`; nothing of it is imported.

    Args:
        what: what it is used as: strategy, scorer, tool …
        name: as the user or a file named it.
        folders: where it is looked for, in order, before Python's own path (a module) or the
            working folder (a file).
        kind: what it is in Python, in messages: function, class.
        is_typed: whether the user named it, not a file.

    Raises:
        ConfigError: it is no such name, or there is no such module or file.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} names no {what}; write module:{kind} or file.py:{kind}, for example"
            f" mine.py:{what}"
        )
    module = name.rpartition(":")[0]
    if module.endswith(".py"):
        for folder in (*folders, Path()):
            path = folder / module
            if path.is_file():
                path = path.resolve()
                root = folder.resolve()
                # a file elsewhere has its neighbours where it lies
                root = root if path.is_relative_to(root) else path.parent
                return ExternalCode(what, name, path, root, is_beside=True, is_typed=is_typed)
        missing = f"FileNotFoundError: there is no file {module}"
        raise ConfigError(f"the {what} {name!r} could not be imported: {missing}")
    for folder in folders:
        root = folder.resolve()
        for path in _candidates(root, module.split(".")):
            if path.suffix == ".py":
                return ExternalCode(what, name, path, root, is_beside=True, is_typed=is_typed)
    found = _on_path(what, name)
    return ExternalCode(what, name, found, _own_root(found, module), is_typed=is_typed)


def offered_folders() -> frozenset[str]:
    """Return the folders of Python's path that hold code that a plan or the user named."""
    return frozenset(_ROOTS)


def fault(error: BaseException) -> str:
    """Say what a fault of external code is, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    if isinstance(error, SyntaxError):
        where = f" at {Path(error.filename or '?').name}:{error.lineno}"
        return f"SyntaxError: {error.msg}{where}"[:1_000]
    return f"{type(error).__name__}: {error}{where}"[:1_000]


def _on_path(what: str, name: str) -> Path | None:
    """Ask Python's finders for a module's file; its parent packages are located, not imported."""
    module = name.rpartition(":")[0]
    # what another plan's code was offered is no place to look for this one's
    spec, path, so_far = None, [p for p in sys.path if p not in _ROOTS], ""
    try:
        for part in module.split("."):
            so_far = f"{so_far}.{part}" if so_far else part
            spec = _spec(so_far, path)
            if spec is None:
                break
            path = list(spec.submodule_search_locations or ())
    except (ImportError, KeyError, ValueError, OSError):
        spec = None
    if spec is None:
        missing = f"ModuleNotFoundError: No module named {so_far!r}"
        raise ConfigError(f"the {what} {name!r} could not be imported: {missing}")
    return Path(spec.origin) if spec.has_location and spec.origin is not None else None


def _own_root(path: Path | None, module: str) -> Path | None:
    """Find the folder of Python's path that a module lies in; None for installed modules."""
    if path is None:
        return None
    n_up = len(module.split(".")) - (path.stem != "__init__")
    root = path.parents[n_up]
    installed = {Path(p) for n, p in sysconfig.get_paths().items() if n.endswith(("lib", "stdlib"))}
    return None if installed & {root, *root.parents} else root


def _spec(name: str, path: list[str]) -> importlib.machinery.ModuleSpec | None:
    if not path:  # the parent is a module, not a package
        return None
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """List the files of `root` that the import statements of a file name, with their packages."""
    try:
        tree = _parse(path)
    except SyntaxError:  # importing it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _along(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = root
            if node.level:
                parents = [path.parent, *path.parent.parents]
                base = parents[min(node.level, len(parents)) - 1]
                yield from _candidates(base.parent, [base.name])
            parts = node.module.split(".") if node.module else []
            yield from _along(base, parts)
            for alias in node.names:
                if alias.name == "*":
                    yield from _star(base.joinpath(*parts))
                else:
                    yield from _along(base, [*parts, alias.name])


def _along(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """List what importing a dotted name below a folder reads: every package, then the module."""
    yield from (p for n in range(1, len(parts) + 1) for p in _candidates(base, parts[:n]))


def _candidates(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """List the files that a dotted name may be below a folder, in any form that Python imports."""
    if not parts:
        return
    place = base.joinpath(*parts)
    suffixes = [*importlib.machinery.EXTENSION_SUFFIXES, ".py"]
    for parent, stem in ((place, "__init__"), (place.parent, place.name)):
        for suffix in suffixes:
            found = parent / f"{stem}{suffix}"
            if found.is_file():
                yield found.resolve()


def _star(package: Path) -> Iterator[Path]:
    """List the modules of a package, as `__all__` may name any of them."""
    if (package / "__init__.py").is_file():
        yield from (p.resolve() for p in sorted(package.glob("*.py")))


def _read(path: Path) -> bytes:
    """Read a file of code; ConfigError where that cannot be, or it is no size for one."""
    most = _MOST_SOURCE_BYTES if path.suffix == ".py" else _MOST_BYTES
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise ConfigError(f"{path} is no code: it has more than {most >> 20} MiB")
    return content


def _parse(path: Path) -> ast.Module:
    """Parse a source; SyntaxError whatever is wrong with it."""
    try:
        return ast.parse(_read(path), str(path))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "too deeply nested", (str(path), 1, 0, "")) from None


_BINDS_UNSEEN = frozenset({"globals", "exec", "setattr", "vars"})


def _may_bind(tree: ast.Module, name: str) -> bool:
    """Whether the top level of a module may bind a name; what is not plain to see may."""
    return any(_binds(node, name) for node in ast.walk(tree))


def _binds(node: ast.AST, name: str) -> bool:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name in {name, "__getattr__"}
        case ast.Name(ctx=ast.Store()):
            return node.id == name
        case ast.alias():
            return name in (node.asname, node.name.split(".")[0]) or node.name == "*"
        case ast.Call(func=ast.Name(id=called)):
            return called in _BINDS_UNSEEN
        case _:
            return False


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles source, without reading or writing bytecode."""

    def __init__(self, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self.contents: dict[str, bytes] = {}

    def get_code(self, fullname: str) -> CodeType:
        """Compile the bytes that were hashed, where they are at hand, else the file's."""
        path = self.get_filename(fullname)
        content = self.contents[path] if path in self.contents else self.get_data(path)
        self.contents[path] = content
        code: CodeType = self.source_to_code(content, path)
        return code


def _offer_neighbours(root: str) -> None:
    """Let modules of a folder be imported by name, after everything else, from their source."""
    if root in sys.path and root not in _ROOTS:
        return  # the user's own doing
    if not _ROOTS:
        sys.path_hooks.insert(0, _finder)
    # before the folders of other plans, which may have modules of the same names
    _ROOTS[:] = [root, *(r for r in _ROOTS if r != root)]
    sys.path[:] = [*(p for p in sys.path if p not in _ROOTS), *_ROOTS]
    for name, module in list(sys.modules.items()):
        if not name.startswith(_OWN) and _is_of_another(module, root):
            del sys.modules[name]
    for entry in [e for e in sys.path_importer_cache if Path(e).is_relative_to(root)]:
        if _is_below_root(entry):
            del sys.path_importer_cache[entry]


def _is_of_another(module: ModuleType, root: str) -> bool:
    """Whether a module came from another plan's folder, or from a file that was edited since."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if not isinstance(loader, _SourceLoader):
        return False
    path = Path(loader.path)
    if not path.is_relative_to(root):
        return True
    return not path.is_file() or path.read_bytes() != loader.contents.get(loader.path)


def _finder(entry: str) -> importlib.machinery.FileFinder:
    """Find modules in a folder that was offered; ImportError leaves any other to Python."""
    if not _is_below_root(entry):
        raise ImportError(entry)
    return importlib.machinery.FileFinder(
        entry,
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_SourceLoader, importlib.machinery.SOURCE_SUFFIXES),
    )


def _is_below_root(entry: str) -> bool:
    """Whether the nearest folder of Python's path around an entry is one that was offered."""
    path = Path(entry)
    around: Iterable[str] = (p for p in sys.path if p and path.is_relative_to(p))
    return max(around, key=len, default="") in _ROOTS
