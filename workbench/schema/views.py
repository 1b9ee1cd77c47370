"""The stable views, column by column: columns of the joined tables, and derived ones."""

import dataclasses

from workbench.schema.column import KEY_NULL, Column, Table
from workbench.schema.tables import (
    CALLS,
    CONFIGURATIONS,
    CONTENTS,
    ENERGY,
    ITEMS,
    MESSAGES,
    RESULTS,
    RUNS,
    TASKS,
    TOOL_CALLS,
    TRACES,
)

_NAMES = (
    CONFIGURATIONS["configuration"],
    CONFIGURATIONS["model"],
    CONFIGURATIONS["provider"],
    CONFIGURATIONS["strategy"],
    CONFIGURATIONS["effort"],
    CONFIGURATIONS["thinking_budget_tokens"],
    CONFIGURATIONS["temperature"],
    CONFIGURATIONS["precision"],
    CONFIGURATIONS["canonical_model"],
    CONFIGURATIONS["top_p"],
    CONFIGURATIONS["max_tokens"],
    TASKS["task"],
    ITEMS["item"],
    ITEMS["cluster"],
    ITEMS["difficulty"],
    ITEMS["value_usd"],
    ITEMS["human_cost_usd"],
    Column("task_version", "text", doc="Version of the set of items.", null="not versioned"),
)
_ON = CONFIGURATIONS["machine"]  # a call has its own
_LISTED = (
    Column(
        "input_usd_per_mtok",
        "float",
        "USD/Mtok",
        "Listed price of fresh input in force.",
        "no price known",
        "input price",
    ),
    Column(
        "output_usd_per_mtok",
        "float",
        "USD/Mtok",
        "Listed price of output in force.",
        "no price known",
        "output price",
    ),
)
_VISIBLE = Column(
    "visible_tokens",
    "int",
    "tokens",
    "Output that is not thinking.",
    "thinking is not reported",
    "visible tokens",
)

# where an agent worked
_PLACES = (
    Column("project", "text", doc="Folder in which an agent worked.", null="not recorded"),
    Column("branch", "text", doc="Branch on which an agent worked.", null="not recorded"),
    Column("session", "text", doc="Session of an agent, by its id.", null="not recorded"),
    Column("agent", "text", doc="Sub-agent, by its id or name.", null="not a sub-agent"),
)

TRACE_FACTS = Table(
    "trace_facts",
    "one row per trace, with the names of what it is about and its cost",
    (
        *TRACES.columns,
        *_NAMES,
        _ON,
        *_LISTED,
        _VISIBLE,
        Column("origin", "text", doc="Name of the file it came from.", null="made here"),
        Column("source", "text", doc="The format it was read from, or the runner.", null=KEY_NULL),
        *_PLACES,
    ),
    key=("trace_id",),
)

TRACE_DETAILS = Table(
    "trace_details",
    "one row per trace as in trace_facts, "
    "with the question, its answer and the parameters of the strategy",
    (
        *TRACE_FACTS.columns,
        ITEMS["input"],
        CONFIGURATIONS["strategy_params"],
        ITEMS["target"],
        Column(
            "item_metadata",
            "json",
            doc="What the source said of the item and no column holds.",
            null="nothing",
        ),
    ),
    key=("trace_id",),
)

TRACE_TEXTS = Table(
    "trace_texts",
    "one row per trace as in trace_details, with what the model wrote and was told",
    (
        *TRACE_DETAILS.columns,
        Column(
            "thinking_text", "text", doc="Its thinking, call by call.", null="none, or not recorded"
        ),
        Column(
            "output_text",
            "text",
            doc="What it wrote beside the thinking, call by call; tool calls are no part.",
            null="none, or not recorded",
        ),
        Column(
            "read_text",
            "text",
            doc="What it was told after its first words: results of tools, remarks of the user.",
            null="nothing, or not recorded",
        ),
    ),
    key=("trace_id",),
)

CALL_FACTS = Table(
    "call_facts",
    "one row per call, with the names of what it is about, its cost and its disjoint token buckets",
    (
        *(c for c in CALLS.columns if c.name not in {"provider", "model"}),
        *_NAMES,
        *_LISTED,
        Column(
            "call_model",
            "text",
            doc="The model this call asked for: a judge's differs from the subject's.",
            null="not known",
        ),
        Column("call_provider", "text", doc="The provider this call asked.", null="not known"),
        Column(
            "fresh_input_tokens", "int", "tokens", "Input neither read from nor written to a cache."
        ),
        _VISIBLE,
        Column(
            "cost_usd", "float", "USD", "At the price in force.", "price or tokens unknown", "cost"
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
            "tpot_s",
            "float",
            "s",
            "(e2e − ttft) / (output tokens − 1).",
            "one token or fewer, not streamed, or a sum of several requests",
            "time per output token",
        ),
        Column(
            "output_tokens_per_s",
            "float",
            "tokens/s",
            "Output tokens over end-to-end time of the call.",
            null="not known, or a sum of several requests",
            title="output tokens per second",
        ),
    ),
    key=("call_id",),
)

_OF_TRACE = tuple(
    TRACES[c]
    for c in (
        "run_id",
        "configuration_id",
        "task_id",
        "item_id",
        "trial",
        "score",
        "passed",
        "n_turns",
    )
)
_ENDED = (
    Column("trace_error_type", "text", doc="Why the trace failed.", null="it did not"),
    TRACES["is_replaced"],
)

CALL_OUTCOMES = Table(
    "call_outcomes",
    "one row per call as in call_facts, with how its trace ended; "
    "without the requests that broke off and were made again",
    (
        *CALL_FACTS.columns,
        *(TRACES[c] for c in ("trial", "score", "passed", "n_turns")),
        *_ENDED,
    ),
    key=("call_id",),
)

_NOT_SPLIT = "price or tokens unknown, or priced otherwise: by the hour, or with audio or images"


def _cost(name: str, doc: str, title: str) -> Column:
    return Column(name, "float", "USD", doc, _NOT_SPLIT, title)


COST_PARTS = (
    _cost("fresh_cost_usd", "Input neither read from nor written to a cache.", "fresh input"),
    _cost("cache_read_cost_usd", "Context sent again and read from a cache.", "cache reads"),
    _cost("cache_write_5m_cost_usd", "Written to a cache for 5 minutes.", "cache writes, 5 min"),
    _cost("cache_write_1h_cost_usd", "Written to a cache for an hour.", "cache writes, 1 h"),
    _cost("thinking_cost_usd", "Thinking; 0 where it is not reported.", "thinking"),
    _cost("visible_cost_usd", "Output that is not reported as thinking.", "visible output"),
    _cost("request_cost_usd", "Fixed price of the requests.", "requests"),
    Column(
        "machine_cost_usd",
        "float",
        "USD",
        "Time of a machine that is paid by the hour.",
        "paid by tokens, or not known",
        "machine time",
    ),
)
CALL_COSTS = Table(
    "call_costs",
    "one row per call as in call_facts, broken requests included, with the parts of its cost; "
    "and one per paid call of a tool",
    (
        *(
            dataclasses.replace(c, null="a tool's")
            if c.null == KEY_NULL and c.name not in {"trace_id", "ordinal"}
            else c
            for c in CALL_FACTS.columns
        ),
        TOOL_CALLS["tool_call_id"],
        TOOL_CALLS["tool"],
        *(TRACES[c] for c in ("trial", "score", "passed", "n_turns")),
        *_ENDED,
        Column("day", "text", doc="Day of its start, UTC, as 2026-11-30.", null="time not known"),
        Column(
            "spender",
            "text",
            doc="Who spent it: main, sub-agent, judge, user (a simulated one) or tool.",
            null=KEY_NULL,
        ),
        *_PLACES,
        *COST_PARTS,
        Column(
            "cache_read_usd_per_mtok",
            "float",
            "USD/Mtok",
            "Listed price of input read from a cache; that of fresh input if there is none.",
            "no price known",
            "price of cache reads",
        ),
    ),
    key=("trace_id", "call_id", "tool_call_id"),
)

TOOL_FACTS = Table(
    "tool_facts",
    "one row per tool call, with the names of what it is about and how its trace ended",
    (
        *TOOL_CALLS.columns,
        *_OF_TRACE,
        *_ENDED,
        *_NAMES,
        _ON,
    ),
    key=("tool_call_id",),
)

TOOL_USES = Table(
    "tool_uses",
    "one row per tool call that was run, and one, without a tool, for each trace that called none",
    (
        *(
            dataclasses.replace(c, null="the trace called no tool")
            if c.null == KEY_NULL and c.name != "trace_id"
            else c
            for c in TOOL_CALLS.columns
        ),
        *_OF_TRACE,
        *_ENDED,
        *_NAMES,
        _ON,
        ITEMS["input"],
        *(
            TRACES[c]
            for c in (
                "answer",
                "n_tool_calls",
                "output_tokens",
                "input_tokens",
                "reasoning_tokens",
                "n_calls",
            )
        ),
        Column("trace_e2e_s", "float", "s", "Duration of the trace.", "not known", "duration"),
        Column(
            "trace_cost_usd",
            "float",
            "USD",
            "Cost of the whole trace.",
            "a price or a token count is unknown",
            "cost of the trace",
        ),
        Column(
            "opening_text",
            "text",
            doc="What the model wrote up to its first tool call, thinking first; "
            "of a trace without one, everything.",
            null="not recorded",
        ),
        Column(
            "opening_tokens",
            "int",
            "tokens",
            "Output tokens of the calls up to the one that asked for the first tool; "
            "of a trace without one, of all.",
            "not known, or the tool was asked for by no recorded call",
        ),
    ),
    key=("trace_id", "ordinal"),
)

MESSAGE_FACTS = Table(
    "message_facts",
    "one row per part of a conversation, with its text, "
    "the names of what it is about and how its trace ended",
    (
        *MESSAGES.columns,
        CONTENTS["text"],
        CONTENTS["n_bytes"],
        *_OF_TRACE,
        *_ENDED,
        *_NAMES,
        _ON,
    ),
    key=("trace_id", "ordinal"),
)

ENERGY_FACTS = Table(
    "energy_facts",
    "one row per call, device and phase, with the call's tokens and the names of what it is about",
    (
        *ENERGY.columns,
        CALLS["role"],
        CALLS["input_tokens"],
        CALLS["output_tokens"],
        CALLS["reasoning_tokens"],
        CALLS["e2e_s"],
        *_OF_TRACE,
        *_ENDED,
        *_NAMES,
        _ON,
    ),
    key=("call_id", "device", "phase"),
)

RUN_SUMMARY = Table(
    "run_summary",
    "one row per run",
    (
        *RUNS.columns[:3],
        RUNS["origin"],
        RUNS["status"],
        RUNS["started_at"],
        RUNS["ended_at"],
        RUNS["n_planned"],
        Column("n_traces", "int", "count", "Traces recorded.", KEY_NULL),
        Column("n_errors", "int", "count", "Traces that failed.", KEY_NULL),
        Column("n_scored", "int", "count", "Traces with a score.", KEY_NULL),
        Column("n_passed", "int", "count", "Traces that passed.", KEY_NULL),
        Column("n_configurations", "int", "count", "Configurations.", KEY_NULL),
        Column("n_items", "int", "count", "Distinct items.", KEY_NULL),
        Column("n_calls", "int", "count", "Calls.", KEY_NULL),
        Column(
            "n_broken", "int", "count", "Requests that broke off and were made again.", "not known"
        ),
        Column(
            "broken_tokens",
            "int",
            "tokens",
            "Input and output of requests that broke off, as far as known.",
            "none known",
        ),
        Column("input_tokens", "int", "tokens", "Sum of the known ones.", "none known"),
        Column("output_tokens", "int", "tokens", "Sum of the known ones.", "none known"),
        Column(
            "reasoning_tokens",
            "int",
            "tokens",
            "Sum of the known ones.",
            "none known",
            "thinking tokens",
        ),
        Column("cost_usd", "float", "USD", "Sum of the known ones.", "none known", "cost"),
        Column("n_unpriced", "int", "count", "Traces without a cost.", KEY_NULL),
        Column(
            "billed_cost_usd", "float", "USD", "Sum of the known ones.", "none known", "billed cost"
        ),
        Column("energy_j", "float", "J", "Sum of the known ones.", "none known", "energy"),
    ),
    key=("run_id",),
)

USAGE_FAULTS = Table(
    "usage_faults",
    "one row per call and rule that its token counts break",
    (
        Column("call_id", "text", doc="The call.", null=KEY_NULL),
        CALLS["trace_id"],
        CALLS["run_id"],
        Column("configuration", "text", doc="Its configuration.", null=KEY_NULL),
        Column("fault", "text", doc="Short name of the rule.", null=KEY_NULL),
        Column("detail", "text", doc="The numbers that contradict each other.", null=KEY_NULL),
    ),
    key=("call_id", "fault"),
)

RESULT_FACTS = Table(
    "result_facts",
    "one row per figure that exists only as an aggregate, with the names of what it is about",
    (
        *RESULTS.columns,
        *_NAMES[:6],
        TASKS["task"],
        RUNS["origin"],
    ),
    key=("result_id",),
)


VIEWS: dict[str, Table] = {
    t.name: t
    for t in (
        TRACE_FACTS,
        TRACE_DETAILS,
        TRACE_TEXTS,
        CALL_FACTS,
        CALL_OUTCOMES,
        CALL_COSTS,
        TOOL_FACTS,
        TOOL_USES,
        MESSAGE_FACTS,
        ENERGY_FACTS,
        RUN_SUMMARY,
        USAGE_FAULTS,
        RESULT_FACTS,
    )
}
