"""The two spellings of a filter select the same rows, whatever the text holds."""

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import schema
from workbench.errors import SliceError
from workbench.slice import FIELDS, Slice
from workbench.slice.terms import Compare, Flag, Glob, Moment, OneOf, Phrase, Presence

# letters whose cases the engines' lower() disagree on, wildcards, quotes, controls, markup
ALPHABET = "abAB01kKſsßẞσςΣiİıµμ ,\"'\\*?%_.[]()|^$-;\n\t\0\x1b—é日🙂<>"
texts = st.text(ALPHABET, max_size=6)
hostile = st.sampled_from(
    ["'; DROP TABLE traces; --", "' OR 1=1 --", "\\", "%", "a\0b", "$$", "{x}"]
)
values = st.one_of(texts, hostile)
numbers = st.one_of(
    st.integers(-5, 2000).map(float),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x + 0.0),
    st.sampled_from([1e-7, 1e18, 2.0**60, 0.1]),
)
moments = st.datetimes()
words = st.sampled_from(list(Presence))
pieces = st.lists(
    st.one_of(st.sampled_from(["*", "?"]), values.map(lambda v: Glob.literal(v).escaped)),
    min_size=1,
)
globs = pieces.map(lambda p: Glob("".join(p)))


def fields_of(kind):
    """Draw a field of one kind that is not an alias."""
    found = {
        f.name: f for f in FIELDS.values() if f.kind == kind and f.name not in {"since", "until"}
    }
    return st.sampled_from(list(found.values()))


negated = st.booleans()
terms = st.one_of(
    st.builds(
        OneOf,
        fields_of("text"),
        st.lists(globs | words, min_size=1, max_size=3).map(tuple),
        negated=negated,
    ),
    st.builds(
        OneOf,
        fields_of("number"),
        st.lists(numbers | words, min_size=1, max_size=3).map(tuple),
        negated=negated,
    ),
    st.builds(OneOf, fields_of("time"), st.tuples(words), negated=negated),
    st.builds(
        Compare,
        fields_of("text"),
        st.sampled_from(["=", "!="]),
        st.lists(values, min_size=1, max_size=3).map(tuple),
        negated=negated,
    ),
    st.builds(
        Compare,
        fields_of("number"),
        st.sampled_from([">", ">=", "<", "<=", "=", "!="]),
        st.tuples(numbers),
        negated=negated,
    ),
    st.builds(Moment, st.sampled_from([">=", "<"]), moments, negated=negated),
    st.builds(
        Flag,
        st.sampled_from([f.name for f in FIELDS.values() if f.kind == "flag"]),
        negated=negated,
    ),
    st.builds(Phrase, values.filter(bool), negated=negated),
)
slices = st.lists(terms, max_size=4).map(lambda t: Slice(tuple(dict.fromkeys(t))))

KINDS = {
    "text": st.none() | values,
    "json": st.none() | values,
    "int": st.none() | st.integers(-5, 2000),
    "float": st.none() | st.sampled_from([0.0, 0.1, 0.5, 1.0, 120.0, float("nan"), float("inf")]),
    "bool": st.none() | st.booleans(),
    "time": st.none() | st.datetimes(),
}
POLARS = {
    "text": pl.String,
    "json": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Datetime("us"),
}
COLUMNS = {c.name: c for c in schema.TRACE_FACTS.columns}


def frame_for(slice_, data):
    """Draw a frame of the columns that a slice asks about, many nulls among the values."""
    asked = {getattr(getattr(t, "field", None), "column", None) for t in slice_.terms}
    asked |= {"passed", "error_type", "is_replaced", "cost_usd", "started_at"}
    wanted = sorted(asked - {None, "trace_id"})
    rows = data.draw(st.integers(1, 8))
    drawn = {n: [data.draw(KINDS[COLUMNS[n].type]) for _ in range(rows)] for n in wanted}
    drawn["trace_id"] = [f"t{i}" for i in range(rows)]
    types = {n: POLARS[COLUMNS[n].type] for n in wanted} | {"trace_id": pl.String}
    said = [data.draw(values) for _ in range(rows)]
    return pl.DataFrame(drawn, schema=types), pl.DataFrame(
        {"trace_id": drawn["trace_id"], "content_id": drawn["trace_id"], "text": said},
        schema=dict.fromkeys(("trace_id", "content_id", "text"), pl.String),
    )


@pytest.fixture(scope="module")
def connection():
    """One engine for all examples."""
    return duckdb.connect()


class Asker:
    """Stands where a store stands: answers SQL over the drawn transcripts."""

    def __init__(self, connection):
        self.connection = connection

    def sql(self, query):
        """Run a query."""
        return self.connection.sql(query).pl()

    def texts(self, text):
        """Find the traces that hold a text."""
        query = Slice((Phrase(text),)).sql()
        return [
            r[0]
            for r in self.connection.execute(f"SELECT trace_id FROM facts WHERE {query}").fetchall()
        ]


@given(slices)
@settings(max_examples=300, deadline=None)
def test_text_round_trips(slice_):
    """Whatever a slice holds, its text reads back as the same slice."""
    again = Slice.parse(str(slice_))

    assert again == slice_
    assert str(again) == str(slice_)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_duckdb_and_polars_keep_the_same_rows(connection, data):
    """Nulls, NaN, cases, wildcards and hostile text included; so does the copied source code."""
    slice_ = data.draw(slices)
    frame, said = frame_for(slice_, data)
    connection.register("facts", frame)
    connection.register("messages", said.drop("text"))
    connection.register("contents", said.drop("trace_id"))
    store = Asker(connection)

    by_sql = connection.sql(f"SELECT trace_id FROM facts WHERE {slice_.sql()} ORDER BY ALL").pl()
    by_polars = frame.filter(slice_.polars(store.texts)).select("trace_id").sort("trace_id")
    copied = eval(slice_.polars_code(), {"pl": pl, "store": store})
    by_code = frame.filter(copied).select("trace_id").sort("trace_id")

    assert by_sql["trace_id"].to_list() == by_polars["trace_id"].to_list()
    assert by_code.equals(by_polars)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_is_in_a_term_or_in_its_negation(connection, data):
    """Unknown values fall on the negated side, never out of both."""
    term = data.draw(terms.filter(lambda t: not t.negated and not isinstance(t, Phrase)))
    slice_ = Slice((term,))
    opposite = Slice.parse(f"-{slice_}")
    frame, _ = frame_for(slice_, data)

    kept, rest = frame.filter(slice_.polars()), frame.filter(opposite.polars())

    assert sorted([*kept["trace_id"], *rest["trace_id"]]) == sorted(frame["trace_id"])
    assert slice_ != opposite


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_parses_or_is_refused_with_a_column(typed):
    """No input raises anything but SliceError."""
    fault = None
    try:
        slice_ = Slice.parse(typed)
    except SliceError as error:
        fault, slice_ = error.column, Slice()

    assert fault is None or 0 <= fault <= len(typed)
    assert Slice.parse(str(slice_)) == slice_


def test_hostile_values_stay_values(connection):
    """A quote, a comment or a second statement in a value is only text."""
    connection.execute("CREATE OR REPLACE TABLE victim AS SELECT 1 AS x")
    hostile_model = "'; DROP TABLE victim; --"
    frame = pl.DataFrame({"model": [hostile_model, "other"]})
    connection.register("models", frame)

    for slice_ in (
        Slice().where(model=hostile_model),
        Slice.parse('model:"\'; DROP TABLE victim; --"'),
    ):
        kept = connection.sql(f"SELECT model FROM models WHERE {slice_.sql()}").pl()
        assert kept["model"].to_list() == [hostile_model]
    assert connection.execute("SELECT x FROM victim").fetchall() == [(1,)]
