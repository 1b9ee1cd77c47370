"""Exit signals: the terminal's modes are restored, then the process ends by the signal.

The app's own exit waits for its threads; a signal does not. If the event loop does not restore the
terminal within `PATIENCE_S`, the signal handler does.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

if sys.platform != "win32":  # which has none of these signals
    import termios

SIGNALS = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT")
PATIENCE_S = 2.0  # time that the event loop has to restore the terminal
# kitty's keyboard, bracketed paste, mouse and focus reports off; wrap lines; main screen; cursor
_MODES = (
    "\x1b[<u\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l"
    "\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l"
    "\x1b[?2048l\x1b[?7h\x1b[?1049l\x1b[?25h"
)


@contextlib.contextmanager
def restoring(restore: Callable[[], None]) -> Iterator[None]:
    """Restore the terminal before a signal ends the process, for the length of the block.

    Args:
        restore: restores the terminal; called in the app's event loop.
    """
    if sys.platform == "win32":
        yield
        return
    restore_directly = _saved_modes()

    def leave(number: int, _: FrameType | None) -> None:
        def end() -> None:
            with contextlib.suppress(Exception):  # the process must end in any case
                restore()
            _die(number)

        def end_directly(*_: object) -> None:
            restore_directly()
            _die(number)

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the app is not in the terminal yet, or no longer
            _die(number)
        signal.signal(signal.SIGALRM, end_directly)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        loop.call_soon_threadsafe(end)

    before = {number: signal.signal(number, leave) for number in map(_number, SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _number(name: str) -> signal.Signals:
    return signal.Signals[name]


def _saved_modes() -> Callable[[], None]:
    """Return a function that restores the terminal's present modes without the app."""
    attributes: list[Any] | None = None
    with contextlib.suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.__stdin__)  # type: ignore[arg-type]  # None raises

    def restore() -> None:
        with contextlib.suppress(OSError, ValueError, termios.error):
            os.write(2, _MODES.encode())
            if attributes is not None:
                termios.tcsetattr(0, termios.TCSANOW, attributes)

    return restore


def _die(number: int) -> NoReturn:
    """End the process by the signal's default action."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where the signal is blocked
