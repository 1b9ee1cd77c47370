"""What a terminal gets to see of text from outside, and how figures are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from workbench import formats
from workbench.safe import clipboard_text, masked, one_line, safe
from workbench.tui.widgets.scales import Scale, fit
from workbench.tui.wrapping import wrap

HOSTILE = [
    ("escape", "\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
    ("bell and null", "a\x07b\x00c", "a␇b␀c"),
    ("C1 control", "a\x9b31m", "a⟨009B⟩31m"),
    ("bidi override", "abc\u202ecba", "abc⟨202E⟩cba"),
    ("zero width", "a\u200bb", "a⟨200B⟩b"),
    ("tag characters", "a\U000e0041", "a⟨E0041⟩"),
    ("half a surrogate pair", "a\ud83d", "a⟨D83D⟩"),
    ("line ends", "a\nb\r\nc", "a⏎b⏎c"),
    ("carriage return", "good\rbad", "good␍bad"),
    ("markup is text", "[bold]x[/bold]", "[bold]x[/bold]"),
    ("stacked accents", "e" + "\u0301" * 50, "e" + "\u0301" * 4),
    ("delete", "a\x7f", "a␡"),
]


@pytest.mark.parametrize(("text", "shown"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_characters_are_shown_by_name(text: str, shown: str) -> None:
    """Nothing acts on the terminal and nothing vanishes."""
    assert safe(text) == shown


def test_lines_are_kept_where_they_are_asked_for() -> None:
    """A message keeps its line ends and loses its carriage returns."""
    assert safe("a\r\nb\n\x1b", lines=True) == "a\nb\n␛"


@given(st.text(st.characters(codec=None), max_size=200), st.integers(0, 60))
def test_one_line_never_exceeds_its_width(text: str, width: int) -> None:
    """Whatever the text, a cell fits, is one line and holds no control character."""
    line = one_line(text, width)

    assert cell_len(line) <= width
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in line)


@given(st.text(st.characters(codec=None), max_size=300))
def test_wrapped_lines_fit_and_keep_every_letter(text: str) -> None:
    """Wrapping breaks at a width and loses nothing but white space."""
    lines = wrap(text, 20)

    assert all(cell_len(line) <= 20 for line in lines)
    kept = "".join("".join(lines).split())
    assert kept == "".join(safe(text, lines=True).split())


@given(st.text(st.characters(codec=None), max_size=100))
def test_masking_keeps_places(text: str) -> None:
    """The slice bar's cursor stays where it is, so every character gets exactly one."""
    assert len(masked(text)) == len(text)


def test_copied_text_can_be_encoded() -> None:
    """Half a surrogate pair does not stop a copy."""
    assert clipboard_text("a\ud83d").encode() == b"a?"


@pytest.mark.parametrize(
    ("write", "value", "shown"),
    [
        (formats.usd, None, "—"),
        (formats.usd, math.nan, "—"),
        (formats.usd, 0.0, "$0.00"),
        (formats.usd, 0.000207, "$0.000207"),
        (formats.usd, 3.178, "$3.18"),
        (formats.usd, 1234.5, "$1,234.50"),
        (formats.usd, math.inf, "∞"),
        (formats.count, 12480, "12,480"),
        (formats.seconds, 0.4567, "0.457"),
        (formats.seconds, 12.34, "12.3"),
        (formats.decimal, -0.5, "−0.500"),
        (formats.decimal, 1e12, "1.00e+12"),
        (formats.percent, 0.5589, "55.9"),
        (formats.value_text, True, "yes"),
    ],
)
def test_numbers_are_written_short_and_unknown_is_a_dash(write, value, shown: str) -> None:
    """Unknown is never 0, and nobody sees an exponent for ordinary money."""
    assert write(value) == shown


def test_si_prefixes() -> None:
    """Energy is written with a prefix."""
    assert formats.si(41_200.0, "J") == "41.2 kJ"
    assert formats.si(None, "J") == "—"


@given(st.floats(0, 1), st.integers(1, 20))
def test_a_bar_is_exactly_as_wide_as_asked(share: float, width: int) -> None:
    """Bars never push a column."""
    assert len(formats.bar(share, width)) == width
    assert formats.bar(None, width) == " " * width


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20), st.booleans())
def test_scales_hold_all_values_and_tick_round_ones(values: list[float], is_log: bool) -> None:
    """Every value lies inside; ticks are on the axis, in order, and not too many."""
    scale = fit(values, is_log=is_log)
    ticks = scale.ticks(6)

    assert all(0 <= scale.place(v) <= 1 for v in values)
    assert len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert all(scale.low * (1 - 1e-6) <= t <= scale.high * (1 + 1e-6) for t in ticks if is_log)


def test_log_ticks_are_round() -> None:
    """A log axis over a decade ticks 1, 2 and 5."""
    assert Scale(0.1, 1.0, is_log=True).ticks(4) == pytest.approx([0.1, 0.2, 0.5, 1.0])
