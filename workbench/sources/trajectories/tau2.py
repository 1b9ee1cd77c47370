"""Results of tau2-bench (tau3): conversations of an agent with a simulated user, both with tools.

Messages of the agent are its calls, those of the simulated user are calls of the role `user`, and
reviews by a model are calls of a judge. Tools that the user runs are messages only. A cost of 0
beside tokens is unknown: the tool had no price for the model.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.errors import ImportFormatError
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
from workbench.sources.json_lines import content_text, member, moment, seconds, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import (
    Conversation,
    amount,
    json_arguments,
    number,
    requests,
    rewarded,
)
from workbench.sources.trajectories.folders import within
from workbench.usage import Usage, count, normalise

NAME = "tau2-bench"
_MARKS = (b'"agent_info"', b'"user_info"')
_DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()
_LIMITS = {
    "max_steps": "turns",
    "timeout": "time",
    "context_window_exceeded": "tokens",
}
# ends that say nothing of the agent
_FAULTS = {"infrastructure_error", "unexpected_error", "user_error"}
_REVIEWS = ("review", "user_only_review", "hallucination_check", "auth_classification")
_CHECKS = {
    "action_checks": "action_match",
    "env_assertions": "met",
    "nl_assertions": "met",
    "communicate_checks": "met",
}


class Tau2:
    """Source of results.json, in one file or with a folder of simulations."""

    name = NAME
    title = "tau2-bench results (results.json, simulations/)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is an object that describes agent and simulated user."""
        keys = set(heads.keys(path))
        start = heads.start(path)
        return keys >= {"info"} and all(mark in start for mark in _MARKS)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the files of the simulations, where they are not in the file."""
        return tuple(within(path.parent, "simulations/*.json"))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, task and configuration, then each simulation's item and trace.

        Raises:
            ImportFormatError: a file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        whole = json_bytes.decode(_DOCUMENT, json_bytes.document(path), str(path), report)
        info = _member(whole, "info", path, report)
        if not isinstance(info, dict):
            raise ImportFormatError(f"{path}, info is no object; it is no result of tau2-bench")
        results = _Results(path, info, report)
        yield from results.head(_member(whole, "timestamp", path, report))
        tasks = _member(whole, "tasks", path, report)
        results.add_tasks(tasks if isinstance(tasks, list) else [])
        for where, simulation in _simulations(whole, path, report):
            yield from results.simulation(simulation, where)
        report.totals += results.totals()


SOURCE = Tau2()


def _member(whole: dict[str, msgspec.Raw], name: str, path: Path, report: FileReport) -> object:
    if name not in whole:
        return None
    value: object = json_bytes.decode(_ANY, memoryview(whole[name]), f"{path}, {name}", report)
    return value


def _simulations(
    whole: dict[str, msgspec.Raw], path: Path, report: FileReport
) -> Iterator[tuple[str, object]]:
    """Yield (place, simulation), one at a time: in the file, else one file each."""
    n_inside = 0
    if "simulations" in whole:
        raw_list = json_bytes.decode(
            _LIST, memoryview(whole["simulations"]), f"{path}, simulations", report
        )
        n_inside = len(raw_list)
        for n, raw in enumerate(raw_list, 1):
            where = f"{path}, simulation {n}"
            yield where, json_bytes.decode(_ANY, memoryview(raw), where, report)
    if n_inside:
        return
    files = SOURCE.parts(path)
    for file in files:
        yield str(file), json_bytes.decode(_ANY, json_bytes.document(file), str(file), report)
    index = _member(whole, "simulation_index", path, report)
    n_missing = len(index) - len(files) if isinstance(index, list) else 0
    if n_missing > 0:
        report.add_missing(
            f"{path}: {n_missing} simulations of its index are not in the folder simulations"
        )


class _Results:
    """Reads the simulations of one file."""

    def __init__(self, path: Path, info: Line, report: FileReport) -> None:
        self.path = path
        self.info = info
        self.report = report
        self.items: dict[str, Item] = {}
        self.known_items: set[str] = set()
        self.seen: set[tuple[str, int]] = set()
        self.stated = {"agent": 0.0, "user": 0.0}
        self.computed = {"agent": 0.0, "user": 0.0}
        domain = text(member(info, "environment_info").get("domain_name"))
        self.task = Task(task=f"{NAME} {domain}" if domain else NAME)
        self.configuration = _configuration(info)
        self.user_model = split_model(text(member(info, "user_info").get("llm")))
        self.run_id = ""

    def head(self, timestamp: object) -> Iterator[AnyRecord]:
        commit = text(self.info.get("git_commit"))
        self.run_id = content_id(NAME, timestamp, self.info)
        yield Run(
            run_id=self.run_id,
            kind="import",
            source=NAME,
            origin=self.path.name,
            started_at=moment(timestamp),
            commit_sha=commit,
        )
        yield from (self.task, self.configuration)

    def add_tasks(self, tasks: list[Any]) -> None:
        for task in tasks:
            if isinstance(task, dict) and task.get("id") is not None:
                scenario = task.get("user_scenario")
                criteria = task.get("evaluation_criteria")
                key = str(task["id"])
                self.items[key] = Item(
                    task_id=self.task.task_id,
                    item=key,
                    input=scenario if isinstance(scenario, str) else _text_of(scenario),
                    target=_text_of(criteria),
                )

    def simulation(self, simulation: object, where: str) -> Iterator[AnyRecord]:
        if not isinstance(simulation, dict) or simulation.get("task_id") is None:
            self.report.bad_row(f"{where} is no simulation with a task_id")
            return
        self.report.rows_in += 1
        key = str(simulation["task_id"])
        item = self.items.get(key) or Item(task_id=self.task.task_id, item=key)
        if item.item_id not in self.known_items:
            self.known_items.add(item.item_id)
            yield item
        trial = count(simulation.get("trial")) or 0
        if (key, trial) in self.seen:
            self.report.notes["simulations that repeat a task and trial: both are read"] += 1
        self.seen.add((key, trial))
        talk = _Talk(self.configuration, self.user_model)
        messages = simulation.get("messages")
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict):
                talk.add(message)
        if not messages and simulation.get("ticks"):
            self.report.notes["simulations by voice: their speech is not read"] += 1
        self._add_costs(simulation, talk)
        n_turns = sum(call.role == "subject" for call in talk.calls)
        calls = [*talk.calls, *_whole(simulation, talk, self.configuration)]
        if talk.conversation.n_unmatched:
            self.report.notes["results of tools without a request"] += talk.conversation.n_unmatched
        started = moment(simulation.get("start_time"))
        name = text(simulation.get("id")) or content_id(NAME, simulation)
        self.report.rows_out += 1
        yield Trace(
            run_id=self.run_id,
            configuration_id=self.configuration.configuration_id,
            task_id=self.task.task_id,
            item_id=item.item_id,
            trial=trial,
            trace_id=attempt_id(NAME, name),
            started_at=started,
            e2e_s=amount(simulation.get("duration"))
            or seconds(started, moment(simulation.get("end_time"))),
            answer=talk.conversation.last_text(),
            n_turns=n_turns or None,
            metadata=_metadata(simulation),
            calls=tuple(msgspec.structs.replace(call, ordinal=n) for n, call in enumerate(calls)),
            tool_calls=talk.conversation.tool_calls,
            messages=talk.conversation.messages,
            **_outcome(simulation),
        )

    def _add_costs(self, simulation: Line, talk: "_Talk") -> None:
        for who in ("agent", "user"):
            stated = amount(simulation.get(f"{who}_cost"))
            if stated is not None and talk.stated[who]:
                self.stated[who] += stated
                self.computed[who] += talk.stated[who]

    def totals(self) -> Iterator[Total]:
        """Compare the costs of the simulations with those of their messages."""
        for who, stated in self.stated.items():
            if stated:
                yield Total(f"{who}'s cost", stated, self.computed[who], 1e-6 * stated)


class _Talk:
    """Reads the messages of one simulation."""

    def __init__(
        self, configuration: Configuration, user_model: tuple[str | None, str | None]
    ) -> None:
        self.configuration = configuration
        self.user_model = user_model
        self.conversation = Conversation()
        self.calls: list[Call] = []
        self.stated = {"agent": 0.0, "user": 0.0}

    def add(self, message: Line) -> None:
        several = message.get("tool_messages")
        if isinstance(several, list):
            for one in several:
                if isinstance(one, dict):
                    self.add(one)
            return
        role = message.get("role")
        at = moment(message.get("timestamp"))
        if role == "user":
            call = self._call(message, at, "user")
            self.conversation.say("user", "text", content_text(message.get("content")), call=call)
            for request in requests(message):
                shown = f"{request.get('name')}({json_arguments(request.get('arguments')) or ''})"
                self.conversation.say("user", "tool_call", shown, call=call)
        elif role == "tool" and message.get("requestor") == "user":
            self.conversation.say("user", "tool_result", content_text(message.get("content")))
        else:
            call = self._call(message, at, "agent") if role == "assistant" else None
            self.conversation.add_chat_message(message, call=call, at=at)

    def _call(self, message: Line, at: dt.datetime | None, who: str) -> int | None:
        """Add the call of a message; None for a greeting, which no model wrote."""
        raw = member(member(message, "raw_data"), "usage") or member(message, "usage")
        duration = amount(message.get("generation_time_seconds"))
        if not raw and not duration:
            return None
        counts = normalise(raw)
        if not counts.input_tokens and not counts.output_tokens:
            counts = Usage()
        cost = amount(message.get("cost"))
        self.stated[who] += cost or 0.0
        provider, model = (
            (self.configuration.provider, self.configuration.model)
            if who == "agent"
            else self.user_model
        )
        self.calls.append(
            Call(
                ordinal=len(self.calls),
                role="subject" if who == "agent" else "user",
                provider=provider,
                model=model,
                response_model=text(member(message, "raw_data").get("model")),
                started_at=at - dt.timedelta(seconds=duration) if at and duration else at,
                e2e_s=duration or None,
                billed_cost_usd=cost or None,
                usage=json_text(raw) if raw else None,
                **counts._replace(billed_cost_usd=None).known(),
            )
        )
        return len(self.calls) - 1


def _whole(simulation: Line, talk: _Talk, configuration: Configuration) -> Iterator[Call]:
    """Yield a call for what only a sum is known of: speech, and the reviews by a model."""
    if not talk.calls:
        for who, role in (("agent", "subject"), ("user", "user")):
            cost = amount(simulation.get(f"{who}_cost"))
            if cost:
                model = configuration.model if who == "agent" else talk.user_model[1]
                yield Call(role=role, model=model, n_requests=None, billed_cost_usd=cost)
    for name in _REVIEWS:
        cost = amount(member(simulation, name).get("cost"))
        if cost:
            yield Call(role="judge", n_requests=None, billed_cost_usd=cost)


def _text_of(value: object) -> str | None:
    return json_text(value) if value else None


def _configuration(info: Line) -> Configuration:
    agent = member(info, "agent_info")
    user = member(info, "user_info")
    provider, model = split_model(text(agent.get("llm")))
    arguments = {k: v for k, v in member(agent, "llm_args").items() if k in _ARGUMENTS}
    settings: Line = {
        "user": {
            "implementation": text(user.get("implementation")),
            "model": text(user.get("llm")),
            **{k: v for k, v in member(user, "llm_args").items() if k in _ARGUMENTS},
        },
        "max_steps": count(info.get("max_steps")),
        "max_errors": count(info.get("max_errors")),
        "retrieval_config": text(info.get("retrieval_config")),
        "speech_complexity": text(info.get("speech_complexity")),
    }
    effort = arguments.get("reasoning_effort")
    return Configuration(
        model=model or text(member(info, "audio_native_config").get("model")) or "unknown",
        provider=provider,
        strategy=text(agent.get("implementation")),
        effort=effort if isinstance(effort, str) else None,
        temperature=number(arguments.get("temperature")),
        top_p=number(arguments.get("top_p")),
        max_tokens=count(arguments.get("max_tokens")),
        settings=json_text({k: v for k, v in settings.items() if v is not None}),
    )


_ARGUMENTS = ("temperature", "top_p", "max_tokens", "reasoning_effort")


def _outcome(simulation: Line) -> dict[str, Any]:
    """Return scores, limit and error of a simulation; one without a reward is not scored."""
    end = text(simulation.get("termination_reason")) or ""
    reward = member(simulation, "reward_info")
    scores = tuple(_scores(reward))
    outcome: dict[str, Any] = {"scores": scores, "limit_type": _LIMITS.get(end)}
    if scores and scores[0].scorer == "reward":
        outcome |= {"score": scores[0].score, "passed": scores[0].passed}
    if end in _FAULTS:
        outcome |= {"error_type": end, "error_message": _why(simulation) or end}
    return outcome


def _why(simulation: Line) -> str | None:
    info = member(simulation, "info")
    return text(info.get("error")) or text(info.get("error_message"))


def _scores(reward: Line) -> Iterator[Score]:
    whole = rewarded("reward", reward.get("reward"))
    if whole is not None:
        yield whole
    for name, value in member(reward, "reward_breakdown").items():
        part = rewarded(name, value)
        if part is not None:
            yield part
    for name, field in _CHECKS.items():
        checks = reward.get(name)
        met = (
            [c.get(field) is True for c in checks if isinstance(c, dict)]
            if checks and isinstance(checks, list)
            else []
        )
        if met:
            yield Score(scorer=name, score=sum(met) / len(met), value=f"{sum(met)} of {len(met)}")


def _metadata(simulation: Line) -> str | None:
    about = {
        name: simulation.get(name)
        for name in ("termination_reason", "seed", "mode", "hallucination_retries_used")
        if simulation.get(name)
    }
    return json_text(about) if about else None
