"""Examples of `--help`: every command gives at least two command lines, and they run."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from workbench.cli import main
from workbench.cli.app import cli
from workbench.store import demo_store, open_store

# These need a terminal, a server, a program or a live run: they are parsed, not run.
PARSED_ONLY = (
    ("tui",),
    ("record",),
    ("listen",),
    ("watch",),
    ("runs", "pause"),
    ("runs", "resume"),
    ("runs", "stop"),
    ("runs", "set"),
    ("runs", "cancel"),
    ("runs", "requeue"),
    ("runs", "watch"),
    ("demo", "samples.duckdb"),
)
BUCKET = "1793577600,1793664000,2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00"
TIMES = "start_time,end_time,start_time_iso,end_time_iso"
DAY = {
    "date": "2026-11-02",
    "model": "openai/gpt-5",
    "model_permaslug": "openai/gpt-5",
} | dict.fromkeys(
    ("usage", "byok_usage_inference", "requests", "prompt_tokens", "completion_tokens"), 1
)
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "gpt-5",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 120, "completion_tokens": 900, "total_tokens": 1020},
}
BATCH = {
    "id": "b1",
    "custom_id": "1",
    "response": {"status_code": 200, "request_id": "r1", "body": BODY},
    "error": None,
}
FILES = {
    "sheet.toml": '[[price]]\nmodel = "my-machine"\nmachine_usd_per_hour = 0.05\n',
    "sheet.csv": "model,input_usd_per_mtok,output_usd_per_mtok\nmine,1,2\n",
    "machines.toml": '[[accelerator]]\naccelerator = "mine"\ntdp_w = 300\n',
    "aliases.toml": '[[alias]]\nmodel = "prod"\ncanonical_model = "gpt-4o"\n',
    "my.csv": "question,answer\n1 + 1?,2\n",
    "plan.toml": 'models = [{ model = "m", base_url = "http://127.0.0.1:9/v1" }]\n'
    'tasks = ["arithmetic"]\nlimit = 6\n',
    "results.csv": "q,who,what,ok\n1,m,t,true\n",
    "mapping.toml": 'kind = "traces"\n[columns]\nitem = "q"\nmodel = "who"\ntask = "what"\n'
    'passed = "ok"\n',
    "activity.json": json.dumps({"data": [DAY]}),
    "usage.csv": f"{TIMES},project_id,num_model_requests,api_key_id,model,input_tokens,"
    f"output_tokens,input_cached_tokens\n{BUCKET},Default,1.0,k,gpt-5,10,5,0\n",
    "costs.csv": f"{TIMES},amount_value,amount_currency,line_item,project_id\n"
    f'{BUCKET},0.01,usd,"gpt-5, output",Default\n',
    "logs/batch.jsonl": json.dumps(BATCH) + "\n",
    ".claude/projects/session.jsonl": "",
    ".codex/sessions/rollout.jsonl": "",
}


def commands(
    command: click.Command, words: tuple[str, ...] = (), parent: click.Context | None = None
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands with the words that call them, those of groups included."""
    context = click.Context(command, info_name=words[-1] if words else "workbench", parent=parent)
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*words, name), context)


def examples_of(command: click.Command) -> list[list[str]]:
    """The words of each line in the Examples section of a command."""
    text = command.epilog or ""
    assert text.startswith("\b\nExamples:\n"), command.name
    return [shlex.split(line) for line in text.splitlines()[2:]]


COMMANDS = dict(commands(cli))
EXAMPLES = {
    shlex.join(words): words[1:]
    for command in COMMANDS.values()
    for words in examples_of(command)
    if "COMMAND" not in words
}


def is_run(words: list[str]) -> bool:
    """Whether the example is run here; the catalogue pages run those of single analyses."""
    if words[0] == "analyze":
        return words[1] in {"--list", "frontier"}
    if words[0] == "collect":  # else it needs a server
        return "--dry-run" in words
    return not any(words[: len(start)] == list(start) for start in PARSED_ONLY)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name, and the sample traces as the store."""
    folder = tmp_path_factory.mktemp("samples")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    demo_store(folder / "traces.duckdb")
    open_store(folder / "other.duckdb", create=True)
    return folder


@pytest.fixture(autouse=True)
def _in_folder(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)
    monkeypatch.setenv("WORKBENCH_STORE", str(samples / "traces.duckdb"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_gives_two_examples_of_itself(command: click.Command) -> None:
    """Also the commands of groups, and those that are made from declarations of analyses."""
    examples = examples_of(command)

    assert len(examples) >= 2
    assert all(words[0] == "workbench" for words in examples)
    (path,) = [path for path, other in COMMANDS.items() if other is command]
    for words in examples if path and path != ("version",) else ():
        assert tuple(words[1 : 1 + len(path)]) == path


@pytest.mark.parametrize("line", [t for t, words in EXAMPLES.items() if not is_run(words)])
def test_an_example_is_parsed(line: str) -> None:
    """Names of commands, options and the types of their values, without a run of the command."""
    context, command = None, cli
    words = [word.replace("~/", "") for word in EXAMPLES[line]]  # as a shell does, in this folder
    while True:
        context = click.Context(command, parent=context) if context else click.Context(cli)
        if not isinstance(command, click.Group):
            break
        name, command, words = command.resolve_command(context, words)
        assert command is not None, name
    with command.make_context(command.name, words, parent=context.parent) as made:
        assert made.command is command


@pytest.mark.parametrize("line", [t for t, words in EXAMPLES.items() if is_run(words)])
def test_an_example_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0; with --check also 1, as the sample files differ from the sample traces."""
    status = main(EXAMPLES[line])

    captured = capsys.readouterr()
    assert status in ({0, 1} if "--check" in line else {0}), captured.err
    assert "error:" not in captured.err
    assert captured.out or captured.err
