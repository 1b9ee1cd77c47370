"""Top bar of every screen: its title on the left, counts and figures on the right."""

from rich.cells import cell_len
from rich.text import Text
from textual.widget import Widget

from workbench.safe import one_line

Parts = list[tuple[str, str]]  # text and the theme's colour of it, "" for the usual one


class TopBar(Widget):
    """One line; the right end wins where there is no room for both."""

    def __init__(self, left: Parts, *, id: str = "top") -> None:
        super().__init__(id=id)
        self._left, self._right = left, Parts()

    def show(self, left: Parts | None = None, right: Parts | None = None) -> None:
        """Show something else on either side."""
        self._left = self._left if left is None else left
        self._right = self._right if right is None else right
        self.refresh()

    def render(self) -> Text:
        """Draw both sides."""
        width = self.size.width
        right = self._text(self._right)
        room = max(0, width - cell_len(right.plain) - 2)
        left = self._text(self._left)
        if cell_len(left.plain) > room:
            left.truncate(room, overflow="ellipsis")
        gap = max(0, width - cell_len(left.plain) - cell_len(right.plain) - 1)
        return Text.assemble(left, " " * gap, right, no_wrap=True, end="")

    def _text(self, parts: Parts) -> Text:
        colours = self.app.theme_variables
        text = Text(no_wrap=True, end="")
        for part, colour in parts:
            text.append(one_line(part, 400), colours.get(colour, colour))
        return text
