"""Execution of the commands of live control; a ValueError refuses one, with a reason to show."""

import difflib
from collections.abc import Iterator, Mapping
from functools import partial

from workbench.runner.control.protocol import (
    BUDGETS,
    AnyCommand,
    Cancel,
    Pause,
    Requeue,
    Resume,
    Retune,
    Stop,
)
from workbench.runner.execution.controller import Controller, FollowUp
from workbench.runner.execution.launch_state import LaunchState
from workbench.runner.planning.plan import Planned
from workbench.runner.providers.current_attempt import AttemptKey

_MAX_CANDIDATES = 2000  # names among which the nearest one is searched


def execute(
    controller: Controller, launch: LaunchState, command: AnyCommand
) -> tuple[str, FollowUp | None]:
    """Execute a command.

    Returns:
        The answer, and a step to take once the answer was sent (None where there is none).

    Raises:
        ValueError: the command is refused; the message is for the user.
    """
    match command:
        case Pause():
            answer = "no new attempts; those in flight go on"
            return (answer if controller.pause() else "it was paused already"), None
        case Resume():
            return ("new attempts begin" if controller.resume() else "it was not paused"), None
        case Stop(now):
            answer = "ends at once" if now else f"ends after {len(controller.flights)} in flight"
            return answer, partial(_stop, launch, now=now)
        case Retune():
            return _retune(launch, command), None
        case Cancel():
            return _cancel(controller, launch, command), None
        case Requeue():
            return _requeue(controller, launch, command), None


def _stop(launch: LaunchState, *, now: bool) -> None:
    while launch.stop.n_requests < (2 if now else 1):
        launch.stop()


def _retune(launch: LaunchState, command: Retune) -> str:
    """Change limits: all of them, or none where one is refused."""
    budgets: dict[str, float | None] = {
        n: getattr(command, n) for n in BUDGETS if getattr(command, n) is not None
    }
    if both := budgets.keys() & set(command.lift):
        raise ValueError(f"{min(both)} cannot be set and lifted at once")
    budgets |= dict.fromkeys(command.lift)
    settings = {
        "concurrency": command.concurrency,
        "retries": command.retries,
        "timeout_s": command.timeout_s,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if not budgets and not settings:
        raise ValueError("nothing to change was given")
    if command.concurrency is not None and launch.connected.batches:
        raise ValueError(
            "requests are sent in batches, so every attempt waits for one: the concurrency of a"
            " batch plan cannot be changed"
        )
    _check(launch, budgets)
    for name, limit in budgets.items():
        setattr(launch.budget, name.replace("budget_", "limit_"), limit)
    launch.connected.retune(command.concurrency, command.retries, command.timeout_s)
    if command.concurrency is not None:
        waiting = launch.progress.left - launch.progress.in_flight
        launch.workers.resize(command.concurrency, max(waiting, 0))
    launch.wake()
    changes = [f"no {n}" if limit is None else f"{n} = {limit:g}" for n, limit in budgets.items()]
    return ", ".join([*changes, *(f"{name} = {value:g}" for name, value in settings.items())])


def _check(launch: LaunchState, budgets: Mapping[str, float | None]) -> None:
    """Refuse a budget that cannot be enforced."""
    budget = launch.budget
    if budgets.get("budget_usd") is not None and (not budget.has_prices or budget.n_unpriced):
        raise ValueError("a budget in dollars cannot be kept: calls of this run have no price")
    if budgets.get("budget_j") is not None and budget.spent_j is None:
        raise ValueError("a budget in joules cannot be kept: no meter reads this run's energy")


def _cancel(controller: Controller, launch: LaunchState, command: Cancel) -> str:
    ended = waiting = done = 0
    for key, place in _matching(launch, command):
        if key in controller.flights:
            flight = controller.flights[key]
            ended += not flight.cancelled
            flight.cancelled = True
            flight.task.cancel()
        elif _waits(controller, launch, key, place):
            waiting += key not in controller.cancelled
            controller.cancelled.add(key)
        else:
            done += 1
    if not ended and not waiting:
        raise ValueError(f"nothing of {command.item!r} is in flight or waits; {done} made already")
    rest = f"; {done} made already" if done else ""
    return f"{ended} in flight ended, {waiting} will not begin{rest}"


def _requeue(controller: Controller, launch: LaunchState, command: Requeue) -> str:
    if launch.workers.is_over:
        raise ValueError("the run is ending; run the same collect command again")
    n = 0
    for key, _ in _matching(launch, command):
        if key in controller.cancelled:
            controller.cancelled.discard(key)
        elif (planned := controller.skipped.pop(key, None)) is not None:
            _queue_first(controller, launch, planned)
        elif (planned := controller.failed.pop(key, None)) is not None:
            controller.uncount_failure(planned)
            _queue_first(controller, launch, planned)
        else:
            continue
        n += 1
    if not n:
        raise ValueError(f"no attempt at {command.item!r} failed or was cancelled in this run")
    return f"{n} to be made again"


def _queue_first(controller: Controller, launch: LaunchState, planned: Planned) -> None:
    """Queue an attempt before those that wait, even of a configuration that was stopped."""
    launch.stopped.discard(planned.configuration.configuration_id)
    # the user asks again because the cause was mended
    launch.connected.callers[planned.target.place_id].fatal.clear()
    controller.requeued.append(planned)
    launch.workers.resize(launch.workers.wanted, 1)


def _waits(controller: Controller, launch: LaunchState, key: AttemptKey, place: int) -> bool:
    """Whether an attempt has not begun yet."""
    if any(planned.key == key for planned in controller.requeued):
        return True
    waiting = {planned.key for planned in launch.waiting_for_start.values()}
    return key not in launch.known and (place >= launch.position or key in waiting)


def _matching(launch: LaunchState, pick: Cancel | Requeue) -> Iterator[tuple[AttemptKey, int]]:
    """Yield the attempt keys that a command selects, with their places in the plan's order."""
    work = launch.work
    if pick.trial is not None and pick.trial >= work.plan.trials:
        raise ValueError(f"there is no trial {pick.trial}; the plan has {work.plan.trials}, from 0")
    configurations = _configurations(launch, pick.configuration)
    item_place, item_id = _item(launch, pick.item)
    n_items, n_configurations = len(work.items), len(work.configurations)
    trials = range(work.plan.trials) if pick.trial is None else (pick.trial,)
    for trial in trials:
        for place in configurations:
            configuration_id = work.configuration_ids[place]
            yield (
                (configuration_id, item_id, trial),
                (trial * n_items + item_place) * n_configurations + place,
            )


def _configurations(launch: LaunchState, text: str | None) -> list[int]:
    """Return the places of the configurations with a name or id; all of them for None."""
    records = [c for c, _, _ in launch.work.configurations]
    places = [
        place
        for place, c in enumerate(records)
        if text is None or text in {c.configuration, c.configuration_id}
    ]
    if not places:
        names = [c.configuration for c in records]
        raise ValueError(f"no configuration {text!r}{_suggestion(text or '', names)}")
    return places


def _item(launch: LaunchState, text: str) -> tuple[int, str]:
    """Return the place and id of the item with a name, "task/name" or id."""
    tasks = {t.task_id: t.task for t in launch.work.tasks}
    items = launch.work.items
    matches = [
        (place, i.item_id)
        for place, i in enumerate(items)
        if text in {i.item, i.item_id} or text == f"{tasks[i.task_id]}/{i.item}"
    ]
    if not matches:
        names = [i.item for i in items[:_MAX_CANDIDATES]]
        raise ValueError(f"no item {text!r}{_suggestion(text, names)}")
    if len(matches) > 1:
        paths = ", ".join(f"{tasks[items[p].task_id]}/{items[p].item}" for p, _ in matches[:5])
        raise ValueError(f"several items are called {text!r}: {paths}; give task/item")
    return matches[0]


def _suggestion(text: str, names: list[str]) -> str:
    close = difflib.get_close_matches(text[:100], names, n=1)
    return f"; did you mean {close[0]!r}?" if close else " is in the plan"
