"""Jobs of Harbor: the results of the trials, each with the trajectory of its agent.

A trial that ran out of time was verified all the same: its reward counts, and the time is its
limit. An error for which Harbor says that the reward is not valid, or that is not of the agent,
stands beside the reward. Tokens come from the trajectory, else from the trial's sums.
"""

import re
from collections import Counter
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
from workbench.sources.trajectories import atif
from workbench.sources.trajectories.conversation import amount, number, rewarded
from workbench.sources.trajectories.folders import within
from workbench.usage import Usage, count

NAME = "harbor"
_TRIAL_KEYS = {"trial_name", "task_name", "agent_info"}
_JOB_KEYS = {"n_total_trials", "stats"}
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SECRET = re.compile(r"key|secret|password|credential|auth|header|env", re.IGNORECASE)
_LIMITS = {
    "AgentTimeoutError": "time",
    "ContextWindowExceededError": "tokens",
    "ContextLengthExceededError": "tokens",
    "OutputTokenExceededError": "tokens",
    "OutputLengthExceededError": "tokens",
}
# ends of an agent after which what it did was verified as that of any other
_OWN_ENDS = {
    *_LIMITS,
    "NonZeroAgentExitCodeError",
    "AgentSafetyRefusalError",
    "ContentPolicyViolationError",
}
_USER = "user-agent"  # folder of a simulated user
_SUMS = {
    "n_input_tokens": "input_tokens",
    "n_cache_tokens": "cache_read_tokens",
    "n_output_tokens": "output_tokens",
}


class Harbor:
    """Source of result.json of a job and of a trial."""

    name = NAME
    title = "Harbor job (result.json, agent/trajectory.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is the result of a job or of a trial."""
        keys = set(heads.keys(path))
        return keys >= _TRIAL_KEYS or keys >= _JOB_KEYS

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Return the files of the trials of a job, or of a trial."""
        if not set(heads.keys(path)) >= _JOB_KEYS:
            return tuple(_trial_parts(path))
        found: list[Path] = []
        for result in _trial_results(path):
            found += [result, *_trial_parts(result)]
        return tuple(found)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the job's run, then each trial's task, item, configuration and trace.

        Raises:
            ImportFormatError: a file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        document = _document(path, report)
        if set(document) >= _JOB_KEYS:
            yield from _Job(document, path, report).records()
        elif set(document) >= _TRIAL_KEYS:
            yield from _trial(document, path, report, Counter())
        else:
            raise ImportFormatError(f"{path} is neither a job's result nor a trial's of Harbor")


SOURCE = Harbor()


def _document(path: Path, report: FileReport) -> Line:
    return json_bytes.decode(_OBJECT, json_bytes.document(path), str(path), report)


def _trial_results(job: Path) -> list[Path]:
    """Return the results of a job's trials: the trials are the folders beside the job's file."""
    return [
        path for path in within(job.parent, f"*/{job.name}") if set(heads.keys(path)) >= _TRIAL_KEYS
    ]


def _trajectories(result: Path, agent: str = "agent") -> list[Path]:
    """Return the agent's trajectories of a trial, of one step after the other if it has steps."""
    files = within(result.parent, f"{agent}/trajectory.json", f"steps/*/{agent}/trajectory.json")
    return [path for path in files if atif.SOURCE.detect(path)]


def _trial_parts(result: Path) -> Iterator[Path]:
    """Yield the files in which an agent logged what its trajectory says."""
    for trajectory in (*_trajectories(result), *_trajectories(result, _USER)):
        yield from within(trajectory.parent, "**/*.json*")


class _Job:
    """Reads the trials of a job, and compares its totals with them."""

    def __init__(self, document: Line, path: Path, report: FileReport) -> None:
        self.document = document
        self.path = path
        self.report = report
        self.stats = member(document, "stats")

    def records(self) -> Iterator[AnyRecord]:
        started = moment(self.document.get("started_at"))
        stats = self.stats
        job = text(self.document.get("id")) or content_id(NAME, self.document)
        yield Run(
            run_id=content_id(NAME, job),
            kind="import",
            source=NAME,
            origin=self.path.name,
            status="done" if self.document.get("finished_at") else "running",
            started_at=started,
            ended_at=moment(self.document.get("finished_at")),
            n_planned=count(self.document.get("n_total_trials")),
        )
        numbers: Counter[str] = Counter()
        sums: dict[str, float] = dict.fromkeys((*_SUMS, "cost_usd"), 0)
        n_trials = n_errors = 0
        for path, trial in self._trials():
            yield from _trial(trial, path, self.report, numbers, job=job)
            for name, value in _stated(trial).items():
                sums[name] += value
            n_trials += 1
            n_errors += bool(list(_exceptions(trial)))
        if not n_trials:
            self.report.add_missing(
                f"{self.path} is the result of a job without the folders of its trials; import"
                " the job's whole folder"
            )
        for name, known in (
            ("n_completed_trials", n_trials),
            ("n_trials", n_trials),
            ("n_errored_trials", n_errors),
            ("n_errors", n_errors),
            *((name, sums[name]) for name in (*_SUMS, "cost_usd")),
        ):
            stated = number(stats.get(name))
            if stated is not None and n_trials:
                tolerance = 1e-6 * abs(stated) if name == "cost_usd" else 0.0
                self.report.totals.append(Total(f"{name} of the job", stated, known, tolerance))

    def _trials(self) -> Iterator[tuple[Path, Line]]:
        """Yield the trials by their start, so that those of a job that grew are numbered last."""
        files: list[tuple[tuple[str, str], Path]] = []
        for path in _trial_results(self.path):
            try:
                files.append((_place(path, self.report), path))
            except ImportFormatError as error:
                self.report.bad_row(str(error), error)
        for _, path in sorted(files):
            yield path, _document(path, self.report)
        inside = self.document.get("trial_results")
        if not files and isinstance(inside, list):
            trials = [trial for trial in inside if isinstance(trial, dict)]
            for trial in sorted(trials, key=lambda t: (str(t.get("started_at")), str(t.get("id")))):
                yield self.path, trial


def _place(path: Path, report: FileReport) -> tuple[str, str]:
    """Return what sorts the trials of a job: start and id."""
    whole = json_bytes.decode(_PARTS, json_bytes.document(path), str(path), report)
    return bytes(whole.get("started_at", b"")).decode(), bytes(whole.get("id", b"")).decode()


def _stated(trial: Line) -> dict[str, float]:
    """Return the sums of tokens and cost that a trial states, or that its steps do."""
    whole = member(trial, "agent_result")
    steps = trial.get("step_results")
    results = (
        [whole]
        if whole or not isinstance(steps, list)
        else [member(step, "agent_result") for step in steps]
    )
    sums: dict[str, float] = {}
    for result in results:
        for name in (*_SUMS, "cost_usd"):
            value = amount(result.get(name))
            if value is not None:
                sums[name] = sums.get(name, 0) + value
    return sums


def _exceptions(trial: Line) -> Iterator[Line]:
    """Yield the errors of a trial and of its steps."""
    steps = trial.get("step_results")
    for part in (trial, *(steps if isinstance(steps, list) else ())):
        info = member(part, "exception_info")
        if info:
            yield info


def _trial(
    trial: Line, path: Path, report: FileReport, numbers: Counter[str], job: str | None = None
) -> Iterator[AnyRecord]:
    if not set(trial) >= _TRIAL_KEYS:
        report.bad_row(f"{path} is no result of a trial: it has no {_missing(trial)}")
        return
    report.rows_in += 1
    settings = member(trial, "config")
    name = text(trial.get("id")) or content_id(NAME, trial)
    own_job = job is None
    job = job or text(settings.get("job_id")) or name
    run_id = content_id(NAME, job)
    started = moment(trial.get("started_at"))
    if own_job:
        yield Run(run_id=run_id, kind="import", source=NAME, origin=path.name, started_at=started)
    task = Task(task=text(trial.get("source")) or "adhoc")
    item = Item(
        task_id=task.task_id,
        item=text(trial.get("task_name")) or "unknown",
        metadata=json_text({"checksum": trial["task_checksum"]})
        if text(trial.get("task_checksum"))
        else None,
    )
    trajectory = _trajectory(path, report)
    calls = trajectory.calls() if trajectory else ()
    configuration = _configuration(trial, settings, trajectory)
    yield from (task, item, configuration)
    sums = _stated(trial)
    n_turns = len(calls) or None
    if not any(call.output_tokens for call in calls):
        calls = _summed(calls, sums, configuration)
    calls += _of_user(path, report, len(calls))
    key = f"{configuration.configuration_id}/{item.item_id}"
    number_of_trial = numbers[key]
    numbers[key] += 1
    began = moment(member(trial, "agent_execution").get("started_at"))
    ended = moment(member(trial, "agent_execution").get("finished_at"))
    conversation = trajectory.conversation if trajectory else None
    report.rows_out += 1
    yield Trace(
        run_id=run_id,
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=number_of_trial,
        trace_id=attempt_id(NAME, name),
        started_at=began or started,
        e2e_s=seconds(began, ended)
        if began and ended
        else seconds(started, moment(trial.get("finished_at"))),
        answer=conversation.last_text() if conversation else None,
        n_turns=n_turns,
        metadata=json_text(_metadata(trial, sums, calls)),
        calls=calls,
        tool_calls=conversation.tool_calls if conversation else (),
        messages=conversation.messages if conversation else (),
        **_outcome(trial),
    )


def _of_user(path: Path, report: FileReport, n_calls: int) -> tuple[Call, ...]:
    """Return the calls of a trial's simulated user; what it said is in the agent's messages."""
    calls: list[Call] = []
    for file in _trajectories(path, _USER):
        trajectory = atif.Trajectory(report)
        try:
            trajectory.add_files(file)
        except ImportFormatError as error:
            if not report.skip_bad_rows:
                raise
            report.add_missing(f"{error}: the simulated user's calls are not read")
            continue
        calls += trajectory.calls()
    return tuple(
        msgspec.structs.replace(call, ordinal=n, role="user")
        for n, call in enumerate(calls, n_calls)
    )


def _missing(trial: Line) -> str:
    return ", ".join(sorted(_TRIAL_KEYS - set(trial)))


def _trajectory(path: Path, report: FileReport) -> atif.Trajectory | None:
    """Read the trajectories of a trial; where bad rows are skipped, a broken one is left out."""
    files = _trajectories(path)
    if not files:
        report.notes["trials without a trajectory: no messages and tool calls"] += 1
        return None
    trajectory = atif.Trajectory(report)
    for file in files:
        try:
            trajectory.add_files(file)
        except ImportFormatError as error:
            if not report.skip_bad_rows:
                raise
            report.add_missing(f"{error}: the trial is read without its trajectory")
            return None
    trajectory.finish()
    if len(files) == 1:
        report.totals += trajectory.totals()
    return trajectory


def _summed(
    calls: tuple[Call, ...], sums: dict[str, float], configuration: Configuration
) -> tuple[Call, ...]:
    """Return one call with a trial's sums, if its calls have no tokens and the sums are known."""
    if not sums.get("n_input_tokens") and not sums.get("n_output_tokens"):
        return calls  # an agent that does not know its tokens writes 0
    counts = Usage(
        **{column: count(sums.get(name)) for name, column in _SUMS.items()},
        billed_cost_usd=sums.get("cost_usd"),
        tokens_source="reported",
    )
    return (
        Call(
            provider=configuration.provider,
            model=configuration.model,
            n_requests=len(calls) or None,
            **counts.known(),
        ),
    )


def _configuration(
    trial: Line, settings: Line, trajectory: atif.Trajectory | None
) -> Configuration:
    agent = member(trial, "agent_info")
    asked = member(settings, "agent")
    info = member(agent, "model_info")
    named = text(asked.get("model_name"))
    provider, model = atif.split_model(named)
    kwargs = {
        name: value
        for name, value in member(asked, "kwargs").items()
        if isinstance(value, (str, int, float, bool)) and not _SECRET.search(name)
    }
    effort = kwargs.pop("reasoning_effort", None)
    temperature = number(kwargs.pop("temperature", None))
    version = text(agent.get("version"))
    if version not in (None, "unknown"):
        kwargs["version"] = version
    model = text(info.get("name")) or model or (trajectory.model() if trajectory else None)
    multiplier = number(settings.get("timeout_multiplier"))
    return Configuration(
        model=model or "unknown",
        provider=text(info.get("provider")) or provider,
        strategy=text(agent.get("name")) or text(asked.get("name")),
        strategy_params=json_text(kwargs) if kwargs else None,
        effort=str(effort) if effort is not None else None,
        temperature=temperature,
        settings=json_text({"timeout_multiplier": multiplier})
        if multiplier not in (None, 1)
        else None,
    )


def _outcome(trial: Line) -> dict[str, Any]:
    """Return scores, limit and error of a trial."""
    scores = tuple(_scores(trial))
    whole = next((s for s in scores if s.scorer == "reward"), None)
    if whole is None and len(scores) == 1:
        whole = scores[0]
    outcome: dict[str, Any] = {"scores": scores}
    if whole is not None:
        outcome |= {"score": whole.score, "passed": whole.passed}
    for info in _exceptions(trial):
        kind = text(info.get("exception_type")) or "unknown"
        if kind in _LIMITS:
            outcome["limit_type"] = _LIMITS[kind]
        if not scores or not _counts(trial, info, kind):
            outcome["error_type"] = kind
            outcome["error_message"] = text(info.get("exception_message")) or kind
    return outcome


def _counts(trial: Line, info: Line, kind: str) -> bool:
    """Return whether the reward of a trial with an error counts, as Harbor says it if it does."""
    for stated in (
        trial.get("reward_valid"),
        member(info, "policy").get("has_valid_reward"),
    ):
        if isinstance(stated, bool):
            return stated
    return kind in _OWN_ENDS


def _scores(trial: Line) -> Iterator[Score]:
    rewards = member(member(trial, "verifier_result"), "rewards")
    steps = trial.get("step_results")
    named = [(name, reward) for name, reward in rewards.items()]
    for step in steps if isinstance(steps, list) else ():
        of_step = member(member(step, "verifier_result"), "rewards")
        prefix = step.get("step_name") if isinstance(step, dict) else None
        named += [(f"{prefix}/{name}", reward) for name, reward in of_step.items()]
    for name, reward in named:
        score = rewarded(name, reward)
        if score is not None:
            yield score


def _metadata(trial: Line, sums: dict[str, float], calls: tuple[Call, ...]) -> Line:
    about: Line = {
        "trial_name": trial.get("trial_name"),
        "exceptions": [e.get("exception_type") for e in _exceptions(trial)] or None,
    }
    for phase in ("environment_setup", "agent_setup", "verifier"):
        times = member(trial, phase)
        about[f"{phase}_s"] = seconds(
            moment(times.get("started_at")), moment(times.get("finished_at"))
        )
    if not any(call.billed_cost_usd is not None for call in calls if call.role != "user"):
        about["stated_cost_usd"] = sums.get("cost_usd")
    return {name: value for name, value in about.items() if value is not None}
