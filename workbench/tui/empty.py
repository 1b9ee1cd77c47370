"""Screen for an empty, missing or unreadable store, with the commands that fill it."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from workbench.formats import count
from workbench.safe import safe
from workbench.tui.host import Host
from workbench.tui.widgets.painted import Painted


class EmptyScreen(ModalScreen[None]):
    """Window that explains why there are no traces, and lists commands to run next."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "look again"),
        Binding("q,escape", "app.quit", "quit"),
    ]
    app: Host

    def __init__(self, error: Exception | None = None, n_results: int = 0) -> None:
        super().__init__()
        self._n_results = n_results
        self._error = error

    def compose(self) -> ComposeResult:
        """Write the page."""
        with Vertical(classes="window", id="welcome") as window:
            window.border_title = "workbench"
            window.border_subtitle = "r looks again · q quits"
            yield Painted(self._page)

    def _page(self) -> Text:
        colours = self.app.theme_variables
        path = safe(self._path())
        page = Text()
        if self._error is not None:
            page.append("The store cannot be opened.\n\n", f"bold {colours['error']}")
            return page.append(safe(self._error, lines=True))
        exists = self.app.opened is not None
        if exists and self._n_results:
            page.append(f"{count(self._n_results)} figures of aggregates", "bold")
            page.append(
                " are here, as of leaderboards; press : to ask them in SQL (FROM results).\n"
            )
        page.append("There are no traces yet" if exists else "There is no store yet", "bold")
        page.append(f" at\n{path}\n\nNext, in a shell, one of:\n\n")
        for command, what in self._commands(path):
            page.append(f"  {command}\n", colours["primary"])
            page.append(f"      {what}\n", "dim")
        return page

    def _path(self) -> str:
        if self.app.opened is not None:
            return str(self.app.opened.path)
        if self.app.store_path is not None:
            return str(self.app.store_path)
        from workbench import config

        return str(config.store_path())

    @staticmethod
    def _commands(path: str) -> tuple[tuple[str, str], ...]:
        import shlex

        at = f"--store {shlex.quote(path)}"
        return (
            (
                f"workbench import LOGS… {at}",
                "Inspect logs, tables, leaderboards: the format is detected",
            ),
            (f"workbench collect PLAN.toml {at}", "run tasks against models and record every call"),
            ("workbench demo", "open the sample traces that ship with workbench"),
        )

    def action_again(self) -> None:
        """Close the window, so that the screen below reads the store again."""
        self.dismiss()
