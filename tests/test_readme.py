"""README.md: its commands run, its blocks are read, its tables name what the registries hold."""

import json
import re
import shlex
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

from tests.support import ROOT
from workbench import analysis, scoring
from workbench.cli import main
from workbench.cli.app import cli
from workbench.runner import strategies
from workbench.slice import Slice
from workbench.store import demo_store, open_store

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
LINES = [
    re.sub(r"\s+#\s.*", "", line)
    for language, block in BLOCKS
    if language == "console"
    for line in block.replace("\\\n", " ").splitlines()
]
TYPED = [line.removeprefix("$ ") for line in LINES]
TYPED += re.findall(r"^\| [^|]*\? \| `([^`]*)` \|$", TEXT, re.MULTILINE)
COMMANDS = [line for line in TYPED if line.startswith("workbench ")]
# a terminal, a server, a program, a model or a live run: these are parsed, not run
PARSED_ONLY = (
    "tui",
    "collect --base-url",
    "collect --endpoint local",
    "runs pause",
    "record",
    "listen",
    "watch",
)


def is_run(command: str) -> bool:
    """Whether the command can end by itself here."""
    rest = command.removeprefix("workbench ")
    return not rest.startswith(PARSED_ONLY) and "--pilot" not in rest


def block(language: str) -> str:
    """The one block of a language."""
    (text,) = [text for name, text in BLOCKS if name == language]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names, and the sample traces as the store."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "logs").mkdir()
    head = {
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": "r",
            "created": "2026-01-01T00:00:00+00:00",
            "task": "t",
            "model": "m/m",
            "dataset": {},
            "config": {},
        },
    }
    sample = {"id": "a", "epoch": 1, "input": "q", "target": "x", "scores": {"s": {"value": "C"}}}
    with zipfile.ZipFile(folder / "logs" / "one.eval", "w") as log:
        log.writestr("header.json", json.dumps(head))
        log.writestr("samples/a_epoch_1.json", json.dumps(sample | {"messages": []}))
    (folder / "mapping.toml").write_text(block("toml"), encoding="utf-8")
    (folder / "results.csv").write_text(
        "model,benchmark,question_id,temperature,points,cost,prompt_version,judge\n"
        "m,b,q1,0.5,95,0.01,v1,7.5\n"
    )
    (folder / "my.csv").write_text("question,answer\n1 + 1?,2\n")
    times = "start_time,end_time,start_time_iso,end_time_iso"
    bucket = "1793577600,1793664000,2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00"
    (folder / "usage.csv").write_text(
        f"{times},project_id,num_model_requests,api_key_id,model,input_tokens,output_tokens,"
        f"input_cached_tokens\n{bucket},Default,1.0,k,gpt-5,10,5,0\n"
    )
    (folder / "data" / "plans").mkdir(parents=True)
    plan = (ROOT / "data" / "plans" / "example.toml").read_text(encoding="utf-8")
    (folder / "data" / "plans" / "example.toml").write_text(plan, encoding="utf-8")
    demo_store(folder / "traces.duckdb")
    return folder


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the working directory, with its store as the default."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WORKBENCH_STORE", str(folder / "traces.duckdb"))
    return folder


def test_the_page_is_read() -> None:
    """As many commands as there are; fewer means that the pattern above no longer fits."""
    assert len(COMMANDS) >= 20
    assert sum(map(is_run, COMMANDS)) >= 15


@pytest.mark.parametrize("command", [c for c in COMMANDS if is_run(c)])
def test_a_command_runs(command: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, in the folder that the page assumes."""
    words = shlex.split(command)[1:]
    words = [w for word in words for w in (sorted(map(str, Path().glob(word))) or [word])]

    status = main(words)

    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert captured.out or captured.err


@pytest.mark.parametrize("command", [c for c in COMMANDS if not is_run(c)])
def test_a_command_is_parsed(command: str, in_folder: Path) -> None:
    """Names of commands and options, and the types of their values."""
    context, known, words = click.Context(cli), cli, shlex.split(command)[1:]
    while isinstance(known, click.Group):
        name, known, words = known.resolve_command(context, words)
        assert known is not None, name
        context = click.Context(known, parent=context)
    known.make_context(known.name, words, parent=context.parent).close()


def test_make_and_pip_know_what_is_typed() -> None:
    """Targets of the Makefile, extras of the project, files that are there."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made = [line.split()[1] for line in TYPED if line.startswith("make ")]
    extras = re.findall(r"'\.\[(\w+)\]'", TEXT)

    assert made
    assert set(made) <= set(targets)
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])
    assert (ROOT / "requirements.lock").exists()


def test_the_python_block_runs(in_folder: Path) -> None:
    """It opens the store of the folder and names nothing that is not there."""
    names: dict[str, object] = {}

    exec(compile(block("python"), "README.md", "exec"), names)

    assert type(names["panel"]).__name__ == "Explorer"


def test_the_slice_is_read(folder: Path) -> None:
    """Every term of the block, and the examples beside it, on the sample traces."""
    (text,) = [text for language, text in BLOCKS if not language]
    store = open_store(folder / "traces.duckdb")

    assert store.count(Slice.parse(text.strip())) >= 0
    for where in ("params.docs>3", "settings.batch_size:8", "metrics.rubric>=7"):
        assert f"`{where}`" in TEXT
        assert Slice.parse(where)  # the sample traces have no such fields
    for flag in ("right", "wrong", "failed", "replaced", "unscored", "unpriced"):
        assert f"`{flag}`" in TEXT
        assert store.count(Slice.parse(flag)) >= 0


def names_in(table: str) -> list[list[str]]:
    """The names in backticks in the second column of a table, row by row; remarks left out."""
    rows = re.findall(rf"^\| {table}.*?\n((?:\|.*\n)+)", TEXT, re.MULTILINE)[0].splitlines()[1:]
    cells = [re.sub(r"\(.*?\)", "", row.split("|")[2]) for row in rows]
    return [re.findall(r"`([\w-]+)`", cell) for cell in cells]


def test_the_table_of_strategies_is_the_registry() -> None:
    """Each strategy once."""
    named = sorted(name for row in names_in("strategies") for name in row)

    assert named == sorted(strategies.names())


def test_the_table_of_analyses_is_the_registry() -> None:
    """Each analysis once, those of one family in one row; the number in the text is theirs."""
    rows = names_in("about")
    families = [{analysis.get(name).family for name in row} for row in rows]

    assert sorted(name for row in rows for name in row) == sorted(analysis.names())
    assert all(len(family) == 1 for family in families)
    assert f"Each of the {len(analysis.names())} takes" in TEXT


def test_the_scorers_are_named() -> None:
    """Every scorer that ships."""
    (sentence,) = re.findall(r"^Scorers: (.*?)^$", TEXT, re.DOTALL | re.MULTILINE)

    assert {name for name in scoring.names() if f"`{name}`" not in sentence} == set()
