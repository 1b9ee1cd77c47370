"""Command line of bubblewrap, the preferred program for isolation."""

import re
import shutil
import subprocess
from collections.abc import Sequence

from workbench.sandbox import isolation, launcher

NAME = "bubblewrap"
_OLDEST = (0, 7)  # the first that takes the size of a folder in memory
_INSTALL = "install bubblewrap 0.7 or later (Debian and Ubuntu: apt install bubblewrap)"


def missing() -> str | None:
    """Return what is missing and what to do; None if the sandbox may work."""
    program = shutil.which("bwrap")
    if program is None:
        return f"the program bwrap is not installed; {_INSTALL}"
    version = subprocess.run(  # noqa: S603  # the program that was found, with words of ours alone
        [program, "--version"], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST:
        return f"bwrap {version.strip() or 'of no known version'} is too old; {_INSTALL}"
    return None


def command(
    inherited: isolation.InheritedFiles,
    limits: isolation.Limits,
    main: str,
    packages: Sequence[str] = (),
) -> list[str]:
    """Write the command line: namespaces, visible files, then the launcher."""
    words = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-user",
        "--unshare-all",
        "--uid",
        "65534",
        "--gid",
        "65534",
    ]
    words += ["--hostname", "sandbox", "--die-with-parent", "--clearenv", "--cap-drop", "ALL"]
    for name, value in isolation.environment(packages).items():
        words += ["--setenv", name, value]
    for kind, what, at in isolation.mounts(packages):
        match kind:
            case "bind":
                words += ["--ro-bind", what, at]
            case "hidden":
                words += ["--tmpfs", at, "--remount-ro", at]
            case "device":
                words += ["--dev-bind", what, at]
    words += ["--size", str(limits.disk_bytes), "--tmpfs", isolation.WORK]
    words += ["--chdir", isolation.WORK, "--remount-ro", "/"]
    # else a process of bubblewrap's own is the first within, and it is not waited for
    words += ["--as-pid-1", "--"]
    return [*words, *launcher.command(inherited, limits, main)]
