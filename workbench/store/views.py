"""The SQL of the stable views, and the one formula for cost."""

from collections.abc import Iterable

from workbench.prices import AS_TEXT, BATCH, BUNDLED, MEDIA_RATES
from workbench.records import NOT_RUN
from workbench.schema import APART
from workbench.tokens import COUNTS, MEDIA, PARTS, is_media

_BUCKETS = (
    "coalesce(c.cache_read_tokens, 0)",
    "coalesce(c.cache_write_5m_tokens, 0)",
    "coalesce(c.cache_write_1h_tokens, 0)",
)
_THINKING = "coalesce(c.reasoning_tokens, 0)"
# not 1e6, which the engine writes in one way for files of DuckDB 1.5 and in another for those of 2
_MILLION = "CAST(1000000 AS DOUBLE)"

FRESH_INPUT = f"(c.input_tokens - {' - '.join(_BUCKETS)})"


def _zero(column: str) -> str:
    return f"coalesce({column}, 0)"


def _priced(tokens: str, rate: str) -> str:
    """Write the cost of a bucket of tokens; an empty one costs 0, even at an unknown price."""
    return f"coalesce({tokens} * {rate}, CASE WHEN {tokens} = 0 THEN 0 END)"


def _sum_of(parts: Iterable[str]) -> str:
    return " + ".join(_zero(f"c.{part}") for part in parts)


# `tokens.contradiction` in SQL
_NEGATIVE = f"least({', '.join(f'c.{name}' for name in COUNTS)}) < 0"
_OVER = [(parts, f"{_sum_of(parts)} > c.{whole}") for whole, parts in PARTS]
CONTRADICTORY = " OR ".join((_NEGATIVE, *(rule for _, rule in _OVER)))
_MEDIA_IN, _MEDIA_OUT = (
    _sum_of(f"{part}_{kind}_tokens" for kind in MEDIA) for part in ("input", "output")
)
_HAS_MEDIA = f"coalesce({', '.join(f'c.{name}' for name in COUNTS if is_media(name))}) IS NOT NULL"

_TEXT_IN = "p.input_usd_per_mtok"
_TEXT_OUT = "p.output_usd_per_mtok"
# a cached token without a price of its own is billed as fresh input, as genai-prices does
_WRITTEN_AND_THOUGHT = (
    _priced(_BUCKETS[1], f"coalesce(p.cache_write_5m_usd_per_mtok, {_TEXT_IN})"),
    _priced(_BUCKETS[2], f"coalesce(p.cache_write_1h_usd_per_mtok, {_TEXT_IN})"),
    _priced(_THINKING, f"coalesce(p.reasoning_usd_per_mtok, {_TEXT_OUT})"),
)
_CACHED_RATE = f"coalesce(p.cache_read_usd_per_mtok, {_TEXT_IN})"
# calls of text alone with both prices known: nearly all calls, so the formula is kept short
_TEXT_ALONE = f"""{FRESH_INPUT} * {_TEXT_IN} + {_BUCKETS[0]} * {_CACHED_RATE}
    + {_BUCKETS[1]} * coalesce(p.cache_write_5m_usd_per_mtok, {_TEXT_IN})
    + {_BUCKETS[2]} * coalesce(p.cache_write_1h_usd_per_mtok, {_TEXT_IN})
    + (c.output_tokens - {_THINKING}) * {_TEXT_OUT}
    + {_THINKING} * coalesce(p.reasoning_usd_per_mtok, {_TEXT_OUT})"""
# what is left of a whole is below 0 where its parts are more
_TEXT_BROKEN = (
    f"least({FRESH_INPUT}, c.output_tokens - {_THINKING}, {', '.join(_BUCKETS)}, {_THINKING}) < 0"
)


def _every_bucket() -> str:
    """Write the cost of calls with any kinds of tokens; `prices.cost` in SQL."""
    fresh = FRESH_INPUT
    read = _BUCKETS[0]
    visible = f"c.output_tokens - {_THINKING}"
    parts = list(_WRITTEN_AND_THOUGHT)
    unknown = []
    for kind in MEDIA:
        given, cached, produced = (
            _zero(f"c.{part}_{kind}_tokens") for part in ("input", "cache_read", "output")
        )
        rate = f"p.input_{kind}_usd_per_mtok"
        if kind in AS_TEXT:
            apart = f"({rate} IS NOT NULL OR NOT starts_with(p.sheet, '{BUNDLED}'))"
            given, cached = (f"CASE WHEN {apart} THEN {n} ELSE 0 END" for n in (given, cached))
        cached_rate = f"coalesce(p.cache_read_{kind}_usd_per_mtok, {rate})"
        parts += [
            _priced(f"({given} - {cached})", rate),
            _priced(f"({cached})", cached_rate),
            _priced(produced, f"p.output_{kind}_usd_per_mtok"),
        ]
        unknown.append(f"({given} > 0 AND c.cache_read_{kind}_tokens IS NULL)")
        fresh = f"{fresh} - ({given}) + ({cached})"
        read = f"{read} - ({cached})"
        visible = f"{visible} - {produced}"
    parts += [
        _priced(f"({fresh})", _TEXT_IN),
        _priced(f"({read})", _CACHED_RATE),
        _priced(f"({visible})", _TEXT_OUT),
    ]
    mixed = f"{_BUCKETS[0]} > 0 AND ({' OR '.join(unknown)})"
    none = f"p.price_id IS NULL OR {CONTRADICTORY} OR {mixed} OR {fresh} < 0"
    return f"CASE WHEN {none} THEN NULL ELSE ({' + '.join(parts)}) END"


COST = f"""CASE
  WHEN p.machine_usd_per_hour IS NOT NULL
    THEN CASE WHEN c.machine_s >= 0 THEN c.machine_s * p.machine_usd_per_hour / 3600 END
  WHEN {_TEXT_BROKEN} THEN NULL
  ELSE CASE WHEN {_HAS_MEDIA} OR {_TEXT_IN} IS NULL OR {_TEXT_OUT} IS NULL THEN {_every_bucket()}
    ELSE {_TEXT_ALONE} END / {_MILLION} + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END"""
REASONING_COST = f"""CASE WHEN {_TEXT_BROKEN} OR ({_HAS_MEDIA} AND ({CONTRADICTORY})) THEN NULL
  ELSE c.reasoning_tokens * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)
    / {_MILLION} END"""

# A request that broke off and was made again was paid for, but it is no part of what the model did.
_BROKEN = "c.retried_as IS NOT NULL"
_WHOLE = "c.retried_as IS NULL"
_SUBJECT = f"c.role NOT IN {APART}"
_JUDGE = "c.role = 'judge'"
_ANY = "true"
_OWN = f"{_SUBJECT} AND {_WHOLE}"
_JUDGED = f"{_JUDGE} AND {_WHOLE}"
_SHORT = "c.cache_write_5m_tokens"
_LONG = "c.cache_write_1h_tokens"
_WRITTEN = (
    f"CASE WHEN coalesce({_SHORT}, {_LONG}) IS NOT NULL "
    f"THEN coalesce({_SHORT}, 0) + coalesce({_LONG}, 0) END"
)
_ALL_TOKENS = "coalesce(c.input_tokens + c.output_tokens, c.total_tokens)"
# derived column of `traces` → how many calls there are of a kind
_COUNTS = {
    "n_calls": _OWN,
    "n_broken": _BROKEN,
    "n_broken_unknown": f"{_BROKEN} AND {_ALL_TOKENS} IS NULL",
}
# The formula stands once in a query: written out in every sum it took 0.1 s to plan.
_COSTED = f"""SELECT c.*, {COST} AS call_cost_usd, {REASONING_COST} AS call_reasoning_cost_usd
  FROM {{calls}} c LEFT JOIN prices p USING (price_id)"""
# derived column of `traces` → what is summed over which calls
_SUMS = {
    "input_tokens": ("c.input_tokens", _OWN),
    "cache_read_tokens": ("c.cache_read_tokens", _OWN),
    "cache_write_tokens": (_WRITTEN, _OWN),
    "output_tokens": ("c.output_tokens", _OWN),
    "reasoning_tokens": ("c.reasoning_tokens", _OWN),
    "judge_input_tokens": ("c.input_tokens", _JUDGED),
    "judge_output_tokens": ("c.output_tokens", _JUDGED),
    "cost_usd": ("c.call_cost_usd", _SUBJECT),
    "reasoning_cost_usd": ("c.call_reasoning_cost_usd", _SUBJECT),
    "judge_cost_usd": ("c.call_cost_usd", _JUDGE),
    "billed_cost_usd": ("c.billed_cost_usd", _ANY),
    "energy_j": ("c.energy_j", _SUBJECT),
    "machine_s": ("c.machine_s", _SUBJECT),
    "broken_tokens": (_ALL_TOKENS, _BROKEN),
    "broken_cost_usd": ("c.call_cost_usd", _BROKEN),
}
# … → what the first of the subject's calls says
_FIRSTS = ("ttft_s", "price_id")
PRICED = ("cost_usd", "reasoning_cost_usd", "judge_cost_usd", "broken_cost_usd", "price_id")
TOTALS = (*_SUMS, *_FIRSTS, "answer_start_s", *_COUNTS)


def totals(calls: str, *, single: bool = False) -> str:
    """Sum calls to one row per trace: the derived columns of `traces`.

    A sum is null as soon as a call that answered lacks the value: part of a sum is no sum. The
    writer uses this when rows arrive and when prices change; `workbench doctor` compares.

    Args:
        calls: a relation with the columns of `calls`.
        single: every trace has just one call there, so that nothing needs grouping.
    """
    if single:
        columns = {
            name: f"CASE WHEN {where} THEN {value} END" for name, (value, where) in _SUMS.items()
        }
        columns |= {
            name: f"CASE WHEN {_OWN} THEN c.{name} END" for name in (*_FIRSTS, "answer_start_s")
        }
        columns |= {name: f"({where})::BIGINT" for name, where in _COUNTS.items()}
    else:
        columns = {name: _known_sum(value, where) for name, (value, where) in _SUMS.items()}
        columns |= {name: f"arg_min(c.{name}, c.ordinal) FILTER ({_OWN})" for name in _FIRSTS}
        alone = f"count(*) FILTER ({_OWN}) = 1"
        columns["answer_start_s"] = (
            f"CASE WHEN {alone} THEN min(c.answer_start_s) FILTER ({_OWN}) END"
        )
        columns |= {name: f"count(*) FILTER ({where})" for name, where in _COUNTS.items()}
    chosen = ",\n  ".join(f"{sql} AS {name}" for name, sql in columns.items())
    group = "" if single else "\nGROUP BY c.trace_id"
    return f"SELECT c.trace_id,\n  {chosen}\nFROM ({_COSTED.format(calls=calls)}) c{group}"


def _known_sum(value: str, where: str) -> str:
    unknown = f"bool_or({value} IS NULL AND c.error_type IS NULL) FILTER ({where})"
    return f"CASE WHEN NOT {unknown} THEN sum({value}) FILTER ({where}) END"


_NAMES = """f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, f.canonical_model, f.top_p, f.max_tokens,
  t.task, t.version AS task_version, i.item, i.cluster,
  i.difficulty, i.value_usd, i.human_cost_usd, p.input_usd_per_mtok, p.output_usd_per_mtok"""
_JOINS = """LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id)
LEFT JOIN prices p USING (price_id)"""

# where an agent worked, as its source says it in the metadata of the trace
_PLACES = {
    "project": ("project", "cwd"),
    "branch": ("branch", "gitBranch"),
    "session": ("session",),
    "agent": ("agent",),
}


def _places(metadata: str) -> str:
    columns = []
    for name, keys in _PLACES.items():
        values = ", ".join(f"{metadata} ->> '$.{key}'" for key in keys)
        columns.append(f"coalesce({values}) AS {name}")
    return ",\n  ".join(columns)


TRACE_FACTS = f"""SELECT x.*, {_NAMES}, f.machine,
  x.output_tokens - x.reasoning_tokens AS visible_tokens, r.origin, r.source,
  {_places("x.metadata")}
FROM traces x
{_JOINS}
LEFT JOIN runs r USING (run_id)"""

TRACE_DETAILS = """SELECT x.*, i.input, f.strategy_params, i.target, i.metadata AS item_metadata
FROM trace_facts x
LEFT JOIN items i USING (item_id)
LEFT JOIN configurations f USING (configuration_id)"""

# Worked examples are sent in the role of the assistant. Of the messages of a call, the model wrote
# the last one of each kind, after all messages of other roles; results of its tools may follow,
# where the source counts them to the call that requested them. Sources without calls record no
# examples.
_AFTER = """m.role = 'assistant' AND m.ordinal > coalesce(
    max(m.ordinal) FILTER (m.role <> 'assistant' AND m.kind <> 'tool_result') OVER call, -1)"""
_SAID = f"""SELECT m.*, {_AFTER} AS is_after,
  m.role = 'assistant' AND m.kind IN ('text', 'thinking') AND (m.call_id IS NULL OR ({_AFTER}
    AND m.ordinal = max(m.ordinal)
      OVER (PARTITION BY m.trace_id, m.call_id, m.role, m.kind))) AS said
FROM messages m WINDOW call AS (PARTITION BY m.trace_id, m.call_id)"""

# The messages of a trace ($id), and whether each one carries figures of its call: the thinking
# message carries those of the thinking; the answer, or else the first tool call, carries the
# others. Worked examples carry none.
MESSAGES = f"""SELECT *, call_id IS NOT NULL AND (said OR coalesce(is_after AND kind = 'tool_call'
    AND ordinal = min(ordinal) FILTER (is_after AND kind = 'tool_call') OVER call
    AND NOT bool_or(said AND kind = 'text') OVER call, false)) AS is_bearer
FROM ({_SAID}) WHERE trace_id = $id WINDOW call AS (PARTITION BY call_id)"""

TRACE_TEXTS = f"""SELECT x.*, w.thinking_text, w.output_text, w.read_text
FROM trace_details x LEFT JOIN (
  SELECT s.trace_id,
    string_agg(b.text, chr(10) ORDER BY s.ordinal)
      FILTER (s.said AND s.kind = 'thinking') AS thinking_text,
    string_agg(b.text, chr(10) ORDER BY s.ordinal)
      FILTER (s.said AND s.kind = 'text') AS output_text,
    string_agg(b.text, chr(10) ORDER BY s.ordinal)
      FILTER (s.role IN ('tool', 'user') AND s.ordinal > s.first_said) AS read_text
  FROM (SELECT *, min(ordinal) FILTER (said OR kind = 'tool_call')
      OVER (PARTITION BY trace_id) AS first_said
    FROM ({_SAID})) s
  LEFT JOIN contents b USING (content_id) GROUP BY s.trace_id) w USING (trace_id)"""

# the pace of a sum over several requests is no request's
_ALONE = "coalesce(c.n_requests, 1) <= 1"

CALL_FACTS = f"""SELECT c.* EXCLUDE (provider, model), {_NAMES},
  c.model AS call_model, c.provider AS call_provider,
  {FRESH_INPUT} AS fresh_input_tokens,
  c.output_tokens - c.reasoning_tokens AS visible_tokens,
  {COST} AS cost_usd, {REASONING_COST} AS reasoning_cost_usd,
  CASE WHEN c.output_tokens > 1 AND c.ttft_s <= c.e2e_s AND {_ALONE}
    THEN (c.e2e_s - c.ttft_s) / (c.output_tokens - 1) END AS tpot_s,
  CASE WHEN c.e2e_s > 0 AND {_ALONE} THEN c.output_tokens / c.e2e_s END AS output_tokens_per_s
FROM calls c
{_JOINS}"""

_OF_TRACE = """x.run_id, x.configuration_id, x.task_id, x.item_id, x.trial,
  x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type, x.is_replaced"""
# everything but prices: a tool, a message and a joule have none
_UNPRICED = _NAMES.replace(", p.input_usd_per_mtok, p.output_usd_per_mtok", ", f.machine")
_UNPRICED_JOINS = _JOINS.replace("\nLEFT JOIN prices p USING (price_id)", "")

CALL_OUTCOMES = f"""SELECT c.*, x.trial, x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type,
  x.is_replaced
FROM call_facts c JOIN traces x USING (trace_id)
WHERE {_WHOLE}"""

# parts of a call's cost: column → tokens, and their price where the call has one
_COST_PARTS = {
    "fresh_cost_usd": (FRESH_INPUT, _TEXT_IN),
    "cache_read_cost_usd": (_BUCKETS[0], _CACHED_RATE),
    "cache_write_5m_cost_usd": (
        _BUCKETS[1],
        f"coalesce(p.cache_write_5m_usd_per_mtok, {_TEXT_IN})",
    ),
    "cache_write_1h_cost_usd": (
        _BUCKETS[2],
        f"coalesce(p.cache_write_1h_usd_per_mtok, {_TEXT_IN})",
    ),
    "thinking_cost_usd": (_THINKING, f"coalesce(p.reasoning_usd_per_mtok, {_TEXT_OUT})"),
    "visible_cost_usd": (f"(c.output_tokens - {_THINKING})", _TEXT_OUT),
}
# Of a call with audio, images or video, or by the machine's hour, only the sum is known.
_IS_SPLIT = f"""p.machine_usd_per_hour IS NULL AND NOT ({_HAS_MEDIA}) AND c.cost_usd IS NOT NULL"""
_PART_COLUMNS = ",\n  ".join(
    f"CASE WHEN {_IS_SPLIT} THEN {_priced(tokens, rate)} / {_MILLION} END AS {name}"
    for name, (tokens, rate) in _COST_PARTS.items()
)

# A paid call of a tool is a row of its own, so that the rows of a slice add up to its bill.
CALL_COSTS = f"""SELECT c.*, NULL::VARCHAR AS tool_call_id, NULL::VARCHAR AS tool,
  x.trial, x.score, x.passed, x.n_turns, x.error_type AS trace_error_type, x.is_replaced,
  strftime(c.started_at, '%Y-%m-%d') AS day,
  CASE WHEN c.role IN ('judge', 'user') THEN c.role
    WHEN x.metadata ->> '$.agent' IS NOT NULL THEN 'sub-agent' ELSE 'main' END AS spender,
  {_places("x.metadata")},
  {_PART_COLUMNS},
  CASE WHEN {_IS_SPLIT} THEN coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1) END
    AS request_cost_usd,
  CASE WHEN p.machine_usd_per_hour IS NOT NULL THEN c.cost_usd END AS machine_cost_usd,
  {_CACHED_RATE} AS cache_read_usd_per_mtok
FROM call_facts c JOIN traces x USING (trace_id) LEFT JOIN prices p ON p.price_id = c.price_id
UNION ALL BY NAME
SELECT k.tool_call_id, k.trace_id, k.ordinal, k.started_at, k.error_type, k.cost_usd, k.tool,
  strftime(k.started_at, '%Y-%m-%d') AS day, 'tool' AS spender, {_places("x.metadata")},
  {_OF_TRACE}, {_UNPRICED.replace(", f.machine", "")}
FROM tool_calls k JOIN traces x USING (trace_id)
{_UNPRICED_JOINS}
WHERE k.cost_usd IS NOT NULL"""

TOOL_FACTS = f"""SELECT k.*, {_OF_TRACE}, {_UNPRICED}
FROM tool_calls k JOIN traces x USING (trace_id)
{_UNPRICED_JOINS}"""

TOOL_USES = f"""WITH asked AS (
  SELECT k.trace_id, arg_min(c.ordinal, k.ordinal) AS call, count(*) AS n,
    count(k.call_id) > 0 AS by_call
  FROM tool_calls k LEFT JOIN calls c USING (call_id) GROUP BY k.trace_id),
said AS (SELECT s.*, c.ordinal AS call,
    min(s.ordinal) FILTER (s.kind = 'tool_call') OVER (PARTITION BY s.trace_id) AS first_tool
  FROM ({_SAID}) s LEFT JOIN calls c USING (call_id)),
opening AS (SELECT s.trace_id,
    string_agg(b.text, chr(10) ORDER BY s.kind DESC, s.ordinal) AS opening_text
  FROM said s LEFT JOIN asked a USING (trace_id) LEFT JOIN contents b USING (content_id)
  WHERE s.said AND CASE WHEN a.n IS NULL THEN true
    WHEN a.call IS NOT NULL AND s.call IS NOT NULL THEN s.call <= a.call
    ELSE s.ordinal < s.first_tool END GROUP BY s.trace_id),
spent AS (SELECT c.trace_id, CASE WHEN count(*) = count(c.output_tokens)
    THEN sum(c.output_tokens)::BIGINT END AS opening_tokens
  FROM calls c LEFT JOIN asked a USING (trace_id)
  WHERE {_OWN} AND (a.n IS NULL OR c.ordinal <= a.call) GROUP BY c.trace_id),
told AS (SELECT m.tool_call_id, sum(b.n_bytes)::BIGINT AS n_bytes
  FROM messages m JOIN contents b USING (content_id)
  WHERE m.kind = 'tool_result' AND m.tool_call_id IS NOT NULL GROUP BY m.tool_call_id)
SELECT k.* EXCLUDE (trace_id) REPLACE (coalesce(k.result_bytes, v.n_bytes) AS result_bytes),
  x.trace_id,
  {_OF_TRACE}, {_UNPRICED}, i.input, x.answer, x.n_tool_calls, x.output_tokens,
  x.input_tokens, x.reasoning_tokens, x.n_calls, x.e2e_s AS trace_e2e_s,
  x.cost_usd AS trace_cost_usd, o.opening_text, d.opening_tokens
FROM traces x LEFT JOIN tool_calls k
  ON k.trace_id = x.trace_id AND k.error_type IS DISTINCT FROM '{NOT_RUN}'
LEFT JOIN opening o ON o.trace_id = x.trace_id LEFT JOIN spent d ON d.trace_id = x.trace_id
LEFT JOIN told v ON v.tool_call_id = k.tool_call_id
{_UNPRICED_JOINS}"""

MESSAGE_FACTS = f"""SELECT m.*, b.text, b.n_bytes, {_OF_TRACE}, {_UNPRICED}
FROM messages m JOIN traces x USING (trace_id)
LEFT JOIN contents b USING (content_id)
{_UNPRICED_JOINS}"""

ENERGY_FACTS = f"""SELECT e.*, c.role, c.input_tokens, c.output_tokens, c.reasoning_tokens, c.e2e_s,
  {_OF_TRACE}, {_UNPRICED}
FROM energy e JOIN calls c USING (call_id) JOIN traces x ON x.trace_id = e.trace_id
{
    _UNPRICED_JOINS.replace(
        "USING (configuration_id)", "ON f.configuration_id = x.configuration_id"
    )
    .replace("USING (task_id)", "ON t.task_id = x.task_id")
    .replace("USING (item_id)", "ON i.item_id = x.item_id")
}"""

RUN_SUMMARY = """SELECT r.run_id, r.kind, r.source, r.origin, r.status,
  r.started_at, r.ended_at, r.n_planned,
  count(x.trace_id) AS n_traces,
  count(x.error_type) AS n_errors,
  count(x.passed) AS n_scored,
  count(*) FILTER (x.passed) AS n_passed,
  count(DISTINCT x.configuration_id) AS n_configurations,
  count(DISTINCT x.item_id) AS n_items,
  coalesce(sum(x.n_calls), 0)::BIGINT AS n_calls,
  sum(x.n_broken)::BIGINT AS n_broken,
  sum(x.broken_tokens)::BIGINT AS broken_tokens,
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
        _NEGATIVE,
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
    "media_over_whole": (
        f"{_HAS_MEDIA} AND "
        f"({' OR '.join(rule for parts, rule in _OVER if any(map(is_media, parts)))})",
        f"'of audio, images and video ' || ({_MEDIA_IN}) || ' of input ' || c.input_tokens || ', '"
        f" || ({_MEDIA_OUT}) || ' of output ' || c.output_tokens",
    ),
    "media_unpriced": (
        f"{_HAS_MEDIA} AND c.is_priced AND c.input_tokens IS NOT NULL"
        f" AND NOT coalesce({CONTRADICTORY}, false) AND c.call_cost_usd IS NULL",
        "'the price of its audio, images or video is unknown, or which of them were cached'",
    ),
    "total_differs": (
        "c.total_tokens <> c.input_tokens + c.output_tokens",
        "'input ' || c.input_tokens || ' + output ' || c.output_tokens "
        "|| ' <> total ' || c.total_tokens",
    ),
    "half_reported": (
        "c.error_type IS NULL AND (c.input_tokens IS NULL) <> (c.output_tokens IS NULL)",
        "'input ' || coalesce(c.input_tokens::VARCHAR, '—') "
        "|| ', output ' || coalesce(c.output_tokens::VARCHAR, '—')",
    ),
    "no_output_but_text": (
        "c.output_tokens = 0 AND c.n_chunks > 0",
        "'output 0 in ' || c.n_chunks || ' chunks of text'",
    ),
    "times_out_of_order": (
        "c.ttft_s > c.e2e_s OR c.answer_start_s < c.ttft_s OR c.e2e_s < 0",
        "'first token ' || coalesce(c.ttft_s::VARCHAR, '—') || ' s, answer ' "
        "|| coalesce(c.answer_start_s::VARCHAR, '—') || ' s, end ' "
        "|| coalesce(c.e2e_s::VARCHAR, '—') || ' s'",
    ),
    "billed_differs": (
        "abs(c.billed_cost_usd - c.call_cost_usd) > greatest(0.01 * c.billed_cost_usd,"
        " CAST(0.000001 AS DOUBLE))",
        "'billed $' || c.billed_cost_usd || ', priced $' || c.call_cost_usd",
    ),
}
USAGE_FAULTS = """SELECT call_id, trace_id, run_id, configuration,
  fault.name AS fault, fault.detail AS detail
FROM (SELECT c.call_id, c.trace_id, c.run_id, f.configuration, unnest(list_filter([
{rules}
], lambda x: x.broken)) AS fault
FROM (SELECT c.*, p.price_id IS NOT NULL AS is_priced, {cost} AS call_cost_usd
  FROM calls c LEFT JOIN prices p USING (price_id)) c
LEFT JOIN configurations f USING (configuration_id)
WHERE {any_rule})""".format(
    cost=COST,
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
    "trace_details": TRACE_DETAILS,
    "trace_texts": TRACE_TEXTS,
    "call_facts": CALL_FACTS,
    "call_outcomes": CALL_OUTCOMES,
    "call_costs": CALL_COSTS,
    "tool_facts": TOOL_FACTS,
    "tool_uses": TOOL_USES,
    "message_facts": MESSAGE_FACTS,
    "energy_facts": ENERGY_FACTS,
    "run_summary": RUN_SUMMARY,
    "usage_faults": USAGE_FAULTS,
    "result_facts": RESULT_FACTS,
}


def priced(calls: str, at: str, names: str) -> str:
    """Select the calls of a relation with `price_id` set to the row in force.

    Among the rows that apply the order is that of `prices.PriceBook`: a sheet of the user's before
    the bundled one, the very name before the canonical one, a machine's hour, a named provider, a
    time of day, the latest start, the highest tier.

    Args:
        calls: a relation with the columns of `calls`.
        at: the moment of a call, as SQL over its alias `c`.
        names: a relation (provider, model, meant) with the canonical names of the calls' models.
    """
    clock = f"strftime({at}, '%H:%M:%S')"
    applies = f"""CASE WHEN r.machine_usd_per_hour IS NOT NULL THEN true
    WHEN c.service_tier = '{BATCH}' THEN coalesce(r.service_tier = '{BATCH}', false)
    ELSE coalesce(r.service_tier = c.service_tier, r.service_tier IS NULL) END
  AND (r.min_input_tokens = 0
    OR c.input_tokens > r.min_input_tokens * greatest(coalesce(c.n_requests, 1), 1))
  AND (r.starts_at IS NULL OR {at} >= r.starts_at) AND (r.ends_at IS NULL OR {at} < r.ends_at)
  AND (r.daily_from IS NULL OR CASE WHEN r.daily_from <= r.daily_to
    THEN {clock} >= r.daily_from AND {clock} < r.daily_to
    ELSE {clock} >= r.daily_from OR {clock} < r.daily_to END)"""
    order = f"""starts_with(p.sheet, '{BUNDLED}'), p.model IS DISTINCT FROM w.model
      AND p.model IS DISTINCT FROM w.machine, p.machine_usd_per_hour IS NULL, p.provider IS NULL,
    p.service_tier IS NULL, p.daily_from IS NULL, p.starts_at DESC NULLS LAST,
    p.min_input_tokens DESC,
    coalesce({", ".join(f"p.{rate}" for rate in MEDIA_RATES)}) IS NULL, p.price_id"""
    own = f"NOT starts_with(p.sheet, '{BUNDLED}')"
    return f"""WITH asked AS (SELECT DISTINCT provider, model, machine FROM {calls}),
wanted AS (SELECT a.*, n.meant FROM asked a LEFT JOIN {names} n
  ON n.model = a.model AND n.provider IS NOT DISTINCT FROM a.provider),
offers AS (
  SELECT w.provider AS w_provider, w.model AS w_model, w.machine AS w_machine,
    list({{'price_id': p.price_id, 'min_input_tokens': p.min_input_tokens, 'starts_at': p.starts_at,
      'ends_at': p.ends_at, 'daily_from': p.daily_from, 'daily_to': p.daily_to,
      'service_tier': p.service_tier, 'machine_usd_per_hour': p.machine_usd_per_hour}}
      ORDER BY {order}) AS rows,
    CASE WHEN count(*) = 1 AND bool_and(p.min_input_tokens = 0 AND p.starts_at IS NULL
      AND p.ends_at IS NULL AND p.daily_from IS NULL AND p.service_tier IS NULL)
      THEN any_value(p.price_id) END AS only
  FROM wanted w JOIN prices p
    ON p.model = w.model OR p.model = w.machine OR (p.model = w.meant AND {own})
  WHERE p.provider IS NULL OR p.provider = w.provider GROUP BY ALL)
SELECT c.* REPLACE (CASE WHEN o.rows IS NULL THEN NULL
    WHEN o.only IS NOT NULL AND c.service_tier IS DISTINCT FROM '{BATCH}' THEN o.only
  ELSE list_filter(o.rows, lambda r: {applies})[1].price_id END AS price_id)
FROM {calls} c LEFT JOIN offers o
  ON coalesce(c.provider, '') = coalesce(o.w_provider, '')
  AND coalesce(c.model, '') = coalesce(o.w_model, '')
  AND coalesce(c.machine, '') = coalesce(o.w_machine, '')"""
