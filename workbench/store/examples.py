"""Example queries over the store; printed by `workbench schema --examples`, run by tests."""

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "What does a right answer cost, by configuration and task?",
        """SELECT task, configuration, count(*) AS n, avg(passed::INT) AS pass_rate,
  avg(cost_usd) / nullif(avg(passed::INT), 0) AS cost_of_pass_usd
FROM trace_facts WHERE error_type IS NULL AND passed IS NOT NULL AND cost_usd IS NOT NULL
GROUP BY ALL ORDER BY task, cost_of_pass_usd NULLS LAST""",
    ),
    (
        "Which traces cost most?",
        """SELECT trace_id, configuration, task, item, cost_usd, output_tokens, reasoning_tokens
FROM trace_facts ORDER BY cost_usd DESC NULLS LAST LIMIT 20""",
    ),
    (
        "How much of the output is thinking, and does more of it go with right answers?",
        """SELECT model, passed, count(*) AS n,
  avg(reasoning_tokens / nullif(output_tokens, 0)) AS thinking_share,
  median(reasoning_tokens) AS median_thinking_tokens
FROM trace_facts WHERE reasoning_tokens IS NOT NULL GROUP BY ALL ORDER BY ALL""",
    ),
    (
        "Which items does no configuration get right?",
        """SELECT task, item, any_value(difficulty) AS difficulty, count(*) AS n
FROM trace_facts WHERE passed IS NOT NULL
GROUP BY task, item HAVING NOT bool_or(passed) ORDER BY n DESC, task, item""",
    ),
    (
        "On which items do trials of one configuration disagree?",
        """SELECT configuration, task, item, count(*) AS trials, avg(passed::INT) AS pass_rate
FROM trace_facts WHERE passed IS NOT NULL
GROUP BY ALL HAVING count(DISTINCT passed) = 2
ORDER BY abs(pass_rate - 0.5), configuration LIMIT 50""",
    ),
    (
        "How long until the first token, and between tokens, by model?",
        """SELECT call_model, count(*) AS n, quantile_cont(ttft_s, 0.5) AS ttft_p50_s,
  quantile_cont(ttft_s, 0.99) AS ttft_p99_s, quantile_cont(tpot_s, 0.5) AS tpot_p50_s
FROM call_facts WHERE ttft_s IS NOT NULL GROUP BY ALL ORDER BY ttft_p50_s""",
    ),
    (
        "What was spent per day, and how much of it is not known?",
        """SELECT date_trunc('day', started_at) AS day, sum(cost_usd) AS cost_usd,
  count(*) - count(cost_usd) AS traces_without_cost
FROM trace_facts GROUP BY ALL ORDER BY day""",
    ),
    (
        "How much do graders cost beside the subject?",
        """SELECT configuration, sum(cost_usd) AS cost_usd, sum(judge_cost_usd) AS judge_cost_usd
FROM trace_facts GROUP BY ALL ORDER BY judge_cost_usd DESC NULLS LAST""",
    ),
    (
        "Which calls contradict themselves, by rule?",
        """SELECT fault, count(*) AS n, any_value(detail) AS example
FROM usage_faults GROUP BY ALL ORDER BY n DESC""",
    ),
    (
        "What did models say when they went wrong? (one text per message)",
        """SELECT t.configuration, t.item, m.ordinal, m.role, m.kind, left(c.text, 200) AS begins
FROM trace_facts t JOIN messages m USING (trace_id) JOIN contents c USING (content_id)
WHERE t.passed IS FALSE AND m.role = 'assistant' ORDER BY t.trace_id, m.ordinal LIMIT 20""",
    ),
    (
        "Published figures: the leaderboard of every task and metric.",
        """SELECT task, metric, configuration, value, unit, n FROM result_facts
ORDER BY task, metric, value DESC NULLS LAST""",
    ),
)
