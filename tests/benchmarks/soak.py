"""A collector, an ingest loop, the terminal app and a notebook kernel on one store at once.

Run: python tests/benchmarks/soak.py [SECONDS, default 300]
Prints what each did and every error that reached it; ends with 1 if there was any.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def _ingest_loop(path: str, seconds: float) -> None:
    """Import small batches as fast as leases come."""
    from tests.support import making
    from workbench.store import open_store

    end, n, longest = time.monotonic() + seconds, 0, 0.0
    store = open_store(path)
    while time.monotonic() < end:
        began = time.monotonic()
        run = making.run(f"soak-{n}")
        trace = making.trace(making.COT, making.ITEMS[n % 5], n, run_id=run.run_id)
        store.ingest([run, making.TASK, *making.ITEMS, making.COT, trace])
        store.ingest_spool()
        n, longest = n + 1, max(longest, time.monotonic() - began)
        time.sleep(0.1)
    print(f"imports: {n}, the slowest took {longest:.2f} s")


async def _app_loop(path: str, seconds: float) -> None:
    """Press keys in the app, whose live refresh looks every two seconds."""
    from workbench.tui.app import WorkbenchApp

    keys = (
        "j",
        "enter",
        "j",
        "enter",
        "n",
        "n",
        "escape",
        "escape",
        "k",
        "o",
        "question_mark",
        "escape",
    )
    app, errors, pressed = WorkbenchApp(path), set(), 0
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await pilot.press(keys[pressed % len(keys)])
            pressed += 1
            await asyncio.sleep(0.2)
            errors |= {n.message for n in app._notifications if n.severity == "error"}
    print(f"app: {pressed} keys, {len(errors)} errors")
    for message in errors:
        print(f"ERROR in the app: {message}")


def _kernel_loop(path: str, seconds: float) -> None:
    """Run a cell again and again in a real kernel."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    cells, errors, longest = 0, [], 0.0
    try:
        code = f"import workbench as wb, polars as pl; store = wb.open({path!r})"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            reply = client.execute_interactive(code, timeout=60, output_hook=lambda message: None)
            if reply["content"]["status"] != "ok":
                errors.append(f"{reply['content']['ename']}: {reply['content']['evalue']}")
            right = "store.traces('right').filter(pl.col('trial') == 0)"
            code = f"{right}.select('cost_usd').collect().height"
            cells, longest = cells + 1, max(longest, time.monotonic() - began)
            time.sleep(0.2)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(f"kernel: {cells} cells, the slowest took {longest:.2f} s, {len(errors)} errors")
    for message in errors:
        print(f"ERROR in the kernel: {message}")


def _role(name: str, path: Path, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, name, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _collector(path: Path, url: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "workbench",
        "collect",
        "--store",
        str(path),
        "--base-url",
        url,
        "--model",
        "soak",
        "--task",
        "arithmetic",
        "--task",
        "strings",
        "--strategy",
        "direct",
        "--strategy",
        "cot",
        "--trials",
        "1000",
        "--concurrency",
        "8",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main(seconds: float) -> int:
    """Run the four at once, then check that every answered call is in the store once."""
    from tests.support import making
    from workbench.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "soak.duckdb"
        open_store(path, create=True).ingest(making.records())
        answered = Path(folder) / "answered.jsonl"
        stub = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/support/runner_stub.py"),
                "--chunks",
                "10",
                "--gap-s",
                "0.05",
                "--log",
                str(answered),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert stub.stdout is not None
        url = f"http://127.0.0.1:{int(stub.stdout.readline())}/v1"
        collector = _collector(path, url)
        roles = [_role(name, path, seconds) for name in _ROLES]
        said = [role.communicate()[0] for role in roles]
        collector.send_signal(2)
        said.append(collector.communicate()[0][-600:])
        stub.terminate()
        store = open_store(path)
        frame = store.sql(
            "SELECT count(*) AS n, count(DISTINCT (configuration_id, item_id, trial)) AS d"
            " FROM trace_facts WHERE source = 'runner'"
        )
        calls = len(answered.read_text().splitlines())
    print("\n".join(text.strip() for text in said))
    n, distinct = frame.row(0)
    print(f"collected: {n} traces, {distinct} distinct attempts, {calls} answered by the server")
    bad = [
        text for text in said if "ERROR" in text or "Traceback" in text or "lock" in text.lower()
    ]
    return 1 if bad or n != distinct or n != calls else 0


_ROLES = {
    "imports": _ingest_loop,
    "app": lambda path, seconds: asyncio.run(_app_loop(path, seconds)),
    "kernel": _kernel_loop,
}

if __name__ == "__main__":
    if len(sys.argv) == 4:
        _ROLES[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
    else:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 300.0))
