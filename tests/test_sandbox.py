"""Code that nobody vouches for: what it can do within the sandbox, and that it can do nothing
else."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench import sandbox
from workbench.errors import ConfigError
from workbench.sandbox import bubblewrap, libraries, nsjail, packages, seccomp


@pytest.fixture(params=[bubblewrap, nsjail], ids=lambda jail: jail.NAME)
def jail(request, monkeypatch):
    """One of the programs that put up walls, alone."""
    monkeypatch.setattr(sandbox, "JAILS", (request.param,))
    sandbox._first_working_jail.cache_clear()
    if (reason := sandbox.why_not()) is not None:
        pytest.skip(f"no {request.param.NAME} here: {reason}")
    yield request.param
    sandbox._first_working_jail.cache_clear()


needs_it = pytest.mark.usefixtures("jail")


def run(code: str, **options) -> sandbox.SandboxResult:
    return sandbox.run_python(code, **{"timeout_s": 10.0, **options})


@needs_it
def test_a_script_reads_its_input_and_files_and_prints():
    """Text beyond ASCII, a module beside it, the exit status."""
    code = (
        "import sys, helper\nprint(helper.twice(input()), open('a/b.txt').read())\n"
        "print('oh', file=sys.stderr)\nsys.exit(3)"
    )
    files = {"helper.py": "def twice(x): return x * 2", "a/b.txt": "é"}
    ran = run(code, stdin="\U0001f9ee\n", files=files)

    assert (ran.stdout, ran.stderr, ran.exit_status) == ("\U0001f9ee\U0001f9ee é\n", "oh\n", 3)
    assert (ran.timed_out, ran.truncated, ran.limit) == (False, False, None)
    assert 0 < ran.elapsed_s < 10


@needs_it
def test_the_standard_library_works_and_installed_packages_are_hidden():
    """Threads, event loops, temporary files, SQLite; none of our own packages."""
    code = (
        "import asyncio, sqlite3, tempfile, ssl, decimal\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "print(list(ThreadPoolExecutor(2).map(abs, [-1])), tempfile.mkdtemp()[:6])\n"
        "try:\n    import msgspec\nexcept ImportError:\n    print('hidden')\nexit()"
    )
    assert run(code).stdout == "[1] /work/\nhidden\n"


@needs_it
def test_the_same_code_gives_the_same_output():
    """Hashes are not randomised."""
    code = "print(hash('a'), list({'x', 'y', 'z', 'w'}))"
    assert run(code).stdout == run(code).stdout


@needs_it
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\nwhile True: os.fork()", "Operation not permitted"),
        ("import subprocess; subprocess.run(['/usr/bin/true'])", "Operation not permitted"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "Operation not permitted"),
        (
            "import socket; socket.socket(40)",
            "Operation not permitted",
        ),  # AF_VSOCK: no namespace holds it
        ("import os; os.memfd_create('x')", "Operation not permitted"),
        (
            "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
            "if c.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'unshare')",
            "unshare",
        ),
        ("x = bytearray(10**10)", "MemoryError"),
        ("f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)", "OSError"),
        ("open('/etc/passwd')", "No such file"),
        ("open('/usr/x', 'w')", "Read-only"),
        ("open('/dev/x', 'w')", "Read-only"),
        ("open('/x', 'w')", "Read-only"),
        ("open('/proc/self/environ')", "No such file"),
        ("import os; os.chroot('/work')", "not permitted"),
    ],
    ids=str,
)
def test_hostile_code_is_refused_and_ends(code, words):
    """Children, network, namespaces, memory, disk, files: an error in the code, at once."""
    ran = run(code, timeout_s=5.0)

    assert words in ran.stderr
    assert (ran.exit_status, ran.timed_out) == (1, False)


@needs_it
def test_nothing_of_the_user_is_seen(monkeypatch):
    """No key of the environment, no home, no path of this machine, no open file."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    home = str(Path.home())
    code = (
        "import os\nprint(sorted(os.environ), os.getuid())\n"
        f"paths = ({home!r}, '/home', '/tmp', '/sys', {str(Path.cwd())!r})\n"
        "print([os.path.exists(p) for p in paths])\n"
        "for n in range(3, 64):\n"
        "    try:\n        os.fstat(n); print('open', n)\n    except OSError: pass\n"
        "raise ValueError(os.listdir('/'))"
    )
    ran = run(code)

    names, seen = ran.stdout.splitlines()
    assert "KEY" not in ran.stdout
    assert names.endswith(" 65534")
    assert seen == "[False, False, False, False, False]"
    assert home not in ran.stderr
    assert "ValueError" in ran.stderr


@needs_it
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os; os.close(1); os.close(2)\nwhile True: pass",
        "import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "import os, time; os.setsid(); time.sleep(60)",
    ],
)
def test_time_is_up_for_whoever_does_not_end(code):
    """Busy, asleep, silent, deaf to signals, in a session of its own."""
    start = time.monotonic()
    ran = run(code, timeout_s=0.5)

    assert (ran.timed_out, ran.limit, ran.exit_status) == (True, "time", 137)
    assert time.monotonic() - start < 30.0  # the code goes on for a minute, or for ever


@needs_it
def test_what_was_printed_before_the_end_is_kept():
    """The output of a script that was ended is shown."""
    assert run("print('begun')\nwhile True: pass", timeout_s=0.5).stdout == "begun\n"


@needs_it
def test_output_without_end_is_cut_and_ended():
    """The beginning is kept, the rest dropped; after some megabytes nobody waits."""
    ran = run("while True: print('x' * 10_000)", output_bytes=1000)
    some = run("print('é' * 600)", output_bytes=1000)

    assert (len(ran.stdout), ran.truncated, ran.limit, ran.timed_out) == (
        1000,
        True,
        "output",
        False,
    )
    assert (some.truncated, some.limit, some.exit_status) == (True, None, 0)
    assert len(some.stdout.encode()) == 1000


@needs_it
def test_files_without_end_are_ended():
    """Empty files fill no folder, but the memory of the kernel."""
    ran = run("for i in range(10**8): open(f'f{i}', 'w').close()", timeout_s=8.0)

    assert (ran.limit, ran.exit_status) == ("files", 137)


@needs_it
def test_threads_without_end_are_ended():
    """They are bounded by the memory of the one process, and by its time."""
    code = (
        "import threading, time\nthreading.stack_size(32768)\n"
        "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    ran = run(code, memory_mb=128, timeout_s=1.5)

    assert ran.exit_status != 0
    assert ran.elapsed_s < 4.0
    assert run("print(1)").stdout == "1\n"


@needs_it
def test_killing_everything_reaches_nothing_outside():
    """Its parent there is no process of ours."""
    code = (
        "import os\nfor p in (os.getppid(), -1):\n"
        "    try: os.kill(p, 9)\n    except OSError: pass\nprint('done')"
    )
    ran = run(code)

    assert ran.exit_status in {0, 137}
    assert run("print(1)").stdout == "1\n"


LIST_READABLE = """
import os
for root, folders, files in os.walk("/"):
    for name in files:
        path = os.path.join(root, name)
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError:
            continue
        print(path)
"""


@needs_it
def test_only_this_python_its_libraries_and_time_zones_are_readable():
    """No `/etc`, no programs, no settings, no installed package."""
    ran = run(LIST_READABLE, timeout_s=60.0, output_bytes=4_000_000)

    standard = f"/python/{Path(os.__file__).parent.relative_to(sys.base_prefix)}/"
    allowed = (standard, "/libraries/lib", "/usr/share/zoneinfo/", "/work/main.py")
    single = {
        f"/python/{Path(sys.executable).resolve().relative_to(sys.base_prefix)}",
        str(libraries.loader(Path(sys.executable).resolve())),
        *(f"/dev/{name}" for name in ("null", "zero", "random", "urandom")),
    }
    lines = set(ran.stdout.splitlines())
    assert (ran.stderr, ran.truncated) == ("", False)
    assert {path for path in lines - single if not path.startswith(allowed)} == set()
    assert f"{standard}os.py" in lines
    assert {path for path in lines if "-packages" in path} == set()
    assert {path for path in lines if "/libraries/" in path and ".so" not in path} == set()


@needs_it
def test_a_package_is_visible_only_where_it_is_asked_for():
    """With what it imports, and nothing else that is installed."""
    code = (
        "import os\nimport sympy\nprint(sympy.factorint(91))\n"
        "print(sorted(n for n in os.listdir('/packages') if n.islower() and '-' not in n))"
    )
    ran = run(code, packages=["SymPy"], timeout_s=60.0)

    assert ran.stdout.splitlines()[0] == "{7: 1, 13: 1}", ran.stderr
    assert "msgspec" not in ran.stdout
    assert "'mpmath'" in ran.stdout
    assert "No module named 'sympy'" in run("import sympy").stderr


@needs_it
def test_compiled_packages_find_their_libraries():
    """NumPy's are beside it and in the system."""
    pytest.importorskip("numpy", reason="numpy is not installed")
    ran = run("import numpy\nprint(numpy.eye(2) @ [3, 4])", packages=["numpy"], timeout_s=60.0)

    assert ran.stdout == "[3. 4.]\n", ran.stderr


@needs_it
@pytest.mark.parametrize("name", ["trace-workbench", "msgspec", "../numpy", "", "pip"])
def test_a_package_that_is_not_on_the_list_is_refused(name):
    """Packages of one's own may hold what a model has no business with."""
    with pytest.raises(ConfigError, match="may not import"):
        run("", packages=[name])


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch):
    """On the list, and not here."""
    monkeypatch.setitem(packages.ALLOWED, "no-such-package", ())

    with pytest.raises(ConfigError, match="pip install no-such-package"):
        packages.check(["no-such-package"])


# one expression each; all must raise, or give a false value
ATTACKS = {
    "read": [
        *(
            f"open({path!r})"
            for path in (
                "/etc/passwd",
                "/etc/shadow",
                "/etc/hosts",
                "/etc/ld.so.cache",
                "/usr/local/etc/npmrc",
                "/proc/1/environ",
                "/proc/self/maps",
                "/sys/kernel/version",
                "/root/.bashrc",
                "/var/log/syslog",
                "/dev/mem",
                "/dev/kmsg",
                "/dev/sda",
                "/dev/tty",
                "/dev/ptmx",
                "/usr/bin/env",
                "/work/../../etc/passwd",
            )
        ),
        "[p for p in ('/home', '/root', '/tmp', '/var', '/etc', '/run', '/opt', '/usr/local')"
        " if os.path.exists(p)]",
        "__import__('msgspec')",
        "os.getenv('HOME') != '/work'",
        "open('/work/link') if os.symlink('/etc/passwd', '/work/link') is None else 0",
        "os.listdir('/proc')",
    ],
    "write": [
        *(
            f"open({path!r}, 'w')"
            for path in (
                "/x",
                "/usr/x",
                "/usr/share/zoneinfo/UTC",
                "/python/lib/x.py",
                "/libraries/libc.so.6",
                "/libraries/x.so",
                "/dev/x",
                sys.executable,
            )
        ),
        "os.chmod('/libraries', 0o777)",
        "os.remove('/libraries/libc.so.6')",
        "os.rename('/libraries', '/work/l')",
        "os.link('/libraries/libc.so.6', '/work/libc')",
        "os.mknod('/work/disk', 0o60666, os.makedev(8, 0))",
        "os.mkdir('/tmp')",
        "open('/work/large', 'wb').write(bytes(64 << 20))",
    ],
    "processes": [
        "os.fork()",
        "os.posix_spawn(sys.executable, [sys.executable], {})",
        "subprocess.run([sys.executable, '-c', ''])",
        "os.kill(1, 9)",
        "os.kill(2**22 - 1, 9)",
        "os.setuid(0)",
        "os.setgroups([0])",
        "os.chroot('/work')",
        "os.pidfd_open(1) and signal.pidfd_send_signal(os.pidfd_open(1), 9)",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))",
        "os.nice(-10) < 0",
        "os.memfd_create('x')",
        "bytearray(10**10)",
        "mmap.mmap(-1, 8 << 30)",
    ],
    "network": [
        *(f"socket.socket({family})" for family in (1, 2, 10, 16, 17, 31, 38, 40)),
        "socket.create_connection(('127.0.0.1', 80))",
        "socket.getaddrinfo('example.org', 80)",
        "socket.sethostname('x')",
        "urllib.request.urlopen('http://169.254.169.254/')",
        "socket.socketpair()[0].family is None",
    ],
}
REPORT = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, urllib.request
for attack in open("attacks", encoding="utf-8").read().split("\\0"):
    try:
        result = eval(attack)
    except (OSError, MemoryError, ModuleNotFoundError, ValueError):
        result = None
    if result:
        print(attack, "gave", result)
print("all were tried")
"""


@needs_it
@pytest.mark.parametrize("kind", ATTACKS)
def test_no_attack_gets_anything(kind):
    """Paths of the machine, writes, processes and rights, the network."""
    ran = run(REPORT, files={"attacks": "\0".join(ATTACKS[kind])}, timeout_s=30.0, memory_mb=256)

    assert ran.stdout == "all were tried\n", ran.stderr


@needs_it
def test_no_system_call_of_the_filter_is_let_through():
    """Each by its number, with arguments of no meaning: refused before the kernel looks at them."""
    _, calls = seccomp.MACHINES[os.uname().machine]
    code = (
        "import ctypes, errno, json\nc = ctypes.CDLL(None, use_errno=True)\n"
        "for name, number in json.load(open('calls')).items():\n"
        "    if c.syscall(number, *[-1] * 6) != -1 or ctypes.get_errno() != errno.EPERM:\n"
        "        print(name)\nprint('tried')"
    )

    assert run(code, files={"calls": json.dumps(calls)}).stdout == "tried\n"


COUNT_CHILDREN = """
import ctypes, os, sys
from workbench import sandbox
from workbench.sandbox import bubblewrap, nsjail
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours
sandbox.JAILS = tuple(j for j in (bubblewrap, nsjail) if j.NAME == sys.argv[1])
codes = ["print(1)", "while True: pass", "import os; os.fork()", "import os; os.abort()",
         "import os; os.kill(os.getpid(), 9)", "import os; os.close(1); os.close(2); os._exit(3)"]
for number in range(50):
    sandbox.run_python(codes[number % len(codes)], timeout_s=0.3)
print(open(f"/proc/self/task/{os.getpid()}/children").read().split())
"""


@needs_it
def test_fifty_runs_leave_no_process_dead_or_alive(jail):
    """Whoever runs as the first process of a container has nobody who waits for orphans."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this kernel does not list children")
    told = subprocess.run(
        [sys.executable, "-c", COUNT_CHILDREN, jail.NAME],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (told.stdout, told.stderr) == ("[]\n", "")


@needs_it
def test_nothing_is_left_behind(tmp_path, monkeypatch):
    """No folder on the disk, no process, no open file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    run("while True: pass", timeout_s=0.3)
    run("print(1)", files={"a.txt": "x"})

    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@needs_it
@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "main.py", "", ".", "a\nb", "a//b", "x\0"]
)
def test_a_file_outside_its_folder_is_refused(name):
    """Names are relative and plain."""
    with pytest.raises(ConfigError, match="no file called"):
        run("", files={name: "x"})


@needs_it
def test_limits_of_no_use_are_refused():
    """Zero and infinity are no limits."""
    for option in ({"timeout_s": 0.0}, {"timeout_s": float("inf")}, {"memory_mb": 0}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            run("", **option)


def test_without_bubblewrap_nothing_is_run(monkeypatch):
    """The reason says what to install; there is no way around it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sandbox._first_working_jail.cache_clear()
    try:
        with pytest.raises(ConfigError, match="sandbox only"):
            sandbox.run_python("print(1)")
        if os.uname().sysname == "Linux":
            assert "apt install bubblewrap" in sandbox.why_not()
    finally:
        sandbox._first_working_jail.cache_clear()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs a shell")
def test_a_bubblewrap_that_fails_is_named(monkeypatch, tmp_path):
    """User namespaces switched off: its own words, and where to look."""
    if os.uname().sysname != "Linux":
        pytest.skip("Linux only")
    fake = tmp_path / "bwrap"
    fake.write_text(
        '#!/bin/bash\nif [ "$1" = --version ]; then echo bubblewrap 0.9.0; exit; fi\n'
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    sandbox._first_working_jail.cache_clear()
    try:
        assert "uid map: Permission denied" in sandbox.why_not()
        assert "user namespaces" in sandbox.why_not()
    finally:
        sandbox._first_working_jail.cache_clear()


def test_an_old_bubblewrap_is_refused(monkeypatch, tmp_path):
    """0.6 cannot limit the size of a folder."""
    if os.uname().sysname != "Linux":
        pytest.skip("Linux only")
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho bubblewrap 0.6.1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))

    assert "too old" in bubblewrap.missing()


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_decides_as_it_says(machine):
    """A second reading of the program: an interpreter of its four kinds of steps."""
    import errno
    import struct

    program = [
        struct.unpack_from("<HBBI", seccomp.program(machine), 8 * n)
        for n in range(len(seccomp.program(machine)) // 8)
    ]
    architecture, calls = seccomp.MACHINES[machine]

    def decide(number, arguments=0, where=architecture):
        words = {0: number, 4: where, 16: arguments}
        value = place = 0
        while True:
            code, yes, no, operand = program[place]
            if code == 0x20:
                value = words[operand]
            elif code == 0x54:
                value &= operand
            elif code == 0x06:
                return operand
            else:
                hit = value == operand if code == 0x15 else value >= operand
                place += yes if hit else no
            place += 1

    allow, refuse, unknown = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
    assert all(decide(n) == refuse for n in calls.values())
    assert decide(calls["clone"], 0x10000) == allow  # a thread
    assert decide(calls["clone"], 0x10000 | 0x10000000) == refuse  # and a namespace with it
    assert [decide(n) for n in (435, 425, 500, 1 << 30)] == [
        unknown
    ] * 4  # clone3, io_uring, the future, x32
    assert decide(437) == allow  # openat2
    assert decide(0 if machine == "x86_64" else 63) == allow  # read
    assert decide(0, where=0x40000003) == 0x80000000  # another architecture: killed
