"""Picture of the app as SVG: `python -m workbench.tui.picture STORE OUT.svg`."""

import asyncio
import sys
from pathlib import Path

from workbench import private
from workbench.tui.app import WorkbenchApp
from workbench.tui.explore import ExploreScreen

SIZE = (120, 34)
MAX_WAIT_S = 60.0


async def _draw(store: Path, keys: tuple[str, ...], size: tuple[int, int]) -> str:
    app = WorkbenchApp(store)
    async with app.run_test(size=size) as pilot:

        async def settled() -> None:
            await pilot.pause()
            for _ in range(int(MAX_WAIT_S / 0.05)):
                await pilot.pause(0.05)
                if app.opened is not None and not getattr(app.screen, "is_busy", False):
                    return

        await settled()
        for key in keys:
            await pilot.press(key)
            await settled()
        if isinstance(app.screen, ExploreScreen):
            app.screen.set_focus(app.screen.grid)
        return app.export_screenshot(title="workbench tui")


def picture(
    store: Path, out: Path, keys: tuple[str, ...] = (), size: tuple[int, int] = SIZE
) -> None:
    """Write the screen of the app as an SVG, after some keys.

    Args:
        store: the store's file.
        out: the picture's file.
        keys: names of keys to press, for example ("enter",) for the traces.
        size: columns and lines of the terminal.
    """
    private.write_text(out, asyncio.run(_draw(store, keys, size)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("python -m workbench.tui.picture STORE OUT.svg [KEY…]")
    picture(Path(sys.argv[1]), Path(sys.argv[2]), tuple(sys.argv[3:]))
