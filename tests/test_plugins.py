"""Plug-ins: parts of small real distributions are used, listed unimported, and refused in words."""

import re
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.runner_stub import DONE, Stub, delta, stream, usage
from workbench import analysis, config, plugins, scoring, sources
from workbench.cli import main
from workbench.errors import ConfigError, TaskError
from workbench.runner import Plan, strategies, tools

_MARK = 'from pathlib import Path\nPath(__file__).with_name("ran").touch()\n'


def blocks(language: str) -> str:
    """Join the code of CONTRIBUTING.md's section on plug-ins."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Plug-ins\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))


def entry_points() -> str:
    """Return the entry points of the section, as the metadata of a distribution has them."""
    lines = blocks("toml").splitlines()
    lines = [re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", line) for line in lines]
    return "\n".join(re.sub(r'^([\w-]+) = "(.*)"$', r"\1 = \2", line) for line in lines)


def distribution(folder, entries, modules, name="lab_parts"):
    """Write an installed distribution: its metadata, entry points and modules."""
    about = folder / f"{name}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(entries)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    return folder


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Put a distribution on Python's path; installed ones are in a folder of PYTHONPATH."""
    before = set(sys.modules)

    def put(entries, modules, *, installed=True, name="lab_parts"):
        folder = distribution(tmp_path / f"{name}_site", entries, modules, name)
        monkeypatch.syspath_prepend(folder)
        if installed:
            monkeypatch.setenv("PYTHONPATH", str(folder))
        return folder

    yield put
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def lab(on_path):
    """The distribution that CONTRIBUTING.md shows, installed."""
    return on_path(entry_points(), {"lab_parts": blocks("python")})


def answer(seen):
    return stream(
        delta("it is 4"), delta(finish="stop"), usage(prompt_tokens=9, completion_tokens=2), DONE
    )


def test_an_installed_strategy_and_scorer_are_used_by_a_plan_unasked(lab, tmp_path, capsys):
    """Their names are enough; the store has the strategy's own name and the scorer's score."""
    (tmp_path / "q.jsonl").write_text('{"input": "2+2?", "target": "4"}\n')
    store = tmp_path / "s.duckdb"
    with Stub(answer) as stub:
        (tmp_path / "plan.toml").write_text(
            f'models = ["m"]\nbase_url = "{stub.url}"\n'
            'tasks = [{path = "q.jsonl", scorer = "close"}]\n'
            'strategies = [{name = "twice", hint = "Sure?"}]\n'
        )
        status = main(["collect", str(tmp_path / "plan.toml"), "--store", str(store)])
        n_asked = stub.n
    said = capsys.readouterr().err
    query = "SELECT c.strategy, strategy_params, score FROM traces JOIN configurations c"
    query += " USING (configuration_id)"
    assert main(["sql", query, "--store", str(store), "--format", "csv"]) == 0
    row = capsys.readouterr().out.splitlines()[1]

    assert (status, n_asked) == (0, 2), said
    assert row.startswith("twice,")
    assert "Sure?" in row
    assert row.endswith(",0.5")


def test_the_code_of_a_plug_in_is_part_of_the_configuration_and_the_task(lab):
    """Figures of two versions of a plug-in are not pooled: a hash of its source is in the ids."""
    strategy = strategies.find("twice", {}, allow_code=False)
    scorer = scoring.find("close", allow_code=False)

    assert strategy.identity.startswith("lab_parts:Twice#")
    assert scorer.identity.startswith("lab_parts:close#")
    assert (strategy.name, scorer.name) == ("twice", "close")


def test_an_installed_source_recognizes_and_imports_its_files(lab, tmp_path, capsys):
    """It is found by content, as those that ship are; --formats names its distribution."""
    log = tmp_path / "day.jsonl"
    log.write_text('{"lab": 1}\n{"item": "a", "question": "2+2?", "answer": "4"}\n')
    status = main(["import", str(log), "--store", str(tmp_path / "s.duckdb")])
    said = capsys.readouterr()
    assert main(["import", "--formats"]) == 0
    listed = capsys.readouterr().out

    assert status == 0, said
    assert re.search(r"lab-log +Log of the lab \(\.jsonl\) +lab_parts 1\.2", listed)
    assert list(sources.sources())[-1] == "table"


def test_a_source_of_a_file_is_named_on_the_command_line(tmp_path, capsys, on_path):
    """`--source file.py:NAME` reads the files with it, without a package."""
    (tmp_path / "mine.py").write_text(blocks("python"))
    log = tmp_path / "day.jsonl"
    log.write_text('{"lab": 1}\n{"item": "a", "question": "2+2?", "answer": "4"}\n')
    words = ["import", "--source", f"{tmp_path / 'mine.py'}:LAB_LOG", str(log)]
    status = main([*words, "--store", str(tmp_path / "s.duckdb")])

    assert status == 0, capsys.readouterr()


@pytest.fixture
def store(tmp_path):
    """A store with one trace of a log of the lab."""
    (tmp_path / "mine.py").write_text(blocks("python"))
    log = tmp_path / "day.jsonl"
    log.write_text('{"lab": 1}\n{"item": "a", "question": "2+2?", "answer": "4"}\n')
    path = tmp_path / "of_lab.duckdb"
    words = ["import", "--source", f"{tmp_path / 'mine.py'}:LAB_LOG", str(log)]
    assert main([*words, "--store", str(path)]) == 0
    return path


def test_an_installed_analysis_answers_and_is_listed(lab, store, tmp_path, capsys):
    """The command, its chart, the list and the help know it; `run` answers as for the shipped."""
    capsys.readouterr()
    chart = tmp_path / "c.svg"
    words = ["analyze", "trial-count", "--store", str(store)]
    assert main([*words, "--format", "csv"]) == 0
    rows = capsys.readouterr().out
    assert main([*words, "-o", str(chart)]) == 0
    capsys.readouterr()
    assert main(["analyze", "--list"]) == 0
    listed = capsys.readouterr().out
    assert main(["analyze", "--help"]) == 0
    helped = capsys.readouterr().out

    assert rows.splitlines()[0] == "configuration,n_trials"
    assert rows.splitlines()[1].endswith(",1")
    assert chart.stat().st_size > 500
    assert re.search(r"Plug-ins +trial-count .* lab_parts 1\.2", listed)
    assert "trial-count" in helped
    assert "(lab_parts 1.2)" in " ".join(helped.split())


def test_an_analysis_of_a_file_is_named_on_the_command_line(store, tmp_path, capsys, on_path):
    """`analyze file.py:name` imports what was typed; Python loads it with `analysis.load`."""
    capsys.readouterr()
    named = f"{tmp_path / 'mine.py'}:trial_count"
    status = main(["analyze", named, "--store", str(store), "--format", "csv"])
    out = capsys.readouterr().out

    assert (status, out.splitlines()[0]) == (0, "configuration,n_trials")
    with pytest.raises(ConfigError, match="is not trusted yet"):
        analysis.load(named)


BROKEN = {
    "strategy": ("strategies", "strategies"),
    "scorer": ("tasks --scorers", "scorers"),
    "source": ("import --formats", "sources"),
    "analysis": ("analyze --list", "analyses"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("fault", ["its import fails", "its module is missing"])
def test_a_broken_plug_in_is_named_with_its_error_and_breaks_no_list(on_path, capsys, what, fault):
    """The list has all that ships, exit status 0, and a sentence about the plug-in."""
    command, group = BROKEN[what]
    value = "bad_part:THING" if fault == "its import fails" else "no_such_module:THING"
    source = 'THING = 1\nraise RuntimeError("the lab is closed")\n'
    on_path(f"[workbench.{group}]\nbad = {value}\n", {"bad_part": source})
    status = main(command.split())
    said = capsys.readouterr()
    assert status == 0
    assert "workbench" in said.out
    if fault == "its module is missing":
        assert "No module named 'no_such_module'" in said.err
    elif what in {"source", "analysis"}:  # those whose list imports them
        assert "the lab is closed" in said.err
    assert main(["plugins"]) == 0
    assert "lab_parts 1.2" in capsys.readouterr().out


def test_a_broken_plug_in_that_is_asked_for_is_refused_with_its_error(on_path):
    """The message names the plug-in, its distribution and the fault."""
    source = 'THING = 1\nraise RuntimeError("the lab is closed")\n'
    on_path("[workbench.scorers]\nbad = bad_part:THING\n", {"bad_part": source})
    with pytest.raises(TaskError, match=r"'bad.*the lab is closed"):
        scoring.find("bad", allow_code=False)


def test_a_source_that_fails_on_a_file_fails_that_file_only(on_path, tmp_path, capsys):
    """Detection that raises says so where the file is refused; other formats go on."""
    source = (
        "class Bad:\n    name = 'bad'\n    title = 'Bad'\n"
        "    def detect(self, path): raise KeyError('detect')\n"
        "    def read(self, path, *, report, mapping=None): return iter(())\n"
        "THING = Bad()\n"
    )
    on_path("[workbench.sources]\nbad = bad_part:THING\n", {"bad_part": source})
    (tmp_path / "x.bin").write_bytes(b"\0\1")
    status = main(["import", str(tmp_path / "x.bin"), "--dry-run"])
    said = " ".join(capsys.readouterr())

    assert status == 1
    assert "the source 'bad' of lab_parts 1.2: KeyError: 'detect'" in said


COLLIDES = {
    "strategy": ("workbench.strategies", "cot"),
    "scorer": ("workbench.scorers", "exact"),
    "source": ("workbench.sources", "inspect"),
    "analysis": ("workbench.analyses", "summary"),
}


@pytest.mark.parametrize("what", COLLIDES)
def test_the_name_of_one_that_ships_is_refused_in_words_and_ships_as_before(on_path, what, capsys):
    """The plug-in is not imported, by the list or by the name."""
    group, name = COLLIDES[what]
    folder = on_path(f"[{group}]\n{name} = part:thing\n", {"part": f"{_MARK}thing = 1\n"})
    shipped = {
        "strategy": lambda: strategies.kind("cot").__module__,
        "scorer": lambda: type(scoring.get("exact")).__module__,
        "source": lambda: type(sources.sources()["inspect"]).__module__,
        "analysis": lambda: analysis.get("summary").function.__module__,
    }
    assert shipped[what]().startswith("workbench.")
    assert main(BROKEN[what][0].split()) == 0
    assert f"{name!r} is the name of one that ships" in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_a_name_that_two_distributions_offer_is_refused(on_path):
    """Neither is taken; the message names both."""
    on_path("[workbench.scorers]\nnear = one:near\n", {"one": "near = 1\n"}, name="one_dist")
    on_path("[workbench.scorers]\nnear = two:near\n", {"two": "near = 1\n"}, name="two_dist")
    with pytest.raises(TaskError, match=r"one_dist 1\.2 and two_dist 1\.2 offer the same name"):
        scoring.find("near", allow_code=True)


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_installed_is_listed_with_its_folder_and_not_imported(on_path, capsys, what):
    """A distribution that only lies on the path, as in the working folder, is a stranger's."""
    command, group = BROKEN[what]
    entries = f"[workbench.{group}]\nstray = part:thing\n"
    folder = on_path(entries, {"part": f"{_MARK}def thing(): ...\n"}, installed=False)
    assert main(command.split()) == 0
    said = capsys.readouterr()
    assert main(["plugins", "--format", "csv"]) == 0
    row = capsys.readouterr().out.splitlines()[1]

    assert "which is no installation folder" in said.err
    assert row.startswith(f"{what},stray,part:thing,lab_parts 1.2,{folder},")
    assert not (folder / "ran").exists()


def test_what_is_not_installed_is_asked_for_once_by_a_plan(on_path, tmp_path, capsys):
    """A plan that names it is not run before --trust, and is run without it from then on."""
    folder = on_path(entry_points(), {"lab_parts": _MARK + blocks("python")}, installed=False)
    (tmp_path / "q.jsonl").write_text('{"input": "2+2?", "target": "4"}\n')
    with Stub(answer) as stub:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            f'models = ["m"]\nbase_url = "{stub.url}"\nstrategies = ["twice"]\n'
            'tasks = [{path = "q.jsonl", scorer = "close"}]\n'
        )
        words = ["collect", str(plan), "--store"]
        refused = main([*words, str(tmp_path / "a.duckdb")])
        why, ran = capsys.readouterr().err, (folder / "ran").exists()
        trusted = main([*words, str(tmp_path / "b.duckdb"), "--trust"])
        again = main([*words, str(tmp_path / "c.duckdb")])

    assert (refused, ran, trusted, again) == (1, False, 0, 0), capsys.readouterr().err
    assert "it would\n  - run code with your rights: the strategy 'lab_parts:Twice'" in why
    assert str(folder) in why
    assert config.state_dir().is_dir()


def test_a_strategy_must_bear_the_name_of_its_entry_point(on_path):
    """Else the configuration in the store would name another one than the plan."""
    on_path("[workbench.strategies]\nthrice = lab_parts:Twice\n", {"lab_parts": blocks("python")})
    with pytest.raises(ConfigError, match="calls itself 'twice'"):
        strategies.find("thrice", {}, allow_code=False)


async def test_an_installed_tool_is_run_and_is_part_of_the_configuration(lab):
    """An agent may use it by name; a hash of its source is in the configuration's settings."""
    box = tools.Toolbox([tools.get("length")])
    outcome = await box.call("length", '{"word": "forest"}')
    plan = Plan.from_mapping({"models": ["m"], "tasks": ["arithmetic"]})
    react = strategies.get("react", tools=["length"])
    settings = plan.configuration(plan.targets[0], react).settings

    assert outcome.text == "6"
    assert '"tool_code":{"length":"lab_parts:Length#' in settings.replace(" ", "")


async def test_a_tool_that_fails_is_an_error_for_the_model(on_path):
    """The run goes on; the record has the error's kind."""
    source = blocks("python").replace('len(arguments["word"])', "1 / 0")
    on_path("[workbench.tools]\nlength = lab_parts:Length\n", {"lab_parts": source})
    outcome = await tools.Toolbox([tools.get("length")]).call("length", '{"word": "x"}')
    assert outcome.record.error_type == "tool_failed"


async def test_a_tool_that_exits_is_an_error_for_the_model(on_path):
    """`sys.exit` in it does not end the program."""
    source = blocks("python").replace('len(arguments["word"])', "exit(3)")
    on_path("[workbench.tools]\nlength = lab_parts:Length\n", {"lab_parts": source})
    outcome = await tools.Toolbox([tools.get("length")]).call("length", '{"word": "x"}')
    assert outcome.record.error_type == "tool_failed"


@pytest.mark.parametrize("installed", [True, False])
def test_a_tool_that_is_broken_or_not_installed_is_refused_in_words(on_path, installed):
    """The message names the fault, or the folder; nothing of a stranger's runs."""
    source = _MARK + "raise RuntimeError('the lab is closed')\nLength = 1\n"
    entries = "[workbench.tools]\nlength = lab_parts:Length\n"
    folder = on_path(entries, {"lab_parts": source}, installed=installed)
    with pytest.raises(ConfigError, match=r"lab is closed|no installation folder"):
        tools.get("length")
    assert (folder / "ran").exists() == installed


def test_an_unknown_name_offers_the_plug_in(lab):
    """The nearest names are looked for among plug-ins as well."""
    with pytest.raises(ConfigError, match="did you mean 'twice'"):
        strategies.kind("twise")


def test_metadata_that_cannot_be_read_is_named(on_path):
    """A line of entry points without a value breaks no list."""
    on_path("[workbench.scorers]\nbroken line\n", {})
    (plugin,) = plugins.listed("scorer")
    assert "its entry points cannot be read" in str(plugin.problem)


def test_help_and_import_read_no_entry_points():
    """Start-up does not look for plug-ins: the help does not even import the reader of them."""
    code = (
        "import sys\nfrom workbench.cli import main\nmain(['--help'])\n"
        "assert 'workbench.plugins' not in sys.modules\n"
        "assert 'importlib.metadata' not in sys.modules\n"
        "import workbench.scoring, workbench.sources, workbench.analysis\n"
        "import workbench.runner.strategies, workbench.runner.tools, workbench.plugins\n"
        "assert workbench.plugins._read.cache_info().misses == 0\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def own_provider(url, **settings):
    """A plan that asks a provider of the user's."""
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    return "\n".join(
        [
            f'models = ["m"]\nbase_url = "{url}"\ntasks = ["arithmetic"]\nlimit = 1',
            'strategies = ["direct"]\nretries = 0',
            *lines,
        ]
    )


def test_an_installed_provider_is_used_by_its_name(lab, tmp_path, capsys):
    """Its requests are its own, and its tokens are in the store; nobody is asked."""
    store = tmp_path / "s.duckdb"
    with Stub(answer) as stub:
        (tmp_path / "plan.toml").write_text(own_provider(stub.url, endpoint="lab-server"))
        status = main(["collect", str(tmp_path / "plan.toml"), "--store", str(store)])
        (seen,) = stub.requests
    query = "SELECT output_tokens, settings FROM traces JOIN configurations"
    query += " USING (configuration_id)"
    assert main(["sql", query, "--store", str(store), "--format", "csv"]) == 0
    row = capsys.readouterr().out.splitlines()[1]

    assert status == 0
    assert seen.json["group"] == "lab"
    assert row.startswith("2,")
    assert "lab_parts:LabServer#" in row


@pytest.mark.parametrize("typed", [True, False])
def test_a_provider_in_a_file_is_trusted_where_it_is_typed(tmp_path, monkeypatch, capsys, typed):
    """A plan's is asked for, with the key that it would get; a changed one is asked for again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_KEY", "sk-0123456789abcdef")
    (tmp_path / "mine.py").write_text(_MARK + blocks("python"))
    store = ["--store", str(tmp_path / "s.duckdb")]
    with Stub(answer) as stub:
        named = {} if typed else {"endpoint": "mine.py:LabServer", "api_key_env": "LAB_KEY"}
        (tmp_path / "plan.toml").write_text(own_provider(stub.url, **named))
        flags = ["--endpoint", "mine.py:LabServer", "--api-key-env", "LAB_KEY"]
        flags = [*flags, "--base-url", stub.url] if typed else []
        run = ["collect", str(tmp_path / "plan.toml"), *flags, *store]
        main([*run, "--dry-run"])
        ran_in_dry_run = (tmp_path / "ran").exists()
        first, why = main(run), capsys.readouterr().err
        n_first = stub.n
        trusted = main([*run, "--trust"])
        (tmp_path / "mine.py").write_text(_MARK + blocks("python") + "\n# changed\n")
        changed = main(run)

    assert ran_in_dry_run == typed
    assert trusted == 0
    if typed:
        assert (first, changed) == (0, 0), why
    else:
        assert (first, n_first, changed) == (1, 0, 1)
        assert "the provider 'mine.py:LabServer'" in why
        assert "send the key in LAB_KEY to 'mine.py:LabServer'" in why


NO_PROVIDERS = {
    "an object": ("LabServer = 1", "is an object, not a class"),
    "no method": (
        "class LabServer:\n    async def generate(self, request, on_chunk=None): ...",
        "has no `async def count_tokens(self, text)`, no `async def aclose(self)`",
    ),
    "its import": ("1 / 0\nclass LabServer: ...", "could not be imported: ZeroDivisionError"),
    "its making": (
        "class LabServer:\n    async def generate(self, r, c=None): ...\n"
        "    async def count_tokens(self, t): ...\n    async def aclose(self): ...\n"
        "    def __init__(self, base_url): ...",
        "could not be made: TypeError",
    ),
    "its name": ("class Other: ...", "LabServer"),
}


@pytest.mark.parametrize(("source", "reason"), NO_PROVIDERS.values(), ids=NO_PROVIDERS)
def test_what_is_no_provider_is_told_in_words(tmp_path, monkeypatch, capsys, source, reason):
    """Before anything is sent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "plan.toml").write_text(own_provider("http://127.0.0.1:9/v1"))
    run = ["collect", "plan.toml", "--endpoint", "mine.py:LabServer"]

    assert main([*run, "--store", str(tmp_path / "s.duckdb")]) == 1
    assert reason in capsys.readouterr().err


FAILING = """
from workbench.errors import ProviderUnavailable

class LabServer:
    def __init__(self, base_url, *, api_key, **options):
        self.key = api_key

    async def generate(self, request, on_chunk=None):
        {fault}

    async def count_tokens(self, text):
        return None

    async def aclose(self):
        pass
"""


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("raise ValueError(self.key)", "provider_failed"),
        ("raise ProviderUnavailable(self.key, kind='down')", "down"),
        ("return 'text'", "provider_failed"),
        ("raise ValueError('\\udcff' + self.key)", "provider_failed"),
        ("raise type('Odd', (ValueError,), {{'__str__': lambda _: 1 / 0}})()", "provider_failed"),
        ("raise type('Base', (BaseException,), {{}})(self.key)", "provider_failed"),
        ("raise ProviderUnavailable('\\udcff' + self.key, kind='down')", "down"),
    ],
)
def test_a_fault_of_a_provider_fails_the_attempt_and_leaves_no_key(
    tmp_path, monkeypatch, capsys, fault, kind
):
    """The run goes on, and what is stored of the fault does not hold the key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_KEY", "sk-0123456789abcdef")
    (tmp_path / "mine.py").write_text(FAILING.format(fault=fault))
    (tmp_path / "plan.toml").write_text(own_provider("http://127.0.0.1:9/v1"))
    store = ["--store", str(tmp_path / "s.duckdb")]
    flags = ["--endpoint", "mine.py:LabServer", "--api-key-env", "LAB_KEY"]
    flags += ["--base-url", "http://127.0.0.1:9/v1"]
    status = main(["collect", "plan.toml", *flags, *store])
    capsys.readouterr()
    main(["sql", "SELECT error_type, error_message FROM traces", *store, "--format", "csv"])
    row = capsys.readouterr().out.splitlines()[1]

    assert status == 1
    assert row.startswith(f"{kind},")
    assert "sk-0123" not in row


FROM_OURS = """
from workbench.runner.providers.openai_chat import OpenAIChat

class LabServer(OpenAIChat):
{method}
"""


def of_lab_server(tmp_path, monkeypatch, respond, method, *flags):
    """Collect one attempt from a subclass of ours; return the exit status and the server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FROM_OURS.format(method=method))
    with Stub(respond) as stub:
        monkeypatch.setenv("LAB_URL", stub.url)
        run = ["collect", "--model", "m", "--task", "arithmetic", "--limit", "1"]
        run += ["--retries", "0", "--endpoint", "mine.py:LabServer", "--store", "s.duckdb", *flags]
        base_url = [] if "LAB_URL" in method else ["--base-url", stub.url]
        return main([*run, *base_url]), stub


def test_a_provider_that_cannot_be_closed_leaves_what_it_answered(
    tmp_path, monkeypatch, capsys, caplog
):
    """The attempt is stored and the run reports as usual; a warning holds no key."""
    monkeypatch.setenv("LAB_KEY", "sk-0123456789abcdef")
    method = "    async def aclose(self):\n        await super().aclose()\n"
    method += "        raise RuntimeError('sk-0123456789abcdef')"
    status, _ = of_lab_server(tmp_path, monkeypatch, answer, method, "--api-key-env", "LAB_KEY")

    assert status == 0
    assert "1 collected" in capsys.readouterr().err
    assert "'mine.py:LabServer' could not be closed: RuntimeError: [key]" in caplog.text
    assert "sk-0123" not in caplog.text


def test_a_provider_that_exits_fails_the_attempt(tmp_path, monkeypatch, capsys):
    """`sys.exit` in it does not end the program without a word."""
    method = "    async def generate(self, request, on_chunk=None):\n        raise SystemExit(3)"
    status, _ = of_lab_server(tmp_path, monkeypatch, answer, method)

    assert status == 1
    assert "the provider 'mine.py:LabServer' failed: SystemExit: 3" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["'many'", "-1", "True", "1.5"])
def test_a_count_of_tokens_that_is_none_fails_the_attempt(tmp_path, monkeypatch, capsys, count):
    """It was a traceback where it was used."""
    method = f"    async def count_tokens(self, text):\n        return {count}"
    thinks = stream(delta("<think>1 + 1</think>2"), delta(finish="stop"), DONE)
    strategy = ("--strategy", "budgeted")
    status, _ = of_lab_server(tmp_path, monkeypatch, lambda _: thinks, method, *strategy)

    assert status == 1
    assert "number of tokens or None" in capsys.readouterr().err


def test_a_typed_provider_is_given_the_typed_key_unasked(tmp_path, monkeypatch):
    """Also where the class knows the address itself, and none is typed."""
    monkeypatch.setenv("LAB_KEY", "sk-0123456789abcdef")
    method = "    def __init__(self, base_url, **options):\n        import os\n"
    method += "        super().__init__(os.environ['LAB_URL'], **options)"
    status, stub = of_lab_server(tmp_path, monkeypatch, answer, method, "--api-key-env", "LAB_KEY")

    assert status == 0
    assert stub.requests[0].headers["authorization"] == "Bearer sk-0123456789abcdef"


def test_calls_of_an_own_provider_are_priced(tmp_path, monkeypatch, capsys):
    """By the name that the command line gives it, and the tokens that it reports."""
    (tmp_path / "sheet.toml").write_text(
        '[[price]]\nprovider = "lab"\nmodel = "m"\nstarts_at = 2020-01-01T00:00:00Z\n'
        "input_usd_per_mtok = 10.0\noutput_usd_per_mtok = 100.0\n"
    )
    flags = ("--provider", "lab", "--prices", str(tmp_path / "sheet.toml"))
    status, _ = of_lab_server(tmp_path, monkeypatch, answer, "    pass", *flags)
    capsys.readouterr()
    query = "SELECT input_tokens, output_tokens, cost_usd FROM traces"
    main(["sql", query, "--store", "s.duckdb", "--format", "csv"])

    assert status == 0
    assert capsys.readouterr().out.splitlines()[1] == "9,2,0.00029"


def test_a_tool_in_a_file_is_used_by_an_agent(tmp_path, monkeypatch, capsys):
    """Its class is part of the configuration; a plan's is asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(_MARK + blocks("python"))
    call = {
        "index": 0,
        "id": "c1",
        "function": {"name": "length", "arguments": '{"word": "forest"}'},
    }
    asks = stream(delta(tool_calls=[call]), delta(finish="tool_calls"), usage(), DONE)
    store = ["--store", str(tmp_path / "s.duckdb")]

    def agent(seen):
        return answer(seen) if "tool_call_id" in seen.body.decode() else asks

    strategy = '{name = "react", tools = ["mine.py:Length"], protocol = "native"}'
    with Stub(agent) as stub:
        text = own_provider(stub.url).replace('"direct"', strategy)
        (tmp_path / "plan.toml").write_text(text)
        refused = main(["collect", "plan.toml", *store])
        why, ran = capsys.readouterr().err, (tmp_path / "ran").exists()
        trusted = main(["collect", "plan.toml", *store, "--trust"])
        after = capsys.readouterr().err
    query = "SELECT tool, settings FROM tool_calls JOIN traces USING (trace_id)"
    main(["sql", f"{query} JOIN configurations USING (configuration_id)", *store])
    shown = capsys.readouterr().out

    assert (refused, ran) == (1, False)
    assert "the tool 'mine.py:Length'" in why
    assert trusted == 0, after
    assert "length" in shown
    assert "mine.py:Length#" in shown


def test_a_tool_in_a_file_that_is_none_is_told_in_words(tmp_path, monkeypatch, capsys):
    """Before anything is sent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Length: ...")
    (tmp_path / "plan.toml").write_text(own_provider("http://127.0.0.1:9/v1"))
    flags = ["--strategy", 'react:tools=["mine.py:Length"]']

    assert main(["collect", "plan.toml", *flags, "--store", str(tmp_path / "s.duckdb")]) == 1
    assert "the tool 'mine.py:Length' could not be made" in capsys.readouterr().err


def test_an_unknown_endpoint_offers_the_nearest(tmp_path, capsys):
    """Among those that ship and plug-ins."""
    run = ["collect", "--model", "m", "--task", "arithmetic", "--endpoint", "chatt"]

    assert main([*run, "--store", str(tmp_path / "s.duckdb")]) == 1
    assert "no endpoint is called 'chatt'; did you mean 'chat'?" in capsys.readouterr().err


def test_requests_of_ones_own_provider_are_not_put_into_batches(lab, tmp_path, capsys):
    """A batch would send them by the provider that ships, whatever the user's class does."""
    (tmp_path / "plan.toml").write_text(
        own_provider("http://127.0.0.1:9/v1", endpoint="lab-server") + "\nbatch = true\n"
    )

    assert (
        main(["collect", str(tmp_path / "plan.toml"), "--store", str(tmp_path / "s.duckdb")]) == 1
    )
    assert "cannot be put into batches; leave out batch" in capsys.readouterr().err
