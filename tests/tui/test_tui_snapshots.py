"""What the main screens look like at 80 × 24 and at 120 × 40; pictures are compared whole."""

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.support.screens import settle, until
from workbench.tui.app import WorkbenchApp
from workbench.tui.empty import EmptyScreen

SMALL, LARGE = (80, 24), (120, 40)
KEYS: dict[str, tuple[str, ...]] = {
    "explore": ("down",),
    "slice": ("slash", *"task:lo"),
    "traces": ("enter",),
    "trace": ("enter", "w", "enter", "f"),
    "compare": ("m", "G", "c"),
    "sql": ("colon",),
    "copy": ("y",),
    "help": ("question_mark",),
    "runs": ("r", "p"),
    "diff": ("enter", "d", *("down",) * 3, "enter"),
}
BOTH = ("explore", "traces", "trace")
CASES = [(name, SMALL) for name in KEYS if name != "slice"]
CASES += [(name, LARGE) for name in (*BOTH, "slice")]
CASES += [("diff", (140, 40))]


@pytest.mark.parametrize(("name", "size"), CASES, ids=[f"{n}-{w}x{h}" for n, (w, h) in CASES])
def test_screens_look_as_they_did(
    snap_compare,
    app: WorkbenchApp,
    name: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A changed picture is a changed product: look at it, then update it."""
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr("textual.widgets.TextArea.cursor_blink", False)

    async def keys(pilot: Pilot[None]) -> None:
        while app.opened is None:
            await pilot.pause(0.02)
        await settle(pilot)
        for key in KEYS[name]:
            await pilot.press(key)
            await settle(pilot)
        app.screen.set_focus(app.screen.focused)

    assert snap_compare(app, terminal_size=size, run_before=keys)


def test_a_missing_store_looks_as_it_did(
    snap_compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page is readable in the smallest terminal."""
    monkeypatch.chdir(tmp_path)
    app = WorkbenchApp("traces.duckdb")

    async def wait(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: isinstance(app.screen, EmptyScreen))
        await settle(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=wait)
