"""Questions to the store, asked in threads: an answer is shown only while its question is the one on screen.

A question is a value made from everything on the screen that its answer depends on: slice, order,
options, the moment that the rest was read at. It is made when it is asked and again when an answer
arrives; where the two differ the answer is dropped and the question of by then is asked. A newer
question of a group replaces an older, Esc cancels all. A thread never touches a widget: it posts
its answer.
"""

import threading
from collections.abc import Callable, Generator, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from workbench.errors import WorkbenchError
from workbench.safe import safe
from workbench.tui.host import Host

if TYPE_CHECKING:
    from workbench.store import Cancel

    _Base = Screen[Any]
else:
    # a mixin must be no widget itself: Textual takes the default styles of one base only
    _Base = object

PATIENCE = 0.15  # seconds before a question is said to be running
AGAIN = 0.5  # seconds between looks at what it waits for

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


def once() -> None:
    """The question of what is right whatever the screen shows by then, such as a command."""


class Ticket:
    """One question: what it is about, where its answer goes, and how to stop it.

    Attributes:
        about: makes the question from the screen as it is.
        question: what `about` made when it was asked.
        work: asks, in the thread.
        done: takes the answer, or each part of it.
    """

    def __init__(
        self,
        group: str,
        about: Callable[[], Hashable],
        work: Callable[[Any, "Cancel"], Any],
        done: Callable[[Any], None],
        *,
        quiet: bool,
    ) -> None:
        self.group, self.about, self.work, self.done, self.quiet = group, about, work, done, quiet
        self.question = about()
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

    @property
    def waiting_for(self) -> str:
        """Who has the store, while the query waits for it; "" otherwise."""
        return "" if self._cancel is None else self._cancel.waiting_for

    def stop(self) -> None:
        """Interrupt the query, wherever it is."""
        with self._lock:
            self.stopped = True
            if self._cancel is not None:
                self._cancel.cancel()


class Answer(Message):
    """A thread has found something: all of the answer, a part of it (`is_last` is false), or an error."""

    bubble = False

    def __init__(
        self, ticket: Ticket, values: tuple[Any, ...], error: Exception | None, *, is_last: bool
    ) -> None:
        self.ticket, self.values, self.error, self.is_last = ticket, values, error, is_last
        super().__init__()


class Asking(_Base):
    """Mixed into a screen that asks questions in threads."""

    app: Host

    def __init__(self) -> None:
        super().__init__()
        self._tickets: dict[str, Ticket] = {}
        self._is_said = False  # that something is running
        self._warned = ""  # of what a look failed with last

    def ask(
        self,
        group: str,
        about: Callable[[], Q],
        work: Callable[[Q, "Cancel"], A | Generator[A, None, None]],
        done: Callable[[A], None],
        *,
        quiet: bool = False,
    ) -> None:
        """Run `work` in a thread and give its value to `done`, here, while the question is still on screen.

        Args:
            group: a newer question of the same group stops the older.
            about: makes the question, all that the answer depends on, from what is on the screen.
            work: answers the question in the thread, and looks at nothing else of the screen; may
                raise `WorkbenchError`. A generator gives its answer in parts.
            done: takes what `work` returned, or each part of it, in the app.
            quiet: never say that it is running (for what nobody waits for).
        """
        if older := self._tickets.get(group):
            older.stop()
        ticket = self._tickets[group] = Ticket(group, about, work, done, quiet=quiet)
        run = partial(self._run, ticket)
        ticket.worker = self.run_worker(run, thread=True, group=group, exit_on_error=False)
        if not quiet:
            self.set_timer(PATIENCE, partial(self._say_running, ticket))

    def _run(self, ticket: Ticket) -> None:
        values: tuple[Any, ...] = ()
        error: Exception | None = None
        try:
            found = ticket.work(ticket.question, ticket.begin())
            if isinstance(found, Generator):
                for part in found:
                    if ticket.stopped:
                        found.close()
                        return
                    self._post(ticket, (part,), is_last=False)
            else:
                values = (found,)
        except WorkbenchError as fault:
            error = fault
        self._post(ticket, values, error, is_last=True)

    def _post(
        self,
        ticket: Ticket,
        values: tuple[Any, ...],
        error: Exception | None = None,
        *,
        is_last: bool,
    ) -> None:
        if self.is_attached:
            self.post_message(Answer(ticket, values, error, is_last=is_last))

    def on_worker_state_changed(self, message: Worker.StateChanged) -> None:
        """A fault of ours in a thread is an answer too: it is shown, and the app goes on."""
        error = message.worker.error
        if message.state is WorkerState.ERROR and isinstance(error, Exception):
            for ticket in [t for t in self._tickets.values() if t.worker is message.worker]:
                self.log.error(error)
                self._post(ticket, (), error, is_last=True)

    def on_answer(self, message: Answer) -> None:
        """Hand the answer on if its question is the newest of its group and still that of the screen."""
        ticket = message.ticket
        if self._tickets.get(ticket.group) is not ticket:
            return
        is_current = ticket.about() == ticket.question
        if message.is_last or not is_current:
            self._close(ticket)
        if not is_current:
            ticket.stop()
            self.was_overtaken(ticket)
        elif message.error is not None:
            self.has_failed(ticket.group, message.error)
        else:
            for value in message.values:
                ticket.done(value)

    def _close(self, ticket: Ticket) -> None:
        del self._tickets[ticket.group]
        if self._is_said and not self.is_asking:
            self._is_said = False
            self.running_changed(running=False)

    def _say_running(self, ticket: Ticket) -> None:
        """Say that a question runs, and again and again for whom it waits."""
        if self._tickets.get(ticket.group) is ticket:
            self._is_said = True
            self.running_changed(running=True)
            self.set_timer(AGAIN, partial(self._say_running, ticket))

    @property
    def running_text(self) -> str:
        """What to say of the questions that somebody waits for."""
        waiting = {t.waiting_for for t in self._tickets.values() if not t.quiet} - {""}
        what = f"waiting for {' and '.join(sorted(waiting))}" if waiting else "running"
        return f"{what}…  esc cancels"

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
        """Give up every open question that somebody waits for, at once; say whether there was one.

        What has no query to interrupt, such as an estimate, goes on in its thread; its answer is
        dropped.
        """
        waiting = [ticket for ticket in self._tickets.values() if not ticket.quiet]
        for ticket in waiting:
            ticket.stop()
            self._close(ticket)
            self.was_cancelled(ticket.group)
        return bool(waiting)

    def on_unmount(self) -> None:
        """Leave no query behind."""
        for ticket in self._tickets.values():
            ticket.stop()

    def warn(self, error: Exception) -> None:
        """Say why what is shown is not followed any more: once for each reason, until a look succeeds."""
        said = safe(str(error) or type(error).__name__, lines=True)
        if said != self._warned:
            self._warned = said
            self.app.notify(
                f"{said}\nWhat is shown is what was there before.",
                title="the store could not be looked at",
                severity="warning",
                markup=False,
                timeout=8,
            )

    def has_looked(self) -> None:
        """Forget what a look failed with: the next failure is news."""
        self._warned = ""

    # -- what a screen may want to do otherwise ----------------------------------------------------

    def running_changed(self, *, running: bool) -> None:
        """Show that a question takes longer than one would notice, or that it no longer does."""

    def was_cancelled(self, group: str) -> None:
        """A question was stopped by the user: leave what was there, and say so."""
        self.app.notify(f"cancelled: {group}", timeout=2, markup=False)

    def was_overtaken(self, ticket: Ticket) -> None:
        """The screen asks something else by now: ask that."""
        self.ask(ticket.group, ticket.about, ticket.work, ticket.done, quiet=ticket.quiet)

    def has_failed(self, group: str, error: Exception) -> None:
        """Say what went wrong."""
        said = safe(str(error) or type(error).__name__, lines=True)
        self.app.notify(said, title=group, severity="error", markup=False, timeout=8)


class AskingScreen(Asking, Screen[Any]):
    """A screen that asks questions in threads."""


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
            self.say(self.running_text)

    def was_cancelled(self, group: str) -> None:
        """Say that it was cancelled."""
        self.say(f"cancelled: {group}")

    def has_failed(self, group: str, error: Exception) -> None:
        """Show the error's own words."""
        self.say(str(error) or type(error).__name__, is_fault=True)
