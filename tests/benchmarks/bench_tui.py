"""How fast the terminal app is: first frame in tmux, a million traces, a 300-turn trace.

Run as `python tests/benchmarks/bench_tui.py`; needs tmux. The first frame is timed from the start
of the process to the moment the pane shows it, beside a Textual app that shows one word.
"""

import asyncio
import datetime as dt
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workbench import records as r
from workbench.store import open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.queries import Answer, QueryScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.traces import TracesScreen

RUNS = 7
MINIMAL = """
from textual.app import App
from textual.widgets import Label
class Minimal(App):
    def compose(self):
        yield Label("READY")
Minimal().run()
"""
OURS = "import sys; from workbench.tui import run; run(sys.argv[1])"
BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def tmux(*arguments: str) -> str:
    """Run a tmux command on a server of our own."""
    done = subprocess.run(
        ["tmux", "-L", "bench-tui", *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout


def first_frame_ms(command: list[str], marker: str) -> float:
    """Start a command in a fresh pane and poll until the marker shows."""
    tmux("new-session", "-d", "-x", "140", "-y", "40", "-s", "b", "sleep 60")
    line = f"exec {shlex.join(command)}"
    began = time.perf_counter()
    tmux("respawn-pane", "-k", "-t", "b", line)
    while marker not in tmux("capture-pane", "-p", "-t", "b"):
        if time.perf_counter() - began > 20:
            raise SystemExit(f"{marker!r} never showed")
        time.sleep(0.004)
    took = (time.perf_counter() - began) * 1000
    tmux("kill-server")
    time.sleep(0.3)
    return took


def bench_first_frame(store: Path) -> None:
    """Print the first frame of ours beside a minimal app's."""
    minimal = [sys.executable, "-c", MINIMAL]
    ours = [sys.executable, "-c", OURS, str(store)]
    for command in (minimal, ours):  # warm the file cache
        first_frame_ms(command, "READY" if command is minimal else "configuration")
    least = statistics.median(first_frame_ms(minimal, "READY") for _ in range(RUNS))
    frame = statistics.median(first_frame_ms(ours, "configuration") for _ in range(RUNS))
    data = statistics.median(first_frame_ms(ours, "◆") for _ in range(3))
    print(f"first frame, minimal Textual app   {least:7.0f} ms")
    print(
        f"first frame, workbench tui         {frame:7.0f} ms"
        f"   {frame / least:.2f} × minimal, goal 350"
    )
    print(f"frontier of {store.parent.name:<22} {data:7.0f} ms")


def small() -> Iterator[r.AnyRecord]:
    """Yield two configurations on ten items."""
    task = r.Task(task="task")
    yield from (r.Run(run_id="run", kind="collect", source="bench"), task)
    for strategy in ("direct", "cot"):
        config = r.Configuration(model="model", strategy=strategy)
        yield config
        for i in range(10):
            item = r.Item(task_id=task.task_id, item=str(i))
            yield item
            call = r.Call(billed_cost_usd=0.001, input_tokens=10, output_tokens=20, e2e_s=0.5)
            yield r.Trace(
                run_id="run",
                configuration_id=config.configuration_id,
                task_id=task.task_id,
                item_id=item.item_id,
                passed=i % 3 == 0,
                score=float(i % 3 == 0),
                calls=(call,),
            )


def agent(turns: int) -> Iterator[r.AnyRecord]:
    """Yield one agent: every turn thinks, calls a tool, and reads 4 kB; the last result has 10
    MB."""
    task, config = r.Task(task="agent"), r.Configuration(model="model", strategy="react")
    item = r.Item(task_id=task.task_id, item="0")
    calls, tools, messages = [], [], []
    for turn in range(turns):
        calls.append(
            r.Call(ordinal=turn, ttft_s=0.2, answer_start_s=1.0, e2e_s=1.5, output_tokens=80)
        )
        tools.append(r.ToolCall(ordinal=turn, tool="shell", call_ordinal=turn, e2e_s=0.1))
        size = 2_500_000 if turn == turns - 1 else 1000
        texts = (
            ("assistant", "thinking", f"turn {turn} "),
            ("assistant", "tool_call", "ls "),
            ("tool", "tool_result", f"{turn:03} "),
        )
        for (role, kind, text), times in zip(texts, (100, 1, size), strict=True):
            messages.append(
                r.Message(
                    ordinal=len(messages),
                    role=role,
                    kind=kind,
                    text=text * times,
                    call_ordinal=turn,
                    tool_call_ordinal=turn,
                )
            )
    yield from (r.Run(run_id="agent", kind="collect", source="bench"), task, config, item)
    yield r.Trace(
        run_id="agent",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        calls=tuple(calls),
        tool_calls=tuple(tools),
        messages=tuple(messages),
    )


def million(n: int) -> Iterator[r.AnyRecord]:
    """Yield many plain traces: 10 configurations × 2,000 items × trials."""
    rng = np.random.default_rng(0)
    task = r.Task(task="big")
    configs = [
        r.Configuration(model=f"m{i // 2}", strategy=("direct", "cot")[i % 2]) for i in range(10)
    ]
    items = [r.Item(task_id=task.task_id, item=f"{i:04}") for i in range(2000)]
    yield from (r.Run(run_id="big", kind="collect", source="bench"), task, *configs, *items)
    passes, tokens = rng.random(n) < 0.4, rng.integers(10, 900, n)
    for i in range(n):
        call = r.Call(
            started_at=BEGAN + dt.timedelta(seconds=i),
            input_tokens=100,
            output_tokens=int(tokens[i]),
            e2e_s=float(tokens[i]) / 100,
            billed_cost_usd=float(tokens[i]) * 1e-6,
        )
        yield r.Trace(
            run_id="big",
            configuration_id=configs[i % 10].configuration_id,
            task_id=task.task_id,
            item_id=items[i // 10 % 2000].item_id,
            trial=i // 20_000,
            started_at=call.started_at,
            e2e_s=call.e2e_s,
            passed=bool(passes[i]),
            score=float(passes[i]),
            calls=(call,),
        )


class Stopwatch:
    """Notes how long every question of every screen took, from asking to the drawn answer."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        begun: dict[str, float] = {}
        ask, answer = QueryScreen.ask, QueryScreen.on_answer

        def timed_ask(screen: QueryScreen, group: str, *args: Any, **options: Any) -> None:
            begun[group] = time.perf_counter()
            ask(screen, group, *args, **options)

        def timed_answer(screen: QueryScreen, message: Answer) -> None:
            answer(screen, message)
            group = message.ticket.group
            self.ms[group] = (time.perf_counter() - begun[group]) * 1000

        QueryScreen.ask, QueryScreen.on_answer = timed_ask, timed_answer


async def bench_screens(store: Path, trace_id: str) -> None:
    """Print how long the screens take on a large store."""
    watch, app = Stopwatch(), WorkbenchApp(store)
    async with app.run_test(size=(160, 50)) as pilot:

        async def answered(group: str, what: str) -> None:
            while group not in watch.ms or app.screen.is_busy:
                await pilot.pause(0.005)
            print(f"{what:<44} {watch.ms.pop(group):7.0f} ms")

        await answered("facets", "explore: facets")
        watch.ms.clear()
        app.screen.refresh_view()
        await answered("cost of pass", "explore: cost of pass, after the frontier")
        print(f"{'explore: configurations':<44} {watch.ms['configurations']:7.0f} ms")
        print(f"{'explore: frontier, after that':<44} {watch.ms['frontier']:7.0f} ms")
        app.push_screen(TracesScreen(""))
        await answered("traces", "open the table of all traces")
        await pilot.press("G")
        await answered("rows", "go to its last row")
        app.screen.grid.sort_by("cost_usd", descending=True)
        await answered("traces", "sort it by cost")
        app.push_screen(TraceScreen(trace_id))
        await answered("trace", "open the 300-turn trace")
        print(f"{'its last messages':<44} {watch.ms['messages']:7.0f} ms")


def main() -> None:
    """Build the stores and print the figures."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        little = Path(folder) / "20 traces" / "traces.duckdb"
        open_store(little, create=True).ingest(small())
        bench_first_frame(little)
        big = Path(folder) / "big.duckdb"
        store = open_store(big, create=True)
        store.ingest(million(n))
        store.ingest(agent(300))
        trace_id = store.page("task:agent", columns=["trace_id"])["trace_id"][0]
        print(
            f"-- {store.count():,} traces, and one agent of 300 turns whose last result has 10 MB"
        )
        asyncio.run(bench_screens(big, trace_id))


if __name__ == "__main__":
    main()
