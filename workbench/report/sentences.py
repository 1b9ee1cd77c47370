"""Sentences that HTML, Markdown and LaTeX share, as plain text that is not yet escaped."""

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Iterator, Sequence

from workbench.formats import UNKNOWN, count, counted, when
from workbench.report import tables
from workbench.report.contents import Answered, Looked, Report, Value, left_out
from workbench.report.tables import Table
from workbench.safe import both_ends, safe
from workbench.schema import KEY_NULL, TABLES, Column

LONGEST = 1500  # characters of a sentence, at most; it may contain names from files
_MAX_NAMES = 12  # in a list
_NAME = 60  # characters of a name in a list
_TRACES = Column(
    "n_traces", "int", "count", "Traces of the slice.", KEY_NULL, "traces of the slice"
)
_RUNS = (
    "run_id",
    "kind",
    "source",
    "origin",
    "status",
    "started_at",
    "ended_at",
    "platform",
    "accelerator",
    "commit_sha",
    "n_traces",
)
_PRICES = (
    "model",
    "provider",
    "sheet",
    "starts_at",
    "ends_at",
    "min_input_tokens",
    "input_usd_per_mtok",
    "cache_read_usd_per_mtok",
    "output_usd_per_mtok",
    "reasoning_usd_per_mtok",
    "request_usd",
    "machine_usd_per_hour",
    "service_tier",
    "note",
    "price_id",
    "n_traces",
)


def clean(text: str) -> str:
    """Make one line of any text: control characters escaped, cut at `LONGEST` with a note."""
    shown = safe(text[: LONGEST + 1])
    rest = len(text) - LONGEST
    return shown if rest <= 0 else f"{safe(text[:LONGEST])}… ({count(rest)} more characters)"


def spans(text: str) -> Iterator[tuple[str, bool]]:
    """Split text of our own at its backquotes into pairs: text, and whether it is code."""
    parts = text.split("`")
    for index, part in enumerate(parts):
        if part:
            yield part, index % 2 == 1


def paragraphs(doc: str) -> list[str]:
    """Split a docstring into paragraphs, each as one line."""
    first, _, rest = doc.partition("\n")
    text = f"{first}\n{textwrap.dedent(rest)}"
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def lead(report: Report) -> str:
    """Write the line below the title: traces, configurations, models, tasks and the slice."""
    looked = report.looked
    whole = "" if looked.n_all in {None, looked.n_traces} else f" of {count(looked.n_all)}"
    parts = [f"{count(looked.n_traces)}{whole} traces"] if looked.n_traces is not None else []
    parts += [
        _many(values, name, looked)
        for name, values in (
            ("configuration", looked.configurations),
            ("model", looked.models),
            ("task", looked.tasks),
        )
        if values
    ]
    return clean(" · ".join([*parts, looked.where or "everything in the store"]))


def _many(values: Sequence[Value], name: str, looked: Looked) -> str:
    return f"{_number(values, looked)} {name}{'' if len(values) == 1 else 's'}"


def facts(report: Report) -> list[tuple[str, str]]:
    """Write the facts about the slice as pairs of a name and a text."""
    looked = report.looked
    pairs = [("Store", looked.store), ("Slice", looked.where or "everything")]
    if looked.n_traces is not None:
        pairs.append(("Traces", f"{count(looked.n_traces)} of {count(looked.n_all)}"))
    if looked.first_at is not None:
        pairs.append(("Attempts begun", f"{when(looked.first_at)} to {when(looked.last_at)} UTC"))
    pairs.append(("Grouped by", ", ".join(report.by)))
    for title, values in (
        ("Models", looked.models),
        ("Tasks", looked.tasks),
        ("Strategies", looked.strategies),
    ):
        if values:
            pairs.append((f"{title} ({_number(values, looked)})", _listed(values)))
    if looked.n_traces is not None:
        pairs.append(("Prices in force", _prices(looked)))
        pairs.append(("Joules", ", ".join(looked.methods) or "none recorded"))
        pairs += [("Software of the runs", versions)] if (versions := _versions(looked)) else []
    brackets = f"in brackets beside their figure; what is resampled begins with seed {report.seed}"
    pairs.append(("Intervals", f"{brackets}; “{UNKNOWN}” is unknown, not 0"))
    origin = f"{when(report.made_at)} UTC with workbench {report.version}"
    changed = "; the store changed while it was being read: not all figures are of one moment"
    pairs.append(("Made", origin + (changed if report.changed else "")))
    return [(name, clean(text)) for name, text in pairs]


def _number(values: Sequence[Value], looked: Looked) -> str:
    return f"{count(len(values))}{' or more' if len(values) >= looked.most else ''}"


def _listed(values: Sequence[Value]) -> str:
    names = [
        f"{both_ends(UNKNOWN if v.name is None else v.name[:1000], _NAME)} ({count(v.n)})"
        for v in values[:_MAX_NAMES]
    ]
    rest = len(values) - len(names)
    return ", ".join(names) + (f" and {count(rest)} more" if rest > 0 else "")


def _prices(looked: Looked) -> str:
    rows = looked.prices
    unpriced = looked.n_unpriced
    without = "" if unpriced is None else f"; {counted(unpriced, 'trace')} without a price"
    if rows.is_empty():
        return f"none{without}"
    sheets = ", ".join(sorted({str(sheet) for sheet in rows["sheet"]}))
    starts = [row["starts_at"] for row in rows.iter_rows(named=True) if row.get("starts_at")]
    since = f", the latest since {max(starts):%Y-%m-%d}" if starts else ""
    digest = hashlib.sha256("\n".join(sorted(rows["price_id"])).encode()).hexdigest()[:12]
    return (
        f"{counted(rows.height, 'row')} of {sheets}{since}, sha256 of their ids {digest}{without}"
    )


def _versions(looked: Looked) -> str:
    """List the software that the runs recorded, with all its versions."""
    versions: dict[str, set[str]] = {}
    if "versions" in looked.runs.columns:
        for text in looked.runs["versions"].drop_nulls().unique():
            try:
                recorded = json.loads(text)
            except ValueError:
                continue
            if isinstance(recorded, dict):
                for name, version in recorded.items():
                    versions.setdefault(str(name)[:40], set()).add(str(version)[:40])
    listed = [
        f"{name} {', '.join(sorted(versions[name]))}" for name in sorted(versions)[: 2 * _MAX_NAMES]
    ]
    n_more = len(versions) - len(listed)
    return "; ".join(listed) + (f" and {count(n_more)} more" if n_more > 0 else "")


def origins(report: Report) -> list[Table]:
    """Write the tables of the slice's runs and of the prices in force, if there are any."""
    origin_tables = []
    for name, frame, names, of in (
        ("runs", report.looked.runs, _RUNS, "runs"),
        ("prices in force", report.looked.prices, _PRICES, "prices"),
    ):
        if not frame.is_empty():
            known = {c.name: c for c in (*TABLES[of].columns, _TRACES)}
            chosen = frame.select(c for c in names if c in frame.columns)
            table = tables.table(name, chosen, known, chosen.columns[:1], report.most)
            origin_tables.append(
                dataclasses.replace(table, unknown=())
            )  # most columns say nothing by being empty
    return origin_tables


def heading(table: Table) -> str:
    """Write the heading of a further table: its name and number of rows."""
    return f"{clean(table.name)}, {rows(table.n_rows)}"


def rows(n: int) -> str:
    """Write a number of rows."""
    return "1 row" if n == 1 else f"{count(n)} rows"


def rest(table: Table) -> str:
    """Write how many rows are not shown; "" if all are."""
    return (
        f"{count(table.n_cut)} more {'row' if table.n_cut == 1 else 'rows'}" if table.n_cut else ""
    )


def unknown(table: Table) -> str:
    """Name the columns that were left out because no row has a value; "" if there are none."""
    return clean(f"Not known of any row: {'; '.join(table.unknown)}.") if table.unknown else ""


def notes(answer: Answered) -> list[str]:
    """Write what an answer left out, and its notes except the outlook."""
    texts = []
    if dropped := left_out(answer.result):
        texts.append(f"left out: {'; '.join(dropped)}")
    texts += [note for note in answer.result.notes if note not in answer.result.outlook]
    if answer.fault:
        texts.append(f"there is no chart: {answer.fault}")
    return [clean(text) for text in texts]


def outlook(answer: Answered) -> list[str]:
    """Write what it would take to settle the question, if it is open."""
    return [clean(text) for text in answer.result.outlook]


def level(answer: Answered) -> str:
    """Write the level of the intervals in brackets; "" if the analysis has no level."""
    value = answer.result.options.get("level")
    return f"{100 * value:g} % intervals in brackets" if isinstance(value, float) else ""


def alternative(answer: Answered) -> str:
    """Write the alternative text of a chart."""
    declared, result = answer.declared, answer.result
    known = {c.name: c.heading for c in result.columns}
    axes = [known[c] for c in (declared.chart.y, declared.chart.x) if c in known]
    shown = f", {' against '.join(axes)}" if axes else ""
    n_rows = rows(result.frame.height)
    return clean(f"Chart: {declared.title}{shown}, of {n_rows}. The table has its figures.")


def others(report: Report) -> str:
    """Name the analyses that were not run, and how to run them."""
    names = ", ".join(report.others)
    if not names:
        return ""
    return f"Not run: {names}. To include them, add --all; to run one: workbench analyze NAME."
