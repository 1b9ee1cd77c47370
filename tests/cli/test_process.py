"""The command as a process: exit statuses, pipes, colours, and what it imports."""

import json
import os
import pty
import subprocess
import sys

import pytest

from tests.support import ROOT, making


def spawn(*args, **environ):
    """Run `python -m workbench` and wait."""
    return subprocess.run(
        [sys.executable, "-m", "workbench", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environ,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all."""
    return making.small_store(tmp_path_factory.mktemp("store"))


def test_data_goes_to_stdout_and_talk_to_stderr(store):
    """And nothing else: no warning of a library at exit."""
    done = spawn("analyze", "summary", "--store", store.path, "--format", "json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "summary"
    assert all(line.startswith(("left out: ", "note: ")) for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("args", "status"),
    [(["--version"], 0), (["nosuch"], 2), (["runs", "--store", "/no/such/x.duckdb"], 1)],
)
def test_the_exit_status_says_how_it_went(args, status):
    """0 done, 1 failed, 2 misuse; never a traceback."""
    done = spawn(*args)

    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error_to_talk_about(store):
    """`workbench sql … | head` is quiet."""
    query = "SELECT * FROM range(200000)"
    command = [
        sys.executable,
        "-m",
        "workbench",
        "sql",
        query,
        "--store",
        str(store.path),
        "--format",
        "csv",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        process.wait(timeout=60)

    assert said == b""


def on_terminal(*args, **environ):
    """Run on a pseudo-terminal of 100 columns; returns what the person sees."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "workbench", *map(str, args)]
    process = subprocess.Popen(
        command,
        stdout=follower,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm"} | environ,
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    process.wait(timeout=60)
    os.close(leader)
    return seen.decode()


def test_colour_only_on_a_terminal_and_not_with_no_color(store):
    """Bold heads are for people."""
    args = ("runs", "--store", store.path)

    assert "\x1b" not in spawn(*args).stdout
    assert "\x1b[1m" in on_terminal("tasks", "--shipped")
    assert "\x1b" not in on_terminal("tasks", "--shipped", NO_COLOR="1")


def test_a_terminal_gets_lines_that_fit_and_safe_csv(store):
    """A wide row is turned; a control character in CSV is shown by name."""
    wide = on_terminal("runs", "--store", store.path)
    assert "row 1" in wide

    seen = on_terminal(
        "sql", "SELECT chr(27) || '[2J' AS x", "--store", store.path, "--format", "csv"
    )
    assert "\x1b[2J" not in seen
    assert "␛[2J" in seen


def test_an_ascii_terminal_does_not_break_it(store):
    """A dash that cannot be written is escaped."""
    done = spawn("models", "--store", store.path, PYTHONIOENCODING="ascii:strict")

    assert done.returncode == 0
    assert "\\u2014" in done.stdout


HEAVY = {
    "polars",
    "duckdb",
    "numpy",
    "rich",
    "textual",
    "altair",
    "httpx",
    "scipy",
    "msgspec",
    "pyarrow",
}


@pytest.mark.parametrize(
    "code",
    [
        "import workbench",
        "import workbench.slice",
        "import workbench.config",
        "from workbench.cli import main; main(['--help'])",
        "from workbench.cli import main; main(['--version'])",
    ],
)
def test_what_must_be_quick_imports_nothing_heavy(code):
    """A fresh interpreter tells; static graphs cannot see deferral."""
    script = f"import sys\n{code}\nprint(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert done.stderr.strip() == "[]"
