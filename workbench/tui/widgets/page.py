"""Page of tables and text that can be updated often without flicker or scrolling."""

from rich.console import RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static


class Page(VerticalScroll):
    """Scrolling view of a Rich renderable."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._page: RenderableType = ""
        self.text = Text()

    def compose(self) -> ComposeResult:
        """Build the text."""
        yield Static(markup=False)

    def show(self, page: RenderableType) -> None:
        """Show another page, or the same with other figures."""
        self._page = page
        self._draw()

    def on_resize(self) -> None:
        """Wrap the lines again."""
        self._draw()

    def _draw(self) -> None:
        """Render the lines once, and lay out the page only if their number changed."""
        width = self.scrollable_content_region.width
        if not width:
            return
        console = self.app.console
        before, lines = self.text.plain.count("\n"), []
        for segments in console.render_lines(self._page, console.options.update(width=width)):
            line = Text.assemble(*((part.text, part.style or "") for part in segments))
            line.rstrip()
            lines.append(line)
        self.text = Text("\n", no_wrap=True, end="").join(lines)
        moved = self.text.plain.count("\n") != before
        self.query_one(Static).update(self.text, layout=moved)
