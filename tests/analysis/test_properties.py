"""What holds for every analysis of the registry: the order of rows, doubled imports, bounds,
units."""

import dataclasses
import functools

import polars as pl
import polars.testing
import pytest

from tests.support.facility import reading, readings, served
from workbench import analysis, datasets, hardware
from workbench.slice import Slice
from workbench.store import demo_store, reference

# Smaller questions than the examples ask, where these take seconds.
ASKED = {
    "aggregate": {"by": ("model",)},
    "itemised-ranking": {"by": ("model",)},
    "portfolio": {"looks": 20},
    "routing": {"by": ("model",)},
}
# What the samples have nothing of.
MADE_UP = {
    "energy-by-phase": lambda: readings(
        *[
            reading(str(i), phase, 5.0 * i + k, configuration=c)
            for c in "ab"
            for i in range(9)
            for k, phase in enumerate(("prefill", "thinking", "answer"))
        ]
    ),
    "steady-state": served,
}
TOLERANCE = {"rel_tol": 1e-6, "abs_tol": 1e-9}  # fits stop a little short of their optimum


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A store of the sample traces."""
    return demo_store(tmp_path_factory.mktemp("properties") / "samples.duckdb")


@dataclasses.dataclass(frozen=True)
class Question:
    """An analysis with what it is asked of the samples."""

    name: str
    where: str
    options: dict

    def run(self, frame, **more):
        """Ask it of a frame."""
        return analysis.run(self.name, frame, **self.options | more)


def question(name):
    """The example of an analysis, with few resamples."""
    declared = analysis.get(name)
    options = dict(declared.example) | ASKED.get(name, {})
    if any(o.name == "resamples" for o in declared.options):
        options["resamples"] = 100
    return Question(name, options.pop("where", ""), options)


def known(frame):
    """Fill in what no sample was measured or told: joules, and prices that differ."""
    price = 1.0 + pl.col("configuration").rank("dense") % 5
    made = {
        "energy_j": 2.0 + 0.5 * pl.col("output_tokens"),
        "energy_method": pl.lit("measured"),
        "input_usd_per_mtok": price,
        "output_usd_per_mtok": 3 * price,
        "billed_cost_usd": 1.1 * pl.col("cost_usd"),
    }
    there = [expr.alias(c) for c, expr in made.items() if c in frame.columns]
    return frame.with_columns(there) if "output_tokens" in frame.columns else frame


@pytest.fixture(scope="module")
def rows(samples):
    """Rows that a question is about, by view and slice."""

    @functools.cache
    def fetch(view, where):
        with samples.facts(Slice.parse(where), view) as relation:
            return known(relation.collect("polars").to_native())

    with hardware.using(reference.rows(samples.sql)):
        yield (
            lambda asked: (
                MADE_UP[asked.name]()
                if asked.name in MADE_UP
                else fetch(analysis.get(asked.name).rows, asked.where)
            )
        )


@pytest.fixture(scope="module")
def answer(rows):
    """The answer to a question, worked out once."""
    return functools.cache(lambda name: question(name).run(rows(question(name))))


def same(found, expected):
    """Every table, what was dropped and what was said are alike."""
    pl.testing.assert_frame_equal(found.frame, expected.frame, **TOLERANCE)
    assert found.more.keys() == expected.more.keys()
    for name, table in expected.more.items():
        pl.testing.assert_frame_equal(found.more[name], table, **TOLERANCE)
    assert found.dropped == expected.dropped
    assert found.notes == expected.notes


@pytest.mark.parametrize("name", analysis.names())
def test_the_order_of_rows_changes_nothing(name, rows, answer):
    """Shuffled rows give the same tables, to rounding, and the same words."""
    asked = question(name)

    shuffled = rows(asked).sample(fraction=1, shuffle=True, seed=3)

    assert answer(name).frame.height > 0
    same(asked.run(shuffled), answer(name))


def test_importing_again_changes_nothing(samples, tmp_path):
    """The same files twice, and a file that holds every row twice: each view has the rows it
    had."""
    source = datasets.sample_traces_dir()
    doubled = tmp_path / "doubled"
    doubled.mkdir()
    for path in source.glob("*.parquet"):
        table = pl.read_parquet(path)
        pl.concat([table, table.sample(fraction=1, shuffle=True, seed=1)]).write_parquet(
            doubled / path.name
        )
    again = demo_store(tmp_path / "again.duckdb")

    assert set(again.merge(source).rows_new.values()) == {0}
    again.merge(doubled, as_tables=True)

    views = {analysis.get(name).rows for name in analysis.names()}
    for view in sorted(views):
        with (
            samples.facts(Slice.parse(""), view) as once,
            again.facts(Slice.parse(""), view) as twice,
        ):
            one, two = (f.collect("polars").to_native() for f in (once, twice))
        kept = [c for c in one.columns if not c.endswith("imported_at")]
        one, two = (f.select(kept).hash_rows().sort() for f in (one, two))
        assert len(one) > 0 or view == "energy_facts"
        assert one.equals(two)


OPEN = {"saving", "parity"}  # what is dearer than without saves less than nothing
SIGNED = (
    "gain",
    "saving",
    "difference",
    "slope",
    "residual",
    "change",
    "bias",
    "regret",
)  # of shares


def tables(result):
    """Every table of a result by name, with the meaning of its columns."""
    meaning = {c.name: c for c in result.columns}
    for name, table in {"": result.frame, **result.more}.items():
        yield name, table, {c: meaning[c] for c in table.columns if c in meaning}


@pytest.mark.parametrize("name", analysis.names())
def test_shares_counts_and_ends_keep_their_bounds(name, answer):
    """What is from 0 to 1 is, a count is not below 0, and no low end is above its high end."""
    for table, frame, meaning in tables(answer(name)):
        for column, said in meaning.items():
            values = frame[column].drop_nulls()
            if (
                said.unit == "0..1"
                and column.removesuffix("_low").removesuffix("_high") not in OPEN
            ):
                least = -1 if any(word in column for word in SIGNED) else 0
                assert values.is_between(least - 1e-9, 1 + 1e-9).all(), (table, column)
            if said.unit == "count" and said.type == "int":
                assert (values >= 0).all(), (table, column)
            if column.endswith("_low"):
                ends = frame.select(low=column, high=f"{column[:-4]}_high").drop_nulls()
                assert (ends["low"] <= ends["high"] + 1e-9).all(), (table, column)


# An area over dollars has no unit of its own.
IN_MONEY = {("frontier", "hypervolume"), ("frontier", "reference_x")}
# and where each row has a unit of its own, those whose unit has money in it
BY_FACTOR = {
    ("price-reversal", c): pl.col("factor").str.ends_with("price")
    for c in ("cheaper_value", "dearer_value")
} | {("anomalies", c): pl.col("kind") == "cost" for c in ("group_median", "limit", "value")}
MONEY = 4.0  # a power of two, so that nothing is rounded otherwise


def worth(unit):
    """How often a unit has money in it: 1 for USD and USD per something, −1 for something per
    USD."""
    above, _, below = unit.partition("/")
    return ("USD" in above) - ("USD" in below)


@pytest.mark.parametrize("name", analysis.names())
def test_figures_scale_with_the_unit_of_money(name, rows, answer):
    """A currency of a quarter of the worth: money times four, the inverse of money a quarter, the
    rest as it was."""
    asked = question(name)
    frame = rows(asked)
    amounts = [c for c in frame.columns if "usd" in c and frame[c].dtype.is_float()]
    dearer = frame.with_columns(pl.col(c) * MONEY for c in amounts)
    given = {
        o.name: MONEY * v
        for o in analysis.get(name).options
        if "usd" in o.name and (v := asked.options.get(o.name, o.default)) is not None
    }

    expected, found = answer(name), asked.run(dearer, **given)

    for (_, before, meaning), (_, after, _) in zip(tables(expected), tables(found), strict=True):
        powers = {
            c: 1 if (name, c) in IN_MONEY else worth(said.unit) for c, said in meaning.items()
        }
        floats = {c: k for c, k in powers.items() if before[c].dtype.is_float()}
        factors = [
            pl.col(c)
            * pl.when(BY_FACTOR.get((name, c), pl.lit(False))).then(MONEY).otherwise(MONEY**k)
            for c, k in floats.items()
        ]
        numbers = pl.selectors.exclude(pl.String)  # words may name an amount
        scaled = before.with_columns(factors).select(numbers)
        pl.testing.assert_frame_equal(after.select(numbers), scaled, **TOLERANCE)
