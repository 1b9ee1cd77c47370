"""Race our reader of Inspect logs against inspect-ai's own frames, on one log, in one process.

    python tests/benchmarks/bench_import.py [--items 667] [--epochs 3] [--rounds 3]

The log is made here by inspect-ai itself: a tool-using agent on a mock model, with reasoning and
cached tokens, and all events. The goal is that reading it and
storing it takes at most a tenth of samples_df + messages_df + events_df together.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from workbench import sources

GOAL = 10.0


def make_log(folder: Path, items: int, epochs: int) -> Path:
    """Run an agent on a mock model and return the log that Inspect wrote."""
    from inspect_ai import Task, eval
    from inspect_ai.agent import react
    from inspect_ai.dataset import Sample
    from inspect_ai.model import (
        ChatMessageAssistant,
        ContentReasoning,
        ContentText,
        ModelOutput,
        ModelUsage,
        get_model,
    )
    from inspect_ai.scorer import includes
    from inspect_ai.tool import ToolCall, tool

    @tool
    def addition():
        async def execute(x: int, y: int):
            """Add two numbers.

            Args:
                x: first
                y: second
            """
            return x + y

        return execute

    def answer(input, tools, tool_choice, config):
        last = input[-1]
        number = sum(map(ord, str(last.id))) % 1000
        calls = [ToolCall(id=f"c{number}", function="addition", arguments={"x": number, "y": 2})]
        if last.role == "tool":
            calls = [ToolCall(id=f"s{number}", function="submit", arguments={"answer": "4"})]
        text = f"I add the numbers, then I report them. {number} " * 3
        content = [ContentReasoning(reasoning="carry the one. " * 40), ContentText(text=text)]
        message = ChatMessageAssistant(content=content, tool_calls=calls)
        usage = ModelUsage(
            input_tokens=300,
            output_tokens=200,
            total_tokens=540,
            input_tokens_cache_read=40,
            reasoning_tokens=150,
        )
        reason = "tool_calls"
        return ModelOutput(
            model="mockllm/model",
            choices=[{"message": message, "stop_reason": reason}],
            usage=usage,
        )

    task = Task(
        dataset=[Sample(id=f"i{n}", input=f"What is {n}+2?", target="4") for n in range(items)],
        solver=react(tools=[addition()]),
        scorer=includes(),
    )
    model = get_model("mockllm/model", custom_outputs=answer)
    [log] = eval(
        task,
        model=model,
        epochs=epochs,
        log_dir=str(folder),
        display="none",
        max_samples=64,
        log_realtime=False,
        log_format="eval",
    )
    if log.status != "success":
        sys.exit(f"the mock evaluation failed: {log.error}")
    return Path(str(log.location).removeprefix("file://"))


def timed(rounds: int, work: Callable[[], object]) -> float:
    """Return the median seconds of a few rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def read_all(path: Path) -> int:
    """Draw every record."""
    return sum(1 for _ in sources.read(path))


def import_all(path: Path) -> None:
    """Read into a new store."""
    from workbench.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "bench.duckdb"), create=True)
        store.ingest(sources.read(path), source="inspect")


def main() -> None:
    """Make the log, race, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=667)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, help="race on this log instead")
    args = parser.parse_args()
    from inspect_ai.analysis import events_df, messages_df, samples_df

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        log = args.log or make_log(Path(folder), args.items, args.epochs)
        report = sources.FileReport(log)
        traces = [r for r in sources.read(log, report=report) if type(r).__name__ == "Trace"]
        print(
            f"log: {report.rows_out} samples, {sum(len(t.calls) for t in traces)} calls, "
            f"{sum(len(t.tool_calls) for t in traces)} tool calls, "
            f"{sum(len(t.messages) for t in traces)} messages, "
            f"{log.stat().st_size / 2**20:.1f} MiB, made in {time.perf_counter() - start:.0f} s"
        )
        ours = {"read to records": timed(args.rounds, lambda: read_all(log))}
        try:
            ours["read and store"] = timed(args.rounds, lambda: import_all(log))
        except ImportError as error:
            print(f"no store yet: {error}")
        theirs = {
            f.__name__: timed(args.rounds, lambda f=f: f(str(log), quiet=True))
            for f in (samples_df, messages_df, events_df)
        }
        for name, seconds in (ours | theirs).items():
            print(f"{name:16} {seconds:8.3f} s")
        total = sum(theirs.values())
        for name, seconds in ours.items():
            print(f"{name}: {total / seconds:.1f} × faster than the three (goal {GOAL:g} ×)")


if __name__ == "__main__":
    main()
