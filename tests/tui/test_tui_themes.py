"""A screen after a switch of themes looks as if it had been opened under the new one."""

from pathlib import Path

import pytest

from workbench.tui.app import WorkbenchApp

from .test_tui_screens import opened, press, settle

KEYS: dict[str, tuple[str, ...]] = {
    "explore": ("down", "m"),
    "slice": ("slash", *"task:lo"),
    "traces": ("enter", "w"),
    "trace": ("enter", "enter"),
    "diff": ("enter", "d", "down", "enter"),
    "compare": ("m", "G", "c"),
    "catalogue": ("a", "f5"),
    "sql": ("colon",),
    "copy": ("y",),
    "help": ("question_mark",),
    "runs": ("r",),
    "under another": ("enter",),
}


async def picture(path: Path, name: str, first: str, then: str | None) -> str:
    """Draw a screen under a theme, perhaps after switching to it from another."""
    app = WorkbenchApp(path)
    app.theme = first
    async with opened(app, (124, 40)) as pilot:
        await press(pilot, *KEYS[name])
        if then is not None:
            app.theme = then
            await pilot.pause(0.1)
            await settle(pilot)
        if name == "under another":
            await press(pilot, "escape")
        app.screen.set_focus(app.screen.focused)
        await pilot.pause(0.1)
        return "\n".join(
            str([(segment.text, segment.style) for segment in strip])
            for strip in app.screen._compositor.render_strips()
        )


@pytest.mark.parametrize("name", KEYS)
async def test_a_screen_takes_the_colours_of_another_theme(
    store_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, charts, verdicts and pages: every cell has the colours of the theme in force."""
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr("textual.widgets.TextArea.cursor_blink", False)
    fresh = await picture(store_path, name, "workbench-light", None)
    switched = await picture(store_path, name, "workbench-dark", "workbench-light")

    assert switched.split("\n") == fresh.split("\n")
