"""A stranger's plan: what it names is run and sent only after the user trusted it, once."""

import asyncio
import importlib.util
import io
import json
import marshal
import os
import stat
from pathlib import Path

import pytest

from tests.support.runner_stub import DONE, Stub, delta, stream, usage
from workbench import config
from workbench.cli import main
from workbench.errors import ConfigError
from workbench.external_code import locate
from workbench.runner import Plan, collect, expand
from workbench.runner.planning.plan import Typed
from workbench.spool import SpoolWriter
from workbench.trust import Gate, load_trusted, to_run, to_send_key

STRATEGY = """
from pathlib import Path
import aid
from workbench.runner.attempts.session import Outcome

Path(__file__).with_name("ran").touch()


class Mine:
    name = "mine"

    async def run(self, session, item):
        return Outcome((await session.generate([{"role": "user", "content": aid.WORD}])).text)
"""
SCORER = """
from pathlib import Path
Path(__file__).with_name("ran").touch()

def score(item, text): return True
"""
ROW = '{"input": "2+2?", "target": "4"}\n'
KEY = "sk-the-key-of-the-user"


def answer(seen):
    return stream(
        delta("Answer: 4"),
        delta(finish="stop"),
        usage(prompt_tokens=9, completion_tokens=2),
        DONE,
    )


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """A folder from somebody else; the user is in another one, and has a key."""
    folder, here = tmp_path / "strange", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (folder / "evil.py").write_text(SCORER)
    (folder / "mine.py").write_text(STRATEGY)
    (folder / "aid.py").write_text('WORD = "please"\n')
    (folder / "q.jsonl").write_text(ROW)
    (folder / "named.jsonl").write_text('{"task": "n", "scorer": "evil:score"}\n' + ROW)
    (folder / "beside.jsonl").write_text(ROW)
    (folder / "beside.toml").write_text('scorer = "evil.py:score"\n')
    (folder / "row.jsonl").write_text(ROW.replace("}", ', "scorer": "evil:score"}'))
    monkeypatch.chdir(here)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return folder


@pytest.fixture
def run(capsys):
    """Run a command; returns status and stderr."""

    def call(*words):
        status = main([*map(str, words)])
        return status, capsys.readouterr().err

    return call


def write(folder: Path, url: str, **more: str) -> Path:
    """Write a plan; `more` are further settings as TOML."""
    settings = {
        "models": '["m"]',
        "base_url": json.dumps(url),
        "tasks": '["q.jsonl"]',
        "strategies": '["direct"]',
        "retries": "0",
    } | more
    path = folder / "plan.toml"
    path.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    return path


NAMING = {
    "a scorer of the plan": {"tasks": '[{path = "q.jsonl", scorer = "evil:score"}]'},
    "a scorer of the file": {"tasks": '["named.jsonl"]', "allow_code": "true"},
    "a scorer beside the file": {"tasks": '["beside.jsonl"]', "allow_code": "true"},
    "a scorer of a row": {"tasks": '["row.jsonl"]', "allow_code": "true"},
    "a table that allows code": {"tasks": '[{path = "named.jsonl", allow_code = true}]'},
    "a strategy": {"strategies": '["mine.py:Mine"]', "allow_code": "true"},
    "a strategy of a module": {"strategies": '[{name = "mine:Mine"}]'},
    "a key": {"api_key_env": '"OPENAI_API_KEY"'},
}


@pytest.mark.parametrize("more", NAMING.values(), ids=NAMING)
def test_what_only_the_user_can_allow_is_neither_run_nor_sent_before(strange, run, more):
    """Dry run, tasks and a collection that nobody answers: the first two say what it would be."""
    with Stub(answer) as stub:
        plan = write(strange, stub.url, **more)
        dry, said = run("collect", plan, "--dry-run", "--store", "s.duckdb")
        looked, _ = run("tasks", plan)
        refused, why = run("collect", plan, "--store", "s.duckdb")
        seen = stub.n_connections

    assert (dry, looked, refused, seen) == (0, 0, 1, 0)
    assert not (strange / "ran").exists()
    assert "not trusted yet, and asked before it is collected" in said
    assert "give --trust" in why
    wanted = stub.url if "api_key_env" in more else str(strange)
    assert wanted in said
    assert wanted in why
    assert KEY not in said + why


@pytest.mark.parametrize("more", NAMING.values(), ids=NAMING)
def test_it_is_trusted_once_and_again_when_it_changes(strange, run, more):
    """`--trust` is the answer of scripts; without it the same plan runs from then on."""
    with Stub(answer) as stub:
        plan = write(strange, stub.url, **more)
        words = ("collect", plan, "--store")
        first = run(*words, "a.duckdb", "--trust")
        second = run(*words, "b.duckdb")
        for name in ("evil.py", "mine.py"):
            (strange / name).write_text((strange / name).read_text() + "# more\n")
        write(strange, stub.url.replace("127.0.0.1", "localhost"), **more)
        third = run(*words, "c.duckdb")

    assert (first[0], second[0], third[0]) == (0, 0, 1), (first, second, third)
    assert "note: trusted until it changes: " in first[1]
    assert "trusted until" not in second[1]
    assert "give --trust" in third[1]


def test_what_code_imports_from_its_folder_is_part_of_it(strange, run):
    """The file that a plan names may be as harmless as you like."""
    with Stub(answer) as stub:
        plan = write(strange, stub.url, strategies='["mine.py:Mine"]')
        assert run("collect", plan, "--store", "a.duckdb", "--trust")[0] == 0
        (strange / "aid.py").write_text('WORD = "now"\n')
        status, err = run("collect", plan, "--store", "b.duckdb")

    assert status == 1
    assert "(and 1 more of that folder, which it imports)" in err


@pytest.mark.parametrize("said", ["y\n", "n\n", "\n"])
def test_a_person_is_asked_in_words(strange, run, monkeypatch, said):
    """All that is wanted in one question; anything but yes is no, and is asked again."""
    monkeypatch.setattr("workbench.cli.collect._can_answer", lambda: True)
    with Stub(answer) as stub:
        both = NAMING["a scorer of the plan"] | NAMING["a key"]
        plan = write(strange, stub.url, **both)
        for _ in range(2):
            monkeypatch.setattr("sys.stdin", io.StringIO(said))
            status, err = run("collect", plan, "--store", "s.duckdb")
            questions = err.count("Do you trust it?")
            if said != "y\n":
                assert (status, questions, stub.n) == (1, 1, 0)
                assert "nothing of it was run or sent" in err
                continue
            assert status == 0, err
        assert stub.n == (said == "y\n")

    if said == "y\n":
        assert questions == 0


def test_the_answer_is_kept_for_the_user_alone_and_holds_no_key(strange, run):
    """0600 in a folder 0700, whatever the mask."""
    before = os.umask(0)
    try:
        with Stub(answer) as stub:
            plan = write(strange, stub.url, **NAMING["a key"])
            assert run("collect", plan, "--store", "s.duckdb", "--trust")[0] == 0
    finally:
        os.umask(before)

    kept = config.state_dir() / "trusted.jsonl"
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (kept, kept.parent)]
    assert modes == [0o600, 0o700]
    assert KEY not in kept.read_text()
    assert "send the key in OPENAI_API_KEY to" in kept.read_text()


@pytest.mark.parametrize("how", ["others", "link", "folder"])
def test_answers_that_others_can_write_are_nobodys(tmp_path, how):
    """A list of what is trusted is refused where it may be another's."""
    ledger = tmp_path / "trusted.jsonl"
    wanted = to_send_key("A_KEY", "https://a.example/v1")
    Gate(True, ledger=ledger).require([wanted])
    assert Gate(ledger=ledger).lacking([wanted]) == []
    if how == "others":
        ledger.chmod(0o666)
    elif how == "link":
        ledger.rename(tmp_path / "other")
        ledger.symlink_to(tmp_path / "other")
    else:
        ledger.unlink()
        ledger.mkdir()

    with pytest.raises(ConfigError, match=r"trusted\.jsonl"):
        Gate(ledger=ledger).lacking([wanted])


def test_a_torn_list_of_answers_asks_again_for_what_is_torn_only(tmp_path):
    """A line that was cut off takes nothing with it, not even the next one."""
    ledger = tmp_path / "trusted.jsonl"
    first, second = (to_send_key("A_KEY", f"https://{n}.example/v1") for n in "ab")
    Gate(True, ledger=ledger).require([first])
    ledger.write_bytes(ledger.read_bytes() + b'{"trusted": "\xff')
    Gate(True, ledger=ledger).require([second])

    assert Gate(ledger=ledger).lacking([first, second]) == []


def test_an_answer_that_cannot_be_kept_holds_for_now_and_is_said(tmp_path):
    """A read-only home does not keep anybody from working."""
    (tmp_path / "file").touch()
    gate = Gate(True, ledger=tmp_path / "file" / "trusted.jsonl")
    wanted = to_send_key("A_KEY", "https://a.example/v1")
    with pytest.raises(ConfigError, match="cannot be read"):
        gate.require([wanted])

    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    gate = Gate(True, ledger=tmp_path / "dangling" / "trusted.jsonl")
    gate.require([wanted])
    assert "will be asked again" in gate.notes[-1]


def test_what_is_typed_is_looked_for_where_it_is_typed(strange, run):
    """A strategy that the user names is the user's; one that only lies beside the plan is not."""
    with Stub(answer) as stub:
        plan = write(strange, stub.url)
        words = ("collect", plan, "--strategy", "mine.py:Mine", "--store")
        beside, err = run(*words, "a.duckdb")
        assert (beside, stub.n) == (1, 0)
        assert "is not trusted yet; it would\n  - run code" in err

        Path("mine.py").write_text(STRATEGY)
        Path("aid.py").write_text('WORD = "mine"\n')
        own, err = run(*words, "b.duckdb")
        assert own == 0, err
        assert [r.json["messages"][0]["content"] for r in stub.requests] == ["mine"]

    assert Path("ran").exists()
    assert not (strange / "ran").exists()


@pytest.mark.parametrize(
    ("words", "is_asked"),
    [
        (("--api-key-env", "OPENAI_API_KEY", "--base-url", "{url}"), False),
        (("--api-key-env", "OPENAI_API_KEY"), True),
        (("--base-url", "{url}"), False),  # no key then
    ],
)
def test_a_key_is_asked_for_unless_key_and_address_are_typed(strange, run, words, is_asked):
    """Either of them from the plan makes the plan decide where the key goes."""
    with Stub(answer) as stub:
        plan = write(strange, stub.url)
        given = [word.format(url=stub.url) for word in words]
        status, err = run("collect", plan, *given, "--store", "s.duckdb")

    assert status == is_asked, err
    assert ("send the key in OPENAI_API_KEY" in err) == is_asked


def test_a_key_of_the_settings_does_not_follow_the_plan_to_its_address(strange, run, monkeypatch):
    """Where nothing is typed, the settings name the key and the plan the address."""
    monkeypatch.setenv("WORKBENCH_API_KEY_ENV", "OPENAI_API_KEY")
    with Stub(answer) as stub:
        plan = write(strange, stub.url)
        refused, err = run("collect", plan, "--store", "s.duckdb")
        assert (refused, stub.n) == (1, 0)
        assert "send the key in OPENAI_API_KEY" in err

        monkeypatch.setenv("WORKBENCH_BASE_URL", stub.url)
        assert run("collect", plan, "--store", "s.duckdb")[0] == 0


@pytest.mark.parametrize(
    ("settings", "n"),
    [
        ({"provider": "openai"}, 0),
        ({"provider": "openai", "api_key_env": "OTHER_KEY"}, 1),
        ({"provider": "openai", "base_url": "https://openai.example/v1"}, 0),  # no key is sent
        ({"base_url": "https://api.openai.com.example/v1", "api_key_env": "OPENAI_API_KEY"}, 1),
        ({"base_url": "http://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"}, 1),
        ({"base_url": "https://api.anthropic.com/v1", "api_key_env": "OPENAI_API_KEY"}, 1),
        ({"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"}, 0),
        ({"endpoint": "replay", "recording": "x", "api_key_env": "OPENAI_API_KEY"}, 0),
        (
            {
                "provider": "openai",
                "helpers": {
                    "judge": {"model": "j", "base_url": "https://a.example", "api_key_env": "K"}
                },
            },
            1,
        ),
        (
            {
                "provider": "openai",
                "models": [
                    "a",
                    {"model": "b", "base_url": "https://a.example", "api_key_env": "K"},
                    {"model": "c", "base_url": "https://a.example", "api_key_env": "K"},
                ],
            },
            1,
        ),
    ],
)
def test_a_key_that_goes_to_its_own_provider_needs_no_answer(settings, n):
    """Each pair of key and address is asked for once, wherever in the plan it stands."""
    plan = Plan.from_mapping({"models": ["m"], "tasks": ["logic"], "max_tokens": 9} | settings)

    assert len(expand(plan, preview=True).wants) == n
    if n:
        with pytest.raises(ConfigError, match="trust=True in Python"):
            expand(plan)


@pytest.mark.parametrize(
    ("path", "address", "n"),
    [
        ("../secret.json", "https://models.example/v1", 1),
        ("link.json", "https://models.example/v1", 1),
        ("../secret.json", "https://api.openai.com/v1", 0),
        ("../secret.json", "http://127.0.0.1:1/v1", 0),
        ("q.jsonl", "https://models.example/v1", 0),
    ],
)
def test_a_file_from_elsewhere_is_not_sent_to_an_address_of_the_plan(strange, path, address, n):
    """`input` may be any column, and the file any that the user can read."""
    secret = strange.parent / "secret.json"
    secret.write_text('[{"refresh_token": "t", "target": "x"}]')
    (strange / "link.json").symlink_to(secret)
    task = {"path": path} if path == "q.jsonl" else {"path": path, "input": "refresh_token"}
    plan = Plan.from_mapping({"models": ["m"], "tasks": [task], "base_url": address})

    work = expand(plan, strange, preview=True)
    assert [w.kind for w in work.wants] == ["file"] * n
    typed = expand(plan, strange, typed=Typed(addresses=[address]), preview=True)
    assert not typed.wants


def test_a_recording_from_elsewhere_is_not_sent_to_a_judge_of_the_plan(strange):
    """A replay sends nothing, but a judge is given the replies that it answers with."""
    target = {"model": "m", "endpoint": "replay", "recording": str(strange.parent / "mine.duckdb")}
    about = {
        "models": [target],
        "tasks": [{"path": "q.jsonl", "scorer": ["exact", "judge"]}],
        "helpers": {"judge": {"model": "j", "base_url": "https://models.example/v1"}},
    }

    work = expand(Plan.from_mapping(about), strange, preview=True)
    assert [w.kind for w in work.wants] == ["file"]
    assert "mine.duckdb" in str(work.wants[0])
    inside = {**target, "recording": str(strange / "theirs.duckdb")}
    work = expand(Plan.from_mapping({**about, "models": [inside]}), strange, preview=True)
    assert not work.wants


def judged(recording: Path, **judge: object) -> Plan:
    """A replay whose replies a judge is given."""
    return Plan.from_mapping(
        {
            "models": [{"model": "m", "endpoint": "replay", "recording": str(recording)}],
            "tasks": [{"path": "q.jsonl", "scorer": ["exact", "judge"]}],
            "helpers": {"judge": {"model": "j", "base_url": "https://a.example/v1", **judge}},
        }
    )


def test_tasks_that_are_typed_do_not_let_a_recording_out(strange):
    """The user typed the one, and the plan names the other; one that is typed needs no answer."""
    mine = strange.parent / "mine.duckdb"

    work = expand(judged(mine), strange, typed=Typed(tasks=True), preview=True)
    assert [w.kind for w in work.wants] == ["file"]
    typed = Typed(tasks=True, recordings=[str(mine)])
    assert not expand(judged(mine), strange, typed=typed, preview=True).wants


@pytest.mark.parametrize("link", ["theirs.duckdb.spool", "theirs/traces.parquet", "theirs/deep"])
def test_a_recording_does_not_reach_outside_by_a_link_within_it(strange, link):
    """A store's spool belongs to it, and an export is a folder; parts of either may be links."""
    outside = strange.parent / "outside"
    outside.mkdir()
    (strange / link).parent.mkdir(exist_ok=True)
    (strange / link).symlink_to(outside)
    recording = strange / ("theirs.duckdb" if "spool" in link else "theirs")

    (want,) = expand(judged(recording), strange, preview=True).wants
    assert str(outside) in want.sentence


def test_a_header_beside_a_task_file_does_not_reach_outside_by_a_link(strange):
    """Its prompt and examples are sent with every item."""
    outside = strange.parent / "outside.toml"
    outside.write_text('prompt = "secret"\n')
    (strange / "q.toml").symlink_to(outside)
    plan = {"models": ["m"], "tasks": ["q.jsonl"], "base_url": "https://a.example/v1"}

    (want,) = expand(Plan.from_mapping(plan), strange, preview=True).wants
    assert str(outside) in want.sentence


def test_hidden_files_are_not_of_a_plan_that_lies_in_the_home(strange):
    """Whoever saves a plan in the home does not let it read the keys and stores that lie there."""
    (strange / ".config").mkdir()
    (strange / ".config" / "q.jsonl").write_text(ROW)
    plan = {"models": ["m"], "tasks": [".config/q.jsonl"], "base_url": "https://a.example/v1"}

    assert [w.kind for w in expand(Plan.from_mapping(plan), strange, preview=True).wants] == [
        "file"
    ]


@pytest.mark.parametrize("address", ["https://api.openai.com/v1", "http://127.0.0.1:1/v1"])
def test_fields_of_the_plan_may_have_a_provider_pass_a_file_on(strange, address):
    """A server of tools, for example, which the provider then calls with what it was sent."""
    (strange.parent / "secret.jsonl").write_text(ROW)
    tools = [{"type": "mcp", "server_url": "https://evil.example", "require_approval": "never"}]
    plan = {"models": ["m"], "tasks": ["../secret.jsonl"], "base_url": address}

    assert not expand(Plan.from_mapping(plan), strange, preview=True).wants
    with_fields = Plan.from_mapping(plan | {"extra_body": {"tools": tools}})
    (want,) = expand(with_fields, strange, preview=True).wants
    assert "https://evil.example" in want.sentence
    other = Plan.from_mapping(plan | {"extra_body": {"tools": [*tools, {}]}})
    assert expand(other, strange, preview=True).wants[0].digest != want.digest


def test_bytecode_beside_a_source_is_not_run(strange):
    """It may hold another program than the source that was read and trusted."""
    for name in ("evil", "aid"):
        source = strange / f"{name}.py"
        code = compile("open('pwned', 'w').close()\nWORD = 1\nscore = print\n", str(source), "exec")
        cached = Path(importlib.util.cache_from_source(str(source)))
        cached.parent.mkdir(exist_ok=True)
        # "unchecked": Python itself would take it without a look at the source
        cached.write_bytes(
            importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8) + marshal.dumps(code)
        )

    locate("scorer", "evil:score", [strange]).load("function")
    locate("strategy", "mine:Mine", [strange]).load("class")

    assert (strange / "ran").exists()
    assert not Path("pwned").exists()


def test_a_package_is_located_and_hashed_without_running_any_of_it(strange):
    """Neither its parents, nor what it imports, in whatever way the statement is written."""
    package = strange / "pack"
    (package / "deep").mkdir(parents=True)
    bomb = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    (package / "__init__.py").write_text(bomb)
    (package / "deep" / "__init__.py").write_text(bomb)
    (package / "deep" / "one.py").write_text(
        bomb + "def f():\n    from . import two\nfrom ..three import *\nimport pack.four as x\n"
    )
    for path in ("deep/two.py", "three.py", "four.py", "five.py"):
        (package / path).write_text(bomb)

    code = locate("scorer", "pack.deep.one:f", [strange])

    names = {str(p.relative_to(strange)) for p in code.sources()}
    wanted = {
        "__init__.py",
        "deep/__init__.py",
        "deep/one.py",
        "deep/two.py",
        "three.py",
        "four.py",
    }
    assert names == {f"pack/{name}" for name in wanted}
    before = to_run(code).digest
    (package / "three.py").write_text(bomb + "x = 1\n")
    assert to_run(code).digest != before
    assert not list(strange.rglob("ran"))


def test_an_installed_module_is_located_without_its_parents(monkeypatch):
    """`import a` runs `a/__init__.py`; to be asked about `a.b` does not."""
    import sys

    monkeypatch.delitem(sys.modules, "xml.sax.expatreader", raising=False)
    monkeypatch.delitem(sys.modules, "xml.sax", raising=False)

    found = locate("tool", "xml.sax.expatreader:create_parser", [])

    assert found.path.name == "expatreader.py"
    assert "xml.sax" not in sys.modules
    with pytest.raises(ConfigError, match=r"No module named 'xml\.nothing'"):
        locate("tool", "xml.nothing.at_all:f", [])


def test_code_that_changes_while_the_question_is_read_is_not_run(strange):
    """What runs is what was asked about."""
    plan = Plan.from_mapping(
        {
            "models": ["m"],
            "tasks": ["q.jsonl"],
            "strategies": ["mine:Mine"],
            "base_url": "http://[::1]:1",
        }
    )

    def change(question: str) -> bool:
        (strange / "aid.py").write_text("WORD = 'other'\n")
        return True

    with pytest.raises(ConfigError, match="changed while you were asked"):
        expand(plan, strange, trust=change)
    assert not (strange / "ran").exists()


def test_a_name_writes_no_lines_of_its_own_into_the_question(strange):
    """Line ends and what turns a line round are shown as escapes."""
    name = "x\n  - nothing at all\u202e.py"
    (strange / name).write_text(STRATEGY)

    sentence = to_run(locate("strategy", f"{name}:Mine", [strange])).sentence

    assert "\n" not in sentence
    assert "\u202e" not in sentence


def test_python_trusts_with_true_or_a_function(strange, tmp_path):
    """As the command line does; what was expanded for a look only is not collected."""
    questions = []
    with Stub(answer) as stub:
        plan = Plan.from_mapping(
            {
                "models": ["m"],
                "tasks": [{"path": str(strange / "q.jsonl"), "scorer": "evil:score"}],
                "base_url": stub.url,
                "api_key_env": "OPENAI_API_KEY",
            }
        )
        with pytest.raises(ConfigError, match="run code with your rights"):
            expand(plan, strange)
        look = expand(plan, strange, preview=True)
        with SpoolWriter(tmp_path / "spool", "r1") as spool:
            with pytest.raises(ConfigError, match="expanded with preview=True"):
                asyncio.run(collect(plan, work=look, spool=spool))
            work = expand(plan, strange, trust=lambda text: not questions.append(text))
            report = asyncio.run(collect(plan, work=work, spool=spool))

    assert [t.task_id for t in look.tasks] == [t.task_id for t in work.tasks]
    assert len(questions) == 1
    assert (report.planned, report.collected) == (1, 1)
    assert not expand(plan, strange, preview=True).wants


def test_a_dry_run_says_what_it_cannot_know_without_importing(strange, run, capsys):
    """How many attempts a strategy has, but not how many are there: it may be called anything."""
    plan = write(strange, "http://127.0.0.1:1/v1", strategies='["direct", "mine:Mine"]')

    assert main(["collect", str(plan), "--dry-run", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)

    known, unknown = document["rows"]
    assert (known["planned"], known["missing"]) == (1, 1)
    assert (unknown["configuration"], unknown["planned"]) == ("m mine:Mine", 1)
    assert (unknown["there"], unknown["missing"], unknown["cost_usd"]) == (None, None, None)
    assert document["more"]["total"][0]["missing"] is None
    assert unknown["cost_usd_unknown_because"] == "code that is not imported"
    assert main(["collect", str(plan), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "2 planned, — missing" in shown.err
    assert "nothing: its code is not imported" in shown.out


def test_two_plans_may_have_neighbours_of_the_same_name(strange, tmp_path):
    """And an edited one is read anew, in one process."""
    other = tmp_path / "other"
    other.mkdir()
    for folder, word in ((strange, "a"), (other, "b"), (strange, "c")):
        (folder / "aid.py").write_text(f"WORD = {word!r}\n")
        (folder / "one.py").write_text("import aid\ndef f(): return aid.WORD\n")
        assert locate("tool", "one:f", [folder]).load("function")() == word
    again = locate("tool", "one:f", [strange]).load("function")
    assert locate("tool", "one:f", [strange]).load("function") is again


@pytest.mark.parametrize("what", ["strategy", "tool", "scorer", "source", "analysis", "provider"])
def test_code_of_every_kind_goes_through_the_same_gate(strange, what):
    """Asked once, by its own word; what is typed is not asked."""
    name, kind = "evil:score", "function"
    with pytest.raises(ConfigError, match=f"run code with your rights: the {what} 'evil:score'"):
        load_trusted(what, name, [strange], kind=kind)
    assert not (strange / "ran").exists()

    assert load_trusted(what, name, [strange], kind=kind, trust=True)(None, "")
    assert load_trusted(what, name, [strange], kind=kind)(None, "")
    (strange / "evil.py").write_text(SCORER + "# more\n")
    with pytest.raises(ConfigError, match="not trusted yet"):
        load_trusted(what, name, [strange], kind=kind)
    assert load_trusted(what, name, [strange], kind=kind, is_typed=True)(None, "")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = " + "-" * 2_000_000 + "1\n", "too deeply nested"),
        ("x = " + "1 + " * 500_000 + "1\n", "recursion"),
        ("x = 1\0", "null bytes"),
        ("#" * (5 << 20), "no code: it has more than 4 MiB"),
    ],
    ids=["deep", "long", "null", "large"],
)
def test_a_source_that_is_made_to_exhaust_us_is_refused(strange, run, source, words):
    """It is parsed to see what it imports, before anybody trusts it."""
    (strange / "evil.py").write_text(source)
    plan = write(strange, "http://127.0.0.1:1/v1", **NAMING["a scorer of the plan"])

    status, err = run("collect", plan, "--dry-run", "--store", "s.duckdb")

    assert status == 1
    assert words in err


def test_letters_that_look_like_others_are_shown_by_number():
    """An address with a Cyrillic а is not that of OpenAI."""
    assert "api.open\\u0430i.com" in to_send_key("K", "https://api.open\u0430i.com/v1").sentence
