"""External code, named `module:name` or `file.py:name`: located unrun, hashed, imported.

`workbench.trust` decides whether it may run; this module makes sure that what runs is what was
hashed. Source is compiled from the bytes that were hashed, not read again: bytecode files
that lie beside it could hold another program, and are neither read nor written. Of a folder that is
not on Python's path, nothing but the hashed files can be imported.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from workbench.errors import ConfigError

_NAME = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|[^:\0]+\.py):[A-Za-z_]\w*")
_ROOTS: list[str] = []  # folders whose modules may be imported by name, the latest first
_OPEN: set[str] = set()  # those of the roots that hold code which the user typed
_HASHED: dict[str, bytes] = {}  # path → the source, or the hash of a compiled module, that may run
_NOT_HASHED: dict[str, str] = {}  # module that was not found → the file that was left out
_OWN = "_workbench_own_"  # begins the names of modules that a plan or the user named
_MOST_SOURCE_BYTES = 4 << 20  # of a source
_MOST_BYTES = 256 << 20  # of a compiled module, and of a program's files together
_MOST_FILES = 2_000  # of one program beside a plan; more is a mistake, or meant to exhaust us
_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)


def is_external(name: str) -> bool:
    """Whether a name says `module:name` or `file.py:name`, and is none of those that ship."""
    return ":" in name


class Program(NamedTuple):
    """The files that importing code reads, as they were at one time.

    Attributes:
        files: path → the source; of a compiled module, its hash.
        signs: what in them can run or load what no import statement names, with its place.
    """

    files: Mapping[Path, bytes]
    signs: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hash the names and contents."""
        state = hashlib.blake2b(digest_size=16)
        for path, content in self.files.items():
            for part in (str(path).encode("utf-8", "surrogateescape"), content):
                state.update(len(part).to_bytes(8, "big") + part)
        return state.hexdigest()


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
    _latest: list[Program] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )

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
        content = self.module.encode()
        if self.path is not None:
            read = self._latest[0].files.get(self.path) if self._latest else None
            content = _read(self.path) if read is None or self._is_compiled(self.path) else read
        digest = hashlib.blake2b(content, digest_size=6).hexdigest()
        return f"{Path(self.module).name}:{self.attribute}#{digest}"

    @property
    def place(self) -> str:
        """Where it would be imported from, for messages."""
        return str(self.path) if self.path is not None else "Python itself"

    def program(self) -> Program:
        """Read the files that importing it reads: its own, and those of `root` that these import.

        Import statements are followed, wherever in a file they stand. Code can load more than it
        imports; what does so can do anything, and is read before it is trusted. `load` runs what
        the latest call read.

        Raises:
            ConfigError: a file cannot be read, or there are too many.
        """
        contents: dict[Path, bytes] = {}
        signs: dict[Path, list[str]] = {}
        n_bytes = 0
        waiting = [] if self.path is None else [self.path, *self._packages()]
        while waiting:
            path = waiting.pop()
            if path in contents:
                continue
            content = _read(path)
            if self._is_compiled(path):
                contents[path] = hashlib.blake2b(content, digest_size=32).digest()
                signs[path] = [f"{path.name} is compiled"]
                continue
            contents[path] = content
            n_bytes += len(content)
            if len(contents) > _MOST_FILES or n_bytes > _MOST_BYTES:
                raise ConfigError(
                    f"the {self.what} {self.name!r} imports more than {_MOST_FILES:,} files of"
                    f" {self.root}, or {_MOST_BYTES >> 20} MiB; put it into a folder of its own, or"
                    " install it"
                )
            tree = _tree(content, path)
            signs[path] = [] if tree is None else _signs(tree, path.name)
            if self.root is not None and tree is not None:
                waiting += _imported(tree, path, self.root)
        all_signs = [sign for path in sorted(signs) for sign in signs[path]]
        program = Program({path: contents[path] for path in sorted(contents)}, tuple(all_signs))
        self._latest[:] = [program]
        return program

    def sources(self) -> list[Path]:
        """List the files of `program`."""
        return list(self.program().files)

    def _packages(self) -> list[Path]:
        """List the files of the packages around a module that Python imports by its name."""
        if self.is_beside or self.root is None:
            return []
        return list(_along(self.root, self.module.split(".")[:-1]))

    def _is_compiled(self, path: Path) -> bool:
        """Whether a file is run as machine code; what was named `file.py` is source by any link."""
        is_named = self.is_beside and path == self.path
        return not is_named and path.name.endswith(_COMPILED)

    def syntax(self) -> ast.Module | None:
        """Parse the module's source; None where it has none.

        Raises:
            ConfigError: it is no Python.
        """
        if self.path is None or not (self.is_beside or self.path.suffix == ".py"):
            return None
        try:
            return _parse(_read(self.path), self.path)
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
        value = getattr(module, self.attribute, None)
        if value is None:
            raise ConfigError(self._lacks(kind))
        return value

    def _failed(self, error: BaseException) -> ConfigError:
        return ConfigError(f"the {self.what} {self.name!r} could not be imported: {fault(error)}")

    def _lacks(self, kind: str) -> str:
        return f"the {self.what} {self.name!r}: {self.module} has no {kind} {self.attribute!r}"

    def _import(self) -> ModuleType:
        program = self._latest[0] if self._latest else self.program()
        if self.path is None or self.root is None or not self.is_beside:
            if self.root is not None:
                _hold(program)
            return importlib.import_module(self.module)
        # a name of its own, so that two plans may each have a module of the same name, and edited
        # files are read anew
        own = f"{_OWN}{program.digest}"
        if own in sys.modules:
            return sys.modules[own]
        _hold(program)
        loader = _SourceLoader(own, str(self.path))
        spec = importlib.util.spec_from_file_location(own, self.path, loader=loader)
        if spec is None:
            raise ImportError(f"{self.path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        _offer_neighbours(str(self.root), is_open=self.is_typed)
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
    file = _on_path(what, name)
    return ExternalCode(what, name, file, _own_root(file, module), is_typed=is_typed)


def offered_folders() -> frozenset[str]:
    """Return the folders of Python's path that hold code that a plan or the user named."""
    return frozenset(_ROOTS)


def fault(error: BaseException) -> str:
    """Describe an exception that external code raised, with its file and line."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    if isinstance(error, SyntaxError):
        where = f" at {Path(error.filename or '?').name}:{error.lineno}"
        return f"SyntaxError: {error.msg}{where}"[:1_000]
    if isinstance(error, ModuleNotFoundError) and error.name in _NOT_HASHED:
        where += (
            f" ({_NOT_HASHED[error.name]} is not among the files that were looked at before, as no"
            " import statement names it; write one)"
        )
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # `__str__` is external code too
        text = "(no text)"
    text = f"{type(error).__name__}: {text}{where}"[:1_000]
    return text.encode("utf-8", "backslashreplace").decode()  # it is stored


def _on_path(what: str, name: str) -> Path | None:
    """Ask Python's finders for a module's file; its parent packages are located, not imported."""
    module = name.rpartition(":")[0]
    # without the folders that were added for the code of other plans
    path = [p for p in sys.path if p not in _ROOTS]
    spec = None
    so_far = ""
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


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """List the files of `root` that the import statements of a file name, with their packages.

    Args:
        tree: the file, parsed.
        path: the file by the name that it is imported by: from a link, Python imports what lies
            beside the link.
        root: where absolute names are looked for.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _along(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = _base(path, root, node.level)
            if node.level:
                yield from _candidates(base.parent, [base.name])
            parts = node.module.split(".") if node.module else []
            yield from _along(base, parts)
            for alias in node.names:
                if alias.name == "*":
                    yield from _star(base.joinpath(*parts))
                else:
                    yield from _along(base, [*parts, alias.name])
        elif (name := _called_import(node)) is not None:
            level = len(name) - len(name.lstrip("."))
            yield from _along(_base(path, root, level), name[level:].split("."))


def _base(path: Path, root: Path, level: int) -> Path:
    """Return the folder that a name with `level` dots before it begins at, in a file."""
    parents = [path.parent, *path.parent.parents]
    return parents[min(level, len(parents)) - 1] if level else root


def _called_import(node: ast.AST) -> str | None:
    """Return the module of a call like `importlib.import_module("name")`; None of any other."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="import_module" | "__import__")
            | ast.Name(id="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return name
    return None


def _along(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """List what importing a dotted name below a folder reads: every package, then the module."""
    yield from (p for n in range(1, len(parts) + 1) for p in _candidates(base, parts[:n]))


def _candidates(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """List the files that a dotted name may be below a folder, in any form that Python imports."""
    if not parts:
        return
    place = base.joinpath(*parts)
    for parent, stem in ((place, "__init__"), (place.parent, place.name)):
        for suffix in (*_COMPILED, ".py"):
            file = parent / f"{stem}{suffix}"
            if file.is_file():
                yield file


def _star(package: Path) -> Iterator[Path]:
    """List the modules and packages within a package, as `__all__` may name any of them."""
    if not any(_candidates(package.parent, [package.name])) or not package.is_dir():
        return
    for entry in sorted(package.iterdir()):
        if entry.is_dir():
            yield from _candidates(package, [entry.name])
        elif entry.name.endswith((*_COMPILED, ".py")) and entry.is_file():
            yield entry


_RUNS_TEXT = frozenset({"exec", "eval"})  # as names only: models have a method `eval`
_LOADS_UNSEEN = frozenset(
    {
        "__import__",
        "CDLL",
        "ExtensionFileLoader",
        "LoadLibrary",
        "Popen",
        "SourceFileLoader",
        "dlopen",
        "execv",
        "execve",
        "import_module",
        "posix_spawn",
        "run_module",
        "run_path",
        "spawnv",
        "spec_from_file_location",
        "zipimporter",
    }
)
_UNSEEN_OF = {  # module → what of it runs or loads other files
    "os": frozenset({"system", "popen", "execl", "execlp", "execvp", "spawnl"}),
    "sys": frozenset({"path", "meta_path", "path_hooks", "modules"}),
    "subprocess": frozenset({"run", "call", "check_call", "check_output"}),
}
_UNPICKLING = frozenset({"pickle", "marshal", "dill", "cloudpickle", "joblib", "torch"})


def _signs(tree: ast.Module, name: str) -> list[str]:
    """Name what in a source may run files that no import statement names, each thing once.

    It is a hint for the user, not a defence: code that hides what it does is not detected.
    """
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        for what in _unseen(node):
            lines.setdefault(what, getattr(node, "lineno", 1))
    return [f"{what} at {name}:{line}" for what, line in lines.items()]


def _unseen(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call() if _called_import(node) is not None:
            pass
        case ast.Call(func=ast.Name(id=called)) if called in _LOADS_UNSEEN | _RUNS_TEXT:
            yield called
        case ast.Call(func=ast.Attribute(attr=called)) if called in _LOADS_UNSEEN:
            yield called
        case ast.Attribute(value=ast.Name(id=module), attr=name) if _is_unseen(module, name):
            yield f"{module}.{name}"
        case ast.ImportFrom(module=str(module)):
            yield from (f"{module}.{a.name}" for a in node.names if _is_unseen(module, a.name))
        case ast.Name(id="__path__"):
            yield "__path__"


def _is_unseen(module: str, name: str) -> bool:
    """Whether what a module has by a name runs or loads other files."""
    if module in _UNPICKLING:
        return name in {"load", "loads"}
    return name in _UNSEEN_OF.get(module, ())


def _read(path: Path) -> bytes:
    """Read a file of code; ConfigError where that cannot be, or it is no size for one."""
    most = _MOST_BYTES if path.name.endswith(_COMPILED) else _MOST_SOURCE_BYTES
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise ConfigError(f"{path} is no code: it has more than {most >> 20} MiB")
    return content


def _tree(content: bytes, path: Path) -> ast.Module | None:
    """Parse a source to see what it imports; None where importing it will say what is wrong."""
    try:
        return _parse(content, path)
    except _ExhaustedError as error:  # another time, it might be imported for all that
        raise ConfigError(f"{path} cannot be read before it is run: {error.msg}") from None
    except SyntaxError:
        return None


class _ExhaustedError(SyntaxError):
    """The parser gave up, which depends on how much of the stack is left."""


def _parse(content: bytes, path: Path) -> ast.Module:
    """Parse a source; SyntaxError whatever is wrong with it."""
    try:
        return ast.parse(content, str(path))
    except (RecursionError, MemoryError) as error:
        message = str(error) or "too deeply nested"
        raise _ExhaustedError(message, (str(path), 1, 0, "")) from None
    except ValueError as error:
        raise SyntaxError(str(error), (str(path), 1, 0, "")) from None


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
    """Compiles the source that was hashed, without reading or writing bytecode."""

    def __init__(self, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self.content: bytes | None = None

    def get_code(self, fullname: str) -> CodeType:
        """Compile the bytes that were hashed; in a folder of the user's, else the file's."""
        path = self.get_filename(fullname)
        hashed = _HASHED.get(path)
        self.content = self.get_data(path) if hashed is None else hashed
        code: CodeType = self.source_to_code(self.content, path)
        return code


class _CompiledLoader(importlib.machinery.ExtensionFileLoader):
    """Loads a compiled module that is still what was hashed."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Compare its hash just before the system reads the file by itself."""
        hashed = _HASHED.get(self.path)
        if hashed is not None:
            content = _read(Path(self.path))
            if hashlib.blake2b(content, digest_size=32).digest() != hashed:
                raise ImportError(f"{self.path} was changed after it was looked at", name=self.name)
        module: ModuleType = super().create_module(spec)
        return module


def _hold(program: Program) -> None:
    """Let the files of a program be imported as they were read."""
    _HASHED.update((str(path), content) for path, content in program.files.items())
    if not any(isinstance(finder, _HashedSource) for finder in sys.meta_path):
        place = sys.meta_path.index(importlib.machinery.PathFinder)
        sys.meta_path.insert(place, _HashedSource())


def _offer_neighbours(root: str, *, is_open: bool) -> None:
    """Let modules of a folder be imported by name, after everything else.

    Args:
        root: the folder.
        is_open: whether all of it may be imported, not only what was hashed.
    """
    if root in sys.path and root not in _ROOTS:
        return  # the user put it there
    if not _ROOTS:
        sys.path_hooks.insert(0, _finder)
    if is_open:
        _OPEN.add(root)
    # before the folders of other plans, which may have modules of the same names
    _ROOTS[:] = [root, *(r for r in _ROOTS if r != root)]
    sys.path[:] = [*(p for p in sys.path if p not in _ROOTS), *_ROOTS]
    for name, module in list(sys.modules.items()):
        if not name.startswith(_OWN) and _is_stale(module, root):
            del sys.modules[name]
    for entry in [e for e in sys.path_importer_cache if Path(e).is_relative_to(root)]:
        if _is_below_root(entry):
            del sys.path_importer_cache[entry]


def _is_stale(module: ModuleType, root: str) -> bool:
    """Whether a module came from another plan's folder, or from a file that was edited since."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if not isinstance(loader, _SourceLoader):
        return False
    path = Path(loader.path)
    if not path.is_relative_to(root):
        return _root_of(loader.path) in _ROOTS
    if loader.path in _HASHED:
        return loader.content != _HASHED[loader.path]
    return not path.is_file() or path.read_bytes() != loader.content


class _HashedSource:
    """Finds modules as Python does, and has hashed sources compiled from what was hashed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module along a path; None where there is none."""
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        is_source = spec is not None and isinstance(
            spec.loader, importlib.machinery.SourceFileLoader
        )
        if spec is not None and is_source and spec.origin in _HASHED:
            spec.loader = _SourceLoader(fullname, str(spec.origin))
        return spec


class _HashedOnly(importlib.machinery.FileFinder):
    """Finds the modules of a folder that were hashed; in an open folder, all."""

    def find_spec(
        self, fullname: str, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module; None where its file was not hashed."""
        spec: importlib.machinery.ModuleSpec | None = super().find_spec(fullname, target)
        if spec is None or spec.loader is None or spec.origin is None:  # a folder runs nothing
            return spec
        if spec.origin in _HASHED or _root_of(spec.origin) in _OPEN:
            return spec
        _NOT_HASHED[fullname] = spec.origin
        return None


def _finder(entry: str) -> importlib.machinery.FileFinder:
    """Find modules in a folder that was offered; ImportError leaves any other to Python."""
    if not _is_below_root(entry):
        raise ImportError(entry)
    return _HashedOnly(
        entry,
        (_CompiledLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_SourceLoader, importlib.machinery.SOURCE_SUFFIXES),
    )


def _is_below_root(entry: str) -> bool:
    """Whether the nearest folder of Python's path around an entry is one that was offered."""
    return _root_of(entry) in _ROOTS


def _root_of(place: str) -> str:
    """Find the nearest folder of Python's path around a file or folder; "" where there is none."""
    path = Path(place)
    around: Iterable[str] = (p for p in sys.path if p and path.is_relative_to(p))
    return max(around, key=len, default="")
