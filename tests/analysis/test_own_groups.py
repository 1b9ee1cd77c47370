"""Groups, axes, factors and outcomes by what was varied and measured; and what a group's name
pools."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import making
from widgets import Explorer
from workbench import analysis
from workbench.analysis.catalogue import snippets
from workbench.cli.app import main
from workbench.errors import AnalysisError, QueryError
from workbench.records import Configuration, Item, Score, Task, json_text
from workbench.report.answers import command
from workbench.store import Store, open_store
from workbench.tui.catalogue import Question

KEY = 'a "b", it\'s.ü'
DOCS = (0, 3, 10)
CONFIGURATIONS = tuple(
    Configuration(
        model="m",
        provider="p",
        strategy="rag",
        temperature=float(n == 2),
        strategy_params=json_text({"docs": docs, KEY: f"v{n}", "mode": "ab"[n % 2]}),
    )
    for n, docs in enumerate(DOCS)
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three configurations that differ in their documents; the more, the better the rubric and the
    loss."""
    found = open_store(tmp_path_factory.mktemp("groups") / "s.duckdb", create=True)
    rows = [making.run(), making.TASK, *making.ITEMS, *CONFIGURATIONS]
    for place, configuration in enumerate(CONFIGURATIONS):
        for item in making.ITEMS:
            scores = (
                Score(
                    scorer="rubric",
                    metric=2.0 * place + int(item.item) / 2,
                    scale_low=0,
                    scale_high=10,
                    direction="higher",
                    unit="points",
                ),
                Score(scorer="loss", metric=4.0 - place - int(item.item) / 10, direction="lower"),
                Score(
                    scorer="errors",
                    metric=float(2 - place),
                    scale_low=0,
                    scale_high=2,
                    direction="lower",
                ),
            )
            rows.append(making.trace(configuration, item, scores=scores))
    found.ingest(rows)
    return found


def _run(
    store: Store, name: str, *, by: object = "configuration", **options: object
) -> analysis.Result:
    from workbench.slice.names import own_fields

    with store.facts(fields=own_fields(by, options)) as facts:
        return analysis.run(name, facts, by=by, **options)


@pytest.mark.parametrize(
    ("by", "values"),
    [
        pytest.param("params.docs", [0, 3, 10], id="number"),
        pytest.param("params.mode", ["a", "b"], id="text"),
        pytest.param(f"params.{KEY}", ["v0", "v1", "v2"], id="any key"),
        pytest.param("temperature", [0.0, 1.0], id="a column"),
    ],
)
def test_groups_are_what_was_varied(store: Store, by: str, values: list[object]) -> None:
    """Every analysis takes such a group; the group has the value's type."""
    assert _run(store, "summary", by=[by]).frame[by].sort().to_list() == values
    assert (
        _run(store, "frontier", by=[by, "task"], x="output_tokens").frame[by].sort().to_list()
        == values
    )


def test_lazy_polars_frames_have_the_groups_too(store: Store) -> None:
    """Without a block around them."""
    result = analysis.run("summary", store.traces(), by="params.docs")
    assert result.frame["params.docs"].sort().to_list() == [0, 3, 10]


def test_numbers_that_were_set_are_axes(store: Store) -> None:
    """Of the frontier, of a trade-off and of a law; texts are not."""
    frame = _run(store, "frontier", x="params.docs").frame
    assert frame["params.docs"].to_list() == [0.0, 3.0, 10.0]
    assert _run(store, "frontier", x="temperature").frame["temperature"].to_list() == [0, 0, 1]
    assert _run(store, "scaling-law", x="params.docs").frame["x"].drop_nulls().to_list()
    assert _run(store, "tradeoff", x="params.docs", y="metrics.rubric").frame.height == 3
    with pytest.raises(
        AnalysisError, match=r"axis params\.mode: not all of its values are numbers"
    ):
        _run(store, "frontier", x="params.mode")


def test_what_was_varied_is_a_factor(store: Store) -> None:
    """Of explained variance."""
    frame = _run(store, "explained-variance", by="model", factors="params.docs,params.mode").frame
    assert {"params.docs", "params.mode"} <= set(frame["factor"])


def test_a_metric_is_an_axis_in_its_own_direction(store: Store) -> None:
    """Less loss is better without a flag, and the reader is told; a flag that was given holds."""
    result = _run(store, "frontier", y="metrics.loss", x="params.docs")
    loss = result.frame.sort("params.docs")
    assert loss["metrics.loss"].to_list() == pytest.approx([3.8, 2.8, 1.8])
    assert loss["on_frontier"].to_list() == [True, True, True]
    assert "lower values of metrics.loss are better" in result.notes
    turned = _run(store, "frontier", y="metrics.loss", x="params.docs", minimise_y=False).frame
    assert turned.sort("params.docs")["on_frontier"].to_list() == [True, False, False]
    rubric = _run(store, "frontier", y="metrics.rubric").frame
    assert dict(zip(rubric["configuration"], rubric["metrics.rubric"], strict=True)) == {
        c: pytest.approx(2.0 * n + 1) for n, c in enumerate(sorted(rubric["configuration"]))
    }


def test_the_command_of_a_report_turns_an_axis_as_its_table_did(store: Store) -> None:
    """A flag left out would be set by the metric's direction."""
    result = _run(store, "frontier", y="metrics.loss", x="params.docs", minimise_y=False)
    assert "--no-minimise-y" in command(result)
    assert "--minimise-y" in command(_run(store, "frontier", y="metrics.loss"))
    assert "minimise" not in command(_run(store, "frontier"))


def test_the_direction_of_a_frame_that_does_not_say_is_told(store: Store) -> None:
    """A bare frame has no scales: higher is taken for better, and the note says so."""
    result = analysis.run("frontier", store.traces().collect(), y="metrics.loss")
    assert any("not known which values of metrics.loss are better" in n for n in result.notes)


def test_summary_takes_a_metric_as_it_is(store: Store) -> None:
    """In its unit, the better first, with t intervals."""
    rubric = _run(store, "summary", outcome="metrics.rubric")
    assert rubric.frame["metrics.rubric"].to_list() == pytest.approx([5.0, 3.0, 1.0])
    assert next(c for c in rubric.columns if c.name == "metrics.rubric").unit == "points"
    row = rubric.frame.row(0, named=True)
    half = 2.776 * np.std(np.arange(5) / 2, ddof=1) / np.sqrt(5)
    assert row["metrics.rubric_high"] - 5.0 == pytest.approx(half, rel=0.01)
    loss = _run(store, "summary", outcome="metrics.loss").frame
    assert loss["metrics.loss"].to_list() == pytest.approx([1.8, 2.8, 3.8])


def test_elsewhere_a_metric_is_the_share_of_its_scale(store: Store) -> None:
    """From the worst end to the best, so that lower errors win; an open scale is refused with a way
    on."""
    names = sorted(store.sql("FROM configurations")["configuration"])
    result = _run(store, "compare", outcome="metrics.errors", a=names[2], b=names[0])
    row = result.frame.row(0, named=True)
    assert (row["rate_a"], row["rate_b"]) == (1.0, 0.0)
    assert any("metrics.errors as a share of its scale: 2 is 0, 0 is 1" in n for n in result.notes)
    rubric = _run(store, "ranking", outcome="metrics.rubric").frame
    assert rubric.height == 3
    with pytest.raises(AnalysisError, match=r"metrics\.loss: its scale has no two known ends"):
        _run(store, "compare", outcome="metrics.loss")


def test_wrong_names_are_errors_that_help(store: Store) -> None:
    """A name that the store lacks, a frame without the column, a metric as a group."""
    with pytest.raises(QueryError, match=r"try params\.docs"):
        _run(store, "summary", by="params.dosc")
    with store.facts() as facts, pytest.raises(AnalysisError, match=r"fields=\['params.docs'\]"):
        analysis.run("summary", facts, by="params.docs")
    with pytest.raises(AnalysisError, match="is measured, not a name"):
        _run(store, "summary", by="metrics.rubric")


def _cli(store: Store, *arguments: str) -> list[str]:
    return ["analyze", *arguments, "--store", str(store.path)]


def test_the_command_line_groups_by_any_key(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As JSON with its type, as a chart, and with a key in quotes."""
    assert main(_cli(store, "summary", "--by", "params.docs", "--format", "json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert sorted(row["params.docs"] for row in document["rows"]) == [0, 3, 10]
    quoted = 'params."a \\"b\\", it\'s.ü",model'
    assert main(_cli(store, "summary", "--by", quoted, "--format", "json")) == 0
    assert {r[f"params.{KEY}"] for r in json.loads(capsys.readouterr().out)["rows"]} == {
        "v0",
        "v1",
        "v2",
    }
    chart = tmp_path / "c.svg"
    for name, *options in (
        ("summary", "--by", quoted),
        ("frontier", "--by", "params.docs", "--x", "params.docs", "--y", "metrics.rubric"),
        ("frontier", "--by", quoted),
    ):
        assert main(_cli(store, name, *options, "-o", str(chart))) == 0
        assert "v1" in chart.read_text() or "params" in chart.read_text()
    assert (
        main(
            _cli(
                store,
                "summary",
                "--where",
                "params.docs>0",
                "--by",
                "params.docs",
                "--format",
                "csv",
            )
        )
        == 0
    )


def test_the_command_line_takes_a_scorers_direction(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag that was not typed is not given: less loss is better, as in Python; a typed one
    holds."""
    for name, axis in (("frontier", "--y"), ("frontier", "--outcome"), ("tradeoff", "--y")):
        typed = (name, "--x", "params.docs", axis, "metrics.loss")
        assert main(_cli(store, *typed, "--format", "json")) == 0
        printed = json.loads(capsys.readouterr().out)
        option = {axis.removeprefix("--"): "metrics.loss"}
        result = _run(store, name, x="params.docs", **option)
        assert "lower values of metrics.loss are better" in printed["notes"]
        assert printed["notes"] == list(result.notes)
        assert main(_cli(store, *typed, "--no-minimise-y", "--format", "json")) == 0
        other = json.loads(capsys.readouterr().out)
        assert "lower values of metrics.loss are better" not in other["notes"]
        assert main(_cli(store, *typed, "--no-minimise-y", "--as", "cell")) == 0
        assert "minimise_y=False" in capsys.readouterr().out


def test_a_form_at_its_defaults_takes_a_scorers_direction(store: Store) -> None:
    """What the catalogue's form shows as a default was not chosen."""
    fields = {o.name: o.default for o in analysis.get("frontier").options}
    fields |= {"x": "params.docs", "y": "metrics.loss"}
    shown = {n: str(v).lower() if isinstance(v, bool) else str(v or "") for n, v in fields.items()}
    question = Question("", "frontier", (("by", "configuration"), *shown.items()))
    assert question.options == {"x": "params.docs", "y": "metrics.loss"}
    assert analysis.run("frontier", store, **question.options).frame["on_frontier"].all()


# -- what a name pools
# ---------------------------------------------------------------------------------


def test_pooled_configurations_are_told(store: Store) -> None:
    """Whatever the groups are, as long as they hold several; and not where they hold one."""
    result = _run(store, "summary", by="model")
    (note,) = [n for n in result.notes if "pooled" in n]
    assert note.startswith("configurations are pooled: 3 in model=m: m rag temperature=0 params.")
    assert not any("pooled" in n for n in _run(store, "summary").notes)
    assert not any("pooled" in n for n in _run(store, "summary", by="configuration_id").notes)
    assert not any("pooled" in n for n in _run(store, "summary", by="params.docs").notes)


def test_frames_that_pool_by_name_are_told(store: Store) -> None:
    """A frame that was put together by hand may have two ids under one name."""
    frame = store.traces().collect().with_columns(configuration=pl.lit("same"))
    notes = analysis.run("summary", frame).notes
    assert "configurations are pooled: 3 in configuration=same" in notes


def test_versions_of_a_task_and_providers_of_a_model_are_told(tmp_path: Path) -> None:
    """Things of one name, and what tells them apart."""
    tasks = [Task(task="sums", version=v) for v in ("1", "2")]
    items = [Item(task_id=t.task_id, item="0", input="1+1?") for t in tasks]
    pair = [Configuration(model="m", provider=p, strategy="direct") for p in ("x", "y")]
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.ingest(
        [
            making.run("r1", origin="a.csv"),
            making.run("r2", origin="a.csv"),
            *tasks,
            *items,
            *pair,
            *[
                making.trace(c, i, run_id=r, task_id=i.task_id)
                for c, i, r in zip(pair, items, ("r1", "r2"), strict=True)
            ],
        ]
    )

    def pooled(by: str) -> list[str]:
        return [n for n in _run(store, "summary", by=by.split(",")).notes if "pooled" in n]

    assert any(
        "versions are pooled: 2 in task=sums; group by task_id too" in n for n in pooled("task")
    )
    assert any(
        "providers are pooled: 2 in model=m; group by provider too" in n for n in pooled("model")
    )
    assert any("runs are pooled: 2 in origin=a.csv" in n for n in pooled("origin"))
    assert any("items are pooled: 2 in item=0" in n for n in pooled("task,item"))
    assert not pooled("configuration,task_id")
    assert _run(store, "summary", by=["task_version"]).frame["task_version"].to_list() == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "by", "options"),
    [
        pytest.param("summary", ("params.docs",), {}, id="a number"),
        pytest.param("summary", ('params."a \\"b\\", it\'s.ü"', "task"), {}, id="any key"),
        pytest.param("summary", ("params.docs",), {"outcome": "metrics.loss"}, id="own scale"),
        pytest.param(
            "frontier", ("params.docs",), {"x": "metrics.rubric", "y": "score"}, id="axis"
        ),
    ],
)
def test_copied_code_gives_the_same_groups(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    name: str,
    by: tuple[str, ...],
    options: dict[str, str],
) -> None:
    """SQL, Polars and the cell run, and agree with each other."""
    arguments = [name, "--by", ",".join(by), "--where", "-params.docs:none"]
    for option, value in options.items():
        arguments += [f"--{option}", value]
    code = {}
    for kind in ("sql", "polars", "cell"):
        assert main(_cli(store, *arguments, "--as", kind)) == 0
        code[kind] = capsys.readouterr().out
    sql = store.sql(code["sql"])
    space = {"traces": store.traces()}
    exec(code["polars"], space)
    exec(code["cell"].replace("wb.charts.chart(result)", ""), space)
    means, result = space["means"], space["result"]

    assert sql.height >= 2
    groups, figures = sql.columns[: len(by)], ["outcome", "n", "n_items"]
    sql, means = sql.sort(groups), means.sort(groups)
    assert sql.select(groups).equals(means.select(groups))
    assert np.allclose(sql.select(figures).to_numpy(), means.select(figures).to_numpy())
    column = {"summary": options.get("outcome", "pass_rate"), "frontier": options.get("x")}.get(
        name
    )
    if column is not None:
        expected = sql["outcome" if name == "summary" else column].sort()
        assert np.allclose(result.frame[column].sort(), expected)


def test_a_share_of_a_scale_is_written_as_code(store: Store) -> None:
    """Less is better: 2 is 0, and 0 is 1."""
    fields = store.fields()
    asked = ("compare", "", ("params.docs",), {"outcome": "metrics.errors"}, fields)
    space = {"traces": store.traces()}
    exec(snippets.as_polars(*asked), space)
    for frame in (store.sql(snippets.as_sql(*asked)), space["means"]):
        assert frame.sort("params.docs")["outcome"].to_list() == [0.0, 0.5, 1.0]


def test_the_explorer_has_facets_and_axes_of_the_stores_own(store: Store) -> None:
    """Values are chosen as in any facet; the slice, its code and the frontier follow."""
    explorer = Explorer(store, facets=("params.docs", f"params.{KEY}", "temperature"))
    explorer.further = {"params.docs": ("3", "10")}
    explorer.axis = "metrics.loss"
    assert explorer.error == ""
    assert explorer.selection["params.docs"].unique().sort().to_list() == [3, 10]
    assert str(explorer.slice) == "params.docs=3,10"
    assert "metrics.loss" in explorer.frontier.frame.columns
    explorer.facets[f"params.{KEY}"].chosen = ("v1",)
    assert explorer.selection["params.docs"].unique().to_list() == [3]
    assert store.sql(explorer.sql).height == 5
    explorer.facets[f"params.{KEY}"].chosen = ()
    assert explorer.further == {"params.docs": ("3", "10")}


# -- names that are gone
# -----------------------------------------------------------------------------


def test_a_name_that_was_completed_is_not_missed_in_silence(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saved slice that names twins by the name they shared is told what they are called now."""
    (sentence,) = store.unmatched('configuration="m rag"')
    assert sentence.startswith(
        "no configuration is called 'm rag'; several were, and are now: m rag "
    )
    assert store.unmatched("model:x task:sum*") == ["no model matches 'x'; the nearest: m"]
    assert store.unmatched("task:sum,sums") == ["no task matches 'sum'; the nearest: sums"]
    assert store.unmatched('-model:x configuration:"m rag"* wrong') == []
    assert main(_cli(store, "summary", "--where", 'configuration:"m rag"')) == 0
    assert "several were, and are now" in capsys.readouterr().err


def test_the_schema_command_lists_what_a_store_has_of_its_own(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """With types, scales and directions, ready to be typed."""
    assert main(["schema", "--filters", "--store", str(store.path), "--format", "json"]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["params.docs"]["kind"] == "int"
    assert rows["metrics.rubric"]["about"].endswith("From 0 to 10. Higher is better.")
    assert 'params."a \\"b\\", it\'s.ü"' in rows
