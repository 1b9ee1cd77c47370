"""What counts as an answer, and as a right one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import scoring
from workbench.errors import TaskError
from workbench.scoring import TaskItem


def item(scorer: str, target: str, **more: object) -> TaskItem:
    """Make an item with a target."""
    return TaskItem(task="t", item="1", input="?", target=target, scorer=scorer, **more)


def score(scorer: str, target: str, text: str | None, **more: object):
    """Score one text."""
    return scoring.get(scorer)(item(scorer, target, **more), text)


NUMBERS = [
    ("plain", "5", "5", "5"),
    ("marked", "12", "Answer: 12", "12"),
    ("thousands", "1234", "Answer: 1,234", "1234"),
    ("millions", "1234567.5", "It is 1,234,567.50.", "1234567.50"),
    ("no thousands in a list", "4", "Answer: 4, 5", "4"),
    ("negative zero", "0", "Answer: -0", "-0"),
    ("fraction", "0.75", "Answer: 3/4", "3/4"),
    ("unicode minus", "-7", "Answer: −7", "-7"),
    ("full width digits", "42", "Answer: ４２", "42"),
    ("trailing dots", "8", "Answer: 8...", "8"),
    ("boxed", "9", r"so \boxed{9} it is, out of 10", "9"),
    ("last box counts", "3", r"\boxed{2} no: \boxed{3}", "3"),
    ("boxed after a mark", "3", r"Answer: \boxed{3}", "3"),
    ("last mark counts", "6", "Answer: 5\nWait.\nAnswer: 6", "6"),
    ("bold mark", "6", "**Answer:** 6", "6"),
    ("the answer is", "6", "So the answer is 6, I think.", "6"),
    ("equation after the mark", "7", "Answer: 3 + 4 = 7", "7"),
    ("unit after the mark", "12", "Answer: 12 (3 boxes of 4)", "12"),
    ("money", "20", "Answer: $20", "20"),
    ("unmarked: the last number", "28", "34 - 4 = 30. 30 - 2 = 28.", "28"),
    ("exponent", "120000", "Answer: 1.2e5", "1.2e5"),
    ("minus between numbers is no sign", "4", "I counted 2-4", "4"),
    ("spaced minus is an operation", "2", "that leaves 5 - 2", "2"),
    ("spaced sign at the start", "-7", "Answer: - 7", "-7"),
    ("mark of the next line", "5", "Answer:\n5", "5"),
]


@pytest.mark.parametrize(
    ("target", "text", "answer"), [c[1:] for c in NUMBERS], ids=[c[0] for c in NUMBERS]
)
def test_number_is_read_where_the_model_says_it_is(target: str, text: str, answer: str) -> None:
    """The answer is the number read, and it equals the target."""
    found = score("numeric", target, text)

    assert (found.answer, found.passed, found.score) == (answer, True, 1.0)


@pytest.mark.parametrize(
    ("scorer", "text", "more"),
    [
        ("numeric", "Answer: twelve", {}),
        ("numeric", "Answer: 1/0", {}),
        ("numeric", "", {}),
        ("exact", "Answer: ...", {}),
        ("exact", "   \n ", {}),
        ("choice", "Answer: A or B", {"choices": ("x", "y")}),
        ("choice", "Answer: Z", {"choices": ("x", "y")}),
        ("choice", "It depends.", {"choices": ("x", "y")}),
        ("list", "Answer: []", {}),
        ("date", "Answer: 2024-02-30", {}),
    ],
)
def test_missing_answer_is_null_and_wrong(scorer: str, text: str, more: dict) -> None:
    """A text without an answer is scored 0: the model was asked for one."""
    target = {"choice": "A", "date": "2024-02-28"}.get(scorer, "12")

    found = score(scorer, target, text, **more)

    assert (found.answer, found.passed, found.score, found.value) == (None, False, 0.0, "I")
    assert found.explanation


# a target that each scorer takes, where "x" is none
RIGHT = {"choice": "A", "date": "Monday", "json": '{"x": [1]}', "numeric": "7"}


@pytest.mark.parametrize("name", scoring.inline_names())
def test_failed_call_is_not_scored(name: str) -> None:
    """No text at all leaves score and passed null."""
    found = score(name, "x", None)

    assert (found.scorer, found.score, found.passed, found.answer) == (name, None, None, None)


def test_numbers_compare_exactly_unless_a_tolerance_says_otherwise() -> None:
    """Digits beyond a float's precision count; a tolerance is absolute."""
    assert not score("numeric", "12345678901234567890", "12345678901234567891").passed
    assert not score("numeric", "0.333", "1/3").passed
    assert score("numeric", "0.333", "1/3", metadata={"tolerance": 0.001}).passed
    assert not score("numeric", "0.333", "0.335", metadata={"tolerance": 0.001}).passed


EXACT = [
    ("case and dot", "Paris", "paris.", True),
    ("article", "cub", "Answer: a cub", True),
    ("quotes", "ream", "Answer: “ream”", True),
    ("bold", "ream", "Answer: **ream**", True),
    ("last line unmarked", "Paris", "France is in Europe.\nParis", True),
    ("sentence is not the word", "Paris", "Answer: It is Paris", False),
    ("inner spaces", "South America", "Answer: south   america", True),
    ("letter a stays", "a", "Answer: a", True),
    ("later line after the mark is dropped", "bee", "Answer: bee\nQuestion: what?", True),
    ("no accent folding", "Zurich", "Zürich", False),
]


@pytest.mark.parametrize(
    ("target", "text", "passed"), [c[1:] for c in EXACT], ids=[c[0] for c in EXACT]
)
def test_exact_folds_case_markup_and_surroundings(target: str, text: str, passed: bool) -> None:
    """Form does not matter, the word does."""
    assert score("exact", target, text).passed is passed


CHOICES = [
    ("letter", "Answer: B", "B"),
    ("lower case", "Answer: b", "B"),
    ("parentheses", "Answer: (B)", "B"),
    ("letter and text", "Answer: B) Ben", "B"),
    ("text alone", "Answer: Ben", "B"),
    ("text in a sentence", "Answer: it must be Ben", "B"),
    ("option word", "I take option B", "B"),
    ("because", "Answer: B, because A is shorter", "B"),
    ("unmarked letter", "B", "B"),
    ("unmarked with reason", "Anna is not. So (B).", "B"),
    ("article is no letter", "A dog is not Ben", "B"),
    ("last mark counts", "Answer: A\nAnswer: B", "B"),
    ("boxed", r"\boxed{B}", "B"),
]


@pytest.mark.parametrize(("text", "letter"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_choice_is_read_as_a_letter_or_as_the_option(text: str, letter: str) -> None:
    """All of these say B."""
    found = score("choice", letter, text, choices=("Anna", "Ben", "Clara"))

    assert (found.answer, found.passed) == (letter, True)


LISTS = [
    ("commas", "3, 5, 9", "Answer: 3, 5, 9", True),
    ("brackets", "3, 5, 9", "Answer: [3, 5, 9].", True),
    ("spaces only", "3, 5, 9", "Answer: 3 5 9", True),
    ("and", "red, blue", "Answer: red and blue", True),
    ("arrows", "red, blue", "red -> blue", True),
    ("case", "red, blue", "Answer: Red, Blue", True),
    ("order counts", "3, 5, 9", "Answer: 5, 3, 9", False),
    ("one too many", "3, 5", "Answer: 3, 5, 9", False),
    ("one too few", "3, 5", "Answer: 3", False),
]


@pytest.mark.parametrize(
    ("target", "text", "passed"), [c[1:] for c in LISTS], ids=[c[0] for c in LISTS]
)
def test_list_is_compared_in_order(target: str, text: str, passed: bool) -> None:
    """Separators do not matter, order and length do."""
    assert score("list", target, text).passed is passed


DATES = [
    ("iso", "2024-03-05", "Answer: 2024-03-05", "2024-03-05"),
    ("unpadded", "2024-03-05", "Answer: 2024-3-5", "2024-03-05"),
    ("day first", "2024-03-05", "It is the 5th of March 2024.", "2024-03-05"),
    ("month first", "2024-03-05", "Answer: March 5, 2024", "2024-03-05"),
    ("short month", "2024-03-05", "Answer: 5 Mar 2024", "2024-03-05"),
    ("day of the week", "Monday", "answer: monday.", "monday"),
    ("weekday beside a date", "Tuesday", "Answer: Tuesday, 2024-03-05", "tuesday"),
    ("month", "May", "Answer: May", "may"),
    ("unmarked: the last one", "Friday", "After Thursday comes Friday", "friday"),
]


@pytest.mark.parametrize(
    ("target", "text", "answer"), [c[1:] for c in DATES], ids=[c[0] for c in DATES]
)
def test_date_is_read_in_every_usual_form(target: str, text: str, answer: str) -> None:
    """Full dates become ISO; days and months their names."""
    found = score("date", target, text)

    assert (found.answer, found.passed) == (answer, True)


def test_regex_matches_the_whole_answer() -> None:
    """The pattern is the item's; case is folded."""
    assert score("regex", "x", "Answer: AB12", metadata={"pattern": r"[a-z]{2}\d+"}).passed
    assert not score("regex", "x", "Answer: AB12c", metadata={"pattern": r"[a-z]{2}\d+"}).passed


@pytest.mark.parametrize("pattern", ["(", r"(\w)\1", "(?=a)a", "(a{1000}){1000}"])
def test_unusable_pattern_is_named(pattern: str) -> None:
    """The error names task, item and pattern."""
    with pytest.raises(TaskError, match="t, item 1: pattern"):
        score("regex", pattern, "Answer: a")


def test_unknown_scorer_offers_the_nearest() -> None:
    """A typing error is answered with the name that was meant."""
    with pytest.raises(TaskError, match="did you mean 'numeric'"):
        scoring.get("numerik")


HOSTILE = {
    "digits": "1" * 200_000,
    "commas": "1," * 100_000,
    "marks": "Answer: " * 25_000,
    "boxes": "\\boxed{" * 25_000,
    "spaces": "Answer:" + " " * 200_000,
    "newlines": "\n" * 200_000,
    "letters": "(A) " * 50_000,
    "words": "a " * 100_000,
    "controls": "\x1b[31m\x00\u202e" * 30_000,
    "surrogates": "\ud800" * 1000,
    "slashes": "1/" * 100_000,
}


@pytest.mark.parametrize("name", scoring.inline_names())
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_scored_in_linear_time(name: str, kind: str) -> None:
    """Two hundred thousand characters take a fraction of a second, and never raise."""
    target = RIGHT.get(name, "x")
    start = time.process_time()

    found = score(name, target, HOSTILE[kind], choices=("x", "y") if name == "choice" else ())

    assert found.passed is not None
    assert time.process_time() - start < 1.0


@given(text=st.text(max_size=300), name=st.sampled_from(scoring.inline_names()))
def test_any_text_has_a_score(text: str, name: str) -> None:
    """Score is 1 exactly where it passed; a right answer is never null."""
    target = RIGHT.get(name, "x")

    found = score(name, target, text, choices=("x", "y") if name == "choice" else ())

    assert found.score == float(bool(found.passed))
    assert found.answer is not None or not found.passed


@given(number=st.decimals(-(10**12), 10**12, allow_nan=False, places=3))
def test_a_number_written_out_passes_against_itself(number: object) -> None:
    """Property: with and without separators, after a mark and alone."""
    for text in (f"Answer: {number}", f"Answer: {number:,}", f"I say {number}"):
        assert score("numeric", str(number), text).passed, text
