"""Saving of reports to files, in the format of the suffix."""

from collections.abc import Callable
from pathlib import Path

from workbench import private
from workbench.errors import ConfigError
from workbench.report.contents import Report
from workbench.report.latex import as_latex
from workbench.report.markdown import as_markdown
from workbench.report.page import as_html

_WRITERS: dict[str, Callable[[Report], str]] = {
    ".html": as_html,
    ".md": as_markdown,
    ".tex": as_latex,
}
SUFFIXES = tuple(_WRITERS)


def written(report: Report, suffix: str) -> str:
    """Write a report as text, in the format of a suffix.

    Raises:
        ConfigError: a suffix that is not one of `SUFFIXES`.
    """
    if suffix not in _WRITERS:
        raise ConfigError(f"no report format has the suffix {suffix!r}; use {' '.join(SUFFIXES)}")
    return _WRITERS[suffix](report)


def save(report: Report, path: str | Path) -> Path:
    """Write a report to a file; see `written`."""
    target = Path(path)
    text = written(report, target.suffix.lower())
    private.write_text(target, text)
    return target
