"""Two traces beside each other: which messages are matched, which words are marked, and the keys
for it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Static

from tests.support.screens import Begun, cells, opened, press, shown
from tests.support.tui_records import STRATEGIES, agent
from workbench.store import open_store
from workbench.tui.diff import DiffScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.trace_choice import ChoiceScreen
from workbench.tui.traces import TracesScreen
from workbench.tui.widgets import message_diff
from workbench.tui.widgets.conversation import Entry
from workbench.tui.widgets.message_diff import first_difference, marks, pairs, stretches, unlike
from workbench.tui.wrapping import wrap

KIND = {"s": "system", "u": "user", "t": "thinking", "c": "tool", "r": "result", "a": "answer"}


def talk(*messages: str) -> list[Entry]:
    """A conversation; the first letter of a message is its kind."""
    return [Entry(i, KIND[m[0]], m[1:]) for i, m in enumerate(messages)]


def matched(a: list[Entry], b: list[Entry]) -> list[tuple[str | None, str | None, bool]]:
    """The texts of each pair, and whether they are the same."""
    return [(p.a and p.a.text, p.b and p.b.text, p.is_same) for p in pairs(a, b)]


# -- messages --------------------------------------------------------------------------------------


def test_messages_are_matched_after_one_that_the_other_has_not() -> None:
    """What was inserted stands alone, and what follows is the same again."""
    a = talk("sgo", "tone", "cls", "rfiles", "aend")
    b = talk("sgo", "cls", "rfiles", "aend")

    assert matched(a, b) == [
        ("go", "go", True),
        ("one", None, False),
        ("ls", "ls", True),
        ("files", "files", True),
        ("end", "end", True),
    ]
    assert first_difference(pairs(a, b)) == 1
    assert first_difference(pairs(a, a)) is None


def test_messages_that_differ_are_matched_by_their_kind() -> None:
    """Thinking that only one has stands alone; the answers face each other."""
    a, b = talk("sgo", "thm", "ano"), talk("sgo", "ayes")

    assert matched(a, b)[1:] == [("hm", None, False), ("no", "yes", False)]


def test_long_messages_of_which_only_the_beginning_is_here_are_told_apart() -> None:
    """The hash of the whole text decides."""
    a = [Entry(0, "answer", "the same beginning", content_id="x", more="9 MB more")]
    b = [Entry(0, "answer", "the same beginning", content_id="y", more="9 MB more")]

    assert not pairs(a, b)[0].is_same
    assert pairs(a, a)[0].is_same


MESSAGES = st.lists(st.sampled_from(["sx", "tx", "ty", "cx", "rx", "ry", "ax", "ay"]), max_size=12)


@given(MESSAGES, MESSAGES)
def test_every_message_is_shown_once_and_in_order(a: list[str], b: list[str]) -> None:
    """Whatever is matched with what; only messages of one kind face each other."""
    found = pairs(talk(*a), talk(*b))

    assert [p.a.ordinal for p in found if p.a is not None] == list(range(len(a)))
    assert [p.b.ordinal for p in found if p.b is not None] == list(range(len(b)))
    both = [(p.a, p.b, p.is_same) for p in found if p.a is not None and p.b is not None]
    assert all(x.kind == y.kind and (x.text == y.text) == same for x, y, same in both)


# -- words -----------------------------------------------------------------------------------------


def marked(text: str, spans: tuple[tuple[int, int], ...]) -> list[str]:
    """The words of a text that are marked."""
    bare = "".join(text.split())
    return [bare[first:last] for first, last in spans]


def test_words_that_the_other_has_not_are_marked() -> None:
    """Punctuation is no part of a word."""
    a, b = "The answer is 12, I think.", "The answer is surely 14, I think."

    found = marks(a, b)

    assert marked(a, found.a) == ["12"]
    assert marked(b, found.b) == ["surely14"]


def test_marks_stay_on_their_words_where_lines_are_broken() -> None:
    """Each line is cut where a mark begins and ends; a space between two marked words is marked
    too."""
    text = "one two three four five six seven eight nine ten"
    spans = marks("one five six ten", text).b

    found = [list(stretches(line, 11 * (i == 1), spans)) for i, line in enumerate(wrap(text, 14))]

    assert found[0] == [("one ", False), ("two three", True)]
    assert found[1] == [("four", True), (" five six", False)]


TEXTS = st.text(st.sampled_from("ab1 \n.{é\u202e"), max_size=60)


@given(TEXTS, TEXTS)
def test_what_is_not_marked_is_the_same_in_both(a: str, b: str) -> None:
    """Without the marked words the two texts are one; no mark at all means that no word differs."""
    found = marks(a, b)
    rest = []
    for text, spans in ((a, found.a), (b, found.b)):
        lines, before, kept = wrap(text, 10), 0, ""
        for line in lines:
            parts = list(stretches(line, before, spans))
            assert "".join(part for part, _ in parts) == line
            kept += "".join(part for part, is_marked in parts if not is_marked)
            before += message_diff.length(line)
        rest.append("".join(kept.split()))

    assert rest[0] == rest[1]
    assert unlike(a, b)[0] == bool(found.a or found.b)


def test_words_that_were_not_compared_are_counted() -> None:
    """After so many words from the first that differs, nothing is said of the rest."""
    n = message_diff.MOST_WORDS
    a, b = "same " * 50 + "a " * (n + 7), "same " * 50 + "b " * n

    assert unlike(a, b) == (True, 7)
    assert unlike(a, a) == (False, 0)
    assert sum(last - first for first, last in marks(a, b).a) == n


# -- the screens -----------------------------------------------------------------------------------


async def test_a_marked_trace_is_compared_with_another(store_path: Path) -> None:
    """m marks in the list and in the trace, d compares; both outcomes stand on top; x swaps
    them."""
    text = 'task:logic item:03 config:"smol-135m think"'
    app = Begun(store_path, lambda: TracesScreen(text))
    async with opened(app, (80, 24)) as pilot:
        listing = app.screen
        first = listing.grid.current
        await press(pilot, "m", "down", "enter")
        assert isinstance(app.screen, TraceScreen)
        assert app.marked == {first["trace_id"]}
        here = app.screen.trace_id

        await press(pilot, "d")
        screen = app.screen
        assert isinstance(screen, DiffScreen)
        assert (screen.a, screen.b) == (here, first["trace_id"])
        facts = [detail.facts for detail in screen.details]
        seen = cells(app)
        for fact in facts:
            assert f"smol-135m think · trial {fact['trial']}" in seen
            assert f"{fact['output_tokens']} tok" in seen
        await press(pilot, "x")
        assert [d.facts["trace_id"] for d in screen.details] == [first["trace_id"], here]

        await press(pilot, "escape", "m")
        assert app.marked == {first["trace_id"], here}
        await press(pilot, "escape")
        assert listing.grid.marked == app.marked
        assert cells(app).count("▌") == 2


async def test_without_a_mark_the_traces_of_the_item_are_offered_the_nearest_first(
    store_path: Path,
) -> None:
    """Another trial, then another strategy of the model, then other models."""
    text = 'task:logic item:03 config:"smol-135m think" trial:0'
    app = Begun(store_path, lambda: TracesScreen(text))
    async with opened(app, (140, 40)) as pilot:
        await press(pilot, "d")
        screen = app.screen
        assert isinstance(screen, ChoiceScreen)
        rows = [screen.query_one("Grid").rows.get(i) for i in range(11)]

        assert (rows[0]["configuration"], rows[0]["trial"]) == ("smol-135m think", 1)
        assert [r["model"] for r in rows[1:5]] == ["smol-135m"] * 4
        assert {r["item"] for r in rows} == {"03"}
        await press(pilot, "enter")
        assert isinstance(app.screen, DiffScreen)
        assert "they differ" not in shown(app.screen.query_one("#status", Static))
        await press(pilot, "escape")
        assert isinstance(app.screen, TracesScreen)


@pytest.fixture(scope="module")
def agents_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents of 300 turns that part at the 31st message."""
    import msgspec

    from workbench import records as r

    task = r.Task(task="agents")
    item = r.Item(task_id=task.task_id, item="00", input="x")
    found: list[r.AnyRecord] = [r.Run(run_id="run-1", kind="collect", source="runner"), task, item]
    for place, strategy in enumerate(list(STRATEGIES)[:2]):
        config = r.Configuration(model="smol-135m", provider="local", strategy=strategy)
        trace = agent("run-1", config, task, item, 300)
        messages = tuple(
            msgspec.structs.replace(m, text=f"{'on my ' * place}{m.text}") if m.ordinal >= 30 else m
            for m in trace.messages
        )
        found += [config, msgspec.structs.replace(trace, messages=messages)]
    path = tmp_path_factory.mktemp("agents") / "agents.duckdb"
    open_store(path, create=True).ingest(found)
    return path


@pytest.mark.parametrize("width", [80, 140], ids=["above each other", "side by side"])
async def test_long_conversations_open_where_they_part_and_compare_what_is_seen(
    agents_path: Path, width: int
) -> None:
    """Only pairs in view have their words compared; n goes on to the next, enter folds."""
    a, b = open_store(agents_path).page(columns=["trace_id"])["trace_id"]
    app = Begun(agents_path, lambda: DiffScreen(a, b))
    async with opened(app, (width, 30)) as pilot:
        view = app.screen.difference
        assert (view.block_at(view.cursor), view.n_blocks()) == (30, 901)
        assert "the same up to message 30, then 870 of 901" in shown(
            app.screen.query_one("#status", Static)
        )
        lines = cells(app).splitlines()
        beside = [line for line in lines if re.search(r"A +31 .*│ B +31 ", line)]
        assert bool(beside) == (width >= 120)
        assert 0 < view._marks.cache_info().currsize < 30

        await press(pilot, "n")
        assert view.block_at(view.cursor) == 31
        n = view.height
        await press(pilot, "enter")
        assert view.height < n
        await press(pilot, "N", "G")
        assert view._marks.cache_info().currsize < 60
        await press(pilot, "n")
        assert [n.message for n in app._notifications] == ["no further difference"]
