"""A merge is checked inside its transaction, finds contradictions, and does not depend on the
order."""

import datetime as dt
import itertools
from pathlib import Path

import msgspec
import pytest

from tests.support import making
from workbench.cli import main
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Price, Trace
from workbench.store import Store, open_store


def records(**changed: object) -> list[AnyRecord]:
    """One run of one configuration, its first trace changed."""
    trace = making.trace(making.UNPRICED, making.ITEMS[0], **changed)
    others = (making.trace(making.UNPRICED, item) for item in making.ITEMS[1:])
    return [making.run(), making.TASK, *making.ITEMS, making.UNPRICED, trace, *others]


def price(sheet: str, dollars: float) -> Price:
    """A price of the configuration's model."""
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    return Price(
        model="nobody-knows",
        sheet=sheet,
        starts_at=start,
        input_usd_per_mtok=dollars,
        output_usd_per_mtok=dollars,
    )


def store(path: Path, filled: list[AnyRecord], *prices: Price) -> Store:
    """A store of records and prices."""
    made = open_store(path, create=True)
    made.ingest(filled)
    made.add_prices(prices)
    return made


def content(made: Store) -> list[tuple[object, ...]]:
    """What the traces, their calls and their prices say."""
    asked = (
        "SELECT trace_id, answer, passed, score, n_calls, output_tokens, cost_usd FROM traces"
        " ORDER BY ALL",
        "SELECT call_id, input_tokens, output_tokens, price_id FROM calls ORDER BY ALL",
        "SELECT trace_id, ordinal, text FROM messages JOIN contents USING (content_id)"
        " ORDER BY ALL",
        "SELECT item_id, target FROM items ORDER BY ALL",
        "SELECT price_id FROM prices ORDER BY ALL",
    )
    return [row for query in asked for row in made.sql(query).rows()]


def test_one_trace_with_two_contents_is_listed_and_nothing_is_taken(tmp_path: Path) -> None:
    """Whichever store is merged into which; the first one that came stayed, without a word."""
    for mine, theirs in itertools.permutations((True, False)):
        one = store(tmp_path / f"one{mine}.duckdb", records(passed=mine, score=float(mine)))
        two = store(tmp_path / f"two{mine}.duckdb", [*records(passed=theirs, score=float(theirs))])
        two.ingest([making.trace(making.UNPRICED, making.ITEMS[0], trial=7)])
        before = content(one)

        with pytest.raises(ImportFormatError, match=r"traces \(1\): .*passed.*--prefer mine"):
            one.merge(two.path)

        assert content(one) == before


@pytest.mark.parametrize("prefer", ["mine", "theirs"])
def test_whoever_is_preferred_gives_the_trace_and_the_price(tmp_path: Path, prefer: str) -> None:
    """The same content comes out of both orders, costs included."""
    right = store(tmp_path / "right.duckdb", records(passed=True, score=1.0), price("a.toml", 1.0))
    wrong = store(tmp_path / "wrong.duckdb", records(passed=False, score=0.0), price("b.toml", 9.0))
    wanted = content(right)
    assert wanted != content(wrong)

    if prefer == "mine":
        right.merge(wrong.path, prefer="mine")
        assert content(right) == wanted
    else:
        wrong.merge(right.path, prefer="theirs")
        assert content(wrong) == wanted


def test_two_prices_for_the_same_calls_are_a_contradiction(tmp_path: Path) -> None:
    """A sheet that both have, and one that was changed by who has both, are none."""
    one = store(tmp_path / "one.duckdb", records(), price("a.toml", 1.0))
    two = store(tmp_path / "two.duckdb", records(), price("b.toml", 9.0))
    both = store(tmp_path / "both.duckdb", records(), price("a.toml", 1.0), price("b.toml", 9.0))

    with pytest.raises(
        ImportFormatError, match=r"prices \(1\): .*nobody-knows.*1\.0 and 1\.0.*9\.0"
    ):
        one.merge(two.path)
    one.merge(both.path)

    assert content(one) == content(both)


def test_an_item_with_another_target_is_a_contradiction(tmp_path: Path) -> None:
    """And its preferred one is taken; an unknown target is filled, from either side."""
    changed = [
        msgspec.structs.replace(r, target="8") if r == making.ITEMS[0] else r for r in records()
    ]
    unknown = [
        msgspec.structs.replace(r, target=None) if r == making.ITEMS[0] else r for r in records()
    ]
    one, two = store(tmp_path / "1.duckdb", records()), store(tmp_path / "2.duckdb", changed)
    three, four = store(tmp_path / "3.duckdb", unknown), store(tmp_path / "4.duckdb", records())

    with pytest.raises(ImportFormatError, match=r"items \(1\): .*target"):
        one.merge(two.path)
    four.merge(three.path)
    three.merge(one.path)
    assert content(three) == content(four) == content(one)
    one.merge(two.path, prefer="theirs")
    assert content(one) == content(two)


def test_traces_without_their_calls_get_them(tmp_path: Path) -> None:
    """A part came first, in an earlier version; the whole completes it, sums and prices
    included."""
    whole = store(tmp_path / "whole.duckdb", records(), price("a.toml", 1.0))
    whole.export(tmp_path / "export")
    part = store(tmp_path / "part.duckdb", records())
    with part.lease() as connection:
        connection.execute("DELETE FROM calls; DELETE FROM messages; DELETE FROM contents")
        connection.execute("UPDATE traces SET output_tokens = NULL, n_calls = 0")

    report = part.merge(tmp_path / "export")

    assert content(part) == content(whole)
    assert report.rows_new["calls"] == 5
    assert "5 traces were here without their calls" in report.notes[0]
    assert set(part.merge(tmp_path / "export").rows_new.values()) == {0}


def test_what_hangs_in_the_air_is_not_taken(tmp_path: Path) -> None:
    """As `doctor` would say afterwards; the store stays as it was."""
    source = store(tmp_path / "source.duckdb", records())
    source.export(tmp_path / "export")
    (tmp_path / "export" / "items.parquet").unlink()
    new = open_store(tmp_path / "new.duckdb", create=True)

    with pytest.raises(ImportFormatError, match="5 traces of no item"):
        new.merge(tmp_path / "export", as_tables=True)

    assert new.count() == 0


def test_damage_that_was_there_before_is_not_blamed_on_the_merge(tmp_path: Path) -> None:
    """The store that is merged into may be damaged itself."""
    mine = store(tmp_path / "mine.duckdb", records())
    with mine.lease() as connection:
        connection.execute("UPDATE traces SET item_id = 'gone' WHERE trial = 0")
        connection.execute("UPDATE traces SET run_id = 'lost'")
    other = making.small_store(tmp_path)

    mine.merge(other.path)

    assert mine.count() > 5


def test_a_failed_try_and_a_later_one_are_no_contradiction(tmp_path: Path) -> None:
    """The later one counts, whichever comes first."""
    later = making.START + dt.timedelta(hours=1)
    failed = {"passed": None, "score": None, "error_type": "timeout"}
    made = [
        (
            store(tmp_path / f"a{n}.duckdb", records(**failed)),
            store(tmp_path / f"b{n}.duckdb", records(started_at=later)),
        )
        for n in range(2)
    ]

    made[0][0].merge(made[0][1].path)
    made[1][1].merge(made[1][0].path)

    assert content(made[0][0]) == content(made[1][1])


def test_the_command_names_what_contradicts_and_takes_a_side(tmp_path: Path, capsys) -> None:
    """Exit status 1 without --prefer."""
    one = store(tmp_path / "one.duckdb", records(passed=False, score=0.0))
    two = store(tmp_path / "two.duckdb", records())
    asked = ["import", str(two.path), "--store", str(one.path)]
    (trace,) = (r for r in records()[8:9] if isinstance(r, Trace))

    assert main(asked) == 1
    assert trace.trace_id in "".join(capsys.readouterr())
    assert main([*asked, "--prefer", "theirs"]) == 0
    assert content(one) == content(two)
