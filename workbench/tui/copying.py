"""Copying: the view as SQL, Polars or a notebook cell, a row as CSV; to the clipboard and to a file.

A terminal does not say whether it took what was offered (tmux often does not), so that everything
copied is also written to a file whose path is shown.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.safe import clipboard_text, one_line
from workbench.tui import slices
from workbench.tui.asking import Asking, once

Texts = dict[str, tuple[str, str]]  # what it is → (text, file ending)
CLIPBOARD = 100_000  # bytes; terminals drop longer sequences


def view_texts(
    path: Path,
    text: str,
    name: str | None,
    row: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None = None,
) -> Texts:
    """Return every form in which a view can be taken elsewhere.

    Args:
        path: the store.
        text: the slice.
        name: the analysis that the view shows, or None for the traces themselves.
        row: the row under the cursor.
        options: those of the analysis that are not at their default.
    """
    codes = _analysis_codes(path, text, name, options) if name else _traces_codes(path, text)
    found = codes | {"command": (_command(path, text, name), "sh"), "filter": (text, "txt")}
    return found | ({"this row as CSV": (row_csv(row), "csv")} if row else {})


def _analysis_codes(path: Path, text: str, name: str, options: Mapping[str, Any] | None) -> Texts:
    from workbench.analysis import snippets

    by = ("configuration",)
    opened = f"import workbench as wb\n\ntraces = wb.open({str(path)!r}).traces()\n"
    return {
        "SQL": (snippets.as_sql(name, text, by, options), "sql"),
        "Polars": (opened + snippets.as_polars(name, text, by, options), "py"),
        "notebook cell": (snippets.as_cell(name, text, by, options, str(path)), "py"),
    }


def _traces_codes(path: Path, text: str) -> Texts:

    where = slices.read(text)
    opened = f"import workbench as wb\n\nstore = wb.open({str(path)!r})\n"
    polars = f"import polars as pl\n{opened}traces = store.traces().filter({where.polars_code()})\n"
    return {
        "SQL": (f"SELECT *\nFROM trace_facts\nWHERE {where.sql()}\n", "sql"),
        "Polars": (polars, "py"),
        "notebook cell": (f"{opened}store.traces({text!r}).collect()\n", "py"),
    }


def trace_texts(path: Path, facts: Mapping[str, Any], message: str | None) -> Texts:
    """Return what can be copied of one trace."""
    trace_id = str(facts["trace_id"])
    found = {"this message": (message, "txt")} if message is not None else {}
    return (
        found
        | {
            "trace id": (trace_id, "txt"),
            "SQL": (f"SELECT * FROM trace_facts WHERE trace_id = '{trace_id}'", "sql"),
        }
        | view_texts(path, f"trace:{trace_id}", None, facts)
    )


def run_texts(path: Path, run_id: str) -> Texts:
    """Return what can be copied of one run."""
    import shlex

    show = shlex.join(["workbench", "runs", "show", run_id, "--store", str(path)])
    text = slices.narrowed("", run_id=run_id)
    return {"run id": (run_id, "txt"), "plan": (show, "sh")} | view_texts(
        path, text, "summary", None
    )


def _command(path: Path, text: str, name: str | None) -> str:
    import shlex

    what = ["workbench", "analyze", name] if name else ["workbench", "export", "trace_facts"]
    return shlex.join([*what, "--store", str(path), *(["--where", text] if text else [])])


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
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class CopyScreen(Asking, ModalScreen[None]):
    """Choose what to copy."""

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
        """List the forms, each with its beginning."""
        with Vertical(classes="window") as window:
            window.border_title = "copy as"
            window.border_subtitle = "enter copies · esc closes"
            listing = OptionList(markup=False, compact=True)
            for name, (text, _) in self.texts.items():
                line = Text(name.ljust(18), no_wrap=True)
                line.append(one_line(" ".join(text[:400].split()), 54), "dim")
                listing.add_option(Option(line))
            listing.highlighted = 0
            yield listing

    def action_move(self, by: int) -> None:
        """Move in the list."""
        listing = self.query_one(OptionList)
        listing.action_cursor_down() if by > 0 else listing.action_cursor_up()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Copy the chosen form and say where it went."""
        name = list(self.texts)[message.option_index]
        if name in self._fetch:
            fetch = self._fetch[name]
            self.ask("copy", once, lambda *_: fetch(), partial(self._copy, name))
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
            where.write_text(text, encoding="utf-8")
            kept = f"also in {where}" if fits else f"it is in {where}"
        except OSError as error:
            kept = f"{error.filename or file} cannot be written ({error.strerror or error})"
        what = f"{name} copied" if fits else refused or f"{name} is too long for a clipboard"
        self.app.notify(f"{what}; {kept}", markup=False, timeout=6)
        self.dismiss()
