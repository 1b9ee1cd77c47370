"""The registry: what it finds, what it checks, what a result looks like from outside."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import SCHEMA, two_models
from workbench import analysis
from workbench.analysis import families
from workbench.analysis.catalogue import registry
from workbench.analysis.core.declaration import Option
from workbench.analysis.core.result import plain
from workbench.errors import AnalysisError


def test_the_five_analyses_are_found_by_their_files():
    """A name is a file name with hyphens; the declaration agrees."""
    assert set(analysis.names()) >= {
        "summary",
        "frontier",
        "compare",
        "cost-of-pass",
        "price-reversal",
    }
    for name, declared in analysis.catalogue().items():
        assert declared.name == name
        assert declared.question.endswith("?")
        assert declared.source
        assert len(declared.doc) > 200


def test_a_new_file_in_a_family_is_all_it_takes(tmp_path, monkeypatch):
    """A folder with a module that declares an analysis appears under its name, runs and draws
    JSON."""
    family = tmp_path / "novelty"
    family.mkdir()
    (family / "__init__.py").write_text('"""A family."""\n')
    (family / "trace_count.py").write_text(
        "import polars as pl\n"
        "from workbench.analysis.core.declaration import ChartSpec, analysis\n"
        "from workbench.analysis.core.result import Answer\n"
        "@analysis(name='trace-count', title='Count', question='How many?', source='none',\n"
        "          chart=ChartSpec('summary'), columns=())\n"
        "def trace_count(frame, *, by, rng):\n"
        "    return Answer(frame.group_by(*by).agg().collect('polars').to_native())\n"
    )
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    registry._module_paths.cache_clear()
    try:
        assert "trace-count" in analysis.names()
        assert analysis.trace_count(two_models()).frame.height == 2
        assert analysis.get("trace-count").family == "novelty"
    finally:
        registry._module_paths.cache_clear()


def test_a_file_must_declare_the_analysis_of_its_name(tmp_path, monkeypatch):
    """A file whose declaration has another name is refused when it is asked for."""
    family = tmp_path / "misnamed"
    family.mkdir()
    (family / "__init__.py").touch()
    (family / "other_name.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    registry._module_paths.cache_clear()
    try:
        with pytest.raises(AnalysisError, match="must declare the analysis 'other-name'"):
            analysis.get("other-name")
    finally:
        registry._module_paths.cache_clear()


def test_unknown_names_of_the_module_and_of_a_result():
    """The module and a result say no to what they do not have; dir lists the analyses."""
    with pytest.raises(AttributeError, match="sumary"):
        _ = analysis.sumary
    with pytest.raises(KeyError):
        _ = analysis.summary(two_models())["nothing"]
    assert {"cost_of_pass", "price_reversal", "snippets", "run"} <= set(dir(analysis))


def test_names_are_listed_without_heavy_imports():
    """Listing and even loading declarations imports neither SciPy nor Altair nor DuckDB."""
    code = (
        "import sys; from workbench import analysis; analysis.names();"
        "assert 'polars' not in sys.modules; analysis.catalogue();"
        "bad = {'scipy', 'altair', 'duckdb', 'textual', 'httpx'} & set(sys.modules);"
        "assert not bad, bad"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        (Option("n", "int", 3, "", low=1), "7", 7),
        (Option("n", "int", 3, ""), None, 3),
        (Option("n", "int", 3, ""), 4.0, 4),
        (Option("x", "float", 0.5, ""), "0.25", 0.25),
        (Option("f", "flag", default=False, help=""), "yes", True),
        (Option("f", "flag", default=True, help=""), "off", False),
        (Option("c", "choice", "a", "", choices=("a", "b")), "b", "b"),
        (Option("t", "text", None, ""), "", None),
    ],
)
def test_options_take_text_and_values(option, given, expected):
    """What the CLI types and what Python passes give the same."""
    assert option.parse(given) == expected


@pytest.mark.parametrize(
    ("option", "given", "says"),
    [
        (Option("n", "int", 3, ""), "7.5", "not a int"),
        (Option("n", "int", 3, "", low=1), 0, "below 1"),
        (Option("x", "float", 0.5, "", high=1), 2, "above 1"),
        (Option("x", "float", 0.5, ""), "nan", "not a float"),
        (Option("x", "float", 0.5, ""), math.inf, "not a float"),
        (Option("f", "flag", default=False, help=""), "perhaps", "not a flag"),
        (Option("c", "choice", "apple", "", choices=("apple", "pear")), "appel", "try apple"),
    ],
)
def test_a_bad_value_is_refused_in_words(option, given, says):
    """The message names the option and what is wrong."""
    with pytest.raises(AnalysisError, match=says):
        option.parse(given)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("sumary", {}, "summary"),
        ("summary", {"levle": 0.9}, "level"),
        ("summary", {"by": "modle"}, "model"),
        ("summary", {"by": ()}, "at least one"),
        ("summary", {"by": ("model", "model")}, "twice"),
        ("summary", {"by": "cost_usd"}, "measured"),
        ("summary", {"level": 2}, "above"),
        ("frontier", {"x": "cost_eur"}, "cost_usd"),
        ("frontier", {"x": "configuration"}, "unknown axis"),
        ("frontier", {"x": "cost_usd", "y": "cost_usd"}, "choose two"),
        ("price-reversal", {"by": "task"}, "another column"),
        ("compare", {"a": "c"}, "unknown group"),
        ("compare", {"a": "a", "b": "a"}, "same group"),
    ],
)
def test_misuse_is_told_with_the_nearest_names(name, arguments, says):
    """Every misuse is an AnalysisError that offers what would work."""
    with pytest.raises(AnalysisError, match=says):
        analysis.run(name, two_models(), **arguments)


def test_a_missing_column_is_named():
    """A frame that is not of trace_facts says which column it lacks."""
    with pytest.raises(AnalysisError, match="cost_usd"):
        analysis.cost_of_pass(two_models().drop("cost_usd"))


@pytest.mark.parametrize("by", ["configuration", ("model", "task")])
@pytest.mark.parametrize("name", analysis.names())
def test_every_result_column_is_declared(name, by):
    """Each column of each table has a meaning, a unit where it has one, and a title."""
    result = analysis.run(name, two_models(), by=by)

    tables = [result.frame, *result.more.values()]
    declared = {c.name: c for c in (*analysis.get(name).columns, *result.columns)}
    assert all(declared[c].doc or c in SCHEMA for t in tables for c in t.columns)
    assert {c.name for c in result.columns} == {c for t in tables for c in t.columns}
    for column in (c for t in tables for c in t.columns):
        for suffix, unit in (("_usd", "USD"), ("_s", "s"), ("_j", "J")):
            if column.removesuffix("_low").removesuffix("_high").endswith(suffix):
                assert declared[column].unit == unit, column


@pytest.mark.parametrize("name", analysis.names())
def test_the_json_is_strict_and_complete(name):
    """The object follows the contract and survives a strict encoder."""
    frame = two_models().with_columns(passed=pl.col("passed") & (pl.col("model") == "b"))

    document = analysis.run(name, frame).as_json(where="task:t")

    text = json.dumps(document, allow_nan=False)
    assert {"name", "rows", "columns", "dropped", "provenance"} <= set(document)
    assert document["provenance"]["where"] == "task:t"
    assert document["provenance"]["by"] == ["configuration"]
    assert all(set(row) <= set(document["columns"]) for row in document["rows"])
    if name == "cost-of-pass":
        assert '"inf"' in text


def test_plain_values_spell_infinity_and_unknown():
    """NaN is null, infinity a word."""
    assert plain([math.inf, -math.inf, math.nan, 1.5, None]) == ["inf", "-inf", None, 1.5, None]


@pytest.mark.parametrize("name", analysis.names())
def test_an_empty_frame_gives_no_rows(name):
    """No traces: no rows, no error, the same columns."""
    result = analysis.run(name, two_models().head(0))

    assert result.frame.height == 0
    assert result.dropped == {}


@pytest.mark.parametrize("name", analysis.names())
def test_the_seed_decides_and_nothing_else(name):
    """Equal generators give equal answers."""
    frame = two_models()

    first = analysis.run(name, frame, rng=np.random.default_rng(3))
    again = analysis.run(name, frame, rng=np.random.default_rng(3))

    assert first.frame.equals(again.frame)


@pytest.mark.parametrize("name", analysis.names())
def test_row_order_and_engine_do_not_matter(name):
    """A shuffled frame, a lazy one and a DuckDB relation give the same answer."""
    import duckdb

    frame = two_models()
    expected = analysis.run(name, frame)
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())

    others = [
        analysis.run(name, frame.sample(fraction=1, shuffle=True, seed=1)),
        analysis.run(name, frame.lazy()),
        analysis.run(name, connection.table("facts")),
    ]

    for other in others:
        pl.testing.assert_frame_equal(other.frame, expected.frame, rel_tol=1e-9)
        assert other.dropped == expected.dropped


def test_a_printed_result_is_its_tables_and_what_is_said_beside_them():
    """Not the declarations of its columns, which took twenty thousand characters."""
    result = analysis.run("summary", two_models(), by="model")
    noted = {"dropped": {"traces without a cost": 3}, "notes": ("tied",)}
    text = repr(dataclasses.replace(result, **noted))
    assert text.startswith("summary by model\nshape: (2, ")
    assert text.endswith("\nleft out: 3 traces without a cost\nnote: tied")
    assert "Column(" not in text
    assert len(text) < 4000
