"""The time of an attempt without its waits, and of its phases: moments side by side count once."""

import datetime as dt

import pytest

from workbench.records import Call, ToolCall
from workbench.runner.execution.attempt import working_s
from workbench.tui.timeline import phases

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def call(at: float | None, s: float, queue_s: float = 0.0, retry_wait_s: float = 0.0) -> Call:
    """A call sent `at` seconds after the start."""
    began = None if at is None else START + dt.timedelta(seconds=at)
    return Call(started_at=began, e2e_s=s, queue_s=queue_s, retry_wait_s=retry_wait_s)


@pytest.mark.parametrize(
    ("calls", "e2e_s", "expected"),
    [
        pytest.param([call(0, 2), call(2, 3)], 5, 5, id="no-wait"),
        pytest.param([call(1, 2, 1), call(5, 1, 0.5, 1.5)], 6, 3, id="one-after-the-other"),
        pytest.param([call(n, 1, n) for n in range(5)], 5, 5, id="five-for-one-slot"),
        pytest.param([call(3, 1, 3), call(3, 1, 3)], 4, 1, id="two-wait-at-once"),
        pytest.param([call(None, 1, 2), call(2, 1)], 5, 3, id="nobody-knows-when"),
        pytest.param([call(4, 1, 9)], 5, 1, id="waited-before-the-start"),
    ],
)
def test_only_moments_in_which_all_waits_are_no_work(
    calls: list[Call], e2e_s: float, expected: float
) -> None:
    """Five samples that queued for one slot worked all the time; e2e minus the sum of waits said
    0."""
    assert working_s(START, e2e_s, calls, []) == pytest.approx(expected)


def test_a_tool_at_work_is_work() -> None:
    """A call waits for a slot while a tool runs."""
    tool = ToolCall(ordinal=0, tool="t", started_at=START, e2e_s=2.0)
    assert working_s(START, 3.0, [call(2, 1, 2)], [tool]) == 3.0
    assert working_s(START, None, [], []) is None


def row(at: float | None, ttft_s: float | None, e2e_s: float, thinking: int | None = 0) -> dict:
    """A row of call_facts."""
    began = None if at is None else START + dt.timedelta(seconds=at)
    return {
        "role": "subject",
        "started_at": began,
        "ttft_s": ttft_s,
        "answer_start_s": ttft_s,
        "e2e_s": e2e_s,
        "reasoning_tokens": thinking,
        "visible_tokens": 5,
        "output_tokens": 5,
        "cost_usd": None,
        "reasoning_cost_usd": None,
    }


def taken(e2e_s: float, calls: list[dict], tools: list[dict] | None = None) -> dict[str, float]:
    """Seconds by phase."""
    return {s.phase: s.s for s in phases({"e2e_s": e2e_s}, calls, tools or [])}


def test_phases_of_calls_side_by_side_do_not_take_longer_than_the_trace() -> None:
    """Two calls at once, 1 s of prefill and 3 s of answer each, are four seconds; as is what nobody
    can place."""
    assert taken(4, [row(0, 1, 4), row(0, 1, 4)]) == pytest.approx({"prefill": 1, "answer": 3})
    assert taken(4, [row(None, 1, 4)] * 2) == pytest.approx({"prefill": 1, "answer": 3})
    assert taken(5, [row(0, 1, 4), row(1, 1, 4)]) == pytest.approx({"prefill": 1.5, "answer": 3.5})


def test_phases_one_after_the_other_add_up() -> None:
    """A tool between two calls, and a second of which nothing is known."""
    tool = {"started_at": START + dt.timedelta(seconds=3), "e2e_s": 2.0}
    assert taken(8, [row(0, 1, 3), row(5, 1, 2)], [tool]) == pytest.approx(
        {"prefill": 2, "answer": 3, "tools": 2, "other": 1}
    )
