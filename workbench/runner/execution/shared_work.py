"""Shared work of several collectors on one store: each attempt is made by exactly one of them."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import StoreLocked
from workbench.runner.limits import AttemptAccount, Budget
from workbench.runner.planning.claims import Claims
from workbench.runner.planning.plan import Planned
from workbench.runner.planning.resume import read_leftovers
from workbench.runner.providers.current_attempt import AttemptKey

if TYPE_CHECKING:
    from workbench.runner.attempts.journal import Journal

UPDATE_S = 0.25
Done = Callable[[Collection[str]], Collection[AttemptKey]]


class SharedWork:
    """The attempts of a launch's plan that other collectors make.

    Attributes:
        claims: the attempts held by this collector and by the others.
        waiting: attempts of the plan that others hold; this launch makes those they release.
        n_made: attempts of the plan that others have ended since this launch began.
        n_failed: how many of those failed.
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
        """Take the claims of a launch, and the sources that tell which attempts are settled."""
        self.claims = claims
        self._folder = spool_folder
        self._done = done
        self._budget = budget
        self._configuration_ids = list(configuration_ids)
        self.waiting: dict[AttemptKey, Planned] = {}
        self.n_made = 0
        self.n_failed = 0
        # attempts that others have ended since this launch began: whether each failed
        self._ended: dict[AttemptKey, bool] = {}
        self._orphans: set[AttemptKey] = set()  # held by collectors that have died

    @property
    def is_awaited(self) -> bool:
        """Whether other collectors may still end or release attempts, or free budget."""
        return self.claims.is_awaited or bool(self._orphans)

    # -- attempts --------------------------------------------------------------------------------

    def is_claimed_elsewhere(self, planned: Planned) -> bool:
        """Whether another collector has an attempt; one not ended yet is added to `waiting`."""
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
        """Claim an attempt.

        Returns:
            True: claimed. False: another collector has it. None: the budget has no room for it.
        """

        def try_claim() -> bool | None:
            self._apply_changes()
            self._budget.elsewhere(self.claims.spent)
            if self.is_claimed_elsewhere(planned):
                return False
            if not may_start():
                return None
            share = self._budget.share_of(planned.configuration.configuration_id, prompt_bytes)
            self.claims.append("begin", planned.key, share)
            return True

        return await self.claims.exclusively(try_claim)

    def open(self, planned: Planned, account: AttemptAccount) -> None:
        """Publish every change of a claimed attempt's reservation to the other collectors."""
        account.on_change = lambda: self.claims.append("take", planned.key, account.taken)

    def close(self, planned: Planned, account: AttemptAccount, *, failed: bool = False) -> None:
        """Publish that an attempt's trace is in the spool."""
        account.on_change = None
        self.claims.append("fail" if failed else "end", planned.key, account.spent)

    def withdraw(self, planned: Planned) -> None:
        """Release an attempt for which no request was sent."""
        self.claims.append("back", planned.key)

    def give_back(self, planned: Planned, account: AttemptAccount) -> None:
        """Release an attempt that was begun and has not ended."""
        account.on_change = None
        self.claims.append("back", planned.key, account.spent)

    # -- other collectors ------------------------------------------------------------------------

    async def update(self, journal: "Journal", refresh: Callable[[], None]) -> list[Planned] | None:
        """Read what the other collectors have done since the last call.

        Args:
            journal: takes over the replies of attempts whose collector has died.
            refresh: called before attempts of a dead collector are made here.

        Returns:
            Attempts that this launch may make now; None where nothing has changed.
        """
        spent_before = self.claims.spent
        self.claims.update()
        orphans = self.claims.find_dead()
        changed = self._apply_changes()
        self._orphans |= orphans - self._ended.keys()
        if self._orphans:
            changed |= await self._take_over(journal, refresh)
        self._budget.elsewhere(self.claims.spent)
        released = [p for key, p in self.waiting.items() if key not in self.claims.taken]
        for planned in released:
            del self.waiting[planned.key]
        if not released and not changed and spent_before == self.claims.spent:
            return None
        return released

    def _apply_changes(self) -> bool:
        """Record the attempts that others have ended or begun; returns whether there were any."""
        changed = False
        for key, kind in self.claims.take_changes():
            changed = True
            self._orphans.discard(key)  # another collector has taken it over
            if kind in {"end", "fail"}:
                self._ended[key] = kind == "fail"
                if self.waiting.pop(key, None) is not None:
                    self._count(kind == "fail")
            else:
                self._ended.pop(key, None)
        return changed

    async def _take_over(self, journal: "Journal", refresh: Callable[[], None]) -> bool:
        """Release the attempts of dead collectors that those had not settled."""
        try:
            # the spool first: a trace that is imported meanwhile is then in the store
            settled = set((await asyncio.to_thread(read_leftovers, self._folder)).settled)
            if self._done is not None:
                settled |= set(await asyncio.to_thread(self._done, self._configuration_ids))
        except StoreLocked:
            return False  # tried again at the next update
        refresh()
        self.claims.update()  # attempts that another collector has taken over meanwhile
        self._apply_changes()
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
