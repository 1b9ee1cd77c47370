"""Isolation of a sandboxed process: visible files and limits, for bubblewrap and nsjail alike."""

import dataclasses
import functools
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from workbench.sandbox import libraries, seccomp
from workbench.sandbox import packages as package_files

WORK = "/work"
_PYTHON, _LIBRARIES, _PACKAGES = Path("/python"), Path("/libraries"), Path("/packages")
_TIME_ZONES = Path("/usr/share/zoneinfo")
# within the standard library's folder: what is installed, and what no program needs
_HIDDEN = ("site-packages", "dist-packages", "ensurepip", "idlelib", "test", "turtledemo")
_NOT_LOADED = ("_tkinter",)  # there is no screen, and it needs the libraries of one
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_ENVIRONMENT = {
    "PATH": "/usr/bin",
    "HOME": WORK,
    "TMPDIR": WORK,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHON_HISTORY": "/dev/null",
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's; each thread takes a share of the addresses
    "MALLOC_ARENA_MAX": "1",  # else every thread takes 64 MiB of the addresses that there are
}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one process: CPU seconds, bytes of memory, bytes of its folder."""

    cpu_s: int
    memory_bytes: int
    disk_bytes: int

    def by_name(self) -> dict[str, tuple[int, int]]:
        """Return the limits of the kernel as {name: (soft, hard)}."""
        return {
            "CPU": (self.cpu_s, self.cpu_s + 1),
            "AS": (self.memory_bytes,) * 2,
            "FSIZE": (self.disk_bytes,) * 2,
            "NPROC": (64, 64),
            "NOFILE": (64, 64),
            "CORE": (0, 0),
            "MEMLOCK": (0, 0),
            "SIGPENDING": (64, 64),
            "MSGQUEUE": (0, 0),
        }


@dataclasses.dataclass(slots=True)
class InheritedFiles:
    """Open files that the sandbox inherits: the filter, the sources by name, the status pipe."""

    seccomp: int
    sources: dict[str, int]
    status: int
    status_to_read: int

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors, whose numbers must stay the same in the child."""
        return [self.seccomp, self.status, *self.sources.values()]

    def close_ours(self) -> None:
        """Close what the child has by now, so that the end of its status is seen."""
        for number in self.descriptors:
            os.close(number)
        self.seccomp, self.sources, self.status = -1, {}, -1

    def close(self) -> None:
        """Close whatever is still open."""
        for number in (*self.descriptors, self.status_to_read):
            if number >= 0:
                os.close(number)


class Mount(NamedTuple):
    """A file, folder or device that is visible in the sandbox.

    `what` of the host is at `at`, or an empty folder hides what is there.
    """

    kind: Literal["bind", "hidden", "device"]
    what: str
    at: str


def missing() -> str | None:
    """Return what this machine lacks for any sandbox, and what to do; None if one may work."""
    machine = platform.machine()
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}; use a Linux machine or container"
    if machine not in seccomp.MACHINES:
        return (
            f"no filter of system calls is known for {machine}; "
            f"there is one for {', '.join(seccomp.MACHINES)}"
        )
    prefix, python = _prefix(), _executable()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111  # never raises
    own = (python, _standard_library())
    if home.is_relative_to(prefix) or not all(path.is_relative_to(prefix) for path in own):
        return (
            f"{python} does not lie in a folder of its own (its prefix is {prefix}); "
            "use another Python"
        )
    return None


def open_files(sources: Mapping[str, str], folder: str) -> InheritedFiles:
    """Open the filter, the sources and a status pipe; `folder` is a private one on the host."""
    to_read, status = os.pipe()
    opened: dict[str, int] = {}
    inherited = InheritedFiles(-1, opened, status, to_read)
    try:
        inherited.seccomp = _as_file(seccomp.program(), Path(folder) / "filter")
        for number, (name, text) in enumerate(sources.items()):
            content = text.encode("utf-8", "replace")
            opened[name] = _as_file(content, Path(folder) / str(number))
    except BaseException:
        inherited.close()
        raise
    return inherited


def _as_file(content: bytes, path: Path) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def python() -> str:
    """Return the path of this Python inside the sandbox."""
    return str(_within(_executable()))


def environment(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment variables of sandboxed code."""
    libraries_path = {"LD_LIBRARY_PATH": str(_LIBRARIES)}
    return _ENVIRONMENT | libraries_path | ({"PYTHONPATH": str(_PACKAGES)} if packages else {})


def mounts(packages: Sequence[str] = ()) -> Iterator[Mount]:
    """List what is visible: Python, its standard library, the libraries that they need, packages.

    No folder of the system is among it but the rules of time zones.

    Args:
        packages: installed packages that the code may import; see `workbench.sandbox.packages`.

    Raises:
        ConfigError: a package may not be seen, or is not installed.
    """
    shown = tuple(package_files.visible(packages))
    executable, standard = _executable(), _standard_library()
    yield Mount("bind", str(executable), str(_within(executable)))
    yield Mount("bind", str(standard), str(_within(standard)))
    for name in _HIDDEN:
        if (standard / name).is_dir():
            yield Mount("hidden", "", str(_within(standard / name)))
    for name, file in _libraries(tuple(path for _, path in shown)).items():
        yield Mount("bind", str(file.resolve()), str(_LIBRARIES / name))
    if (loader := libraries.loader(executable)) is not None:
        yield Mount("bind", str(Path(loader).resolve()), loader)
    for name, path in shown:
        yield Mount("bind", str(path), str(_PACKAGES / name))
    if _TIME_ZONES.is_dir():
        yield Mount("bind", str(_TIME_ZONES), str(_TIME_ZONES))
    for device in _DEVICES:
        yield Mount("device", device, device)


@functools.lru_cache(maxsize=16)
def _libraries(packages: tuple[Path, ...]) -> dict[str, Path]:
    """Find the libraries of the interpreter, its extension modules, and those of packages."""
    executable, standard = _executable(), _standard_library()
    modules = (
        m for m in (standard / "lib-dynload").glob("*.so") if not m.name.startswith(_NOT_LOADED)
    )
    paths = libraries.needed(executable, standard, sorted(modules))
    for folder in filter(Path.is_dir, packages):
        modules = (m for m in folder.rglob("*.so*") if m.is_file())
        for name, file in libraries.needed(executable, folder, sorted(modules)).items():
            if not any(file.is_relative_to(package) for package in packages):
                paths.setdefault(name, file)
    return paths


def _executable() -> Path:
    return Path(sys.executable).resolve()


def _standard_library() -> Path:
    return Path(os.__file__).resolve().parent


def _prefix() -> Path:
    return Path(sys.base_prefix).resolve()


def _within(path: Path) -> Path:
    """Return where a path of this Python lies in the sandbox.

    Tracebacks shall not name the user's folders.
    """
    return _PYTHON / path.relative_to(_prefix())
