"""A little of what tests/benchmarks/fuzz.py does for hours, and what it has found."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.support import fuzzing
from workbench import cells, sources, toml_reader
from workbench.errors import ImportFormatError
from workbench.runner.tools import arguments
from workbench.sources.tables import mapping

DEEP = 20_000


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("name", fuzzing.NAMES)
def test_hostile_inputs_are_refused_in_our_words(name: str, tmp_path: Path) -> None:
    """No other exception, no hang, no gigabyte; the same inputs every time."""
    assert fuzzing.run(fuzzing.target(name), tmp_path, examples=60, seed=1) >= 60


def test_toml_that_is_nested_too_deeply_or_too_long_is_no_toml() -> None:
    """The library lets a RecursionError and a plain ValueError through."""
    for text in ("a = " + "[" * DEEP + "]" * DEEP, "a = " + "9" * 5_000):
        with pytest.raises(tomllib.TOMLDecodeError):
            toml_reader.toml(text)


@pytest.mark.parametrize(
    "line",
    [
        "tokens = 1",
        'tokens = [["input excludes cached"]]',
        "decimal = []",
        "[match]\nfiles = 1",
        '[columns]\nitem = { column = "i", offset = "1" }',
        '[columns]\nitem = { column = "i", offset = nan }',
        '[columns]\nitem = { column = "i", unit = [] }',
        '[columns]\nitem = { column = "i", null_if = 1 }',
        '[columns]\nitem = { column = "i", map = [] }',
        '[totals]\nt = { column = "i", of = [] }',
        '[totals]\nt = { column = "i", of = "e2e_s", how = [] }',
        '[totals]\nt = { column = "i", of = "e2e_s", tolerance = "" }',
    ],
)
def test_a_mapping_of_wrong_types_is_refused_by_name(line: str, tmp_path: Path) -> None:
    """The message names the file and the place."""
    path = tmp_path / "map.toml"
    path.write_text(line)
    with pytest.raises(ImportFormatError, match=r"^mapping map\.toml: "):
        mapping.load(path)


def test_the_help_of_mappings_is_a_mapping(tmp_path: Path) -> None:
    """What `--mapping-help` shows can be copied: each line is a key, a section or a comment."""
    assert mapping.__doc__ is not None
    path = tmp_path / "help.toml"
    path.write_text(mapping.__doc__.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert mapping.load(path).columns["difficulty"].offset == 1


def test_columns_of_yaml_may_have_numbers_for_names(tmp_path: Path) -> None:
    """They are texts to a mapping."""
    table, path = tmp_path / "t.yaml", tmp_path / "map.toml"
    table.write_text("- {1: a, task: t, 2.5: m}\n")
    path.write_text('[columns]\nitem = "1"\ntask = "task"\nmodel = "2.5"\n')
    records = list(sources.read(table, mapping=path))
    assert [r.item for r in records if type(r).__name__ == "Item"] == ["a"]


def test_a_carriage_return_among_the_names_of_columns_is_refused(tmp_path: Path) -> None:
    """It was an error of the csv library."""
    table, path = tmp_path / "t.csv", tmp_path / "map.toml"
    table.write_bytes(b"item,mo\rdel\n1,m\n")
    path.write_text('[columns]\nitem = "item"\nmodel = "model"\n')
    with pytest.raises(ImportFormatError, match="line 1"):
        list(sources.read(table, mapping=path))


@pytest.mark.parametrize("text", ["9" * 24, "9" * 400, "1" + " 000" * 110])
def test_a_number_beyond_all_times_is_no_time(text: str) -> None:
    """An overflow was no refusal."""
    with pytest.raises(ValueError, match=r"large|time|date"):
        cells.moment(text)


def test_a_number_of_four_hundred_digits_is_too_large() -> None:
    """Also with thousands set apart."""
    with pytest.raises(ValueError, match="large"):
        cells.number("1" + " 000" * 110)


def test_arguments_with_half_a_surrogate_pair_are_bad_arguments() -> None:
    """A model can write them; it is told."""
    schema = {"required": ["x", "y"], "properties": {"x": {"type": "string"}}}
    text = json.loads('"{\\"x\\": \\"\\ud800\\"}"')
    with pytest.raises(arguments.BadArguments, match="no JSON"):
        arguments.read(text, schema)
