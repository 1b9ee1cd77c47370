"""The pages of the catalogue are those that the declarations and the sample traces give; strategies
are listed."""

import re

import pytest

from tests.support import ROOT
from workbench import analysis
from workbench.cli import docs
from workbench.cli.app import main
from workbench.cli.strategies import typed
from workbench.runner import strategies

PAGES = ROOT / "notebooks" / "catalogue"
NUMBER = re.compile(r"[-−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The sample traces, and the rows made by hand."""
    return docs.Stores(tmp_path_factory.mktemp("docs"))


def numbers(text):
    """The numbers of a page, and the text without them."""
    found = [float(n.replace(",", "").replace("−", "-")) for n in NUMBER.findall(text)]
    return found, NUMBER.sub("0", text)


@pytest.mark.parametrize("name", analysis.names())
def test_a_page_is_what_its_analysis_says_and_gives(name, stores):
    """Write them anew with `workbench docs --output notebooks/catalogue`; figures may differ in
    their last digit."""
    kept, kept_text = numbers((PAGES / f"{name}.md").read_text(encoding="utf-8"))
    made, made_text = numbers(docs.page(analysis.get(name), stores))
    assert made_text == kept_text
    assert made == pytest.approx(kept, rel=2e-3, abs=1e-9)


def test_the_index_lists_every_page():
    """No page without an analysis, no analysis without a page."""
    assert (PAGES / "README.md").read_text(encoding="utf-8") == docs.index()
    pages = {p.stem for p in PAGES.glob("*.md")} - {"README"}
    assert pages == set(analysis.names())


def test_a_page_is_printed_and_pages_are_written(tmp_path, capsys):
    """One name prints; a folder gets the pages asked for; an unknown name is misuse."""
    assert main(["docs", "voting"]) == 0
    assert capsys.readouterr().out.startswith("# Voting")
    assert main(["docs", "voting", "-o", str(tmp_path / "pages")]) == 0
    assert [p.name for p in (tmp_path / "pages").iterdir()] == ["voting.md"]
    assert main(["docs", "votting"]) == 2
    assert "voting" in capsys.readouterr().err


@pytest.mark.parametrize("name", strategies.names())
def test_a_strategy_says_what_it_does(name, capsys):
    """Its own words, and every parameter with its default."""
    assert main(["strategies", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith(name)
    for parameter in strategies.get(name).params:
        assert f"    {parameter} = " in said


def test_strategies_are_listed(capsys):
    """All of them, with their parameters."""
    assert main(["strategies", "--format", "json"]) == 0
    said = capsys.readouterr().out
    assert all(f'"{name}"' in said for name in strategies.names())


def test_parameters_follow_the_name_on_the_command_line():
    """JSON where it can be, else text; none at all is a name."""
    assert typed("cot") == "cot"
    table = typed("budgeted:thinking_tokens=64,by=tags")
    assert table == {"name": "budgeted", "thinking_tokens": 64, "by": "tags"}
    assert strategies.get(**table).thinking_tokens == 64


def test_a_parameter_without_a_value_is_misuse(capsys):
    """The message says how it is typed."""
    arguments = ["collect", "--model", "m", "--task", "logic", "--strategy", "cot:shots"]
    assert main(arguments) == 2
    assert "PARAMETER=VALUE" in capsys.readouterr().err
