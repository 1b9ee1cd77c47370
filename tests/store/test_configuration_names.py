"""A configuration is known by what it is: twins by name say in the store what they differ in."""

import itertools
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT, making
from workbench import parameters
from workbench.records import Configuration, as_dict, json_text
from workbench.runner import strategies
from workbench.runner.planning.plan import Plan, Work
from workbench.safe import both_ends, distinct_ends
from workbench.store import Store, demo_store, open_store

LAYOUT_2 = ROOT / "tests" / "layouts" / "layout_2.sql"


def _configuration(**given: object) -> Configuration:
    values = {"model": "m", "strategy": "direct"} | given
    for column in ("settings", "strategy_params"):
        if isinstance(values.get(column), dict):
            values[column] = json_text(values[column])
    return Configuration(**values)


def _store(folder: Path, *configurations: Configuration) -> Store:
    store = open_store(folder / "s.duckdb", create=True)
    store.ingest([making.run(), making.TASK, *making.ITEMS, *configurations])
    return store


def _names(store: Store) -> dict[str, str]:
    return dict(store.sql("SELECT configuration_id, configuration FROM configurations").iter_rows())


def _named(*configurations: Configuration) -> dict[str, str]:
    return parameters.unique_names(parameters.naming_input(as_dict(c)) for c in configurations)


@pytest.mark.parametrize(
    ("one", "other", "first", "second"),
    [
        pytest.param(
            {"temperature": 0},
            {"temperature": 1.0},
            "m direct temperature=0",
            "m direct temperature=1",
            id="temperature",
        ),
        pytest.param(
            {},
            {"temperature": 0.7},
            "m direct",
            "m direct temperature=0.7",
            id="not set is not said",
        ),
        pytest.param(
            {"top_p": 0.5}, {"top_p": 1}, "m direct top_p=0.5", "m direct top_p=1", id="top_p"
        ),
        pytest.param(
            {"max_tokens": 96},
            {"max_tokens": 128},
            "m direct max_tokens=96",
            "m direct max_tokens=128",
            id="max_tokens",
        ),
        pytest.param(
            {"precision": "bf16"},
            {"precision": "q4"},
            "m direct precision=bf16",
            "m direct precision=q4",
            id="precision",
        ),
        pytest.param(
            {"machine": "a"},
            {"machine": "b"},
            "m direct machine=a",
            "m direct machine=b",
            id="machine",
        ),
        pytest.param(
            {"provider": "x"},
            {"provider": "y"},
            "m direct provider=x",
            "m direct provider=y",
            id="provider",
        ),
        pytest.param(
            {"thinking_budget_tokens": 0},
            {},
            "m direct thinking_budget_tokens=0",
            "m direct",
            id="a budget of 0",
        ),
        pytest.param(
            {"settings": {"batch_size": 8, "seed": 1}},
            {"settings": {"batch_size": 16, "seed": 1}},
            "m direct settings.batch_size=8",
            "m direct settings.batch_size=16",
            id="settings",
        ),
        pytest.param(
            {"settings": {"limits": {"tokens": 5}}},
            {"settings": {"limits": {"tokens": 6}}},
            "m direct settings.limits.tokens=5",
            "m direct settings.limits.tokens=6",
            id="settings inside of settings",
        ),
        pytest.param(
            {"strategy_params": {"docs": 3}},
            {"strategy_params": {"docs": 5}},
            "m direct params.docs=3",
            "m direct params.docs=5",
            id="parameters",
        ),
        pytest.param(
            {"strategy_params": {"k": 3}},
            {"strategy_params": {"k": "3"}},
            "m direct params.k=3",
            'm direct params.k="3"',
            id="a text that looks like a number",
        ),
        pytest.param(
            {"temperature": 0, "top_p": 1},
            {"temperature": 1, "top_p": 1},
            "m direct temperature=0",
            "m direct temperature=1",
            id="what is equal is not said",
        ),
        pytest.param(
            {"model": "a", "configuration": "mine"},
            {"model": "b", "configuration": "mine"},
            "mine model=a",
            "mine model=b",
            id="a name that was given",
        ),
    ],
)
def test_twins_by_name_say_what_they_differ_in(
    one: dict[str, object], other: dict[str, object], first: str, second: str
) -> None:
    """Each column and each key of the JSON columns counts."""
    a, b = _configuration(**one), _configuration(**other)
    assert _named(a, b) == {a.configuration_id: first, b.configuration_id: second}


def test_unique_names_stay() -> None:
    """Nothing is added to a name that nobody shares."""
    a = _configuration(temperature=0)
    b = _configuration(model="other", temperature=1)
    assert list(_named(a, b).values()) == ["m direct", "other direct"]


def test_a_made_name_never_meets_a_given_one() -> None:
    """Where a completed name is another's own, they are told apart by what they differ in."""
    three = [
        _configuration(temperature=0),
        _configuration(temperature=1),
        _configuration(model="n", configuration="m direct temperature=1"),
    ]
    found = _named(*three)
    assert len(set(found.values())) == 3
    assert "model=n" in found[three[2].configuration_id]


def test_what_no_value_tells_apart_gets_digits_of_the_id() -> None:
    """The same settings spelled in two ways are two ids, and two names."""
    a, b = _configuration(settings='{"a":1}'), _configuration(settings='{"a": 1}')
    found = _named(a, b)
    assert found[a.configuration_id] == f"m direct #{a.configuration_id[:6]}"
    assert len(set(found.values())) == 2


def test_long_and_hostile_values_make_short_names_of_one_line() -> None:
    """A prompt among the settings is cut, and a hash keeps it apart from one that begins alike."""
    long = "You are\na helpful assistant. " * 50
    a, b = _configuration(settings={"p": long + "x"}), _configuration(settings={"p": long + "y"})
    first, second = _named(a, b).values()
    assert first != second
    assert all(len(n) < 60 and "\n" not in n for n in (first, second))


_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "m direct"]),
        "strategy": st.sampled_from(["direct", None]),
        "provider": st.sampled_from(["x", "y"]),
        "temperature": st.sampled_from([0, 0.0, 1.0]),
        "thinking_budget_tokens": st.sampled_from([0, 1]),
        "settings": st.sampled_from(
            [
                {"a": 1},
                {"a": "1"},
                {"a": 1, "b": None},
                {"a.b": 1},
                {"a": {"b": 1}},
                '{"a": 1}',
                "no json",
            ]
        ),
        "strategy_params": st.sampled_from([{"k": True}, {"k": "true"}, {"k": [1]}, {}]),
        "configuration": st.sampled_from(
            ["m direct", "mine", "m direct temperature=1", "m direct provider=x"]
        ),
    },
)


@given(st.lists(_VALUES, min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_names_are_unique_and_do_not_depend_on_the_order(given: list[dict], random: object) -> None:
    """They are a function of the set of configurations."""
    by_id = {c.configuration_id: c for c in (_configuration(**g) for g in given)}
    several = list(by_id.values())
    found = _named(*several)
    assert len(set(found.values())) == len(by_id)
    random.shuffle(several)
    assert _named(*several) == found


def test_a_second_launch_renames_the_first_too(tmp_path: Path) -> None:
    """The twin comes in a later ingest; both then say their value, and importing again changes
    nothing."""
    cold, hot = _configuration(temperature=0.0), _configuration(temperature=1.0)
    store = _store(tmp_path, cold)
    assert list(_names(store).values()) == ["m direct"]

    for _ in range(2):
        store.ingest([hot])
        assert set(_names(store).values()) == {"m direct temperature=0", "m direct temperature=1"}
    assert set(store.sql("FROM configurations")["base_name"]) == {"m direct"}


def test_any_order_of_ingests_and_merges_gives_the_same_names(tmp_path: Path) -> None:
    """Names given by a source or by another launch of the same configuration included."""
    several = [
        _configuration(temperature=0.0),
        _configuration(temperature=1.0),
        _configuration(temperature=1.0, configuration="hot"),
        _configuration(temperature=1.0, configuration="hotter"),
        _configuration(provider="x", configuration="hot"),
    ]
    seen = set()
    orders = list(itertools.permutations(several))
    for place, order in enumerate(orders[::29]):  # of 120: each begins with another one
        one, other = tmp_path / f"{place}a", tmp_path / f"{place}b"
        first = _store(one, *order[:2])
        for configuration in order[2:3]:
            first.ingest([configuration])
        second = _store(other, *order[3:])
        first.merge(second.path)
        second.export(other / "out")
        first.merge(other / "out")
        seen.add(tuple(sorted(_names(first).items())))
    assert (place, len(seen)) == (4, 1)
    expected = {"m direct", "hot temperature=1", "hot provider=x"}
    assert {name for _, name in next(iter(seen))} == expected


def test_old_stores_and_folders_are_put_right(tmp_path: Path) -> None:
    """A store of layout 2 that pools twins under one name tells them apart once it is opened."""
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(LAYOUT_2.read_text())
        for id, temperature in (("a" * 24, 0.0), ("b" * 24, 1.0)):
            connection.execute(
                "INSERT INTO configurations (configuration_id, configuration, model,"
                " temperature, strategy_params)"
                " VALUES (?, 'm direct', 'm', ?, ?)",
                [id, temperature, json_text({"docs": 3})],
            )

    store = open_store(path)

    expected = {"a" * 24: "m direct temperature=0", "b" * 24: "m direct temperature=1"}
    assert _names(store) == expected
    assert set(store.sql("FROM configurations")["base_name"]) == {"m direct"}
    assert (
        store.sql("SELECT name, value, number FROM parameters").rows()
        == [("params.docs", "3", 3.0)] * 2
    )
    new = open_store(tmp_path / "new.duckdb", create=True)
    for name in ("configurations", "parameters", "scores", "traces"):
        assert store.sql(f"FROM {name} LIMIT 0").schema == new.sql(f"FROM {name} LIMIT 0").schema


def test_parameters_are_listed_with_their_types(tmp_path: Path) -> None:
    """Numbers, booleans, texts, lists, and what an Inspect log says of its solvers."""
    params = {"docs": 3, "top": 0.5, "cot": True, "mode": "fast", "stops": ["a", "b"], "none": None}
    solvers = json_text([{"solver": "generate", "params": {"cache": False}}])
    store = _store(
        tmp_path,
        _configuration(strategy_params=params, settings={"we\"ird '; key": "1", "a": {"b": 2**70}}),
        _configuration(strategy_params=solvers),
    )
    rows = store.sql("SELECT name, type, value, number FROM parameters ORDER BY name").rows()
    assert rows == [
        ("params.cot", "bool", "true", None),
        ("params.docs", "int", "3", 3.0),
        ("params.generate.cache", "bool", "false", None),
        ("params.mode", "text", "fast", None),
        ("params.stops", "text", '["a","b"]', None),
        ("params.top", "float", "0.5", 0.5),
        ("settings.a.b", "text", str(2**70), float(2**70)),
        ("settings.we\"ird '; key", "text", "1", 1.0),
    ]


def test_the_sample_traces_keep_their_names(tmp_path: Path) -> None:
    """They are unique as they are."""
    frame = demo_store(tmp_path / "demo.duckdb").sql("FROM configurations")
    assert frame.height == 23
    assert frame["configuration"].equals(frame["base_name"].rename("configuration"))


def test_the_configurations_of_a_plan_are_told_apart_while_it_runs() -> None:
    """Progress and steering speak of one of them, not of a name that two share."""
    models = [{"model": "m", "temperature": 0}, {"model": "m", "temperature": 1}]
    plan = Plan.from_mapping({"models": models, "tasks": ["t"], "strategies": ["direct"]})

    work = Work(plan, [], [strategies.get("direct")])

    found = [(c.configuration, c.base_name) for c, _, _ in work.configurations]
    assert found == [
        ("m direct temperature=0", "m direct"),
        ("m direct temperature=1", "m direct"),
    ]


def test_names_of_twins_look_different_in_little_room() -> None:
    """They begin with the word in which they differ, where cutting the middle makes them alike."""
    names = [f"SmolLM2-135M temperature={t} params.docs=3" for t in (0, 1)]
    assert len({both_ends(n, 28) for n in names}) == 1
    cut = distinct_ends([*names, "other"], 28)
    assert [cut[n] for n in names] == [
        "…temperature=0 params.docs=3",
        "…temperature=1 params.docs=3",
    ]
    assert cut["other"] == "other"
    assert all(len(c) <= 28 for c in cut.values())
