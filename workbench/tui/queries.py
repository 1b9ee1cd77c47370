"""Queries of screens, run in threads; a result is shown only if its question is still current.

A question is a value made from everything on the screen that the result depends on: slice, order,
options, the snapshot of the rest. It is made when the query starts and again when its result
arrives. If the two differ, the result is dropped and the query runs again with the new question. A
newer query of a group replaces an older one; Esc cancels all. A thread never touches a widget: it
posts its result as a message.
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

SHOW_RUNNING_AFTER_S = 0.15
UPDATE_RUNNING_EVERY_S = 0.5

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


def always_current() -> None:
    """Question of a query whose result is valid whatever the screen shows, such as a command."""


class Query:
    """One query: its question, the work in the thread, and the receiver of the result.

    Attributes:
        about: makes the question from the present state of the screen.
        question: the value of `about` when the query started.
        work: computes the result in the thread.
        done: receives the result, or each part of it.
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
        """Return the handle that cancels the store's work; called in the thread."""
        from workbench.store import Cancel

        with self._lock:
            self._cancel = Cancel()
            if self.stopped:
                self._cancel.cancel()
            return self._cancel

    @property
    def waiting_for(self) -> str:
        """The process that has the store while the query waits for it; "" otherwise."""
        return "" if self._cancel is None else self._cancel.waiting_for

    def stop(self) -> None:
        """Cancel the query, whether or not it has begun."""
        with self._lock:
            self.stopped = True
            if self._cancel is not None:
                self._cancel.cancel()


class QueryResult(Message):
    """Message of a thread: the result, a part of it (`is_last` is false), or an error."""

    bubble = False

    def __init__(
        self, query: Query, values: tuple[Any, ...], error: Exception | None, *, is_last: bool
    ) -> None:
        self.query, self.values, self.error, self.is_last = query, values, error, is_last
        super().__init__()


class QueryMixin(_Base):
    """Mixin for screens that run queries in threads."""

    app: Host

    def __init__(self) -> None:
        super().__init__()
        self._queries: dict[str, Query] = {}
        self._shows_running = False
        self._last_warning = ""

    def run_query(
        self,
        group: str,
        about: Callable[[], Q],
        work: Callable[[Q, "Cancel"], A | Generator[A, None, None]],
        done: Callable[[A], None],
        *,
        quiet: bool = False,
    ) -> None:
        """Run `work` in a thread; pass its result to `done` in the app if the question is current.

        Args:
            group: a newer query of the same group cancels the older.
            about: makes the question from the screen: everything that the result depends on.
            work: computes the result from the question alone; runs in the thread and may raise
                `WorkbenchError`. A generator returns its result in parts.
            done: receives the result of `work`, or each part of it, in the app.
            quiet: do not show that the query runs (for work in the background).
        """
        if older := self._queries.get(group):
            older.stop()
        query = self._queries[group] = Query(group, about, work, done, quiet=quiet)
        run = partial(self._run, query)
        query.worker = self.run_worker(run, thread=True, group=group, exit_on_error=False)
        if not quiet:
            self.set_timer(SHOW_RUNNING_AFTER_S, partial(self._show_running, query))

    def _run(self, query: Query) -> None:
        values: tuple[Any, ...] = ()
        error: Exception | None = None
        try:
            result = query.work(query.question, query.begin())
            if isinstance(result, Generator):
                for part in result:
                    if query.stopped:
                        result.close()
                        return
                    self._post(query, (part,), is_last=False)
            else:
                values = (result,)
        except WorkbenchError as fault:
            error = fault
        self._post(query, values, error, is_last=True)

    def _post(
        self,
        query: Query,
        values: tuple[Any, ...],
        error: Exception | None = None,
        *,
        is_last: bool,
    ) -> None:
        if self.is_attached:
            self.post_message(QueryResult(query, values, error, is_last=is_last))

    def on_worker_state_changed(self, message: Worker.StateChanged) -> None:
        """Show an unexpected exception of a thread as an error; the app continues."""
        error = message.worker.error
        if message.state is WorkerState.ERROR and isinstance(error, Exception):
            for query in [t for t in self._queries.values() if t.worker is message.worker]:
                self.log.error(error)
                self._post(query, (), error, is_last=True)

    def on_query_result(self, message: QueryResult) -> None:
        """Pass the result on if its query is the newest of its group and its question current."""
        query = message.query
        if self._queries.get(query.group) is not query:
            return
        is_current = query.about() == query.question
        if message.is_last or not is_current:
            self._close(query)
        if not is_current:
            query.stop()
            self.was_overtaken(query)
        elif message.error is not None:
            self.has_failed(query.group, message.error)
        else:
            for value in message.values:
                query.done(value)

    def _close(self, query: Query) -> None:
        del self._queries[query.group]
        if self._shows_running and not self.is_querying:
            self._shows_running = False
            self.running_changed(running=False)

    def _show_running(self, query: Query) -> None:
        """Show that a query runs, and update the process that it waits for."""
        if self._queries.get(query.group) is query:
            self._shows_running = True
            self.running_changed(running=True)
            self.set_timer(UPDATE_RUNNING_EVERY_S, partial(self._show_running, query))

    @property
    def running_text(self) -> str:
        """Text for queries that run in the foreground."""
        waiting = {t.waiting_for for t in self._queries.values() if not t.quiet} - {""}
        what = f"waiting for {' and '.join(sorted(waiting))}" if waiting else "running"
        return f"{what}…  esc cancels"

    @property
    def is_querying(self) -> bool:
        """Whether a query runs in the foreground."""
        return any(not query.quiet for query in self._queries.values())

    @property
    def is_busy(self) -> bool:
        """Whether any query runs."""
        return bool(self._queries)

    @property
    def is_on_top(self) -> bool:
        """Whether nothing covers the screen; Textual's `is_current` also holds below a window."""
        return self.app.screen is self

    def is_open(self, group: str) -> bool:
        """Whether a query of a group runs."""
        return group in self._queries

    def cancel_queries(self) -> bool:
        """Cancel the queries in the foreground at once; return whether there was one.

        Work that cannot be interrupted, such as an estimate, continues in its thread; its result is
        dropped.
        """
        waiting = [query for query in self._queries.values() if not query.quiet]
        for query in waiting:
            query.stop()
            self._close(query)
            self.was_cancelled(query.group)
        return bool(waiting)

    def on_unmount(self) -> None:
        """Cancel all queries."""
        for query in self._queries.values():
            query.stop()

    def warn(self, error: Exception) -> None:
        """Notify that polling the store failed: once for each reason, until a poll succeeds."""
        message = safe(str(error) or type(error).__name__, lines=True)
        if message != self._last_warning:
            self._last_warning = message
            self.app.notify(
                f"{message}\nThe screen shows the last state that was read.",
                title="the store could not be read",
                severity="warning",
                markup=False,
                timeout=8,
            )

    def has_looked(self) -> None:
        """Note that polling succeeded, so that the next failure is notified again."""
        self._last_warning = ""

    # -- hooks that a screen may override --------------------------------------------------------

    def running_changed(self, *, running: bool) -> None:
        """Called when a query has run for `SHOW_RUNNING_AFTER_S`, and when none runs any more."""

    def was_cancelled(self, group: str) -> None:
        """Called when the user cancelled a query."""
        self.app.notify(f"cancelled: {group}", timeout=2, markup=False)

    def was_overtaken(self, query: Query) -> None:
        """Called when the question has changed: run the query again with the new one."""
        self.run_query(query.group, query.about, query.work, query.done, quiet=query.quiet)

    def has_failed(self, group: str, error: Exception) -> None:
        """Notify the error of a query."""
        message = safe(str(error) or type(error).__name__, lines=True)
        self.app.notify(message, title=group, severity="error", markup=False, timeout=8)


class QueryScreen(QueryMixin, Screen[Any]):
    """A screen that runs queries in threads."""


class StatusScreen(QueryScreen):
    """A screen with a status line, `#status`, for its queries."""

    def say(self, text: str, *, is_fault: bool = False) -> None:
        """Show a text on the status line."""
        shown = self.query_one("#status", Static)
        shown.set_class(is_fault, "-fault")
        shown.update(safe(text, lines=True))

    def running_changed(self, *, running: bool) -> None:
        """Show that a query runs."""
        if running:
            self.say(self.running_text)

    def was_cancelled(self, group: str) -> None:
        """Show that the query was cancelled."""
        self.say(f"cancelled: {group}")

    def has_failed(self, group: str, error: Exception) -> None:
        """Show the error's message."""
        self.say(str(error) or type(error).__name__, is_fault=True)
