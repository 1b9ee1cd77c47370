"""Collect the sample traces with the project's own runner, from small models served on loopback.

    python data/traces/collect_samples.py collect --work FOLDER --gguf SmolLM2-135M-Instruct=FILE …
    python data/traces/collect_samples.py export --work FOLDER [--output FOLDER]

`collect` serves each model with one thread (llama.cpp inside `xllamacpp`) and asks both at once;
the same command again asks only for what is missing. `export` turns the spool into this folder's
Parquet files, and prints the rows of README.md that list them.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from workbench import datasets, runner, spool
from workbench.records import AnyRecord, Attempt, Configuration, Run, Trace, json_text
from workbench.runner import strategies
from workbench.runner.planning.plan import Planned, Work

TASKS = ("arithmetic", "facts", "lists", "logic", "strings")
TOOL_TASKS = ("lookup", "ledger", "arithmetic")
ITEMS = 30  # the first of each set: balanced over difficulty
SLOTS = 4
CONTEXT = 2048  # tokens a slot
MACHINE = "one-vcpu"
HOST, PLATFORM = "samples", "Linux x86_64, one core of a virtual machine for each model"
SETTINGS: dict[str, Any] = {
    "temperature": 0.4,
    "max_tokens": 96,
    "seed": 2026,
    "concurrency": SLOTS,
}
MODELS: dict[str, dict[str, Any]] = {
    "SmolLM2-135M-Instruct": {"precision": "Q4_1", "endpoint": "chat"},
    "Gemma-3-270M": {"precision": "Q4_K_M", "endpoint": "completions"},
}
SMALL, LARGE = MODELS
_REFINING = ("self_refine", "sequential_refinement")


@dataclasses.dataclass(frozen=True)
class Part:
    """Some strategies with the tasks, items and trials that they are asked.

    Attributes:
        block: items of a task asked before the next task's turn.
        models: whom it is about.
    """

    strategies: tuple[dict[str, Any], ...]
    tasks: tuple[str, ...] = TASKS
    items: int = ITEMS
    trials: int = 1
    block: int = 10
    models: tuple[str, ...] = tuple(MODELS)


_BUDGETED = {"name": "budgeted", "answer_tokens": 24, "by": "tags"}
PARTS = (
    Part(
        (
            {"name": "direct"},
            {"name": "cot"},
            {"name": "think", "max_thinking_tokens": 96, "max_answer_tokens": 24},
        ),
        trials=4,
    ),
    Part(
        tuple(_BUDGETED | {"thinking_tokens": n} for n in (12, 36, 108)),
        items=15,
        trials=2,
        block=5,
    ),
    Part(
        (
            {"name": "self_consistency"},
            {"name": "best_of_n", "samples": 4, "verifier": "self"},
            {"name": "self_refine", "rounds": 2},
            {"name": "sequential_refinement", "rounds": 2},
        ),
        items=15,
        block=5,
    ),
    Part(({"name": "cascade", "by": "vote"},), items=15, block=5, models=(SMALL,)),
    # the small model's chat template drops tools: it is told of them in words, as a base model is
    Part(({"name": "react", "protocol": "text"},), TOOL_TASKS, items=15, block=5, models=(SMALL,)),
    Part(({"name": "react"},), TOOL_TASKS, items=15, block=5, models=(LARGE,)),
)


class InTurn(Work):
    """The attempts task by task and strategy by strategy.

    So prompts share their cached beginning.
    """

    sets: tuple[datasets.TaskSet, ...] = ()
    block = 10

    def __iter__(self) -> Iterator[Planned]:
        """Walk items in blocks: all tasks, strategies and trials of one, then the next."""
        place = {
            (task.name, item.item): i for task in self.sets for i, item in enumerate(task.items)
        }

        def turn(planned: Planned) -> tuple[int, str, str]:
            block = place[planned.task.name, planned.item.item] // self.block
            return block, planned.task.name, planned.configuration.configuration

        return iter(sorted(super().__iter__(), key=turn))


def serve(gguf: str, alias: str, port: int) -> None:
    """Serve a model until the process is ended."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path, params.model_alias = gguf, {alias}
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_parallel, params.n_ctx = SLOTS, CONTEXT * SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.swa_full = True  # else Gemma's sliding window leaves no prompt to reuse
    params.cache_ram_mib = (
        0  # slots keep their own prompts; copies to memory cost more than they save
    )
    server = Server(params)
    while server:
        time.sleep(3600)


async def _started(gguf: str, alias: str, port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "serve",
        gguf,
        alias,
        str(port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the collection in order, and then the server
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(300):
            await asyncio.sleep(0.2)
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/health")).is_success:
                    return process
    process.kill()
    raise SystemExit(f"{alias}: the server did not start")


def _work(model: str, part: Part, ports: dict[str, int]) -> InTurn:
    """Expand a part for a model; the larger one may be asked to help the smaller."""

    def settings(name: str) -> dict[str, Any]:
        place = {"provider": "llama.cpp", "base_url": f"http://127.0.0.1:{ports[name]}/v1"}
        return {"model": name, "machine": MACHINE} | place | MODELS[name]

    plan = runner.Plan.from_mapping(
        SETTINGS
        | {"models": (settings(model),), "tasks": part.tasks, "trials": part.trials}
        | {"strategies": part.strategies, "helpers": {"large": settings(LARGE)}}
    )
    whole = [datasets.load_task(name) for name in plan.tasks]
    sets = tuple(dataclasses.replace(t, items=t.items[: part.items]) for t in whole)
    work = InTurn(plan, sets, [strategies.get(**table) for table in part.strategies])
    work.sets, work.block = sets, part.block
    return work


async def _one_model(model: str, ports: dict[str, int], folder: Path) -> None:
    """Collect all parts of a model, one after the other."""

    def show(progress: runner.Progress) -> None:
        if progress.done % 60 == 0:
            sys.stdout.write(f"{model}: {progress.done} of {progress.left + progress.done}\n")
            sys.stdout.flush()

    for part in PARTS:
        if model not in part.models:
            continue
        run_id = f"{model}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}".replace(".", "-")
        work = _work(model, part, ports)
        with spool.SpoolWriter(folder / model, run_id) as writer:
            report = await runner.collect(work.plan, spool=writer, work=work, on_progress=show)
        sys.stdout.write(f"{model}: {report}\n")


async def collect(args: argparse.Namespace) -> None:
    """Serve all models and ask them at once, each on a core of its own."""
    files = dict(pair.split("=", 1) for pair in args.gguf)
    ports = {model: args.port + n for n, model in enumerate(MODELS)}
    servers = [await _started(files[model], model, port) for model, port in ports.items()]
    try:
        async with asyncio.TaskGroup() as group:
            for model in MODELS:
                group.create_task(_one_model(model, ports, args.work))
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                server.terminate()
            await server.wait()


def records(folder: Path) -> Iterator[AnyRecord]:
    """Read the spool; what would tell the collecting machine is made general."""
    tasks = {t.task.task_id: t for t in map(datasets.load_task, TASKS)}
    refining: set[str] = set()
    asked = {
        record.run_id
        for segment in folder.glob("*/*.jsonl")
        for record in spool.read_segment(segment).records
        if isinstance(record, Trace)
    }
    for segment in sorted(folder.glob("*/*.jsonl")):
        for record in spool.read_segment(segment).records:
            if isinstance(record, Configuration) and record.strategy in _REFINING:
                refining.add(record.configuration_id)
            if isinstance(record, Run):
                if record.run_id not in asked:
                    continue  # a launch that found nothing left to ask
                yield msgspec.structs.replace(
                    record, host=HOST, platform=PLATFORM, versions=_with_server(record.versions)
                )
            elif isinstance(record, Trace) and record.configuration_id in refining:
                yield _with_rounds(record, tasks)
            elif not isinstance(record, Attempt):
                yield record


def _with_rounds(trace: Trace, tasks: dict[str, datasets.TaskSet]) -> Trace:
    """Note the rounds of a refinement collected before strategies noted them."""
    if "rounds" in (trace.metadata or ""):
        return trace
    task = tasks[trace.task_id]
    item = next(i for i in task.items if task.record(i).item_id == trace.item_id)
    texts = {
        m.call_ordinal: m.text
        for m in trace.messages
        if m.role == "assistant" and m.kind == "text" and m.ordinal > 0
    }
    rounds: list[dict[str, Any]] = []
    tokens = dict.fromkeys(("input_tokens", "output_tokens"), 0)
    for call in trace.calls:
        for name in tokens:
            tokens[name] += getattr(call, name)
        text = texts.get(call.ordinal, "")
        if call.role == "subject" and (text.strip() or not rounds):
            score = task.score(item, text)
            rounds.append({"answer": score.answer, "passed": score.passed, **tokens})
            tokens = dict.fromkeys(tokens, 0)
    for name, n in tokens.items():  # a last critique
        rounds[-1][name] += n
    return msgspec.structs.replace(trace, metadata=json_text({"rounds": rounds}))


def _with_server(versions: str | None) -> str:
    found = msgspec.json.decode(versions or "{}", type=dict[str, str])
    return json_text(found | {"xllamacpp": importlib.metadata.version("xllamacpp")})


def export(args: argparse.Namespace) -> None:
    """Price the traces with the example sheet and write one Parquet file a table."""
    from workbench.prices import read_sheet
    from workbench.store import open_store

    path = args.work / "samples.duckdb"
    path.unlink(missing_ok=True)
    store = open_store(path, create=True)
    store.add_prices(read_sheet(datasets.sample_prices()))
    store.ingest(records(args.work), source="runner")
    for name, rows in store.export(args.output).items():
        file = args.output / f"{name}.parquet"
        if rows:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            sys.stdout.write(
                f"| `traces/{file.name}` | {rows:,} | {len(content):,} | `{digest}` |\n"
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("--work", type=Path, required=True)
    collecting.add_argument("--gguf", action="append", required=True, help="MODEL=FILE")
    collecting.add_argument("--port", type=int, default=18111)
    exporting = commands.add_parser("export")
    exporting.add_argument("--work", type=Path, required=True)
    exporting.add_argument("--output", type=Path, default=datasets.sample_traces_dir())
    serving = commands.add_parser("serve")
    for name, kind in (("gguf", str), ("alias", str), ("port", int)):
        serving.add_argument(name, type=kind)
    args = parser.parse_args()
    if args.command == "serve":
        serve(args.gguf, args.alias, args.port)
    elif args.command == "export":
        export(args)
    else:
        asyncio.run(collect(args))


if __name__ == "__main__":
    main()
