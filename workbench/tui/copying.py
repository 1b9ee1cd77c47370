"""Copying of a view as SQL, Polars or a notebook cell, or of a row as CSV.

Everything is copied to the clipboard and written to a file whose path is shown, because a terminal
does not report whether it accepted a copy (tmux often does not).
"""

import csv
import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench import private
from workbench.safe import clipboard_text, one_line
from workbench.slice.conditions import quote
from workbench.tui import slice_edits
from workbench.tui.queries import QueryMixin, QueryScreen, always_current

if TYPE_CHECKING:
    from workbench.analysis.catalogue.forms import AnalysisRequest
    from workbench.store import Store

Texts = dict[str, tuple[str, str]]  # name of the form → (text, file suffix)
CLIPBOARD = 100_000  # bytes; terminals drop longer sequences
PREVIEW = 50  # terminal cells of a text that are shown beside its name


def answer_texts(store: "Store", request: "AnalysisRequest") -> Texts:
    """Return the forms that repeat the answer of an analysis elsewhere; runs in a thread.

    Args:
        store: the store; it has the types of its own fields that the request names.
        request: the request that the table on screen answers.
    """
    from workbench.analysis.catalogue import forms

    path = str(store.path)
    fields = store.fields(request.own) if request.own else {}
    return {
        "SQL": (forms.sql(request, fields), "sql"),
        "Polars": (forms.polars(request, path, fields), "py"),
        "notebook cell": (forms.cell(request, path), "py"),
        "command": (forms.command(request, path), "sh"),
        "filter": (str(request.where), "txt"),
    }


def overview_texts(path: Path, text: str, x: str, y: str) -> Texts:
    """Return the forms of the first screen: one row per configuration, from three analyses.

    Args:
        path: the store.
        text: the slice.
        x: the cost axis of the frontier.
        y: the outcome axis of the frontier.
    """
    from workbench.analysis.catalogue import forms
    from workbench.analysis.catalogue.forms import AnalysisRequest

    where, at = slice_edits.read(text), str(path)
    summary = AnalysisRequest("summary", where)
    parts = (
        summary,
        AnalysisRequest("frontier", where, options={"x": x, "y": y}),
        AnalysisRequest("cost-of-pass", where),
    )
    call = f"where={str(where)!r}, by={summary.by!r}"
    cell = (
        f"import workbench as wb\n\nstore = wb.open({at!r})\n"
        f"summary = wb.analysis.summary(store, {call})\n"
        f"frontier = wb.analysis.frontier(store, {call}, x={x!r}, y={y!r})\n"
        f"costs = wb.analysis.cost_of_pass(store, {call})\n"
        "table = summary.frame\n"
        "for part in (frontier, costs):\n"
        "    new = [c for c in part.frame.columns if c not in table.columns]\n"
        '    added = part.frame.select("configuration", *new)\n'
        '    table = table.join(added, on="configuration", how="left")\n'
        "wb.charts.chart(frontier)\n"
    )
    return {
        "SQL": (forms.sql(summary), "sql"),
        "Polars": (forms.polars(summary, at), "py"),
        "notebook cell": (cell, "py"),
        "command": ("".join(forms.command(part, at) for part in parts), "sh"),
        "filter": (text, "txt"),
    }


def listing_texts(path: Path, text: str, order_by: str, *, descending: bool) -> Texts:
    """Return the forms of a list of traces, in its order.

    Args:
        path: the store.
        text: the slice.
        order_by: the column that the list is sorted by; null is last, ties by trace_id.
        descending: whether the largest value is first.
    """
    import shlex

    where = slice_edits.read(text)
    opened = f"import workbench as wb\n\nstore = wb.open({str(path)!r})\n"
    order = f'sort("{order_by}", "trace_id", descending=[{descending}, False], nulls_last=True)'
    query = (
        f"SELECT *\nFROM trace_facts\nWHERE {where.sql()}\n"
        f'ORDER BY "{order_by}" {"DESC" if descending else "ASC"} NULLS LAST, trace_id\n'
    )
    code = f"traces = store.traces().filter({where.polars_code()}).{order}\n"
    words = ["workbench", "export", "trace_facts", "--store", str(path)]
    words += ["--where", str(where)] if where else []
    return {
        "SQL": (query, "sql"),
        "Polars": (f"import polars as pl\n{opened}{code}", "py"),
        "notebook cell": (f"{opened}store.traces({str(where)!r}).{order}.collect()\n", "py"),
        "command": (f"# in no particular order\n{shlex.join(words)}\n", "sh"),
        "filter": (text, "txt"),
    }


def trace_texts(path: Path, facts: Mapping[str, Any], message: str | None) -> Texts:
    """Return the forms of one trace."""
    trace_id = str(facts["trace_id"])
    message_text = {"this message": (message, "txt")} if message is not None else {}
    text = f"trace:{trace_id}"
    return (
        message_text
        | {"trace id": (trace_id, "txt")}
        | listing_texts(path, text, "started_at", descending=False)
        | row_texts(facts)
    )


def run_texts(path: Path, row: Mapping[str, Any]) -> Texts:
    """Return the forms of one run: its row of the store, its plan, and the filter of its traces."""
    import shlex

    run_id = str(row["run_id"])
    show = shlex.join(["workbench", "runs", "show", run_id, "--store", str(path)])
    plan = {"plan": (show + "\n", "sh")} if row.get("kind", "collect") == "collect" else {}
    return {
        "run id": (run_id, "txt"),
        **plan,
        **statement_texts(path, f"FROM run_summary WHERE run_id = {quote(run_id)}"),
        "filter": (slice_edits.narrowed("", run_id=run_id), "txt"),
        **row_texts({name: value for name, value in row.items() if name != "state"}),
    }


def statement_texts(path: Path, query: str) -> Texts:
    """Return the forms of an SQL statement."""
    import shlex

    cell = f"import workbench as wb\n\nstore = wb.open({str(path)!r})\nstore.sql({query!r})\n"
    command = shlex.join(["workbench", "sql", "--store", str(path), "--", query])
    return {
        "SQL": (query, "sql"),
        "notebook cell": (cell, "py"),
        "command": (command + "\n", "sh"),
    }


def row_texts(row: Mapping[str, Any] | None) -> Texts:
    """Return the form of the row under the cursor, if there is one."""
    return {"this row as CSV": (row_csv(row), "csv")} if row else {}


def offer_answer(
    screen: "QueryScreen", read: "Callable[[], AnalysisRequest]", row: Mapping[str, Any] | None
) -> None:
    """Open the window that copies the answer of an analysis.

    Args:
        screen: the screen that shows the answer.
        read: makes the request that it answers; may raise `WorkbenchError`.
        row: the row under the cursor.
    """
    store = screen.app.store

    def offer(texts: Texts) -> None:
        screen.app.push_screen(CopyScreen(texts | row_texts(row)))

    screen.run_query("copy", always_current, lambda *_: answer_texts(store, read()), offer)


def row_csv(row: Mapping[str, Any]) -> str:
    """Write one row as CSV with its head; unknown is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(row.keys())
    writer.writerow(
        "" if v is None else v if isinstance(v, str | int | float) else str(v) for v in row.values()
    )
    return out.getvalue()


def copies_folder() -> Path:
    """Return the folder of copied texts, which only the user may read."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "workbench" / "copied"
    private.make_folder(folder)
    return folder


class CopyScreen(QueryMixin, ModalScreen[None]):
    """Window that lists the forms to copy."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,y", "dismiss", "close", show=False),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, texts: Texts, fetch: Mapping[str, Callable[[], str]] | None = None) -> None:
        super().__init__()
        self.texts = texts
        self._fetch = fetch or {}

    def compose(self) -> ComposeResult:
        """List the forms, each with a preview."""
        with Vertical(classes="window") as window:
            window.border_title = "copy as"
            window.border_subtitle = "enter copies · esc closes"
            listing = OptionList(markup=False, compact=True)
            for name, (text, _) in self.texts.items():
                line = Text(name.ljust(18), no_wrap=True)
                line.append(one_line(" ".join(text[:400].split()), PREVIEW), "dim")
                listing.add_option(Option(line))
            listing.highlighted = 0
            yield listing

    def action_move(self, by: int) -> None:
        """Move in the list."""
        listing = self.query_one(OptionList)
        listing.action_cursor_down() if by > 0 else listing.action_cursor_up()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Copy the selected form and notify where it is."""
        name = list(self.texts)[message.option_index]
        if name in self._fetch:
            fetch = self._fetch[name]
            self.run_query("copy", always_current, lambda *_: fetch(), partial(self._copy, name))
        else:
            self._copy(name, self.texts[name][0])

    def _copy(self, name: str, text: str) -> None:
        text = clipboard_text(text)
        fits, refused = len(text.encode()) <= CLIPBOARD, ""
        if fits:
            try:
                self.app.copy_to_clipboard(text)
            except OSError as error:
                fits, refused = False, f"the terminal refused {name} ({error.strerror or error})"
        file = f"{name.replace(' ', '-')}.{self.texts[name][1]}"
        try:
            where = copies_folder() / file
            private.write_text(where, text)
            location = f"also in {where}" if fits else f"it is in {where}"
        except OSError as error:
            location = f"{error.filename or file} cannot be written ({error.strerror or error})"
        what = f"{name} copied" if fits else refused or f"{name} is too long for a clipboard"
        self.app.notify(f"{what}; {location}", markup=False, timeout=6)
        self.dismiss()
