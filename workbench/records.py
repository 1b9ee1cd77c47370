"""Records that sources and the runner yield and the store saves: frozen, with content-hash ids.

A record's fields are the columns of its table in `schema/tables.py`, which declares units and the
meaning of null. Records are `msgspec` structs: they are built and written to the spool an order of
magnitude faster than dataclasses. An empty id is filled with a hash of the content that identifies
the record, so that importing a file twice, or merging a copy of a store, changes nothing.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

NOT_RUN = "budget"  # error_type of a tool call that was not run: it was beyond the budget
_canonical = msgspec.json.Encoder(order="sorted")


def content_id(*parts: object) -> str:
    """Hash JSON-able values to 24 hex digits (96 bits: 10⁹ rows collide with p < 10⁻¹⁰)."""
    return hashlib.blake2b(_canonical.encode(parts), digest_size=12).hexdigest()


def json_text(value: object) -> str:
    """Write a value as canonical JSON text: sorted keys, so that equal values are equal texts."""
    return _canonical.encode(value).decode()


def attempt_id(source: str, name: str) -> str:
    """Return the id of an attempt that its source names: the same in every file."""
    return content_id("Attempt", source, name)


def try_id(item_id: str, trial: int, sent_at: dt.datetime) -> str:
    """Return the id of a failed try, identified by the time of its last request.

    Args:
        item_id: the item.
        trial: the trial of the item.
        sent_at: time of the last request; a time without a zone is UTC.
    """
    at = sent_at if sent_at.tzinfo else sent_at.replace(tzinfo=dt.UTC)
    return content_id("Try", item_id, trial, at.astimezone(dt.UTC).isoformat())


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Base of all records; `tag` writes the record's type into its spool line."""

    def _fill(self, field: str, *parts: object) -> None:
        if not getattr(self, field):
            msgspec.structs.force_setattr(self, field, content_id(type(self).__name__, *parts))


class Run(Record, frozen=True, kw_only=True):
    """One launch of the runner, or one imported file."""

    run_id: str
    kind: str  # "collect" | "import"
    source: str
    origin: str | None = None
    plan: str | None = None
    status: str | None = None
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    host: str | None = None
    platform: str | None = None
    accelerator: str | None = None
    versions: str | None = None
    commit_sha: str | None = None
    n_planned: int | None = None
    error_message: str | None = None
    metadata: str | None = None
    series_id: str | None = None


class Task(Record, frozen=True, kw_only=True):
    """A named set of items with a prompt and a scorer; identified by name and version."""

    task: str
    version: str | None = None
    task_id: str = ""
    description: str | None = None
    scorer: str | None = None
    metadata: str | None = None

    def __post_init__(self) -> None:
        """Fill the id."""
        self._fill("task_id", self.task, self.version)


class Item(Record, frozen=True, kw_only=True):
    """One question of a task; identified by task, key and input."""

    task_id: str
    item: str
    item_id: str = ""
    input: str | None = None
    target: str | None = None
    tags: str | None = None
    cluster: str | None = None
    difficulty: float | None = None
    value_usd: float | None = None
    human_cost_usd: float | None = None
    metadata: str | None = None

    def __post_init__(self) -> None:
        """Fill the id."""
        self._fill("item_id", self.task_id, self.item, self.input)


class Configuration(Record, frozen=True, kw_only=True):
    """Configuration: a model at a provider with a strategy and settings; the id hashes them all."""

    model: str
    provider: str | None = None
    strategy: str | None = None
    strategy_params: str | None = None
    effort: str | None = None
    thinking_budget_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    precision: str | None = None
    machine: str | None = None
    settings: str | None = None
    configuration_id: str = ""
    configuration: str = ""
    base_name: str = ""

    def __post_init__(self) -> None:
        """Fill the id, and a name if none was given; the store makes names unique."""
        names = {"configuration_id", "configuration", "base_name"}
        fields = [f for f in self.__struct_fields__ if f not in names]
        self._fill("configuration_id", *[getattr(self, f) for f in fields])
        base = (
            self.base_name
            or self.configuration
            or derived_name(self.model, self.strategy, self.effort, self.thinking_budget_tokens)
        )
        msgspec.structs.force_setattr(self, "base_name", base)
        msgspec.structs.force_setattr(self, "configuration", self.configuration or base)


def derived_name(
    model: str, strategy: str | None, effort: str | None, thinking_budget_tokens: int | None
) -> str:
    """Return the name of a configuration without a given one."""
    budget = f"{thinking_budget_tokens}tok" if thinking_budget_tokens else None
    return " ".join(p for p in (model, strategy, effort, budget) if p)


class Score(Record, frozen=True, kw_only=True):
    """Score of one trace by one scorer."""

    scorer: str
    score: float | None = None
    passed: bool | None = None
    value: str | None = None
    answer: str | None = None
    explanation: str | None = None
    metric: float | None = None
    unit: str | None = None
    scale_low: float | None = None
    scale_high: float | None = None
    direction: str | None = None  # higher | lower


class Call(Record, frozen=True, kw_only=True):
    """One request to a model and its response.

    Tokens are inclusive totals: input includes cached tokens, output includes thinking tokens.
    """

    ordinal: int = 0
    role: str = "subject"
    call_id: str = ""
    provider: str | None = None
    model: str | None = None
    response_model: str | None = None
    started_at: dt.datetime | None = None
    queue_s: float | None = None
    ttft_s: float | None = None
    answer_start_s: float | None = None
    e2e_s: float | None = None
    gap_p50_s: float | None = None
    gap_p90_s: float | None = None
    gap_p99_s: float | None = None
    gap_max_s: float | None = None
    n_chunks: int | None = None
    n_requests: int | None = 1
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    tokens_source: str | None = None
    logprob_sum: float | None = None
    stop_reason: str | None = None
    billed_cost_usd: float | None = None
    machine: str | None = None
    machine_s: float | None = None
    n_retries: int | None = None
    retry_wait_s: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    usage: str | None = None
    effort_sent: str | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    cache_read_image_tokens: int | None = None
    cache_read_video_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    output_video_tokens: int | None = None
    retried_as: int | None = None
    response_id: str | None = None


class ToolCall(Record, frozen=True, kw_only=True):
    """One request of the model to run a tool, and the outcome."""

    ordinal: int
    tool: str
    tool_call_id: str = ""
    call_ordinal: int | None = None
    arguments: str | None = None
    started_at: dt.datetime | None = None
    e2e_s: float | None = None
    result_tokens: int | None = None
    result_bytes: int | None = None
    cost_usd: float | None = None
    error_type: str | None = None
    error_message: str | None = None


class Message(Record, frozen=True, kw_only=True):
    """One part of a conversation, in order; equal texts are stored once."""

    ordinal: int
    role: str  # system | user | assistant | tool
    kind: str  # text | thinking | tool_call | tool_result
    text: str
    call_ordinal: int | None = None
    tool_call_ordinal: int | None = None
    n_tokens: int | None = None


class EnergyReading(Record, frozen=True, kw_only=True):
    """Joules of one call on one device in one phase, and the method of measurement."""

    call_ordinal: int
    device: str
    phase: str | None = None
    method: str
    energy_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    note: str | None = None
    full_j: float | None = None


class Trace(Record, frozen=True, kw_only=True):
    """Everything recorded for one attempt (configuration × item × trial) of one run."""

    run_id: str
    configuration_id: str
    task_id: str
    item_id: str
    trial: int = 0
    trace_id: str = ""
    started_at: dt.datetime | None = None
    e2e_s: float | None = None
    working_s: float | None = None
    answer: str | None = None
    score: float | None = None
    passed: bool | None = None
    verifier_score: float | None = None
    confidence: float | None = None
    stop_reason: str | None = None
    limit_type: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    n_turns: int | None = None
    metadata: str | None = None
    is_replaced: bool | None = None
    calls: tuple[Call, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    messages: tuple[Message, ...] = ()
    scores: tuple[Score, ...] = ()
    energy: tuple[EnergyReading, ...] = ()

    def __post_init__(self) -> None:
        """Fill the id."""
        parts = (self.run_id, self.configuration_id, self.item_id, self.trial)
        self._fill("trace_id", *parts)


class EnergyBalance(Record, frozen=True, kw_only=True):
    """Energy on one device's meter in a run, and its allocation; the sums agree within 2 %."""

    run_id: str
    device: str
    meter: str | None = None
    meter_j: float | None = None
    calls_j: float | None = None
    idle_j: float | None = None
    unattributed_j: float | None = None
    mismatch: float | None = None
    is_conserved: bool | None = None
    integral_j: float | None = None
    duration_s: float | None = None
    idle_w: float | None = None
    idle_sd_w: float | None = None
    idle_after_w: float | None = None
    period_s: float | None = None
    n_samples: int = 0
    n_calls: int = 0
    note: str | None = None


class Result(Record, frozen=True, kw_only=True):
    """A value that is known only as an aggregate, as in a leaderboard or a paper's table."""

    run_id: str
    configuration_id: str
    task_id: str
    metric: str
    result_id: str = ""
    value: float | None = None
    unit: str | None = None
    n: int | None = None
    standard_error: float | None = None
    date: dt.datetime | None = None
    metadata: str | None = None
    scale_low: float | None = None
    scale_high: float | None = None
    direction: str | None = None  # higher | lower

    def __post_init__(self) -> None:
        """Fill the id."""
        parts = (self.run_id, self.configuration_id, self.task_id, self.metric, self.date)
        self._fill("result_id", *parts, self.metadata)


class Price(Record, frozen=True, kw_only=True):
    """Price of a model or a machine from a date on, above a prompt size; one row per tier."""

    model: str
    sheet: str
    provider: str | None = None
    price_id: str = ""
    starts_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None
    daily_from: str | None = None
    daily_to: str | None = None
    min_input_tokens: int = 0
    input_usd_per_mtok: float | None = None
    cache_read_usd_per_mtok: float | None = None
    cache_write_5m_usd_per_mtok: float | None = None
    cache_write_1h_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    reasoning_usd_per_mtok: float | None = None
    request_usd: float | None = None
    machine_usd_per_hour: float | None = None
    note: str | None = None
    service_tier: str | None = None
    input_audio_usd_per_mtok: float | None = None
    input_image_usd_per_mtok: float | None = None
    input_video_usd_per_mtok: float | None = None
    cache_read_audio_usd_per_mtok: float | None = None
    cache_read_image_usd_per_mtok: float | None = None
    cache_read_video_usd_per_mtok: float | None = None
    output_audio_usd_per_mtok: float | None = None
    output_image_usd_per_mtok: float | None = None
    output_video_usd_per_mtok: float | None = None

    def __post_init__(self) -> None:
        """Fill the id; rows that use no field of a newer layout have the same id as before it."""
        fields = list(self.__struct_fields__)
        first = [f for f in fields[: fields.index("note")] if f != "price_id"]
        parts = [getattr(self, f) for f in first]
        parts += [self.service_tier] if self.service_tier is not None else []
        media = {f: getattr(self, f) for f in fields[fields.index("service_tier") + 1 :]}
        media = {f: value for f, value in media.items() if value is not None}
        self._fill("price_id", *parts, *([media] if media else []))


class Attempt(Record, frozen=True, kw_only=True):
    """A planned trace that was started; a line in the spool, never a row in the store."""

    run_id: str
    configuration_id: str
    item_id: str
    trial: int
    started_at: dt.datetime


class Rows(NamedTuple):
    """Many rows at once, in the place of records: a Polars frame for each of some tables.

    A frame has columns of its table, those that are not all null among them.
    """

    tables: Mapping[str, Any]


AnyRecord = Run | Task | Item | Configuration | Trace | EnergyBalance | Result | Price | Attempt


def as_dict(record: msgspec.Struct) -> dict[str, Any]:
    """Return a record's fields by name (shallow)."""
    return {f: getattr(record, f) for f in record.__struct_fields__}
