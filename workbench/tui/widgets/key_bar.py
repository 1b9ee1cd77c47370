"""Key bar: the active keys on the last line, as one widget for a fast first frame."""

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.widget import Widget


class KeyBar(Widget):
    """Shows the visible bindings of what has the focus; a click presses the key."""

    def __init__(self) -> None:
        super().__init__()
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Draw again whenever other keys are in force."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """Draw key and meaning, as many as there is room for."""
        colours = self.app.theme_variables
        text, self._spans = Text(" ", no_wrap=True, end=""), []
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not active.enabled or not binding.description:
                continue
            key = self.app.get_key_display(binding)
            start = cell_len(text.plain)
            end = start + cell_len(key) + 1 + cell_len(binding.description)
            if end > self.size.width:
                break
            self._spans.append((start, end, binding.key))
            text.append(key, f"bold {colours['primary']}")
            text.append(f" {binding.description}  ", colours["foreground"])
        return text

    def on_click(self, event: events.Click) -> None:
        """Press the key under the pointer."""
        for start, end, key in self._spans:
            if start <= event.x < end:
                self.app.simulate_key(key)
