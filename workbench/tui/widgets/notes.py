"""Notes under a table, which scroll if they need more lines than there are."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from workbench.safe import safe


class Notes(VerticalScroll):
    """What was left out of an answer, and what its reader should know."""

    def compose(self) -> ComposeResult:
        """Build the text."""
        yield Static(markup=False)

    def show(self, text: str) -> None:
        """Show lines of any text, from the first."""
        self.query_one(Static).update(safe(text, lines=True))
        self.scroll_home(animate=False)
