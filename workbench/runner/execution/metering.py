"""The energy of a launch: measured for what runs on this machine, estimated for what runs elsewhere."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from workbench.records import Call, EnergyBalance, EnergyReading
from workbench.runner.attempts.journal import Kept
from workbench.runner.attempts.session import Meter, Session
from workbench.runner.energy.windows import Window
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.planning.plan import Plan
from workbench.runner.planning.target import IN_PROCESS

if TYPE_CHECKING:
    from workbench.runner.energy.watch import Watch


class Metering:
    """Tells what finished calls took, and closes the books at the end.

    Attributes:
        measures: whether there is a meter; its counters lag, so that a trace waits for them a
            moment.
    """

    def __init__(self, watch: "Watch | None" = None, remote: Collection[str] = ()) -> None:
        """Take a watch that has begun, and the names of the providers that run elsewhere."""
        self._watch, self._remote = watch, frozenset(remote)
        self.measures = watch is not None

    @classmethod
    async def begin(
        cls, plan: Plan, connected: ConnectedModels, clock: Callable[[], float]
    ) -> Self:
        """Open the meters of this machine where a model runs on it, and wait through the idle window.

        Without a meter nothing waits; the reason is in `workbench doctor`.
        """
        if plan.energy == "off":
            return cls()
        targets = (*plan.targets, *map(plan.helper, plan.helpers))
        here = [t for t in targets if t.is_on_this_host]
        away = {
            t.provider_name
            for t in targets
            if not t.is_on_this_host and t.endpoint not in IN_PROCESS
        }
        if not here:
            return cls(remote=away)
        from workbench.runner.energy.meters import open_meter

        meter = open_meter(clock=clock)
        if not meter.devices:
            return cls(remote=away)
        from workbench.runner.energy.watch import Watch

        watch = await Watch(meter, clock=clock).start()
        for target in here:
            connected.watch(target, watch)
        return cls(watch, away)

    @property
    def spent_j(self) -> float | None:
        """Joules that the meters counted since the run began; null without one."""
        return self._watch.spent_j if self._watch is not None else None

    @property
    def meter(self) -> Meter | None:
        """What tells the energy of one call; null without a meter."""
        watch = self._watch
        if watch is None:
            return None

        async def told(call: Call, made: Sequence[Window]) -> tuple[EnergyReading, ...]:
            return await watch.settle([(call, made)])

        return told

    async def settle(
        self, session: Session, unused: Sequence[tuple[Call, Kept]] = ()
    ) -> tuple[EnergyReading, ...]:
        """Tell the energy of a finished attempt's calls; none where nothing is known.

        Args:
            session: the attempt.
            unused: the calls that earlier tries of it made in vain, as its trace has them.
        """
        calls = [c for c in session.calls if c.provider is not None]
        earlier = {call.ordinal: kept for call, kept in unused} | session.recalled
        found = list(await session.energy())
        for ordinal, kept in earlier.items():
            found += _told_before(ordinal, kept)
        if not self._remote:
            return tuple(found)
        from workbench.runner.energy.estimate import estimate

        # a provider's name may serve models here and elsewhere: what was metered is not estimated
        # too
        here = {o for o, kept in earlier.items() if kept.is_metered}
        here |= {ordinal for ordinal, made in session.windows.items() if made}
        away = [
            estimate(c)
            for c in (*calls, *(call for call, _ in unused))
            if c.provider in self._remote and c.ordinal not in here
        ]
        return (*found, *(reading for reading in away if reading is not None))

    async def finish(self, run_id: str, *, quiet: bool) -> list[EnergyBalance]:
        """Close the books; `quiet` waits through the idle window after the run."""
        return [] if self._watch is None else await self._watch.finish(run_id, quiet=quiet)

    def stop(self) -> None:
        """End the reading."""
        if self._watch is not None:
            self._watch.stop()


def _told_before(ordinal: int, kept: Kept) -> list[EnergyReading]:
    """Give the readings of a call that an earlier run made; one without a figure where it was not told in time."""
    if kept.energy is not None:
        return [msgspec.structs.replace(reading, call_ordinal=ordinal) for reading in kept.energy]
    if not kept.is_metered:
        return []
    note = "metered by a run that was killed before the counters had told"
    return [EnergyReading(call_ordinal=ordinal, device="unknown", method="unknown", note=note)]
