"""Numbers on the command line are written as in filters."""

import click
import pytest

from workbench.cli.options import amount


@pytest.mark.parametrize(
    ("text", "unit", "more", "value"),
    [
        ("1M", "tokens", {}, 1_000_000),
        ("1.5k", "tokens", {"whole": True}, 1_500),
        ("250", "tokens", {"whole": True}, 250),
        ("$2", "USD", {}, 2),
        ("30min", "s", {}, 1_800),
        ("4Wh", "J", {}, 14_400),
        ("0", "USD", {}, 0),
        ("none", "USD", {"lifts": True}, -1),
    ],
)
def test_a_number_may_carry_the_suffix_of_its_unit(text, unit, more, value):
    """As `thinking>2k` does; a whole number stays one."""
    found = amount(unit, **more)(text)

    assert found == value
    assert isinstance(found, int) is bool(more.get("whole"))


@pytest.mark.parametrize(
    ("text", "unit", "more", "words"),
    [
        (
            "1Q",
            "tokens",
            {},
            "knows no unit 'Q'; write a number, with or without a suffix (k, K, m, M",
        ),
        ("-1", "USD", {}, "is not a number of 0 or more"),
        ("1.5", "tokens", {"whole": True}, "is not a whole number of 0 or more"),
        ("none", "USD", {}, "not a number"),
        ("many", "s", {"lifts": True}, 'or "none"'),
        ("nan", "USD", {}, "not a number"),
        ("$2", "tokens", {}, "not in dollars"),
    ],
)
def test_what_is_no_such_number_is_refused_with_what_is(text, unit, more, words):
    """The suffixes are listed."""
    with pytest.raises(click.BadParameter) as refused:
        amount(unit, **more)(text)

    assert words in str(refused.value)
