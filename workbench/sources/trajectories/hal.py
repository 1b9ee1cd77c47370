"""Uploads of HAL, the Holistic Agent Leaderboard: `<run>_UPLOAD.json`.

New files hold for each task the messages of the longest call and the usage of every call, older
ones the calls that Weave recorded. Parents in Weave repeat the usage of their children: only calls
with usage in their own output count. Encrypted uploads are decrypted by `hal-decrypt` first.
"""

import datetime as dt
import functools
import re
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
    Result,
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
from workbench.sources.json_lines import member, moment, seconds, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import Conversation, amount, number, rewarded
from workbench.usage import count, normalise

NAME = "hal"
_MARKS = (b'"agent_name"', b'"benchmark_name"', b'"agent_args"')
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_SECRET = re.compile(r"key|secret|password|credential|auth|token", re.IGNORECASE)
_MAX_ERROR = 2_000


class Hal:
    """Source of an upload."""

    name = NAME
    title = "HAL upload (_UPLOAD.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file holds raw results beside a configuration or metadata."""
        keys = set(heads.keys(path))
        if "raw_eval_results" in keys and keys & {"config", "metadata"}:
            return True
        start = heads.start(path)  # results of many tasks may hide the keys behind them
        return keys >= {"config", "results"} and all(mark in start for mark in _MARKS)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, task and configuration, then the item and trace of each task.

        Raises:
            ImportFormatError: the file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        whole = json_bytes.decode(_PARTS, json_bytes.document(path), str(path), report)
        if "raw_eval_results" not in whole:
            raise ImportFormatError(f"{path} has no raw_eval_results; it is no upload of HAL")
        parts = {
            name: json_bytes.decode(_ANY, memoryview(raw), f"{path}, {name}", report)
            for name, raw in whole.items()
            if name in _READ
        }
        yield from _Upload(parts, path, report).records()


SOURCE = Hal()

_READ = {
    "config",
    "metadata",
    "results",
    "raw_eval_results",
    "raw_logging_results",
    "task_prompts",
    "total_usage",
    "total_cost",
    "wall_clock_times",
    "git_info",
}


class _Upload:
    """Reads one upload."""

    def __init__(self, parts: Line, path: Path, report: FileReport) -> None:
        self.parts = parts
        self.path = path
        self.report = report
        self.config = {**member(parts, "metadata"), **member(parts, "config")}
        self.results = member(parts, "results")
        self.evaluated = member(parts, "raw_eval_results")
        self.logged = _by_task(parts.get("raw_logging_results"), report)
        self.completion = 0  # output tokens of all calls

    # -- tasks -----------------------------------------------------------------------------------

    def _tasks(self) -> list[str]:
        """Return the tasks: those with a verdict or a log, else all that were evaluated."""
        judged = [*_names(self.results, "successful_tasks"), *_names(self.results, "failed_tasks")]
        others = self.logged if judged else self.evaluated
        return list(dict.fromkeys([*judged, *others]))

    def records(self) -> Iterator[AnyRecord]:
        name = text(self.config.get("run_id")) or content_id(NAME, self.config, self.evaluated)
        run_id = content_id(NAME, name)
        git = member(self.parts, "git_info")
        yield Run(
            run_id=run_id,
            kind="import",
            source=NAME,
            origin=self.path.name,
            status="done",
            started_at=moment(self.config.get("date")),
            commit_sha=text(git.get("commit_hash")) or text(git.get("commit")),
        )
        task = Task(task=text(self.config.get("benchmark_name")) or NAME)
        configuration = self._configuration()
        yield from (task, configuration)
        tasks = self._tasks()
        for key in tasks:
            prompt = text(member(self.parts, "task_prompts").get(key))
            item = Item(task_id=task.task_id, item=key, input=prompt)
            yield item
            yield self._trace(key, (name, run_id, configuration), item)
        yield from self._figures((run_id, configuration, task), len(tasks))
        self.report.totals += self._totals()
        if not tasks:
            self.report.why_empty = "an upload without tasks"

    def _configuration(self) -> Configuration:
        arguments = member(self.config, "agent_args")
        usage = member(self.parts, "total_usage")
        stated = (
            text(arguments.get("model_name"))
            or text(arguments.get("model"))
            or (max(usage, key=lambda m: (_output(usage[m]), m)) if usage else None)
            or next((m for log in self.logged.values() if (m := text(log.get("model")))), None)
        )
        provider, model = split_model(stated)
        kept = {
            name: value
            for name, value in arguments.items()
            if isinstance(value, (str, int, float, bool))
            and name not in {"model_name", "model", "temperature", "reasoning_effort"}
            and (not _SECRET.search(name) or name == "max_tokens")
        }
        effort = arguments.get("reasoning_effort")
        return Configuration(
            model=model or "unknown",
            provider=provider,
            strategy=text(self.config.get("agent_name")),
            strategy_params=json_text(kept) if kept else None,
            effort=str(effort) if isinstance(effort, (str, int)) else None,
            temperature=number(arguments.get("temperature")),
        )

    # -- traces ----------------------------------------------------------------------------------

    def _trace(self, key: str, ids: tuple[str, str, Configuration], item: Item) -> Trace:
        name, run_id, configuration = ids
        self.report.rows_in += 1
        log = self.logged.get(key, {})
        calls = tuple(_calls(log, configuration))
        stated = count(log.get("call_count"))
        if stated is not None and stated != len(calls):
            self.report.mismatches.add(
                f"{key}: call_count is {stated}, of calls there are {len(calls)}"
            )
        self.completion += sum(call.output_tokens or 0 for call in calls)
        conversation = _conversation(log, len(calls))
        evaluated = self.evaluated.get(key)
        scores = tuple(_scores(evaluated))
        score = scores[0] if scores and scores[0].scorer in _WHOLE else None
        starts = [call.started_at for call in calls if call.started_at is not None]
        about = evaluated if isinstance(evaluated, dict) else {}
        error = evaluated if isinstance(evaluated, str) else None
        confidence = number(about.get("confidence"))
        self.report.rows_out += 1
        return Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=item.task_id,
            item_id=item.item_id,
            trace_id=attempt_id(NAME, f"{name}/{key}"),
            started_at=min(starts, default=None),
            e2e_s=self._duration(key, calls),
            answer=conversation.last_text(),
            score=score.score if score else None,
            passed=self._passed(key, score),
            confidence=confidence if confidence is not None and 0 <= confidence <= 1 else None,
            error_type="error" if error is not None else None,
            error_message=error[:_MAX_ERROR] if error is not None else None,
            n_turns=len(calls) or None,
            metadata=self._metadata(key, about),
            calls=calls,
            tool_calls=conversation.tool_calls,
            messages=conversation.messages,
            scores=scores,
        )

    def _passed(self, key: str, score: Score | None) -> bool | None:
        """Return the verdict of the benchmark, else that of the score."""
        if key in _names(self.results, "successful_tasks"):
            return True
        if key in _names(self.results, "failed_tasks"):
            # HAL counts a task that broke off as failed
            return None if isinstance(self.evaluated.get(key), str) else False
        return score.passed if score else None

    def _duration(self, key: str, calls: tuple[Call, ...]) -> float | None:
        """Return the seconds of a task; HAL's own total lacks the last call, if it is a pair."""
        clock = amount(member(self.parts, "wall_clock_times").get(key))
        if clock:
            return clock
        spans = [
            (call.started_at, call.started_at + dt.timedelta(seconds=call.e2e_s))
            for call in calls
            if call.started_at is not None and call.e2e_s is not None
        ]
        if spans:
            return seconds(min(begin for begin, _ in spans), max(end for _, end in spans))
        return amount(member(self.results, "latencies").get(key)) or None

    def _metadata(self, key: str, evaluated: Line) -> str | None:
        cost = amount(member(self.results, "costs").get(key))
        if cost is None:
            cost = amount(evaluated.get("cost"))
        return json_text({"stated_cost_usd": cost}) if cost is not None else None

    # -- the whole -------------------------------------------------------------------------------

    def _figures(self, ids: tuple[str, Configuration, Task], n: int) -> Iterator[Result]:
        run_id, configuration, task = ids
        accuracy = number(self.results.get("accuracy"))
        cost = amount(self.results.get("total_cost"))
        of_run = functools.partial(
            Result,
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            n=n,
        )
        if accuracy is not None:
            yield of_run(
                metric="accuracy",
                value=accuracy,
                scale_low=0.0,
                scale_high=1.0,
                direction="higher",
            )
        if cost:
            yield of_run(metric="total_cost_usd", value=cost, unit="USD", direction="lower")

    def _totals(self) -> Iterator[Total]:
        """Compare the stated output tokens; those of calls without a task are in the total too."""
        usage = member(self.parts, "total_usage")
        stated = sum(_output(counts) for counts in usage.values())
        if stated and self.completion:
            yield Total("output tokens", stated, self.completion)


_WHOLE = ("reward", "score")


def _output(counts: object) -> int:
    return count(counts.get("completion_tokens")) or 0 if isinstance(counts, dict) else 0


def _names(results: Line, list_name: str) -> list[str]:
    listed = results.get(list_name)
    return [str(n) for n in listed if isinstance(n, (str, int))] if isinstance(listed, list) else []


def _by_task(logged: object, report: FileReport) -> dict[str, Line]:
    """Return the log of each task: {"messages", "call_metadata", "model"}, whatever the layout."""
    if isinstance(logged, dict):
        return {key: log for key, log in logged.items() if isinstance(log, dict)}
    if not isinstance(logged, list):
        return {}
    calls = [call for call in logged if isinstance(call, dict)]
    own = [call for call in calls if member(member(call, "output"), "usage")]
    if not own and calls:
        parents = {
            call.get("parent_id") for call in calls if isinstance(call.get("parent_id"), str)
        }
        own = [call for call in calls if call.get("id") not in parents]
        report.notes["calls whose usage is known from Weave's summary only"] += len(own)
    elif len(own) < len(calls):
        report.notes["Weave calls without usage of their own: no calls of a model"] += len(
            calls
        ) - len(own)
    by_task: dict[str, Line] = {}
    for call in own:
        key = call.get("weave_task_id", member(call, "attributes").get("weave_task_id"))
        if key is None:
            report.notes["Weave calls without a task: left out"] += 1
            continue
        log = by_task.setdefault(str(key), {"messages": [], "call_metadata": []})
        log["call_metadata"] += _weave_metadata(call)
        inputs = member(call, "inputs")
        asked = inputs.get("messages")
        if isinstance(asked, list) and len(asked) >= len(log["messages"]):
            log["messages"] = [*asked, *_reply(call)]
            log["model"] = inputs.get("model")
    for log in by_task.values():
        log["call_metadata"].sort(key=lambda entry: str(entry.get("started_at")))
    return by_task


def _weave_metadata(call: Line) -> list[Line]:
    """Return the usage of a Weave call: its own, else one entry for each model of its summary."""
    times = {name: call.get(name) for name in ("started_at", "ended_at")}
    output = member(call, "output")
    failed = text(call.get("exception"))
    if usage := member(output, "usage"):
        return [times | {"usage": usage, "model": output.get("model"), "exception": failed}]
    summary = member(member(call, "summary"), "usage")
    return [
        times | {"usage": counts, "model": model, "exception": failed}
        for model, counts in summary.items()
        if isinstance(counts, dict)
    ]


def _reply(call: Line) -> list[Any]:
    choices = member(call, "output").get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = member(first, "message")
    return [message] if message else []


def _calls(log: Line, configuration: Configuration) -> Iterator[Call]:
    entries = log.get("call_metadata")
    entries = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    for n, entry in enumerate(entries):
        raw = member(entry, "usage")
        provider, model = split_model(text(entry.get("model")) or text(log.get("model")))
        begin = moment(entry.get("started_at"))
        failed = text(entry.get("exception"))
        yield Call(
            ordinal=n,
            provider=provider or configuration.provider,
            model=model or configuration.model,
            started_at=begin,
            e2e_s=seconds(begin, moment(entry.get("ended_at"))),
            error_type="error" if failed else None,
            error_message=failed[:_MAX_ERROR] if failed else None,
            usage=json_text(raw) if raw else None,
            **normalise(raw or None, model=model or "").known(),
        )


def _conversation(log: Line, n_calls: int) -> Conversation:
    """Return the messages of a task; an answer has its call if there are as many as calls."""
    conversation = Conversation()
    messages = log.get("messages")
    messages = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    answers = [n for n, m in enumerate(messages) if m.get("role") == "assistant"]
    place = {n: call for call, n in enumerate(answers)} if len(answers) == n_calls else {}
    for n, message in enumerate(messages):
        conversation.add_chat_message(message, call=place.get(n))
    return conversation


def _scores(evaluated: object) -> Iterator[Score]:
    """Yield the scores of a task; of variants of a prompt, the mean that HAL takes."""
    if isinstance(evaluated, list):
        variants = [number(v.get("score")) for v in evaluated if isinstance(v, dict)]
        known = [value for value in variants if value is not None]
        if known:
            mean = rewarded("score", sum(known) / len(known), value=f"{len(known)} variants")
            yield from [] if mean is None else [mean]
        return
    if not isinstance(evaluated, dict):
        evaluated = {"score": float(evaluated) if isinstance(evaluated, bool) else evaluated}
    for name in _WHOLE:
        value = evaluated.get(name)
        score = rewarded(name, float(value) if isinstance(value, bool) else value)
        if score is not None:
            yield score
