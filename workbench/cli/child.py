"""Child commands: run in this terminal with further variables, and left the signals."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence

from workbench.cli.options import print_message

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells say it


async def until_interrupted(announce: Callable[[], None]) -> int:
    """Wait for Ctrl-C or SIGTERM; returns the exit status 0.

    Args:
        announce: tells the user what waits; called when both signals are heard.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    announce()
    await ended.wait()
    return 0


async def run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run the command in this terminal; returns its exit status."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
    except FileNotFoundError:
        print_message(f"workbench: {command[0]} was not found; give its path")
        return _NOT_FOUND
    except OSError as error:
        print_message(f"workbench: {command[0]} cannot be started: {error.strerror or error}")
        return _NOT_EXECUTABLE
    with _left_to(process):
        status = await process.wait()
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _left_to(process: asyncio.subprocess.Process) -> Iterator[None]:
    """Leave signals to the command: Ctrl-C reaches it by itself, the others are passed on."""
    loop = asyncio.get_running_loop()

    def pass_on(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
