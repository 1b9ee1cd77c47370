"""Metering of a launch's energy: measured for models on this machine, estimated for the others."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from workbench.records import Call, EnergyBalance, EnergyReading
from workbench.runner.attempts.journal import JournalLine
from workbench.runner.attempts.session import Meter, Session
from workbench.runner.energy.windows import Window
from workbench.runner.execution.connected_models import ConnectedModels
from workbench.runner.planning.plan import Plan
from workbench.runner.planning.target import IN_PROCESS

if TYPE_CHECKING:
    from workbench.runner.energy.watch import Watch


class Metering:
    """Energy readings of finished calls, and the run's energy balances at the end.

    Attributes:
        measures: whether there is a meter; its counters lag by one update, so that traces are
            written a moment after their attempts have ended.
    """

    def __init__(self, watch: "Watch | None" = None, remote: Collection[str] = ()) -> None:
        """Take a started watch, and the names of the providers on other machines."""
        self._watch = watch
        self._remote = frozenset(remote)
        self.measures = watch is not None

    @classmethod
    async def begin(
        cls, plan: Plan, connected: ConnectedModels, clock: Callable[[], float]
    ) -> Self:
        """Open this machine's meters if a model runs on it, and measure the idle power first.

        Without a meter this returns at once; `workbench doctor` tells the reason.
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
        """Joules that the meters counted since the run began; null without a meter."""
        return self._watch.spent_j if self._watch is not None else None

    @property
    def meter(self) -> Meter | None:
        """Function that returns the energy readings of one call; null without a meter."""
        watch = self._watch
        if watch is None:
            return None

        async def readings_of(call: Call, windows: Sequence[Window]) -> tuple[EnergyReading, ...]:
            return await watch.settle([(call, windows)])

        return readings_of

    async def settle(
        self, session: Session, unused: Sequence[tuple[Call, JournalLine]] = ()
    ) -> tuple[EnergyReading, ...]:
        """Return the energy readings of a finished attempt's calls; empty where none are known.

        Args:
            session: the attempt.
            unused: the unused calls of earlier tries, as in the attempt's trace.
        """
        calls = [c for c in session.calls if c.provider is not None]
        earlier = {call.ordinal: line for call, line in unused} | session.recalled
        readings = list(await session.energy())
        for ordinal, line in earlier.items():
            readings += _earlier_readings(ordinal, line)
        if not self._remote:
            return tuple(readings)
        from workbench.runner.energy.estimate import estimate

        # One provider name may serve models on this machine and on others: a metered call is not
        # estimated as well.
        metered = {ordinal for ordinal, line in earlier.items() if line.is_metered}
        metered |= {ordinal for ordinal, windows in session.windows.items() if windows}
        estimates = [
            estimate(c)
            for c in (*calls, *(call for call, _ in unused))
            if c.provider in self._remote and c.ordinal not in metered
        ]
        return (*readings, *(reading for reading in estimates if reading is not None))

    async def finish(self, run_id: str, *, quiet: bool) -> list[EnergyBalance]:
        """Return the run's energy balances; `quiet` measures the idle power once more first."""
        return [] if self._watch is None else await self._watch.finish(run_id, quiet=quiet)

    def stop(self) -> None:
        """Stop reading the meters."""
        if self._watch is not None:
            self._watch.stop()


def _earlier_readings(ordinal: int, line: JournalLine) -> list[EnergyReading]:
    """Return the readings of a call of an earlier run; one without a figure where it was killed."""
    if line.energy is not None:
        return [msgspec.structs.replace(reading, call_ordinal=ordinal) for reading in line.energy]
    if not line.is_metered:
        return []
    note = "metered by a run that was killed before the counters had told"
    return [EnergyReading(call_ordinal=ordinal, device="unknown", method="unknown", note=note)]
