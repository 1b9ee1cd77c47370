"""Scaling law of the score in a resource: power laws, learning curves and extrapolation."""

import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.entry_columns import SETTINGS, is_entry_column
from workbench.analysis.core.options import ERRORS, LEVEL, MEASURES, OUTCOME
from workbench.analysis.core.result import DTYPES, Answer, label
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import check_measure, reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import power_law, resampling
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two items, or no law"
_NO_LAW = "fewer than three different amounts of the resource, or the law has no asymptote in sight"
_ROWS = (
    Column("family", "text", doc="The groups that share a law.", null=KEY_NULL),
    Column("x", "float", doc="Amount of the resource.", null="unknown", title="resource"),
    Column(
        "x2",
        "float",
        doc="Amount of the second resource.",
        null="none asked for, or unknown",
        title="second resource",
    ),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Mean over items of the mean outcome of their trials.",
            KEY_NULL,
            "score",
        ),
        "fewer than two items",
    ),
    Column(
        "fitted", "float", "0..1", "What the law of its family gives.", _NO_LAW, "score by the law"
    ),
    Column("residual", "float", "0..1", "Score minus what the law gives.", _NO_LAW),
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
)
_LAWS = (
    Column("n_points", "int", "count", "Groups with a known amount above 0.", KEY_NULL, "points"),
    *ends(
        Column("asymptote", "float", "0..1", "The score that no amount exceeds (a).", _NO_LAW),
        _NULL_IF_FEW,
    ),
    Column("scale", "float", doc="What is missing at an amount of 1 (b).", null=_NO_LAW),
    *ends(
        Column("exponent", "float", doc="How fast what is missing shrinks (c).", null=_NO_LAW),
        _NULL_IF_FEW,
    ),
    Column(
        "scale_2",
        "float",
        doc="The same of the second resource (d).",
        null="none asked for, or fewer than five points",
    ),
    Column(
        "exponent_2",
        "float",
        doc="The same of the second resource (e).",
        null="none asked for, or fewer than five points",
    ),
    Column(
        "r_squared",
        "float",
        "0..1",
        "Share of the points' squares that the law explains; 1 of three points by three "
        "figures says nothing.",
        "no law, or all scores alike",
        "R²",
    ),
    Column(
        "rmse", "float", "0..1", "Root of the mean squared residual.", "no law", "typical residual"
    ),
    *ends(
        Column(
            "predicted",
            "float",
            "0..1",
            "The score at `at` times the largest amount seen.",
            "no law",
            "extrapolated score",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "plateau_x",
        "float",
        doc="The amount from which less than `tolerance` is missing to the asymptote.",
        null=_NO_LAW,
        title="plateau from",
    ),
    Column(
        "on_plateau",
        "bool",
        doc="Whether the largest amount seen is beyond it.",
        null=_NO_LAW,
        title="plateau reached",
    ),
)
_LEVELS = (
    Column(
        "upto_x",
        "float",
        doc="Largest amount among the points used.",
        null=KEY_NULL,
        title="points up to",
    ),
    Column("n_used", "int", "count", "Points used, the smallest amounts.", KEY_NULL, "points"),
    Column(
        "trend_asymptote",
        "float",
        "0..1",
        "Asymptote fitted to them alone, not held below 1.",
        "no asymptote in sight",
        "asymptote so far",
    ),
    Column(
        "is_admissible",
        "bool",
        doc="Whether that asymptote is a score, at most 1.",
        null=KEY_NULL,
        title="admissible",
    ),
    Column(
        "change",
        "float",
        "0..1",
        "Distance from the asymptote of the level before.",
        "the first, or one of the two unknown",
    ),
    Column(
        "may_stop",
        "bool",
        doc="Whether from the prediction level on the change is at most `tolerance`.",
        null=KEY_NULL,
        title="may stop",
    ),
)
_CURVE = (
    Column("curve", "float", "0..1", "The law's score.", KEY_NULL, "score by the law"),
    Column("curve_low", "float", "0..1", "Lower end of its interval.", _NULL_IF_FEW, "law, low"),
    Column("curve_high", "float", "0..1", "Upper end of its interval.", _NULL_IF_FEW, "law, high"),
)
_ALL = "all groups"
_DRAWN = 40  # places of a curve


@analysis(
    name="scaling-law",
    title="Scaling law",
    question="How does the score grow with what is put in, where does it level off, and what would "
    "more bring?",
    source="power law with asymptote; two resources in the form of Hoffmann et al. 2022, eq. 2; "
    "stopping level: Vilares et al., arXiv 2402.02515 (details unverified)",
    needs=("item_id",),
    options=(
        Option(
            "x",
            "text",
            "output_tokens",
            "the resource: a measure, a numeric column of `by`, or parameters (read from "
            "the model's name)",
        ),
        Option("x2", "text", "", "a second resource; empty for none"),
        Option(
            "family",
            "text",
            "",
            "column of `by` whose values each get a law of their own; empty for one law of all",
        ),
        Option(
            "at", "float", 2.0, "extrapolate to this many times the largest amount seen", low=1.0
        ),
        Option(
            "tolerance",
            "float",
            0.01,
            "what may be missing on a plateau, and the change of the asymptote at which to stop",
            low=1e-6,
            high=1.0,
        ),
        OUTCOME,
        ERRORS,
        LEVEL,
        Option("resamples", "int", 1000, "bootstrap resamples of the items", low=100, high=100_000),
    ),
    columns=(*_ROWS, *_LAWS, *_LEVELS, *_CURVE),
    chart=ChartSpec("law", x="x", y="rate"),
    settles=Settles("asymptote", 1.0, table="laws"),
    example={"by": ("model", "strategy"), "x": "output_tokens"},
)
def scaling_law(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Fit score = a − b · x^(−c) to the groups of a family, each a point.

    Grain: one row per group; `more["laws"]`: one row per family; `more["levels"]`: a learning
    curve, one row per family and number of points; `more["curve"]`: the law in steps, as far as it
    is extrapolated. Only scored traces count; trials are averaged within their item. The resource
    is the groups' mean of a measure (over items), a number that names them (thinking_budget_tokens,
    temperature), or the parameters that stand in the model's name (7B, 135M; of 8x7B all eight).
    With `x2` the law is a − b · x^(−c) − d · z^(−e) of five groups or more; then it is fitted but
    not drawn.

    Estimator: least squares, with equal weights of all points, a at most 1, b and d at least 0,
    exponents between 0.01 and 10. Where the exponent runs into an end, no asymptote is in sight and
    it is null: the curve is as good as a line in log x, or flat. Three points are met exactly.
    Plateau: the amount from which less than `tolerance` is missing. Learning curve: the law is
    fitted again to the first points alone; from the first admissible one on (asymptote at most 1:
    the prediction level) it may stop once the asymptote moves by at most `tolerance`; the levels
    before are not to be trusted.

    Intervals: expanded percentile bootstrap of item clusters, the law fitted to each resample. They
    are of these groups' law on more such items; that the law holds beyond the points, no interval
    says.
    """
    families: list[_Family] = []
    points: list[pl.DataFrame] = []
    notes: list[str] = []
    _check(frame, by, options)
    taken = (options["x"], options["x2"])
    measures = tuple(x for x in taken if x and x not in by and x != "parameters")
    items = reduce_items(
        frame,
        by,
        measures,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
        require=measures,
    )
    built = build(items)
    dropped = dict(built.dropped)
    for task, panel in built.parts:
        values = {"rate": panel.outcome()} | {m: panel.measure(m) for m in measures}
        bootstrap = sample.draw(panel, values, rng, options)
        table = _points(panel, bootstrap, options)
        if task is not None:
            table = table.with_columns(task=pl.lit(task, pl.String))
        for place, part in _parts(table, options["family"]):
            family = _Family(part, place, bootstrap, options)
            points.append(family.points().select(*by, *(c.name for c in _ROWS)))
            families.append(family)
            notes += family.notes()
    if not points:
        shape = dict.fromkeys(by, pl.String) | {c.name: DTYPES[c.type] for c in _ROWS}
        return Answer(pl.DataFrame(schema=shape), dropped=dropped)
    unknown_x = sum(int(p["x"].is_null().sum()) for p in points)
    dropped["groups without a known amount above 0"] = unknown_x
    more = {
        "laws": _table([f.law_row() for f in families], _LAWS),
        "levels": _table([row for f in families for row in f.levels()], _LEVELS),
        "curve": _table([row for f in families for row in f.curve()], (_ROWS[1], *_CURVE)),
    }
    if "task" not in by:
        more = {name: table.drop("task") for name, table in more.items()}
    return Answer(pl.concat(points), more=more, dropped=dropped, notes=(*built.notes, *notes))


def _check(frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]) -> None:
    for name in ("x", "x2"):
        valid = (
            *MEASURES,
            *by,
            *(["parameters"] if "model" in by or "configuration" in by else []),
        )
        resource = options[name]
        if resource and resource not in by and (is_entry_column(resource) or resource in SETTINGS):
            check_measure(frame, resource, f"resource of option {name}")
        elif resource and resource not in valid:
            raise AnalysisError(unknown_name(f"resource of option {name}", options[name], valid))
    if options["family"] and options["family"] not in by:
        raise AnalysisError(unknown_name("column of option family", options["family"], by))


def _table(rows: list[dict[str, Any]], columns: Sequence[Column]) -> pl.DataFrame:
    shape = {"task": pl.String, "family": pl.String} | {c.name: DTYPES[c.type] for c in columns}
    return pl.DataFrame([dict.fromkeys(shape) | row for row in rows], schema=shape)


def _amount(panel: Panel, bootstrap: sample.Sample, name: str) -> tuple[Floats, Floats | None]:
    """Return the groups' amounts, (n_groups,), and those of resamples; NaN where unknown."""
    if name in bootstrap.means:
        return bootstrap.means[name], None if bootstrap.draws is None else bootstrap.draws[name]
    if name == "parameters":
        column = "model" if "model" in panel.groups.columns else "configuration"
        return np.array([parameters(v) for v in panel.groups[column].to_list()], float), None
    values = panel.groups[name].cast(pl.Float64, strict=False) if name else None
    return (
        np.full(panel.groups.height, np.nan)
        if values is None
        else values.fill_null(np.nan).to_numpy()
    ), None


def parameters(name: str | None) -> float:
    """Read the number of parameters that stands in a model's name; NaN where none does.

    >>> parameters("SmolLM2-135M-Instruct"), parameters("Mixtral-8x7B")
    (135000000.0, 56000000000.0)
    """
    match = re.search(
        r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([MBT])(?![A-Za-z0-9])", name or "", re.IGNORECASE
    )
    if not match:
        return float("nan")
    unit = {"m": 1e6, "b": 1e9, "t": 1e12}[match[3].lower()]
    return int(match[1] or 1) * float(match[2]) * unit


def _points(panel: Panel, bootstrap: sample.Sample, options: dict[str, Any]) -> pl.DataFrame:
    x, draws = _amount(panel, bootstrap, options["x"])
    x2, draws_2 = _amount(panel, bootstrap, options["x2"])
    place = pl.Series("_place", np.arange(panel.groups.height))
    table = panel.groups.with_columns(
        place,
        pl.Series("x", np.where(x > 0, x, np.nan)).fill_nan(None),
        pl.Series("x2", np.where(x2 > 0, x2, np.nan)).fill_nan(None),
        *bootstrap.series("rate", lambda m: m["rate"]),
        *sample.counts(panel),
    )
    cells = [
        None if d is None else d[:, k].tolist() for d in (draws, draws_2) for k in range(len(x))
    ]
    half = len(x)
    return table.with_columns(
        pl.Series("_draws", cells[:half], pl.List(pl.Float64)),
        pl.Series("_draws_2", cells[half:], pl.List(pl.Float64)),
    )


def _parts(table: pl.DataFrame, family: str) -> list[tuple[str, pl.DataFrame]]:
    if not family:
        return [(_ALL, table)]
    parts = table.partition_by(family, as_dict=True, maintain_order=True)
    return [(label(key), part) for key, part in parts.items()]


class _Family:
    """The groups of a family and their law."""

    def __init__(
        self, table: pl.DataFrame, name: str, bootstrap: sample.Sample, options: dict[str, Any]
    ) -> None:
        self.table, self.options = table, options
        self.clusters = float(bootstrap.clusters.min())
        self.names = {"family": name, "task": table["task"][0] if "task" in table.columns else None}
        needed = ["x", "x2"] if options["x2"] else ["x"]
        used = table.drop_nulls(needed).sort("x", "_place")
        self.used, self.two = used, bool(options["x2"])
        self.x, self.y = (used[c].to_numpy() for c in ("x", "rate"))
        self.z = used["x2"].fill_null(np.nan).to_numpy()
        self.law: power_law.Law | None = None
        self.surface: power_law.Surface | None = None
        self.draws: power_law.Law | None = None
        if self.two and used.height >= 5 and used["x2"].n_unique() > 1 and used["x"].n_unique() > 1:
            self.surface = power_law.fit_two(self.x, self.z, self.y, 1.0)
        elif not self.two and used["x"].n_unique() >= 3:
            self.law = power_law.fit(self.x, self.y, 1.0)
            self.draws = self._redraw(bootstrap)

    def _redraw(self, bootstrap: sample.Sample) -> power_law.Law | None:
        """Fit the law to each resample in which every point is known."""
        if bootstrap.draws is None:
            return None
        y = bootstrap.draws["rate"][:, self.used["_place"].to_numpy()]
        x = np.broadcast_to(self.x, y.shape)
        if self.used["_draws"].null_count() == 0:
            x = np.column_stack([np.array(d) for d in self.used["_draws"].to_list()])
        whole = ~np.isnan(y).any(axis=1) & (np.nan_to_num(x) > 0).all(axis=1)
        return power_law.fit(x[whole], y[whole], 1.0) if whole.any() else None

    def _ends(self, values: Floats | None) -> tuple[float, float]:
        if values is None:
            return float("nan"), float("nan")
        low, high = resampling.percentile(values[:, None], self.options["level"], self.clusters)
        return float(low[0]), float(high[0])

    def points(self) -> pl.DataFrame:
        """Make the rows of the family's groups."""
        fitted = np.full(self.used.height, np.nan)
        if self.law is not None:
            fitted = self.law.at(self.x)
        elif self.surface is not None:
            fitted = self.surface.at(self.x, self.z)
        known = self.used.select("_place", fitted=pl.Series(fitted).fill_nan(None))
        table = self.table.join(known, on="_place", how="left", maintain_order="left")
        return table.with_columns(
            family=pl.lit(self.names["family"]), residual=pl.col("rate") - pl.col("fitted")
        )

    def law_row(self) -> dict[str, Any]:
        """Make the row of the family's law."""
        row: dict[str, Any] = self.names | {"n_points": self.used.height}
        if self.surface is not None:
            s = self.surface
            at = self.options["at"]
            more = float(s.at(at * self.x.max(), at * self.z.max()))
            row |= {"asymptote": s.asymptote, "scale": s.scale, "exponent": s.exponent}
            row |= {"scale_2": s.scale_2, "exponent_2": s.exponent_2, "predicted": more}
            return row | self._goodness(s.rss)
        if self.law is None:
            return row
        law = self.law
        far = self.options["at"] * float(self.x.max())
        draws = self.draws
        row |= _three(
            "predicted",
            float(law.at(far)[0]),
            *self._ends(None if draws is None else draws.at(far)),
        )
        row |= self._goodness(float(law.rss[0]))
        if law.edge[0]:
            return row
        plateau = float(law.needed(self.options["tolerance"])[0])
        row |= _three(
            "asymptote",
            float(law.asymptote[0]),
            *self._ends(None if draws is None else draws.asymptote),
        )
        row |= _three(
            "exponent",
            float(law.exponent[0]),
            *self._ends(None if draws is None else draws.exponent),
        )
        reached = bool(self.x.max() >= plateau)
        return row | {"scale": float(law.scale[0]), "plateau_x": plateau, "on_plateau": reached}

    def _goodness(self, rss: float) -> dict[str, float | None]:
        whole = float(((self.y - self.y.mean()) ** 2).sum())
        explained = max(0.0, 1 - rss / whole) if whole > 1e-15 else None
        return {"r_squared": explained, "rmse": float(np.sqrt(rss / len(self.y)))}

    def levels(self) -> list[dict[str, Any]]:
        """Fit the first points alone, from four on; one row per number of points."""
        rows: list[dict[str, Any]] = []
        if self.law is None:
            return rows
        before = float("nan")
        trusted = False
        for n in range(4, len(self.x) + 1):
            if len(np.unique(self.x[:n])) < 3:
                continue
            law = power_law.fit(self.x[:n], self.y[:n])
            asymptote = float("nan") if law.edge[0] else float(law.asymptote[0])
            change = abs(asymptote - before)
            admissible = asymptote <= 1
            near = trusted and change <= self.options["tolerance"]
            rows.append(
                self.names
                | {
                    "upto_x": float(self.x[n - 1]),
                    "n_used": n,
                    "is_admissible": admissible,
                    "may_stop": near,
                    "trend_asymptote": None if np.isnan(asymptote) else asymptote,
                    "change": None if np.isnan(change) else change,
                }
            )
            before, trusted = asymptote, trusted or admissible
        return rows

    def curve(self) -> list[dict[str, Any]]:
        """Follow the law from the smallest amount to where it is extrapolated to."""
        if self.law is None:
            return []
        places = np.geomspace(self.x.min(), self.options["at"] * self.x.max(), _DRAWN)
        low, high = np.full((2, _DRAWN), np.nan)
        if self.draws is not None:
            draws = np.column_stack([self.draws.at(p) for p in places])
            low, high = resampling.percentile(draws, self.options["level"], self.clusters)
        rows = zip(places, self.law.at(places), low, high, strict=True)
        return [
            self.names
            | {"x": float(p), "curve": float(y)}
            | {
                f"curve_{n}": None if np.isnan(v) else float(v)
                for n, v in (("low", a), ("high", b))
            }
            for p, y, a, b in rows
        ]

    def notes(self) -> list[str]:
        """Write notes on why the law is not reliable."""
        name = self.names["family"]
        if self.law is None and self.surface is None:
            least = "five points" if self.two else "three different amounts"
            return [
                (
                    f"{name}: a law needs {least} of {self.options['x']}; {self.used.height} "
                    "groups have one"
                )
            ]
        if self.law is not None and self.law.edge[0]:
            return [f"{name}: no asymptote in sight; the points do not bend, or fall"]
        if self.used.height == 3:
            return [
                f"{name}: three points are met exactly by three figures: the fit proves nothing"
            ]
        return []


def _three(name: str, value: float, low: float, high: float) -> dict[str, float | None]:
    given = zip(("", "_low", "_high"), (value, low, high), strict=True)
    return {f"{name}{end}": None if np.isnan(v) else v for end, v in given}
