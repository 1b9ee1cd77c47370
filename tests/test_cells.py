"""One rule for the cells of all tables: numbers, units, durations, times, flags and what says
nothing."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import cells
from workbench.errors import ImportFormatError
from workbench.sources.tables.units import CellFormat, convert, is_null

UTC = dt.UTC
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "mark", "expected"),
    [
        ("5", ".", 5),
        ("-5", ".", -5),
        ("+5", ".", 5),
        (" 5 ", ".", 5),
        ("\u22125", ".", -5),
        ("0.05", ".", 0.05),
        (".5", ".", 0.5),
        ("5.", ".", 5),
        ("3.0", ".", 3),
        ("1e-3", ".", 0.001),
        ("1,234", ".", 1234),
        ("1,234,567.5", ".", 1234567.5),
        ("1'234.5", ".", 1234.5),
        ("1_234", ".", 1234),
        ("1 234", ".", 1234),
        ("1\u202f234,5", ",", 1234.5),
        ("0,05", ",", 0.05),
        ("12,5", ",", 12.5),
        ("1.234", ",", 1234),
        ("1.234.567,5", ",", 1234567.5),
        ("-1,5e3", ",", -1500.0),
        ("9007199254740993", ".", 9007199254740993),
        ("9007199254740993.0", ".", 9007199254740993),
    ],
)
def test_numbers_are_read_with_their_decimal_mark(text: str, mark: str, expected: float) -> None:
    """Whole ones stay exact; thousands stand in groups of three."""
    assert cells.quantity(text, mark) == (expected, "", "")
    assert type(cells.number(text, mark)) is type(expected)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("0,05", "."),
        ("0,123", "."),
        ("12,5", "."),
        ("1,23,456", "."),
        ("1,234,56", "."),
        ("0.05", ","),
        ("1.234.56", ","),
        ("1.2.3", "."),
        ("", "."),
        ("abc", "."),
        ("1 2", "."),
        ("--5", "."),
        ("-$-5", "."),
        ("inf", "."),
        ("nan", "."),
        ("1e999", "."),
        ("0x1A", "."),
        ("(5.00)", "."),
        ("1__000", "."),
        ("١٢", "."),
        ("12:30", "."),
    ],
)
def test_what_is_no_number_is_refused(text: str, mark: str) -> None:
    """A comma is never dropped in silence."""
    with pytest.raises(ValueError, match=r"not a|too large"):
        cells.quantity(text, mark)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("0,05", ","),
        ("12,5", ","),
        ("0,123", ","),
        ("1.234,5", ","),
        ("1.234.567", ","),
        ("0.05", "."),
        ("12.5", "."),
        ("0.123", "."),
        ("1234.567", "."),
        ("1,234.5", "."),
        ("1,234,567", "."),
        ("1,234", None),
        ("-12.345", None),
        ("1234", ""),
        ("a.b", ""),
    ],
)
def test_a_number_tells_its_decimal_mark_or_leaves_it_open(text: str, mark: str | None) -> None:
    """Three digits after the only mark may be thousands."""
    assert cells.decimal_mark(text) == mark


@pytest.mark.parametrize(
    ("cell", "ours", "unit", "expected"),
    [
        (1500, "s", "ms", 1.5),
        ("1500", "s", "ms", 1.5),
        (7, "s", "us", 7e-6),
        ("5e8", "s", "ns", 0.5),
        ("2", "s", "min", 120.0),
        ("0.5", "s", "h", 1800.0),
        ("350 ms", "s", "", 0.35),
        ("350ms", "s", "ms", 0.35),
        ("3µs", "s", "", 3e-6),
        ("3\u03bcs", "s", "", 3e-6),
        ("0:01:30.5", "s", "", 90.5),
        ("1 day, 0:00:01", "s", "", 86401.0),
        (dt.timedelta(milliseconds=20), "s", "", 0.02),
        (57, "0..1", "percent", 0.57),
        ("81.3%", "0..1", "percent", 0.813),
        ("0.5", "0..1", "", 0.5),
        (True, "0..1", "", 1.0),
        ("False", "0..1", "", 0.0),
        ("pass", "0..1", "", 1.0),
        ("$0.05", "USD", "", 0.05),
        ("-$5", "USD", "", -5.0),
        ("0.05 USD", "USD", "", 0.05),
        ("$0.05 USD", "USD", "", 0.05),
        (12, "USD", "cent", 0.12),
        ("$3", "USD/Mtok", "USD/Mtok", 3.0),
        ("1", "J", "Wh", 3600.0),
        (Decimal("1.25"), "USD", "", 1.25),
    ],
)
def test_amounts_come_out_in_our_units(cell: object, ours: str, unit: str, expected: float) -> None:
    """Whatever the cell or the mapping says that they are in."""
    assert convert(cell, "float", ours, CellFormat(unit)) == expected


@pytest.mark.parametrize(
    ("cell", "ours", "unit", "reason"),
    [
        ("81.3%", "0..1", "", 'unit = "percent"'),
        ("5 €", "USD", "", "'€' is no unit of USD"),
        ("£5", "USD", "", "'£'"),
        ("$5", "s", "", "no unit of s"),
        ("3 ms", "s", "min", "its unit is ms, but the mapping's is min"),
        ("5%", "USD", "", "no unit"),
        (True, "USD", "", "a flag"),
        ("12k", "tokens", "", "'k'"),
        ("7/10", "0..1", "", "not a number"),
        ("01:30", "s", "", "not a number"),
    ],
)
def test_amounts_of_another_kind_are_refused(
    cell: object, ours: str, unit: str, reason: str
) -> None:
    """Euros are no dollars, a percentage is no score."""
    with pytest.raises(ImportFormatError, match=reason):
        convert(cell, "float", ours, CellFormat(unit))


@pytest.mark.parametrize(
    ("cell", "unit", "expected"),
    [
        ("1,000", "", 1000),
        (3.0, "", 3),
        ("1e5", "", 100_000),
        ("1.001", "ktok", 1001),
        (1.001, "ktok", 1001),
        ("9223372036854775807", "", 2**63 - 1),
        (Decimal(12), "", 12),
    ],
)
def test_counts_are_exact(cell: object, unit: str, expected: int) -> None:
    """1.001 thousand is 1,001 though no float says so."""
    found = convert(cell, "int", "tokens", CellFormat(unit))

    assert (found, type(found)) == (expected, int)


@pytest.mark.parametrize(
    "cell", [1.5, "1.5", 2**63, "9223372036854775808", 1e300, True, "yes", "1e-3"]
)
def test_what_is_no_count_is_refused(cell: object) -> None:
    """Half a token, a flag, more than 64 bits."""
    with pytest.raises(ImportFormatError, match="is not a value of type int"):
        convert(cell, "int", "tokens")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2026-01-02T03:04:05Z", AT),
        ("2026-01-02 03:04:05", AT),
        ("2026-01-02T04:04:05+01:00", AT),
        ("2026-01-02 03:04:05 UTC", AT),
        ("2026/1/2 03:04:05", AT),
        ("Fri, 02 Jan 2026 03:04:05 GMT", AT),
        ("Fri, 02 Jan 2026 04:04:05 +0100", AT),
        (1767323045, AT),
        ("1767323045", AT),
        (1767323045.0, AT),
        (1767323045000, AT),
        ("1767323045000", AT),
        (1767323045000000, AT),
        (1767323045000000000, AT),
        ("2026-01-02", dt.datetime(2026, 1, 2, tzinfo=UTC)),
        ("20260102", dt.datetime(2026, 1, 2, tzinfo=UTC)),
        (20260102, dt.datetime(2026, 1, 2, tzinfo=UTC)),
        (dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=UTC)),
        (AT.astimezone(dt.timezone(dt.timedelta(hours=2))), AT),
        (AT.replace(tzinfo=None), AT),
        ("2026-09-28 03:46:57.713", dt.datetime(2026, 9, 28, 3, 46, 57, 713_000, tzinfo=UTC)),
    ],
)
def test_times_are_utc_however_they_are_written(cell: object, expected: dt.datetime) -> None:
    """With and without a zone, by seconds to nanoseconds since 1970; a text of digits is the same
    number."""
    assert convert(cell, "time") == expected


@pytest.mark.parametrize(
    "cell", ["03/04/2026", "13.04.2026", "soon", 0, "0", 12.5, 1e30, True, "2026-13-01"]
)
def test_what_could_be_two_days_or_none_is_refused(cell: object) -> None:
    """A zero is no time in 1970."""
    with pytest.raises(ImportFormatError, match="is not a value of type time"):
        convert(cell, "time")


def test_a_format_tells_day_from_month() -> None:
    """As strptime takes it."""
    found = convert("03/04/2026", "time", "", CellFormat(form="%d/%m/%Y"))

    assert found == dt.datetime(2026, 4, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Yes", True),
        ("TRUE", True),
        (1, True),
        (1.0, True),
        ("1", True),
        ("pass", True),
        (True, True),
        ("no", False),
        (0, False),
        ("0.0", False),
        ("incorrect", False),
        (False, False),
    ],
)
def test_flags_are_words_or_0_and_1(cell: object, *, expected: bool) -> None:
    """The usual ones."""
    assert convert(cell, "bool") is expected


@pytest.mark.parametrize("cell", ["maybe", 2, "0.5", "", "on"])
def test_what_is_no_flag_is_refused(cell: object) -> None:
    """Half right is not right."""
    with pytest.raises(ImportFormatError, match="is not a value of type bool"):
        convert(cell, "bool")


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "  ",
        "NaN",
        "N/A",
        "none",
        "NULL",
        "-",
        "—",
        "<NA>",
        "NaT",
        "unknown",
        float("nan"),
        None,
    ],
)
def test_numbers_that_say_nothing_are_unknown(cell: object) -> None:
    """Never zero."""
    assert is_null(cell, "float")


@pytest.mark.parametrize("cell", ["None", "N/A", "-", "unknown"])
def test_a_word_is_a_text(cell: str) -> None:
    """An answer may well be None."""
    assert not is_null(cell, "text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1"),
        (1, "1"),
        (Decimal("1.0"), "1"),
        (2.5, "2.5"),
        (1e5, "100000"),
        ("1.0", "1.0"),
        ("007", "007"),
        (dt.date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_a_text_does_not_depend_on_the_type_of_a_whole_number(value: object, expected: str) -> None:
    """1 of JSON, 1.0 of Parquet; a text stays as it is."""
    assert convert(value, "text") == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["1", "2", ""], [1, 2, None]),
        (["1.0", "2.0", "nan"], [1, 2, None]),
        (["1", "2.5"], [1.0, 2.5]),
        (["0,5", "1"], [0.5, 1.0]),
        (["true", "False"], [True, False]),
        (["007", "8"], ["007", "8"]),
        (["1", "a"], ["1", "a"]),
        (["None", ""], ["None", ""]),
        (["1e-5", "1"], [1e-5, 1.0]),
        (["v1.0"], ["v1.0"]),
        (["3.9", "3.10"], ["3.9", "3.10"]),
        (["0.50", "0.25"], [0.5, 0.25]),
        (["1e5", "2e7"], ["1e5", "2e7"]),
        (["12e4567"], ["12e4567"]),
        (["1.5e3", "2"], [1500.0, 2.0]),
        (["1,234"], ["1,234"]),
        (["12345678901234567890"], ["12345678901234567890"]),
        (["1.0", "1.10.2"], ["1.0", "1.10.2"]),
    ],
)
def test_a_column_of_texts_has_one_type(column: list[str], expected: list[object]) -> None:
    """Whole numbers, numbers and flags; one name among them makes them names."""
    survey = cells.Survey()
    for cell in column:
        survey.add(cell)

    found = [survey.typed(cell) for cell in column]

    assert found == expected
    assert [type(f) for f in found] == [type(e) for e in expected]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("a,b", ","),
        ("a;b", ";"),
        ("a\tb", "\t"),
        ("a|b", "|"),
        ('"x,y,z";b', ";"),
        ("a", ","),
        ('"a""b,c";d;e', ";"),
    ],
)
def test_the_delimiter_is_what_stands_most_outside_of_quotes(head: str, expected: str) -> None:
    """A name may hold commas."""
    assert cells.delimiter(head) == expected


@given(st.floats(-1e9, 1e9), st.integers(0, 6), st.booleans())
def test_a_number_reads_the_same_with_either_mark_and_any_thousands(
    value: float, decimals: int, grouped: bool
) -> None:
    """1,234.5 is 1.234,5 is 1 234.5."""
    written = f"{value:{',' if grouped else ''}.{decimals}f}"
    swapped = written.translate(str.maketrans(",.", ".,"))

    found = cells.number(written)

    assert found == float(f"{value:.{decimals}f}")
    assert cells.number(swapped, cells.COMMA) == found
    assert cells.number(written.replace(",", "\u202f")) == found
    assert cells.decimal_mark(written) in {"", None, cells.POINT} or written.count(",") > 1


@given(
    st.lists(
        st.one_of(st.integers(-(2**53), 2**53), st.floats(-1e6, 1e6).map(lambda x: round(x, 6))),
        min_size=1,
    )
)
def test_a_column_of_numbers_keeps_their_values(values: list[float]) -> None:
    """As Python writes them."""
    survey, column = cells.Survey(), [repr(v) for v in values]
    for cell in column:
        survey.add(cell)

    assert [survey.typed(cell) for cell in column] == values
