"""Search efficiency: the share of needed evidence that was found, and the steps it took."""

import json
import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import engine, per_trace
from workbench.analysis.inputs.item_means import by_item
from workbench.analysis.inputs.sample import ends
from workbench.analysis.inputs.text_matching import contains_words, plain
from workbench.analysis.stats import ratios
from workbench.schema import KEY_NULL, Column

_NONE = "no trace called a tool"
_ROWS = (
    Column("n_items", "int", "count", "Items of these traces.", KEY_NULL, "items"),
    Column(
        "n",
        "int",
        "count",
        "Traces that called a tool and whose needed entities are known.",
        KEY_NULL,
        "traces",
    ),
    *ends(
        Column(
            "seeking_rate",
            "float",
            "0..1",
            "Mean share of the needed entities that stood in what tools answered (ISR).",
            _NONE,
            "information-seeking rate",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "seeking_efficiency",
            "float",
            "",
            "Mean of needed entities found per tool call (ISE).",
            _NONE,
            "entities found per call",
        ),
        f"{FEW_ITEMS}, or no spread",
    ),
    *ends(
        Column(
            "all_found_rate",
            "float",
            "0..1",
            "Share of traces that found every needed entity.",
            _NONE,
            "found everything",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "kept_rate",
            "float",
            "0..1",
            "Share of traces above both thresholds, those worth learning from.",
            _NONE,
            "worth keeping",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "right_when_found",
            "float",
            "0..1",
            "Pass rate of the traces that found everything.",
            "none found everything, or none scored",
            "pass rate, all found",
        ),
        FEW_ITEMS,
    ),
    *ends(
        Column(
            "right_when_missing",
            "float",
            "0..1",
            "Pass rate of those that did not.",
            "all found everything, or none scored",
            "pass rate, something missing",
        ),
        FEW_ITEMS,
    ),
    Column(
        "calls_per_entity",
        "float",
        "count",
        "Tool calls of all traces over the needed entities that they found.",
        "nothing was found",
        "calls per entity found",
    ),
)
_TEXTS = ("read_text", "target", "item_metadata")


@analysis(
    name="search-efficiency",
    title="Search efficiency",
    question="How much of what the answer needs do the tools bring, and in how many calls?",
    source="WebLeaper: ISR = |R ∩ O| / |R|, ISE = n / T, kept above ISR .3 and ISE .1; n is read "
    "as |R ∩ O|, which its documentation leaves open",
    needs=("item_id",),
    scored=False,
    options=(
        Option(
            "entities",
            "text",
            "target",
            "the item's needed entities: its target, or the key of a list in its metadata",
        ),
        Option(
            "least_rate",
            "float",
            0.3,
            "seeking rate above which a trace is kept",
            low=0.0,
            high=1.0,
        ),
        Option(
            "least_efficiency", "float", 0.1, "entities per call above which it is kept", low=0.0
        ),
        LEVEL,
    ),
    columns=_ROWS,
    rows="trace_texts",
    chart=ChartSpec(
        "figures",
        x="seeking_rate",
        y="group",
        also=("seeking_efficiency", "right_when_found", "right_when_missing"),
    ),
    example={"by": ("model", "task"), "where": "strategy:react"},
)
def search_efficiency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare the replies of tools with the evidence that the item needs.

    Grain: one row per group; failed traces, those without a tool call and those whose entities are
    not known are left out; trials are averaged within their item.

    R, the needed entities of an item, is the list under the key `entities` of its metadata, or its
    target, cut at line ends, semicolons and commas that a space follows. O is what the model was
    told after its first words: results of tools, and by the text protocol the user's observations.
    An entity counts once, letter case aside and as whole words; whether a search or a visit brought
    it is not distinguished. T is the number of tool calls. Means are of the traces' own rates.

    Finding is not answering: the pass rates with everything found and with something missing tell
    search from reasoning. Intervals: rates Wilson's with the effective number of items, else t ·
    SE, of amounts corrected for skewness (Hall 1992), clustered by item.
    """
    rows = per_trace.fetch(
        frame,
        by,
        ("n_tool_calls",),
        texts=_TEXTS,
        flags=("passed",),
        transform=_reader(options["entities"]),
    )
    done, dropped = per_trace.keep_passing(rows, {"failed traces": ~pl.col("_failed")})
    schema = {c: done.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    groups = done.select(by).unique()
    known, gone = per_trace.keep_passing(
        done,
        {
            "traces without a tool call": pl.col("_n_tool_calls") > 0,
            f"traces whose item has no {options['entities']}, or nothing read": pl.col(
                "n_found"
            ).is_not_null(),
        },
    )
    rows_of_groups = [
        dict(zip(by, key, strict=True)) | _row(part, options)
        for key, part in per_trace.parts(known, by)
    ]
    silent = groups.join(known.select(by).unique(), on=list(by), how="anti", nulls_equal=True)
    rows_of_groups += [
        row | {"n_items": 0, "n": 0}
        for row in silent.sort(by, nulls_last=True).iter_rows(named=True)
    ]
    return Answer(
        pl.DataFrame([dict.fromkeys(schema) | row for row in rows_of_groups], schema=schema),
        dropped=dropped | gone,
    )


def _reader(key: str) -> engine.PieceTransform:
    """Make a reader of texts that counts entities: `n_found` of `n_needed`; null where unknown."""
    target_columns = ["_target", "_item_metadata"]

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        kinds = rows.select(target_columns).unique().with_row_index("kind")
        needed = [
            sorted(
                entities(target, None, key)
                if key == "target" and target is not None
                else entities(None, metadata, key)
            )
            for target, metadata in kinds.select(target_columns).iter_rows()
        ]
        read_text = pl.when(~pl.col("_failed") & (pl.col("_n_tool_calls") > 0)).then("_read_text")
        rows = rows.with_columns(_read_text=read_text).join(
            kinds, on=target_columns, how="left", nulls_equal=True, maintain_order="left"
        )
        # Rows repeat each other: every text is read once for what is needed of it.
        keys = ["_read_text", "kind"]
        pairs = rows.select(keys).unique()
        spaced = [any(" " in entity for entity in entities_) for entities_ in needed]
        counts = [
            None
            if text is None or not needed[k]
            else _count(plain(text) if spaced[k] else text.casefold(), needed[k])
            for text, k in pairs.iter_rows()
        ]
        counted = pairs.with_columns(pl.Series("n_found", counts, pl.Int32))
        rows = rows.join(counted, on=keys, how="left", nulls_equal=True, maintain_order="left")
        sizes = pl.Series("n_needed", [len(e) for e in needed], pl.Int32).gather(rows["kind"])
        return rows.drop("kind", *(f"_{c}" for c in _TEXTS)).with_columns(sizes)

    return read


def _count(text: str, needed: Sequence[str]) -> int:
    """Count the entities that stand in a text; white space matters where one of them has any."""
    count = 0
    for entity in needed:
        if contains_words(entity, text):
            count += 1
    return count


def entities(target: str | None, metadata: str | None, key: str) -> set[str]:
    """List what an item needs, each in lower case and with single spaces."""
    listed: list[Any] = []
    if target is not None:
        listed = re.split(r"[;\n]|,\s", target)
    elif metadata:
        try:
            value = json.loads(metadata).get(key)
        except (ValueError, AttributeError):
            value = None
        listed = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    named = {plain(str(e)).strip(" .") for e in listed}
    return named - {""}


def _row(part: pl.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    level = options["level"]
    right = pl.col("_passed").cast(pl.Float64)
    rate = pl.col("n_found") / pl.col("n_needed")
    per_call = pl.col("n_found") / pl.col("_n_tool_calls")
    whole = pl.col("n_found") == pl.col("n_needed")
    items = by_item(
        part.with_columns(
            rate=rate,
            per_call=per_call,
            whole=whole,
            kept=(rate > options["least_rate"]) & (per_call > options["least_efficiency"]),
            with_all=pl.when(whole).then(right),
            without=pl.when(~whole).then(right),
        ),
        ("rate", "per_call", "whole", "kept", "with_all", "without"),
    )
    codes = items["_code"].to_numpy()
    values = {c: items[c].fill_null(np.nan).to_numpy() for c in items.columns[2:]}
    row: dict[str, Any] = {"n_items": items.height, "n": part.height}
    shares = {
        "seeking_rate": "rate",
        "all_found_rate": "whole",
        "kept_rate": "kept",
        "right_when_found": "with_all",
        "right_when_missing": "without",
    }
    for name, column in shares.items():
        row |= ratios.figures(name, ratios.share(values[column], codes, level))
    row |= ratios.figures(
        "seeking_efficiency", ratios.mean(values["per_call"], codes, level, ratios.AMOUNT)
    )
    total = float(part["n_found"].sum())
    row["calls_per_entity"] = float(part["_n_tool_calls"].sum()) / total if total else None
    return row
