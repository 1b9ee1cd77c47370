"""CONTRIBUTING.md, README.md and SECURITY.md name files that are there."""

import re

import pytest

from tests.support import ROOT

PAGES = {"CONTRIBUTING.md": 60, "README.md": 5, "SECURITY.md": 3}
# where a name begins that can only be a file or folder of this repository
TOPS = ("workbench", "widgets", "tests", "data", "notebooks", ".ci")
# what a command writes
WRITTEN = {"build/sbom.json"}


def named(text: str) -> set[str]:
    """Files and folders that a page names: in backticks, in drawings and as link targets."""
    spans = re.findall(r"`([^`\n]+)`", text)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    drawings = "\n".join(block for language, block in blocks if not language)
    drawn = re.findall(r"[\w./-]+", drawings)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    tops = "|".join(map(re.escape, TOPS))
    path = rf"(?:{tops})/[\w./-]*|[\w-]+(?:/[\w.-]+)*\.(?:py|md|lock|toml)"
    return {name for name in (*spans, *drawn) if re.fullmatch(path, name)} | set(links)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    """A file that moves takes its name on the pages with it."""
    names = named((ROOT / page).read_text(encoding="utf-8")) - WRITTEN

    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
    assert len(names) >= PAGES[page], "the page names fewer files than it did: are they still read?"


def test_a_file_that_is_not_there_is_noticed():
    """In a sentence, in a drawing, as a link; a pattern, a command and an address are none."""
    text = (
        "`workbench/gone.py`, `gone.md` and [a page](data/gone.md)\n```\ntests/gone/  drawn\n```\n"
    )
    others = "`workbench tui` `mine.py:Mine` `/` `*.eval` [out](https://a.example/b.md) `e2e_s`"

    assert named(text) == {"workbench/gone.py", "gone.md", "data/gone.md", "tests/gone/"}
    assert named(others) == set()


def test_the_tour_names_every_layer():
    """The drawing of the house holds every package and top-level module that has a layer."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    house = text[text.index("## The house") : text.index("### The way of one trace")]
    folders = [p for p in (ROOT / "workbench").iterdir() if (p / "__init__.py").is_file()]

    assert [p.name for p in folders if f"workbench/{p.name}/" not in house] == []


def test_the_readme_stays_readable():
    """200 lines at most; figures and long tables have pages of their own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
