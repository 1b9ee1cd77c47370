"""Scorer `unit_tests`: runs the code of the last fenced block with the item's tests, in a sandbox.

`tests` of the item's metadata (or of the set) is one of
- a script, as HumanEval has it: it asserts, or defines `check(candidate)`, called with the item's
  `entry_point`;
- a list of such scripts, as MBPP has it: each is a test of its own;
- a list of {"input": text, "output": text}: the code is run as a program, and what it prints is
  compared line by line, without the spaces at the ends of lines.

Further settings: `setup` (a script to be run before), `result` (`all`: 1 where every test passes;
`share`: the share that passes), `timeout_s` and `memory_mb` of one process (all the processes of
one answer may take six times as long; the tests that are left then have failed), `prefix` (text
before code that does not define the `entry_point`: the beginning that a model was to go on with),
`packages` (names of installed packages that code and tests may import, of those that
`workbench.sandbox.packages` lists; without it there is the standard library alone).

A collection keeps the wall seconds of all these processes, their starts included, as `solution_s`
in the trace's metadata, where the analysis `code-efficiency` looks for what a right solution costs.

The code shares a process with its tests, as it does in HumanEval: a sandbox protects the machine,
but code that sets out to cheat its tests can. The mark that a test has passed is not known to the
code beforehand.
"""

import dataclasses
import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from workbench.errors import TaskError
from workbench.records import Score
from workbench.scoring.base import number_option, word_option
from workbench.scoring.items import TaskItem

RESULTS = ("all", "share")
_FENCE = re.compile(
    r"(?:^[ \t]{0,3}|\banswer:[*_ \t]{0,9})(`{3,20}|~{3,20})[^\n`]*$", re.MULTILINE | re.IGNORECASE
)
_LABEL = re.compile(r"\s{0,9}[*_]{0,3}answer:[*_]{0,3}", re.IGNORECASE)
_CHECK = re.compile(r"^def check\(", re.MULTILINE)
_MOST_TESTS = 1_000
_MOST_CODE = 200_000
_WHOLE = 6.0  # times one process' time limit: what all processes of one answer may take
_LATE = "not run, as the tests before it took too long"
_MAX_REASON = 300  # characters of a failure that are kept


class ProcessResult(Protocol):
    """Result of running code, as `workbench.sandbox.SandboxResult` gives it."""

    @property
    def stdout(self) -> str: ...  # noqa: D102  # see SandboxResult
    @property
    def stderr(self) -> str: ...  # noqa: D102  # see SandboxResult
    @property
    def exit_status(self) -> int: ...  # noqa: D102  # see SandboxResult
    @property
    def timed_out(self) -> bool: ...  # noqa: D102  # see SandboxResult
    @property
    def truncated(self) -> bool: ...  # noqa: D102  # see SandboxResult
    @property
    def elapsed_s(self) -> float: ...  # noqa: D102  # see SandboxResult


# (code, stdin=, timeout_s=, memory_mb=, files=, packages=) → result; `workbench.sandbox.run_python`
RunPython = Callable[..., ProcessResult]

# Reads its mark from stdin before the code can; then says after each test, by its number, how it
# went.
_HARNESS = """
import json as _json, sys as _sys
def _main():
    mark = _sys.stdin.readline().strip()
    out = _sys.stdout
    plan = _json.loads(open("tests.json", encoding="utf-8").read())
    def say(number, word):
        out.write("\\n" + mark + " " + str(number) + " " + word.replace("\\n", " ")[:300] + "\\n")
        out.flush()
    space = {"__name__": "answer"}
    try:
        for name in ("setup.py", "answer.py"):
            exec(compile(open(name, encoding="utf-8").read(), name, "exec"), space)
    except BaseException as error:
        say("code", type(error).__name__ + ": " + str(error))
        return
    for number, test in plan["tests"]:
        try:
            own = dict(space) if plan["apart"] else space
            before = own.get("check")
            exec(compile(test, "test.py", "exec"), own)
            if plan["entry_point"] and own.get("check") is not before:
                own["check"](own[plan["entry_point"]])
        except BaseException as error:
            say(number, "failed " + type(error).__name__ + ": " + str(error))
        else:
            say(number, "passed")
_main()
"""


def last_block(text: str) -> str:
    """Return the code of the last fenced block; the whole text if there is none, or it is open."""
    opened: re.Match[str] | None = None
    block: str | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]) and _bare(fence):
            block = text[opened.end() + 1 : fence.start()]
            opened = None
    if opened is not None:  # cut off by the token cap: what there is of it is what was answered
        return text[opened.end() + 1 :]
    if block is not None:
        return block
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def _bare(fence: re.Match[str]) -> bool:
    return fence[0].strip() == fence[1]


@dataclasses.dataclass(frozen=True, slots=True)
class UnitTests:
    """Runs the code of an answer with the tests of its item, in a sandbox; see the module."""

    name: str = "unit_tests"

    @property
    def identity(self) -> None:
        """Ships with the workbench."""
        return

    def check(self, item: TaskItem) -> None:
        """Refuse an item without usable tests."""
        scripts = [t for t in _tests(item) if isinstance(t, str)]
        if not item.option("entry_point") and any(_CHECK.search(t) for t in scripts):
            raise TaskError(
                f"{item.place}: the tests define check(), "
                "and no `entry_point` says what to call it with"
            )
        _settings(item)
        word_option(item, "result", RESULTS)
        for name in ("setup", "prefix", "entry_point"):
            if not isinstance(item.option(name, ""), str):
                raise TaskError(f"{item.place}: {name} is no text")

    def score(self, item: TaskItem, text: str | None, run: RunPython) -> Score:
        """Run the code with its tests; blocks until they have ended. Null text gives nulls."""
        if text is None:
            return Score(scorer=self.name)
        code = self._code(item, text)
        if not code.strip() or len(code) > _MOST_CODE:
            why = (
                "no code in the text"
                if not code.strip()
                else f"more than {_MOST_CODE:,} characters of code"
            )
            return Score(scorer=self.name, score=0.0, passed=False, value="I", explanation=why)
        tests = _tests(item)
        if isinstance(tests[0], str):
            failures = _assert_all(item, code, [str(t) for t in tests], run)
        else:
            failures = _run_all(item, code, [t for t in tests if isinstance(t, Mapping)], run)
        n_passed = len(tests) - len(failures)
        share = n_passed / len(tests)
        whole = word_option(item, "result", RESULTS) == "all"
        reasons = [
            f"test {number + 1}: {why}"[:_MAX_REASON]
            for number, why in sorted(failures.items())[:3]
        ]
        return Score(
            scorer=self.name,
            score=float(share == 1.0) if whole else share,
            passed=share == 1.0,
            value=f"{n_passed}/{len(tests)}",
            answer=code,
            explanation="; ".join([f"{n_passed} of {len(tests)} tests passed", *reasons]),
        )

    @staticmethod
    def _code(item: TaskItem, text: str) -> str:
        code = last_block(text)
        entry, prefix = item.option("entry_point", ""), item.option("prefix", "")
        if prefix and entry and not re.search(rf"\bdef\s{{1,9}}{re.escape(entry)}\b", code):
            return f"{prefix}{code}"
        return code


def _tests(item: TaskItem) -> list[str | Mapping[str, str]]:
    tests = item.option("tests")
    if isinstance(tests, str) and tests.strip():
        return [tests]
    shape = "a script, a list of scripts, or a list of {input, output}"
    if not isinstance(tests, list | tuple) or not 1 <= len(tests) <= _MOST_TESTS:
        raise TaskError(
            f"{item.place}: scorer 'unit_tests' needs `tests` in the metadata: {shape},"
            f" {_MOST_TESTS:,} at most"
        )
    if all(isinstance(t, str) and t.strip() for t in tests):
        return list(tests)
    if all(_is_case(t) for t in tests):
        return [{"input": str(t["input"]), "output": str(t["output"])} for t in tests]
    raise TaskError(f"{item.place}: `tests` is not {shape}")


def _is_case(test: Any) -> bool:
    return isinstance(test, Mapping) and all(
        isinstance(test.get(k), str | int | float) for k in ("input", "output")
    )


def packages_of(item: TaskItem) -> tuple[str, ...]:
    """Return the packages that an item's code may import; TaskError if no list of names."""
    names = item.option("packages", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TaskError(f"{item.place}: `packages` is not a list of names of packages")
    return tuple(names)


def _settings(item: TaskItem) -> dict[str, Any]:
    return {
        "packages": packages_of(item),
        "timeout_s": number_option(item, "timeout_s", 10.0, least=0.1, most=600.0),
        "memory_mb": int(number_option(item, "memory_mb", 512.0, least=64.0, most=8_192.0)),
    }


def _assert_all(item: TaskItem, code: str, tests: list[str], run: RunPython) -> dict[int, str]:
    """Run scripts that assert, in one process as long as it lives; the next ones in a new one.

    Returns:
        why each failed test failed, by its number from 0.
    """
    failures: dict[int, str] = {}
    todo = list(enumerate(tests))
    settings, spent_s = _settings(item), 0.0
    while todo:
        if spent_s > _WHOLE * settings["timeout_s"]:
            return failures | dict.fromkeys((n for n, _ in todo), _LATE)
        mark = secrets.token_hex(16)
        plan = {
            "tests": todo,
            "entry_point": item.option("entry_point", ""),
            "apart": len(tests) > 1,
        }
        files = {
            "answer.py": code,
            "setup.py": item.option("setup", ""),
            "tests.json": json.dumps(plan),
        }
        ran = run(_HARNESS, stdin=f"{mark}\n", files=files, **settings)
        spent_s += ran.elapsed_s
        results = _results(ran.stdout, mark)
        if "code" in results:
            return failures | dict.fromkeys((n for n, _ in todo), results["code"])
        failures |= {int(n): w.removeprefix("failed ") for n, w in results.items() if w != "passed"}
        unfinished = [(n, t) for n, t in todo if str(n) not in results]
        if unfinished:  # the process ended within the first of them
            failures[unfinished[0][0]] = _end(ran)
            unfinished = unfinished[1:]
        todo = unfinished
    return failures


def _results(stdout: str, mark: str) -> dict[str, str]:
    lines = (line.split(" ", 2) for line in stdout.split("\n") if line.startswith(mark + " "))
    results: dict[str, str] = {}
    for parts in lines:
        if len(parts) == 3:
            results.setdefault(parts[1], parts[2])
    return results


def _end(ran: ProcessResult) -> str:
    if ran.timed_out:
        return "ran out of time"
    if ran.truncated:
        return "printed too much"
    last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
    return f"the process ended with status {ran.exit_status}: {last}"


def _run_all(
    item: TaskItem, code: str, tests: list[Mapping[str, str]], run: RunPython
) -> dict[int, str]:
    """Run the code as a program, once per case."""
    whole = "\n".join(filter(None, (item.option("setup", ""), code)))
    failures: dict[int, str] = {}
    settings, spent_s = _settings(item), 0.0
    for number, test in enumerate(tests):
        if spent_s > _WHOLE * settings["timeout_s"]:
            failures[number] = _LATE
            continue
        ran = run(whole, stdin=test["input"], files={}, **settings)
        spent_s += ran.elapsed_s
        if ran.timed_out or ran.exit_status != 0 or ran.truncated:
            failures[number] = _end(ran)
        elif _lines(ran.stdout) != _lines(test["output"]):
            failures[number] = (
                f"printed {ran.stdout.strip()[:80]!r}, not {test['output'].strip()[:80]!r}"
            )
    return failures


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
