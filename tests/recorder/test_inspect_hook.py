"""`inspect eval` writes to the store as it runs, and what it writes is what an import gives."""

import os
import signal
import subprocess
import sys

import pytest

from workbench import sources
from workbench.store import open_store

EVAL = """
import sys, time
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, match, mean, scorer
from inspect_ai.solver import generate, solver, use_tools
from inspect_ai.tool import tool

MODE = sys.argv[1]

@tool
def add():
    async def execute(x: int, y: int):
        '''Add two numbers.

        Args:
            x: the first
            y: the second
        '''
        return str(x + y)
    return execute

@scorer(metrics=[mean()])
def rubric():
    async def score(state, target):  # 7 tells that the 1 before it was no pass
        return Score(value={"4": 1, "5": 7}[target.text])
    return score

@solver
def waits():
    async def solve(state, generate):
        if MODE == "hangs" and state.sample_id == "b":
            print("waiting", flush=True)
            time.sleep(600)
        if MODE == "fails" and state.sample_id == "b":
            raise ValueError("cannot solve this")
        return state
    return solve

n = 0
def answer(input, tools, tool_choice, config):
    global n
    n += 1
    if n % 2:
        output = ModelOutput.for_tool_call("mockllm/model", "add", {"x": 2, "y": 2})
    else:
        output = ModelOutput.from_content("mockllm/model", "4")
    output.usage = ModelUsage(input_tokens=10 + n, output_tokens=3, total_tokens=13 + n)
    return output

eval(
    Task(
        name="sums",
        dataset=[
            Sample(input="2 + 2", target="4", id="a"),
            Sample(input="2 + 3", target="5", id="b"),
        ],
        solver=[waits(), use_tools(add()), generate()],
        scorer=[rubric(), match()],
        epochs=1 if MODE == "hangs" else 2,
    ),
    model=get_model("mockllm/model", custom_outputs=answer),
    log_dir="logs",
    display="none",
    max_samples=1,
)
"""
TABLES = ("runs", "tasks", "items", "configurations", "traces", "calls", "tool_calls", "messages")


def inspect(folder, mode="runs", **environ):
    """Start an evaluation in a process of its own; the store is `s.duckdb`."""
    wanted = {"WORKBENCH_STORE": str(folder / "s.duckdb"), "WORKBENCH_INSPECT": "on"} | environ
    return subprocess.Popen(
        [sys.executable, "-c", EVAL, mode],
        cwd=folder,
        env=os.environ | wanted,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def log_of(folder):
    [path] = (folder / "logs").glob("*.eval")
    return path


def imported(folder):
    """The store that an import of the log gives."""
    store = open_store(folder / "imported.duckdb", create=True)
    store.ingest(sources.read(log_of(folder)))
    return store


def rows(store, table):
    frame = store.sql(f"SELECT * FROM {table}")
    left_out = [c for c in frame.columns if c in {"imported_at", "ingested_at", "batch_id"}]
    return sorted(map(str, frame.drop(left_out).rows()))


@pytest.mark.parametrize("mode", ["runs", "fails"])
def test_what_the_hook_writes_is_what_an_import_of_the_log_gives(tmp_path, mode):
    process = inspect(tmp_path, mode)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "workbench: Writes every sample to the store of workbench." in out

    ours, theirs = open_store(tmp_path / "s.duckdb"), imported(tmp_path)
    for table in (*TABLES, "scores"):
        assert rows(ours, table) == rows(theirs, table), table
    report = ours.ingest(sources.read(log_of(tmp_path)))
    assert not any(report.rows_new.values())


def test_samples_of_an_evaluation_that_is_killed_are_there(tmp_path):
    process = inspect(tmp_path, "hangs")
    for line in process.stdout:
        if "waiting" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    store = open_store(tmp_path / "s.duckdb")
    assert store.sql("SELECT item, n_calls FROM trace_facts").rows() == [("a", 2)]
    assert store.sql("SELECT ended_at FROM runs").rows() == [(None,)]


def test_a_setting_turns_it_off(tmp_path):
    process = inspect(tmp_path, WORKBENCH_INSPECT="off")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert not (tmp_path / "s.duckdb").exists()


def test_a_store_that_cannot_be_written_does_not_stop_the_evaluation(tmp_path):
    (tmp_path / "file").write_text("no folder")
    process = inspect(tmp_path, WORKBENCH_STORE=str(tmp_path / "file" / "s.duckdb"))
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert log_of(tmp_path).stat().st_size > 0
    assert "Traceback" not in out


def test_half_a_surrogate_pair_is_written_as_a_question_mark():
    from inspect_ai.log import EvalSample

    from workbench.recorder import inspect_hook
    from workbench.sources import json_bytes
    from workbench.sources.inspect.log_schema import SAMPLE
    from workbench.sources.report import FileReport

    sample = EvalSample(id="a", epoch=1, input="half \ud83d", target="x")
    data = inspect_hook._json(sample)
    assert json_bytes.decode(SAMPLE, data, "", FileReport(inspect_hook._UNNAMED)).input == "half ?"
