"""What machines did: published tables, servers of so many slots, readings of energy."""

import datetime as dt

import polars as pl

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)  # as the store has it


METRICS = {
    "energy_per_token_j": "energy_per_token_joules",
    "energy_per_request_j": "energy_per_request_joules",
    "power_w": "avg_power_watts",
    "mean_output_tokens": "avg_output_len",
    "output_tokens_per_s": "output_throughput_tokens_per_sec",
    "batch_size": "avg_batch_size",
    "max_batch_size": "max_num_seqs",
}


FAMILY = ("model_id", "gpu_model", "num_gpus", "weight_precision")


def published(rows: list[dict], *, without: tuple[str, ...] = ()) -> pl.DataFrame:
    """Rows of a results table: a metric a row."""
    return pl.DataFrame(
        [
            {"configuration": str(i), "metric": ours, "value": float(r[theirs])}
            | {c: str(r[c]) for c in FAMILY}
            for i, r in enumerate(rows)
            for ours, theirs in METRICS.items()
            if ours not in without
        ]
    )


def served(n: int = 40, most: int = 4, seconds: float = 2.0, joules: float = 10.0) -> pl.DataFrame:
    """A server of `most` slots, every request alike: half a second to the first of 100 tokens."""
    return pl.DataFrame(
        [
            {
                "configuration": "a",
                "run_id": "r",
                "item_id": str(i),
                "call_id": str(i),
                "role": "subject",
                "started_at": START + dt.timedelta(seconds=(i // most) * seconds),
                "ttft_s": 0.5,
                "e2e_s": seconds,
                "output_tokens": 100,
                "energy_j": joules,
                "error_type": None,
            }
            for i in range(n)
        ],
        schema_overrides={"error_type": pl.String, "energy_j": pl.Float64},
    )


def reading(item: str, phase: str | None, joules: float | None, **more) -> dict:
    """A row of energy_facts: 100 prompt tokens, 50 output, 30 of them thinking."""
    named = {
        "configuration": "a",
        "task": "t",
        "task_id": "t",
        "item_id": item,
        "trace_id": item,
        "call_id": item,
    }
    named |= {
        "device": "gpu:0",
        "phase": phase,
        "method": "measured",
        "energy_j": joules,
        "role": "subject",
    }
    named |= {"input_tokens": 100, "output_tokens": 50, "reasoning_tokens": 30}
    return named | dict.fromkeys(("full_j", "low_j", "high_j", "trace_error_type")) | more


def readings(*rows: dict) -> pl.DataFrame:
    """Rows of energy_facts."""
    types = dict.fromkeys(("energy_j", "full_j", "low_j", "high_j"), pl.Float64)
    types |= {"phase": pl.String, "trace_error_type": pl.String, "reasoning_tokens": pl.Int64}
    return pl.DataFrame(rows, schema_overrides=types)
