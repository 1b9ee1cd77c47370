"""Grading of answers with their items' scorers: inline, in a sandbox, in a thread or by a judge.

A scorer that fails gives a score of null with the reason, so that a paid answer is never lost.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from workbench.datasets import TaskSet
from workbench.errors import ConfigError, LimitReached, ProviderError, StoreError, TaskError
from workbench.records import Score
from workbench.runner.attempts.session import Session
from workbench.scoring import (
    InlineScorer,
    Judge,
    Mathematics,
    Scorer,
    TaskItem,
    UnitTests,
    UserScorer,
    Verdict,
    judge_temperature,
    judges,
    packages_of,
    votes,
)

if TYPE_CHECKING:
    from workbench.sandbox import SandboxResult

SLOTS = 4  # concurrent processes and threads of scorers
LIMIT_S = 60.0  # of a user's scorer, where the item has no `scorer_timeout_s`
MOST_LEFT_BEHIND = 8  # timed-out threads still running, at which no more are started
_T = TypeVar("_T")
_left_behind: list[threading.Thread] = []
_slots: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]" = (
    weakref.WeakKeyDictionary()
)


async def grade(
    session: Session | None, task: TaskSet, item: TaskItem, text: str | None
) -> tuple[Score, ...]:
    """Score a text with all scorers of its item; the first score is the trace's.

    A null text gives null scores. Without a session, as for stored answers, no judge can be asked:
    its score is null.
    """
    return tuple([await _one(session, scorer, item, text) for scorer in task.scorers_of(item)])


async def _one(session: Session | None, scorer: Scorer, item: TaskItem, text: str | None) -> Score:
    if text is None:
        return Score(scorer=scorer.name)
    try:
        return await _run(session, scorer, item, text)
    except StoreError:  # a judge's reply could not be written: the run ends
        raise
    except (TaskError, ConfigError, TimeoutError) as error:  # their messages need no type name
        return Score(scorer=scorer.name, explanation=f"the scorer failed: {error}"[:1_000])
    except Exception as error:  # noqa: BLE001  # any other bug of a scorer: the answer was paid for
        reason = f"the scorer failed: {type(error).__name__}: {error}"
        return Score(scorer=scorer.name, explanation=reason[:1_000])


async def _run(session: Session | None, scorer: Scorer, item: TaskItem, text: str) -> Score:
    if _inline(scorer):
        return scorer(item, text)
    if isinstance(scorer, UnitTests):
        return await _tested(session, scorer, item, text)
    if isinstance(scorer, UserScorer):
        limit_s = float(item.option("scorer_timeout_s", LIMIT_S))
        return await _in_thread(lambda: scorer.score(item, text), limit_s)
    if isinstance(scorer, Mathematics):
        from workbench.runner.attempts.math_comparison import ALGEBRA

        return await _in_thread(lambda: scorer.score(item, text, ALGEBRA.same), None)
    if isinstance(scorer, Judge):
        return await _judged(session, scorer, item, text)
    raise TypeError(f"the scorer {scorer.name!r} is of a kind that cannot be run")


async def _tested(session: Session | None, scorer: UnitTests, item: TaskItem, text: str) -> Score:
    """Run an answer's tests; their duration becomes a fact that `code-efficiency` reads."""
    durations_s: list[float] = []

    def timed(code: str, **settings: object) -> "SandboxResult":
        result = _run_python(code, **settings)
        durations_s.append(result.elapsed_s)
        return result

    score = await _in_thread(lambda: scorer.score(item, text, timed), None)
    if session is not None and durations_s:
        session.facts["solution_s"] = sum(durations_s)
    return score


def _inline(scorer: Scorer) -> TypeGuard[InlineScorer]:
    """Whether a scorer needs nothing but the text."""
    return callable(scorer)  # isinstance with the protocol would cost more than the scoring


def _run_python(code: str, **settings: object) -> "SandboxResult":
    from workbench import sandbox

    return sandbox.run_python(code, **settings)  # type: ignore[arg-type]  # the scorer's own names


async def _in_thread(work: Callable[[], _T], limit_s: float | None) -> _T:
    """Run a blocking function in a thread of its own, at most `SLOTS` at a time.

    A thread cannot be stopped: one that times out runs on as a daemon.

    Raises:
        TimeoutError: it took longer than `limit_s`, or too many timed-out threads still run.
    """
    loop = asyncio.get_running_loop()
    if sum(t.is_alive() for t in _left_behind) >= MOST_LEFT_BEHIND:
        raise TimeoutError(
            f"not run, as {MOST_LEFT_BEHIND} scorer calls have timed out and are still running"
        )
    done: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised again by the awaiting task
            fault = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, done, result, fault)

    async with _slots.setdefault(loop, asyncio.Semaphore(SLOTS)):
        thread = threading.Thread(target=run, daemon=True, name="workbench-scorer")
        thread.start()
        try:
            return await asyncio.wait_for(done, limit_s)
        except TimeoutError:
            if not done.cancelled():
                raise  # a TimeoutError of the work itself
            _left_behind.append(thread)
            raise TimeoutError(f"it took longer than {limit_s:g} s (scorer_timeout_s)") from None


def _resolve(done: "asyncio.Future[_T]", result: Any, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


async def _judged(session: Session | None, judge: Judge, item: TaskItem, text: str) -> Score:
    """Ask every judge for its votes concurrently, and combine the verdicts."""
    if session is None:
        return Score(scorer=judge.name, explanation="no verdict: there is no model to ask")
    prompt = judge.prompt(item, text)
    names = [name for name in judges(item) for _ in range(votes(item))]
    verdicts = await asyncio.gather(
        *[_verdict(session, judge, item, name, prompt) for name in names]
    )
    return judge.combine(item, verdicts)


async def _verdict(
    session: Session, judge: Judge, item: TaskItem, name: str, prompt: str
) -> Verdict:
    temperature = judge_temperature(item)
    sampling: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    try:
        reply = await session.generate(
            [{"role": "user", "content": prompt}], role="judge", model=name, **sampling
        )
    except (ProviderError, LimitReached) as error:
        return Verdict(name, None, f"could not be asked: {error}"[:300])
    return judge.read(item, name, reply.text)


def calls_of(task: TaskSet, item: TaskItem) -> dict[str, int]:
    """Count the calls that grading one answer takes, by helper model; {} without a judge."""
    if not any(isinstance(scorer, Judge) for scorer in task.scorers_of(item)):
        return {}
    return dict.fromkeys(judges(item), votes(item))


def at_once(task: TaskSet, item: TaskItem) -> bool:
    """Whether grading is inline: no judge, no sandbox, no code of the user's."""
    return all(_inline(scorer) for scorer in task.scorers_of(item))


def most_calls(task: TaskSet) -> dict[str, int]:
    """Count the most calls that grading one answer of a task takes, by helper model."""
    most: dict[str, int] = {}
    for item in task.items:
        most |= {name: max(most.get(name, 0), n) for name, n in calls_of(task, item).items()}
    return most


def check(tasks: Iterable[TaskSet], helpers: Collection[str]) -> None:
    """Check that all tasks can be graded, before any request is paid for.

    Args:
        tasks: the tasks of a plan.
        helpers: names of the plan's helper models.

    Raises:
        ConfigError: a judge is not among the plan's helper models, or code must run and the sandbox
            or a package that it may import is missing.
    """
    for task in tasks:
        missing = sorted(most_calls(task).keys() - set(helpers))
        if missing:
            raise ConfigError(
                f"task {task.name!r} is graded by the helper model {missing[0]!r}, which the plan"
                f' does not have; add a table [helpers.{missing[0]}] with model = "…"'
            )
        if any(isinstance(s, UnitTests) for s in _scorers(task)):
            from workbench import sandbox

            if (why := sandbox.why_not()) is not None:
                raise ConfigError(
                    f"task {task.name!r} runs the code that models write, and there is no sandbox"
                    f" here: {why}"
                )
            for packages in {packages_of(item) for item in task.items}:
                sandbox.check_packages(packages)


def _scorers(task: TaskSet) -> Sequence[Scorer]:
    return list({s.name: s for item in task.items for s in task.scorers_of(item)}.values())
