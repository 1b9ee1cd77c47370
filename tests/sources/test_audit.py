"""notebooks/formats.md says of each shipped source where its facts go and what is lost."""

import re
from pathlib import Path

import pytest

from workbench import schema, sources

PAGE = Path(__file__).parents[2] / "notebooks" / "formats.md"
# read before the page was begun; each leaves the set with its section
NOT_YET = {"batch", "evalplus", "inspect"}


def sections() -> dict[str, str]:
    """The text of each format's section."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_shipped_source_has_a_section() -> None:
    """And no section is of a format that is not there."""
    assert set(sections()) | NOT_YET >= set(sources.shipped_names())
    assert set(sections()) <= set(sources.shipped_names())


@pytest.mark.parametrize("name", list(sections()))
def test_a_section_names_columns_that_exist_and_what_is_lost(name: str) -> None:
    """A fact goes to a column of the schema."""
    text = sections()[name]
    columns = re.findall(r"`([a-z_]+)\.([a-z0-9_]+)`", text)
    known = {(t.name, c.name) for t in schema.TABLES.values() for c in t.columns}

    assert columns
    assert [pair for pair in columns if pair[0] in schema.TABLES and pair not in known] == []
    assert "Lost:" in text


def test_the_readme_names_every_shipped_source() -> None:
    """As people write the name: ML.ENERGY, tau-bench."""
    text = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    words = re.sub(r"[-._]", " ", text).lower()
    named = [name for name in sources.shipped_names() if name.replace("-", " ") in words]
    assert named == list(sources.shipped_names())
