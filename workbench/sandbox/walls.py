"""What a sandboxed process sees and may use up, whichever program puts up the walls around it."""

import dataclasses
import json
import os
import platform
import site
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from workbench.sandbox import seccomp

WORK = "/work"
_PYTHON = Path("/python")
_TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_ENVIRONMENT = {
    "PATH": "/usr/bin",
    "HOME": WORK,
    "TMPDIR": WORK,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHON_HISTORY": "/dev/null",
    "MALLOC_ARENA_MAX": "1",  # else every thread takes 64 MiB of the addresses that there are
}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use up: CPU seconds, bytes of memory, bytes of its folder."""

    cpu_s: int
    memory_bytes: int
    disk_bytes: int

    def as_json(self) -> str:
        """Write the limits of the kernel as {name: (soft, hard)}."""
        values = {
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
        return json.dumps(values)


@dataclasses.dataclass(slots=True)
class Handed:
    """Open files that the sandbox inherits: the filter, the sources by name, where its status is told."""

    seccomp: int
    sources: dict[str, int]
    status: int
    status_to_read: int

    @property
    def inherited(self) -> list[int]:
        """The numbers that must stay the same in the child."""
        return [self.seccomp, self.status, *self.sources.values()]

    def close_ours(self) -> None:
        """Close what the child has by now, so that the end of its status is seen."""
        for number in self.inherited:
            os.close(number)
        self.seccomp, self.sources, self.status = -1, {}, -1

    def close(self) -> None:
        """Close whatever is still open."""
        for number in (*self.inherited, self.status_to_read):
            if number >= 0:
                os.close(number)


class Seen(NamedTuple):
    """Something that is seen within: `what` of the host is at `at`, or an empty folder hides what is there."""

    kind: Literal["bind", "link", "hidden", "device"]
    what: str
    at: str


def missing() -> str | None:
    """Say what this machine lacks for any sandbox, and what to do; None where there may be one."""
    machine = platform.machine()
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}; use a Linux machine or container"
    if machine not in seccomp.MACHINES:
        return f"no filter of system calls is known for {machine}; there is one for {', '.join(seccomp.MACHINES)}"
    prefix, python = _prefix(), Path(sys.executable).resolve()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111  # never raises
    if home.is_relative_to(prefix) or not python.is_relative_to(prefix):
        return f"{python} does not lie in a folder of its own (its prefix is {prefix}); use another Python"
    return None


def hand_over(sources: Mapping[str, str], folder: str) -> Handed:
    """Open what the sandbox will read; `folder` is a private one on the host."""
    to_read, status = os.pipe()
    opened: dict[str, int] = {}
    handed = Handed(-1, opened, status, to_read)
    try:
        handed.seccomp = _as_file(seccomp.program(), Path(folder) / "filter")
        for number, (name, text) in enumerate(sources.items()):
            content = text.encode("utf-8", "replace")
            opened[name] = _as_file(content, Path(folder) / str(number))
    except BaseException:
        handed.close()
        raise
    return handed


def _as_file(content: bytes, path: Path) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def python() -> str:
    """Return where this Python lies within."""
    return str(_within(Path(sys.executable).resolve()))


def environment() -> dict[str, str]:
    """Return all variables that there are within."""
    if _prefix().is_relative_to("/usr"):
        return dict(_ENVIRONMENT)
    # else a Python that finds its library by its path takes another one's from the system
    return _ENVIRONMENT | {"LD_LIBRARY_PATH": str(_PYTHON / "lib")}


def seen() -> Iterator[Seen]:
    """Show the system's programs and this Python's library, read-only; hide installed packages."""
    yield Seen("bind", "/usr", "/usr")
    for top in map(Path, _TOP):
        if top.is_symlink():
            yield Seen("link", str(top.readlink()), str(top))
        elif top.is_dir():
            yield Seen("bind", str(top), str(top))
    if Path("/etc/ld.so.cache").exists():
        yield Seen("bind", "/etc/ld.so.cache", "/etc/ld.so.cache")
    prefix = _prefix()
    if not prefix.is_relative_to("/usr"):
        yield Seen("bind", str(prefix), str(_within(prefix)))
    for packages in map(Path, site.getsitepackages([str(prefix)])):
        if packages.is_dir():
            yield Seen("hidden", "", str(_within(packages)))
    for device in _DEVICES:
        yield Seen("device", device, device)


def _prefix() -> Path:
    return Path(sys.base_prefix).resolve()


def _within(path: Path) -> Path:
    """Return where a path of this Python lies in the sandbox: tracebacks shall not name the user's folders."""
    prefix = _prefix()
    if prefix.is_relative_to("/usr") or not path.is_relative_to(prefix):
        return path
    return _PYTHON / path.relative_to(prefix)
