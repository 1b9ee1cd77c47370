"""A little of tests/benchmarks/campaign.py: launches at once, kills, and a clock that jumps."""

from pathlib import Path

from tests.benchmarks import campaign


def test_two_launches_under_a_jumping_clock_pay_for_each_request_once(tmp_path: Path) -> None:
    """By the server's books, but for what was in flight at a kill; the store has all of them."""
    round_ = campaign.Round(tmp_path, "two launches")
    try:
        campaign.several(round_, 2, n_items=16, n_replies=None)
    finally:
        round_.close()

    assert round_.count["replies"] >= 48
