"""Files of a trajectory's folder; a link that leads out of the folder is not followed."""

from pathlib import Path


def within(folder: Path, *patterns: str) -> list[Path]:
    """Return the regular files of a folder that match one of the patterns, sorted.

    Args:
        folder: the folder.
        patterns: as for `Path.glob`, relative to the folder.
    """
    root = folder.resolve()
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.resolve().is_relative_to(root))
