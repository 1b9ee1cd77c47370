"""The seccomp filter: a BPF program that lists the system calls a sandboxed process may make.

Refused are new processes and namespaces, sockets, mounts, looking into other processes, memory that
belongs to no address space, keys, clocks, and every call younger than the ones this file names.
Threads are let through.
"""

import errno
import platform
import struct
from collections.abc import Iterator

# Linux: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h (AArch64)
_X86_64 = {
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "unshare": 272,
    "setns": 308,
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "chroot": 161,
    "ptrace": 101,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "bpf": 321,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "memfd_create": 319,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "init_module": 175,
    "finit_module": 313,
    "delete_module": 176,
    "kexec_load": 246,
    "kexec_file_load": 320,
    "reboot": 169,
    "swapon": 167,
    "swapoff": 168,
    "acct": 163,
    "quotactl": 179,
    "settimeofday": 164,
    "clock_settime": 227,
    "adjtimex": 159,
    "clock_adjtime": 305,
    "personality": 135,
    "shmget": 29,
    "shmat": 30,
    "shmctl": 31,
    "shmdt": 67,
    "semget": 64,
    "semop": 65,
    "semctl": 66,
    "semtimedop": 220,
    "msgget": 68,
    "msgsnd": 69,
    "msgrcv": 70,
    "msgctl": 71,
    "mq_open": 240,
    "socket": 41,
    "syslog": 103,
    "vhangup": 153,
    "sethostname": 170,
    "setdomainname": 171,
    "uselib": 134,
    "modify_ldt": 154,
    "iopl": 172,
    "ioperm": 173,
    "create_module": 174,
    "mlockall": 151,
    "fanotify_init": 300,
    "lookup_dcookie": 212,
    "nfsservctl": 180,
}
_AARCH64 = {
    "clone": 220,
    "unshare": 97,
    "setns": 268,
    "mount": 40,
    "umount2": 39,
    "pivot_root": 41,
    "chroot": 51,
    "ptrace": 117,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "bpf": 280,
    "perf_event_open": 241,
    "userfaultfd": 282,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "memfd_create": 279,
    "name_to_handle_at": 264,
    "open_by_handle_at": 265,
    "init_module": 105,
    "finit_module": 273,
    "delete_module": 106,
    "kexec_load": 104,
    "kexec_file_load": 294,
    "reboot": 142,
    "swapon": 224,
    "swapoff": 225,
    "acct": 89,
    "quotactl": 60,
    "settimeofday": 170,
    "clock_settime": 112,
    "adjtimex": 171,
    "clock_adjtime": 266,
    "personality": 92,
    "shmget": 194,
    "shmctl": 195,
    "shmat": 196,
    "shmdt": 197,
    "semget": 190,
    "semctl": 191,
    "semtimedop": 192,
    "semop": 193,
    "msgget": 186,
    "msgctl": 187,
    "msgrcv": 188,
    "msgsnd": 189,
    "mq_open": 180,
    "socket": 198,
    "syslog": 116,
    "vhangup": 58,
    "sethostname": 161,
    "setdomainname": 162,
    "mlockall": 230,
    "fanotify_init": 262,
    "lookup_dcookie": 18,
    "nfsservctl": 42,
}
MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
_YOUNG = 424  # from here on, numbers are the same on every machine
_YOUNG_ALLOWED = (
    434,
    436,
    437,
    439,
    441,
    449,
    452,
)  # pidfd_open, close_range, openat2, faccessat2 …
_X32 = 0x40000000  # another numbering of x86-64
_THREAD, _NAMESPACES = 0x00010000, 0x7E020000  # flags of clone
_LOAD, _AND, _EQUAL, _LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets within struct seccomp_data
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def program(machine: str | None = None) -> bytes:
    """Write the filter for a machine (default: this one) as an array of `struct sock_filter`."""
    architecture, calls = MACHINES[machine or platform.machine()]
    return b"".join(struct.pack("<HBBI", *step) for step in _steps(architecture, calls))


def _steps(architecture: int, calls: dict[str, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (code, jump if true, jump if false, operand); jumps count steps to leave out."""
    refuse, unknown = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    yield _LEAST, 0, 1, _X32
    yield _RETURN, 0, 0, unknown
    for number in _YOUNG_ALLOWED:
        yield _EQUAL, 0, 1, number
        yield _RETURN, 0, 0, _ALLOW
    yield _LEAST, 0, 1, _YOUNG  # clone3 is among them: libraries then fall back to clone
    yield _RETURN, 0, 0, unknown
    for name, number in calls.items():
        if name != "clone":
            yield _EQUAL, 0, 1, number
            yield _RETURN, 0, 0, refuse
    yield _EQUAL, 1, 0, calls["clone"]
    yield _RETURN, 0, 0, _ALLOW
    yield _LOAD, 0, 0, _FIRST_ARGUMENT
    yield _AND, 0, 0, _THREAD | _NAMESPACES
    yield _EQUAL, 0, 1, _THREAD
    yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, refuse
