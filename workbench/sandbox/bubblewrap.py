"""How bubblewrap is called: what the sandboxed process sees, and what it may use up."""

import dataclasses
import json
import os
import platform
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.sandbox import seccomp

_WORK = "/work"
_PYTHON = Path("/python")
_OLDEST = (0, 7)  # the first that takes the size of a folder in memory
_INSTALL = "install bubblewrap 0.7 or later (Debian and Ubuntu: apt install bubblewrap)"
_TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_ENVIRONMENT = {
    "PATH": "/usr/bin", "HOME": _WORK, "TMPDIR": _WORK, "LANG": "C.UTF-8", "TZ": "UTC",
    "PYTHONHASHSEED": "0", "PYTHON_HISTORY": "/dev/null",
    "MALLOC_ARENA_MAX": "1",  # else every thread takes 64 MiB of the addresses that there are
}  # fmt: skip
# set within the walls: set without, the limit on processes would count those of the user
_LAUNCH = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), tuple(value))
os.execv(sys.executable, [sys.executable, "-s", "-B", "-u", "-X", "utf8", *sys.argv[2:]])
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use up: CPU seconds, bytes of memory, bytes of its folder."""

    cpu_s: int
    memory_bytes: int
    disk_bytes: int

    def as_json(self) -> str:
        """Write the limits of the kernel as {name: (soft, hard)}."""
        values = {
            "CPU": (self.cpu_s, self.cpu_s + 1), "AS": (self.memory_bytes,) * 2,
            "FSIZE": (self.disk_bytes,) * 2, "NPROC": (64, 64), "NOFILE": (64, 64), "CORE": (0, 0),
            "MEMLOCK": (0, 0), "SIGPENDING": (64, 64), "MSGQUEUE": (0, 0),
        }  # fmt: skip
        return json.dumps(values)


@dataclasses.dataclass(slots=True)
class Handed:
    """Open files that bubblewrap inherits: the filter, the sources by name, where it tells its status."""

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


def missing() -> str | None:
    """Say what is missing for a sandbox, and what to do; None where it may work."""
    machine = platform.machine()
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}; use a Linux machine or container"
    if machine not in seccomp.MACHINES:
        return f"no filter of system calls is known for {machine}; there is one for {', '.join(seccomp.MACHINES)}"
    program = shutil.which("bwrap")
    if program is None:
        return f"the program bwrap is not installed; {_INSTALL}"
    said = subprocess.run(  # noqa: S603
        [program, "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        return f"bwrap {said.strip() or 'of no known version'} is too old; {_INSTALL}"
    prefix, python = _prefix(), Path(sys.executable).resolve()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111  # never raises
    if home.is_relative_to(prefix) or not python.is_relative_to(prefix):
        return f"{python} does not lie in a folder of its own (its prefix is {prefix}); use another Python"
    return None


def hand_over(sources: Mapping[str, str], folder: str) -> Handed:
    """Open what bubblewrap will read; `folder` is a private one on the host."""
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


def command(handed: Handed, limits: Limits, main: str) -> list[str]:
    """Write the command line: walls, what is seen through them, then the launcher."""
    python = str(_within(Path(sys.executable).resolve()))
    words = [shutil.which("bwrap") or "bwrap", "--unshare-user", "--unshare-all", "--uid", "65534", "--gid", "65534"]  # fmt: skip
    words += ["--hostname", "sandbox", "--die-with-parent", "--clearenv", "--cap-drop", "ALL"]
    for name, value in _ENVIRONMENT.items():
        words += ["--setenv", name, value]
    words += [*_system(), "--size", str(limits.disk_bytes), "--tmpfs", _WORK]
    for name, number in handed.sources.items():
        words += ["--file", str(number), f"{_WORK}/{name}"]
    words += ["--chdir", _WORK, "--remount-ro", "/"]
    words += ["--json-status-fd", str(handed.status), "--seccomp", str(handed.seccomp), "--"]
    return [*words, python, "-I", "-S", "-c", _LAUNCH, limits.as_json(), f"{_WORK}/{main}"]


def _system() -> Sequence[str]:
    """Show the system's programs and this Python's library, read-only; hide installed packages."""
    words = ["--ro-bind", "/usr", "/usr"]
    for top in map(Path, _TOP):
        if top.is_symlink():
            words += ["--symlink", str(top.readlink()), str(top)]
        elif top.is_dir():
            words += ["--ro-bind", str(top), str(top)]
    words += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = _prefix()
    if not prefix.is_relative_to("/usr"):
        words += ["--ro-bind", str(prefix), str(_within(prefix))]
        # else a Python that finds its library by its path takes another one's from the system
        words += ["--setenv", "LD_LIBRARY_PATH", str(_PYTHON / "lib")]
    for packages in map(Path, site.getsitepackages([str(prefix)])):
        if packages.is_dir():
            words += ["--tmpfs", str(_within(packages)), "--remount-ro", str(_within(packages))]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        words += ["--dev-bind", device, device]
    return words


def _prefix() -> Path:
    return Path(sys.base_prefix).resolve()


def _within(path: Path) -> Path:
    """Return where a path of this Python lies in the sandbox: tracebacks shall not name the user's folders."""
    prefix = _prefix()
    if prefix.is_relative_to("/usr") or not path.is_relative_to(prefix):
        return path
    return _PYTHON / path.relative_to(prefix)
