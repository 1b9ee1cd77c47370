"""Write the manifests of the shipped exports from their files: `python data/describe_exports.py`.

`workbench export` writes one itself; this is for files that were exported before it did, and for
editing by hand.
"""

from pathlib import Path

import polars as pl

from workbench import schema
from workbench.store import exports


def main() -> None:
    """Describe the files as they are."""
    for folder in (Path(__file__).parent / name for name in ("traces", "examples")):
        files = {name: folder / f"{name}.parquet" for name in schema.TABLES}
        rows = {
            name: pl.scan_parquet(file, glob=False).select(pl.len()).collect().item()
            if file.is_file()
            else 0
            for name, file in files.items()
        }
        exports.write_manifest(folder, exports.describe(folder, rows))


if __name__ == "__main__":
    main()
