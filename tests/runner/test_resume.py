"""What a look at the spool finds, and what of a plan is left after it."""

import datetime as dt

import pytest

from workbench import scoring
from workbench.datasets import TaskItem, TaskSet
from workbench.records import Attempt, Run, Task, Trace
from workbench.runner import Plan, Work
from workbench.runner.planning.resume import read_leftovers
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter, segments

START = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
RUN = Run(run_id="r1", kind="collect", source="runner", status="running", started_at=START)


def attempt(n: int) -> Attempt:
    at = START + dt.timedelta(seconds=n)
    return Attempt(run_id="r1", configuration_id="c", item_id=f"i{n}", trial=0, started_at=at)


def trace(n: int, error_type: str | None = None) -> Trace:
    return Trace(
        run_id="r1", configuration_id="c", task_id="t", item_id=f"i{n}", error_type=error_type
    )


def key(n: int) -> tuple[str, str, int]:
    return "c", f"i{n}", 0


@pytest.mark.parametrize("segment_bytes", [1, 300, 10_000])
def test_what_is_done_and_what_was_in_flight_is_found_however_the_lines_are_spread(
    tmp_path, segment_bytes
):
    """An attempt of long ago is still in flight; one that failed and was begun again is, too."""
    with SpoolWriter(tmp_path, "r1", segment_bytes=segment_bytes) as writer:
        for record in (
            RUN,
            attempt(0),
            attempt(1),
            attempt(2),
            trace(1),
            attempt(3),
            trace(3, "http_400"),
            trace(2, "timeout"),
            attempt(4),
            attempt(5),
            trace(5, "timeout"),
            attempt(5),
            attempt(6),
            trace(6),
        ):
            writer.append(record)

    left = read_leftovers(tmp_path)

    assert left.settled == {key(1), key(3), key(6)}
    assert left.in_flight == {key(0), key(4), key(5)}
    (killed,) = left.killed
    assert (killed.status, killed.metadata) == ("interrupted", '{"n_in_flight_at_end":3}')
    assert START < killed.ended_at <= START + dt.timedelta(seconds=6)
    assert (len(segments(tmp_path)) > 1) == (segment_bytes < 10_000)


def test_what_is_in_flight_elsewhere_is_left_alone(tmp_path):
    """The attempts of a run whose writer lives are neither lost nor repeated."""
    writer = SpoolWriter(tmp_path, "r1")
    writer.append(RUN)
    writer.append(attempt(0))

    left = read_leftovers(tmp_path)
    writer.close()

    assert (left.in_flight, left.killed) == (set(), [])


def test_what_is_left_of_a_plan_comes_in_its_order_with_its_place():
    """Counts and places are those of a walk through all of it, for every number of known ones."""
    items = [TaskItem(task="t", item=str(i), input=f"{i}?", target="1") for i in range(3)]
    task = TaskSet(Task(task="t"), items, scoring.get("numeric"), "")
    plan = Plan(models=("a", "b"), tasks=("t",), trials=2, base_url="http://127.0.0.1:9/v1")
    work = Work(plan, [task], [strategy("direct")])
    everything = list(work)

    for n in range(len(everything) + 1):
        known = {p.key for p in everything[::-1][:n]} | {("elsewhere", "i", 0)}
        left = list(work.without(known))

        assert [p for _, p in left] == [p for p in everything if p.key not in known]
        assert all(everything[place - 1] == p for place, p in left)
        assert work.count(known).total() == n
    assert len(everything) == len(work) == len({p.key for p in everything})
    assert next(work.without(set())) == (1, everything[0])
