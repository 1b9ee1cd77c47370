"""Made-up rows of the views that analyses take, in any number, as Parquet that DuckDB scans.

Shaped like collected ones: 20 configurations (4 models × 5 thinking budgets) on 10 tasks, 5 trials
of every item, as many items as the number of rows asks for. Every value is a function of the row's
number, so that two runs time the same work. Only the columns that analyses read are written.
"""

from pathlib import Path

import duckdb

TRIALS, GROUPS = 5, 20
# u(n) are uniform in 0..1 and independent of each other; i is the number of the trace.
_UNIFORM = "(hash(i * 64 + {n}) % 1000003 / 1000003.0)"
_GAMMA = (
    "(-ln((1 + hash(i * 64 + {n}) % 1000003) / 1000004.0)"
    " - ln((1 + hash(i * 64 + {n} + 32) % 1000003) / 1000004.0))"
)
# what a row is computed from, and no view has
_INTERNAL = "item_no, m, b, t, ease, thinking, made, fresh_price, made_price"
_NAMES = f"""
    i % 5 AS trial, i // 5 % 20 AS g, i // 100 AS item_no,
    g // 5 AS m, g % 5 AS b, item_no % 10 AS t,
    hash(item_no * 7 + 1) % 1000003 / 1000003.0 AS ease,
    200 * (1 + g) * {_GAMMA.format(n=0)} AS thinking, thinking + 100 * {_GAMMA.format(n=1)} AS made,
    2e-1 * (1 + g % 7) AS fresh_price, 1e0 * (1 + g % 7) AS made_price
"""
_COMMON = f"""
    printf('%016x', hash(i)) AS trace_id, 'run 1' AS run_id,
    printf('configuration %02d', g) AS configuration, printf('conf%02d', g) AS configuration_id,
    'model ' || m AS model, 'bench' AS provider, 'think' AS strategy,
    CASE b WHEN 0 THEN NULL ELSE ['low', 'medium', 'high', 'max'][b] END AS effort,
    CASE b WHEN 0 THEN NULL ELSE 1000 * (1 << b) END::BIGINT AS thinking_budget_tokens,
    ['bf16', 'int8'][1 + g % 2] AS precision,
    'task ' || t AS task, 'task ' || t AS task_id, item_no::VARCHAR AS item,
    printf('%016x', hash(item_no * 3 + 1)) AS item_id,
    NULL::VARCHAR AS cluster, ease AS difficulty, 5e-1 AS value_usd, 2e0 AS human_cost_usd,
    {_UNIFORM.format(n=2)} < (0.2 + 0.04 * g) * ease AS passed, passed::DOUBLE AS score,
    fresh_price AS input_usd_per_mtok, made_price AS output_usd_per_mtok
"""
_FAILED = f"CASE WHEN {_UNIFORM.format(n=3)} < 0.01 THEN 'timeout' END"
_SPENT = f"""
    (50 + 450 * {_UNIFORM.format(n=4)})::BIGINT AS input_tokens, 0 AS cache_read_tokens,
    made::BIGINT AS output_tokens, thinking::BIGINT AS reasoning_tokens,
    output_tokens - reasoning_tokens AS visible_tokens,
    1e-6 * (input_tokens * fresh_price + output_tokens * made_price) AS cost_usd,
    0.1 * {_GAMMA.format(n=5)} AS ttft_s,
    ttft_s + thinking / 80 AS answer_start_s, ttft_s + made / 80 AS e2e_s,
    3e-1 * output_tokens AS energy_j,
    TIMESTAMP '2026-01-01' + to_milliseconds(20 * i) AS started_at
"""
_TRACES = f"""
    SELECT * EXCLUDE (g, item_no, m, b, t, ease, thinking, made, fresh_price, made_price) FROM (
    SELECT {_NAMES}, {_COMMON}, {_SPENT}, {_FAILED} AS error_type,
    NULL::DOUBLE AS billed_cost_usd, 1e-6 * reasoning_tokens * made_price AS reasoning_cost_usd,
    CASE WHEN {_UNIFORM.format(n=6)} < 0.03 THEN 'max_tokens' ELSE 'stop' END AS stop_reason,
    NULL::VARCHAR AS limit_type,
    least(1, greatest(0, 0.3 * passed::INT + 0.7 * {_UNIFORM.format(n=7)})) AS confidence,
    confidence AS verifier_score,
    1 + (4 * {_UNIFORM.format(n=8)})::BIGINT AS n_turns,
    n_turns AS n_calls, n_turns - 1 AS n_tool_calls,
    CASE WHEN passed THEN 'right' ELSE 'wrong ' || i % 3 END AS answer, NULL::VARCHAR AS metadata,
    NULL::VARCHAR AS item_metadata, 'Berlin, Paris' AS target,
    'How many of the ' || item_no || ' boxes are left over?' AS input,
    printf('{{"samples": %d}}', (1 << b)::INT) AS strategy_params,
    'first of all we count ' || i % 1000 AS thinking_text,
    'so the answer is ' || answer AS output_text,
    'they say that Berlin has ' || i % 100 AS read_text
    FROM (SELECT range AS i FROM range(ROWS)))
"""
# Two calls per trace: i is the number of the trace, j of the call.
_CALLS = f"""
    SELECT * EXCLUDE (i, j, g, {_INTERNAL}) FROM (
    SELECT j // 2 AS i, {_NAMES}, {_COMMON}, {_SPENT}, {_FAILED} AS trace_error_type,
    trace_error_type AS error_type, j % 2 AS ordinal,
    printf('%016x', hash(-j)) AS call_id, 'subject' AS role,
    2 AS n_turns, 1 AS n_calls, -4e-1 * output_tokens AS logprob_sum,
    output_tokens / e2e_s AS output_tokens_per_s, j
    FROM (SELECT range AS j FROM range(ROWS)))
"""
_TOOLS = f"""
    SELECT * EXCLUDE (i, j, g, {_INTERNAL}) FROM (
    SELECT j // 2 AS i, {_NAMES}, {_COMMON}, {_FAILED} AS trace_error_type,
    j % 2 AS ordinal, printf('%016x', hash(-j)) AS tool_call_id,
    ['search', 'python', 'open'][1 + j % 3] AS tool,
    printf('{{"q": "%d"}}', j % 7) AS arguments,
    CASE WHEN j % 29 = 0 THEN 'timeout' END AS error_type,
    5e-1 + j % 10 / 10 AS e2e_s,
    100 + j % 50 AS result_tokens, 400 + j % 90 AS result_bytes, 1e-3 AS cost_usd,
    made::BIGINT AS output_tokens, (0.3 * made)::BIGINT AS opening_tokens,
    CASE WHEN passed THEN 'right' ELSE 'wrong ' || i % 3 END AS answer,
    'How many of the ' || item_no || ' boxes are left over?' AS input,
    'let us look it up, it may be wrong ' || i % 5 AS opening_text, j
    FROM (SELECT range AS j FROM range(ROWS)))
"""
_ENERGY = f"""
    SELECT * EXCLUDE (i, j, g, {_INTERNAL}) FROM (
    SELECT j // 2 AS i, {_NAMES}, {_COMMON}, {_SPENT}, {_FAILED} AS trace_error_type,
    printf('%016x', hash(-i)) AS call_id, 'gpu0' AS device, 'subject' AS role,
    ['prefill', 'answer'][1 + j % 2] AS phase, 'measured' AS method,
    9e-1 * energy_j AS low_j, 11e-1 * energy_j AS high_j, 13e-1 * energy_j AS full_j, j
    FROM (SELECT range AS j FROM range(ROWS)))
"""
_SQL = {"traces": _TRACES, "calls": _CALLS, "tools": _TOOLS, "energy": _ENERGY}
FILES = {
    "trace_facts": "traces",
    "trace_details": "traces",
    "trace_texts": "traces",
    "call_facts": "calls",
    "call_outcomes": "calls",
    "call_costs": "calls",
    "tool_uses": "tools",
    "tool_facts": "tools",
    "energy_facts": "energy",
}


def path(folder: Path, view: str, n: int) -> Path:
    """Give the file of n rows of a view; it is written where it is not there yet."""
    name = FILES[view]
    target = folder / f"{name}_{n}.parquet"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        with duckdb.connect() as connection:
            connection.execute("SET preserve_insertion_order = false")
            connection.execute("SET memory_limit = '4GB'")
            query = _SQL[name].replace("ROWS", str(n))
            connection.execute(f"COPY ({query}) TO '{part}' (FORMAT parquet)")
        part.rename(target)
    return target
