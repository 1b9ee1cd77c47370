"""How nsjail is called, the second choice of walls.

nsjail takes no compiled filter of system calls, hands over no file, and tells a signal's end as its
own: a launcher within its walls does that, as their first process. It puts the sources into the
folder, begins the code in a process of its own under the limits and the filter, and tells how that
one ended.
"""

import json
import math
import shutil

from workbench.sandbox import walls

NAME = "nsjail"
_INSTALL = "build nsjail (3.6 was tried; github.com/google/nsjail) and put it on the PATH"
_LAUNCH = """
import ctypes, json, os, resource, struct, sys
told = json.loads(sys.argv[1])
for name, number in told["sources"].items():
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(number, "rb") as source, open(name, "wb") as target:
        target.write(source.read())
with open(told["seccomp"], "rb") as source:
    program = ctypes.create_string_buffer(source.read())
os.set_inheritable(told["status"], False)
child = os.fork()
if child:
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = {"exit-code": ended if ended >= 0 else 128 - ended}
    os.write(told["status"], json.dumps(status).encode() + b"\\n")
    os._exit(0)
for name, value in told["limits"].items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), tuple(value))
steps = (len(program) - 1) // 8
filter = ctypes.create_string_buffer(struct.pack("@HP", steps, ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, ctypes.c_ulong(2), filter):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    raise OSError(ctypes.get_errno(), "the filter of system calls was refused")
os.execv(sys.executable, [sys.executable, "-s", "-B", "-u", "-X", "utf8", *sys.argv[2:]])
"""


def missing() -> str | None:
    """Say what is missing, and what to do; None where it may work."""
    if shutil.which("nsjail") is None:
        return f"the program nsjail is not installed; {_INSTALL}"
    return None


def command(handed: walls.Handed, limits: walls.Limits, main: str) -> list[str]:
    """Write the command line: walls, what is seen through them, then the launcher."""
    words = [
        shutil.which("nsjail") or "nsjail",
        "--mode",
        "o",
        "--quiet",
        "--log_fd",
        str(handed.status),
    ]
    words += ["--user", "65534", "--group", "65534", "--hostname", "sandbox", "--skip_setsid"]
    words += ["--disable_proc", "--iface_no_lo", "--disable_rlimits"]
    words += ["--time_limit", str(math.ceil(limits.cpu_s) + 2)]  # nobody's but a second guard
    for name, value in walls.environment().items():
        words += ["--env", f"{name}={value}"]
    for kind, what, at in walls.seen():
        match kind:
            case "bind":
                words += ["--bindmount_ro", f"{what}:{at}"]
            case "link":
                words += ["--symlink", f"{what}:{at}"]
            case "hidden":
                words += ["--mount", f"none:{at}:tmpfs:ro"]
            case "device":
                words += ["--bindmount", f"{what}:{at}"]
    words += ["--mount", f"none:{walls.WORK}:tmpfs:size={limits.disk_bytes}", "--cwd", walls.WORK]
    for number in handed.inherited:
        words += ["--pass_fd", str(number)]
    told = {
        "sources": {f"{walls.WORK}/{name}": number for name, number in handed.sources.items()},
        "seccomp": handed.seccomp,
        "status": handed.status,
        "limits": json.loads(limits.as_json()),
    }
    launch = [walls.python(), "-I", "-S", "-c", _LAUNCH, json.dumps(told)]
    return [*words, "--", *launch, f"{walls.WORK}/{main}"]
