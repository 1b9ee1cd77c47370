"""Runs of Terminal-Bench 1.x: results.json of a run, or of a trial, and the logs of its agent.

A trial whose agent ran out of time is verified all the same: what the tests say counts. Where the
tests gave no verdict (`is_resolved` is null) the trial is not scored here, though Terminal-Bench
counts it as failed; the comparison of its accuracy does so too. Agents that run in the container
write 0 tokens, which is unknown.
"""

import math
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
from workbench.sources.trajectories.conversation import Conversation, number
from workbench.sources.trajectories.folders import within
from workbench.usage import count, normalise

NAME = "terminal-bench"
_TRIAL_KEYS = {"trial_name", "is_resolved", "failure_mode"}
_MARKS = (b'"trial_name"', b'"is_resolved"', b'"failure_mode"')
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ATTEMPT = re.compile(r"\.(\d{1,6})-of-\d{1,6}(?:\.|$)")
_EPISODE = re.compile(r"episode-(\d{1,9})")
_LIMITS = {
    "agent_timeout": "time",
    "context_length_exceeded": "tokens",
    "output_length_exceeded": "tokens",
}
_NO_FAILURE = {"unset", "none", "unknown"}
_MAX_LOG = 8 << 20  # bytes of one prompt or reply in the agent's logs


class TerminalBench:
    """Source of results.json of a run and of a trial."""

    name = NAME
    title = "Terminal-Bench run (results.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file begins with a trial, or with a list of trials."""
        keys = heads.keys(path)
        if set(keys) >= _TRIAL_KEYS:
            return True
        start = heads.start(path)
        return "results" in keys and all(mark in start for mark in _MARKS)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the metadata of a run, the results of its trials, and logs of their agents."""
        if set(heads.keys(path)) >= _TRIAL_KEYS:
            return tuple(_logs(path.parent))
        if path.name != "results.json":
            return ()
        found = [path.with_name("run_metadata.json")]
        for trial in within(path.parent, "*/*/results.json"):
            if set(heads.keys(trial)) >= _TRIAL_KEYS:
                found += [trial, *_logs(trial.parent)]
        return tuple(file for file in found if file.is_file())

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then each trial's task, item, configuration and trace.

        Raises:
            ImportFormatError: the file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        document = json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), report)
        if set(document) >= _TRIAL_KEYS:
            metadata = _metadata_of(path.parent.parent.parent, report)
            yield from _Run([document], metadata, path, report).records()
            return
        results = document.get("results")
        if not isinstance(results, list):
            raise ImportFormatError(f"{path} has no list of results; it is no run's results.json")
        run = _Run(results, _metadata_of(path.parent, report), path, report)
        yield from run.records()
        report.totals += run.totals(document)


SOURCE = TerminalBench()


def _logs(folder: Path) -> list[Path]:
    return within(folder, "agent-logs/**/*")


def _metadata_of(folder: Path, report: FileReport) -> Line:
    path = folder / "run_metadata.json"
    if not path.is_file() or "agent_name" not in heads.keys(path):
        return {}
    return json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), report)


class _Run:
    """Reads the trials of one run."""

    def __init__(self, results: list[Any], metadata: Line, path: Path, report: FileReport) -> None:
        self.results = results
        self.metadata = metadata
        self.path = path
        self.report = report
        self.verdicts: dict[str, list[bool]] = {}  # by task; what has no verdict counts as failed

    def records(self) -> Iterator[AnyRecord]:
        trials = [trial for trial in self.results if isinstance(trial, dict)]
        name = _name_of_run(self.metadata, trials)
        run_id = content_id(NAME, name)
        meta = self.metadata
        commit = text(meta.get("commit_hash"))
        yield Run(
            run_id=run_id,
            kind="import",
            source=NAME,
            origin=self.path.name,
            started_at=moment(meta.get("start_time")),
            ended_at=moment(meta.get("end_time")),
            commit_sha=None if commit == "unknown" else commit,
            n_planned=self._n_planned(),
        )
        task = Task(
            task=text(meta.get("dataset_name")) or NAME,
            version=text(meta.get("dataset_version")),
            scorer="tests of the task",
        )
        configuration = self._configuration(name)
        yield from (task, configuration)
        ids = (run_id, configuration, task)
        for n, trial in enumerate(self.results, 1):
            if not isinstance(trial, dict) or not text(trial.get("task_id")):
                self.report.bad_row(f"{self.path}, result {n} is no trial with a task_id")
                continue
            yield from self._trial(trial, ids)

    def _n_planned(self) -> int | None:
        size = count(self.metadata.get("dataset_size"))
        attempts = count(self.metadata.get("n_attempts"))
        return size * attempts if size and attempts else None

    def _configuration(self, run: str) -> Configuration:
        meta = self.metadata
        provider, model = split_model(text(meta.get("model_name")))
        agent = text(meta.get("agent_name"))
        if model is None:
            self.report.notes["the model is not stated: the run is a configuration of its own"] += 1
        return Configuration(
            model=model or "unknown",
            provider=provider,
            strategy=agent,
            # runs of which nobody says the model are not pooled
            settings=json_text({"run": run}) if model is None else None,
        )

    def _trial(self, trial: Line, ids: tuple[str, Configuration, Task]) -> Iterator[AnyRecord]:
        run_id, configuration, task = ids
        self.report.rows_in += 1
        name = str(trial["task_id"])
        item = Item(task_id=task.task_id, item=name, input=text(trial.get("instruction")))
        yield item
        resolved = trial.get("is_resolved")
        self.verdicts.setdefault(name, []).append(resolved is True)
        trial_name = text(trial.get("trial_name")) or ""
        attempt = _ATTEMPT.search(trial_name)
        own = text(trial.get("id")) or text(trial.get("uuid")) or content_id(NAME, run_id, trial)
        began = moment(trial.get("agent_started_at"))
        conversation, calls = self._agent_logs(name, trial_name, configuration)
        n_turns = len(calls) or None
        if not any(call.output_tokens for call in calls):
            calls = _summed(trial, calls, configuration)
        self.report.rows_out += 1
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            trial=max(int(attempt[1]) - 1, 0) if attempt else 0,
            trace_id=attempt_id(NAME, own),
            started_at=began or moment(trial.get("trial_started_at")),
            e2e_s=seconds(began, moment(trial.get("agent_ended_at"))),
            answer=conversation.last_text(),
            n_turns=n_turns,
            metadata=json_text(_about(trial)),
            calls=calls,
            messages=conversation.messages,
            **_outcome(trial),
        )

    def _agent_logs(
        self, task: str, trial: str, configuration: Configuration
    ) -> tuple[Conversation, tuple[Call, ...]]:
        """Read the prompts and replies that Terminus logs, one folder for each episode."""
        conversation = Conversation()
        if set(heads.keys(self.path)) >= _TRIAL_KEYS:
            folder = self.path.parent
        elif all(Path(part).name == part != ".." for part in (task, trial)):
            folder = self.path.parent / task / trial
        else:
            return conversation, ()  # no name of a folder
        if not folder.resolve().is_relative_to(self.path.parent.resolve()):
            return conversation, ()  # a link that leads out
        logs = within(folder, "agent-logs/episode-*/*")
        episodes = sorted(
            (int(match[1]), path)
            for path in {log.parent for log in logs}
            if (match := _EPISODE.fullmatch(path.name))
        )
        calls = []
        for ordinal, (_, path) in enumerate(episodes):
            conversation.say("user", "text", _log(path / "prompt.txt"))
            reply = _log(path / "response.txt") or _log(path / "response.json")
            conversation.say("assistant", "text", reply, call=ordinal)
            calls.append(self._call(ordinal, path / "debug.json", configuration))
        return conversation, tuple(calls)

    def _call(self, ordinal: int, path: Path, configuration: Configuration) -> Call:
        """Read a request's log, in which the provider's reply stands as a text."""
        raw: Line = {}
        try:
            logged = _OBJECT.decode(_log(path).encode())
            reply = logged.get("original_response")
            reply = _OBJECT.decode(reply.encode()) if isinstance(reply, str) else reply
            raw = member(reply, "usage")
        except (msgspec.DecodeError, RecursionError):
            self.report.notes["requests whose log has no usage"] += 1
        return Call(
            ordinal=ordinal,
            provider=configuration.provider,
            model=configuration.model,
            usage=json_text(raw) if raw else None,
            **normalise(raw or None).known(),
        )

    def totals(self, document: Line) -> Iterator[Total]:
        """Compare what the file says of the whole run with its trials."""
        verdicts = [verdict for of_task in self.verdicts.values() for verdict in of_task]
        nulls = sum(isinstance(t, dict) and t.get("is_resolved") is None for t in self.results)
        words = f"{nulls} trials without a verdict, counted as failed" if nulls else ""
        resolved = number(document.get("n_resolved"))
        if resolved is not None:
            yield Total("resolved trials", resolved, sum(verdicts), nulls=words)
        accuracy = number(document.get("accuracy"))
        if accuracy is not None and verdicts:
            share = sum(verdicts) / len(verdicts)
            yield Total("accuracy", accuracy, share, 1e-9, nulls=words)
        for k, stated in member(document, "pass_at_k").items():
            value = number(stated)
            if value is not None and k.isdigit() and 0 < int(k[:9]) == int(k[:30]):
                yield Total(f"pass@{k}", value, self._pass_at(int(k)), 1e-9, nulls=words)

    def _pass_at(self, k: int) -> float:
        """Return the mean over tasks of 1 − C(n − c, k) / C(n, k): Chen et al. 2021, equation 1."""
        estimates = [
            1 - math.comb(len(v) - sum(v), k) / math.comb(len(v), k)
            for v in self.verdicts.values()
            if len(v) >= k
        ]
        return sum(estimates) / len(estimates) if estimates else math.nan


def _name_of_run(metadata: Line, trials: list[Line]) -> str:
    """Return the run's id: of its metadata, else the folder in which its recordings lay."""
    stated = text(metadata.get("run_id"))
    if stated:
        return stated
    for trial in trials:
        recording = text(trial.get("recording_path"))
        if recording and "/" in recording:
            return recording.split("/")[0]
    return content_id(NAME, [trial.get("id") or trial.get("uuid") for trial in trials])


def _log(path: Path) -> str:
    """Return a text that an agent logged; "" if there is none or it is too long to be one."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _MAX_LOG:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _summed(trial: Line, calls: tuple[Call, ...], configuration: Configuration) -> tuple[Call, ...]:
    """Return one call with a trial's sums; none if they are unknown, which 0 is too."""
    sent = count(trial.get("total_input_tokens"))
    received = count(trial.get("total_output_tokens"))
    if not sent and not received:
        return calls
    return (
        Call(
            provider=configuration.provider,
            model=configuration.model,
            n_requests=len(calls) or None,
            input_tokens=sent,
            output_tokens=received,
            tokens_source="reported",
        ),
    )


def _outcome(trial: Line) -> dict[str, Any]:
    """Return scores, limit and error of a trial."""
    failure = text(trial.get("failure_mode")) or "unset"
    resolved = trial.get("is_resolved")
    outcome: dict[str, Any] = {"limit_type": _LIMITS.get(failure)}
    scores = list(_tests(trial))
    if isinstance(resolved, bool):
        scores.insert(0, Score(scorer="resolved", score=float(resolved), passed=resolved))
        outcome |= {"score": float(resolved), "passed": resolved}
    elif failure not in _NO_FAILURE:
        outcome |= {"error_type": failure, "error_message": f"{failure}: no verdict of the tests"}
    return outcome | {"scores": tuple(scores)}


def _tests(trial: Line) -> Iterator[Score]:
    """Yield the share of the tests that passed."""
    tests = member(trial, "parser_results")
    if tests:
        passed = sum(status == "passed" for status in tests.values())
        yield Score(scorer="tests", score=passed / len(tests), value=f"{passed} of {len(tests)}")


def _about(trial: Line) -> Line:
    about: Line = {
        "trial_name": trial.get("trial_name"),
        "failure_mode": trial.get("failure_mode"),
        "tests": trial.get("parser_results"),
        "test_s": seconds(moment(trial.get("test_started_at")), moment(trial.get("test_ended_at"))),
    }
    return {name: value for name, value in about.items() if value is not None}
