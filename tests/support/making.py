"""Small hand-made records and stores for tests."""

import atexit
import datetime as dt
import functools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb

from workbench import spool
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyReading,
    Item,
    Message,
    Run,
    Score,
    Task,
    ToolCall,
    Trace,
)
from workbench.store import Store, open_store

START = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
TASK = Task(task="sums", version="1", scorer="exact")
ITEMS = tuple(
    Item(task_id=TASK.task_id, item=str(n), input=f"{n}+1?", target=str(n + 1)) for n in range(5)
)
DIRECT = Configuration(model="gpt-5", provider="openai", strategy="direct")
COT = Configuration(model="gpt-4o", provider="openai", strategy="cot")
UNPRICED = Configuration(model="nobody-knows", provider="local", strategy="cot")
CONFIGURATIONS = (DIRECT, COT, UNPRICED)


def run(run_id: str = "run-1", **fields: object) -> Run:
    """A finished import."""
    return Run(run_id=run_id, kind="import", source="test", started_at=START, **fields)


def trace(configuration: Configuration, item: Item, trial: int = 0, **fields: object) -> Trace:
    """A trace with one call, right for every second item."""
    passed = int(item.item) % 2 == 0
    call = Call(
        provider=configuration.provider,
        model=configuration.model,
        started_at=START,
        ttft_s=0.25,
        answer_start_s=0.5,
        e2e_s=2.0,
        input_tokens=100,
        cache_read_tokens=40,
        output_tokens=30,
        reasoning_tokens=10,
    )
    messages = (
        Message(ordinal=0, role="user", kind="text", text=item.input or ""),
        Message(
            ordinal=1, role="assistant", kind="text", text=f"Answer: {item.target}", call_ordinal=0
        ),
    )
    given = {
        "run_id": "run-1",
        "configuration_id": configuration.configuration_id,
        "task_id": TASK.task_id,
        "item_id": item.item_id,
        "trial": trial,
        "started_at": START,
        "e2e_s": 2.0,
        "score": float(passed),
        "passed": passed,
        "calls": (call,),
        "messages": messages,
    }
    return Trace(**(given | fields))


def records(trials: int = 2) -> Iterator[AnyRecord]:
    """One run of three configurations on five items."""
    yield run()
    yield TASK
    yield from ITEMS
    yield from CONFIGURATIONS
    for configuration in CONFIGURATIONS:
        for item in ITEMS:
            for trial in range(trials):
                yield trace(configuration, item, trial)


def rich_trace(item: Item = ITEMS[0]) -> Trace:
    """A trace with a judge, a tool, two scores, and energy: something in every table."""
    calls = (
        Call(
            ordinal=0,
            provider="openai",
            model="gpt-5",
            started_at=START,
            input_tokens=10,
            output_tokens=5,
        ),
        Call(
            ordinal=1,
            provider="openai",
            model="gpt-5",
            started_at=START,
            input_tokens=20,
            output_tokens=6,
        ),
        Call(
            ordinal=2,
            role="judge",
            provider="openai",
            model="gpt-4o",
            started_at=START,
            input_tokens=7,
            output_tokens=1,
        ),
    )
    return trace(
        DIRECT,
        item,
        trial=9,
        calls=calls,
        tool_calls=(
            ToolCall(
                ordinal=0, tool="calc", call_ordinal=0, arguments='{"x":1}', error_type="timeout"
            ),
        ),
        scores=(
            Score(scorer="exact", score=1.0, passed=True),
            Score(scorer="judge", score=0.5, value="P"),
        ),
        energy=tuple(
            EnergyReading(
                call_ordinal=n, device="gpu:0", phase=phase, method="apportioned", energy_j=2.0
            )
            for n in (0, 1)
            for phase in ("prefill", "answer")
        ),
    )


@functools.cache
def _small_store() -> Path:
    """The folder of a small store that this process makes once, for copies."""
    folder = Path(tempfile.mkdtemp(prefix="small-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = open_store(folder / "traces.duckdb", create=True)
    store.ingest([*records(), rich_trace()])
    return folder


def small_store(folder: Path) -> Store:
    """A store with `records()` and the rich trace, and an id of its own.

    A copy costs a quarter of what making a store does, and two hundred tests want one.
    """
    path, store_id = folder / "traces.duckdb", uuid.uuid4().hex
    if path.exists():
        return open_store(path)
    without_owner = shutil.ignore_patterns("store")
    shutil.copytree(
        _small_store(), folder, dirs_exist_ok=True, copy_function=shutil.copy, ignore=without_owner
    )
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE identity SET store_id = ?", [store_id])
    spool.write_owner(spool.folder_of(path), store_id)
    return open_store(path)
