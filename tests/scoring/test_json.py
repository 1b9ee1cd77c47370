"""Scorer `json`: which value counts, how it is compared, and the part of JSON Schema that is
checked."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import scoring
from workbench.errors import TaskError
from workbench.scoring import TaskItem, json_schema
from workbench.scoring.json_values import canonical, find_value


def item(target: object = "", **metadata: object) -> TaskItem:
    """Make an item; a target that is no text is written as JSON."""
    text = target if isinstance(target, str) else json.dumps(target)
    return TaskItem("t", "1", "?", text, scorer="json", metadata=metadata)


def passes(text: str, target: object = "", **metadata: object) -> bool:
    """Score one text."""
    found = scoring.get("json")(item(target, **metadata), text)
    assert found.passed is not None
    return found.passed


FOUND = [
    ("alone", '{"a": 1}', {"a": 1}),
    ("fenced", 'Here:\n```json\n{"a": [1, 2]}\n```\nDone.', {"a": [1, 2]}),
    ("last counts", '{"a": 1} or rather {"a": 2}', {"a": 2}),
    ("outermost", 'x {"a": {"b": [1]}} y', {"a": {"b": [1]}}),
    ("list of objects", '[{"a": 1}, {"b": 2}]', [{"a": 1}, {"b": 2}]),
    ("braces in a string", '{"a": "}{["}', {"a": "}{["}),
    ("prose in braces", r"\frac{1}{2} and {so on}: {}", {}),
    ("broken after whole", '{"a": 1} {"a": ', {"a": 1}),
    ("scalar after the mark", "Answer: 42", 42),
    ("text after the mark", 'Answer: "x"', "x"),
]


@pytest.mark.parametrize(("text", "value"), [f[1:] for f in FOUND], ids=[f[0] for f in FOUND])
def test_the_last_value_of_a_text_counts(text: str, value: object) -> None:
    """Objects and lists wherever they stand, other values after the mark."""
    assert find_value(text) == (True, value)


@pytest.mark.parametrize(
    "text",
    ["", "no", '{"a": NaN}', "{'a': 1}", '{"a": 1', "[" * 5000, '["a', "1" * 5000],
    ids=["empty", "prose", "NaN", "Python", "torn", "deep", "torn text", "many digits"],
)
def test_what_is_no_json_is_no_answer(text: str) -> None:
    """Python's literals, torn values and NaN are not taken for JSON."""
    found = scoring.get("json")(item({"a": 1}), text)

    assert (found.answer, found.passed) == (None, False)


def test_hidden_braces_do_not_hide_an_answer_in_long_prose() -> None:
    """Twenty thousand LaTeX braces before the answer are searched in well under a second."""
    start = time.process_time()

    assert find_value(r"\frac{x}{y} [see] " * 10_000 + '{"a": 1}') == (True, {"a": 1})
    assert time.process_time() - start < 1


def test_a_footnote_is_no_answer() -> None:
    """The last value of the target's kind counts, before the last one of any kind."""
    assert passes('{"a": 1}, as in [1].', {"a": 1})
    assert not passes('{"a": 1} {"a": 2} [1]', {"a": 1})


SAME = [
    ("order of keys", '{"b": 2, "a": 1}', {"a": 1, "b": 2}, {}, True),
    ("1.0 is 1", '{"a": 1.0}', {"a": 1}, {}, True),
    ("true is not 1", '{"a": true}', {"a": 1}, {}, False),
    ("text is no number", '{"a": "1"}', {"a": 1}, {}, False),
    ("null is null", '{"a": null}', {"a": None}, {}, True),
    ("null is not missing", "{}", {"a": None}, {}, False),
    ("one more key", '{"a": 1, "b": 2}', {"a": 1}, {}, False),
    ("one more key in a subset", '{"a": 1, "b": 2}', {"a": 1}, {"mode": "subset"}, True),
    ("one less in a subset", '{"b": 2}', {"a": 1}, {"mode": "subset"}, False),
    ("subset within", '{"a": {"b": 1, "c": 2}}', {"a": {"b": 1}}, {"mode": "subset"}, True),
    ("keys alone", '{"a": 1, "b": 9}', {"a": 1, "b": 2}, {"mode": "keys", "keys": ["a"]}, True),
    ("keys differ", '{"a": 3, "b": 2}', {"a": 1, "b": 2}, {"mode": "keys", "keys": ["a"]}, False),
    ("tolerance", '{"a": 1.04}', {"a": 1}, {"tolerance": 0.05}, True),
    ("beyond it", '{"a": 1.06}', {"a": 1}, {"tolerance": 0.05}, False),
    ("relative", '{"a": 104}', {"a": 100}, {"relative_tolerance": 0.05}, True),
    ("exact to the digit", '{"a": 0.1}', {"a": 0.1}, {}, True),
    (
        "infinity is no number near",
        '{"a": 1e999}',
        {"a": -1e300},
        {"relative_tolerance": 0.5},
        False,
    ),
    ("order counts", "[2, 1]", [1, 2], {}, False),
    ("any order", "[2, 1]", [1, 2], {"any_order": True}, True),
    ("any order, multiplicity", "[1, 1, 2]", [1, 2, 2], {"any_order": True}, False),
    ("any order within", '{"a": [[2], [1]]}', {"a": [[1], [2]]}, {"any_order": True}, True),
    ("subset of a list", "[3, 2, 1]", [1, 2], {"any_order": True, "mode": "subset"}, True),
    ("greedy would fail", "[1.0, 1.4]", [1.2, 0.9], {"any_order": True, "tolerance": 0.2}, True),
]


@pytest.mark.parametrize(
    ("text", "target", "metadata", "passed"), [s[1:] for s in SAME], ids=[s[0] for s in SAME]
)
def test_values_are_compared_as_told(
    text: str, target: object, metadata: dict, passed: bool
) -> None:
    """Exactly, as a subset, by keys, within a tolerance, in any order."""
    assert passes(text, target, **metadata) is passed


def test_accepted_targets_count_too() -> None:
    """Any of several truths is right."""
    assert passes('{"a": 2}', {"a": 1}, accepted=['{"a": 2}'])


def test_long_lists_in_any_order_take_no_longer_than_they_should() -> None:
    """Two thousand elements would be four million pairs: given up, and wrong, in time."""
    start = time.process_time()
    assert not passes(json.dumps(list(range(2000))), list(range(1999, -1, -1)), any_order=True)
    assert passes(json.dumps(list(range(200))), list(range(199, -1, -1)), any_order=True)
    assert time.process_time() - start < 3


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), st.randoms(use_true_random=False))
def test_a_value_equals_itself_in_every_mode(value: list, random) -> None:
    """Property: written and read back it passes; shuffled it passes in any order."""
    text = f"So:\n```json\n{json.dumps(value)}\n```"
    shuffled = random.sample(value, len(value))

    assert passes(text, value)
    assert passes(text, value, mode="subset")
    assert passes(json.dumps(shuffled), value, any_order=True)
    assert json.loads(canonical(value)) == value


BAD = [
    ("no target", item(), "needs one, or a `schema`"),
    ("no json", item("{"), "target '{' is not JSON"),
    ("mode", item({}, mode="fuzzy"), "mode = 'fuzzy' is none of exact, subset, keys"),
    ("keys", item({"a": 1}, mode="keys", keys=["b"]), "a list of names that the target has"),
    ("unknown keyword", item(schema={"format": "date"}), "keyword 'format' is not checked here"),
    ("deep inside", item(schema={"properties": {"a": {"typ": 1}}}), "keyword 'typ'"),
    ("wrong type", item(schema={"type": "text"}), "type = text is not usable"),
    ("no schema", item(schema=[1]), "is no JSON Schema object"),
    ("pattern", item(schema={"pattern": "("}), "no regular expression"),
]


@pytest.mark.parametrize(("bad", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_unusable_items_are_refused_before_anything_is_asked(bad: TaskItem, words: str) -> None:
    """A check at loading, not a surprise at scoring."""
    with pytest.raises(TaskError, match=words):
        scoring.get("json").check(bad)


SCHEMA = [
    ({"type": "object"}, "{}", "[]"),
    ({"type": ["integer", "null"]}, "[3]", "[3.5]"),
    ({"type": "integer"}, "[2.0]", "[true]"),
    ({"enum": ["a", 1]}, "[1.0]", "[true]"),
    ({"const": {"a": [1]}}, '[{"a": [1.0]}]', '[{"a": [2]}]'),
    ({"minimum": 1, "exclusiveMaximum": 2}, "[1]", "[2]"),
    ({"maximum": 2, "exclusiveMinimum": 1}, "[2]", "[1]"),
    ({"multipleOf": 0.1}, "[0.3]", "[0.35]"),
    ({"minLength": 2, "maxLength": 3}, '["ab"]', '["abcd"]'),
    ({"pattern": "^[A-Z]"}, '["Ab"]', '["ab"]'),
    ({"minItems": 1, "maxItems": 2}, "[[1]]", "[[]]"),
    ({"uniqueItems": True}, "[[1, 2]]", "[[1, 1.0]]"),
    (
        {"prefixItems": [{"type": "string"}], "items": {"type": "number"}},
        '[["a", 1]]',
        '[["a", "b"]]',
    ),
    ({"required": ["a"]}, '[{"a": null}]', '[{"b": 1}]'),
    (
        {"properties": {"a": {"type": "string"}}, "additionalProperties": False},
        '[{"a": "x"}]',
        '[{"b": 1}]',
    ),
    ({"minProperties": 1, "maxProperties": 1}, '[{"a": 1}]', "[{}]"),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, "[2]", "[4]"),
    ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, '["x"]', "[4]"),
    ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, "[4]", "[2]"),
    ({"not": {"type": "null"}}, "[1]", "[null]"),
    (True, "[1]", None),
    (False, None, "[1]"),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), SCHEMA, ids=[str(s[0])[:40] for s in SCHEMA])
def test_schema_keywords_mean_what_the_standard_says(
    schema, right: str | None, wrong: str | None
) -> None:
    """Each keyword lets one value pass and stops another; the schema is that of the list's one
    element."""
    whole = schema if schema == {"type": "object"} else {"items": schema}
    json_schema.check(item(), whole)

    assert right is None or passes(right, schema=whole)
    assert wrong is None or not passes(wrong, schema=whole)


def test_schema_and_target_must_both_hold() -> None:
    """One of them is not enough."""
    schema = {"required": ["why"]}
    assert passes('{"a": 1, "why": "x"}', {"a": 1}, schema=schema, mode="subset")
    assert not passes('{"a": 1}', {"a": 1}, schema=schema, mode="subset")
    assert not passes('{"a": 2, "why": "x"}', {"a": 1}, schema=schema, mode="subset")
