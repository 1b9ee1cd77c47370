"""Trajectories in ATIF, the Agent Trajectory Interchange Format, with those of their sub-agents.

A step of the agent is a call, and `is_copied_context` marks steps of an earlier trajectory, which
are left out. Old files write one step per content block of an answer and repeat the answer's
tokens on each: such steps are one call. The calls of sub-agents belong to the trace, since their
work does. The format has no times of calls and tools, only of steps.
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Task,
    Trace,
    attempt_id,
    content_id,
    json_text,
)
from workbench.sources import heads, json_bytes
from workbench.sources.heads import Line
from workbench.sources.json_lines import content_text, member, moment, seconds, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories.conversation import Conversation, amount
from workbench.sources.trajectories.folders import within
from workbench.usage import Usage, count

NAME = "atif"
TASK = Task(task=NAME, description="Trajectories of agents.")
_MARK = b'"ATIF-v'
_MAX_DEPTH = 20  # of sub-agents within sub-agents
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_STOPS = {
    "end_turn": "stop",
    "stop": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "tool_calls": "tool_calls",
    "max_tokens": "max_tokens",
    "length": "max_tokens",
    "refusal": "content_filter",
    "content_filter": "content_filter",
}
_THINKING = ("reasoning_tokens", "reasoning_output_tokens", "thinking_tokens")
# total of the file → the counter of a step that it adds up
_TOTALS = {
    "total_prompt_tokens": "prompt_tokens",
    "total_completion_tokens": "completion_tokens",
    "total_cached_tokens": "cached_tokens",
}


class Atif:
    """Source of trajectory.json."""

    name = NAME
    title = "ATIF trajectory (trajectory.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is an object with steps that names a version of ATIF."""
        keys = heads.keys(path)
        return "schema_version" in keys and _MARK in heads.start(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the files that continue the trajectory, and those of its sub-agents."""
        return tuple(files_beside(path))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then the trajectory's task, item, configuration and trace.

        Raises:
            ImportFormatError: the file is truncated or no object.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        trajectory = Trajectory(report)
        trajectory.add_files(path)
        yield from _records(trajectory, path, report)


SOURCE = Atif()


def files_beside(path: Path) -> list[Path]:
    """Return the other files of a trajectory: they lie beside it, and their names begin alike."""
    if path.name != "trajectory.json":
        return []
    return [file for file in within(path.parent, "trajectory.*.json") if file != path]


@dataclasses.dataclass(slots=True)
class _Counted:
    """The call of a step, before it is known what its counters include."""

    step: Line
    metrics: Line
    model: str | None
    started_at: dt.datetime | None
    n_requests: int = 1

    @property
    def extra(self) -> Line:
        return member(self.metrics, "extra")


class Trajectory:
    """Assembles one trajectory of one or more files.

    Attributes:
        head: the object of the first file.
        conversation: its messages and tool calls.
        n_repeated: steps that repeat the tokens of their call.
    """

    def __init__(self, report: FileReport) -> None:
        """Start empty."""
        self.report = report
        self.head: Line = {}
        self.conversation = Conversation()
        self.n_repeated = 0
        self.first_at: dt.datetime | None = None
        self.last_at: dt.datetime | None = None
        self.prompt: str | None = None
        self._calls: list[_Counted] = []
        self._stated: Line = {}  # totals of the last file of the chain
        self._seen: Counter[str] = Counter()  # counters of all steps
        self._own: Counter[str] = Counter()  # those of the chain alone, without sub-agents
        self._read: set[Path] = set()
        self._model: str | None = None
        self._previous: Line | None = None  # metrics of the step before, if the agent wrote it

    # -- files -----------------------------------------------------------------------------------

    def add_files(self, path: Path) -> None:
        """Add a trajectory, the files that continue it, and its sub-agents' files.

        Raises:
            ImportFormatError: a file is truncated or no object.
        """
        beside = {file.name: file for file in files_beside(path)}
        following: Path | None = path
        while following is not None and following not in self._read:
            document = self._add_file(following)
            self._own = Counter(self._seen)
            self._stated = member(document, "final_metrics")
            following = beside.get(str(document.get("continued_trajectory_ref")))
        for file in beside.values():
            if file not in self._read:  # sub-agents that no step refers to, as those of a summary
                self._add_file(file)

    def _add_file(self, path: Path) -> Line:
        self._read.add(path)
        document = json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), self.report)
        self.head = self.head or document
        self.add(document, str(path))
        return document

    def add(self, document: Line, where: str, depth: int = 0) -> None:
        """Add the steps of a document, then those of the sub-agents that lie in it."""
        model = text(member(document, "agent").get("model_name"))
        steps = document.get("steps")
        if not isinstance(steps, list):
            self.report.add_missing(f"{where}: no list of steps")
            steps = []
        self._previous = None
        for place, step in enumerate(steps, 1):
            if isinstance(step, dict):
                self._add_step(step, model)
            else:
                self.report.add_missing(f"{where}, step {place} is no object: not imported")
        children = document.get("subagent_trajectories")
        for n, child in enumerate(children if isinstance(children, list) else (), 1):
            if not isinstance(child, dict) or depth >= _MAX_DEPTH:
                self.report.add_missing(f"{where}, sub-agent {n}: not imported")
                continue
            self.add(child, f"{where}, sub-agent {n}", depth + 1)

    # -- steps -----------------------------------------------------------------------------------

    def _add_step(self, step: Line, model: str | None) -> None:
        source = step.get("source")
        if step.get("is_copied_context") is True:
            self.report.notes["steps copied from an earlier trajectory, left out"] += 1
            return
        at = moment(step.get("timestamp"))
        if at is not None:
            self.first_at = min(at, self.first_at or at)
            self.last_at = max(at, self.last_at or at)
        message = content_text(step.get("message"))
        if source != "agent":
            self._previous = None
            role = "system" if source == "system" else "user"
            self.conversation.say(role, "text", message)
            if role == "user" and self.prompt is None:
                self.prompt = message or None
            self._add_results(step, at, [])
            return
        call = self._call(step, text(step.get("model_name")) or model, at)
        self.conversation.say(
            "assistant", "thinking", content_text(step.get("reasoning_content")), call=call
        )
        asked = step.get("tool_calls")
        requests = [r for r in asked if isinstance(r, dict)] if isinstance(asked, list) else []
        if not _is_stand_in(message, requests):
            self.conversation.say("assistant", "text", message, call=call)
        ordinals = [
            self.conversation.ask(
                text(request.get("function_name")) or "unknown",
                request.get("arguments"),
                id=text(request.get("tool_call_id")),
                call=call,
                at=at,
            )
            for request in requests
        ]
        failed = [_error_flag(member(request, "extra")) for request in requests]
        self._add_results(step, None, list(zip(ordinals, failed, strict=True)))

    def _call(self, step: Line, model: str | None, at: dt.datetime | None) -> int | None:
        """Return the ordinal of a step's call; None if a program wrote the step, not a model."""
        metrics = member(step, "metrics")
        requests = count(step.get("llm_call_count"))
        for name in _TOTALS.values():
            self._seen[name] += count(metrics.get(name)) or 0
        if requests == 0:
            self._previous = None
            return None
        repeats = (
            requests is None and self._previous == metrics and count(metrics.get("prompt_tokens"))
        )
        self._previous = metrics
        if repeats:
            self.n_repeated += 1
        else:
            self._calls.append(_Counted(step, metrics, model, at, requests or 1))
        return len(self._calls) - 1

    def _add_results(
        self, step: Line, at: dt.datetime | None, asked: list[tuple[int, bool | None]]
    ) -> None:
        results = member(step, "observation").get("results")
        alone = asked[0] if len(asked) == 1 else None
        for result in results if isinstance(results, list) else ():
            if not isinstance(result, dict):
                continue
            content = content_text(result.get("content"))
            named = text(result.get("source_call_id"))
            failed = _error_flag(member(result, "extra"))
            if alone is not None:
                failed = next(
                    (f for f in (failed, alone[1], _error_flag(member(step, "extra"))) if f), None
                )
            error = (content or "failed") if failed else None
            if named is None and alone is None and not asked:
                self.conversation.say("tool", "tool_result", content)
                continue
            self.conversation.answer(
                named if named is not None or alone is None else alone[0],
                content,
                at=at,
                error=error,
            )

    # -- records ---------------------------------------------------------------------------------

    def calls(self) -> tuple[Call, ...]:
        """Return the calls, once all files are added."""
        excludes_writes = any(map(_excludes_writes, self._calls))
        if self._calls:
            self.report.conventions[
                "prompt excludes cache writes: added back"
                if excludes_writes
                else "prompt includes cached, completion includes thinking"
            ] += len(self._calls)
        return tuple(
            _call(n, counted, excludes_writes=excludes_writes)
            for n, counted in enumerate(self._calls)
        )

    def finish(self) -> None:
        """Write what was left out or put together to the report."""
        notes = self.report.notes
        if self.n_repeated:
            notes["steps that repeat the tokens of their call, counted once"] += self.n_repeated
        if self.conversation.n_unmatched:
            notes["results of tools without a request"] += self.conversation.n_unmatched

    def totals(self) -> Iterator[Total]:
        """Compare the stated tokens with those of the steps, repeated ones included.

        Some agents state their own tokens, others those of their sub-agents too.
        """
        for name, counter in _TOTALS.items():
            stated = count(self._stated.get(name))
            if stated and self._seen[counter]:
                own = self._own[counter]
                computed = own if own == stated else self._seen[counter]
                yield Total(f"{counter} of the steps", stated, computed)

    def model(self) -> str | None:
        """Return the model with the most output tokens."""
        written: Counter[str] = Counter()
        for counted in self._calls:
            if counted.model is not None:
                written[counted.model] += count(counted.metrics.get("completion_tokens")) or 0
        if not written:
            return text(member(self.head, "agent").get("model_name"))
        return max(written, key=lambda model: (written[model], model))

    def effort(self) -> str | None:
        """Return the effort of the first step that states one."""
        for counted in self._calls:
            effort = counted.step.get("reasoning_effort")
            if effort is not None and isinstance(effort, (str, int, float)):
                return str(effort)
        return None

    def metadata(self) -> Line:
        """Return what the files say and no column holds."""
        final = member(self.head, "final_metrics")
        return {
            name: value
            for name, value in {
                "session": text(self.head.get("session_id")),
                "notes": text(self.head.get("notes")),
                "stated_cost_usd": amount(final.get("total_cost_usd")),
            }.items()
            if value is not None
        }


def _is_stand_in(message: str, requests: list[Line]) -> bool:
    """Return whether a message only names its tool call: a converter wrote it, no model."""
    return len(requests) == 1 and message == (
        f"Executed {requests[0].get('function_name')} {requests[0].get('tool_call_id')}"
    )


def _error_flag(extra: Line) -> bool | None:
    """Return whether a tool failed, where the agent's log said so."""
    for name in ("is_error", "tool_result_is_error", "tool_use_is_error"):
        if isinstance(flag := extra.get(name), bool):
            return flag
    code = extra.get("exit_code", extra.get("returncode"))
    return code != 0 if isinstance(code, int) else None


def _excludes_writes(counted: _Counted) -> bool:
    prompt, cached, written = (
        count(counted.metrics.get("prompt_tokens")),
        count(counted.metrics.get("cached_tokens")),
        count(counted.extra.get("cache_creation_input_tokens")),
    )
    return prompt is not None and bool(written) and prompt < (cached or 0) + (written or 0)


def _usage(counted: _Counted, *, excludes_writes: bool) -> Usage:
    metrics = counted.metrics
    prompt = count(metrics.get("prompt_tokens"))
    output = count(metrics.get("completion_tokens"))
    if not prompt and not output:
        return Usage()  # an agent that does not know its tokens writes 0
    written = count(counted.extra.get("cache_creation_input_tokens"))
    lifetimes = member(counted.extra, "cache_creation")
    long = count(lifetimes.get("ephemeral_1h_input_tokens"))
    short = count(lifetimes.get("ephemeral_5m_input_tokens"))
    details = member(counted.extra, "completion_tokens_details")
    thinking = next(
        (
            n
            for n in (count(part.get(k)) for part in (counted.extra, details) for k in _THINKING)
            if n is not None
        ),
        None,
    )
    return Usage(
        input_tokens=prompt + (written or 0) if prompt is not None and excludes_writes else prompt,
        cache_read_tokens=count(metrics.get("cached_tokens")),
        cache_write_5m_tokens=written if short is None else short,
        cache_write_1h_tokens=long,
        output_tokens=output,
        reasoning_tokens=thinking,
        tokens_source="reported",
    )


def _call(ordinal: int, counted: _Counted, *, excludes_writes: bool) -> Call:
    stated = member(counted.step, "extra").get("stop_reason")
    raw = {k: v for k, v in counted.metrics.items() if k not in _LONG}
    effort = counted.step.get("reasoning_effort")
    known = _usage(counted, excludes_writes=excludes_writes).known()
    provider, model = split_model(counted.model)
    return Call(
        ordinal=ordinal,
        provider=provider,
        model=model,
        started_at=counted.started_at,
        n_requests=counted.n_requests,
        stop_reason=_STOPS.get(stated, "unknown") if isinstance(stated, str) else None,
        billed_cost_usd=amount(counted.metrics.get("cost_usd")),
        effort_sent=None if effort is None else str(effort),
        usage=json_text(raw) if raw else None,
        **known,
    )


_LONG = ("prompt_token_ids", "completion_token_ids", "logprobs")  # a list of every token


def split_model(name: str | None) -> tuple[str | None, str | None]:
    """Split a name such as openai/gpt-5 into (provider, model); a bare name has no provider."""
    if name is None or "/" not in name:
        return None, name
    provider, _, model = name.partition("/")
    return provider or None, model or None


def _records(trajectory: Trajectory, path: Path, report: FileReport) -> Iterator[AnyRecord]:
    calls = trajectory.calls()
    trajectory.finish()
    report.totals += trajectory.totals()
    head = trajectory.head
    agent = member(head, "agent")
    if not calls and not trajectory.conversation.messages:
        report.why_empty = "a trajectory without steps"
        return
    report.rows_in += 1
    steps = head.get("steps")
    first = steps[0] if isinstance(steps, list) and steps else None  # the others may be added later
    name = (
        text(head.get("trajectory_id"))
        or text(head.get("session_id"))
        or content_id(NAME, agent, first)
    )
    version = text(agent.get("version"))
    agent_name = text(agent.get("name")) or "unknown"
    provider, model = split_model(trajectory.model())
    run_id = content_id(NAME, name)
    item = Item(task_id=TASK.task_id, item=name, input=trajectory.prompt)
    configuration = Configuration(
        model=model or "unknown",
        provider=provider,
        strategy=agent_name,
        effort=trajectory.effort(),
    )
    yield Run(
        run_id=run_id,
        kind="import",
        source=NAME,
        origin=path.name,
        started_at=trajectory.first_at,
        versions=json_text({agent_name: version}) if version else None,
    )
    yield from (TASK, item, configuration)
    report.rows_out += 1
    yield Trace(
        run_id=run_id,
        configuration_id=configuration.configuration_id,
        task_id=TASK.task_id,
        item_id=item.item_id,
        trace_id=attempt_id(NAME, name),
        started_at=trajectory.first_at,
        e2e_s=seconds(trajectory.first_at, trajectory.last_at),
        answer=trajectory.conversation.last_text(),
        n_turns=len(calls),
        metadata=json_text(trajectory.metadata()) if trajectory.metadata() else None,
        calls=calls,
        tool_calls=trajectory.conversation.tool_calls,
        messages=trajectory.conversation.messages,
    )
