"""Source of OpenHands' benchmarks: `output.jsonl`, a line for each instance.

`output.critic_attempt_<n>.jsonl` beside it has every attempt, `output.jsonl` the best of each
instance: an attempt that stands in both is one trace. The lists of the metrics are joined by the id
of the response; costs have no id and follow the order of the token counts. Whether an instance is
resolved stands in a report beside the file.
"""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
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
    attempt_id,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.heads import Line
from workbench.sources.json_lines import content_text, lines, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories import swe_bench
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import Conversation, amount, objects
from workbench.usage import count

NAME = "openhands"
_ATTEMPT = re.compile(r"critic_attempt_(\d{1,4})\b")
_KEYS = {"instance_id", "history", "metadata"}
_RESULTS = {"ObservationEvent", "AgentErrorEvent", "UserRejectObservation"}
_MAX_ERROR = 2_000


class OpenHands:
    """Source of the output of a benchmark, of the SDK's events and of the older ones."""

    name = NAME
    title = "OpenHands benchmark output (output.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether the first line is an instance with a history of events."""
        first = heads.lines(path)[:1]
        if first:
            return first[0].keys() >= _KEYS and "instruction" in first[0]
        start = heads.start(path)  # a line may be longer than what is looked at
        marks = (b'"instance_id"', b'"instruction"', b'"test_result"')
        return start.lstrip()[:1] == b"{" and all(mark in start for mark in marks)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield for each instance its run, task, configuration, item and trace.

        Raises:
            ImportFormatError: the file cannot be read.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        named = _ATTEMPT.search(path.name)
        trial = int(named[1]) - 1 if named else None
        yielded: set[str] = set()
        for _, row in lines(path, report):
            if text(row.get("instance_id")) is None:
                report.skip("lines without an instance", str(row)[:60])
                continue
            report.rows_in += 1
            report.rows_out += 1
            yield from _Instance(row, path, report).records(trial, yielded)


SOURCE = OpenHands()


class _Instance:
    """Assembles one attempt at an instance."""

    def __init__(self, row: Line, path: Path, report: FileReport) -> None:
        self.row, self.path, self.report = row, path, report
        self.instance = str(row["instance_id"])
        self.events = objects(row.get("history"))
        self.metrics = member(row, "metrics")
        self.metadata = member(row, "metadata")
        self.conversation = Conversation()
        self.configuration = self._configuration()
        self.calls = self._counted_calls()
        self.by_response = {c.response_id: c.ordinal for c in self.calls if c.response_id}

    def records(self, trial: int | None, yielded: set[str]) -> Iterator[AnyRecord]:
        """Yield the records; those that many instances share only once."""
        for event in self.events:
            self._add(event)
        calls = self._placed_calls()
        dataset = text(self.metadata.get("dataset"))
        task = Task(task=dataset or swe_bench.TASK)
        run_id = content_id(NAME, self.configuration.configuration_id, task.task_id)
        run = Run(run_id=run_id, kind="import", source=NAME, started_at=self._at(0))
        item = Item(
            task_id=task.task_id, item=self.instance, input=text(self.row.get("instruction"))
        )
        shared: tuple[tuple[str, AnyRecord], ...] = (
            (run_id, run),
            (task.task_id, task),
            (self.configuration.configuration_id, self.configuration),
        )
        for id_, record in shared:
            if id_ not in yielded:
                yielded.add(id_)
                yield record
        yield item
        yield self._trace(run_id, item, calls, trial)

    def _trace(self, run_id: str, item: Item, calls: tuple[Call, ...], trial: int | None) -> Trace:
        scores = tuple(self._scores())
        primary = next((score for score in scores if score.score is not None), None)
        error = text(self.row.get("error"))
        began, ended = self._at(0), self._at(-1)
        first = next((e.get("id") or e.get("timestamp") for e in self.events), None)
        attempt = count(self.row.get("attempt"))
        given = attempt - 1 if attempt else trial
        return Trace(
            run_id=run_id,
            configuration_id=self.configuration.configuration_id,
            task_id=item.task_id,
            item_id=item.item_id,
            trial=given or 0,
            trace_id=attempt_id(NAME, content_id(self.instance, self.configuration.model, first)),
            started_at=began,
            e2e_s=(ended - began).total_seconds() if began and ended and ended >= began else None,
            answer=text(member(self.row, "test_result").get("git_patch"))
            or self.conversation.last_text(),
            score=primary.score if primary else None,
            passed=primary.passed if primary else None,
            error_type="error" if error else None,
            error_message=error[:_MAX_ERROR] if error else None,
            n_turns=sum(c.n_requests != 0 for c in calls) or None,
            calls=calls,
            tool_calls=self.conversation.tool_calls,
            messages=self.conversation.messages,
            scores=scores,
        )

    def _at(self, place: int) -> dt.datetime | None:
        times = [at for e in self.events if (at := moment(e.get("timestamp"))) is not None]
        return times[place] if times else None

    # -- events --------------------------------------------------------------------------------

    def _add(self, event: Line) -> None:
        kind = text(event.get("kind")) or ""
        if not kind:
            self._add_old(event)
        elif kind == "ActionEvent":
            self._add_action(event)
        elif kind in _RESULTS:
            self._add_result(event, kind)
        elif kind == "SystemPromptEvent":
            self.conversation.say("system", "text", content_text(_text_of(event, "system_prompt")))
        elif kind == "MessageEvent":
            message = member(event, "llm_message")
            call = self._call_of(event)
            self.conversation.add_chat_message(message, call=call)

    def _add_action(self, event: Line) -> None:
        call = self._call_of(event)
        self.conversation.say(
            "assistant", "thinking", content_text(event.get("reasoning_content")), call=call
        )
        self.conversation.say("assistant", "text", content_text(event.get("thought")), call=call)
        requested = member(event, "tool_call")
        arguments = requested.get("arguments")
        if arguments is None:
            arguments = member(requested, "function").get("arguments", event.get("action"))
        self.conversation.ask(
            text(event.get("tool_name")) or "unknown",
            arguments,
            id=text(event.get("tool_call_id")),
            call=call,
            at=moment(event.get("timestamp")),
        )

    def _add_result(self, event: Line, kind: str) -> None:
        observation = member(event, "observation")
        content = content_text(
            observation.get("content", observation.get("output", event.get("error")))
        )
        code = member(observation, "metadata").get("exit_code", observation.get("exit_code"))
        failed: str | None = None
        if kind == "UserRejectObservation":
            failed = text(event.get("rejection_reason")) or "refused by the user"
        elif kind == "AgentErrorEvent" or observation.get("is_error") or observation.get("error"):
            failed = content or "failed"
        elif isinstance(code, int) and code not in (0, -1):
            failed = f"exit code {code}"
        self.conversation.answer(
            text(event.get("tool_call_id")),
            content,
            at=moment(event.get("timestamp")),
            error=failed,
        )

    def _add_old(self, event: Line) -> None:
        """Add an event of OpenHands before the SDK: an action or an observation."""
        about = member(event, "tool_call_metadata")
        id_ = text(about.get("tool_call_id"))
        at = moment(event.get("timestamp"))
        if (observed := text(event.get("observation"))) is not None:
            if id_ is not None:
                extras = member(event, "extras")
                code = member(extras, "metadata").get("exit_code")
                is_code = isinstance(code, int) and code not in (0, -1)
                failed = f"exit code {code}" if is_code else None
                error = content_text(event.get("content")) if observed == "error" else failed
                self.conversation.answer(
                    id_, content_text(event.get("content")), at=at, error=error
                )
            return
        action, arguments = text(event.get("action")), member(event, "args")
        if action in {"system", "message"}:
            source = text(event.get("source"))
            role = {"agent": "assistant", "user": "user"}.get(source or "", "user")
            role = "system" if action == "system" else role
            self.conversation.say(role, "text", content_text(arguments.get("content")))
        elif action and id_ is not None:
            call = self.by_response.get(str(member(about, "model_response").get("id")))
            self.conversation.say(
                "assistant", "text", content_text(arguments.get("thought")), call=call
            )
            name = text(about.get("function_name")) or action
            shown = {k: v for k, v in arguments.items() if k in {"command", "code", "path"}}
            self.conversation.ask(name, shown or arguments, id=id_, call=call, at=at)

    def _call_of(self, event: Line) -> int | None:
        """Return the call whose response made an event; one that has no counts is added."""
        id_ = text(event.get("llm_response_id"))
        if id_ is None:
            return None
        if id_ not in self.by_response:
            self.by_response[id_] = len(self.calls)
            self.calls.append(
                Call(
                    ordinal=len(self.calls),
                    provider=self.configuration.provider,
                    model=self.configuration.model,
                    response_id=id_,
                )
            )
        return self.by_response[id_]

    # -- calls ---------------------------------------------------------------------------------

    def _counted_calls(self) -> list[Call]:
        """Return a call for each count of tokens."""
        latencies = {
            text(entry.get("response_id")): amount(entry.get("latency"))
            for entry in objects(self.metrics.get("response_latencies"))
        }
        counts = objects(self.metrics.get("token_usages"))
        costs = [amount(entry.get("cost")) for entry in objects(self.metrics.get("costs"))]
        has_costs = len(costs) == len(counts)
        calls = []
        for ordinal, entry in enumerate(counts):
            response = text(entry.get("response_id"))
            provider, model = split_model(_without_proxy(text(entry.get("model"))))
            calls.append(
                Call(
                    ordinal=ordinal,
                    provider=provider or self.configuration.provider,
                    model=model or self.configuration.model,
                    e2e_s=latencies.get(response),
                    input_tokens=count(entry.get("prompt_tokens")),
                    cache_read_tokens=count(entry.get("cache_read_tokens")),
                    cache_write_5m_tokens=count(entry.get("cache_write_tokens")),
                    output_tokens=count(entry.get("completion_tokens")),
                    reasoning_tokens=count(entry.get("reasoning_tokens")),
                    tokens_source="reported",
                    billed_cost_usd=(costs[ordinal] or None) if has_costs else None,
                    response_id=response,
                    usage=json_text(entry),
                )
            )
        return calls

    def _placed_calls(self) -> tuple[Call, ...]:
        """Return the calls; where only sums are known, one call of as many requests has them."""
        whole = member(self.metrics, "accumulated_token_usage")
        sent, received = count(whole.get("prompt_tokens")), count(whole.get("completion_tokens"))
        cost = amount(self.metrics.get("accumulated_cost"))
        counted = [call for call in self.calls if call.input_tokens is not None]
        if counted:
            self._totals(sent, received, cost, counted)
            return tuple(self.calls)
        if not (sent or received or cost):
            return tuple(self.calls)
        self.report.notes["instances with sums only: one call of all requests has them"] += 1
        return (
            Call(
                provider=self.configuration.provider,
                model=self.configuration.model,
                n_requests=len(self.calls) or None,
                input_tokens=sent or None,
                cache_read_tokens=count(whole.get("cache_read_tokens")),
                cache_write_5m_tokens=count(whole.get("cache_write_tokens")),
                output_tokens=received or None,
                tokens_source="reported" if sent or received else None,
                billed_cost_usd=cost or None,
            ),
        )

    def _totals(
        self, sent: int | None, received: int | None, cost: float | None, calls: list[Call]
    ) -> None:
        """Compare the sums that a line states with those of its calls."""
        totals = self.report.totals
        if sent is not None:
            summed = sum(call.input_tokens or 0 for call in calls)
            totals.append(Total(f"{self.instance}: input tokens", sent, summed))
        if received is not None:
            summed = sum(call.output_tokens or 0 for call in calls)
            totals.append(Total(f"{self.instance}: output tokens", received, summed))
        costs = [call.billed_cost_usd for call in calls]
        if cost and None not in costs:
            known = sum(c for c in costs if c is not None)
            totals.append(Total(f"{self.instance}: cost in USD", cost, known, 1e-6))

    # -- the rest ------------------------------------------------------------------------------

    def _configuration(self) -> Configuration:
        llm = member(self.metadata, "llm") or member(self.metadata, "llm_config")
        name = _without_proxy(text(llm.get("model")))
        provider, model = split_model(name)
        limits = {
            field: self.metadata[field]
            for field in ("max_iterations",)
            if count(self.metadata.get(field))
        }
        return Configuration(
            model=model or "unknown",
            provider=provider,
            strategy=text(self.metadata.get("agent_class")) or NAME,
            strategy_params=json_text(limits) if limits else None,
            effort=text(llm.get("reasoning_effort")),
            temperature=amount(llm.get("temperature")),
            top_p=amount(llm.get("top_p")),
            max_tokens=count(llm.get("max_output_tokens")),
        )

    def _scores(self) -> Iterator[Score]:
        named = filter(None, (self.configuration.provider, self.configuration.model))
        result = member(self.row, "test_result")
        resolved: Any = swe_bench.verdict(self.path, self.instance, "/".join(named))
        if resolved is None:
            resolved = member(result, "report").get("resolved", result.get("resolved"))
        if isinstance(resolved, bool):
            yield Score(scorer="resolved", score=float(resolved), passed=resolved)
        final = member(result, "final_score")
        total, reached = amount(final.get("total")), amount(final.get("result"))
        if total and reached is not None:
            share = min(reached / total, 1.0)
            yield Score(scorer="final_score", score=share, passed=share >= 1)


def _without_proxy(name: str | None) -> str | None:
    """Take the name of LiteLLM's proxy off a model's."""
    return name.removeprefix("litellm_proxy/") if name else None


def _text_of(event: Line, field: str) -> object:
    value = event.get(field)
    return value.get("text") if isinstance(value, dict) else value
