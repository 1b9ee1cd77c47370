"""Sandbox for untrusted Python code: a process without network, files, keys or children.

The isolation is Linux's own, set up by bubblewrap (`bwrap`) or, where that does not work, nsjail:
every namespace of its own, this Python and nothing else of the system, an emptied environment, and
a small folder in memory to work in. A filter of system calls (`seccomp`) and limits of the kernel
complete it. Where one of these is missing, nothing is run.
"""

import functools
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import ModuleType

import msgspec

from workbench.errors import ConfigError
from workbench.sandbox import bubblewrap, isolation, nsjail, watch
from workbench.sandbox.packages import check as check_packages

__all__ = ["SandboxResult", "check_packages", "run_python", "why_not"]
_MAIN = "main.py"
JAILS: tuple[ModuleType, ...] = (bubblewrap, nsjail)  # the first that works is taken
_MOST_FILES = 64


class SandboxResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of running code in the sandbox.

    Attributes:
        stdout, stderr: the beginning of what it wrote, as UTF-8 with broken characters replaced.
        exit_status: as in a shell; 128 + the number of the signal where one ended the process.
        timed_out: whether wall time or CPU time ran out.
        elapsed_s: wall time in seconds, start of the process included.
        truncated: whether some of the output was dropped.
        limit: "time", "output" or "files" where that limit ended it; else None. Memory that is
            refused is a MemoryError of the code's own.
    """

    stdout: str
    stderr: str
    exit_status: int
    timed_out: bool
    elapsed_s: float
    truncated: bool
    limit: str | None = None


def run_python(
    code: str,
    *,
    stdin: str = "",
    timeout_s: float = 10.0,
    memory_mb: int = 512,
    files: Mapping[str, str] = {},
    output_bytes: int = 65_536,
    disk_mb: int = 32,
    packages: Sequence[str] = (),
) -> SandboxResult:
    """Run a script with this interpreter's standard library in a sandbox; blocks until it ends.

    It is one process: it may start threads, and no other process. It sees no network, no `/proc`,
    no file but the interpreter, its standard library, the libraries that these need and its own
    folder, which is gone afterwards. Hashes are not randomised, the clock is UTC.

    Args:
        code: the script; it is `main.py` in its working folder.
        stdin: what it reads.
        timeout_s: cap on wall time and on CPU time.
        memory_mb: cap on its address space in MiB; the bare interpreter takes about 20.
        files: text by name, relative to its working folder, to be imported or read.
        output_bytes: most bytes kept of each of stdout and stderr.
        disk_mb: size in MiB of its working folder, which lies in memory.
        packages: installed packages that it may import, from the list in
            `workbench.sandbox.packages`.

    Raises:
        ConfigError: there is no sandbox here (see `why_not`), an argument is of no use, or a
            package is not installed or not on the list.
    """
    if (reason := why_not()) is not None:
        raise ConfigError(f"code is run in a sandbox only, and there is none: {reason}")
    jail, _ = _first_working_jail()
    assert jail is not None
    return _run(
        jail,
        code,
        stdin=stdin,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
        files=files,
        output_bytes=output_bytes,
        disk_mb=disk_mb,
        packages=packages,
    )


def why_not() -> str | None:
    """Return why there is no sandbox here and what to do; None if one was run and works."""
    jail, reason = _first_working_jail()
    return reason if jail is None else None


@functools.cache
def _first_working_jail() -> tuple[ModuleType | None, str]:
    """Return the first program that works here, or the reasons why none does."""
    if (reason := isolation.missing()) is not None:
        return None, reason
    reasons = []
    for jail in JAILS:
        reason = jail.missing() or _why_not(jail)
        if reason is None:
            return jail, ""
        reasons.append(reason)
    return None, "; and ".join(reasons)


def _why_not(jail: ModuleType) -> str | None:
    """Return why a program does not work here; None where it does."""
    try:
        result = _run(
            jail,
            "import ssl, sys; print(sys.version)",
            stdin="",
            timeout_s=20.0,
            memory_mb=512,
            files={},
            output_bytes=1000,
            disk_mb=1,
        )
    except ConfigError as error:
        return str(error)
    if result.stdout != f"{sys.version}\n":
        last_line = (result.stderr.strip().splitlines() or [f"exit status {result.exit_status}"])[
            -1
        ]
        return f"Python does not run in {jail.NAME} here: {last_line[:300]}"
    return None


def _run(
    jail: ModuleType,
    code: str,
    *,
    stdin: str,
    timeout_s: float,
    memory_mb: int,
    files: Mapping[str, str],
    output_bytes: int,
    disk_mb: int,
    packages: Sequence[str] = (),
) -> SandboxResult:
    _check(timeout_s, memory_mb, files, output_bytes, disk_mb)
    limits = isolation.Limits(
        cpu_s=math.ceil(timeout_s), memory_bytes=memory_mb << 20, disk_bytes=disk_mb << 20
    )
    sources = {**files, _MAIN: code}
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        inherited = isolation.open_files(sources, folder)
        try:
            ended = watch.run(
                jail.NAME,
                jail.command(inherited, limits, _MAIN, packages),
                stdin=stdin.encode("utf-8", "replace"),
                timeout_s=timeout_s,
                output_bytes=output_bytes,
                inherited=inherited,
            )
        finally:
            inherited.close()
    timed_out = ended.limit == "time" or ended.exit_status == watch.CPU_SPENT
    return SandboxResult(
        stdout=ended.stdout.decode("utf-8", "replace"),
        stderr=ended.stderr.decode("utf-8", "replace"),
        exit_status=ended.exit_status,
        timed_out=timed_out,
        elapsed_s=ended.elapsed_s,
        truncated=ended.truncated,
        limit="time" if timed_out else ended.limit,
    )


def _check(
    timeout_s: float, memory_mb: int, files: Mapping[str, str], output_bytes: int, disk_mb: int
) -> None:
    numbers = {
        "timeout_s": timeout_s,
        "memory_mb": memory_mb,
        "output_bytes": output_bytes,
        "disk_mb": disk_mb,
    }
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"the sandbox's {name} = {value!r} is not a number above 0")
    if len(files) > _MOST_FILES:
        raise ConfigError(f"the sandbox takes {_MOST_FILES} files at most, not {len(files)}")
    for name in files:
        path = PurePosixPath(name)
        plain = name.isprintable() and name == str(path) and ".." not in path.parts
        if not plain or path.is_absolute() or name in {".", _MAIN}:
            raise ConfigError(
                f"the sandbox takes no file called {name!r}; "
                f"give a relative path other than {_MAIN}"
            )
