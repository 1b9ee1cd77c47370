"""Sessions of Exgentic: results.json and, beside it, trajectory.jsonl, session.json, config.json.

The trajectory states the agent's cost so far on each line. A line on which it is higher begins a
new call, whose cost is the difference; actions at one cost were asked for in one answer. What the
results state beyond the last line was paid after it.
"""

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
from workbench.sources.json_lines import lines, member, text
from workbench.sources.report import FileReport, Total
from workbench.sources.trajectories.atif import split_model
from workbench.sources.trajectories.conversation import Conversation, amount, number, rewarded
from workbench.sources.trajectories.folders import within
from workbench.usage import count

NAME = "exgentic"
_RESULT_KEYS = {"session_id", "success", "score", "steps", "agent_cost"}
_EVENTS = {"action", "observation"}
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_LEAST = 1e-9  # USD; smaller differences are rounding


class Exgentic:
    """Source of a session's results and trajectory."""

    name = NAME
    title = "Exgentic session (results.json, trajectory.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is a session's result, or lines of its actions."""
        return _is_results(path) or _is_trajectory(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the other files of the session."""
        names = ("results.json", "trajectory.jsonl", "session.json", "config.json")
        return tuple(file for file in within(path.parent, *names) if file != path)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then the session's task, item, configuration and trace.

        Raises:
            ImportFormatError: a file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        beside = {file.name: file for file in self.parts(path)}
        results_file, trajectory_file = path, path
        if _is_results(path):
            trajectory_file = beside.get("trajectory.jsonl", path)
        elif _is_trajectory(path):
            results_file = beside.get("results.json", path)
        else:
            raise ImportFormatError(f"{path} is neither the result nor the trajectory of a session")
        session = _Session(report)
        if _is_results(results_file):
            session.results = _document(results_file, report)
        for name in ("session.json", "config.json"):
            if name in beside:
                session.about |= {name: _document(beside[name], report)}
        if _is_trajectory(trajectory_file):
            for _, line in lines(trajectory_file, report):
                session.add(line)
        yield from session.records(path)


SOURCE = Exgentic()


def _is_results(path: Path) -> bool:
    return set(heads.keys(path)) >= _RESULT_KEYS


def _is_trajectory(path: Path) -> bool:
    return any(
        line.get("event") in _EVENTS and {"session_id", "agent_cost"} <= set(line)
        for line in heads.lines(path)[:3]
        if isinstance(line.get("event"), str)
    )


def _document(path: Path, report: FileReport) -> Line:
    return json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), report)


class _Session:
    """Assembles one session."""

    def __init__(self, report: FileReport) -> None:
        self.report = report
        self.results: Line = {}
        self.about: dict[str, Line] = {}
        self.head: Line = {}  # the first line of the trajectory
        self.conversation = Conversation()
        self.costs: list[float | None] = []  # of each call
        self.spent = 0.0
        self.benchmark_usd = 0.0
        self.n_actions = 0
        self.n_invalid = 0
        self.has_user = False
        self._faults: dict[str, str] = {}  # id of an action → why it was not run
        self._message_actions: set[str] | None = None

    # -- lines -----------------------------------------------------------------------------------

    def add(self, line: Line) -> None:
        """Add one line of the trajectory."""
        self.head = self.head or line
        self.benchmark_usd = max(self.benchmark_usd, amount(line.get("benchmark_cost")) or 0.0)
        if line.get("event") == "action":
            self._add_action(member(line, "action"), amount(line.get("agent_cost")))
        elif line.get("event") == "observation":
            self._add_observation(member(line, "observation"))
        else:
            self.report.notes["lines that are neither action nor observation, skipped"] += 1

    def _add_action(self, action: Line, spent: float | None) -> None:
        self.n_actions += 1
        call = self._call(spent)
        name = text(action.get("name")) or "unknown"
        id = text(action.get("id"))
        validation = member(action, "validation")
        if validation.get("valid") is False:
            self.n_invalid += 1
            if id is not None:
                self._faults[id] = text(validation.get("error")) or "not valid"
        said = text(member(action, "arguments").get("content"))
        if said is not None and name in self._messages():
            self.conversation.say("assistant", "text", said, call=call)
        else:
            self.conversation.ask(name, action.get("arguments"), id=id, call=call)

    def _messages(self) -> set[str]:
        """Return the actions that only send a text to the user."""
        if self._message_actions is None:
            listed = self.about.get("session.json", {}).get("actions")
            self._message_actions = {
                str(action.get("name"))
                for action in (listed if isinstance(listed, list) else ())
                if isinstance(action, dict) and action.get("is_message") is True
            }
        return self._message_actions

    def _call(self, spent: float | None) -> int:
        """Return the call of an action, by the cost so far."""
        added = None if spent is None else spent - self.spent
        if added is not None and added < -_LEAST:
            self.report.notes["decreases of the cost so far, which began again"] += 1
            added = spent
        if added is not None and added > _LEAST:
            self.costs.append(added)
            self.spent = spent or 0.0
        elif not self.costs or self.costs[-1] is None:
            self.costs.append(None)  # nothing says what is one call where there is no cost
        return len(self.costs) - 1

    def _add_observation(self, observation: Line) -> None:
        result = observation.get("result")
        invoking = observation.get("invoking_actions")
        ids = [
            text(action.get("id"))
            for action in (invoking if isinstance(invoking, list) else ())
            if isinstance(action, dict)
        ]
        if isinstance(result, dict) and result.get("sender") == "user":
            self.has_user = True
            self.conversation.say("user", "text", text(result.get("message")) or "")
            return
        content = result if isinstance(result, str) else json_text(result)
        for n, id in enumerate(ids):
            error = self._faults.get(id) if id is not None else None
            code = result.get("returncode") if isinstance(result, dict) else None
            if error is None and isinstance(code, int) and code != 0:
                error = f"exit code {code}"
            # several actions share one result
            self.conversation.answer(
                id, content if not n and result is not None else "", error=error
            )
        if not ids and result is not None:
            self.conversation.say("user", "text", content)

    # -- records ---------------------------------------------------------------------------------

    def records(self, path: Path) -> Iterator[AnyRecord]:
        """Yield the session's records."""
        results = self.results
        config = self.about.get("config.json", {})
        if not self.head and not results:
            self.report.why_empty = "a session without a line"
            return
        self.report.rows_in += 1
        run = text(self.head.get("run_id")) or text(config.get("run_id"))
        session = text(self.head.get("session_id"))
        name = f"{run}/{session}" if session else content_id(NAME, results)
        run_id = content_id(NAME, run or name)
        benchmark = text(config.get("benchmark"))
        task = Task(task=benchmark or NAME)
        key = next(
            (
                found
                for part in (results, self.head)
                for field in ("task_id", "task_key")
                if (found := text(part.get(field)))
            ),
            name,
        )
        manifest = self.about.get("session.json", {})
        item = Item(task_id=task.task_id, item=key, input=text(manifest.get("task")))
        configuration = self._configuration(config)
        yield Run(run_id=run_id, kind="import", source=NAME, origin=path.name)
        yield from (task, item, configuration)
        calls = self._calls(configuration)
        scores = tuple(self._scores())
        whole = scores[0] if scores and scores[0].scorer == "score" else None
        success = results.get("success")
        self.report.totals += self._totals()
        if self.conversation.n_unmatched:
            self.report.notes["results of actions without an action"] += (
                self.conversation.n_unmatched
            )
        self.report.rows_out += 1
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            trace_id=attempt_id(NAME, name),
            e2e_s=amount(results.get("execution_time")),
            answer=self.conversation.last_text(),
            score=whole.score if whole else None,
            passed=success if isinstance(success, bool) else None,
            n_turns=sum(call.role == "subject" for call in calls) or None,
            metadata=self._metadata(),
            calls=calls,
            tool_calls=self.conversation.tool_calls,
            messages=self.conversation.messages,
            scores=scores,
            **self._end(),
        )

    def _configuration(self, config: Line) -> Configuration:
        reports = member(self.results, "cost_reports")
        named = text(config.get("model")) or text(member(reports, "agent").get("model_name"))
        provider, model = split_model(named)
        other = text(member(reports, "benchmark").get("model_name"))
        settings = {
            name: value
            for name, value in {"benchmark_model": other, "subset": config.get("subset")}.items()
            if value
        }
        return Configuration(
            model=model or "unknown",
            provider=provider,
            strategy=text(config.get("agent")),
            settings=json_text(settings) if settings else None,
        )

    def _calls(self, configuration: Configuration) -> tuple[Call, ...]:
        calls = [
            Call(
                ordinal=n,
                provider=configuration.provider,
                model=configuration.model,
                billed_cost_usd=cost,
            )
            for n, cost in enumerate(self.costs)
        ]
        stated = amount(self.results.get("agent_cost"))
        rest = stated - self.spent if stated is not None else 0.0
        if rest > _LEAST:
            if calls:
                self.report.notes["costs after the last action: a call of their own"] += 1
            calls.append(
                Call(
                    ordinal=len(calls),
                    provider=configuration.provider,
                    model=configuration.model,
                    n_requests=1 if calls else count(self.results.get("llm_call_count")) or None,
                    billed_cost_usd=rest,
                )
            )
        other = amount(self.results.get("benchmark_cost")) or self.benchmark_usd
        if other:
            provider, model = split_model(
                text(member(member(self.results, "cost_reports"), "benchmark").get("model_name"))
            )
            calls.append(
                Call(
                    ordinal=len(calls),
                    role="user" if self.has_user else "judge",
                    provider=provider,
                    model=model,
                    n_requests=None,
                    billed_cost_usd=other,
                )
            )
        return tuple(calls)

    def _scores(self) -> Iterator[Score]:
        whole = rewarded("score", self.results.get("score"))
        if whole is not None:
            yield whole
        metrics = member(member(self.results, "details"), "session_metrics")
        for name, value in metrics.items():
            known = number(value)
            if known is not None:
                yield Score(scorer=name, metric=known)
            elif isinstance(value, bool):
                yield Score(scorer=name, score=float(value), passed=value)

    def _end(self) -> dict[str, Any]:
        status = text(self.results.get("status"))
        if status in {"error", "cancelled"}:
            return {"error_type": status, "error_message": f"the session ended: {status}"}
        if status == "limit_reached":
            return {"limit_type": "turns"}
        return {}

    def _metadata(self) -> str | None:
        about = {
            "session": self.results.get("session_id"),
            "status": self.results.get("status"),
            "is_finished": self.results.get("is_finished"),
        }
        known = {name: value for name, value in about.items() if value is not None}
        return json_text(known) if known else None

    def _totals(self) -> Iterator[Total]:
        """Compare the stated actions with those of the trajectory."""
        for name, found in (
            ("steps", self.n_actions),
            ("action_count", self.n_actions),
            ("invalid_action_count", self.n_invalid),
        ):
            stated = count(self.results.get(name))
            if stated is not None and self.head:
                yield Total(name.replace("_", " "), stated, found)
