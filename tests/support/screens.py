"""The terminal app under test: opened, keys pressed, and what is on the screen."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from workbench.store import open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.empty import EmptyScreen
from workbench.tui.queries import QueryMixin


class Begun(WorkbenchApp):
    """The app with its store open already and another first screen, for what the usual one has no
    part in."""

    CSS_PATH: ClassVar = [
        Path(inspect.getfile(WorkbenchApp)).with_name(name)
        for name in ("workbench.tcss", "screens.tcss")
    ]

    def __init__(self, path: Path, first: Callable[[], Screen[None]]) -> None:
        super().__init__(path)
        self.opened = open_store(path)
        self._first = first

    def get_default_screen(self) -> Screen[None]:
        """Begin elsewhere."""
        return self._first()


async def settle(pilot: Pilot[None]) -> None:
    """Wait until no screen waits for an answer or for a typing pause."""
    for _ in range(300):
        await pilot.pause()
        screens = [s for s in pilot.app.screen_stack if isinstance(s, QueryMixin)]
        if not any(s.is_busy for s in screens):
            return
        await pilot.pause(0.01)


async def until(pilot: Pilot[None], is_so: Callable[[], object]) -> None:
    """Let the app go on until something holds, a minute or more."""
    for _ in range(3000):
        if is_so():
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came true")


@asynccontextmanager
async def opened(
    app: WorkbenchApp, size: tuple[int, int] = (100, 30)
) -> AsyncIterator[Pilot[None]]:
    """Run the app until its first screen has everything."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.05)
        while app.opened is None and not isinstance(app.screen, EmptyScreen):
            await pilot.pause(0.02)
        await settle(pilot)
        yield pilot


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, each after the answers to the one before."""
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def write(pilot: Pilot[None], text: str, *keys: str) -> None:
    """Type into the slice bar, then press keys."""
    pilot.app.screen.bar.input.focus()
    pilot.app.screen.bar.input.value = text
    pilot.app.screen.bar.input.cursor_position = len(text)
    await settle(pilot)
    await press(pilot, *keys)


def shown(widget: Static) -> str:
    """The text of a static."""
    return str(widget.render())


def cells(app: WorkbenchApp) -> str:
    """Everything that the terminal would get of the screen, control sequences of Textual's own
    aside."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(s.text for s in strip if isinstance(s, Segment)) for strip in strips)
