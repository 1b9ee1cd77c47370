"""Source of mini-swe-agent's trajectories, one `.traj.json` for each instance.

Each answer carries the provider's response with its usage, a cost, and the time when it had come;
each observation the time when it was there. The agent does one thing after the other, so that a
call began when the observation before it ended. A cost of 0 is an unknown price. Whether the
instance is resolved stands in a report of SWE-bench beside it.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench import usage as usages
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
from workbench.sources import heads, json_bytes
from workbench.sources.heads import Line
from workbench.sources.inspect.header import without_secrets
from workbench.sources.json_lines import content_text, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories import swe_bench
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import Conversation, amount, objects
from workbench.usage import count

NAME = "mini-swe-agent"
_SUFFIX = ".traj"
_document = msgspec.json.Decoder(Line)
_LIMITS = {"LimitsExceeded": "cost or steps", "TimeExceeded": "time"}
_ENDED = {"Submitted", "submitted", "", *_LIMITS}
_SUBMITTED = {"Submitted", "submitted"}


class MiniSweAgent:
    """Source of trajectories of the formats 1.0 and 1.1."""

    name = NAME
    title = "mini-swe-agent trajectory (.traj.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file has the info and messages of this agent."""
        keys = heads.keys(path)
        if "info" not in keys and "messages" not in keys:
            return False
        start = heads.start(path)
        return b'"mini_version"' in start or (
            keys[:1] == ("info",)
            and b'"model_stats"' in start
            and b'"trajectory"' not in start
            and b'"instance_cost"' in start
            and b'"messages"' in start
        )

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, the task, the configuration, the item and the trace.

        Raises:
            ImportFormatError: the file is truncated or no trajectory.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        data = json_bytes.document(path)
        yield from _Trajectory(
            json_bytes.decode(_document, data, str(path), report), path, report
        ).records()


SOURCE = MiniSweAgent()


class _Trajectory:
    """Assembles the trajectory of one instance."""

    def __init__(self, document: Line, path: Path, report: FileReport) -> None:
        self.path, self.report = path, report
        self.info = member(document, "info")
        self.config = member(self.info, "config")
        listed = document.get("messages")
        self.messages = (
            [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
        )
        stem = path.name.removesuffix(".json").removesuffix(_SUFFIX)
        self.instance = text(document.get("instance_id")) or stem
        self.conversation = Conversation()
        self.calls: list[Call] = []
        self.last_at: dt.datetime | None = None
        self.waiting: list[int] = []  # tool calls without an observation, in order

    def records(self) -> Iterator[AnyRecord]:
        """Yield its records."""
        configuration = self._configuration()
        for message in self.messages:
            self._add(message, configuration)
        self.report.rows_in += 1
        self.report.rows_out += 1
        run_id = content_id(NAME, configuration.configuration_id, self.info.get("mini_version"))
        version = text(self.info.get("mini_version"))
        began = next((call.started_at for call in self.calls if call.started_at), None)
        yield Run(
            run_id=run_id,
            kind="import",
            source=NAME,
            started_at=began,
            versions=json_text({NAME: version}) if version else None,
        )
        task = Task(task=swe_bench.TASK, scorer="resolved")
        users = (m for m in self.messages if m.get("role") == "user")
        item = Item(
            task_id=task.task_id, item=self.instance, input=_content(next(users, {})) or None
        )
        yield from (task, configuration, item)
        self._totals()
        yield self._trace(run_id, configuration, item, began)

    def _trace(
        self, run_id: str, configuration: Configuration, item: Item, began: dt.datetime | None
    ) -> Trace:
        resolved = swe_bench.verdict(
            self.path, self.instance, text(member(self.config, "model").get("model_name"))
        )
        scores: tuple[Score, ...] = ()
        if resolved is None:
            self.report.notes["no report of SWE-bench names the instance: not scored"] += 1
        else:
            scores = (Score(scorer="resolved", score=float(resolved), passed=resolved),)
        status = text(self.info.get("exit_status")) or ""
        first = next((m for m in self.messages if m.get("role") == "assistant"), {})
        identity = (self.instance, configuration.model, _at(first) and str(_at(first)), first)
        return Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=item.task_id,
            item_id=item.item_id,
            trace_id=attempt_id(NAME, content_id(*identity)),
            started_at=began,
            e2e_s=_seconds(began, self.last_at),
            answer=text(self.info.get("submission")),
            score=scores[0].score if scores else None,
            passed=scores[0].passed if scores else None,
            stop_reason="stop" if status in _SUBMITTED else None,
            limit_type=_LIMITS.get(status),
            error_type=None if status in _ENDED else status,
            error_message=text(self._exit().get("exception_str")),
            n_turns=len(self.calls),
            metadata=json_text({"exit_status": status}) if status else None,
            calls=tuple(self.calls),
            tool_calls=self.conversation.tool_calls,
            messages=self.conversation.messages,
            scores=scores,
        )

    def _exit(self) -> Line:
        return member(self.messages[-1], "extra") if self.messages else {}

    def _add(self, message: Line, configuration: Configuration) -> None:
        role = message.get("role")
        extra = member(message, "extra")
        is_response = message.get("object") == "response"
        if role == "assistant" or is_response:
            self._add_answer(message, extra, configuration)
        elif role == "exit":
            return
        elif (
            "returncode" in extra or role == "tool" or message.get("type") == "function_call_output"
        ):
            self._add_observation(message, extra)
        else:
            if "response" in extra:  # an answer that could not be parsed, and was paid for
                self._add_call(extra, member(extra, "response"), configuration, extra.get("cost"))
            shown = role if role in {"system", "user"} else "user"
            self.conversation.say(str(shown), "text", _content(message))

    def _add_answer(self, message: Line, extra: Line, configuration: Configuration) -> None:
        is_response = message.get("object") == "response"
        raw = message if is_response else member(extra, "response")
        call = self._add_call(extra, raw, configuration, extra.get("cost"))
        thinking = message.get("reasoning_content") or message.get("reasoning")
        self.conversation.say("assistant", "thinking", content_text(thinking), call=call)
        shown = _response_text(message) if is_response else _content(message)
        self.conversation.say("assistant", "text", shown, call=call)
        actions = objects(extra.get("actions"))
        self.waiting = [
            self.conversation.ask(
                "bash",
                {"command": action.get("command")},
                call=call,
                at=self.last_at if place == 0 else None,
            )
            for place, action in enumerate(actions)
        ]

    def _add_call(self, extra: Line, raw: Line, configuration: Configuration, cost: object) -> int:
        ordinal = len(self.calls)
        ended = moment(extra.get("timestamp"))
        usage = usages.normalise(usages.usage_of(raw), model=configuration.model)
        known = usage.known()
        if (charged := amount(cost)) and "billed_cost_usd" not in known:
            known["billed_cost_usd"] = charged
        stated = usages.usage_of(raw)
        choices = raw.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else {}
        self.calls.append(
            Call(
                ordinal=ordinal,
                provider=configuration.provider,
                model=configuration.model,
                response_model=text(raw.get("model")),
                started_at=self.last_at,
                e2e_s=_seconds(self.last_at, ended),
                stop_reason=_stop(first),
                response_id=text(raw.get("id")),
                usage=json_text(stated) if stated else None,
                **known,
            )
        )
        self.last_at = ended or self.last_at
        return ordinal

    def _add_observation(self, message: Line, extra: Line) -> None:
        place = self.waiting.pop(0) if self.waiting else None
        code = extra.get("returncode")
        failed = text(extra.get("exception_info"))
        if failed is None and isinstance(code, int) and code != 0:
            failed = f"exit code {code}"
        ended = moment(extra.get("timestamp"))
        self.conversation.answer(place, _content(message), at=ended, error=failed)
        self.last_at = ended or self.last_at
        if self.waiting:
            self.conversation.start(self.waiting[0], self.last_at)

    def _totals(self) -> None:
        stats = member(self.info, "model_stats")
        stated = count(stats.get("api_calls"))
        if stated is not None:
            self.report.totals.append(Total("calls of the instance", stated, len(self.calls)))
        cost = amount(stats.get("instance_cost"))
        costs = [call.billed_cost_usd for call in self.calls]
        if cost:
            known = [c for c in costs if c is not None]
            nulls = f"{len(costs) - len(known)} calls without a cost" if None in costs else ""
            total = Total("cost of the instance in USD", cost, sum(known), 1e-6, nulls)
            self.report.totals.append(total)

    def _configuration(self) -> Configuration:
        model_config = member(self.config, "model")
        agent = member(self.config, "agent")
        provider, model = split_model(text(model_config.get("model_name")))
        given = member(model_config, "model_kwargs")
        limits = {
            name: agent[name]
            for name in ("step_limit", "cost_limit", "wall_time_limit_seconds")
            if amount(agent.get(name))
        }
        others = {k: v for k, v in given.items() if k not in {"temperature", "top_p", "max_tokens"}}
        settings = {"model_kwargs": without_secrets(others), "agent": self.config.get("agent_type")}
        kept = {name: value for name, value in settings.items() if value}
        effort = text(given.get("reasoning_effort"))
        return Configuration(
            model=model or "unknown",
            provider=provider,
            strategy=NAME,
            strategy_params=json_text(limits) if limits else None,
            effort=effort,
            temperature=amount(given.get("temperature")),
            top_p=amount(given.get("top_p")),
            max_tokens=count(given.get("max_tokens")),
            settings=json_text(kept) if kept else None,
        )


def _content(message: Line) -> str:
    content = message.get("content", message.get("output"))
    return content_text(content)


def _response_text(message: Line) -> str:
    items = objects(message.get("output"))
    return "\n".join(
        filter(None, (content_text(i.get("content")) for i in items if i.get("type") == "message"))
    )


def _kind(message: Line) -> str | None:
    """Return "tool" for the result of a function in the form of Responses."""
    return "tool" if message.get("type") == "function_call_output" else None


def _at(message: Line) -> dt.datetime | None:
    return moment(member(message, "extra").get("timestamp"))


def _stop(choice: object) -> str | None:
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    known: dict[Any, str] = {"stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls"}
    return known.get(reason)


def _seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end and end >= start else None
