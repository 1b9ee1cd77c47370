"""Made-up folders of sessions: many projects, sub-agents, forks, resumes, side chains, compactions.

The generator keeps a ledger of its own: the tokens of every answer once, whatever repeats it. Tests
and benchmarks compare with it.
"""

import dataclasses
import datetime as dt
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

Line = dict[str, Any]
START = dt.datetime(2026, 9, 1, 8, tzinfo=dt.UTC)
MODELS = ("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001")
CODEX_MODELS = ("gpt-5", "gpt-5-codex")
_WORDS = [
    "the",
    "of",
    "return",
    "import",
    "value",
    '"path"',
    "self",
    "None",
    "error",
    "test\n\tdef",
    "data",
    "list",
    "for",
    "in",
    "open",
    "read",
    "line",
]
_TOOLS = ("Bash", "Read", "Edit", "Grep")


@dataclasses.dataclass
class Ledger:
    """What the sessions cost, by (day, model): tokens by kind, and calls.

    Attributes:
        tokens: (day, model, kind) → tokens; kinds are fresh, read, write_5m, write_1h, output, and
            first_output: the output that the first line of each answer states.
        told: the same of Codex, of every line of every file, those that repeat others among them.
    """

    tokens: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)
    told: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)
    n_calls: int = 0
    n_bytes: int = 0


class ClaudeFolder:
    """Writer of a projects folder of Claude Code."""

    def __init__(self, folder: Path, *, seed: int = 1, result_words: int = 600) -> None:
        """Start a folder.

        Args:
            folder: where `projects/` goes.
            seed: of everything random.
            result_words: mean length of a tool's result.
        """
        self.folder = folder
        self.random = random.Random(seed)
        self.result_words = result_words
        self.ledger = Ledger()
        self.now = START
        self._n = 0

    def write(self, n_sessions: int, n_turns: int = 6) -> Ledger:
        """Write sessions; of each four, one is resumed, one forked, and one has a sub-agent."""
        for number in range(n_sessions):
            project = self.folder / "projects" / f"-work-p{number % 5}"
            session = self._id("s")
            lines = self._session(session, f"/work/p{number % 5}", n_turns)
            self._save(project / f"{session}.jsonl", lines)
            if number % 4 == 1:
                self._resume(project, lines, f"/work/p{number % 5}")
            elif number % 4 == 2:
                self._fork(project, lines, f"/work/p{number % 5}")
            elif number % 4 == 3:
                self._sub_agent(project, session, f"/work/p{number % 5}")
            self.now += dt.timedelta(hours=3)
        return self.ledger

    def _id(self, prefix: str) -> str:
        self._n += 1
        return f"{prefix}-{self._n:08d}-0000-4000"

    def _save(self, path: Path, lines: list[Line]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        path.write_bytes(data)
        self.ledger.n_bytes += len(data)

    def _text(self, n_words: int) -> str:
        return " ".join(self.random.choices(_WORDS, k=max(1, n_words)))

    def _line(self, kind: str, session: str, parent: str | None, cwd: str, **more: Any) -> Line:
        self.now += dt.timedelta(seconds=self.random.randint(1, 20))
        return {
            "parentUuid": parent,
            "isSidechain": False,
            "userType": "external",
            "cwd": cwd,
            "sessionId": session,
            "version": "2.1.30",
            "gitBranch": "main",
            "type": kind,
            "uuid": self._id("u"),
            "timestamp": self.now.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        } | more

    def _session(self, session: str, cwd: str, n_turns: int, **more: Any) -> list[Line]:
        lines: list[Line] = [{"type": "summary", "summary": "Work", "leafUuid": self._id("l")}]
        model = self.random.choice(MODELS)
        context = 12_000
        parent = None
        for turn in range(n_turns):
            prompt = {"role": "user", "content": self._text(30)}
            lines.append(self._line("user", session, parent, cwd, message=prompt, **more))
            for _ in range(self.random.randint(2, 6)):
                written = self._answer(lines, session, cwd, model, context, **more)
                context += written
            parent = lines[-1]["uuid"]
            if turn % 4 == 3:
                metadata = {"trigger": "auto", "preTokens": context}
                lines.append(
                    self._line(
                        "system",
                        session,
                        parent,
                        cwd,
                        subtype="compact_boundary",
                        compactMetadata=metadata,
                        **more,
                    )
                )
                context = 15_000
                model = self.random.choice(MODELS)
        return lines

    def _answer(
        self, lines: list[Line], session: str, cwd: str, model: str, context: int, **more: Any
    ) -> int:
        """Add the lines of one answer and of its tool's result; returns what they add."""
        message_id = self._id("msg")
        tool_id = self._id("toolu")
        written = self.random.randint(300, 3000)
        short = written if self.random.random() < 0.3 else 0
        output = self.random.randint(50, 900)
        counts = {"fresh": self.random.randint(1, 9), "read": context, "output": output}
        counts |= {"write_5m": short, "write_1h": written - short, "first_output": 1}
        words = {"type": "thinking", "thinking": self._text(40), "signature": "E" * 200}
        asks = {"name": self.random.choice(_TOOLS), "input": {"path": f"/a/{tool_id}"}}
        blocks = [
            words,
            {"type": "text", "text": self._text(25)},
            {"type": "tool_use", "id": tool_id} | asks,
        ]
        first_day = ""
        for number, block in enumerate(blocks):
            is_last = number == len(blocks) - 1
            usage = {
                "input_tokens": counts["fresh"],
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": context,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": short,
                    "ephemeral_1h_input_tokens": written - short,
                },
                "output_tokens": output if is_last else 1 + number,
                "service_tier": "standard",
            }
            message = {
                "model": model,
                "id": message_id,
                "type": "message",
                "role": "assistant",
                "content": [block],
                "stop_reason": "tool_use" if is_last else None,
                "usage": usage,
            }
            line = self._line(
                "assistant",
                session,
                lines[-1].get("uuid"),
                cwd,
                message=message,
                requestId=f"req-{message_id}",
                **more,
            )
            first_day = first_day or line["timestamp"][:10]
            lines.append(line)
        result = self._text(self.random.randint(1, 2 * self.result_words))
        block = {"tool_use_id": tool_id, "type": "tool_result", "content": result}
        block |= {"is_error": self.random.random() < 0.05}
        message = {"role": "user", "content": [block]}
        lines.append(
            self._line(
                "user",
                session,
                lines[-1]["uuid"],
                cwd,
                message=message,
                toolUseResult={"stdout": result, "stderr": ""},
                **more,
            )
        )
        for kind, n in counts.items():
            self.ledger.tokens[first_day, model, kind] += n
        self.ledger.n_calls += 1
        return written

    def _resume(self, project: Path, lines: list[Line], cwd: str) -> None:
        """Write a session that begins with all lines of another, and goes on."""
        session = self._id("s")
        copied = [line | ({"sessionId": session} if "uuid" in line else {}) for line in lines]
        later = self._session(session, cwd, 1)[1:]
        self._save(project / f"{session}.jsonl", copied + later)

    def _fork(self, project: Path, lines: list[Line], cwd: str) -> None:
        """Write a session that begins with the first half of another."""
        self._resume(project, lines[: len(lines) // 2], cwd)

    def _sub_agent(self, project: Path, session: str, cwd: str) -> None:
        agent = self._id("a")
        lines = self._session(session, cwd, 2, agentId=agent, isSidechain=True)[1:]
        self._save(project / session / "subagents" / f"agent-{agent}.jsonl", lines)


class CodexFolder:
    """Writer of a sessions folder of Codex."""

    def __init__(self, folder: Path, *, seed: int = 1, result_words: int = 600) -> None:
        """Start a folder, as `ClaudeFolder`."""
        self.claude = ClaudeFolder(folder, seed=seed, result_words=result_words)
        self.ledger = self.claude.ledger

    def write(self, n_threads: int, n_turns: int = 6) -> Ledger:
        """Write threads; one of three is forked."""
        for number in range(n_threads):
            thread = self.claude._id("t")
            lines, _ = self._turns(thread, [self._meta(thread)], Counter(), n_turns)
            self._save(thread, lines)
            if number % 3 == 2:
                fork = self.claude._id("t")
                meta = self._meta(fork, forked_from_id=thread)
                total = self._last_total(lines)
                forked, _ = self._turns(fork, [meta, *lines], total, 1)
                self._save(fork, forked)
            self.claude.now += dt.timedelta(hours=3)
        return self.ledger

    def _save(self, thread: str, lines: list[Line]) -> None:
        model = ""
        for line in lines:
            model = line["payload"].get("model", model)
            if "info" in line["payload"]:
                usage = line["payload"]["info"]["last_token_usage"]
                day = line["timestamp"][:10]
                cached = usage["cached_input_tokens"]
                self.ledger.told[day, model, "fresh"] += usage["input_tokens"] - cached
                self.ledger.told[day, model, "read"] += cached
                self.ledger.told[day, model, "output"] += usage["output_tokens"]
        day = lines[0]["timestamp"][:10].replace("-", "/")
        stamp = lines[0]["timestamp"][:19].replace(":", "-")
        self.claude._save(
            self.claude.folder / "sessions" / day / f"rollout-{stamp}-{thread}.jsonl", lines
        )

    def _line(self, kind: str, **payload: Any) -> Line:
        self.claude.now += dt.timedelta(seconds=self.claude.random.randint(1, 20))
        at = self.claude.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return {"timestamp": at, "type": kind, "payload": payload}

    def _meta(self, thread: str, **more: Any) -> Line:
        at = self.claude.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return self._line("session_meta", id=thread, timestamp=at, cwd="/work/p", **more)

    def _last_total(self, lines: list[Line]) -> Counter[str]:
        counts = [line["payload"] for line in lines if line["payload"].get("info")]
        return Counter(counts[-1]["info"]["total_token_usage"])

    def _turns(
        self, thread: str, lines: list[Line], total: Counter[str], n_turns: int
    ) -> tuple[list[Line], Counter[str]]:
        chance = self.claude.random
        context = 9000
        for _ in range(n_turns):
            model = chance.choice(CODEX_MODELS)
            turn = self.claude._id("k")
            lines.append(self._line("turn_context", turn_id=turn, model=model, effort="high"))
            content = [{"type": "input_text", "text": self.claude._text(30)}]
            lines.append(self._line("response_item", type="message", role="user", content=content))
            for _ in range(chance.randint(2, 6)):
                context += self._answer(lines, model, context, total)
        return lines, total

    def _answer(self, lines: list[Line], model: str, context: int, total: Counter[str]) -> int:
        chance = self.claude.random
        call = self.claude._id("c")
        output, fresh = chance.randint(50, 900), chance.randint(300, 3000)
        usage = {
            "input_tokens": context + fresh,
            "cached_input_tokens": context,
            "output_tokens": output,
            "reasoning_output_tokens": output // 3,
            "total_tokens": context + fresh + output,
        }
        total.update(usage)
        lines.append(
            self._line(
                "response_item",
                type="function_call",
                name="shell",
                call_id=call,
                arguments=json.dumps({"command": ["ls", call]}),
            )
        )
        info = {"last_token_usage": usage, "total_token_usage": dict(total)}
        counted = self._line("event_msg", type="token_count", info=info, rate_limits={})
        lines.append(counted)
        if chance.random() < 0.4:  # the screen was redrawn
            lines.append(self._line("event_msg", type="token_count", info=info, rate_limits={}))
        result = self.claude._text(chance.randint(1, 2 * self.claude.result_words))
        lines.append(
            self._line("response_item", type="function_call_output", call_id=call, output=result)
        )
        day = counted["timestamp"][:10]
        kinds = {"fresh": fresh, "read": context, "output": output}
        for kind, n in kinds.items():
            self.ledger.tokens[day, model, kind] += n
        self.ledger.n_calls += 1
        return fresh
