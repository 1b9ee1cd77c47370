"""The SQL of the stable views, and the one formula for cost."""

from workbench.prices import BUNDLED

_BUCKETS = (
    "coalesce(c.cache_read_tokens, 0)",
    "coalesce(c.cache_write_5m_tokens, 0)",
    "coalesce(c.cache_write_1h_tokens, 0)",
)
_THINKING = "coalesce(c.reasoning_tokens, 0)"

FRESH_INPUT = f"(c.input_tokens - {' - '.join(_BUCKETS)})"
# a cached token without a price of its own is billed as fresh input, as genai-prices does
COST = f"""CASE
  WHEN p.machine_usd_per_hour IS NOT NULL THEN c.machine_s * p.machine_usd_per_hour / 3600
  ELSE ({FRESH_INPUT} * p.input_usd_per_mtok
    + {_BUCKETS[0]} * coalesce(p.cache_read_usd_per_mtok, p.input_usd_per_mtok)
    + {_BUCKETS[1]} * coalesce(p.cache_write_5m_usd_per_mtok, p.input_usd_per_mtok)
    + {_BUCKETS[2]} * coalesce(p.cache_write_1h_usd_per_mtok, p.input_usd_per_mtok)
    + (c.output_tokens - {_THINKING}) * p.output_usd_per_mtok
    + {_THINKING} * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)) / 1e6
    + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END"""
REASONING_COST = (
    "c.reasoning_tokens * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok) / 1e6"
)


def known_sum(value: str, where: str) -> str:
    """Sum over the calls of a role, null as soon as one that answered lacks the value."""
    unknown = f"bool_or({value} IS NULL AND c.error_type IS NULL) FILTER ({where})"
    return f"CASE WHEN NOT {unknown} THEN sum({value}) FILTER ({where}) END"


_SUBJECT, _JUDGE = "c.role <> 'judge'", "c.role = 'judge'"


def totals(calls: str) -> str:
    """Sum calls to one row per trace: the derived columns of `traces`.

    The writer uses it when rows arrive and when prices change; `workbench doctor` compares.
    """
    short, long = "c.cache_write_5m_tokens", "c.cache_write_1h_tokens"
    write = f"CASE WHEN coalesce({short}, {long}) IS NOT NULL THEN coalesce({short}, 0) + coalesce({long}, 0) END"
    sums = {
        "input_tokens": known_sum("c.input_tokens", _SUBJECT),
        "cache_read_tokens": known_sum("c.cache_read_tokens", _SUBJECT),
        "cache_write_tokens": known_sum(write, _SUBJECT),
        "output_tokens": known_sum("c.output_tokens", _SUBJECT),
        "reasoning_tokens": known_sum("c.reasoning_tokens", _SUBJECT),
        "judge_input_tokens": known_sum("c.input_tokens", _JUDGE),
        "judge_output_tokens": known_sum("c.output_tokens", _JUDGE),
        "cost_usd": known_sum(COST, _SUBJECT),
        "reasoning_cost_usd": known_sum(REASONING_COST, _SUBJECT),
        "judge_cost_usd": known_sum(COST, _JUDGE),
        "billed_cost_usd": known_sum("c.billed_cost_usd", "true"),
        "energy_j": known_sum("c.energy_j", _SUBJECT),
        "machine_s": known_sum("c.machine_s", _SUBJECT),
        "ttft_s": f"arg_min(c.ttft_s, c.ordinal) FILTER ({_SUBJECT})",
        "answer_start_s": f"CASE WHEN count(*) FILTER ({_SUBJECT}) = 1 THEN min(c.answer_start_s) FILTER ({_SUBJECT}) END",
        "price_id": f"arg_min(c.price_id, c.ordinal) FILTER ({_SUBJECT})",
        "n_calls": f"count(*) FILTER ({_SUBJECT})",
    }
    columns = ",\n  ".join(f"{sql} AS {name}" for name, sql in sums.items())
    return f"SELECT c.trace_id,\n  {columns}\nFROM {calls} c LEFT JOIN prices p USING (price_id)\nGROUP BY c.trace_id"


_NAMES = """f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd,
  p.input_usd_per_mtok, p.output_usd_per_mtok"""
_JOINS = """LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id)
LEFT JOIN prices p USING (price_id)"""

TRACE_FACTS = f"""SELECT x.*, {_NAMES},
  x.output_tokens - x.reasoning_tokens AS visible_tokens, r.origin, r.source
FROM traces x
{_JOINS}
LEFT JOIN runs r USING (run_id)"""

CALL_FACTS = f"""SELECT c.* EXCLUDE (provider, model), {_NAMES},
  c.model AS call_model, c.provider AS call_provider,
  {FRESH_INPUT} AS fresh_input_tokens,
  c.output_tokens - c.reasoning_tokens AS visible_tokens,
  {COST} AS cost_usd, {REASONING_COST} AS reasoning_cost_usd,
  CASE WHEN c.output_tokens > 1 THEN (c.e2e_s - c.ttft_s) / (c.output_tokens - 1) END AS tpot_s,
  CASE WHEN c.e2e_s > 0 THEN c.output_tokens / c.e2e_s END AS output_tokens_per_s
FROM calls c
{_JOINS}"""

RUN_SUMMARY = """SELECT r.run_id, r.kind, r.source, r.origin, r.status, r.started_at, r.ended_at, r.n_planned,
  count(x.trace_id) AS n_traces,
  count(x.error_type) AS n_errors,
  count(x.passed) AS n_scored,
  count(*) FILTER (x.passed) AS n_passed,
  count(DISTINCT x.configuration_id) AS n_configurations,
  count(DISTINCT x.item_id) AS n_items,
  coalesce(sum(x.n_calls), 0)::BIGINT AS n_calls,
  sum(x.input_tokens)::BIGINT AS input_tokens,
  sum(x.output_tokens)::BIGINT AS output_tokens,
  sum(x.reasoning_tokens)::BIGINT AS reasoning_tokens,
  sum(x.cost_usd) AS cost_usd,
  count(x.trace_id) - count(x.cost_usd) AS n_unpriced,
  sum(x.billed_cost_usd) AS billed_cost_usd,
  sum(x.energy_j) AS energy_j
FROM runs r LEFT JOIN traces x USING (run_id)
GROUP BY ALL"""

# name → when it holds, and the numbers that contradict each other
_FAULTS = {
    "negative_count": (
        "least(c.input_tokens, c.output_tokens, c.reasoning_tokens, c.cache_read_tokens) < 0",
        "'input ' || c.input_tokens || ', output ' || c.output_tokens",
    ),
    "cached_over_input": (
        f"{' + '.join(_BUCKETS)} > c.input_tokens",
        f"'cached ' || ({' + '.join(_BUCKETS)}) || ' > input ' || c.input_tokens",
    ),
    "thinking_over_output": (
        "c.reasoning_tokens > c.output_tokens",
        "'thinking ' || c.reasoning_tokens || ' > output ' || c.output_tokens",
    ),
    "total_differs": (
        "c.total_tokens <> c.input_tokens + c.output_tokens",
        "'input ' || c.input_tokens || ' + output ' || c.output_tokens || ' <> total ' || c.total_tokens",
    ),
    "half_reported": (
        "c.error_type IS NULL AND (c.input_tokens IS NULL) <> (c.output_tokens IS NULL)",
        "'input ' || coalesce(c.input_tokens::VARCHAR, '—') || ', output ' || coalesce(c.output_tokens::VARCHAR, '—')",
    ),
    "no_output_but_text": (
        "c.output_tokens = 0 AND c.n_chunks > 0",
        "'output 0 in ' || c.n_chunks || ' chunks of text'",
    ),
    "times_out_of_order": (
        "c.ttft_s > c.e2e_s OR c.answer_start_s < c.ttft_s OR c.e2e_s < 0",
        "'first token ' || coalesce(c.ttft_s::VARCHAR, '—') || ' s, answer ' || coalesce(c.answer_start_s::VARCHAR, '—') || ' s, end ' || coalesce(c.e2e_s::VARCHAR, '—') || ' s'",
    ),
    "billed_differs": (
        f"abs(c.billed_cost_usd - {COST}) > greatest(0.01 * c.billed_cost_usd, 1e-6)",
        f"'billed $' || c.billed_cost_usd || ', priced $' || {COST}",
    ),
}
USAGE_FAULTS = """SELECT call_id, trace_id, run_id, configuration, fault.name AS fault, fault.detail AS detail
FROM (SELECT c.call_id, c.trace_id, c.run_id, f.configuration, unnest(list_filter([
{rules}
], lambda x: x.broken)) AS fault
FROM calls c LEFT JOIN configurations f USING (configuration_id) LEFT JOIN prices p USING (price_id)
WHERE {any_rule})""".format(
    rules=",\n".join(
        f"  {{'name': '{name}', 'broken': coalesce({broken}, false), 'detail': {detail}}}"
        for name, (broken, detail) in _FAULTS.items()
    ),
    any_rule=" OR ".join(f"({broken})" for broken, _ in _FAULTS.values()),
)

RESULT_FACTS = """SELECT r.*, f.configuration, f.model, f.provider, f.strategy, f.effort,
  f.thinking_budget_tokens, t.task, x.origin
FROM results r
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN runs x USING (run_id)"""

VIEWS = {
    "trace_facts": TRACE_FACTS,
    "call_facts": CALL_FACTS,
    "run_summary": RUN_SUMMARY,
    "usage_faults": USAGE_FAULTS,
    "result_facts": RESULT_FACTS,
}


def resolve_prices(calls: str) -> str:
    """Find the price row in force for each call: `row_number`, `price_id`.

    `calls` names a relation with row_number, provider, model, machine, at (the moment) and
    input_tokens. Among the rows that apply the order is the one of `prices.PriceBook`: a sheet of the
    user's before the bundled one, a machine's hour, a named provider, a time of day, the latest
    start, the highest tier.
    """
    rank = f"""row_number() OVER (ORDER BY NOT starts_with(sheet, '{BUNDLED}'),
    machine_usd_per_hour IS NOT NULL, provider IS NOT NULL, daily_from IS NOT NULL,
    starts_at NULLS FIRST, min_input_tokens, price_id)"""
    return f"""WITH moments AS MATERIALIZED (FROM {calls}), ranked AS (SELECT *, {rank} AS place FROM prices),
wanted AS (SELECT DISTINCT provider, model, machine FROM moments),
offered AS (
  SELECT w.provider AS w_provider, w.model AS w_model, w.machine AS w_machine, r.*
  FROM wanted w JOIN ranked r ON r.model = w.model OR r.model = w.machine
  WHERE r.provider IS NULL OR r.provider = w.provider)
SELECT c.row_number, arg_max(o.price_id, o.place) AS price_id
FROM moments c JOIN offered o
  ON c.provider IS NOT DISTINCT FROM o.w_provider AND c.model IS NOT DISTINCT FROM o.w_model
  AND c.machine IS NOT DISTINCT FROM o.w_machine
WHERE (o.min_input_tokens = 0 OR c.input_tokens > o.min_input_tokens)
  AND (o.starts_at IS NULL OR c.at >= o.starts_at)
  AND (o.ends_at IS NULL OR c.at < o.ends_at)
  AND (o.daily_from IS NULL OR CASE WHEN o.daily_from <= o.daily_to
    THEN strftime(c.at, '%H:%M:%S') >= o.daily_from AND strftime(c.at, '%H:%M:%S') < o.daily_to
    ELSE strftime(c.at, '%H:%M:%S') >= o.daily_from OR strftime(c.at, '%H:%M:%S') < o.daily_to END)
GROUP BY c.row_number"""
