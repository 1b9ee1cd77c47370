"""What each command of live control does to a collection; ValueError is a refusal, in words for the user."""

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
from workbench.runner.execution.controller import Act, Controller
from workbench.runner.execution.launch_state import LaunchState
from workbench.runner.planning.plan import Planned
from workbench.runner.providers.current_attempt import AttemptKey

_MOST_NAMES = 2000  # among which a near one is looked for


def obey(
    controller: Controller, launch: LaunchState, command: AnyCommand
) -> tuple[str, Act | None]:
    """Carry a command out; returns what to say, and what is left to do once it is said."""
    match command:
        case Pause():
            said = "no new attempts; those in flight go on"
            return (said if controller.pause() else "it was paused already"), None
        case Resume():
            return ("new attempts begin" if controller.resume() else "it was not paused"), None
        case Stop(now):
            said = "ends at once" if now else f"ends after {len(controller.flights)} in flight"
            return said, partial(_stop, launch, now=now)
        case Retune():
            return _retune(launch, command), None
        case Cancel():
            return _cancel(controller, launch, command), None
        case Requeue():
            return _requeue(controller, launch, command), None


def _stop(launch: LaunchState, *, now: bool) -> None:
    while launch.stop.asked < (2 if now else 1):
        launch.stop()


def _retune(launch: LaunchState, command: Retune) -> str:
    """Change limits: all of them or, if one cannot be had, none."""
    budgets: dict[str, float | None] = {
        n: getattr(command, n) for n in BUDGETS if getattr(command, n) is not None
    }
    if both := budgets.keys() & set(command.lift):
        raise ValueError(f"{min(both)} cannot be set and lifted at once")
    budgets |= dict.fromkeys(command.lift)
    tuned = {
        "concurrency": command.concurrency,
        "retries": command.retries,
        "timeout_s": command.timeout_s,
    }
    tuned = {name: value for name, value in tuned.items() if value is not None}
    if not budgets and not tuned:
        raise ValueError("nothing to change was given")
    if command.concurrency is not None and launch.connected.batches:
        raise ValueError("requests go out in batches: as many wait for one as there are attempts")
    _check(launch, budgets)
    for name, limit in budgets.items():
        setattr(launch.budget, name.replace("budget_", "limit_"), limit)
    launch.connected.retune(command.concurrency, command.retries, command.timeout_s)
    if command.concurrency is not None:
        waiting = launch.progress.left - launch.progress.in_flight
        launch.workers.resize(command.concurrency, max(waiting, 0))
    launch.wake()
    said = [f"no {n}" if limit is None else f"{n} = {limit:g}" for n, limit in budgets.items()]
    return ", ".join([*said, *(f"{name} = {value:g}" for name, value in tuned.items())])


def _check(launch: LaunchState, budgets: Mapping[str, float | None]) -> None:
    """Refuse a budget that could not be kept."""
    budget = launch.budget
    if budgets.get("budget_usd") is not None and (not budget.has_prices or budget.n_unpriced):
        raise ValueError("a budget in dollars cannot be kept: calls of this run have no price")
    if budgets.get("budget_j") is not None and budget.spent_j is None:
        raise ValueError("a budget in joules cannot be kept: no meter reads this run's energy")


def _cancel(controller: Controller, launch: LaunchState, command: Cancel) -> str:
    ended = waiting = done = 0
    for key, place in _picked(launch, command):
        if key in controller.flights:
            flight = controller.flights[key]
            ended += not flight.cancelled
            flight.cancelled = True
            flight.task.cancel()
        elif _waits(controller, launch, key, place):
            waiting += key not in controller.passed_over
            controller.passed_over.add(key)
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
    for key, _ in _picked(launch, command):
        if key in controller.passed_over:
            controller.passed_over.discard(key)
        elif (planned := controller.left_out.pop(key, None)) is not None:
            _again(controller, launch, planned)
        elif (planned := controller.failed.pop(key, None)) is not None:
            controller.take_back(planned)
            _again(controller, launch, planned)
        else:
            continue
        n += 1
    if not n:
        raise ValueError(f"no attempt at {command.item!r} failed or was cancelled in this run")
    return f"{n} to be made again"


def _again(controller: Controller, launch: LaunchState, planned: Planned) -> None:
    """Put an attempt before those that wait, even of a configuration that was given up."""
    launch.stopped.discard(planned.configuration.configuration_id)
    launch.connected.callers[
        planned.target.place_id
    ].fatal.clear()  # whoever asks again has mended it
    controller.again.append(planned)
    launch.workers.resize(launch.workers.wanted, 1)


def _waits(controller: Controller, launch: LaunchState, key: AttemptKey, place: int) -> bool:
    """Say whether an attempt was not begun yet."""
    if any(planned.key == key for planned in controller.again):
        return True
    held = {planned.key for planned in launch.held.values()}
    return key not in launch.known and (place >= launch.position or key in held)


def _picked(launch: LaunchState, pick: Cancel | Requeue) -> Iterator[tuple[AttemptKey, int]]:
    """Walk the keys that are meant, each with its place in the order of the plan."""
    work = launch.work
    if pick.trial is not None and pick.trial >= work.plan.trials:
        raise ValueError(f"there is no trial {pick.trial}; the plan has {work.plan.trials}, from 0")
    chosen = _configurations(launch, pick.configuration)
    place_of_item, item_id = _item(launch, pick.item)
    n_items, n_configurations = len(work.items), len(work.configurations)
    trials = range(work.plan.trials) if pick.trial is None else (pick.trial,)
    for trial in trials:
        for place in chosen:
            name = work.configuration_ids[place]
            yield (
                (name, item_id, trial),
                (trial * n_items + place_of_item) * n_configurations + place,
            )


def _configurations(launch: LaunchState, text: str | None) -> list[int]:
    """Find configurations by name or id."""
    records = [c for c, _, _ in launch.work.configurations]
    found = [
        place
        for place, c in enumerate(records)
        if text is None or text in {c.configuration, c.configuration_id}
    ]
    if not found:
        raise ValueError(
            f"no configuration {text!r}{_near(text or '', [c.configuration for c in records])}"
        )
    return found


def _item(launch: LaunchState, text: str) -> tuple[int, str]:
    """Find an item by its name, "task/name" or id."""
    tasks = {t.task_id: t.task for t in launch.work.tasks}
    items = launch.work.items
    found = [
        (place, i.item_id)
        for place, i in enumerate(items)
        if text in {i.item, i.item_id} or text == f"{tasks[i.task_id]}/{i.item}"
    ]
    if not found:
        raise ValueError(f"no item {text!r}{_near(text, [i.item for i in items[:_MOST_NAMES]])}")
    if len(found) > 1:
        names = ", ".join(f"{tasks[items[p].task_id]}/{items[p].item}" for p, _ in found[:5])
        raise ValueError(f"several items are called {text!r}: {names}; say which")
    return found[0]


def _near(text: str, names: list[str]) -> str:
    close = difflib.get_close_matches(text[:100], names, n=1)
    return f"; did you mean {close[0]!r}?" if close else " is in the plan"
