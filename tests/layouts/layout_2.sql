-- Layout 2 of the store as the code before layout 3 made it, frozen: what a migration starts from.
CREATE TABLE IF NOT EXISTS migrations (
  version INTEGER, name VARCHAR, applied_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC'));
CREATE TABLE IF NOT EXISTS segments (segment VARCHAR, next_offset BIGINT);
CREATE TABLE IF NOT EXISTS runs (
  "run_id" VARCHAR,
  "kind" VARCHAR,
  "source" VARCHAR,
  "origin" VARCHAR,
  "plan" VARCHAR USING COMPRESSION zstd,
  "status" VARCHAR,
  "started_at" TIMESTAMP,
  "ended_at" TIMESTAMP,
  "host" VARCHAR,
  "platform" VARCHAR,
  "accelerator" VARCHAR,
  "versions" VARCHAR,
  "commit_sha" VARCHAR,
  "n_planned" BIGINT,
  "error_message" VARCHAR,
  "metadata" VARCHAR USING COMPRESSION zstd
);
CREATE TABLE IF NOT EXISTS tasks (
  "task_id" VARCHAR,
  "task" VARCHAR,
  "version" VARCHAR,
  "description" VARCHAR,
  "scorer" VARCHAR,
  "metadata" VARCHAR
);
CREATE TABLE IF NOT EXISTS items (
  "item_id" VARCHAR,
  "task_id" VARCHAR,
  "item" VARCHAR,
  "input" VARCHAR USING COMPRESSION zstd,
  "target" VARCHAR,
  "tags" VARCHAR,
  "cluster" VARCHAR,
  "difficulty" DOUBLE,
  "value_usd" DOUBLE,
  "human_cost_usd" DOUBLE,
  "metadata" VARCHAR USING COMPRESSION zstd
);
CREATE TABLE IF NOT EXISTS configurations (
  "configuration_id" VARCHAR,
  "configuration" VARCHAR,
  "model" VARCHAR,
  "provider" VARCHAR,
  "strategy" VARCHAR,
  "strategy_params" VARCHAR,
  "effort" VARCHAR,
  "thinking_budget_tokens" BIGINT,
  "temperature" DOUBLE,
  "top_p" DOUBLE,
  "max_tokens" BIGINT,
  "precision" VARCHAR,
  "machine" VARCHAR,
  "settings" VARCHAR
);
CREATE TABLE IF NOT EXISTS traces (
  "trace_id" VARCHAR,
  "run_id" VARCHAR,
  "configuration_id" VARCHAR,
  "task_id" VARCHAR,
  "item_id" VARCHAR,
  "trial" BIGINT,
  "started_at" TIMESTAMP,
  "e2e_s" DOUBLE,
  "working_s" DOUBLE,
  "ttft_s" DOUBLE,
  "answer_start_s" DOUBLE,
  "answer" VARCHAR,
  "score" DOUBLE,
  "passed" BOOLEAN,
  "verifier_score" DOUBLE,
  "confidence" DOUBLE,
  "stop_reason" VARCHAR,
  "limit_type" VARCHAR,
  "error_type" VARCHAR,
  "error_message" VARCHAR,
  "n_turns" BIGINT,
  "n_calls" BIGINT,
  "n_tool_calls" BIGINT,
  "n_tool_errors" BIGINT,
  "n_messages" BIGINT,
  "input_tokens" BIGINT,
  "cache_read_tokens" BIGINT,
  "cache_write_tokens" BIGINT,
  "output_tokens" BIGINT,
  "reasoning_tokens" BIGINT,
  "judge_input_tokens" BIGINT,
  "judge_output_tokens" BIGINT,
  "cost_usd" DOUBLE,
  "reasoning_cost_usd" DOUBLE,
  "judge_cost_usd" DOUBLE,
  "billed_cost_usd" DOUBLE,
  "energy_j" DOUBLE,
  "machine_s" DOUBLE,
  "price_id" VARCHAR,
  "metadata" VARCHAR USING COMPRESSION zstd
);
CREATE TABLE IF NOT EXISTS scores (
  "trace_id" VARCHAR,
  "scorer" VARCHAR,
  "score" DOUBLE,
  "passed" BOOLEAN,
  "value" VARCHAR,
  "answer" VARCHAR,
  "explanation" VARCHAR USING COMPRESSION zstd
);
CREATE TABLE IF NOT EXISTS calls (
  "call_id" VARCHAR,
  "trace_id" VARCHAR,
  "run_id" VARCHAR,
  "configuration_id" VARCHAR,
  "task_id" VARCHAR,
  "item_id" VARCHAR,
  "ordinal" BIGINT,
  "role" VARCHAR,
  "provider" VARCHAR,
  "model" VARCHAR,
  "response_model" VARCHAR,
  "started_at" TIMESTAMP,
  "queue_s" DOUBLE,
  "ttft_s" DOUBLE,
  "answer_start_s" DOUBLE,
  "e2e_s" DOUBLE,
  "gap_p50_s" DOUBLE,
  "gap_p90_s" DOUBLE,
  "gap_p99_s" DOUBLE,
  "gap_max_s" DOUBLE,
  "n_chunks" BIGINT,
  "n_requests" BIGINT,
  "input_tokens" BIGINT,
  "cache_read_tokens" BIGINT,
  "cache_write_5m_tokens" BIGINT,
  "cache_write_1h_tokens" BIGINT,
  "output_tokens" BIGINT,
  "reasoning_tokens" BIGINT,
  "total_tokens" BIGINT,
  "tokens_source" VARCHAR,
  "logprob_sum" DOUBLE,
  "stop_reason" VARCHAR,
  "billed_cost_usd" DOUBLE,
  "machine" VARCHAR,
  "machine_s" DOUBLE,
  "n_retries" BIGINT,
  "retry_wait_s" DOUBLE,
  "error_type" VARCHAR,
  "error_message" VARCHAR,
  "request_id" VARCHAR,
  "service_tier" VARCHAR,
  "usage" VARCHAR USING COMPRESSION zstd,
  "energy_j" DOUBLE,
  "price_id" VARCHAR,
  "effort_sent" VARCHAR
);
CREATE TABLE IF NOT EXISTS tool_calls (
  "tool_call_id" VARCHAR,
  "trace_id" VARCHAR,
  "call_id" VARCHAR,
  "ordinal" BIGINT,
  "tool" VARCHAR,
  "arguments" VARCHAR USING COMPRESSION zstd,
  "started_at" TIMESTAMP,
  "e2e_s" DOUBLE,
  "result_tokens" BIGINT,
  "result_bytes" BIGINT,
  "cost_usd" DOUBLE,
  "error_type" VARCHAR,
  "error_message" VARCHAR
);
CREATE TABLE IF NOT EXISTS messages (
  "trace_id" VARCHAR,
  "ordinal" BIGINT,
  "role" VARCHAR,
  "kind" VARCHAR,
  "content_id" VARCHAR,
  "call_id" VARCHAR,
  "tool_call_id" VARCHAR,
  "n_tokens" BIGINT
);
CREATE TABLE IF NOT EXISTS contents (
  "content_id" VARCHAR,
  "n_bytes" BIGINT,
  "text" VARCHAR USING COMPRESSION zstd
);
CREATE TABLE IF NOT EXISTS energy (
  "trace_id" VARCHAR,
  "call_id" VARCHAR,
  "device" VARCHAR,
  "phase" VARCHAR,
  "method" VARCHAR,
  "energy_j" DOUBLE,
  "low_j" DOUBLE,
  "high_j" DOUBLE,
  "note" VARCHAR,
  "full_j" DOUBLE
);
CREATE TABLE IF NOT EXISTS energy_balances (
  "run_id" VARCHAR,
  "device" VARCHAR,
  "meter" VARCHAR,
  "meter_j" DOUBLE,
  "calls_j" DOUBLE,
  "idle_j" DOUBLE,
  "unattributed_j" DOUBLE,
  "mismatch" DOUBLE,
  "is_conserved" BOOLEAN,
  "integral_j" DOUBLE,
  "duration_s" DOUBLE,
  "idle_w" DOUBLE,
  "idle_sd_w" DOUBLE,
  "idle_after_w" DOUBLE,
  "period_s" DOUBLE,
  "n_samples" BIGINT,
  "n_calls" BIGINT,
  "note" VARCHAR
);
CREATE TABLE IF NOT EXISTS results (
  "result_id" VARCHAR,
  "run_id" VARCHAR,
  "configuration_id" VARCHAR,
  "task_id" VARCHAR,
  "metric" VARCHAR,
  "value" DOUBLE,
  "unit" VARCHAR,
  "n" BIGINT,
  "standard_error" DOUBLE,
  "date" TIMESTAMP,
  "metadata" VARCHAR
);
CREATE TABLE IF NOT EXISTS prices (
  "price_id" VARCHAR,
  "model" VARCHAR,
  "sheet" VARCHAR,
  "provider" VARCHAR,
  "starts_at" TIMESTAMP,
  "ends_at" TIMESTAMP,
  "daily_from" VARCHAR,
  "daily_to" VARCHAR,
  "min_input_tokens" BIGINT,
  "input_usd_per_mtok" DOUBLE,
  "cache_read_usd_per_mtok" DOUBLE,
  "cache_write_5m_usd_per_mtok" DOUBLE,
  "cache_write_1h_usd_per_mtok" DOUBLE,
  "output_usd_per_mtok" DOUBLE,
  "reasoning_usd_per_mtok" DOUBLE,
  "request_usd" DOUBLE,
  "machine_usd_per_hour" DOUBLE,
  "note" VARCHAR,
  "service_tier" VARCHAR
);
CREATE TABLE IF NOT EXISTS models (
  "model" VARCHAR,
  "family" VARCHAR,
  "released_at" TIMESTAMP,
  "n_params" BIGINT,
  "n_active_params" BIGINT,
  "n_layers" BIGINT,
  "d_model" BIGINT,
  "n_heads" BIGINT,
  "n_kv_heads" BIGINT,
  "source" VARCHAR
);
CREATE TABLE IF NOT EXISTS accelerators (
  "accelerator" VARCHAR,
  "peak_flops" DOUBLE,
  "bandwidth_bytes_per_s" DOUBLE,
  "memory_bytes" BIGINT,
  "tdp_w" DOUBLE,
  "source" VARCHAR
);
CREATE TABLE IF NOT EXISTS grids (
  "grid" VARCHAR,
  "year" BIGINT,
  "carbon_g_per_kwh" DOUBLE,
  "source" VARCHAR
);
CREATE TABLE IF NOT EXISTS annotations (
  "trace_id" VARCHAR,
  "author" VARCHAR,
  "created_at" TIMESTAMP,
  "mark" VARCHAR,
  "note" VARCHAR
);
CREATE TABLE IF NOT EXISTS saved_slices (
  "name" VARCHAR,
  "filter" VARCHAR,
  "created_at" TIMESTAMP
);
CREATE OR REPLACE VIEW trace_facts AS SELECT "trace_id", "run_id", "configuration_id", "task_id", "item_id", "trial", "started_at", "e2e_s", "working_s", "ttft_s", "answer_start_s", "answer", "score", "passed", "verifier_score", "confidence", "stop_reason", "limit_type", "error_type", "error_message", "n_turns", "n_calls", "n_tool_calls", "n_tool_errors", "n_messages", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "judge_input_tokens", "judge_output_tokens", "cost_usd", "reasoning_cost_usd", "judge_cost_usd", "billed_cost_usd", "energy_j", "machine_s", "price_id", "metadata", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok", "visible_tokens", "origin", "source" FROM (SELECT x.*, f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd,
  p.input_usd_per_mtok, p.output_usd_per_mtok,
  x.output_tokens - x.reasoning_tokens AS visible_tokens, r.origin, r.source
FROM traces x
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id)
LEFT JOIN prices p USING (price_id)
LEFT JOIN runs r USING (run_id));
CREATE OR REPLACE VIEW trace_details AS SELECT "trace_id", "run_id", "configuration_id", "task_id", "item_id", "trial", "started_at", "e2e_s", "working_s", "ttft_s", "answer_start_s", "answer", "score", "passed", "verifier_score", "confidence", "stop_reason", "limit_type", "error_type", "error_message", "n_turns", "n_calls", "n_tool_calls", "n_tool_errors", "n_messages", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "judge_input_tokens", "judge_output_tokens", "cost_usd", "reasoning_cost_usd", "judge_cost_usd", "billed_cost_usd", "energy_j", "machine_s", "price_id", "metadata", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok", "visible_tokens", "origin", "source", "input", "strategy_params", "target", "item_metadata" FROM (SELECT x.*, i.input, f.strategy_params, i.target, i.metadata AS item_metadata
FROM trace_facts x
LEFT JOIN items i USING (item_id)
LEFT JOIN configurations f USING (configuration_id));
CREATE OR REPLACE VIEW trace_texts AS SELECT "trace_id", "run_id", "configuration_id", "task_id", "item_id", "trial", "started_at", "e2e_s", "working_s", "ttft_s", "answer_start_s", "answer", "score", "passed", "verifier_score", "confidence", "stop_reason", "limit_type", "error_type", "error_message", "n_turns", "n_calls", "n_tool_calls", "n_tool_errors", "n_messages", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "judge_input_tokens", "judge_output_tokens", "cost_usd", "reasoning_cost_usd", "judge_cost_usd", "billed_cost_usd", "energy_j", "machine_s", "price_id", "metadata", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok", "visible_tokens", "origin", "source", "input", "strategy_params", "target", "item_metadata", "thinking_text", "output_text", "read_text" FROM (SELECT x.*, w.thinking_text, w.output_text, w.read_text
FROM trace_details x LEFT JOIN (
  SELECT s.trace_id,
    string_agg(b.text, chr(10) ORDER BY s.ordinal) FILTER (s.said AND s.kind = 'thinking') AS thinking_text,
    string_agg(b.text, chr(10) ORDER BY s.ordinal) FILTER (s.said AND s.kind = 'text') AS output_text,
    string_agg(b.text, chr(10) ORDER BY s.ordinal)
      FILTER (s.role IN ('tool', 'user') AND s.ordinal > s.first_said) AS read_text
  FROM (SELECT *, min(ordinal) FILTER (said OR kind = 'tool_call') OVER (PARTITION BY trace_id) AS first_said
    FROM (SELECT m.*, m.role = 'assistant' AND m.kind IN ('text', 'thinking') AND (m.call_id IS NULL OR (
    m.ordinal > coalesce(max(m.ordinal) FILTER (m.role <> 'assistant') OVER call, -1)
    AND m.ordinal = max(m.ordinal) OVER (PARTITION BY m.trace_id, m.call_id, m.role, m.kind))) AS said
FROM messages m WINDOW call AS (PARTITION BY m.trace_id, m.call_id))) s
  LEFT JOIN contents b USING (content_id) GROUP BY s.trace_id) w USING (trace_id));
CREATE OR REPLACE VIEW call_facts AS SELECT "call_id", "trace_id", "run_id", "configuration_id", "task_id", "item_id", "ordinal", "role", "response_model", "started_at", "queue_s", "ttft_s", "answer_start_s", "e2e_s", "gap_p50_s", "gap_p90_s", "gap_p99_s", "gap_max_s", "n_chunks", "n_requests", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "tokens_source", "logprob_sum", "stop_reason", "billed_cost_usd", "machine", "machine_s", "n_retries", "retry_wait_s", "error_type", "error_message", "request_id", "service_tier", "usage", "energy_j", "price_id", "effort_sent", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok", "call_model", "call_provider", "fresh_input_tokens", "visible_tokens", "cost_usd", "reasoning_cost_usd", "tpot_s", "output_tokens_per_s" FROM (SELECT c.* EXCLUDE (provider, model), f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd,
  p.input_usd_per_mtok, p.output_usd_per_mtok,
  c.model AS call_model, c.provider AS call_provider,
  (c.input_tokens - coalesce(c.cache_read_tokens, 0) - coalesce(c.cache_write_5m_tokens, 0) - coalesce(c.cache_write_1h_tokens, 0)) AS fresh_input_tokens,
  c.output_tokens - c.reasoning_tokens AS visible_tokens,
  CASE
  WHEN p.machine_usd_per_hour IS NOT NULL THEN c.machine_s * p.machine_usd_per_hour / 3600
  ELSE ((c.input_tokens - coalesce(c.cache_read_tokens, 0) - coalesce(c.cache_write_5m_tokens, 0) - coalesce(c.cache_write_1h_tokens, 0)) * p.input_usd_per_mtok
    + coalesce(c.cache_read_tokens, 0) * coalesce(p.cache_read_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_5m_tokens, 0) * coalesce(p.cache_write_5m_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_1h_tokens, 0) * coalesce(p.cache_write_1h_usd_per_mtok, p.input_usd_per_mtok)
    + (c.output_tokens - coalesce(c.reasoning_tokens, 0)) * p.output_usd_per_mtok
    + coalesce(c.reasoning_tokens, 0) * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)) / 1e6
    + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END AS cost_usd, c.reasoning_tokens * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok) / 1e6 AS reasoning_cost_usd,
  CASE WHEN c.output_tokens > 1 THEN (c.e2e_s - c.ttft_s) / (c.output_tokens - 1) END AS tpot_s,
  CASE WHEN c.e2e_s > 0 THEN c.output_tokens / c.e2e_s END AS output_tokens_per_s
FROM calls c
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id)
LEFT JOIN prices p USING (price_id));
CREATE OR REPLACE VIEW call_outcomes AS SELECT "call_id", "trace_id", "run_id", "configuration_id", "task_id", "item_id", "ordinal", "role", "response_model", "started_at", "queue_s", "ttft_s", "answer_start_s", "e2e_s", "gap_p50_s", "gap_p90_s", "gap_p99_s", "gap_max_s", "n_chunks", "n_requests", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "tokens_source", "logprob_sum", "stop_reason", "billed_cost_usd", "machine", "machine_s", "n_retries", "retry_wait_s", "error_type", "error_message", "request_id", "service_tier", "usage", "energy_j", "price_id", "effort_sent", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input_usd_per_mtok", "output_usd_per_mtok", "call_model", "call_provider", "fresh_input_tokens", "visible_tokens", "cost_usd", "reasoning_cost_usd", "tpot_s", "output_tokens_per_s", "trial", "score", "passed", "n_turns", "trace_error_type" FROM (SELECT c.*, x.trial, x.score, x.passed, x.n_turns, x.error_type AS trace_error_type
FROM call_facts c JOIN traces x USING (trace_id));
CREATE OR REPLACE VIEW tool_facts AS SELECT "tool_call_id", "trace_id", "call_id", "ordinal", "tool", "arguments", "started_at", "e2e_s", "result_tokens", "result_bytes", "cost_usd", "error_type", "error_message", "run_id", "configuration_id", "task_id", "item_id", "trial", "score", "passed", "n_turns", "trace_error_type", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd" FROM (SELECT k.*, x.run_id, x.configuration_id, x.task_id, x.item_id, x.trial, x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type, f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd
FROM tool_calls k JOIN traces x USING (trace_id)
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id));
CREATE OR REPLACE VIEW tool_uses AS SELECT "tool_call_id", "trace_id", "call_id", "ordinal", "tool", "arguments", "started_at", "e2e_s", "result_tokens", "result_bytes", "cost_usd", "error_type", "error_message", "run_id", "configuration_id", "task_id", "item_id", "trial", "score", "passed", "n_turns", "trace_error_type", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd", "input", "answer", "n_tool_calls", "output_tokens", "trace_cost_usd", "opening_text", "opening_tokens" FROM (WITH asked AS (
  SELECT k.trace_id, arg_min(c.ordinal, k.ordinal) AS call, count(*) AS n,
    count(k.call_id) > 0 AS by_call
  FROM tool_calls k LEFT JOIN calls c USING (call_id) GROUP BY k.trace_id),
said AS (SELECT s.*, c.ordinal AS call, min(s.ordinal) FILTER (s.kind = 'tool_call') OVER (PARTITION BY s.trace_id) AS first_tool
  FROM (SELECT m.*, m.role = 'assistant' AND m.kind IN ('text', 'thinking') AND (m.call_id IS NULL OR (
    m.ordinal > coalesce(max(m.ordinal) FILTER (m.role <> 'assistant') OVER call, -1)
    AND m.ordinal = max(m.ordinal) OVER (PARTITION BY m.trace_id, m.call_id, m.role, m.kind))) AS said
FROM messages m WINDOW call AS (PARTITION BY m.trace_id, m.call_id)) s LEFT JOIN calls c USING (call_id)),
opening AS (SELECT s.trace_id, string_agg(b.text, chr(10) ORDER BY s.kind DESC, s.ordinal) AS opening_text
  FROM said s LEFT JOIN asked a USING (trace_id) LEFT JOIN contents b USING (content_id)
  WHERE s.said AND CASE WHEN a.n IS NULL THEN true WHEN a.call IS NOT NULL AND s.call IS NOT NULL THEN s.call <= a.call
    ELSE s.ordinal < s.first_tool END GROUP BY s.trace_id),
spent AS (SELECT c.trace_id, CASE WHEN count(*) = count(c.output_tokens) THEN sum(c.output_tokens)::BIGINT END AS opening_tokens
  FROM calls c LEFT JOIN asked a USING (trace_id)
  WHERE c.role <> 'judge' AND (a.n IS NULL OR c.ordinal <= a.call) GROUP BY c.trace_id),
told AS (SELECT m.tool_call_id, sum(b.n_bytes)::BIGINT AS n_bytes FROM messages m JOIN contents b USING (content_id)
  WHERE m.kind = 'tool_result' AND m.tool_call_id IS NOT NULL GROUP BY m.tool_call_id)
SELECT k.* EXCLUDE (trace_id) REPLACE (coalesce(k.result_bytes, v.n_bytes) AS result_bytes), x.trace_id,
  x.run_id, x.configuration_id, x.task_id, x.item_id, x.trial, x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type, f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd, i.input, x.answer, x.n_tool_calls, x.output_tokens,
  x.cost_usd AS trace_cost_usd, o.opening_text, d.opening_tokens
FROM traces x LEFT JOIN tool_calls k ON k.trace_id = x.trace_id
LEFT JOIN opening o ON o.trace_id = x.trace_id LEFT JOIN spent d ON d.trace_id = x.trace_id
LEFT JOIN told v ON v.tool_call_id = k.tool_call_id
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id));
CREATE OR REPLACE VIEW message_facts AS SELECT "trace_id", "ordinal", "role", "kind", "content_id", "call_id", "tool_call_id", "n_tokens", "text", "n_bytes", "run_id", "configuration_id", "task_id", "item_id", "trial", "score", "passed", "n_turns", "trace_error_type", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd" FROM (SELECT m.*, b.text, b.n_bytes, x.run_id, x.configuration_id, x.task_id, x.item_id, x.trial, x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type, f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd
FROM messages m JOIN traces x USING (trace_id)
LEFT JOIN contents b USING (content_id)
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN items i USING (item_id));
CREATE OR REPLACE VIEW energy_facts AS SELECT "trace_id", "call_id", "device", "phase", "method", "energy_j", "low_j", "high_j", "note", "full_j", "role", "input_tokens", "output_tokens", "reasoning_tokens", "e2e_s", "run_id", "configuration_id", "task_id", "item_id", "trial", "score", "passed", "n_turns", "trace_error_type", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "temperature", "precision", "task", "item", "cluster", "difficulty", "value_usd", "human_cost_usd" FROM (SELECT e.*, c.role, c.input_tokens, c.output_tokens, c.reasoning_tokens, c.e2e_s,
  x.run_id, x.configuration_id, x.task_id, x.item_id, x.trial, x.score, x.passed, x.n_turns,
  x.error_type AS trace_error_type, f.configuration, f.model, f.provider, f.strategy, f.effort, f.thinking_budget_tokens,
  f.temperature, f.precision, t.task, i.item, i.cluster, i.difficulty, i.value_usd, i.human_cost_usd
FROM energy e JOIN calls c USING (call_id) JOIN traces x ON x.trace_id = e.trace_id
LEFT JOIN configurations f ON f.configuration_id = x.configuration_id
LEFT JOIN tasks t ON t.task_id = x.task_id
LEFT JOIN items i ON i.item_id = x.item_id);
CREATE OR REPLACE VIEW run_summary AS SELECT "run_id", "kind", "source", "origin", "status", "started_at", "ended_at", "n_planned", "n_traces", "n_errors", "n_scored", "n_passed", "n_configurations", "n_items", "n_calls", "input_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "n_unpriced", "billed_cost_usd", "energy_j" FROM (SELECT r.run_id, r.kind, r.source, r.origin, r.status, r.started_at, r.ended_at, r.n_planned,
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
GROUP BY ALL);
CREATE OR REPLACE VIEW usage_faults AS SELECT "call_id", "trace_id", "run_id", "configuration", "fault", "detail" FROM (SELECT call_id, trace_id, run_id, configuration, fault.name AS fault, fault.detail AS detail
FROM (SELECT c.call_id, c.trace_id, c.run_id, f.configuration, unnest(list_filter([
  {'name': 'negative_count', 'broken': coalesce(least(c.input_tokens, c.output_tokens, c.reasoning_tokens, c.cache_read_tokens) < 0, false), 'detail': 'input ' || c.input_tokens || ', output ' || c.output_tokens},
  {'name': 'cached_over_input', 'broken': coalesce(coalesce(c.cache_read_tokens, 0) + coalesce(c.cache_write_5m_tokens, 0) + coalesce(c.cache_write_1h_tokens, 0) > c.input_tokens, false), 'detail': 'cached ' || (coalesce(c.cache_read_tokens, 0) + coalesce(c.cache_write_5m_tokens, 0) + coalesce(c.cache_write_1h_tokens, 0)) || ' > input ' || c.input_tokens},
  {'name': 'thinking_over_output', 'broken': coalesce(c.reasoning_tokens > c.output_tokens, false), 'detail': 'thinking ' || c.reasoning_tokens || ' > output ' || c.output_tokens},
  {'name': 'total_differs', 'broken': coalesce(c.total_tokens <> c.input_tokens + c.output_tokens, false), 'detail': 'input ' || c.input_tokens || ' + output ' || c.output_tokens || ' <> total ' || c.total_tokens},
  {'name': 'half_reported', 'broken': coalesce(c.error_type IS NULL AND (c.input_tokens IS NULL) <> (c.output_tokens IS NULL), false), 'detail': 'input ' || coalesce(c.input_tokens::VARCHAR, '—') || ', output ' || coalesce(c.output_tokens::VARCHAR, '—')},
  {'name': 'no_output_but_text', 'broken': coalesce(c.output_tokens = 0 AND c.n_chunks > 0, false), 'detail': 'output 0 in ' || c.n_chunks || ' chunks of text'},
  {'name': 'times_out_of_order', 'broken': coalesce(c.ttft_s > c.e2e_s OR c.answer_start_s < c.ttft_s OR c.e2e_s < 0, false), 'detail': 'first token ' || coalesce(c.ttft_s::VARCHAR, '—') || ' s, answer ' || coalesce(c.answer_start_s::VARCHAR, '—') || ' s, end ' || coalesce(c.e2e_s::VARCHAR, '—') || ' s'},
  {'name': 'billed_differs', 'broken': coalesce(abs(c.billed_cost_usd - CASE
  WHEN p.machine_usd_per_hour IS NOT NULL THEN c.machine_s * p.machine_usd_per_hour / 3600
  ELSE ((c.input_tokens - coalesce(c.cache_read_tokens, 0) - coalesce(c.cache_write_5m_tokens, 0) - coalesce(c.cache_write_1h_tokens, 0)) * p.input_usd_per_mtok
    + coalesce(c.cache_read_tokens, 0) * coalesce(p.cache_read_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_5m_tokens, 0) * coalesce(p.cache_write_5m_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_1h_tokens, 0) * coalesce(p.cache_write_1h_usd_per_mtok, p.input_usd_per_mtok)
    + (c.output_tokens - coalesce(c.reasoning_tokens, 0)) * p.output_usd_per_mtok
    + coalesce(c.reasoning_tokens, 0) * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)) / 1e6
    + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END) > greatest(0.01 * c.billed_cost_usd, 1e-6), false), 'detail': 'billed $' || c.billed_cost_usd || ', priced $' || CASE
  WHEN p.machine_usd_per_hour IS NOT NULL THEN c.machine_s * p.machine_usd_per_hour / 3600
  ELSE ((c.input_tokens - coalesce(c.cache_read_tokens, 0) - coalesce(c.cache_write_5m_tokens, 0) - coalesce(c.cache_write_1h_tokens, 0)) * p.input_usd_per_mtok
    + coalesce(c.cache_read_tokens, 0) * coalesce(p.cache_read_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_5m_tokens, 0) * coalesce(p.cache_write_5m_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_1h_tokens, 0) * coalesce(p.cache_write_1h_usd_per_mtok, p.input_usd_per_mtok)
    + (c.output_tokens - coalesce(c.reasoning_tokens, 0)) * p.output_usd_per_mtok
    + coalesce(c.reasoning_tokens, 0) * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)) / 1e6
    + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END}
], lambda x: x.broken)) AS fault
FROM calls c LEFT JOIN configurations f USING (configuration_id) LEFT JOIN prices p USING (price_id)
WHERE (least(c.input_tokens, c.output_tokens, c.reasoning_tokens, c.cache_read_tokens) < 0) OR (coalesce(c.cache_read_tokens, 0) + coalesce(c.cache_write_5m_tokens, 0) + coalesce(c.cache_write_1h_tokens, 0) > c.input_tokens) OR (c.reasoning_tokens > c.output_tokens) OR (c.total_tokens <> c.input_tokens + c.output_tokens) OR (c.error_type IS NULL AND (c.input_tokens IS NULL) <> (c.output_tokens IS NULL)) OR (c.output_tokens = 0 AND c.n_chunks > 0) OR (c.ttft_s > c.e2e_s OR c.answer_start_s < c.ttft_s OR c.e2e_s < 0) OR (abs(c.billed_cost_usd - CASE
  WHEN p.machine_usd_per_hour IS NOT NULL THEN c.machine_s * p.machine_usd_per_hour / 3600
  ELSE ((c.input_tokens - coalesce(c.cache_read_tokens, 0) - coalesce(c.cache_write_5m_tokens, 0) - coalesce(c.cache_write_1h_tokens, 0)) * p.input_usd_per_mtok
    + coalesce(c.cache_read_tokens, 0) * coalesce(p.cache_read_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_5m_tokens, 0) * coalesce(p.cache_write_5m_usd_per_mtok, p.input_usd_per_mtok)
    + coalesce(c.cache_write_1h_tokens, 0) * coalesce(p.cache_write_1h_usd_per_mtok, p.input_usd_per_mtok)
    + (c.output_tokens - coalesce(c.reasoning_tokens, 0)) * p.output_usd_per_mtok
    + coalesce(c.reasoning_tokens, 0) * coalesce(p.reasoning_usd_per_mtok, p.output_usd_per_mtok)) / 1e6
    + coalesce(p.request_usd, 0) * coalesce(c.n_requests, 1)
END) > greatest(0.01 * c.billed_cost_usd, 1e-6))));
CREATE OR REPLACE VIEW result_facts AS SELECT "result_id", "run_id", "configuration_id", "task_id", "metric", "value", "unit", "n", "standard_error", "date", "metadata", "configuration", "model", "provider", "strategy", "effort", "thinking_budget_tokens", "task", "origin" FROM (SELECT r.*, f.configuration, f.model, f.provider, f.strategy, f.effort,
  f.thinking_budget_tokens, t.task, x.origin
FROM results r
LEFT JOIN configurations f USING (configuration_id)
LEFT JOIN tasks t USING (task_id)
LEFT JOIN runs x USING (run_id));
INSERT INTO migrations (version, name) VALUES (1, 'first layout');
INSERT INTO migrations (version, name) VALUES (2, 'energy balances, energy with idle, effort as sent');
COMMENT ON VIEW trace_facts IS 'b37cc7c581d0a72e3b5c12e0';
