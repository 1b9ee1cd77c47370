"""Questions to the store, asked in threads: a newer one replaces an older, Esc cancels all.

A thread never touches a widget. It posts its answer, and the answer is dropped unless its question
is still the newest of its group.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from workbench.errors import WorkbenchError
from workbench.safe import safe
from workbench.tui.host import Host

if TYPE_CHECKING:
    from workbench.store import Cancel

PATIENCE = 0.15  # seconds before a question is said to be running


class Ticket:
    """One question: where its answer goes, and how to stop it."""

    def __init__(self, group: str, done: Callable[[Any], None], *, quiet: bool) -> None:
        self.group, self.done, self.quiet = group, done, quiet
        self.stopped = False
        self._lock = threading.Lock()
        self._cancel: Cancel | None = None
        self.worker: Worker[None] | None = None

    def begin(self) -> "Cancel":
        """Return the handle that the query hangs on; called in the thread."""
        from workbench.store import Cancel

        with self._lock:
            self._cancel = Cancel()
            if self.stopped:
                self._cancel.cancel()
            return self._cancel

    def stop(self) -> None:
        """Interrupt the query, wherever it is."""
        with self._lock:
            self.stopped = True
            if self._cancel is not None:
                self._cancel.cancel()


class Answer(Message):
    """A thread is done: with a value, or with an error."""

    bubble = False

    def __init__(self, ticket: Ticket, value: Any, error: Exception | None) -> None:
        self.ticket, self.value, self.error = ticket, value, error
        super().__init__()


class AskingScreen(Screen[Any]):
    """A screen that asks questions in threads."""

    app: Host

    def __init__(self) -> None:
        super().__init__()
        self._tickets: dict[str, Ticket] = {}
        self._is_said = False  # that something is running

    def ask(
        self,
        group: str,
        work: Callable[["Cancel"], Any],
        done: Callable[[Any], None],
        *,
        quiet: bool = False,
    ) -> None:
        """Run `work` in a thread and give its value to `done`, here, if nothing newer was asked.

        Args:
            group: a newer question of the same group stops the older.
            work: asks, in the thread; may raise `WorkbenchError`.
            done: takes what `work` returned, in the app.
            quiet: never say that it is running (for what nobody waits for).
        """
        if older := self._tickets.get(group):
            older.stop()
        ticket = self._tickets[group] = Ticket(group, done, quiet=quiet)
        run = partial(self._run, ticket, work)
        ticket.worker = self.run_worker(run, thread=True, group=group, exit_on_error=False)
        if not quiet:
            self.set_timer(PATIENCE, partial(self._say_running, ticket))

    def _run(self, ticket: Ticket, work: Callable[["Cancel"], Any]) -> None:
        try:
            value, error = work(ticket.begin()), None
        except WorkbenchError as fault:
            value, error = None, fault
        if self.is_attached:
            self.post_message(Answer(ticket, value, error))

    def on_worker_state_changed(self, message: Worker.StateChanged) -> None:
        """A fault of ours in a thread is an answer too: it is shown, and the app goes on."""
        error = message.worker.error
        if message.state is WorkerState.ERROR and isinstance(error, Exception):
            for ticket in [t for t in self._tickets.values() if t.worker is message.worker]:
                self.log.error(error)
                self.post_message(Answer(ticket, None, error))

    def on_answer(self, message: Answer) -> None:
        """Hand the newest answer on; forget those that were overtaken."""
        ticket = message.ticket
        if self._tickets.get(ticket.group) is not ticket:
            return
        del self._tickets[ticket.group]
        if self._is_said and not self.is_asking:
            self._is_said = False
            self.running_changed(running=False)
        if message.error is None:
            ticket.done(message.value)
        elif ticket.stopped:
            self.was_cancelled(ticket.group)
        else:
            self.has_failed(ticket.group, message.error)

    def _say_running(self, ticket: Ticket) -> None:
        if self._tickets.get(ticket.group) is ticket:
            self._is_said = True
            self.running_changed(running=True)

    @property
    def is_asking(self) -> bool:
        """Whether a question that somebody waits for is open."""
        return any(not ticket.quiet for ticket in self._tickets.values())

    @property
    def is_busy(self) -> bool:
        """Whether any question is open."""
        return bool(self._tickets)

    @property
    def is_on_top(self) -> bool:
        """Whether nothing covers the screen; for Textual the one below the top is `is_current` too."""
        return self.app.screen is self

    def is_open(self, group: str) -> bool:
        """Whether a question of a group is open."""
        return group in self._tickets

    def stop_asking(self) -> bool:
        """Stop every open question that somebody waits for; say whether there was one."""
        waiting = [ticket for ticket in self._tickets.values() if not ticket.quiet]
        for ticket in waiting:
            ticket.stop()
        return bool(waiting)

    def on_unmount(self) -> None:
        """Leave no query behind."""
        for ticket in self._tickets.values():
            ticket.stop()

    # -- what a screen may want to do otherwise ----------------------------------------------------

    def running_changed(self, *, running: bool) -> None:
        """Show that a question takes longer than one would notice, or that it no longer does."""

    def was_cancelled(self, group: str) -> None:
        """A question was stopped by the user."""

    def has_failed(self, group: str, error: Exception) -> None:
        """Say what went wrong."""
        said = safe(str(error) or type(error).__name__, lines=True)
        self.app.notify(said, title=group, severity="error", markup=False, timeout=8)


class StatusScreen(AskingScreen):
    """A screen that says on a line, `#status`, how its question stands."""

    def say(self, text: str, *, is_fault: bool = False) -> None:
        """Show a text on the line."""
        shown = self.query_one("#status", Static)
        shown.set_class(is_fault, "-fault")
        shown.update(safe(text, lines=True))

    def running_changed(self, *, running: bool) -> None:
        """Say that it runs; the answer says the rest."""
        if running:
            self.say("running…  esc cancels")

    def was_cancelled(self, group: str) -> None:
        """Say that it was cancelled."""
        self.say(f"cancelled: {group}")

    def has_failed(self, group: str, error: Exception) -> None:
        """Show the error's own words."""
        self.say(str(error) or type(error).__name__, is_fault=True)
