"""Source of SWE-agent's trajectories, one `.traj` for each instance.

A step has the model's response, the action, the observation and the time of the action. Tokens and
cost are known for the whole instance only: they stand in one call of as many requests. Where they
are 0, as in a replay, they are unknown, and each step is a call. Whether the instance is resolved
stands in a report of SWE-bench beside it.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

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
from workbench.sources.json_lines import content_text, member, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories import swe_bench
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import Conversation, amount, objects
from workbench.usage import count

NAME = "swe-agent"
_document = msgspec.json.Decoder(Line)
_SUBMITTED = "submitted"
_LIMITS = {
    "exit_cost": "cost",
    "exit_context": "context",
    "exit_total_execution_time": "time",
    "exit_command_timeout": "time",
}
_MARKS = (b'"action"', b'"observation"', b'"thought"')


class SweAgent:
    """Source of trajectories of SWE-agent 0.x and 1.x."""

    name = NAME
    title = "SWE-agent trajectory (.traj)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is an object with a trajectory of actions and observations."""
        start = heads.start(path)
        if start.lstrip()[:1] != b"{" or not all(mark in start for mark in _MARKS):
            return False
        return "trajectory" in heads.keys(path)

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
        document = json_bytes.decode(_document, data, str(path), report)
        yield from _records(document, path, report)


SOURCE = SweAgent()


def _records(document: Line, path: Path, report: FileReport) -> Iterator[AnyRecord]:
    info = member(document, "info")
    stats = member(info, "model_stats")
    steps = objects(document.get("trajectory"))
    configuration = _configuration(document, path, report)
    instance = path.name.removesuffix(".traj")
    conversation, question = _conversation(document, steps)
    calls = _calls(stats, steps, configuration, report)
    report.rows_in += 1
    report.rows_out += 1
    yield Run(
        run_id=content_id(NAME, configuration.configuration_id),
        kind="import",
        source=NAME,
        versions=_versions(info),
        commit_sha=text(info.get("swe_agent_hash")),
    )
    task = Task(task=swe_bench.TASK, scorer="resolved")
    item = Item(task_id=task.task_id, item=instance, input=question)
    yield from (task, configuration, item)
    named = filter(None, (configuration.provider, configuration.model))
    resolved = swe_bench.verdict(path, instance, "/".join(named))
    scores: tuple[Score, ...] = ()
    if resolved is None:
        report.notes["no report of SWE-bench names the instance: not scored"] += 1
    else:
        scores = (Score(scorer="resolved", score=float(resolved), passed=resolved),)
    status = text(info.get("exit_status")) or ""
    reason = status.partition("(")[2].rstrip(")") or status
    times = [t for step in steps if (t := amount(step.get("execution_time"))) is not None]
    about = {"exit_status": status or None, "edited_files": _edited(info), "tool_s": sum(times)}
    yield Trace(
        run_id=content_id(NAME, configuration.configuration_id),
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trace_id=attempt_id(NAME, content_id(instance, configuration.model, steps[:1])),
        answer=text(info.get("submission")),
        score=scores[0].score if scores else None,
        passed=scores[0].passed if scores else None,
        stop_reason="stop" if status == _SUBMITTED else None,
        limit_type=_LIMITS.get(reason),
        error_type=_error(status, reason),
        n_turns=len(steps),
        metadata=json_text({name: value for name, value in about.items() if value}),
        calls=calls,
        tool_calls=conversation.tool_calls,
        messages=conversation.messages,
        scores=scores,
    )


def _error(status: str, reason: str) -> str | None:
    """Return the error of an exit status; a submission after a limit is none."""
    is_end = status.startswith(_SUBMITTED) or reason in _LIMITS or not status
    return None if is_end else reason


def _conversation(document: Line, steps: list[Line]) -> tuple[Conversation, str | None]:
    """Return the conversation, and the question: the last text before the first step."""
    conversation = Conversation()
    question = None
    for message in _opening(document, steps):
        content = content_text(message.get("content"))
        role = "system" if message.get("role") == "system" else "user"
        if message.get("role") == "assistant":
            role = "assistant"
        conversation.say(role, "text", content)
        question = content if role == "user" and not message.get("is_demo") else question
    for step in steps:
        thought = content_text(step.get("thought"))
        response = content_text(step.get("response"))
        conversation.say("assistant", "text", thought or response)
        action = content_text(step.get("action")).strip()
        if not action:
            continue
        ordinal = conversation.ask(action.split(maxsplit=1)[0], {"command": action})
        conversation.answer(ordinal, content_text(step.get("observation")))
        if (taken := amount(step.get("execution_time"))) is not None:
            conversation.time(ordinal, taken)
    return conversation, question or None


def _opening(document: Line, steps: list[Line]) -> list[Line]:
    """Return the messages before the first step: of the history, else of the first prompt."""
    listed = objects(document.get("history"))
    if not listed and steps:
        listed = objects(steps[0].get("messages") or steps[0].get("query"))
    opening = []
    for message in listed:
        if message.get("role") == "assistant" and not message.get("is_demo"):
            break
        opening.append(message)
    return opening


def _calls(
    stats: Line, steps: list[Line], configuration: Configuration, report: FileReport
) -> tuple[Call, ...]:
    sent, received = count(stats.get("tokens_sent")), count(stats.get("tokens_received"))
    cost, asked = amount(stats.get("instance_cost")), count(stats.get("api_calls"))
    if sent or received or cost:
        report.notes["tokens and cost are those of the instance: one call of all requests"] += 1
        whole = Call(
            provider=configuration.provider,
            model=configuration.model,
            n_requests=asked,
            input_tokens=sent or None,
            output_tokens=received or None,
            tokens_source="reported" if sent or received else None,
            billed_cost_usd=cost or None,
            usage=json_text(stats),
        )
        return (whole,)
    if asked is not None:
        report.totals.append(Total("calls of the instance", asked, len(steps)))
    return tuple(
        Call(ordinal=n, provider=configuration.provider, model=configuration.model)
        for n in range(len(steps))
    )


def _configuration(document: Line, path: Path, report: FileReport) -> Configuration:
    """Return the configuration: of the replay's settings, else of the folder's name."""
    replay = document.get("replay_config")
    if isinstance(replay, str):
        try:
            replay = msgspec.json.decode(replay)
        except msgspec.DecodeError:
            replay = None
    agent = member(replay, "agent")
    settings = member(agent, "model")
    provider, model = split_model(text(settings.get("name")))
    temperature, top_p = amount(settings.get("temperature")), amount(settings.get("top_p"))
    if model is None:
        report.notes["the model is taken from the folder's name"] += 1
        folder = path.resolve().parent
        named = folder.parent if folder.name == path.name.removesuffix(".traj") else folder
        return Configuration(model=named.name.split("__")[0] or "unknown", strategy=NAME)
    limits = {
        name: settings[name]
        for name in ("per_instance_cost_limit", "per_instance_call_limit")
        if amount(settings.get(name))
    }
    kept = without_secrets(member(settings, "completion_kwargs"))
    return Configuration(
        model=model,
        provider=provider,
        strategy=NAME,
        strategy_params=json_text(limits) if limits else None,
        temperature=temperature,
        top_p=top_p,
        settings=json_text({"completion_kwargs": kept}) if kept else None,
    )


def _versions(info: Line) -> str | None:
    names = ("swe_agent_version", "swe_rex_version")
    known = {name: info[name] for name in names if text(info.get(name))}
    return json_text(known) if known else None


def _edited(info: Line) -> str | None:
    return text(info.get("edited_files30"))
