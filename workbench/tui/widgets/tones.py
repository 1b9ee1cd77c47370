"""Tones: colours of drawn text, from the theme's style sheet."""

from typing import TYPE_CHECKING

from rich.style import Style

if TYPE_CHECKING:
    from textual.widget import Widget as _Base
else:
    # a mixin must be no widget itself: Textual takes the default styles of one base only
    _Base = object


class Toned(_Base):
    """Mixed into a widget that draws cells itself."""

    def tone(self, component: str) -> Style:
        """Return the colour and weight of a component class, blended with the widget's ground."""
        tones: dict[str, Style] = self.__dict__.setdefault("_tones", {})
        if component not in tones:
            style = self.get_component_rich_style(component)
            tones[component] = Style(color=style.color, bold=style.bold, italic=style.italic)
        return tones[component]

    def notify_style_update(self) -> None:
        """Forget the colours when the theme or the sheet changes."""
        self.__dict__.pop("_tones", None)
        super().notify_style_update()
