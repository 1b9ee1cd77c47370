"""The grid's half in the kernel: it answers the page's questions, and nothing else it may say."""

from collections.abc import Sequence
from typing import Any

import pytest

from workbench.schema import TRACE_FACTS

pytest.importorskip("anywidget", reason="the notebook extra is not installed")

from widgets.grid import HEAD, PAGE, REACH, TEXT, Grid, Row

COLUMNS = [TRACE_FACTS[name] for name in ("item", "cost_usd", "passed", "started_at")]


class Sent(Grid):
    """A grid that keeps what it would send to the page."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sent: list[Any] = []

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append(content)

    def ask(self, **content: Any) -> list[Any]:
        """Say what the page says; returns the answers."""
        self.sent.clear()
        self._handle_custom_msg(content, [])
        return self.sent


def numbers(start: int, limit: int, sort: str, descending: bool) -> Sequence[Row]:
    """A million rows."""
    rows = range(start, min(start + limit, 1_000_000))
    return [{"item": f"{sort}{n}", "cost_usd": float(n) if n % 2 else None} for n in rows]


@pytest.fixture
def grid() -> Sent:
    grid = Sent(COLUMNS, numbers, key="item")
    grid.show(1_000_000, "a million rows")
    return grid


def test_the_first_rows_travel_with_the_state(grid: Sent) -> None:
    """They show without a round trip; the count is of all."""
    assert [row["item"] for row in grid.head] == [str(n) for n in range(HEAD)]
    assert grid.n_rows == 1_000_000
    assert grid.reach == REACH < grid.n_rows
    assert grid.caption == "a million rows"


def test_unknown_stays_null(grid: Sent) -> None:
    """The page writes a dash for null; it is never made 0 on the way."""
    assert grid.head[0]["cost_usd"] is None
    assert grid.head[1]["cost_usd"] == 1.0


def test_a_question_is_answered_with_its_rows(grid: Sent) -> None:
    """A window anywhere within reach."""
    (answer,) = grid.ask(verb="rows", start=50_000, limit=100, version=grid.version)

    assert answer["start"] == 50_000
    assert [row["item"] for row in answer["rows"]] == [str(n) for n in range(50_000, 50_100)]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"verb": "rows", "start": -1, "limit": 10}, id="before-the-start"),
        pytest.param({"verb": "rows", "start": REACH, "limit": 10}, id="beyond-reach"),
        pytest.param({"verb": "rows", "start": "0; DROP TABLE traces", "limit": 10}, id="text"),
        pytest.param({"verb": "rows", "start": 0.5, "limit": 10}, id="fraction"),
        pytest.param({"verb": "rows", "start": 0}, id="no-limit"),
        pytest.param({"verb": "sql", "query": "SELECT 1"}, id="other-verb"),
        pytest.param({}, id="nothing"),
    ],
)
def test_anything_else_is_passed_over(grid: Sent, said: dict[str, Any]) -> None:
    """What the page says is not trusted."""
    assert grid.ask(**said, version=grid.version) == []


def test_a_page_is_never_longer_than_the_limit(grid: Sent) -> None:
    """A question for everything gets one page."""
    (answer,) = grid.ask(verb="rows", start=0, limit=10**9, version=grid.version)

    assert len(answer["rows"]) == PAGE


def test_a_question_about_older_rows_is_passed_over(grid: Sent) -> None:
    """A late question must not put old rows among new ones."""
    old = grid.version
    grid.show(10)

    assert grid.ask(verb="rows", start=0, limit=10, version=old) == []


def test_sorting_asks_again_from_the_first_row(grid: Sent) -> None:
    """A new order is new rows."""
    before = grid.version
    grid.sort = "cost_usd"

    assert grid.head[0]["item"] == "cost_usd0"
    assert grid.version > before


def test_only_a_column_shown_can_be_sorted_by(grid: Sent) -> None:
    """The page may send any text as a column."""
    grid.sort = "cost_usd"
    grid.sort = 'item"; DROP TABLE traces; --'

    assert grid.sort == "cost_usd"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        pytest.param(None, None, id="unknown"),
        pytest.param(float("nan"), None, id="not-a-number"),
        pytest.param(float("inf"), "inf", id="infinite"),
        pytest.param("x" * (TEXT + 1), "x" * (TEXT - 1) + "…", id="long"),
        pytest.param("<b>\x1b[31m\u202e", "<b>\x1b[31m\u202e", id="hostile-stays-text"),
    ],
)
def test_cells_are_json(value: object, sent: object) -> None:
    """What JSON cannot say has a word for it; texts are cut, never changed."""
    grid = Grid(COLUMNS, lambda *_: [{"item": value}])
    grid.show(1)

    assert grid.head == [{"item": sent}]


def test_columns_say_what_they_mean() -> None:
    """Title, unit, meaning and what null means come from the schema."""
    grid = Grid(COLUMNS, numbers, intervals=("cost_usd",))
    cost = grid.columns[1]

    assert cost["title"] == "cost (USD)"
    assert "a price or a token count is unknown" in cost["doc"]
    assert (cost["low"], cost["high"]) == ("cost_usd_low", "cost_usd_high")
