"""Help screen: all keys of the screen below, by the widget that they work in."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen

from workbench.tui.widgets.conversation import Conversation
from workbench.tui.widgets.difference import Difference
from workbench.tui.widgets.facets import Facets
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.painted import Painted
from workbench.tui.widgets.slice_bar import SliceInput

PARTS = (
    (Grid, "table"),
    (Conversation, "conversation"),
    (Difference, "two conversations"),
    (Facets, "facets"),
    (SliceInput, "slice bar"),
)
SYNTAX = """task:gsm8k   model:gpt*,claude*   field:none   wrong right failed unscored unpriced
thinking>2k   cost>0.1   s<=500ms   since:7d   -model:*mini   "text in the transcript\""""


class HelpScreen(ModalScreen[None]):
    """Keys and the filter language on one page."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, below: Screen[object]) -> None:
        super().__init__()
        self._below = below

    def compose(self) -> ComposeResult:
        """Write the page."""
        with VerticalScroll(classes="window") as window:
            window.border_title = "keys"
            window.border_subtitle = "esc closes"
            yield Painted(self._page, id="keys")

    def _page(self) -> Table:
        colours = self.app.theme_variables
        page = Table.grid(padding=(0, 2))
        page.add_column(justify="right", style=colours["primary"], no_wrap=True)
        page.add_column()
        sections: list[tuple[str, DOMNode]] = [
            ("everywhere", self.app),
            ("this screen", self._below),
        ]
        sections += [(name, w) for kind, name in PARTS for w in list(self._below.query(kind))[:1]]
        for title, node in sections:
            page.add_row("", Text(title, "bold"))
            for keys, what in self._rows(node):
                page.add_row(keys, what)
            page.add_row("", "")
        page.add_row("", Text("filters", "bold"))
        page.add_row("", Text(SYNTAX))
        return page

    def _rows(self, node: DOMNode) -> list[tuple[str, str]]:
        keys_by_meaning: dict[str, dict[str, None]] = {}  # description → its keys, without repeats
        # bindings of our own base classes count; those of Textual are not explained
        ours = [kind for kind in type(node).__mro__ if kind.__module__.startswith("workbench.")]
        for kind in ours:
            for binding in Binding.make_bindings(kind.__dict__.get("BINDINGS", ())):
                if binding.description and not binding.system:
                    key = self.app.get_key_display(binding)
                    keys_by_meaning.setdefault(binding.description, {})[key] = None
        rows = [(" ".join(keys), what) for what, keys in keys_by_meaning.items()]
        return (
            [*rows, ("^p", "command palette, themes"), ("^q", "quit")] if node is self.app else rows
        )

    def action_scroll(self, by: int) -> None:
        """Scroll the page."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
