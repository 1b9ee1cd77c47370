"""Results of tau-bench: a list of conversations of an agent with a simulated user.

The file holds no tokens and no times, and of costs only what the simulated user cost. The model is
not in it either; it is read from the file's name.
"""

import hashlib
import re
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
from workbench.sources.json_lines import content_text, member, text
from workbench.sources.report import FileReport
from workbench.sources.trajectories.conversation import Conversation, amount, rewarded
from workbench.usage import count

NAME = "tau-bench"
_FIRST = re.compile(rb'\s*\[\s*\{\s*"task_id"\s*:')
_MARKS = (b'"reward"', b'"traj"', b'"info"')
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()
_DOMAIN = re.compile(r"#\s*(airline|retail)\b", re.IGNORECASE)
_FILE_NAME = re.compile(
    r"^(?P<strategy>tool-calling|act|react|few-shot)-(?P<model>.+?)-(?P<temperature>\d+\.\d+)"
    r"_range_.*?_user-(?P<user>.+?)-(?P<user_strategy>llm|react|verify|reflection)_"
)
_MAX_ERROR = 2_000


class TauBench:
    """Source of a file of results, as run.py writes it."""

    name = NAME
    title = "tau-bench results (.json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is a list whose first object has a task, reward and messages."""
        start = heads.start(path)
        return bool(_FIRST.match(start)) and all(mark in start for mark in _MARKS)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run and the configuration, then each conversation's task, item and trace.

        Raises:
            ImportFormatError: the file is truncated or no list.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        raw_results = json_bytes.decode(_LIST, json_bytes.document(path), str(path), report)
        configuration = _configuration(path, report)
        first = bytes(raw_results[0]) if raw_results else b""  # a file that grows begins alike
        run_id = content_id(NAME, hashlib.sha256(first).hexdigest())
        yield Run(run_id=run_id, kind="import", source=NAME, origin=path.name)
        yield configuration
        for n, raw in enumerate(raw_results, 1):
            where = f"{path}, result {n}"
            result = json_bytes.decode(_ANY, memoryview(raw), where, report)
            if not isinstance(result, dict) or "task_id" not in result:
                report.bad_row(f"{where} is no conversation with a task_id")
                continue
            yield from _result(result, (run_id, configuration), report)


SOURCE = TauBench()


def _configuration(path: Path, report: FileReport) -> Configuration:
    report.notes["the model is taken from the file's name"] += 1
    match = _FILE_NAME.match(path.stem)
    if match is None:
        return Configuration(model=re.sub(r"-(airline|retail)$", "", path.stem))
    return Configuration(
        model=match["model"],
        strategy=match["strategy"],
        temperature=float(match["temperature"]),
        settings=json_text({"user": {"model": match["user"], "strategy": match["user_strategy"]}}),
    )


def _result(
    result: Line, ids: tuple[str, Configuration], report: FileReport
) -> Iterator[AnyRecord]:
    run_id, configuration = ids
    report.rows_in += 1
    messages = result.get("traj")
    messages = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    info = member(result, "info")
    about = member(info, "task")
    domain = next(
        (match[1].lower() for m in messages[:1] if (match := _DOMAIN.search(_text(m)))), None
    )
    task = Task(task=f"{NAME} {domain}" if domain else NAME)
    target = {k: about[k] for k in ("actions", "outputs") if about.get(k)}
    item = Item(
        task_id=task.task_id,
        item=str(result["task_id"]),
        input=text(about.get("instruction")),
        target=json_text(target) if target else None,
    )
    yield from (task, item)
    conversation = Conversation()
    calls: list[Call] = []
    n_user = 0
    for message in messages:
        own = message.get("role")
        call = None
        if own == "assistant":
            call = len(calls)
            calls.append(Call(ordinal=call, model=configuration.model))
        n_user += own == "user"
        if own == "tool":
            content = _text(message)
            failed = content if content.startswith("Error:") else None  # as its tools say it
            conversation.answer(text(message.get("tool_call_id")), content, error=failed)
        else:
            conversation.add_chat_message(message, call=call)
    n_turns = len(calls)
    cost = amount(info.get("user_cost"))
    if n_user and cost:
        calls.append(Call(ordinal=n_turns, role="user", n_requests=n_user, billed_cost_usd=cost))
    score = rewarded("reward", result.get("reward"))
    error = text(info.get("error"))
    report.rows_out += 1
    if conversation.n_unmatched:
        report.notes["results of tools without a request"] += conversation.n_unmatched
    yield Trace(
        run_id=run_id,
        configuration_id=configuration.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=count(result.get("trial")) or 0,
        trace_id=attempt_id(NAME, content_id(result)),
        answer=conversation.last_text(),
        score=score.score if score else None,
        passed=score.passed if score else None,
        error_type="error" if error else None,
        error_message=error[:_MAX_ERROR] if error else None,
        n_turns=n_turns,
        metadata=_metadata(info),
        calls=tuple(calls),
        tool_calls=conversation.tool_calls,
        messages=conversation.messages,
        scores=(score,) if score else (),
    )


def _text(message: Line) -> str:
    return content_text(message.get("content"))


def _metadata(info: Line) -> str | None:
    checks: Any = member(member(info, "reward_info"), "info")
    about = {"checks": checks} if checks else {}
    user = text(member(info, "task").get("user_id"))
    about |= {"user_id": user} if user else {}
    return json_text(about) if about else None
