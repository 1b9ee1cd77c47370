"""Completion: names, then values; the best fit first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.slice import Slice, complete
from workbench.slice.complete import rank

MODELS = ["gpt-4o", "gpt-4o-mini", "claude sonnet", "smol-135", 'odd"one', "none"]


def ask(column, prefix):
    """Answer as a store does: distinct values by prefix."""
    return [m for m in MODELS if m.startswith(prefix)] if column == "model" else []


def proposals(typed, cursor=None):
    """Complete at the end unless told where."""
    return complete(typed, len(typed) if cursor is None else cursor, ask)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("mod", "model:"),
        ("think", "thinking>"),
        ("wro", "wrong"),
        ("-wro", "wrong"),
        ("task:x lat", "latency>"),
        ("model:gpt-4o-", "gpt-4o-mini"),
        ("model:son", '"claude sonnet"'),
        ("model:a,smo", "smol-135"),
        (r'model:"odd\"one, x",smo', "smol-135"),
        ("model:g4m", "gpt-4o-mini"),
        ("model=odd", '"odd\\"one"'),
        ("effort:no", "none"),
        ("since:", "1d"),
    ],
)
def test_the_best_proposal_comes_first(typed, first):
    """Prefix, then start of a word, then subsequence."""
    assert proposals(typed)[0].text == first


def test_a_proposal_replaces_the_word_under_the_cursor():
    """What stands before and after stays."""
    typed = "wrong mod task:x"
    best = proposals(typed, cursor=9)[0]

    assert typed[: best.start] + best.text + typed[best.end :] == "wrong model: task:x"


def test_a_value_named_like_a_keyword_is_quoted():
    """Otherwise choosing the value would ask for the unknown."""
    offered = [c.text for c in proposals("model:non")]

    assert offered[:2] == ['"none"', "none"]


def test_nothing_is_proposed_inside_a_text_or_for_an_unknown_field():
    """There is nothing to offer there."""
    assert proposals('"some te') == []
    assert proposals("nosuch:x") == []
    assert proposals("wrong:x") == []


def test_an_empty_filter_offers_every_field_and_says_what_it_is():
    """The list is a way to learn the language."""
    offered = {c.text: c.detail for c in proposals("")}

    assert {"model:", "cost>", "wrong"} <= set(offered)
    assert "(USD)" in offered["cost>"]


@pytest.mark.parametrize("column", ["model", "thinking", "right"])
def test_every_chosen_proposal_can_be_finished(column):
    """Each proposed value parses where it is put."""
    for proposal in proposals("model:"):
        Slice.parse("model:" + proposal.text)


@given(st.text('model:="a ,-\\\\>é', max_size=20), st.integers(-2, 30))
@settings(max_examples=200, deadline=None)
def test_any_text_and_cursor_can_be_completed(typed, cursor):
    """A proposal always replaces a stretch of the text that touches the cursor."""
    place = min(max(cursor, 0), len(typed))

    for proposal in complete(typed, cursor, ask):
        assert 0 <= proposal.start <= place <= proposal.end <= len(typed)


def test_ranking_prefers_prefix_then_word_start_then_subsequence():
    """The three classes never mix."""
    scores = [rank("co", name) for name in ("cost", "judge_cost", "clock")]

    assert scores == sorted(scores)
    assert [s[0] for s in scores] == [0, 1, 2]
    assert rank("xyz", "cost") is None
