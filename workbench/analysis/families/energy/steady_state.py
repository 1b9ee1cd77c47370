"""Steady state of a server: joules per token over the part of a run with a steady load."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import calls, energy_coverage, grain, per_trace, published_figures
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import intervals
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import APART, KEY_NULL, Column

_NOT = "no window, or energy unknown"
_UNKNOWN = "energy not known"
_ROWS = (
    Column(
        "n_windows",
        "int",
        "count",
        "Windows found: one per run, or published figure.",
        KEY_NULL,
        "windows",
    ),
    Column(
        "n_stable",
        "int",
        "count",
        "Those that pass the filter; the figures are of these.",
        KEY_NULL,
        "steady windows",
    ),
    *ends(
        Column(
            "energy_per_token",
            "float",
            "J/token",
            "Energy in the windows over the output tokens generated in them.",
            _NOT,
            "energy per token",
        ),
        "fewer than two steady windows",
    ),
    Column(
        "token_rate",
        "float",
        "tokens/s",
        "Output tokens generated per second of window.",
        "no window",
        "tokens per second",
    ),
    Column("power_w", "float", "W", "Energy per token × tokens per second.", _NOT, "power"),
    Column(
        "energy_per_request_j",
        "float",
        "J",
        "Energy per token × mean output tokens of a request.",
        _NOT,
        "energy per request",
    ),
    Column(
        "mean_output_tokens",
        "float",
        "tokens",
        "Mean output tokens of a request.",
        "not known",
        "output tokens per request",
    ),
    Column(
        "batch_size",
        "float",
        "count",
        "Mean number of requests in flight in the windows.",
        "not known",
        "requests in flight",
    ),
)
_WINDOWS = (
    Column(
        "run_id",
        "text",
        doc="The run it is of.",
        null="a published figure, or the frame does not tell runs apart",
    ),
    Column(
        "max_batch_size",
        "float",
        "count",
        "Requests that the server takes at once: as given, else the most seen in flight.",
        "not known",
        "most at once",
    ),
    Column("window_s", "float", "s", "Length of the window.", "a published figure", "window"),
    Column(
        "batch_share",
        "float",
        "0..1",
        "Requests in flight over the most at once.",
        "one of the two is unknown",
        "share of the batch",
    ),
    Column(
        "identity_gap",
        "float",
        "",
        "Largest relative distance of published power and energy per request from what "
        "energy per token implies.",
        "our own window, or not published",
        "distance from the identities",
    ),
    Column("is_stable", "bool", doc="Whether it passes the filter.", null=KEY_NULL, title="steady"),
    Column("why", "text", doc="Why it does not.", null="it does"),
)
_KEPT = (
    "energy_per_token",
    "token_rate",
    "power_w",
    "energy_per_request_j",
    "mean_output_tokens",
    "batch_size",
)
_METRICS = {  # of published figures → ours
    "energy_per_token_j": "energy_per_token",
    "output_tokens_per_s": "token_rate",
    "power_w": "power_w",
    "energy_per_request_j": "energy_per_request_j",
    "mean_output_tokens": "mean_output_tokens",
    "batch_size": "batch_size",
    "max_batch_size": "max_batch_size",
    "window_s": "window_s",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """Requests of a run on one clock, (n,) each: times in s, tokens, joules (NaN: unknown)."""

    sent: Floats
    first: Floats
    end: Floats
    tokens: Floats
    energy: Floats


def window(requests: Requests, most: int) -> tuple[float, float] | None:
    """Find the steady window of n requests of which `most` run at once; None where there is none.

    It opens when the `most`-th request has returned its first token, and closes when n − most − 1
    have finished (the benchmark's tracker; a comment in it says first token).
    """
    n = len(requests.sent)
    last = n - most - 1
    if most < 1 or last < 1:
        return None
    opens = float(np.sort(requests.first)[most - 1])
    closes = float(np.sort(requests.end)[last - 1])
    return (opens, closes) if closes > opens else None


@analysis(
    name="steady-state",
    title="Steady state",
    question="How many joules does a token take while the server is busy, and was it steady?",
    source="ML.ENERGY benchmark (steady window, stability filter; mlenergy/benchmark at c1d6557, "
    "records/runs.py at b37408f)",
    needs=("item_id",),
    measures=("energy_j", "output_tokens", "e2e_s"),
    scored=False,
    options=(
        Option(
            "max_batch_size",
            "int",
            None,
            "requests that the server takes at once; the most seen in flight if open",
            low=1,
        ),
        Option("least_window_s", "float", 20.0, "shortest window that counts", low=0),
        Option(
            "least_batch_share",
            "float",
            0.85,
            "least share of the batch that must be in flight",
            low=0,
            high=1,
        ),
        Option(
            "family",
            "text",
            None,
            "columns, comma between, whose larger batches fall with an unsteady one: "
            "model,precision",
        ),
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_WINDOWS),
    rows="call_outcomes",
    also_rows=("call_facts",),
    by_hand={
        "worked": "Two requests are always in flight. The thinker's window "
        "opens when the second has "
        "its first token,"
        " at 2 s, and closes when 12 − 2 − 1 = 9 have finished, at 50 s: 48 s × 200 W = "
        "9,600 J, while two requests"
        " wrote for 40 s at 100 tokens a second: 8,000 tokens, 1.2 J each. The two runs are "
        "1 % below and above that.",
    },
    aggregates=True,
    chart=ChartSpec("figures", x="energy_per_token", y="group", also=("token_rate", "power_w")),
    settles=Settles(unit="windows", n="n_stable"),
)
def steady_state(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute energy per token in the steady window, the least first, per task if `by` names it.

    Grain: one row per group; `more["windows"]`: one row per group and run, or published figure.
    With B requests at once and n in all, a window opens when the B-th has returned its first token
    and closes when n − B − 1 have finished. Tokens and joules of a request are spread evenly over
    its decoding and over its time in flight, and what falls into the window counts: the energy is
    what the calls were given (above idle where it was measured), prefill absorbed. Unknown energy
    of a request in the window makes the window's unknown.

    A window is steady if it is `least_window_s` long, its energy per token is known and above 0,
    and the mean number in flight is `least_batch_share` of B; with `family` every larger batch of
    the same family falls with an unsteady one. Power = energy per token × tokens per second; energy
    per request = energy per token × mean output tokens. Given published figures (metrics
    energy_per_token_j, output_tokens_per_s, power_w, energy_per_request_j, mean_output_tokens,
    batch_size, max_batch_size, window_s), what is missing of the identities is worked out, and how
    far the rest is from them is said. The filter then asks of what is there.

    Failed requests are left out, and so are traces of several calls: give calls. Interval: mean ± t
    · SE over two steady windows or more; one window is one measurement, however many tokens it has.
    """
    family = _family(frame, options)
    if grain.are_figures(frame.collect_schema().names()):
        windows, notes = _published(frame, by, family)
        dropped: dict[str, int] = {}
    else:
        windows, dropped = _own(frame, by, family, options)
        notes = ()
    for row in windows:
        row["why"] = _why(row, options)
    _cascade(windows, family)
    schema = _schema(frame, by, [*_WINDOWS, *(c for c in _ROWS if c.name in _KEPT)])
    names = [*by, *(c.name for c in _WINDOWS[:3]), *_KEPT, *(c.name for c in _WINDOWS[3:])]
    rows = [row | {"is_stable": row["why"] is None} for row in windows]
    listed = pl.DataFrame(
        [{n: row.get(n) for n in names} for row in rows], schema={n: schema[n] for n in names}
    )
    table = _table(rows, by, _schema(frame, by, _ROWS), options["level"])
    first = ["task"] if "task" in by and len(by) > 1 else []
    table = table.sort(*first, "energy_per_token", *by, nulls_last=True)
    more = {"windows": listed} if rows else {}
    return Answer(table, more=more, dropped=dropped, notes=(*notes, *_notes(rows, options)))


def _family(frame: "nw.LazyFrame[Any]", options: dict[str, Any]) -> tuple[str, ...]:
    names = tuple(n.strip() for n in (options["family"] or "").split(",") if n.strip())
    present = frame.collect_schema().names()
    for name in names:
        if name not in present:
            raise AnalysisError(unknown_name("column of family", name, present))
    return names


def _schema(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], columns: Sequence[Column]
) -> dict[str, Any]:
    """Types of the `by` columns as they come, and of the declared ones."""
    head: pl.DataFrame = frame.select(*by).head(0).collect("polars").to_native()
    return dict(head.schema) | {c.name: DTYPES[c.type] for c in columns}


Row = dict[str, Any]


def _published(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], family: Sequence[str]
) -> tuple[list[Row], tuple[str, ...]]:
    """Take published figures as windows, and check them against each other."""
    keys = [*by, *(c for c in family if c not in by)]
    wide = published_figures.wide(frame, keys, ("energy_per_token_j",), tuple(_METRICS))
    rows = []
    for figures in wide.frame.iter_rows(named=True):
        row: Row = {k: figures[k] for k in keys} | {
            ours: figures[m] for m, ours in _METRICS.items()
        }
        row["_family"] = tuple(figures[c] for c in family)
        implied = _identities(row)
        gaps = [abs(row[k] / v - 1) for k, v in implied.items() if row[k] is not None and v]
        row["identity_gap"] = max(gaps, default=None)
        row |= {k: v for k, v in implied.items() if row[k] is None}
        if row["batch_size"] is not None and row["max_batch_size"]:
            row["batch_share"] = row["batch_size"] / row["max_batch_size"]
        rows.append(row | {"_published": True})
    return rows, wide.notes


def _identities(row: Mapping[str, Any]) -> dict[str, float]:
    """Derive power and energy per request from energy per token, if the other factor is known."""
    pairs = {"power_w": "token_rate", "energy_per_request_j": "mean_output_tokens"}
    joules = row["energy_per_token"]
    return {
        name: joules * row[other]
        for name, other in pairs.items()
        if joules is not None and row[other] is not None
    }


def _own(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], family: Sequence[str], options: dict[str, Any]
) -> tuple[list[Row], dict[str, int]]:
    """Find the window of every group and run, from the times of its requests."""
    present = frame.collect_schema().names()
    if "role" in present:
        frame = frame.filter(~nw.col("role").is_in(APART) | nw.col("role").is_null())
    frame = frame.with_columns(requests=calls.requests(frame))
    numbers = ("ttft_s", "e2e_s", "output_tokens", "energy_j", "requests")
    texts = ("run_id", *family)
    rows = per_trace.fetch(frame, by, numbers, texts=texts, times=("started_at",), items=False)
    tests = {} if options["errors_as_wrong"] else {"failed requests": ~pl.col("_failed")}
    rows, failed = per_trace.keep_passing(rows, tests)
    several = rows.filter(pl.col("_requests") > 1).height
    timed = pl.col("_started_at").is_not_null() & pl.col("_e2e_s").is_not_null()
    usable = timed & (pl.col("_requests").fill_null(1) <= 1)
    keys = [*by, "_run_id", *(f"_{c}" for c in family)]
    windows = []
    for key, part in per_trace.parts(rows, keys):
        named = dict(zip(keys, key, strict=True))
        row: Row = {c: named[c] for c in by} | {"run_id": named["_run_id"]}
        row["_family"] = tuple(named[f"_{c}"] for c in family)
        windows.append(row | _measured(part.filter(usable), options["max_batch_size"]))
    windows.sort(key=lambda r: [str(r[c]) for c in (*by, "run_id")])
    dropped = {
        **failed,
        "traces of several calls": several,
        "requests without start or end": rows.filter(~timed).height,
    }
    return windows, dropped


def _measured(part: pl.DataFrame, most: int | None) -> Row:
    """Measure the window of one run."""
    row: Row = dict.fromkeys((*_KEPT, "max_batch_size", "window_s", "batch_share", "identity_gap"))
    if part.is_empty():
        return row
    requests = _requests(part)
    seen = most or in_flight(requests)
    row |= {"max_batch_size": float(seen), "mean_output_tokens": _known(requests.tokens.mean())}
    span = window(requests, seen)
    if span is None:
        return row
    length = span[1] - span[0]
    flying = _overlap(requests.sent, requests.end, span)
    tokens = _spread(requests.first, requests.end, requests.tokens, span)
    joules = _spread(requests.sent, requests.end, requests.energy, span)
    n_tokens = float(tokens.sum())
    row |= {
        "window_s": length,
        "batch_size": float(flying.sum() / length),
        "token_rate": _known(n_tokens / length),
        "energy_per_token": _known(float(joules.sum()) / max(n_tokens, 1.0)),
    }
    row["batch_share"] = row["batch_size"] / seen
    row |= {"_joules": float(joules.sum()), "_made": n_tokens, "_length": length}
    return row | _identities(row)


def _requests(part: pl.DataFrame) -> Requests:
    start = part["_started_at"].dt.timestamp("us").to_numpy() / 1e6
    start = start - start.min()
    duration, ttft, tokens, energy = (
        part[c].fill_null(np.nan).to_numpy().astype(float)
        for c in ("_e2e_s", "_ttft_s", "_output_tokens", "_energy_j")
    )
    first = start + np.where(np.isnan(ttft), 0.0, ttft)
    return Requests(start, first, start + duration, tokens, energy)


def in_flight(requests: Requests) -> int:
    """Count the most requests in flight at once; an end precedes a start at the same time."""
    times = np.concatenate([requests.sent, requests.end])
    steps = np.concatenate([np.ones(len(requests.sent)), -np.ones(len(requests.end))])
    order = np.lexsort((steps, times))
    return int(np.cumsum(steps[order]).max())


def _overlap(start: Floats, end: Floats, span: tuple[float, float]) -> Floats:
    inside: Floats = np.minimum(end, span[1]) - np.maximum(start, span[0])
    return np.maximum(inside, 0.0)


def _spread(start: Floats, end: Floats, amount: Floats, span: tuple[float, float]) -> Floats:
    """Sum the parts of amounts within the span, each spread evenly over its own time."""
    length = end - start
    inside = _overlap(start, end, span)
    at_once = (end >= span[0]) & (end < span[1])
    share = np.divide(inside, length, out=at_once.astype(float), where=length > 0)
    return np.where(share > 0, amount * share, 0.0)


def _why(row: Mapping[str, Any], options: dict[str, Any]) -> str | None:
    """Return why a window is not steady; None if it is."""
    if not row.get("_published") and row["window_s"] is None:
        return "no window: start and end of requests unknown, or too few requests"
    if row["window_s"] is not None and row["window_s"] < options["least_window_s"]:
        return f"shorter than {options['least_window_s']:g} s"
    if row["energy_per_token"] is None:
        return _UNKNOWN
    if row["energy_per_token"] <= 0:
        return "energy not above 0"
    share = row.get("batch_share")
    if share is not None and share < options["least_batch_share"]:
        return f"less than {100 * options['least_batch_share']:g} % of the batch in flight"
    return None


def _cascade(rows: list[Row], family: Sequence[str]) -> None:
    """Let every larger batch of a family fall with its first unsteady one."""
    if not family:
        return
    least: dict[tuple[Any, ...], float] = {}
    for row in rows:
        size = row["max_batch_size"]
        if row["why"] is not None and size is not None:
            least[row["_family"]] = min(size, least.get(row["_family"], np.inf))
    for row in rows:
        size = row["max_batch_size"]
        if row["why"] is None and size is not None and size > least.get(row["_family"], np.inf):
            row["why"] = "a smaller batch of its family is not steady"


def _table(
    rows: Sequence[Row], by: Sequence[str], schema: Mapping[str, Any], level: float
) -> pl.DataFrame:
    """Add up the steady windows of every group."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[c] for c in by), []).append(row)
    records = [
        dict(zip(by, key, strict=True)) | _summed(part, level) for key, part in groups.items()
    ]
    return pl.DataFrame(records, schema={c: schema[c] for c in (*by, *(c.name for c in _ROWS))})


def _summed(part: Sequence[Row], level: float) -> Row:
    steady = [row for row in part if row["why"] is None]
    row: Row = dict.fromkeys(c.name for c in _ROWS)
    row |= {"n_windows": sum(r["window_s"] is not None or "_published" in r for r in part)}
    row["n_stable"] = len(steady)
    if not steady:
        return row
    if "_joules" in steady[0]:
        joules, n_tokens, length = (
            sum(r[k] for r in steady) for k in ("_joules", "_made", "_length")
        )
        row |= {"energy_per_token": joules / max(n_tokens, 1.0), "token_rate": n_tokens / length}
        for name in ("mean_output_tokens", "batch_size"):
            row[name] = _mean([r[name] for r in steady])
        row |= _identities(row)
    else:
        row |= {name: _mean([r[name] for r in steady]) for name in _KEPT}
    per_window = np.array([r["energy_per_token"] for r in steady])
    if len(per_window) > 1:
        se = per_window.std(ddof=1) / np.sqrt(len(per_window))
        low, high = intervals.student([row["energy_per_token"]], [se], [len(per_window)], level)
        row |= {"energy_per_token_low": float(low[0]), "energy_per_token_high": float(high[0])}
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    return (
        None
        if any(v is None for v in values)
        else float(np.mean([v for v in values if v is not None]))
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _notes(rows: Sequence[Row], options: dict[str, Any]) -> tuple[str, ...]:
    if not rows:
        return ()
    counts: dict[str, int] = {}
    for row in rows:
        if row["why"] is not None:
            counts[row["why"]] = counts.get(row["why"], 0) + 1
    notes = [f"not steady: {n} because {why}" for why, n in sorted(counts.items())]
    if counts.get(_UNKNOWN) == len(rows):
        notes.append(f"no energy was measured: {energy_coverage.NEXT}; {energy_coverage.ELSEWHERE}")
    if any(row.get("batch_share") is None and row.get("_published") for row in rows):
        notes.append("the share of the batch is not judged where max_batch_size is not published")
    off = sum(1 for row in rows if (row.get("identity_gap") or 0) > 0.01)
    if off:
        notes.append(f"{off} published figures are more than 1 % off their own identities")
    return tuple(notes)
