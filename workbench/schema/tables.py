"""The stored tables, column by column."""

from workbench.schema.column import KEY_NULL, Column, Table

APART = ("judge", "user")  # roles of calls whose tokens and cost are not the subject's

_RUN = Column("run_id", "text", doc="The run that recorded it.", null=KEY_NULL)
_TRACE = Column("trace_id", "text", doc="The trace it belongs to.", null=KEY_NULL)
_CALL = Column("call_id", "text", doc="The call it belongs to.", null="made by no recorded call")
_TASK = Column("task_id", "text", doc="Hash of the task's name and version.", null=KEY_NULL)
_ITEM = Column("item_id", "text", doc="Hash of task, key and input.", null=KEY_NULL)
_CONF = Column("configuration_id", "text", doc="Hash of what is compared.", null=KEY_NULL)
_METADATA = Column(
    "metadata", "json", doc="What the source said and no column holds.", null="nothing"
)
_ERROR = (
    Column("error_type", "text", doc="A short, stable word for the failure.", null="did not fail"),
    Column(
        "error_message",
        "text",
        doc="The failure in the words of whoever reported it.",
        null="did not fail",
    ),
)

_TIMES = (
    Column(
        "ttft_s",
        "float",
        "s",
        "Request sent to the first non-empty chunk of any kind.",
        "not streamed, or not measured",
        "time to first token",
    ),
    Column(
        "answer_start_s",
        "float",
        "s",
        "Request sent to the first visible (non-thinking) chunk.",
        "not streamed, or no visible text",
        "time to answer",
    ),
)
_TOKENS = (
    Column(
        "input_tokens",
        "int",
        "tokens",
        "All prompt tokens, cached ones included.",
        title="input tokens",
    ),
    Column("cache_read_tokens", "int", "tokens", "Part of the input that was read from a cache."),
    Column("cache_write_tokens", "int", "tokens", "Part of the input that was written to a cache."),
    Column("output_tokens", "int", "tokens", "All generated tokens, thinking included."),
    Column(
        "reasoning_tokens",
        "int",
        "tokens",
        "Part of the output that was spent thinking.",
        title="thinking tokens",
    ),
)
_WRITES = (
    Column(
        "cache_write_5m_tokens",
        "int",
        "tokens",
        "Part of the input written to a cache that lives 5 minutes.",
    ),
    Column(
        "cache_write_1h_tokens",
        "int",
        "tokens",
        "Part of the input written to a cache that lives 1 hour.",
    ),
)
_MEDIA = (
    Column(
        "input_audio_tokens",
        "int",
        "tokens",
        "Part of the input that is audio, cached ones included.",
        since=3,
    ),
    Column(
        "input_image_tokens",
        "int",
        "tokens",
        "Part of the input that is images (and documents read as images), cached ones included.",
        since=3,
    ),
    Column(
        "input_video_tokens",
        "int",
        "tokens",
        "Part of the input that is video, cached ones included.",
        since=3,
    ),
    Column(
        "cache_read_audio_tokens",
        "int",
        "tokens",
        "Part of the audio input that was read from a cache.",
        since=3,
    ),
    Column(
        "cache_read_image_tokens",
        "int",
        "tokens",
        "Part of the image input that was read from a cache.",
        since=3,
    ),
    Column(
        "cache_read_video_tokens",
        "int",
        "tokens",
        "Part of the video input that was read from a cache.",
        since=3,
    ),
    Column("output_audio_tokens", "int", "tokens", "Part of the output that is audio.", since=3),
    Column("output_image_tokens", "int", "tokens", "Part of the output that is images.", since=3),
    Column("output_video_tokens", "int", "tokens", "Part of the output that is video.", since=3),
)
_STOP = Column(
    "stop_reason", "text", doc="stop, max_tokens, tool_calls, content_filter, error or unknown."
)
_BILLED = Column(
    "billed_cost_usd", "float", "USD", "What the provider said it charged.", title="billed cost"
)
_MACHINE = Column(
    "machine_s",
    "float",
    "s",
    "Share of the machine's time: active time divided among the calls active at once.",
    "not run on a machine of ours",
    "machine time",
)
_PRICE = Column("price_id", "text", doc="The price row in force.", null="no price known")
_SCALE = (
    Column(
        "scale_low",
        "float",
        doc="Lowest value that the scale has.",
        null="no lower end, or not known",
        since=3,
    ),
    Column(
        "scale_high",
        "float",
        doc="Highest value that the scale has.",
        null="no upper end, or not known",
        since=3,
    ),
    Column(
        "direction",
        "text",
        doc="higher or lower: which values are better.",
        null="not known",
        since=3,
    ),
)

RUNS = Table(
    "runs",
    "one row per launch of the runner or imported file",
    (
        _RUN,
        Column("kind", "text", doc="collect or import.", null=KEY_NULL),
        Column("source", "text", doc="The format it was read from, or the runner.", null=KEY_NULL),
        Column(
            "origin",
            "text",
            doc="Name of the file it came from, without its folder.",
            null="made here",
        ),
        Column("plan", "json", doc="What was asked for.", null="not known"),
        Column(
            "status",
            "text",
            doc="running, done, failed, cancelled or interrupted.",
            null="not known",
        ),
        Column("started_at", "time", doc="When it began.", null="not known"),
        Column("ended_at", "time", doc="When it ended.", null="not ended, or not known"),
        Column("host", "text", doc="Name of the machine.", null="not known"),
        Column("platform", "text", doc="Operating system and processor.", null="not known"),
        Column("accelerator", "text", doc="The accelerator used.", null="none, or not known"),
        Column(
            "versions", "json", doc="Versions of the software that took part.", null="not known"
        ),
        Column(
            "commit_sha",
            "text",
            doc="Commit of the evaluated or the evaluating code.",
            null="not known",
        ),
        Column("n_planned", "int", "count", "Traces that were planned.", "not known"),
        Column("error_message", "text", doc="Why the run failed.", null="did not fail"),
        _METADATA,
        Column(
            "series_id",
            "text",
            doc="Shared by runs of which the later make again what failed in the earlier.",
            null="stands alone",
            since=3,
        ),
    ),
    key=("run_id",),
    compressed=("plan", "metadata"),
)

TASKS = Table(
    "tasks",
    "one row per named set of items",
    (
        _TASK,
        Column("task", "text", doc="Name of the set of items.", null=KEY_NULL),
        Column("version", "text", doc="Version of the set.", null="not versioned"),
        Column("description", "text", doc="What it asks.", null="not described"),
        Column("scorer", "text", doc="Name of the scorer.", null="not known"),
        _METADATA,
    ),
    key=("task_id",),
)

ITEMS = Table(
    "items",
    "one row per question of a task",
    (
        _ITEM,
        _TASK,
        Column("item", "text", doc="Key of the item within its task.", null=KEY_NULL),
        Column("input", "text", doc="The question.", null="not recorded"),
        Column("target", "text", doc="The accepted truth.", null="none, or not recorded"),
        Column("tags", "json", doc="List of labels.", null="none"),
        Column(
            "cluster",
            "text",
            doc="Items of one cluster are not independent: a passage, a repository.",
            null="a cluster of its own",
        ),
        Column(
            "difficulty",
            "float",
            doc="The higher the harder, on the task's own scale.",
            null="not graded",
        ),
        Column("value_usd", "float", "USD", "What a right answer is worth.", "not priced"),
        Column(
            "human_cost_usd",
            "float",
            "USD",
            "What an expert charges for a right answer.",
            "not known",
        ),
        _METADATA,
    ),
    key=("item_id",),
    compressed=("input", "metadata"),
)

CONFIGURATIONS = Table(
    "configurations",
    "one row per thing compared",
    (
        _CONF,
        Column(
            "configuration",
            "text",
            doc="Its name, unique in the store: "
            "the base name, and what tells it from others of that name.",
            null=KEY_NULL,
        ),
        Column("model", "text", doc="The model that was asked for.", null=KEY_NULL),
        Column("provider", "text", doc="The service or engine that answers.", null="not known"),
        Column(
            "strategy", "text", doc="How the model is used: direct, cot, react …", null="not known"
        ),
        Column("strategy_params", "json", doc="Parameters of the strategy.", null="none"),
        Column("effort", "text", doc="Reasoning effort as asked.", null="not set"),
        Column("thinking_budget_tokens", "int", "tokens", "Cap on thinking tokens.", "not set"),
        Column("temperature", "float", doc="Sampling temperature.", null="the provider's default"),
        Column("top_p", "float", doc="Nucleus sampling mass.", null="the provider's default"),
        Column("max_tokens", "int", "tokens", "Cap on output tokens.", "not set"),
        Column("precision", "text", doc="Number format of the weights.", null="not known"),
        Column(
            "machine",
            "text",
            doc="Name of the machine in the price sheet.",
            null="not run on a machine of ours",
        ),
        Column(
            "settings", "json", doc="Every other setting that may change the answer.", null="none"
        ),
        Column(
            "base_name",
            "text",
            doc="The name that it came with, "
            "or made of model, strategy, effort and cap on thinking.",
            null=KEY_NULL,
            since=3,
        ),
        Column(
            "canonical_model",
            "text",
            doc="The model that the name asked for means, without provider, region and date.",
            null="not read yet",
            title="model meant",
            since=3,
        ),
    ),
    key=("configuration_id",),
)

PARAMETERS = Table(
    "parameters",
    "one row per configuration and single value of its "
    "strategy_params (params.…) and settings (settings.…)",
    (
        _CONF,
        Column(
            "name",
            "text",
            doc="As slices and groups name it: params.docs, settings.limits.tokens.",
            null=KEY_NULL,
        ),
        Column("type", "text", doc="int, float, bool or text, as it was given.", null=KEY_NULL),
        Column("value", "text", doc="The value as text; lists as JSON.", null=KEY_NULL),
        Column("number", "float", doc="The value as a number.", null="not a number"),
    ),
    key=("configuration_id", "name"),
)

TRACES = Table(
    "traces",
    "one row per attempt: configuration × item × trial of a run",
    (
        Column(
            "trace_id", "text", doc="Hash of run, configuration, item and trial.", null=KEY_NULL
        ),
        _RUN,
        _CONF,
        _TASK,
        _ITEM,
        Column("trial", "int", "count", "Repeat of the item, from 0.", KEY_NULL),
        Column("started_at", "time", doc="When the attempt began.", null="not known"),
        Column(
            "e2e_s",
            "float",
            "s",
            "Begin to end of the attempt, waits and tools included.",
            title="end to end",
        ),
        Column(
            "working_s",
            "float",
            "s",
            "As e2e_s, without retries and waits for a slot.",
            title="working time",
        ),
        *_TIMES,
        Column(
            "answer",
            "text",
            doc="The part of the output that the scorer read.",
            null="no answer found",
        ),
        Column("score", "float", "0..1", "What the first scorer gave.", "not scored"),
        Column(
            "passed",
            "bool",
            doc="Whether the score counts as right.",
            null="not scored",
            title="passed",
        ),
        Column(
            "verifier_score", "float", doc="What a verifier gave the answer.", null="no verifier"
        ),
        Column("confidence", "float", "0..1", "The model's confidence in its answer.", "not asked"),
        _STOP,
        Column(
            "limit_type",
            "text",
            doc="The limit that ended the attempt: tokens, turns, tool_calls, time, cost, budget.",
            null="no limit was hit",
        ),
        *_ERROR,
        Column("n_turns", "int", "count", "Assistant turns."),
        Column(
            "n_calls",
            "int",
            "count",
            "Calls to the subject model, drafts and verifiers included; "
            "not the requests that broke off and were made again.",
            KEY_NULL,
        ),
        Column("n_tool_calls", "int", "count", "Tool calls that were run.", KEY_NULL),
        Column("n_tool_errors", "int", "count", "Tool calls that failed.", KEY_NULL),
        Column("n_messages", "int", "count", "Recorded parts of the conversation.", KEY_NULL),
        *_TOKENS,
        Column(
            "judge_input_tokens",
            "int",
            "tokens",
            "Input tokens of the calls that only grade.",
            "nothing graded, or not reported",
        ),
        Column(
            "judge_output_tokens",
            "int",
            "tokens",
            "Output tokens of the calls that only grade.",
            "nothing graded, or not reported",
        ),
        Column(
            "cost_usd",
            "float",
            "USD",
            "Sum over the calls at the prices in force, "
            "requests that broke off among them; judges and simulated users apart.",
            "a price or a token count is unknown",
            "cost",
        ),
        Column(
            "reasoning_cost_usd",
            "float",
            "USD",
            "Part of the cost that paid for thinking.",
            "thinking or price is unknown",
            "thinking cost",
        ),
        Column(
            "judge_cost_usd",
            "float",
            "USD",
            "Cost of the calls that only grade.",
            "nothing graded, or unknown",
            "judge cost",
        ),
        _BILLED,
        Column(
            "energy_j",
            "float",
            "J",
            "Joules of the calls over all devices.",
            "not measured",
            "energy",
        ),
        _MACHINE,
        _PRICE,
        _METADATA,
        Column(
            "is_replaced",
            "bool",
            doc="Whether a later try took its place: it was paid, and is no answer.",
            null="no",
            title="replaced",
            since=3,
        ),
        Column(
            "n_broken",
            "int",
            "count",
            "Requests that broke off after they may have been billed, and were made again.",
            "not known",
            since=3,
        ),
        Column(
            "n_broken_unknown",
            "int",
            "count",
            "Those of them whose tokens nobody reported: the attempt cost at least what is said.",
            "not known",
            since=3,
        ),
        Column(
            "broken_tokens",
            "int",
            "tokens",
            "Input and output of the requests that broke off; no part of the other token counts.",
            "none broke off, or none reported",
            since=3,
        ),
        Column(
            "broken_cost_usd",
            "float",
            "USD",
            "Part of the costs, the judges' too, that paid for requests that broke off.",
            "none broke off, or none reported",
            "cost of broken requests",
            since=3,
        ),
    ),
    key=("trace_id",),
    compressed=("metadata",),
)

SCORES = Table(
    "scores",
    "one row per trace and scorer",
    (
        _TRACE,
        Column("scorer", "text", doc="Name of the scorer.", null=KEY_NULL),
        Column("score", "float", "0..1", "The value as a number.", "not a number, or not scored"),
        Column("passed", "bool", doc="Whether it counts as right.", null="the scorer does not say"),
        Column("value", "text", doc="The value as the scorer wrote it.", null="not scored"),
        Column("answer", "text", doc="What the scorer read.", null="not recorded"),
        Column("explanation", "text", doc="Why.", null="not given"),
        Column(
            "metric",
            "float",
            doc="The value on the scorer's own scale.",
            null="its scale is 0..1 (see score), or not a number",
            since=3,
        ),
        Column("unit", "text", doc="The unit of the metric.", null="none", since=3),
        *_SCALE,
    ),
    key=("trace_id", "scorer"),
    compressed=("explanation",),
)

CALLS = Table(
    "calls",
    "one row per request to a model",
    (
        Column("call_id", "text", doc="Hash of the trace and the ordinal.", null=KEY_NULL),
        _TRACE,
        _RUN,
        _CONF,
        _TASK,
        _ITEM,
        Column("ordinal", "int", "count", "Place among the trace's calls, from 0.", KEY_NULL),
        Column(
            "role",
            "text",
            doc="subject, judge, verifier, draft, or user: a simulated one.",
            null=KEY_NULL,
        ),
        Column("provider", "text", doc="The service or engine asked.", null="not known"),
        Column("model", "text", doc="The model asked for.", null="not known"),
        Column("response_model", "text", doc="The model that said it answered."),
        Column("started_at", "time", doc="When the request was sent.", null="not known"),
        Column(
            "queue_s", "float", "s", "Wait for a slot before the request was sent.", title="queue"
        ),
        *_TIMES,
        Column("e2e_s", "float", "s", "Request sent to the last byte.", title="latency"),
        Column("gap_p50_s", "float", "s", "Median gap between chunks.", "fewer than two chunks"),
        Column(
            "gap_p90_s",
            "float",
            "s",
            "90th percentile of the gaps between chunks.",
            "fewer than two chunks",
        ),
        Column(
            "gap_p99_s",
            "float",
            "s",
            "99th percentile of the gaps between chunks.",
            "fewer than two chunks",
        ),
        Column("gap_max_s", "float", "s", "Longest gap between chunks.", "fewer than two chunks"),
        Column("n_chunks", "int", "count", "Non-empty chunks.", "not streamed"),
        Column(
            "n_requests",
            "int",
            "count",
            "Requests that the row sums up; 1 unless a source only gives totals.",
            "not known",
        ),
        *_TOKENS[:2],
        *_WRITES,
        *_TOKENS[3:],
        Column(
            "total_tokens",
            "int",
            "tokens",
            "The total as the provider reported it; only checked, never used.",
        ),
        Column(
            "tokens_source",
            "text",
            doc="reported, counted (by a tokenizer of ours) or derived.",
            null="not known",
        ),
        Column(
            "logprob_sum",
            "float",
            doc="Sum of the log probabilities of the output tokens.",
            null="not asked",
        ),
        _STOP,
        _BILLED,
        Column(
            "machine",
            "text",
            doc="Name of the machine in the price sheet.",
            null="not run on a machine of ours",
        ),
        _MACHINE,
        Column("n_retries", "int", "count", "Requests that failed before this one answered."),
        Column("retry_wait_s", "float", "s", "Time spent waiting between retries."),
        *_ERROR,
        Column("request_id", "text", doc="The provider's name for the request."),
        Column("service_tier", "text", doc="Service tier: batch, flex, priority …"),
        Column("usage", "json", doc="The provider's usage object as received."),
        Column(
            "energy_j",
            "float",
            "J",
            "Joules over all devices and phases, without estimates; the rows are in energy.",
            "not measured",
            "energy",
        ),
        _PRICE,
        Column(
            "effort_sent",
            "text",
            doc="What was sent to the provider for the effort asked.",
            null="no effort asked",
            since=2,
        ),
        *_MEDIA,
        Column(
            "retried_as",
            "int",
            "count",
            "Ordinal of the call that was made in its place: this request broke off "
            "and is no turn of the attempt, though it may be billed.",
            "it was not made again",
            since=3,
        ),
        Column(
            "response_id",
            "text",
            doc="The provider's id of the reply, as its body has it: chatcmpl-…, resp_…, msg_….",
            null="no reply, or it has no id",
            since=4,
        ),
    ),
    key=("call_id",),
    compressed=("usage",),
)

CALL_COPIES = Table(
    "call_copies",
    "one row per session that repeats a call of another: a resumed or forked one",
    (
        Column(
            "call_id",
            "text",
            doc="The call; its row in calls belongs to the session that began first.",
            null=KEY_NULL,
        ),
        _TRACE,
        Column(
            "ordinal",
            "int",
            "count",
            "Its place among the calls of this session, from 0.",
            KEY_NULL,
        ),
    ),
    key=("call_id", "trace_id"),
)

TOOL_CALLS = Table(
    "tool_calls",
    "one row per tool that a model asked for",
    (
        Column("tool_call_id", "text", doc="Hash of the trace and the ordinal.", null=KEY_NULL),
        _TRACE,
        _CALL,
        Column("ordinal", "int", "count", "Place among the trace's tool calls, from 0.", KEY_NULL),
        Column("tool", "text", doc="Name of the tool.", null=KEY_NULL),
        Column("arguments", "json", doc="Arguments as the model wrote them.", null="not recorded"),
        Column("started_at", "time", doc="When the tool began.", null="not known"),
        Column("e2e_s", "float", "s", "How long the tool took.", title="tool time"),
        Column("result_tokens", "int", "tokens", "Tokens of the result."),
        Column("result_bytes", "int", "bytes", "Bytes of the result."),
        Column("cost_usd", "float", "USD", "What the tool charged.", "not priced", "tool cost"),
        *_ERROR,
    ),
    key=("tool_call_id",),
    compressed=("arguments",),
)

MESSAGES = Table(
    "messages",
    "one row per part of a conversation",
    (
        _TRACE,
        Column("ordinal", "int", "count", "Place in the trace, from 0.", KEY_NULL),
        Column("role", "text", doc="system, user, assistant or tool.", null=KEY_NULL),
        Column("kind", "text", doc="text, thinking, tool_call or tool_result.", null=KEY_NULL),
        Column("content_id", "text", doc="Hash of the text.", null=KEY_NULL),
        _CALL,
        Column(
            "tool_call_id",
            "text",
            doc="The tool call it asks for or answers.",
            null="about no tool call",
        ),
        Column("n_tokens", "int", "tokens", "Tokens of the text.", "not counted"),
    ),
    key=("trace_id", "ordinal"),
)

CONTENTS = Table(
    "contents",
    "one row per distinct text",
    (
        Column("content_id", "text", doc="Hash of the text.", null=KEY_NULL),
        Column("n_bytes", "int", "bytes", "Length in UTF-8.", KEY_NULL),
        Column("text", "text", doc="The text.", null=KEY_NULL),
    ),
    key=("content_id",),
    compressed=("text",),
)

ENERGY = Table(
    "energy",
    "one row per call, device and phase",
    (
        _TRACE,
        Column("call_id", "text", doc="The call it belongs to.", null=KEY_NULL),
        Column("device", "text", doc="Which device.", null=KEY_NULL),
        Column(
            "phase", "text", doc="prefill, thinking, answer or tool_wait.", null="the whole call"
        ),
        Column(
            "method", "text", doc="measured, apportioned, reported or estimated.", null=KEY_NULL
        ),
        Column(
            "energy_j",
            "float",
            "J",
            "Joules, above idle where we measured; the central value of an estimate.",
            "not known",
            "energy",
        ),
        Column("low_j", "float", "J", "Lower end."),
        Column("high_j", "float", "J", "Upper end."),
        Column("note", "text", doc="Why the range is what it is.", null="nothing to say"),
        Column(
            "full_j",
            "float",
            "J",
            "As energy_j, with the call's share of the idle power while it was active.",
            "idle not known, or estimated",
            "energy with idle",
            since=2,
        ),
    ),
    key=("call_id", "device", "phase"),
)

ENERGY_BALANCES = Table(
    "energy_balances",
    "one row per run and device: what its meter read, and where it went",
    (
        _RUN,
        Column("device", "text", doc="Which device.", null=KEY_NULL),
        Column(
            "meter",
            "text",
            doc="What was read: nvml, rapl, apple …, and counter or power.",
            null="nothing was measured",
        ),
        Column("meter_j", "float", "J", "What the meter counted.", "not measured", "metered"),
        Column("calls_j", "float", "J", "Given to calls, above idle.", "not measured", "calls"),
        Column(
            "idle_j",
            "float",
            "J",
            "Idle power times the length of the run.",
            "not measured",
            "idle",
        ),
        Column(
            "unattributed_j",
            "float",
            "J",
            "Above idle while no call was active.",
            "not measured",
            "unattributed",
        ),
        Column(
            "mismatch",
            "float",
            "0..1",
            "|calls + idle + unattributed − metered| over metered.",
            "not measured",
        ),
        Column(
            "is_conserved",
            "bool",
            doc="Whether the mismatch is within 2 %.",
            null="not measured",
            title="conserved",
        ),
        Column(
            "integral_j",
            "float",
            "J",
            "Power samples integrated over the same time.",
            "no power samples",
            "integral of power",
        ),
        Column("duration_s", "float", "s", "Length of the run as metered.", "not measured"),
        Column(
            "idle_w", "float", "W", "Mean power in the quiet window before the run.", "not measured"
        ),
        Column("idle_sd_w", "float", "W", "Its standard deviation.", "fewer than two samples"),
        Column(
            "idle_after_w",
            "float",
            "W",
            "Mean power in the quiet window after the run.",
            "ended without one",
        ),
        Column("period_s", "float", "s", "Update period of the counter as seen.", "not measured"),
        Column("n_samples", "int", "count", "Readings taken.", KEY_NULL),
        Column("n_calls", "int", "count", "Calls that were given energy.", KEY_NULL),
        Column(
            "note",
            "text",
            doc="Why there is no reading, or what to know of it.",
            null="nothing to say",
        ),
    ),
    key=("run_id", "device"),
)

RESULTS = Table(
    "results",
    "one row per figure that exists only as an aggregate",
    (
        Column("result_id", "text", doc="Hash of what it says about what.", null=KEY_NULL),
        _RUN,
        _CONF,
        _TASK,
        Column("metric", "text", doc="Name of the figure.", null=KEY_NULL),
        Column("value", "float", doc="The figure.", null="unknown"),
        Column("unit", "text", doc="Its unit.", null="none"),
        Column("n", "int", "count", "Items or traces behind it."),
        Column("standard_error", "float", doc="Its standard error, in its unit."),
        Column("date", "time", doc="When it was measured."),
        _METADATA,
        *_SCALE,
    ),
    key=("result_id",),
)

PRICES = Table(
    "prices",
    "one row per model (or machine), period and tier",
    (
        Column("price_id", "text", doc="Hash of the row.", null=KEY_NULL),
        Column(
            "model", "text", doc="The model as asked for, or the machine's name.", null=KEY_NULL
        ),
        Column("sheet", "text", doc="Where the price comes from.", null=KEY_NULL),
        Column("provider", "text", doc="The provider as asked.", null="any"),
        Column("starts_at", "time", doc="In force from then on.", null="always was"),
        Column("ends_at", "time", doc="In force until then.", null="still is"),
        Column(
            "daily_from",
            "text",
            doc="In force from that time of day (UTC, HH:MM:SS).",
            null="all day",
        ),
        Column(
            "daily_to",
            "text",
            doc="In force until that time of day (UTC, HH:MM:SS).",
            null="all day",
        ),
        Column(
            "min_input_tokens",
            "int",
            "tokens",
            "In force for prompts longer than that; 0 for all.",
            KEY_NULL,
        ),
        Column("input_usd_per_mtok", "float", "USD/Mtok", "Fresh input.", "not priced"),
        Column(
            "cache_read_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Input read from a cache.",
            "as fresh input",
        ),
        Column(
            "cache_write_5m_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Input written to a 5-minute cache.",
            "as fresh input",
        ),
        Column(
            "cache_write_1h_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Input written to a 1-hour cache.",
            "as fresh input",
        ),
        Column(
            "output_usd_per_mtok", "float", "USD/Mtok", "Output, thinking included.", "not priced"
        ),
        Column(
            "reasoning_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Thinking, where it is priced apart.",
            "as output",
        ),
        Column("request_usd", "float", "USD", "Per request.", "none"),
        Column(
            "machine_usd_per_hour", "float", "USD/h", "Per hour of a machine.", "priced by token"
        ),
        Column("note", "text", doc="Anything to know.", null="nothing"),
        Column(
            "service_tier",
            "text",
            doc="In force for calls of that service tier alone; "
            "calls of batches are priced by no other row.",
            null="for all but batches",
            since=2,
        ),
        Column("input_audio_usd_per_mtok", "float", "USD/Mtok", "Audio input.", "unknown", since=3),
        Column(
            "input_image_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Image input.",
            "as fresh input in genai-prices, else unknown",
            since=3,
        ),
        Column(
            "input_video_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Video input.",
            "as fresh input in genai-prices, else unknown",
            since=3,
        ),
        Column(
            "cache_read_audio_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Audio input read from a cache.",
            "as audio input",
            since=3,
        ),
        Column(
            "cache_read_image_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Image input read from a cache.",
            "as image input",
            since=3,
        ),
        Column(
            "cache_read_video_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Video input read from a cache.",
            "as video input",
            since=3,
        ),
        Column(
            "output_audio_usd_per_mtok", "float", "USD/Mtok", "Audio output.", "unknown", since=3
        ),
        Column(
            "output_image_usd_per_mtok", "float", "USD/Mtok", "Image output.", "unknown", since=3
        ),
        Column(
            "output_video_usd_per_mtok", "float", "USD/Mtok", "Video output.", "unknown", since=3
        ),
    ),
    key=("price_id",),
)

MODELS = Table(
    "models",
    "one row per model whose shape or dates are known",
    (
        Column("model", "text", doc="Name of the model.", null=KEY_NULL),
        Column("family", "text", doc="Family it belongs to."),
        Column("released_at", "time", doc="Release date."),
        Column("n_params", "int", "count", "Parameters."),
        Column("n_active_params", "int", "count", "Parameters active per token."),
        Column("n_layers", "int", "count", "Layers."),
        Column("d_model", "int", "count", "Width of the hidden state."),
        Column("n_heads", "int", "count", "Attention heads."),
        Column("n_kv_heads", "int", "count", "Key-value heads."),
        Column("source", "text", doc="Where the row comes from."),
    ),
    key=("model",),
)

MODEL_ALIASES = Table(
    "model_aliases",
    "one row per name of a model that the user explained",
    (
        Column("model", "text", doc="The model as asked for.", null=KEY_NULL),
        Column("provider", "text", doc="The provider as asked.", null="any"),
        Column("canonical_model", "text", doc="The model that the name means.", null=KEY_NULL),
        Column(
            "priced_as",
            "text",
            doc="The name whose prices it has, as genai-prices knows it.",
            null="those of canonical_model",
        ),
        Column("sheet", "text", doc="Name of the file that says so.", null=KEY_NULL),
    ),
    key=("model", "provider"),
)

ACCELERATORS = Table(
    "accelerators",
    "one row per accelerator",
    (
        Column("accelerator", "text", doc="Its name.", null=KEY_NULL),
        Column("peak_flops", "float", "FLOP/s", "Dense 16-bit peak."),
        Column("bandwidth_bytes_per_s", "float", "bytes/s", "Memory bandwidth."),
        Column("memory_bytes", "int", "bytes", "Memory."),
        Column("tdp_w", "float", "W", "Thermal design power."),
        Column("source", "text", doc="Where the row comes from."),
    ),
    key=("accelerator",),
)

GRIDS = Table(
    "grids",
    "one row per electricity grid and year",
    (
        Column("grid", "text", doc="Country or region.", null=KEY_NULL),
        Column("year", "int", "", "Year of the figure."),
        Column("carbon_g_per_kwh", "float", "g/kWh", "Carbon intensity."),
        Column("source", "text", doc="Where the row comes from."),
    ),
    key=("grid", "year"),
)

ANNOTATIONS = Table(
    "annotations",
    "one row per mark that a person set on a trace",
    (
        _TRACE,
        Column("author", "text", doc="Who.", null="not said"),
        Column("created_at", "time", doc="When.", null=KEY_NULL),
        Column("mark", "text", doc="A short label.", null=KEY_NULL),
        Column("note", "text", doc="A remark.", null="none"),
    ),
    key=("trace_id", "author", "mark"),
)

SAVED_SLICES = Table(
    "saved_slices",
    "one row per filter kept under a name",
    (
        Column("name", "text", doc="Its name.", null=KEY_NULL),
        Column("filter", "text", doc="The filter.", null=KEY_NULL),
        Column("created_at", "time", doc="When it was saved.", null=KEY_NULL),
    ),
    key=("name",),
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        RUNS,
        TASKS,
        ITEMS,
        CONFIGURATIONS,
        PARAMETERS,
        TRACES,
        SCORES,
        CALLS,
        CALL_COPIES,
        TOOL_CALLS,
        MESSAGES,
        CONTENTS,
        ENERGY,
        ENERGY_BALANCES,
        RESULTS,
        PRICES,
        MODELS,
        MODEL_ALIASES,
        ACCELERATORS,
        GRIDS,
        ANNOTATIONS,
        SAVED_SLICES,
    )
}
