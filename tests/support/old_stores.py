"""Stores as earlier versions left them."""

from pathlib import Path

import duckdb

from tests.support import ROOT
from workbench import datasets

LAYOUT_1 = ROOT / "tests" / "layouts" / "layout_1.sql"


def old_store(folder: Path) -> Path:
    """A store that version 0.1 made, with the sample traces as that version exported them."""
    path = folder / "old.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(LAYOUT_1.read_text())
        for file in sorted(datasets.sample_traces_dir().glob("*.parquet")):
            known = connection.execute(f"DESCRIBE FROM {file.stem}").fetchall()
            columns = ", ".join(f'"{row[0]}"' for row in known)
            connection.execute(f"INSERT INTO {file.stem} SELECT {columns} FROM '{file}'")
    return path
