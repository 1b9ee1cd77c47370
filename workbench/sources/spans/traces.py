"""Traces of spans: the tree of one trace id becomes one trace with its calls and tool calls.

Spans of models are calls and spans of tools are tool calls; other spans are structure. Where a
framework's span of a call encloses that of the client library, the inner one is the call: both
state the same tokens.
"""

import collections
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Score,
    Task,
    Trace,
    content_id,
    json_text,
)
from workbench.sources.prompts import CallTranscript, ToolRequest
from workbench.sources.report import FileReport
from workbench.sources.spans import conventions, messages
from workbench.sources.spans.conventions import AGENT, LLM, TOOL
from workbench.sources.spans.span import Span

_ITEMS = ("langfuse.experiment.item.id", "gen_ai.evaluation.item.id", "dataset.item.id")
_COMMITS = ("vcs.ref.head.revision", "service.commit", "git.commit")
_NAMES = ("service.name", "langfuse.project.name", "openinference.project.name")


class TraceBuilder:
    """Builds the records of the traces of one file, or of one receiver.

    The run, the task and the configuration of several traces are yielded once.
    """

    def __init__(self, source: str, origin: str | None, report: FileReport) -> None:
        """Begin without a trace.

        Args:
            source: name of the source, stored with the runs.
            origin: name of the file; None for a receiver.
            report: gets notes and totals.
        """
        self._source, self._origin, self._report = source, origin, report
        self._yielded: set[str] = set()

    def records(self, spans: Iterable[Span]) -> Iterator[AnyRecord]:
        """Yield the records of one trace, whose spans all have one trace id."""
        tree = _Tree(spans)
        calls = tree.calls()
        self._report.rows_in += 1
        if not calls and not any(tree.kinds[span.span_id] == TOOL for span in tree.spans):
            self._report.skip("traces without a call of a model or a tool", tree.trace_id)
            return
        self._report.rows_out += 1
        self._notes(tree)
        yield from self._trace(tree, calls)

    def _notes(self, tree: "_Tree") -> None:
        notes = self._report.notes
        notes["spans"] += len(tree.spans)
        if tree.n_enclosing:
            notes["spans of calls around another span of the same call: counted once"] += (
                tree.n_enclosing
            )
        if tree.n_orphans:
            notes["spans whose parent is not in the file: taken for roots"] += tree.n_orphans

    def _once(self, record: AnyRecord, id_: str) -> Iterator[AnyRecord]:
        if id_ not in self._yielded:
            self._yielded.add(id_)
            yield record

    def _trace(self, tree: "_Tree", spans: Sequence[Span]) -> Iterator[AnyRecord]:
        root = tree.root
        service = _attribute(root.resource, _NAMES) or _attribute(root.attributes, _NAMES)
        task = Task(task=service or self._source, description="Traces of a program.")
        run_id = content_id("spans", task.task)
        run = Run(
            run_id=run_id,
            kind="import",
            source=self._source,
            origin=self._origin,
            started_at=tree.started_at,
            versions=_versions(root),
            commit_sha=_attribute(root.resource, _COMMITS),
        )
        transcript = CallTranscript()
        settings = [conventions.settings_of(span) for span in spans]
        calls = tuple(
            self._call(n, span, given, transcript)
            for n, (span, given) in enumerate(zip(spans, settings, strict=True))
        )
        tools = _Tools(tree, spans, transcript)
        tools.add_all()
        question = messages.text_of(messages.input_of(root)) or transcript.first_input or ""
        key = _attribute(root.attributes, _ITEMS)
        item = Item(
            task_id=task.task_id,
            item=key or (content_id(question) if question else tree.trace_id),
            input=question or None,
        )
        configuration = _configuration(
            calls, settings, root, name=root.name if tree.has_root else ""
        )
        yield from self._once(run, run_id)
        yield from self._once(task, task.task_id)
        yield from self._once(configuration, configuration.configuration_id)
        yield item
        answer = messages.text_of(messages.output_of(root)) or transcript.last_reply
        error = conventions.error_of(root)
        scores = _scores(tree.spans)
        primary = next((score for score in scores if score.score is not None), None)
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", "spans", tree.trace_id),
            started_at=tree.started_at,
            e2e_s=tree.duration_s,
            answer=answer or None,
            score=primary.score if primary else None,
            passed=primary.passed if primary else None,
            stop_reason=calls[-1].stop_reason if calls else None,
            error_type=error[0] if error else None,
            error_message=error[1] if error else None,
            n_turns=len(calls) or None,
            metadata=_metadata(tree),
            calls=calls,
            tool_calls=tuple(transcript.tools),
            messages=tuple(transcript.messages),
            scores=scores,
        )

    def _call(
        self, ordinal: int, span: Span, settings: Mapping[str, Any], transcript: CallTranscript
    ) -> Call:
        prompt, reply = messages.prompt_of(span), messages.reply_of(span)
        started, ended = span.started_at, span.ended_at
        transcript.add(ordinal, prompt, reply, sent_at=started, ended_at=ended)
        usage, excluded, stated = conventions.usage_of(span)
        known = usage.known()
        if usage.input_tokens is None and usage.output_tokens is None:
            self._report.notes["calls without token counts"] += 1
        self._report.conventions[excluded or "counts include cached tokens and thinking"] += 1
        asked, answered = conventions.model_of(span)
        error = conventions.error_of(span)
        stop = "error" if error else conventions.stop_of(span)
        return Call(
            ordinal=ordinal,
            role=conventions.role_of(span),
            call_id=content_id("call", "spans", span.trace_id, span.span_id),
            provider=conventions.provider_of(span),
            model=asked,
            response_model=answered,
            started_at=started,
            ttft_s=conventions.first_token_s(span),
            e2e_s=span.duration_s,
            stop_reason=stop or ("tool_calls" if reply.tool_calls else None),
            error_type=error[0] if error else None,
            error_message=error[1] if error else None,
            response_id=conventions.response_id_of(span),
            effort_sent=settings.get("effort"),
            usage=json_text(stated) if stated else None,
            **known,
        )


class _Tree:
    """The spans of one trace, in the order of their starts."""

    def __init__(self, spans: Iterable[Span]) -> None:
        by_id = {span.span_id: span for span in spans}  # a span that comes twice counts once
        self.spans = sorted(by_id.values(), key=lambda s: (s.start_ns or 0, s.span_id))
        self.trace_id = self.spans[0].trace_id
        self.kinds = {span.span_id: conventions.kind_of(span) for span in self.spans}
        self._by_id = by_id
        roots = [s for s in self.spans if not s.parent_id]
        orphans = [s for s in self.spans if s.parent_id and s.parent_id not in by_id]
        self.n_orphans = len(orphans)
        self.n_enclosing = 0
        self.root = next(iter(roots or orphans or self.spans))
        self.has_root = bool(roots)

    @property
    def started_at(self) -> dt.datetime | None:
        """The first start of a span."""
        return next((at for s in self.spans if (at := s.started_at) is not None), None)

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first start to the last end."""
        ends = [span.end_ns for span in self.spans if span.end_ns]
        starts = [span.start_ns for span in self.spans if span.start_ns]
        return (max(ends) - min(starts)) / 1e9 if ends and starts else None

    def ancestors(self, span: Span) -> Iterator[Span]:
        """Yield the spans above one, the nearest first; a circle ends it."""
        seen = {span.span_id}
        parent = self._by_id.get(span.parent_id)
        while parent is not None and parent.span_id not in seen:
            seen.add(parent.span_id)
            yield parent
            parent = self._by_id.get(parent.parent_id)

    def calls(self) -> list[Span]:
        """Return the spans that are calls; of nested ones the innermost that counts tokens."""
        candidates = [s for s in self.spans if self.kinds[s.span_id] == LLM]
        has_counts = {s.span_id: conventions.has_counts(s) for s in candidates}
        left_out: set[str] = set()
        for span in candidates:
            for above in self.ancestors(span):
                if self.kinds[above.span_id] in {TOOL, AGENT}:
                    break  # a call of a tool's or agent's own
                if above.span_id in has_counts:
                    inner_counts = has_counts[span.span_id] or not has_counts[above.span_id]
                    left_out.add(above.span_id if inner_counts else span.span_id)
        self.n_enclosing = len(left_out)
        return [span for span in candidates if span.span_id not in left_out]


class _Tools:
    """Joins spans of tools to the tool calls that replies ask for."""

    def __init__(self, tree: _Tree, calls: Sequence[Span], transcript: CallTranscript) -> None:
        self._tree, self._calls, self._transcript = tree, calls, transcript
        self._joined: set[int] = set()

    def add_all(self) -> None:
        """Add every tool's span that is not within another one of the same tool call."""
        for span in self._tree.spans:
            if self._tree.kinds[span.span_id] != TOOL:
                continue
            facts = conventions.tool_of(span)
            outer = next(
                (a for a in self._tree.ancestors(span) if self._tree.kinds[a.span_id] == TOOL), None
            )
            if outer is None or conventions.tool_of(outer).name != facts.name:
                self._add(span, facts)

    def _add(self, span: Span, facts: conventions.ToolFacts) -> None:
        place = self._place(span, facts)
        transcript = self._transcript
        if place is None:
            request = ToolRequest(facts.id, facts.name, facts.arguments)
            place = transcript.add_tool(request, self._call_before(span), span.started_at)
        self._joined.add(place)
        error = conventions.error_of(span)
        fields: dict[str, Any] = {
            "tool_call_id": content_id("tool call", "spans", span.trace_id, span.span_id),
            "started_at": span.started_at,
            "e2e_s": span.duration_s,
        }
        if transcript.tools[place].arguments is None:
            fields["arguments"] = facts.arguments
        if error is not None:
            fields |= {"error_type": error[0], "error_message": error[1][:500]}
        if facts.result is not None:
            fields["result_bytes"] = len(facts.result.encode("utf-8", "replace"))
            results = (m for m in transcript.messages if m.role == "tool")
            if not any(message.tool_call_ordinal == place for message in results):
                call = transcript.tools[place].call_ordinal
                transcript.add_message("tool", "tool_result", facts.result, call, place)
        transcript.change_tool(place, **fields)

    def _place(self, span: Span, facts: conventions.ToolFacts) -> int | None:
        """Find the tool call by its id, else the first of the name that began before the span."""
        if facts.id and (known := self._transcript.tool_with(facts.id)) is not None:
            return known
        started = span.started_at
        for tool in self._transcript.tools:
            late = tool.started_at is not None and started is not None and tool.started_at > started
            if tool.ordinal not in self._joined and tool.tool == facts.name and not late:
                return tool.ordinal
        return None

    def _call_before(self, span: Span) -> int | None:
        """Return the last call that had ended when a span began."""
        start = span.start_ns
        ended = [
            n
            for n, call in enumerate(self._calls)
            if start is not None and call.end_ns is not None and call.end_ns <= start
        ]
        return ended[-1] if ended else None


def _configuration(
    calls: Sequence[Call], settings: Sequence[Mapping[str, Any]], root: Span, *, name: str
) -> Configuration:
    """Return the model that wrote the most tokens, with the settings that its calls share.

    The strategy is the agent's name, else that of the root; null while the root has not come.
    """
    weights: collections.Counter[tuple[str, str | None]] = collections.Counter()
    for call in calls:
        weights[call.model or "unknown", call.provider] += call.output_tokens or 0
    model, provider = ("unknown", None)
    if weights:
        model, provider = max(weights, key=lambda named: (weights[named], str(named)))
    pairs = zip(calls, settings, strict=True)
    given = [of_call for call, of_call in pairs if call.model == model]
    agent = root.attributes.get("gen_ai.agent.name")
    shared = {name: _shared(given, name) for name in _SHARED}
    return Configuration(
        model=model,
        provider=provider,
        strategy=(agent if isinstance(agent, str) else "") or name or None,
        **shared,
    )


_SHARED = ("effort", "temperature", "top_p", "max_tokens")


def _shared(given: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = {settings.get(name) for settings in given}
    return values.pop() if len(values) == 1 else None


def _scores(spans: Iterable[Span]) -> tuple[Score, ...]:
    """Return the scores, by name; a number outside of 0..1 is a metric."""
    scores: dict[str, Score] = {}
    for span in spans:
        for score in conventions.scores_of(span):
            number = score.value
            is_score = number is not None and 0 <= number <= 1
            scores[score.name] = Score(
                scorer=score.name,
                score=number if is_score else None,
                passed=number >= 1 if is_score and number is not None else None,
                value=score.label or (None if number is None else f"{number:g}"),
                explanation=score.explanation,
                metric=None if is_score else number,
            )
    return tuple(scores[name] for name in sorted(scores))


def _metadata(tree: _Tree) -> str:
    """Write what has no column: session, user, the root's name, the trace id of the tracer."""
    sessions = (conventions.session_of(span) for span in tree.spans)
    users = (span.attributes.get("user.id") for span in tree.spans)
    about = {
        "session": next(filter(None, sessions), None),
        "user": next((u for u in users if isinstance(u, str) and u), None),
        "name": tree.root.name,
        "trace": tree.trace_id,
    }
    return json_text({name: value for name, value in about.items() if value})


def _versions(root: Span) -> str | None:
    names = ("service.version", "telemetry.sdk.name", "telemetry.sdk.version")
    resource = root.resource
    known = {name: resource[name] for name in names if isinstance(resource.get(name), str)}
    return json_text(known) if known else None


def _attribute(attributes: Mapping[str, Any], names: Sequence[str]) -> str | None:
    values = (attributes.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)
