"""The filter language: what it reads, what it refuses, what it writes back."""

import datetime as dt

import pytest

from workbench import schema
from workbench.errors import SliceError
from workbench.slice import FIELDS, Slice

NOW = dt.datetime(2026, 10, 8, 12, 0, tzinfo=dt.UTC)

READS = [
    ("", "", "TRUE"),
    ("   ", "", "TRUE"),
    ("model:gpt*", "model:gpt*", "regexp_extract(model, '(?is)^gpt') <> ''"),
    ("model:*gpt*", "model:*gpt*", "regexp_extract(model, '(?is)gpt') <> ''"),
    ("MODEL:gpt-4?", "model:gpt-4?", "regexp_extract(model, '(?is)^gpt-4.$') <> ''"),
    ("task:gsm8k", "task:gsm8k", "regexp_extract(task, '(?is)^gsm8k$') <> ''"),
    ('item:"a b"*', 'item:"a b"*', "regexp_extract(item, '(?is)^a b') <> ''"),
    ('item:"a*"', 'item:"a*"', "regexp_extract(item, '(?is)^a\\*$') <> ''"),
    (
        "model:a,b",
        "model:a,b",
        "(regexp_extract(model, '(?is)^a$') <> '' OR regexp_extract(model, '(?is)^b$') <> '')",
    ),
    ("effort:none", "effort:none", "effort IS NULL"),
    ('effort:"none"', 'effort:"none"', "regexp_extract(effort, '(?is)^none$') <> ''"),
    ("effort=none", "effort=none", "effort = 'none'"),
    ("effort:any", "effort:any", "effort IS NOT NULL"),
    ("model=O'Hara,b", "model=O'Hara,b", "model IN ('O''Hara', 'b')"),
    ("model!=a", "model!=a", "model <> 'a'"),
    ("thinking>2k", "thinking>2000", "reasoning_tokens > 2000"),
    ("reasoning_tokens>=2000", "thinking>=2000", "reasoning_tokens >= 2000"),
    ("tokens<1.5M", "out<1500000", "output_tokens < 1500000"),
    ("cost>$0.1", "cost>0.1", "cost_usd > 0.1"),
    ("cost<=1e-7", "cost<=1e-07", "cost_usd <= 1e-07"),
    ("score>=50%", "score>=0.5", "score >= 0.5"),
    ("s>500ms", "latency>0.5", "e2e_s > 0.5"),
    ("latency<2m", "latency<120", "e2e_s < 120"),
    ("energy>1Wh", "energy>3600", "energy_j > 3600"),
    ("trial:0,2", "trial:0,2", "trial IN (0, 2)"),
    ("trial=0", "trial=0", "trial = 0"),
    ("cost:none", "cost:none", "cost_usd IS NULL"),
    ("trial:0,none", "trial:0,none", "(trial = 0 OR trial IS NULL)"),
    ("wrong", "wrong", "passed IS FALSE"),
    ("correct", "right", "passed IS TRUE"),
    ("-wrong", "-wrong", "NOT (passed IS FALSE)"),
    ("failed unpriced", "failed unpriced", "error_type IS NOT NULL AND cost_usd IS NULL"),
    ("-thinking>2k", "-thinking>2000", "NOT coalesce(reasoning_tokens > 2000, FALSE)"),
    ("wrong wrong", "wrong", "passed IS FALSE"),
    ("since:2026-10-01", "since:2026-10-01", "started_at >= TIMESTAMP '2026-10-01 00:00:00'"),
    ("until:2026-10-01", "until:2026-10-01", "started_at < TIMESTAMP '2026-10-02 00:00:00'"),
    (
        "until:2026-10-01T06:30",
        "until:2026-10-01T06:30:00",
        "started_at < TIMESTAMP '2026-10-01 06:30:00'",
    ),
    (
        "since:2026-10-01T02:00+02:00",
        "since:2026-10-01",
        "started_at >= TIMESTAMP '2026-10-01 00:00:00'",
    ),
    ("since:7d", "since:2026-10-01T12:00:00", "started_at >= TIMESTAMP '2026-10-01 12:00:00'"),
    (
        '"it\'s \\"so\\""',
        '"it\'s \\"so\\""',
        "trace_id IN (SELECT m.trace_id FROM messages AS m JOIN contents AS c USING (content_id) "
        "WHERE contains(lower(c.text), lower('it''s \"so\"')))",
    ),
]


@pytest.mark.parametrize(("typed", "canonical", "sql"), READS, ids=[r[0] for r in READS])
def test_a_filter_has_one_canonical_text_and_one_predicate(typed, canonical, sql):
    """Aliases, units and spaces vanish; the predicate is plain SQL."""
    slice_ = Slice.parse(typed, now=NOW)

    assert str(slice_) == canonical
    assert slice_.sql() == sql
    assert Slice.parse(canonical) == slice_


REFUSES = [
    ("modle:gpt", 0, "unknown field modle", "did you mean model?"),
    ("wrong modle:gpt", 6, "unknown field modle", "did you mean model?"),
    ("wrnog", 0, "unknown word wrnog", "did you mean wrong?"),
    ("hello", 0, "unknown word hello", 'write "hello" to search'),
    ("thinking", 8, "thinking needs a value", "thinking>1k"),
    ("since", 5, "since needs a value", "since:2026-10-01"),
    ("model:", 6, "a value is missing", ""),
    ("model:a,", 8, "a value is missing", ""),
    ("thinking>lots", 9, "'lots' is not a number", "k, K, m, M"),
    ("thinking>5s", 9, "thinking knows no unit 's'", "k, K, m, M"),
    ("thinking>$5", 9, "thinking is not in dollars", ""),
    ("cost>1e999", 5, "too large", ""),
    ("cost>nan", 5, "not a number", ""),
    ("cost>1e99999999999999999999", 5, "too large", ""),
    ("thinking>1,2", 11, "> takes one value", ""),
    ("model>3", 6, "model is text", "use model:pattern"),
    ("wrong:yes", 0, "wrong takes no value", "-wrong"),
    ("since:yesterday", 6, "'yesterday' is not a date", "7d"),
    ("since:2026-13-01", 6, "is not a date", ""),
    ("since>2026-10-01", 5, "since is followed by a colon", ""),
    ("since:2026-10-01,2026-10-02", 17, "since takes one date", ""),
    ("started>2026-10-01", 0, "started cannot be compared", "since:"),
    ("until:9999-12-31", 6, "out of range", ""),
    ("since:7d", 6, "an age needs to know the time now", ""),
    ('model:"gpt', 6, "a quote that is not closed", ""),
    ('"open', 0, "a quote that is not closed", ""),
    ('""', 0, "an empty text", ""),
    ('"a"b', 3, "a space is missing", ""),
    ("-", 1, "a term is missing after -", ""),
    ("model:" + "*a" * 600, 6, "a pattern is too long", "model="),
    ("model:\ud800", 6, "no valid Unicode", ""),
]


@pytest.mark.parametrize(
    ("typed", "column", "reason", "hint"), REFUSES, ids=[ascii(r[0][:20]) for r in REFUSES]
)
def test_an_error_points_at_its_column_and_says_what_to_write(typed, column, reason, hint):
    """The caret stands under the fault, the hint offers the nearest name."""
    with pytest.raises(SliceError) as caught:
        Slice.parse(typed)

    assert caught.value.column == column
    assert reason in caught.value.reason
    assert hint in caught.value.hint
    assert f"column {column + 1}" in str(caught.value)


def test_every_column_of_trace_facts_can_be_asked_for():
    """No stored column is out of a filter's reach, and every name leads to a real column."""
    columns = set(schema.TRACE_FACTS.names)

    assert set(FIELDS) >= columns - {"passed", "is_replaced"}
    assert FIELDS["passed"].name == "right"
    assert {field.column for field in FIELDS.values()} == columns


def test_where_takes_exact_values_and_reads_back():
    """Facets and brushes build slices without writing text."""
    slice_ = Slice().where(model=["a*", 'b "q"'], task="none", trial=0, right=True, effort=None)

    assert str(slice_) == 'model=a*,"b \\"q\\"" task=none trial=0 right effort:none'
    assert Slice.parse(str(slice_)) == slice_
    assert str(Slice().where(wrong=False)) == "-wrong"


def test_where_with_an_unknown_beside_values_asks_for_both():
    """A facet may hold both a value and a dash."""
    assert str(Slice().where(effort=["low*", None])) == 'effort:"low*",none'


@pytest.mark.parametrize(
    "fields", [{"modle": "a"}, {"cost": "much"}, {"model": []}, {"since": "x"}]
)
def test_where_refuses_what_it_cannot_hold(fields):
    """An unknown name, a text for a number, nothing at all."""
    with pytest.raises(SliceError):
        Slice().where(**fields)


def test_and_joins_terms_once():
    """Asking twice is asking once."""
    both = Slice.parse("wrong model:a") & Slice.parse("wrong task:b")

    assert str(both) == "wrong model:a task:b"
    assert not Slice()
    assert both


def test_of_takes_text_or_slice():
    """Callers need not care which they were given."""
    assert Slice.of("wrong") == Slice.of(Slice.parse("wrong"))
    assert str(Slice.of("since:7d", now=NOW)) == "since:2026-10-01T12:00:00"


def test_a_frame_without_transcripts_refuses_a_text_term():
    """Silence would look like no match."""
    slice_ = Slice.parse('wrong "x"')

    assert slice_.needs_text
    with pytest.raises(SliceError, match="holds no transcripts") as caught:
        slice_.polars()
    assert caught.value.column == len("wrong ")
