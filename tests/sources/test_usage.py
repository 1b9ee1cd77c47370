"""Inspect's token conventions, as they changed over versions and providers."""

import pytest

from workbench.sources.inspect.log_schema import ModelUsage
from workbench.sources.inspect.model_usage import normalise, version_of

OLD, NEW = (0, 3, 95), (0, 3, 285)


@pytest.mark.parametrize(
    ("case", "model", "version", "counts", "expected", "convention"),
    # counts: input, output, total, cache write, cache read, reasoning; expected: input, output
    [
        (
            "seen in 0.3.95",
            "openai/gpt-4o",
            OLD,
            (15235, 281, 15516, None, 9088, 0),
            (15235, 281),
            "input includes cached",
        ),
        (
            "since 0.3.184",
            "openai/gpt-5",
            NEW,
            (6147, 281, 15516, None, 9088, 100),
            (15235, 281),
            "input excludes cached: added back",
        ),
        (
            "nothing cached",
            "openai/gpt-5",
            NEW,
            (60, 19, 79, None, 0, 0),
            (60, 19),
            "no cached input",
        ),
        (
            "Anthropic, early",
            "anthropic/claude-3",
            OLD,
            (4, 100, 1304, 200, 1000, None),
            (1204, 100),
            "input excludes cached: added back",
        ),
        (
            "Anthropic, a total of its own",
            "anthropic/claude-3",
            OLD,
            (2000, 100, 2100, 0, 1000, None),
            (3000, 100),
            "input excludes cached: added back",
        ),
        (
            "Anthropic, thinking twice in the total",
            "anthropic/claude-4",
            (0, 3, 80),
            (50, 100, 210, None, None, 60),
            (50, 100),
            "no cached input",
        ),
        (
            "Google before 0.3.245",
            "google/gemini-2.5",
            OLD,
            (35, 12, 109, None, None, 62),
            (35, 74),
            "no cached input, output excludes thinking: added",
        ),
        (
            "Google between 0.3.184 and 0.3.245",
            "google/gemini-2.5",
            (0, 3, 200),
            (25, 12, 109, None, 10, 62),
            (35, 74),
            "input excludes cached: added back, output excludes thinking: added",
        ),
        (
            "Google since 0.3.245",
            "google/gemini-3",
            NEW,
            (35, 74, 109, None, None, 62),
            (35, 74),
            "no cached input",
        ),
        (
            "more thinking than output",
            "openai-api/x/y",
            NEW,
            (10, 5, 45, None, None, 30),
            (10, 35),
            "no cached input, output excludes thinking: added",
        ),
        (
            "no total, new",
            "openai/gpt-5",
            NEW,
            (10, 5, None, None, 4, None),
            (14, 5),
            "input excludes cached: added back",
        ),
        (
            "no total, old",
            "openai/gpt-4o",
            OLD,
            (10, 5, None, None, 4, None),
            (10, 5),
            "input includes cached",
        ),
        (
            "more cached than input",
            "openai/gpt-4o",
            OLD,
            (3, 5, None, None, 4, None),
            (7, 5),
            "input excludes cached: added back",
        ),
        (
            "not reported",
            "x/y",
            NEW,
            (None, None, None, None, None, None),
            (None, None),
            "tokens are not reported",
        ),
    ],
)
def test_counts_become_inclusive(*, case, model, version, counts, expected, convention) -> None:
    """Input holds cached tokens, output holds thinking."""
    given, output, total, write, read, reasoning = counts
    usage = ModelUsage(given, output, total, write, read, reasoning)

    found = normalise(usage, model, version)

    assert (found.input, found.output) == expected, case
    assert found.convention == convention, case
    assert (found.cache_read, found.cache_write, found.reasoning) == (read, write, reasoning)


def test_a_total_that_nothing_explains_is_a_fault() -> None:
    """Which the report lists with its numbers."""
    found = normalise(ModelUsage(10, 5, 99), "x/y", NEW)

    assert found.fault == "input 10 + output 5 is not the total 99"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.3.95.dev16+g6527d0861", (0, 3, 95)), ("0.3.285", (0, 3, 285)), ("x", ()), (None, ())],
)
def test_versions_are_read_by_their_leading_numbers(text, expected) -> None:
    """Development versions too."""
    assert version_of(text) == expected
