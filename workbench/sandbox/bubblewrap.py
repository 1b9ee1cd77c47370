"""How bubblewrap is called, the first choice of walls."""

import re
import shutil
import subprocess

from workbench.sandbox import walls

NAME = "bubblewrap"
_OLDEST = (0, 7)  # the first that takes the size of a folder in memory
_INSTALL = "install bubblewrap 0.7 or later (Debian and Ubuntu: apt install bubblewrap)"
# set within the walls: set without, the limit on processes would count those of the user
_LAUNCH = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), tuple(value))
os.execv(sys.executable, [sys.executable, "-s", "-B", "-u", "-X", "utf8", *sys.argv[2:]])
"""


def missing() -> str | None:
    """Say what is missing, and what to do; None where it may work."""
    program = shutil.which("bwrap")
    if program is None:
        return f"the program bwrap is not installed; {_INSTALL}"
    said = subprocess.run(  # noqa: S603  # the program that was found, with words of ours alone
        [program, "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        return f"bwrap {said.strip() or 'of no known version'} is too old; {_INSTALL}"
    return None


def command(handed: walls.Handed, limits: walls.Limits, main: str) -> list[str]:
    """Write the command line: walls, what is seen through them, then the launcher."""
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
    for name, value in walls.environment().items():
        words += ["--setenv", name, value]
    for kind, what, at in walls.seen():
        match kind:
            case "bind":
                words += ["--ro-bind", what, at]
            case "link":
                words += ["--symlink", what, at]
            case "hidden":
                words += ["--tmpfs", at, "--remount-ro", at]
            case "device":
                words += ["--dev-bind", what, at]
    words += ["--size", str(limits.disk_bytes), "--tmpfs", walls.WORK]
    for name, number in handed.sources.items():
        words += ["--file", str(number), f"{walls.WORK}/{name}"]
    words += ["--chdir", walls.WORK, "--remount-ro", "/"]
    words += ["--json-status-fd", str(handed.status), "--seccomp", str(handed.seccomp), "--"]
    launch = [walls.python(), "-I", "-S", "-c", _LAUNCH, limits.as_json()]
    return [*words, *launch, f"{walls.WORK}/{main}"]
