"""Phase bar: one line that shows a trace's time by phase."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from workbench.formats import count, seconds
from workbench.tui.timeline import Share

PHASES = ("prefill", "thinking", "answer", "call", "tools", "other")


class PhaseBar(Widget):
    """Phases as coloured stretches, as long as their share of the time."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"phase--{phase}" for phase in PHASES}

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shares: Sequence[Share] | None = None

    def show(self, shares: Sequence[Share]) -> None:
        """Show other phases."""
        self._shares = shares
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw the only line."""
        width = self.size.width
        if y or self._shares is None:
            return Strip.blank(width, self.rich_style)
        total = sum(share.s or 0 for share in self._shares)
        if not total:
            return Strip([Segment(" no times were recorded", self.rich_style)]).adjust_cell_length(
                width
            )
        labels = [self._labels(share) for share in self._shares]
        sizes = self._sizes([found[0] for found in labels], total)
        segments = []
        for share, found, size in zip(self._shares, labels, sizes, strict=True):
            style = self.get_component_rich_style(f"phase--{share.phase}")
            text = next((f" {label} " for label in found if cell_len(label) + 2 <= size), "")
            segments.append(Segment(set_cell_size(text, size), style))
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    @staticmethod
    def _labels(share: Share) -> tuple[str, ...]:
        """Return what may stand on a stretch, the longest first."""
        tokens = f" {count(share.tokens)} tok" if share.tokens is not None else ""
        time = f"{seconds(share.s)} s"
        return f"{share.phase}{tokens} · {time}", f"{share.phase} {time}", time, share.phase

    def _sizes(self, labels: Sequence[str], total: float) -> list[int]:
        """Divide the width by time, a cell per phase at least; labels stay if they fit."""
        width = self.size.width
        shares = [share.s or 0 for share in self._shares or ()]
        least = [min(len(label) + 2, width // (2 * len(labels))) for label in labels]
        if sum(len(label) + 2 for label in labels) <= width * 2 // 3:
            least = [len(label) + 2 for label in labels]
        spare = width - sum(least)
        sizes = [low + int(spare * s / total) for low, s in zip(least, shares, strict=True)]
        sizes[shares.index(max(shares))] += width - sum(sizes)
        return sizes
