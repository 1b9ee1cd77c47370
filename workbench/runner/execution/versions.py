"""Versions of the software that a launch runs with."""

import contextlib
import importlib.metadata
import platform

from workbench.records import json_text

_PACKAGES = ("trace-workbench", "httpx", "httpx-aiohttp", "aiohttp")


def versions() -> str:
    """Return the versions of Python and of the packages that send requests, as JSON."""
    numbers = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            numbers[name] = importlib.metadata.version(name)
    return json_text(numbers)
