"""Textual app: themes, keys of every screen, and navigation between screens."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from workbench.tui.explore import ExploreScreen
from workbench.tui.host import Host
from workbench.tui.themes import THEMES


class WorkbenchApp(Host):
    """App over one store; screens query the store through `QueryScreen`."""

    CSS_PATH = "workbench.tcss"
    TITLE = "workbench"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit", show=False),
        Binding("question_mark", "help", "keys"),
        Binding("colon", "sql", "SQL"),
        Binding("ctrl+c", "quit", "quit", show=False, system=True),
    ]

    def __init__(self, store_path: str | Path | None = None) -> None:
        super().__init__(store_path)
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def get_default_screen(self) -> Screen[None]:
        """Return the first screen."""
        return ExploreScreen()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """List every key of the current screen, and themes, in the command palette."""
        seen = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and binding.action not in seen and not binding.system:
                seen.add(binding.action)
                key = self.get_key_display(binding)
                run = self._runner(binding.action, active.node)
                yield SystemCommand(binding.description.capitalize(), f"key {key}", run)
        yield from super().get_system_commands(screen)

    def _runner(self, action: str, node: DOMNode) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.run_action(action, default_namespace=node)

        return run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable the key for SQL once a store is open, except on the SQL screen."""
        if action == "sql":
            return self.opened is not None and type(self.screen).__name__ != "SqlScreen"
        return super().check_action(action, parameters)

    def leave_terminal(self) -> None:
        """Restore the terminal's modes; the app cannot continue after that."""
        if self._driver is not None:
            self._driver.stop_application_mode()
            self._driver.close()

    def action_help(self) -> None:
        """Show the keys of the current screen."""
        from workbench.tui.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_sql(self) -> None:
        """Open the SQL screen."""
        from workbench.tui.sql import SqlScreen

        self.push_screen(SqlScreen())
