"""A screen after a switch of themes looks as if it had been opened under the new one."""

from pathlib import Path

import pytest

from tests.support.screens import opened, press, settle
from workbench.tui.app import WorkbenchApp

KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # there, and back to the first screen
    "explore": (("down", "m"), ("m", "up")),
    "traces": (("enter", "w"), ("escape",)),
    "trace": (("enter", "enter"), ("escape", "escape")),
    "diff": (("enter", "d", "down", "enter"), ("escape", "escape", "escape")),
    "compare": (("m", "G", "c"), ("escape",)),
    "catalogue": (("a", "f5"), ("escape",)),
    "sql": (("colon",), ("escape",)),
    "copy": (("y",), ("escape",)),
    "help": (("question_mark",), ("escape",)),
    "runs": (("r",), ("escape",)),
    "under another": (("enter",), ()),
    "slice": (("slash", *"task:lo"), ()),
}


async def pictures(path: Path, first: str, then: str | None) -> dict[str, list[str]]:
    """Draw every screen under a theme, perhaps after switching to it from another on the screen."""
    app, drawn = WorkbenchApp(path), {}
    app.theme = first
    async with opened(app, (124, 40)) as pilot:
        for name, (there, back) in KEYS.items():
            await press(pilot, *there)
            if then is not None:
                app.theme = then
                await pilot.pause(0.1)
                await settle(pilot)
            if name == "under another":
                await press(pilot, "escape")
            app.screen.set_focus(app.screen.focused)
            await pilot.pause(0.1)
            drawn[name] = [
                str([(segment.text, segment.style) for segment in strip])
                for strip in app.screen._compositor.render_strips()
            ]
            app.theme = first
            await press(pilot, *back)
            assert app.screen is app.screen_stack[0], f"{name} is not left by {back}"
    return drawn


async def test_a_screen_takes_the_colours_of_another_theme(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, charts, verdicts and pages: every cell has the colours of the theme in force."""
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr("textual.widgets.TextArea.cursor_blink", False)
    fresh = await pictures(store_path, "workbench-light", None)
    switched = await pictures(store_path, "workbench-dark", "workbench-light")

    assert len({str(picture) for picture in fresh.values()}) == len(KEYS)
    for name in KEYS:
        assert switched[name] == fresh[name], name
