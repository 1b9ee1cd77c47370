"""Painted text in the colours of the theme, painted again when the theme changes."""

from collections.abc import Callable

from rich.console import RenderableType
from textual.widgets import Static

Paint = Callable[[], RenderableType]


class Painted(Static):
    """Static widget whose content is a function of the theme, called again for each theme."""

    def __init__(self, paint: Paint | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._paint = paint

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.repaint())
        self.repaint()

    def show(self, paint: Paint) -> None:
        """Show something else."""
        self._paint = paint
        self.repaint()

    def repaint(self) -> None:
        """Show the same in the colours of the theme."""
        if self._paint is not None:
            self.update(self._paint())
