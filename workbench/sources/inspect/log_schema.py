"""Schema of the parts of an Inspect log that are imported; unknown fields are ignored.

Fields whose type differs between events stay raw, and are decoded by the code that needs them.
"""

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field

NOTHING = Raw(b"")
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # the range of the store's integer columns


class ModelUsage(Struct, gc=False):
    """Token counts of a call or a sample; what input and output include varies."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_cache_write: Count | None = None
    input_tokens_cache_read: Count | None = None
    reasoning_tokens: Count | None = None


class Part(Struct, gc=False):
    """One piece of a message's content."""

    type: str = "text"
    text: str | None = None
    reasoning: str | None = None
    summary: str | None = None
    redacted: bool | None = None
    name: str | None = None
    arguments: Raw = NOTHING
    result: Raw = NOTHING


class ToolRequest(Struct, gc=False):
    """A tool call as requested by the model."""

    id: str = ""
    function: str = ""
    arguments: Raw = NOTHING


class Fault(Struct, gc=False):
    """An error of a tool, a sample or a log."""

    message: str = ""
    type: str | None = None
    traceback: str | None = None


class ChatMessage(Struct):
    """A message of the conversation."""

    role: str
    content: str | list[Part] | None = None
    id: str | None = None
    tool_calls: list[ToolRequest] | None = None
    tool_call_id: str | list[str] | None = None
    function: str | None = None
    error: Fault | None = None


class Choice(Struct):
    """One answer of a model."""

    message: ChatMessage
    stop_reason: str | None = None


class Output(Struct):
    """The output of a model call."""

    model: str | None = None
    choices: list[Choice] = []
    usage: Raw = NOTHING
    time: float | None = None
    error: str | None = None
    completion: str | None = None


class Response(Struct, gc=False):
    """Common fields of providers' responses; usage is in one of three fields."""

    id: Any = None
    response_id: Any = None
    responseId: Any = None  # noqa: N815 (Gemini's own name)
    usage: Any = None
    usage_metadata: Any = None
    usageMetadata: Any = None  # noqa: N815 (Gemini's own name)
    choices: Raw = NOTHING
    service_tier: Any = None


class ModelCall(Struct, gc=False):
    """The raw request and response of a provider."""

    response: Raw = NOTHING


class Event(Struct):
    """Any event of a sample; which fields are set depends on `event`."""

    event: str = ""
    timestamp: dt.datetime | None = None
    completed: dt.datetime | None = None
    working_time: float | None = None
    span_id: str | None = None
    id: Any = None
    parent_id: str | None = None
    type: Any = None
    name: Any = None
    action: Any = None
    model: Any = None
    role: Any = None
    input: Raw = NOTHING
    input_refs: list[tuple[Count, Count]] | None = None
    output: Raw = NOTHING
    call: Raw = NOTHING
    retries: Count | None = None
    cache: Any = None
    error: Raw = NOTHING
    function: str | None = None
    arguments: Raw = NOTHING
    result: Raw = NOTHING
    failed: bool | None = None
    events: Raw = NOTHING
    pending: bool | None = None


class Retry(Fault):
    """A failed try that `retry_on_error` repeated; its events begin with its last request."""

    events: list[Event] | None = None


class ScoreOf(Struct):
    """Score of a sample by one scorer."""

    value: Any = None
    answer: str | None = None
    explanation: str | None = None


class Limit(Struct):
    """The limit that ended a sample."""

    type: str = ""
    limit: float | None = None
    reason: str | None = None


class Pool(Struct):
    """Messages that events refer to by position."""

    messages: list[ChatMessage] = []


class Transcript(Struct):
    """Events and attachments, in the layout of early logs."""

    events: list[Event] = []
    content: dict[str, str] = {}


class ScoredSample(Struct):
    """Id and scores of a sample or of its summary."""

    id: int | str
    epoch: Count = 1
    scores: dict[str, ScoreOf] | None = None
    score: ScoreOf | None = None

    @property
    def all_scores(self) -> dict[str, ScoreOf]:
        """Scores by scorer; the oldest logs have one without a name."""
        return self.scores or ({"score": self.score} if self.score else {})


class Sample(ScoredSample):
    """One trial of one item."""

    input: str | list[ChatMessage] = ""
    choices: list[str] | None = None
    target: str | list[str] = ""
    messages: list[ChatMessage] = []
    output: Output = field(default_factory=Output)
    metadata: Raw = NOTHING
    events: list[Event] = []
    transcript: Transcript | None = None
    model_usage: dict[str, Raw] = {}
    started_at: dt.datetime | None = None
    total_time: float | None = None
    working_time: float | None = None
    uuid: str | None = None
    error: Fault | None = None
    error_retries: list[Retry] | None = None
    limit: Limit | None = None
    attachments: dict[str, str] = {}
    events_data: Pool | None = None
    turn_count: Count | None = None


class Dataset(Struct):
    """The dataset of an evaluation."""

    name: str | None = None
    location: str | None = None
    samples: Count | None = None
    sample_ids: list[int | str] | None = None


class Revision(Struct):
    """Git revision of the evaluated code."""

    commit: str | None = None


class Scorer(Struct):
    """Name of a scorer."""

    name: str = ""


class Generate(Struct):
    """Generation settings that have columns of their own."""

    reasoning_effort: str | None = None
    reasoning_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Count | None = None


class EvalConfig(Struct):
    """Number of trials per item."""

    epochs: Count | None = None


class Spec(Struct):
    """Specification of the evaluation."""

    task: str
    model: str
    eval_id: str | None = None
    run_id: str | None = None
    created: dt.datetime | None = None
    task_id: str | None = None
    task_version: int | str | None = None
    task_args: dict[str, Any] | None = None
    tags: list[str] | None = None
    dataset: Dataset = field(default_factory=Dataset)
    model_generate_config: dict[str, Any] | None = None
    model_args: dict[str, Any] | None = None
    model_roles: dict[str, Any] | None = None
    config: dict[str, Any] = {}
    revision: Revision | None = None
    packages: dict[str, str] = {}
    scorers: list[Scorer] | None = None
    metadata: dict[str, Any] | None = None
    solver: str | None = None


class Step(Struct):
    """One solver of the plan."""

    solver: str = ""
    params: dict[str, Any] = {}
    params_passed: dict[str, Any] | None = None


class Plan(Struct):
    """The solvers in order, with the generation settings that they share."""

    name: str = ""
    steps: list[Step] = []
    config: dict[str, Any] = {}


class MetricOf(Struct):
    """A metric of the log's results."""

    value: Any = None


class ScoreResult(Struct):
    """The results of one scorer, or of one key of its dict."""

    name: str = ""
    scorer: str | None = None
    metrics: dict[str, MetricOf] = {}
    reducer: str | None = None
    scored_samples: Count | None = None
    unscored_samples: Count | None = None

    @property
    def full_name(self) -> str:
        """The name of its scores: scorer/key if the scorer's values are dicts."""
        return self.name if self.scorer in {None, self.name} else f"{self.scorer}/{self.name}"


class Results(Struct):
    """The log's results; only the oldest logs have `scorer` and `metrics`."""

    total_samples: Count | None = None
    completed_samples: Count | None = None
    logged_samples: Count | None = None
    early_stopping: Any = None
    scores: list[ScoreResult] = []
    scorer: Scorer | None = None
    metrics: dict[str, MetricOf] | None = None

    @property
    def all_scores(self) -> list[ScoreResult]:
        """Return the results of every scorer."""
        if self.scores or not self.metrics:
            return self.scores
        return [ScoreResult(name=self.scorer.name if self.scorer else "", metrics=self.metrics)]


class Stats(Struct):
    """Times and token counts of the whole log."""

    started_at: str | None = None
    completed_at: str | None = None
    model_usage: dict[str, Raw] = {}


class Header(Struct):
    """A log without its samples; an unfinished one has only `eval` and `plan`."""

    eval: Spec
    version: int = 2
    status: str = "started"
    plan: Plan = field(default_factory=Plan)
    results: Results | None = None
    stats: Stats = field(default_factory=Stats)
    error: Fault | None = None
    invalidated: bool | None = None

    @property
    def keeps_samples(self) -> bool:
        """Whether the evaluation was configured to log its samples."""
        return self.eval.config.get("log_samples") is not False


class WholeLog(Header):
    """A `.json` log: the header, and the samples not yet decoded."""

    samples: list[Raw] | None = None


SUMMARIES = msgspec.json.Decoder(list[ScoredSample])
SCORED = msgspec.json.Decoder(ScoredSample)
HEADER = msgspec.json.Decoder(Header)
WHOLE = msgspec.json.Decoder(WholeLog)
SAMPLE = msgspec.json.Decoder(Sample)
USAGE = msgspec.json.Decoder(ModelUsage)
OUTPUT = msgspec.json.Decoder(Output)
MESSAGES = msgspec.json.Decoder(list[ChatMessage])
EVENTS = msgspec.json.Decoder(list[Event])
CALL = msgspec.json.Decoder(ModelCall)
RESPONSE = msgspec.json.Decoder(Response)
TEXT = msgspec.json.Decoder(str)
FAULT = msgspec.json.Decoder(Fault)
ANY = msgspec.json.Decoder()
