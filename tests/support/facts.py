"""Rows of the views that analyses take, and frames of them."""

import numpy as np
import polars as pl

from workbench.schema import TRACE_FACTS, VIEWS

DTYPES = {"text": pl.String, "json": pl.String, "int": pl.Int64, "float": pl.Float64}
DTYPES |= {"bool": pl.Boolean, "time": pl.Datetime("us")}
SCHEMA = {c.name: DTYPES[c.type] for c in TRACE_FACTS.columns}


def rows_of(view: str, *rows: dict) -> pl.DataFrame:
    """Rows of a view; what a row leaves out is unknown."""
    schema = {c.name: DTYPES[c.type] for c in VIEWS[view].columns}
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def facts(*rows: dict) -> pl.DataFrame:
    """Rows of trace_facts; what a row leaves out is unknown."""
    return rows_of("trace_facts", *rows)


def trace(group: str, item: str, passed: bool | None, trial: int = 0, **more) -> dict:
    """One trace of a group on an item."""
    named = {"configuration": group, "model": group, "task": "t", "task_id": "t", "item": item}
    return named | {"item_id": item, "trial": trial, "passed": passed, "cost_usd": 0.5} | more


def two_models(n_items: int = 12, trials: int = 2) -> pl.DataFrame:
    """Two models on the same items; b is dearer and better."""
    rng = np.random.default_rng(5)
    return facts(
        *[
            {
                "configuration": model,
                "model": model,
                "task": "t",
                "task_id": "t",
                "item": str(i),
                "item_id": f"t{i}",
                "trial": k,
                "passed": bool(rng.random() < p),
                "cost_usd": c * rng.uniform(0.5, 1.5),
                "reasoning_cost_usd": 0.4 * c,
                "input_usd_per_mtok": c,
                "output_usd_per_mtok": 3 * c,
                "e2e_s": 2.0,
            }
            for model, p, c in (("a", 0.4, 0.01), ("b", 0.8, 0.03))
            for i in range(n_items)
            for k in range(trials)
        ]
    )


def named(group: str, item: str, trial: int = 0, **more) -> dict:
    """Who and what a row is about."""
    about = {"configuration": group, "model": group, "task": "t", "task_id": "t", "item": item}
    about |= {"item_id": item, "trial": trial, "trace_id": f"{group}/{item}/{trial}"}
    return about | more


def wrote(item: str, text: str | None, passed=True, group="a", **more) -> dict:
    """A trace that wrote something visible."""
    return (
        named(group, item, output_text=text, passed=passed, input="How many legs has a cat") | more
    )


def tried(item: str, level: int | str | None, passed: bool | None = True, **more) -> dict:
    """One trace of a model at a budget or an effort."""
    column = "effort" if isinstance(level, str) else "thinking_budget_tokens"
    named = {
        "model": "m",
        "configuration": f"m {level}",
        "task": "t",
        "task_id": "t",
        column: level,
    }
    return named | {"item": item, "item_id": item, "trial": 0, "passed": passed} | more


def levels(rates: dict, n_items: int = 100, cost: float = 1.0, **more) -> list[dict]:
    """Levels with exactly these rates on the same items; the k-th level costs k times as much."""
    return [
        tried(
            str(i),
            level,
            i < round(rate * n_items),
            cost_usd=cost * (k + 1),
            energy_j=10.0 * (k + 1),
            output_tokens=100 * (k + 1),
            **more,
        )
        for k, (level, rate) in enumerate(rates.items())
        for i in range(n_items)
    ]


def row(result, **where):
    """The only row that satisfies a condition."""
    found = result.frame.filter(**where).rows(named=True)
    assert len(found) == 1
    return found[0]
