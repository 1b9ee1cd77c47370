"""Installed packages that sandboxed code may import, and the files of them that it can read."""

import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.errors import ConfigError

# Each with what it imports. Nothing else that is installed is ever visible: packages of one's own
# may hold data and addresses that a model has no business with.
ALLOWED: dict[str, tuple[str, ...]] = {
    "mpmath": (),
    "networkx": (),
    "numpy": (),
    "pandas": ("numpy", "python-dateutil", "six", "pytz", "tzdata"),
    "regex": (),
    "scipy": ("numpy",),
    "sortedcontainers": (),
    "sympy": ("mpmath",),
}
_OPTIONAL = frozenset({"pytz", "tzdata"})  # only some versions of pandas need them


def check(packages: Sequence[str]) -> None:
    """Check that packages may be shown and are installed; ConfigError says which is not."""
    for _ in visible(packages):
        pass


def visible(packages: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """List the files and folders that make up packages, with what these import.

    Args:
        packages: names of distributions.

    Yields:
        The name to be imported or looked up by, and where it is installed.

    Raises:
        ConfigError: a package is not on the list, or not installed.
    """
    wanted: dict[str, None] = {}
    for package in packages:
        name = re.sub(r"[-_.]+", "-", package).lower()
        if name not in ALLOWED:
            raise ConfigError(
                f"code in the sandbox may not import the package {package!r}; it may be given"
                f" {', '.join(ALLOWED)}"
            )
        wanted |= dict.fromkeys((name, *ALLOWED[name]))
    for name in wanted:
        yield from _installed(name)


def _installed(name: str) -> Iterator[tuple[str, Path]]:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        if name in _OPTIONAL:
            return
        raise ConfigError(
            f"the package {name} for code in the sandbox is not installed; run: pip install {name}"
        ) from None
    tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for top in sorted(tops):
        path = Path(str(distribution.locate_file(top)))
        if path.exists():
            yield top, path
