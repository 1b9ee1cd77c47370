"""A launch among others: it makes what nobody else makes, waits for what others hold, and takes over from the dead."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import StoreLocked
from workbench.runner.limits import Budget, Tab
from workbench.runner.planning.claims import Claims
from workbench.runner.planning.plan import Planned
from workbench.runner.planning.resume import look
from workbench.runner.providers.current_attempt import AttemptKey

if TYPE_CHECKING:
    from workbench.runner.attempts.journal import Journal

LOOK_S = 0.25
Done = Callable[[Collection[str]], Collection[AttemptKey]]


class SharedWork:
    """What a launch knows of the attempts that other collectors make.

    Attributes:
        claims: what is held, by this collector and by the others.
        waiting: attempts of the plan that others hold; whoever lets go of one gives it back to this
            launch.
        n_made: attempts of the plan that others have ended since this launch began; `n_failed` of
            them failed.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        spool_folder: Path,
        configuration_ids: Iterable[str],
        done: Done | None,
        budget: Budget,
    ) -> None:
        """Take the claims of a launch, and ways to find out what is settled."""
        self.claims, self._folder, self._done, self._budget = claims, spool_folder, done, budget
        self._ids = list(configuration_ids)
        self.waiting: dict[AttemptKey, Planned] = {}
        self.n_made = self.n_failed = 0
        self._ended: dict[
            AttemptKey, bool
        ] = {}  # by others, since this launch began: whether it failed
        self._orphans: set[AttemptKey] = set()

    @property
    def is_awaited(self) -> bool:
        """Whether others may still make, or let go of, something that this launch lacks, or room in its budget."""
        return self.claims.is_awaited or bool(self._orphans)

    # -- attempts --------------------------------------------------------------------------------

    def is_elsewhere(self, planned: Planned) -> bool:
        """Say whether an attempt is others' to make; it is remembered, to be made here if they let go of it."""
        key = planned.key
        if key not in self.claims.taken:
            return False
        if key in self._ended:
            self._count(self._ended[key])
        else:
            self.waiting[key] = planned
        return True

    def _count(self, failed: bool) -> None:
        self.n_made += 1
        self.n_failed += failed

    async def claim(
        self, planned: Planned, may_start: Callable[[], bool], prompt_bytes: int
    ) -> bool | None:
        """Claim an attempt: True; False where others have it, None where the budget has no room any more."""

        def act() -> bool | None:
            self._hear()
            self._budget.elsewhere(self.claims.spent)
            if self.is_elsewhere(planned):
                return False
            if not may_start():
                return None
            share = self._budget.share_of(planned.configuration.configuration_id, prompt_bytes)
            self.claims.say("begin", planned.key, share)
            return True

        return await self.claims.exclusively(act)

    def open(self, planned: Planned, tab: Tab) -> None:
        """Let the others know whenever a claimed attempt takes more than was reserved."""
        tab.on_change = lambda: self.claims.say("take", planned.key, tab.taken)

    def close(self, planned: Planned, tab: Tab, *, failed: bool = False) -> None:
        """Let the others know that an attempt has its trace in the spool."""
        tab.on_change = None
        self.claims.say("fail" if failed else "end", planned.key, tab.spent)

    def withdraw(self, planned: Planned) -> None:
        """Let the others have an attempt of which nothing was asked."""
        self.claims.say("back", planned.key)

    def give_back(self, planned: Planned, tab: Tab) -> None:
        """Let the others have an attempt that was begun and is not ended."""
        tab.on_change = None
        self.claims.say("back", planned.key, tab.spent)

    # -- others ----------------------------------------------------------------------------------

    async def look(self, journal: "Journal", refresh: Callable[[], None]) -> list[Planned] | None:
        """See what the others have done since; returns attempts that came free, None where nothing has changed.

        Args:
            journal: is told of attempts whose replies others have left.
            refresh: called before attempts of a dead collector are made here.
        """
        before = self.claims.spent
        self.claims.update()
        orphans = self.claims.bury()
        changed = self._hear()
        self._orphans |= orphans - self._ended.keys()
        if self._orphans:
            changed |= await self._inherit(journal, refresh)
        self._budget.elsewhere(self.claims.spent)
        free = [p for key, p in self.waiting.items() if key not in self.claims.taken]
        for planned in free:
            del self.waiting[planned.key]
        if not free and not changed and before == self.claims.spent:
            return None
        return free

    def _hear(self) -> bool:
        """Take in what the others have ended."""
        changed = False
        for key, kind in self.claims.take_changes():
            changed = True
            self._orphans.discard(key)  # somebody has taken it over
            if kind in {"end", "fail"}:
                self._ended[key] = kind == "fail"
                if self.waiting.pop(key, None) is not None:
                    self._count(kind == "fail")
            else:
                self._ended.pop(key, None)
        return changed

    async def _inherit(self, journal: "Journal", refresh: Callable[[], None]) -> bool:
        """Find out what dead collectors had settled of what they held, and let go of the rest."""
        try:
            # the spool first: what is taken in meanwhile is then found in the store
            settled = set((await asyncio.to_thread(look, self._folder)).settled)
            if self._done is not None:
                settled |= set(await asyncio.to_thread(self._done, self._ids))
        except StoreLocked:
            return False  # the next look will find out
        refresh()
        self.claims.update()  # what others have taken over meanwhile is theirs
        self._hear()
        orphans, self._orphans = self._orphans, set()
        for key in orphans:
            if key in settled:
                self._ended[key] = False
                if self.waiting.pop(key, None) is not None:
                    self._count(False)
            else:
                journal.adopt(key)
                self.claims.free(key)
        return True
