"""Launcher: the first process inside the sandbox, the same under bubblewrap and nsjail.

It writes the sources into the working folder, runs the code in a process of its own under the
limits and the filter of system calls, waits for it, and says how it ended. It is the parent of that
process, and the program outside is its own: each is waited for by its parent, so that no dead
process is left to the first process of the machine.
"""

import json

from workbench.sandbox import isolation

_LAUNCH = """
import ctypes, json, os, resource, struct, sys
given = json.loads(sys.argv[1])
for name, number in given["sources"].items():
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(number, "rb") as source, open(name, "wb") as target:
        target.write(source.read())
with open(given["seccomp"], "rb") as source:
    program = ctypes.create_string_buffer(source.read())
os.set_inheritable(given["status"], False)
child = os.fork()
if child:
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = {"exit-code": ended if ended >= 0 else 128 - ended}
    os.write(given["status"], json.dumps(status).encode() + b"\\n")
    os._exit(0)
for name, value in given["limits"].items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), tuple(value))
steps = (len(program) - 1) // 8
filter = ctypes.create_string_buffer(struct.pack("@HP", steps, ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, ctypes.c_ulong(2), filter):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    raise OSError(ctypes.get_errno(), "the filter of system calls was refused")
os.execv(sys.executable, [sys.executable, "-s", "-B", "-u", "-X", "utf8", *sys.argv[2:]])
"""


def command(inherited: isolation.InheritedFiles, limits: isolation.Limits, main: str) -> list[str]:
    """Write the command line that is run within.

    Args:
        inherited: the open files that it inherits.
        limits: what the code may use up; set in the sandbox, as the limit on processes would
            count those of the user outside.
        main: the source to run.
    """
    given = {
        "sources": {
            f"{isolation.WORK}/{name}": number for name, number in inherited.sources.items()
        },
        "seccomp": inherited.seccomp,
        "status": inherited.status,
        "limits": limits.by_name(),
    }
    python = [isolation.python(), "-I", "-S", "-c", _LAUNCH]
    return [*python, json.dumps(given), f"{isolation.WORK}/{main}"]
