"""Conversion of one sample of an Inspect log to an item and a trace."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from workbench.records import (
    Call,
    Item,
    Score,
    ToolCall,
    Trace,
    attempt_id,
    content_id,
    json_text,
    try_id,
)
from workbench.sources.inspect.calls import (
    Log,
    call_of,
    first_duration,
    is_judge,
    split,
    tokens_of,
    tool_call_of,
    utc,
    walk,
)
from workbench.sources.inspect.log_schema import (
    MESSAGES,
    NOTHING,
    OUTPUT,
    USAGE,
    ChatMessage,
    Event,
    Fault,
    ModelUsage,
    Output,
    Retry,
    Sample,
)
from workbench.sources.inspect.messages import Attachments, Conversation
from workbench.sources.inspect.scores import Scales, scores_of
from workbench.sources.report import FileReport

_LIMITS = {"token": "tokens", "message": "messages", "turn": "turns", "working": "working time"}


def item_of(sample: Sample, task_id: str) -> Item:
    """Build the item of a sample; choices and metadata of the sample are its metadata."""
    attachments = Attachments(sample.attachments)
    extra = {}
    if sample.choices:
        extra["choices"] = msgspec.Raw(json_text(sample.choices).encode())
    if (text := attachments.json(sample.metadata)) and text != "{}":
        extra["sample"] = msgspec.Raw(text.encode())
    target = sample.target if isinstance(sample.target, str) else _one_or_json(sample.target)
    return Item(
        task_id=task_id,
        item=str(sample.id),
        input=_input_text(sample.input, attachments),
        target=attachments.text(target) if target else None,
        metadata=msgspec.json.encode(extra).decode() if extra else None,
    )


def _one_or_json(targets: list[str]) -> str | None:
    return targets[0] if len(targets) == 1 else json_text(targets) if targets else None


def _input_text(content: str | list[ChatMessage], attachments: Attachments) -> str:
    if isinstance(content, str):
        return attachments.text(content)
    texts = Conversation(attachments, {})
    for place, message in enumerate(content):
        texts.add(message, place)
    has_roles = len({m.role for m in texts.messages}) > 1  # the only role is not written
    return "\n\n".join(f"{m.role}: {m.text}" if has_roles else m.text for m in texts.messages)


class SampleReader:
    """Builder of the trace of one sample."""

    def __init__(
        self, sample: Sample, log: Log, scales: Scales, where: str, report: FileReport
    ) -> None:
        """Collect the sample's events, and mark those of graders."""
        self.sample = sample
        self.log = log
        self.where = where
        self.report = report
        self.scales = scales
        transcript = sample.transcript
        self.attachments = Attachments(
            sample.attachments or (transcript.content if transcript else {})
        )
        self.events = list(walk(sample.events or (transcript.events if transcript else [])))
        self.calls: list[Call] = []
        self.tool_calls: list[ToolCall] = []
        self.results: list[tuple[str, str]] = []  # id and result of each tool call
        self.call_by_tool_id: dict[str, int] = {}  # ordinal of the call that requested the tool
        self.usages: list[ModelUsage] = []
        tools: dict[str, int] = {}
        ids = [str(e.id) for e, judge in self.events if e.event == "tool" and not judge]
        for ordinal, id in enumerate(ids):
            tools.setdefault(id, ordinal)
        self.conversation = Conversation(self.attachments, tools)

    def trace(self, item: Item) -> Trace:
        """Build the trace."""
        sample = self.sample
        for event, judge in self.events:
            if event.event == "model":
                self._model_event(event, judge=judge)
            elif judge:
                self.report.notes["tool calls of graders: not imported"] += 1
            else:
                self._tool_event(event)
        if self.calls:
            self._check_sums()
        else:
            self._calls_from_totals()
        self._end_of_conversation()
        scores = self._scores()
        primary = self.scales.primary(scores)
        with_answer = primary or next(iter(scores), None)
        answer = with_answer.answer if with_answer else sample.output.completion
        started = sample.started_at or next((c.started_at for c in self.calls), None)
        return Trace(
            run_id=self.log.run_id,
            configuration_id=self.log.configuration_id,
            task_id=self.log.task_id,
            item_id=item.item_id,
            trial=sample.epoch - 1,
            trace_id=self._trace_id(item, scores),
            started_at=utc(started),
            e2e_s=first_duration(sample.total_time),
            working_s=first_duration(sample.working_time),
            answer=self.attachments.text(answer) if answer else None,
            score=primary.score if primary else None,
            passed=primary.passed if primary else None,
            stop_reason=self._stop_reason(),
            **self._limit_and_error(),
            n_turns=self._n_turns(),
            metadata=self._metadata(),
            calls=tuple(self.calls),
            tool_calls=tuple(self.tool_calls),
            messages=tuple(self.conversation.messages),
            scores=scores,
        )

    def _trace_id(self, item: Item, scores: tuple[Score, ...]) -> str:
        """Return an id that is the same in every log, because eval-retry copies samples and tries.

        A sample is identified by its uuid. A failed try appears in later logs without one and is
        identified by the time of its last request. Without either, "" lets the record identify
        itself by run, item and trial.
        """
        sent = [c.started_at for c in self.calls if c.started_at is not None]
        if self.sample.error and not scores and sent:
            return try_id(item.item_id, self.sample.epoch - 1, sent[-1])
        return attempt_id("inspect", self.sample.uuid) if self.sample.uuid else ""

    def replaced(self, item: Item) -> Iterator[Trace]:
        """Yield the failed tries of the sample that were repeated: they cost money, but count not.

        A log contains the last request of such a try and the events after it.
        """
        for number, retry in enumerate(self.sample.error_retries or ()):
            reader = SampleReader(
                _sample_of_retry(self.sample, retry), self.log, self.scales, self.where, self.report
            )
            trace = reader.trace(item)
            changes: dict[str, Any] = {"is_replaced": True}
            if not reader.calls:
                parts = (self.log.run_id, self.sample.uuid, item.item_id, self.sample.epoch)
                changes["trace_id"] = content_id("Try", *parts, number)
                self.report.notes["failed tries without requests in the log"] += 1
            self.usages += reader.usages
            self.report.notes["failed tries that were made again: only their costs count"] += 1
            yield msgspec.structs.replace(trace, **changes)

    # -- events --------------------------------------------------------------------------------

    def _model_event(self, event: Event, *, judge: bool) -> None:
        ordinal = len(self.calls)
        output = OUTPUT.decode(event.output) if event.output is not NOTHING else Output()
        judge = judge or is_judge(event)
        if event.role and not judge:
            self.report.notes[f"calls in the role {event.role!r}, counted as the subject's"] += 1
        call, usage = call_of(
            event,
            output,
            ordinal=ordinal,
            judge=judge,
            log=self.log,
            where=self.where,
            report=self.report,
        )
        self.calls.append(call)
        if usage is not None:
            self.usages.append(usage)
        if judge:
            return
        place = -1
        for place, message in enumerate(self._input_messages(event)):
            self.conversation.add(message, place)
        for choice in output.choices[:1]:
            for request in choice.message.tool_calls or ():
                self.call_by_tool_id[request.id] = ordinal
            self.conversation.add(choice.message, place + 1, ordinal)

    def _input_messages(self, event: Event) -> Sequence[ChatMessage]:
        if event.input_refs and self.sample.events_data:
            pool = self.sample.events_data.messages
            return [m for start, end in event.input_refs for m in pool[start:end]]
        return MESSAGES.decode(event.input) if len(event.input) > len("[]") else ()

    def _tool_event(self, event: Event) -> None:
        id = str(event.id)
        tool_call, result = tool_call_of(
            event,
            ordinal=len(self.tool_calls),
            call=self.call_by_tool_id.get(id),
            attachments=self.attachments,
        )
        self.tool_calls.append(tool_call)
        self.results.append((id, result))

    def _calls_from_totals(self) -> None:
        """Make one call per model of the sample's totals, if the log has no model events."""
        for name, raw in self.sample.model_usage.items():
            provider, model = split(name)
            usage = USAGE.decode(raw)
            self.usages.append(usage)
            tokens = tokens_of(usage, name, self.log, self.where, self.report)
            call = Call(
                ordinal=len(self.calls),
                provider=provider,
                model=model,
                n_requests=None,
                usage=bytes(raw).decode(),
                **tokens,
            )
            self.calls.append(call)
            note = "samples without model events: one call has the totals, graders included"
            self.report.notes[note] += 1

    def _check_sums(self) -> None:
        """Compare the calls' tokens, as logged, with the totals that the sample states."""
        if not self.sample.model_usage:
            return
        totals = [USAGE.decode(raw) for raw in self.sample.model_usage.values()]
        for field in ("input_tokens", "output_tokens"):
            stated = sum(getattr(u, field) or 0 for u in totals)
            computed = sum(getattr(u, field) or 0 for u in self.usages)
            if stated != computed:
                self.report.mismatches.add(
                    f"{self.where}: {field} of its calls add up to {computed}, not to the stated"
                    f" {stated}"
                )

    # -- the rest ------------------------------------------------------------------------------

    def _end_of_conversation(self) -> None:
        last = len(self.calls) - 1 if self.calls and not self.events else None
        for place, message in enumerate(self.sample.messages):
            self.conversation.add(message, place, last if message.role == "assistant" else None)
        for ordinal, (id, result) in enumerate(self.results):
            self.conversation.result(id, ordinal, result)
        for kind, n in self.conversation.omitted_parts.items():
            self.report.notes[f"message parts of type {kind!r}: only the type is stored"] += n

    def _scores(self) -> tuple[Score, ...]:
        scores = self.sample.all_scores
        resolve = self.attachments.text
        for score in scores.values():
            score.answer = resolve(score.answer) if score.answer else score.answer
            score.explanation = resolve(score.explanation) if score.explanation else None
        return tuple(scores_of(scores, self.scales, self.report.notes))

    def _stop_reason(self) -> str | None:
        if self.sample.error:
            return "error"
        subject = [c.stop_reason for c in self.calls if c.role == "subject"]
        if self.events and subject:
            return subject[-1]
        return self.sample.output.choices[0].stop_reason if self.sample.output.choices else None

    def _limit_and_error(self) -> dict[str, Any]:
        error = self.sample.error
        limit = self.sample.limit
        return {
            "limit_type": _LIMITS.get(limit.type, limit.type) if limit else None,
            "error_type": _exception_name(error.traceback) if error else None,
            "error_message": error.message if error else None,
        }

    def _n_turns(self) -> int | None:
        if self.sample.turn_count is not None:
            return self.sample.turn_count
        if self.events:
            return sum(c.role == "subject" for c in self.calls)
        return sum(m.role == "assistant" for m in self.sample.messages) or None

    def _metadata(self) -> str | None:
        sample = self.sample
        fields: dict[str, Any] = {"uuid": sample.uuid} if sample.uuid else {}
        if sample.limit:
            fields["limit"] = {"value": sample.limit.limit, "reason": sample.limit.reason}
        if sample.error_retries:
            fields["error_retries"] = len(sample.error_retries)
        return json_text(fields) if fields else None


def _sample_of_retry(sample: Sample, retry: Retry) -> Sample:
    """Build a sample from a failed try, so that it is read like one."""
    return Sample(
        id=sample.id,
        epoch=sample.epoch,
        input=sample.input,
        target=sample.target,
        events=retry.events or [],
        attachments=sample.attachments,
        events_data=sample.events_data,
        error=Fault(message=retry.message, type=retry.type, traceback=retry.traceback),
    )


def _exception_name(traceback: str | None) -> str:
    """Return the exception's name in the last line of a traceback: `ValueError: …` → ValueError."""
    lines = [line for line in (traceback or "").splitlines() if line and not line[0].isspace()]
    name = lines[-1].split(":")[0].strip().split(".")[-1] if lines else ""
    return name if name.isidentifier() else "sample_error"
