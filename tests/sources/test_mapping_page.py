"""The page of `workbench docs mapping`: each example gives what the page says."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT
from workbench import sources
from workbench.sources import FileReport
from workbench.store import open_store

PAGE = ROOT / "workbench" / "sources" / "tables" / "mapping.md"


class Example(NamedTuple):
    """Files, the first of which is imported, a mapping, a query, and what it prints."""

    files: dict[str, str]
    mapping: str
    query: str
    answer: str


def examples() -> list[Example]:
    """The examples of the page, in its order."""
    blocks = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    found: list[Example] = []
    files: dict[str, str] = {}
    mapping = query = ""
    for language, name, text in blocks:
        if name:
            files[name] = text
        elif language == "toml":
            mapping = text
        elif language == "sql":
            query = text
        else:
            found.append(Example(files, mapping, query, text))
            files = {}
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: next(iter(example.files)))
def test_an_example_gives_what_the_page_says(example: Example, tmp_path: Path) -> None:
    """The file is imported with its mapping, the query is asked."""
    for name, text in example.files.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / next(iter(example.files))
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(example.mapping)
    report = FileReport(path)
    store = open_store(tmp_path / "traces.duckdb", create=True)
    store.ingest(sources.read(path, report=report, mapping=mapping))
    again = store.ingest(sources.read(path, mapping=mapping))
    answer = store.sql(example.query).write_csv()

    assert answer == example.answer
    assert report.is_accounted_for
    assert not report.mismatches.n
    assert not any(again.rows_new.values())


def test_the_page_has_examples() -> None:
    """They are found at all."""
    assert len(examples()) >= 10
