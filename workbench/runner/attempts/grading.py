"""Grades an answer with the scorers of its item: at once, in a sandbox, in a thread, or by asking a judge.

An answer that was paid for is never lost to its grading: whatever fails leaves a score of null that
says why.
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

SLOTS = 4  # processes and threads of scorers at once
LIMIT_S = 60.0  # for a scorer of the user's, where the item does not say `scorer_timeout_s`
MOST_LEFT_BEHIND = 8  # threads that ran out of time and go on; no more are started then
_T = TypeVar("_T")
_left_behind: list[threading.Thread] = []
_slots: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]" = (
    weakref.WeakKeyDictionary()
)


async def grade(
    session: Session | None, task: TaskSet, item: TaskItem, text: str | None
) -> tuple[Score, ...]:
    """Score a text with all scorers of its item; the first score is the trace's. Null text gives nulls.

    Without a session, as for answers that are already stored, nobody can be asked: a judge's score
    is null.
    """
    return tuple([await _one(session, scorer, item, text) for scorer in task.scorers_of(item)])


async def _one(session: Session | None, scorer: Scorer, item: TaskItem, text: str | None) -> Score:
    if text is None:
        return Score(scorer=scorer.name)
    try:
        return await _run(session, scorer, item, text)
    except StoreError:  # a judge's reply could not be kept: the run ends
        raise
    except (TaskError, ConfigError, TimeoutError) as error:  # these say it all
        return Score(scorer=scorer.name, explanation=f"the scorer failed: {error}"[:1_000])
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer was paid for
        said = f"the scorer failed: {type(error).__name__}: {error}"
        return Score(scorer=scorer.name, explanation=said[:1_000])


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
    raise TypeError(f"nobody knows how to run the scorer {scorer.name!r}")


async def _tested(session: Session | None, scorer: UnitTests, item: TaskItem, text: str) -> Score:
    """Run an answer's tests; what they took is a fact of the trace, as `code-efficiency` reads it."""
    took_s: list[float] = []

    def timed(code: str, **settings: object) -> "SandboxResult":
        ran = _run_python(code, **settings)
        took_s.append(ran.elapsed_s)
        return ran

    score = await _in_thread(lambda: scorer.score(item, text, timed), None)
    if session is not None and took_s:
        session.facts["solution_s"] = sum(took_s)
    return score


def _inline(scorer: Scorer) -> TypeGuard[InlineScorer]:
    """Say whether a scorer needs nothing but the text; asking the Protocol itself would cost more than scoring."""
    return callable(scorer)


def _run_python(code: str, **settings: object) -> "SandboxResult":
    from workbench import sandbox

    return sandbox.run_python(code, **settings)  # type: ignore[arg-type]  # the scorer's own names


async def _in_thread(work: Callable[[], _T], limit_s: float | None) -> _T:
    """Run what blocks in a thread of its own, a few at a time.

    A thread cannot be stopped: one that runs out of time is left behind, and does not keep the
    program from ending.

    Raises:
        TimeoutError: it took longer than `limit_s`, or too many were left behind already.
    """
    loop = asyncio.get_running_loop()
    if sum(t.is_alive() for t in _left_behind) >= MOST_LEFT_BEHIND:
        raise TimeoutError(
            f"not run, as {MOST_LEFT_BEHIND} of its calls have run out of time and go on still"
        )
    done: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            fault = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, done, result, fault)

    async with _slots.setdefault(loop, asyncio.Semaphore(SLOTS)):
        thread = threading.Thread(target=run, daemon=True, name="workbench-scorer")
        thread.start()
        try:
            return await asyncio.wait_for(done, limit_s)
        except TimeoutError:
            if not done.cancelled():
                raise  # the work's own
            _left_behind.append(thread)
            raise TimeoutError(f"it took longer than {limit_s:g} s (scorer_timeout_s)") from None


def _tell(done: "asyncio.Future[_T]", result: Any, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


async def _judged(session: Session | None, judge: Judge, item: TaskItem, text: str) -> Score:
    """Ask every judge for its votes, all at once, and put the verdicts together."""
    if session is None:
        return Score(scorer=judge.name, explanation="no verdict: there is no model to ask")
    prompt = judge.prompt(item, text)
    asked = [name for name in judges(item) for _ in range(votes(item))]
    verdicts = await asyncio.gather(
        *[_verdict(session, judge, item, name, prompt) for name in asked]
    )
    return judge.combine(item, verdicts)


async def _verdict(
    session: Session, judge: Judge, item: TaskItem, name: str, prompt: str
) -> Verdict:
    heat = judge_temperature(item)
    sampling: dict[str, Any] = {} if heat is None else {"temperature": heat}
    try:
        reply = await session.generate(
            [{"role": "user", "content": prompt}], role="judge", model=name, **sampling
        )
    except (ProviderError, LimitReached) as error:
        return Verdict(name, None, f"could not be asked: {error}"[:300])
    return judge.read(item, name, reply.text)


def calls_of(task: TaskSet, item: TaskItem) -> dict[str, int]:
    """Count, by helper model, the calls that grading one answer takes; {} where no judge is asked."""
    if not any(isinstance(scorer, Judge) for scorer in task.scorers_of(item)):
        return {}
    return dict.fromkeys(judges(item), votes(item))


def at_once(task: TaskSet, item: TaskItem) -> bool:
    """Say whether an answer is graded in the moment it arrives: no judge, no sandbox, no code of the user's."""
    return all(_inline(scorer) for scorer in task.scorers_of(item))


def most_calls(task: TaskSet) -> dict[str, int]:
    """Count, by helper model, the most calls that grading one answer of a task takes."""
    found: dict[str, int] = {}
    for item in task.items:
        found |= {name: max(found.get(name, 0), n) for name, n in calls_of(task, item).items()}
    return found


def check(tasks: Iterable[TaskSet], helpers: Collection[str]) -> None:
    """Refuse, before anything is asked and paid, what could not be graded.

    Args:
        tasks: what is to be collected.
        helpers: names of the plan's helper models.

    Raises:
        ConfigError: a judge is not among the plan's helper models, or code is to be run and there
            is no sandbox, or not the packages that it may import.
    """
    for task in tasks:
        missing = sorted(most_calls(task).keys() - set(helpers))
        if missing:
            raise ConfigError(
                f"task {task.name!r} is graded by the helper model {missing[0]!r}, which the plan does not have;"
                f' add a table [helpers.{missing[0]}] with model = "…"'
            )
        if any(isinstance(s, UnitTests) for s in _scorers(task)):
            from workbench import sandbox

            if (why := sandbox.why_not()) is not None:
                raise ConfigError(
                    f"task {task.name!r} runs the code that models write, and there is no sandbox here: {why}"
                )
            for packages in {packages_of(item) for item in task.items}:
                sandbox.check_packages(packages)


def _scorers(task: TaskSet) -> Sequence[Scorer]:
    return list({s.name: s for item in task.items for s in task.scorers_of(item)}.values())
