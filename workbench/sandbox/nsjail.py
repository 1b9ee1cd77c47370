"""Command line of nsjail, the program for isolation where bubblewrap does not work."""

import math
import shutil
from collections.abc import Sequence

from workbench.sandbox import isolation, launcher

NAME = "nsjail"
_INSTALL = "build nsjail (3.6 was tried; github.com/google/nsjail) and put it on the PATH"


def missing() -> str | None:
    """Return what is missing and what to do; None if the sandbox may work."""
    if shutil.which("nsjail") is None:
        return f"the program nsjail is not installed; {_INSTALL}"
    return None


def command(
    inherited: isolation.InheritedFiles,
    limits: isolation.Limits,
    main: str,
    packages: Sequence[str] = (),
) -> list[str]:
    """Write the command line: namespaces, visible files, then the launcher."""
    words = [
        shutil.which("nsjail") or "nsjail",
        "--mode",
        "o",
        "--quiet",
        "--log_fd",
        str(inherited.status),
    ]
    words += ["--user", "65534", "--group", "65534", "--hostname", "sandbox", "--skip_setsid"]
    words += ["--disable_proc", "--iface_no_lo", "--disable_rlimits"]
    words += ["--time_limit", str(math.ceil(limits.cpu_s) + 2)]  # nobody's but a second guard
    for name, value in isolation.environment(packages).items():
        words += ["--env", f"{name}={value}"]
    for kind, what, at in isolation.mounts(packages):
        match kind:
            case "bind":
                words += ["--bindmount_ro", f"{what}:{at}"]
            case "hidden":
                words += ["--mount", f"none:{at}:tmpfs:ro"]
            case "device":
                words += ["--bindmount", f"{what}:{at}"]
    words += [
        "--mount",
        f"none:{isolation.WORK}:tmpfs:size={limits.disk_bytes}",
        "--cwd",
        isolation.WORK,
    ]
    for number in inherited.descriptors:
        words += ["--pass_fd", str(number)]
    return [*words, "--", *launcher.command(inherited, limits, main)]
