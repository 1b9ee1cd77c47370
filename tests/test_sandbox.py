"""Code that nobody vouches for: what it can do within the sandbox, and that it can do nothing
else."""

import os
import shutil
import time
from pathlib import Path

import pytest

from workbench import sandbox
from workbench.errors import ConfigError
from workbench.sandbox import bubblewrap, nsjail, seccomp


@pytest.fixture(params=[bubblewrap, nsjail], ids=lambda jail: jail.NAME)
def jail(request, monkeypatch):
    """One of the programs that put up walls, alone."""
    monkeypatch.setattr(sandbox, "JAILS", (request.param,))
    sandbox._found.cache_clear()
    if (reason := sandbox.why_not()) is not None:
        pytest.skip(f"no {request.param.NAME} here: {reason}")
    yield request.param
    sandbox._found.cache_clear()


needs_it = pytest.mark.usefixtures("jail")


def run(code: str, **options) -> sandbox.SandboxResult:
    return sandbox.run_python(code, **{"timeout_s": 10.0, **options})


@needs_it
def test_a_script_reads_its_input_and_files_and_prints():
    """Text beyond ASCII, a module beside it, the exit status."""
    code = "import sys, helper\nprint(helper.twice(input()), open('a/b.txt').read())\nprint('oh', file=sys.stderr)\nsys.exit(3)"
    files = {"helper.py": "def twice(x): return x * 2", "a/b.txt": "é"}
    ran = run(code, stdin="\U0001f9ee\n", files=files)

    assert (ran.stdout, ran.stderr, ran.exit_status) == ("\U0001f9ee\U0001f9ee é\n", "oh\n", 3)
    assert (ran.timed_out, ran.truncated, ran.limit) == (False, False, None)
    assert 0 < ran.elapsed_s < 10


@needs_it
def test_the_standard_library_works_and_installed_packages_are_hidden():
    """Threads, event loops, temporary files, SQLite; none of our own packages."""
    code = (
        "import asyncio, sqlite3, tempfile, ssl, decimal\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "asyncio.run(asyncio.sleep(0))\nprint(list(ThreadPoolExecutor(2).map(abs, [-1])), tempfile.mkdtemp()[:6])\n"
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
        f"print([os.path.exists(p) for p in ({home!r}, '/home', '/tmp', '/sys', {str(Path.cwd())!r})])\n"
        "for n in range(3, 64):\n    try:\n        os.fstat(n); print('open', n)\n    except OSError: pass\n"
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
    code = "import os\nfor p in (os.getppid(), -1):\n    try: os.kill(p, 9)\n    except OSError: pass\nprint('done')"
    ran = run(code)

    assert ran.exit_status in {0, 137}
    assert run("print(1)").stdout == "1\n"


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
    sandbox._found.cache_clear()
    try:
        with pytest.raises(ConfigError, match="sandbox only"):
            sandbox.run_python("print(1)")
        if os.uname().sysname == "Linux":
            assert "apt install bubblewrap" in sandbox.why_not()
    finally:
        sandbox._found.cache_clear()


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
    sandbox._found.cache_clear()
    try:
        assert "uid map: Permission denied" in sandbox.why_not()
        assert "user namespaces" in sandbox.why_not()
    finally:
        sandbox._found.cache_clear()


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
