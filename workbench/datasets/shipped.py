"""Paths of the shipped data, inside the installed package or beside it in a checkout."""

from pathlib import Path

from workbench.errors import TaskError


def data_dir() -> Path:
    """Return the folder of the shipped data: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_data", package.parent / "data"):
        if (folder / "tasks").is_dir():
            return folder
    raise TaskError(
        f"the data folder is missing: looked for {package / '_data'} and {package.parent / 'data'}"
    )


def sample_traces_dir() -> Path:
    """Return the folder of the sample traces, one Parquet file per table."""
    return data_dir() / "traces"


def by_hand_dir() -> Path:
    """Return the folder of synthetic rows for the examples that the sample traces cannot show."""
    return data_dir() / "examples"


def sample_prices() -> Path:
    """Return the price sheet that prices the sample traces."""
    return data_dir() / "prices" / "example.toml"


def task_names() -> list[str]:
    """List the names of the shipped task sets."""
    return sorted(p.stem for p in (data_dir() / "tasks").glob("*.jsonl"))
