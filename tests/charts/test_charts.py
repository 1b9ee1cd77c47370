"""Charts: valid, rendered offline, safe against hostile names, and there for every analysis."""

import functools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from workbench import analysis, charts
from workbench.charts import saving
from workbench.charts.labels import Place, _box, _overlap, place
from workbench.errors import AnalysisError

HOSTILE = "</script><script>alert(1)</script> \x1b[31m<b>&amp; \u202e \x00 " + "long " * 40


def traces(*groups: str, tasks: int = 1, n_items: int = 12) -> pl.DataFrame:
    """Groups on the same items, the later the better and the dearer; the first never passes."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "configuration": g,
            "model": g,
            "task": f"task {t}",
            "task_id": f"task {t}",
            "item": str(i),
            "item_id": f"{t}-{i}",
            "trial": 0,
            "error_type": None,
            "cluster": None,
            "passed": bool(rng.random() < k / len(groups)),
            "cost_usd": 0.001 * 4**k * rng.uniform(0.5, 1.5),
            "reasoning_cost_usd": 0.0005,
            "input_usd_per_mtok": 9.0 - k,
            "output_usd_per_mtok": 1.0,
            "e2e_s": rng.uniform(1, 9),
            "output_tokens": int(rng.integers(10, 999)),
            "input_tokens": 500 + 10 * i,
            "tool": "search",
            "answer": "1 to 9",
            "target": "5",
            "difficulty": float(i % 4),
            "trace_id": f"{g}{t}{i}",
        }
        for k, g in enumerate(groups)
        for t in range(tasks)
        for i in range(n_items)
    ]
    return pl.DataFrame(rows, schema_overrides={"error_type": pl.String, "cluster": pl.String})


def text_of(svg: str) -> str:
    """All text of a picture."""
    return " ".join(ET.fromstring(svg).itertext())


def svg_of(chart, folder: Path) -> str:
    """Render to SVG."""
    return charts.save(chart, folder / "chart.svg").read_text()


@functools.cache
def drawn(name: str, tasks: int) -> tuple[analysis.Result, dict, str]:
    """An analysis of hostile names and a plain one, its valid specification, and the picture's
    text."""
    frame = traces(HOSTILE, HOSTILE + "2", 'x"y\\', "plain", tasks=tasks)
    result = analysis.run(name, frame, by=("configuration", "task")[:tasks])
    spec = charts.chart(result).to_dict(validate=True)
    return result, spec, text_of(saving._render(spec, ".svg").decode())


each = pytest.mark.parametrize("name", analysis.names())
either = pytest.mark.parametrize("tasks", [1, 2])


@either
@each
def test_every_analysis_has_a_chart_that_renders(name, tasks):
    """The specification is valid Vega-Lite and the picture holds title and group names."""
    result, _, text = drawn(name, tasks)

    assert analysis.get(name).title in text
    if "configuration" in result.frame.columns:  # explained-variance has rows of factors
        assert "plain" in text or 'x"y\\' in text
    if tasks > 1 and "task" in result.frame.columns:  # aggregate is over tasks
        # price-reversal draws the task of the widest one
        assert "task 1" in text or (name == "price-reversal" and "task 0" in text)


@each
def test_no_rows_are_said(name):
    """An empty result is a chart that says so, not an error."""
    result = analysis.run(name, traces("a", "b").head(0))

    assert "no rows" in json.dumps(charts.chart(result).to_dict())


@either
@each
def test_hostile_names_break_nothing(name, tasks):
    """Markup, control characters and length neither end a script nor break the XML."""
    _, _, text = drawn(name, tasks)

    assert "\x1b" not in text
    assert max(len(word) for word in text.split()) < 200


def test_a_name_cannot_end_the_script_of_a_page(tmp_path):
    """Markup in a name reaches the page as text of the data, never as markup."""
    chart = charts.chart(analysis.summary(traces(HOSTILE, "b")))

    page = charts.save(chart, tmp_path / "chart.html").read_text()

    assert "</script><script>" not in page
    assert r"\u003c/script>\u003cscript>" in page  # it is still there, as text


def test_linear_axes_show_the_hull_and_the_expert(tmp_path):
    """On a linear axis the hull is a dashed line; the expert is a line with a name."""
    frame = traces("a", "b", "c", n_items=30).with_columns(
        passed=pl.col("passed") | (pl.col("item") == "1")
    )

    frontier = json.dumps(charts.chart(analysis.frontier(frame), log_x=False).to_dict())
    result = analysis.cost_of_pass(frame, human_cost_usd=0.05)
    costs = charts.chart(result, log_x=False)

    assert "strokeDash" in frontier
    assert '"log"' not in frontier
    assert "expert" in text_of(svg_of(costs, tmp_path))
    assert '"log"' not in json.dumps(costs.to_dict())
    one = charts.chart(result, x="cost_usd", log_x=False)
    assert "Cost per attempt (USD)" in text_of(svg_of(one, tmp_path))
    ratio = charts.chart(analysis.compare(frame), x="cost_ratio")
    assert "Cost A / B" in text_of(svg_of(ratio, tmp_path))


@either
@each
def test_numbers_of_the_specification_are_those_of_the_result(name, tasks):
    """Nothing is aggregated on the way: no aggregate, bin or timeUnit in any encoding."""
    _, spec, _ = drawn(name, tasks)

    text = json.dumps(spec, allow_nan=False)

    assert not re.search(r'"(aggregate|bin|timeUnit|impute|calculate)"', text)


def test_titles_and_units_come_from_the_schema():
    """An axis says what and in which unit; shares are in per cent."""
    spec = json.dumps(charts.chart(analysis.frontier(traces("a", "b", "c"))).to_dict())

    assert "Cost (USD)" in spec
    assert "Pass rate" in spec


def test_axes_can_be_chosen():
    """Another column, a logarithmic axis, another width; a wrong name is refused."""
    result = analysis.summary(traces("a", "b", "c"))

    spec = json.dumps(charts.chart(result, x="cost_usd", log_x=True, width=300).to_dict())

    assert '"type": "log"' in spec
    assert '"width": 300' in spec
    assert "Cost per trace (USD)" in spec
    with pytest.raises(AnalysisError, match="cost_usd"):
        charts.chart(result, x="cost_eur")
    with pytest.raises(AnalysisError, match="log_x"):
        charts.chart(result, logx=True)


def test_infinite_costs_are_drawn_at_the_edge(tmp_path):
    """A group that never passed is shown as infinite, and no infinity is in the data."""
    result = analysis.cost_of_pass(traces("never", "often", "mostly"))

    chart = charts.chart(result)

    assert "∞" in text_of(svg_of(chart, tmp_path))
    json.dumps(chart.to_dict(), allow_nan=False)


@pytest.mark.parametrize("suffix", charts.SUFFIXES)
def test_saving_in_every_kind(suffix, tmp_path):
    """Each suffix gives a file of its kind; a page needs no network."""
    chart = charts.chart(analysis.summary(traces("a", "b")))

    content = charts.save(chart, tmp_path / f"chart{suffix}").read_bytes()

    starts = {".svg": b"<svg", ".png": b"\x89PNG", ".html": b"<!DOCTYPE html", ".json": b"{"}
    assert content.startswith(starts[suffix])
    if suffix == ".html":
        assert not re.search(rb'<(script|link)[^>]+(src|href)="?http', content)
        assert b"Pass rate" in content
    if suffix == ".json":
        assert json.loads(content)["$schema"].startswith("https://vega.github.io/schema/vega-lite/")


def test_a_wrong_suffix_or_folder_is_told(tmp_path):
    """The message names what would work, or the place that cannot be written."""
    chart = charts.chart(analysis.summary(traces("a", "b")))

    with pytest.raises(AnalysisError, match=r"\.svg, \.png, \.html, \.json"):
        charts.save(chart, tmp_path / "chart.pdf")
    with pytest.raises(AnalysisError, match="nowhere"):
        charts.save(chart, tmp_path / "nowhere" / "chart.json")


def test_many_rows_are_cut_and_told(tmp_path):
    """Beyond forty rows the rest is left to the table, in words."""
    result = analysis.summary(traces(*[f"model {i}" for i in range(60)], n_items=3))

    assert "40 of 60 rows shown" in text_of(svg_of(charts.chart(result), tmp_path))


def test_no_point_of_a_frontier_is_cut():
    """A scatter shows all: the dearest of sixty may be the best."""
    result = analysis.frontier(traces(*[f"model {i}" for i in range(6)], tasks=10), by=("item_id",))

    spec = charts.chart(result).to_dict()

    names = {row["group"] for rows in spec["datasets"].values() for row in rows if "group" in row}
    assert result.frame.height == len(names) > 60


def test_labels_cover_neither_each_other_nor_points():
    """Crowded points: those placed do not overlap, those of the frontier come first."""
    rng = np.random.default_rng(0)
    points = [(f"model number {i}", *rng.uniform(0, 300, 2), i < 5) for i in range(25)]

    placed = place(points, 300, 300)

    spots = {name: (x, y) for name, x, y, _ in points}
    boxes = [_box_of(name, spots[name], where) for name, where in placed.items()]
    assert {f"model number {i}" for i in range(5)} <= set(placed) or len(placed) >= 5
    assert not any(_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def _box_of(name: str, at: tuple[float, float], where: Place):
    from workbench.charts.labels import Spot

    return _box(Spot(name, *at, first=True), where)


def test_importing_charts_is_cheap():
    """Altair is only imported when something is drawn."""
    import subprocess
    import sys

    code = "import sys, workbench.charts; assert not {'altair', 'vl_convert'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_long_names_keep_both_ends():
    """Configurations of one model differ in what comes last."""
    names = [f"A-model-of-a-long-name-Instruct budgeted thinking_tokens={n}" for n in (12, 36)]
    result = analysis.run("summary", traces(*names))

    text = json.dumps(charts.chart(result).to_dict(), ensure_ascii=False)

    assert "…" in text
    assert all(f"tokens={n}" in text for n in (12, 36))
    assert not any(name in text for name in names)


def test_a_legend_names_those_that_are_drawn_first():
    """More groups than colours: a colour is not spent on a group without points."""
    frame = traces(*(f"group {n}" for n in range(9)))
    said = pl.when(pl.col("configuration") == "group 8").then(pl.col("e2e_s") / 10)
    result = analysis.run("calibration", frame.with_columns(confidence=said))

    drawn = charts.chart(result).to_dict()

    legends = re.findall(r'"values": (\["group[^]]*\])', json.dumps(drawn))
    assert legends
    assert all(json.loads(names) == ["group 8"] for names in legends)


def test_a_notebook_shows_a_chart_without_the_network(monkeypatch):
    """A drawing, in place of a page that fetches its scripts; a renderer that was chosen stays."""
    import altair as alt

    drawn = charts.chart(analysis.summary(traces("a", "b")))
    with alt.renderers.enable("default"):
        charts.chart(analysis.summary(traces("a", "b")))
        bundle = drawn._repr_mimebundle_()
        assert bundle["image/svg+xml"].startswith("<svg")
        assert set(bundle) == {"image/svg+xml", "text/plain"}
        assert "<script" not in bundle["image/svg+xml"]
    with alt.renderers.enable("json"):
        charts.chart(analysis.summary(traces("a", "b")))
        assert alt.renderers.active == "json"
