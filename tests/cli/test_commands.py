"""Commands on a real small store: what they print, where, and with which exit status."""

import json
import re
import shlex
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.support import making
from workbench import schema
from workbench.cli import main
from workbench.cli.app import COMMANDS, LazyGroup, cli
from workbench.records import Result as Figure
from workbench.store import checks, open_store
from workbench.store.examples import EXAMPLES


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all reading commands."""
    return making.small_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def ask(store, capsys, monkeypatch):
    """Run a command on the store; returns status, stdout, stderr."""
    monkeypatch.setenv("WORKBENCH_STORE", str(store.path))

    def run(*args):
        status = main([str(a) for a in args])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def rows(text):
    """Read the rows of a JSON document."""
    return json.loads(text)["rows"]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_the_line_that_help_shows(name, capsys):
    """Help names commands without importing them; the lines must not drift."""
    import click

    command = LazyGroup().get_command(click.Context(cli), name)

    assert command is not None
    assert command.name == name
    assert (command.help or "").strip().split("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]
    assert main([name, "--help"]) == 0
    assert "Usage: workbench" in capsys.readouterr().out


def test_sql_prints_rows_and_reads_stdin(ask, monkeypatch):
    """A dash is stdin."""
    import io

    status, out, _ = ask("sql", "SELECT count(*) AS n FROM traces", "--format", "json")
    assert (status, rows(out)) == (0, [{"n": 31}])

    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1 AS one"))
    status, out, _ = ask("sql", "-", "--format", "csv")
    assert (status, out) == (0, "one\n1\n")


@pytest.mark.parametrize(
    "query", ["DROP TABLE traces", "selec 1", "SELECT nosuch FROM traces", "DELETE FROM traces"]
)
def test_a_query_that_the_engine_refuses_is_said_without_a_traceback(ask, store, query):
    """Nothing can be changed through sql."""
    status, out, err = ask("sql", query)

    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert store.count() == 31


def test_export_writes_a_slice_of_a_view(ask, tmp_path):
    """Text, Parquet, and the whole store as a folder that can be read back."""
    status, out, _ = ask(
        "export", "trace_facts", "--where", "model:gpt-5 right", "--format", "json"
    )
    assert status == 0
    assert {r["model"] for r in rows(out)} == {"gpt-5"}
    assert json.loads(out)["provenance"]["where"] == "model:gpt-5 right"

    path = tmp_path / "calls.parquet"
    assert ask("export", "call_facts", "--output", path)[0] == 0
    assert pl.read_parquet(path).columns == list(schema.CALL_FACTS.names)

    folder = tmp_path / "all"
    assert ask("export", "all", "--folder", folder)[0] == 0
    other = tmp_path / "copy.duckdb"
    status, out, err = ask("import", folder, "--store", other, "--format", "json")
    assert status == 0, err
    assert open_store(other).count() == 31


def test_analyze_answers_with_the_declared_options(ask):
    """Options come from the declaration; the answer carries its provenance."""
    status, out, err = ask(
        "analyze",
        "summary",
        "--by",
        "model",
        "--where",
        "task:sums",
        "--level",
        "0.9",
        "--format",
        "json",
    )
    found = json.loads(out)

    assert status == 0, err
    assert found["name"] == "summary"
    assert {r["model"] for r in found["rows"]} == {"gpt-5", "gpt-4o", "nobody-knows"}
    assert found["provenance"]["options"]["level"] == 0.9
    assert found["provenance"]["where"] == "task:sums"
    assert next(r for r in found["rows"] if r["model"] == "nobody-knows")["cost_usd"] is None


def test_analyze_by_takes_the_short_names_of_filters(ask):
    """config is configuration, here as in a filter."""
    _, out, _ = ask("analyze", "summary", "--by", "config,task", "--format", "json")

    assert {"configuration", "task"} <= set(rows(out)[0])


def test_analyze_list_names_every_analysis(ask):
    """The catalogue is the registry's."""
    from workbench import analysis

    status, out, _ = ask("analyze", "--list")

    assert status == 0
    assert all(name in out for name in analysis.names())


@pytest.mark.parametrize("kind", ["sql", "polars", "cell"])
def test_analyze_prints_the_code_of_the_view(ask, kind):
    """Every table can be copied."""
    status, out, err = ask("analyze", "summary", "--as", kind, "--where", "wrong")

    assert status == 0, err
    assert "passed" in out or "wrong" in out


def test_analyze_draws_a_chart_to_a_file(ask, tmp_path):
    """The ending chooses."""
    path = tmp_path / "chart.svg"
    status, _, err = ask("analyze", "frontier", "--output", path)

    assert status == 0, err
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["analyze", "sumary"], "try summary"),
        (["analyze", "summary", "--level", "2"], "level: 2.0 is above"),
        (["analyze", "summary", "--nosuch"], "--nosuch"),
        (["analyze", "summary", "--where", "modle:x"], "did you mean model?"),
        (["analyze", "summary", "--by", "a,,b"], "a column name is empty"),
        (["analyze", "summary", "--output", "x.xls"], "no known suffix"),
        (["analyze", "frontier", "--where", "wrong", "--aggregates"], "--where filters traces"),
        (
            ["analyze", "summary", "--aggregates"],
            "analyses of published figures are frontier, steady-state, tradeoff",
        ),
        (["export", "nosuch"], "nosuch"),
        (["export", "all"], "VIEW all needs --folder"),
        (["schema", "trace_fact"], "did you mean trace_facts?"),
        (["imprt"], "Did you mean import?"),
        (["import"], "Missing argument"),
        (["import", "/no/such/file"], "does not exist"),
        (["collect"], "no model was given; name one with --model"),
        (["sql", "SELECT 1", "--format", "xml"], "xml"),
        (["tui"], "needs a terminal"),
    ],
)
def test_misuse_is_told_and_exits_with_2(ask, args, said):
    """What to type instead is in the message."""
    status, out, err = ask(*args)

    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    "args",
    [["runs"], ["analyze", "summary"], ["sql", "SELECT 1"], ["faults"], ["models"], ["prices"]],
)
def test_a_missing_store_says_what_to_do_next(capsys, tmp_path, args):
    """Exit 1, and the command that makes one."""
    status = main([*args, "--store", str(tmp_path / "none.duckdb")])

    assert status == 1
    assert "workbench import" in capsys.readouterr().err


def test_a_store_option_before_the_command_counts(capsys, tmp_path):
    """And one after it wins."""
    missing = tmp_path / "none.duckdb"

    assert main(["--store", str(missing), "runs"]) == 1
    assert str(missing) in capsys.readouterr().err
    assert main(["--store", "x", "runs", "--store", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err


def test_a_file_that_is_no_store_is_refused(capsys, tmp_path):
    """Exit 1 and the path, not an engine's traceback."""
    path = tmp_path / "x.duckdb"
    path.write_bytes(b"not a database at all" * 100)

    assert main(["runs", "--store", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


def test_listings_show_what_is_there(ask):
    """Runs, tasks and models, straight from the views."""
    assert rows(ask("runs", "--format", "json")[1])[0]["n_traces"] == 31
    assert [r["task"] for r in rows(ask("tasks", "--format", "json")[1])] == ["sums"]
    assert len(rows(ask("models", "--format", "json")[1])) == 3
    shipped = rows(ask("tasks", "--shipped", "--format", "json")[1])
    assert len(shipped) >= 4
    assert all(r["n_items"] >= 60 for r in shipped)


def test_prices_are_listed_and_a_sheet_reprices(capsys, tmp_path):
    """An unpriced model has a cost once the user's sheet names it; twice changes nothing."""
    store = making.small_store(tmp_path)
    sheet = tmp_path / "mine.csv"
    sheet.write_text("model,input_usd_per_mtok,output_usd_per_mtok\nnobody-knows,1,2\n")
    assert store.count("unpriced") == 10

    assert main(["prices", "add", str(sheet), "--store", str(store.path)]) == 0
    assert "1 new; the cost of 10 traces changed" in capsys.readouterr().err
    assert store.count("unpriced") == 0
    assert main(["prices", "add", str(sheet), "--store", str(store.path)]) == 0
    assert "0 new; the cost of 0 traces changed" in capsys.readouterr().err

    main(["prices", "--model", "NOBODY", "--store", str(store.path), "--format", "json"])
    (row,) = rows(capsys.readouterr().out)
    assert (row["sheet"], row["output_usd_per_mtok"]) == ("mine.csv", 2.0)


def test_a_broken_price_sheet_is_told(capsys, tmp_path):
    """File and entry are named; nothing is added."""
    sheet = tmp_path / "mine.csv"
    sheet.write_text("model,input_usd_per_mtok\nx,lots\n")

    assert main(["prices", "add", str(sheet), "--store", str(tmp_path / "s.duckdb")]) == 1
    assert "mine.csv" in capsys.readouterr().err


def test_faults_are_listed_and_checked(capsys, tmp_path):
    """The linter as a command; --check turns what it finds into an exit status."""
    store = making.small_store(tmp_path)
    bad = making.Call(
        provider="openai", model="gpt-5", input_tokens=10, output_tokens=5, reasoning_tokens=9
    )
    store.ingest([making.run(), making.trace(making.DIRECT, making.ITEMS[0], 7, calls=(bad,))])
    where = ["--store", str(store.path)]

    assert main(["faults", *where, "--format", "json"]) == 0
    (row,) = rows(capsys.readouterr().out)
    assert (row["fault"], row["detail"]) == ("thinking_over_output", "thinking 9 > output 5")
    assert main(["faults", *where, "--check"]) == 1
    assert main(["faults", *where, "--check", "--where", "model:gpt-4o"]) == 0


def test_schema_describes_every_table_and_column(ask):
    """Documentation and database come from one place."""
    listed = rows(ask("schema", "--format", "json")[1])
    assert [r["table"] for r in listed] == list(schema.RELATIONS)

    described = rows(ask("schema", "trace_facts", "--format", "json")[1])
    assert [r["column"] for r in described] == list(schema.TRACE_FACTS.names)


@pytest.mark.parametrize(("title", "query"), EXAMPLES, ids=[t for t, _ in EXAMPLES])
def test_every_example_query_runs(store, title, query):
    """Ten and more, on a store with something in every table."""
    store.sql(query)

    assert title.endswith(("?", ".", ")"))


def test_schema_lists_the_names_that_filters_know(ask):
    """Every name with its column, so that nobody needs to guess."""
    from workbench.slice import FIELDS

    found = rows(ask("schema", "--filters", "--format", "json")[1])

    fixed = {f.name for f in FIELDS.values()}
    assert {r["name"] for r in found} == fixed | {"metrics.exact", "metrics.judge"}
    assert next(r for r in found if r["name"] == "out")["also"] == "tokens, output_tokens"


def test_examples_are_printed_as_sql(ask):
    """Ready to paste."""
    status, out, _ = ask("schema", "--examples")

    assert status == 0
    assert len(EXAMPLES) >= 10
    assert out.count("-- ") == len(EXAMPLES)


def test_doctor_finds_nothing_wrong_with_a_sound_store(ask):
    """Every check holds; what has no price is only mentioned."""
    status, out, err = ask("doctor", "--format", "json")
    found = {r["check"]: r for r in rows(out)}

    assert status == 0, err
    assert found["models asked whose price is unknown"]["found"] == "1"
    assert "prices add" in found["models asked whose price is unknown"]["what to do"]
    assert found["without a price"]["found"] == "nobody-knows"


def test_doctor_counts_the_checks_that_passed_in_one_row(ask):
    """A table for people; scripts get every check."""
    _, shown, _ = ask("doctor")
    _, out, _ = ask("doctor", "--format", "json")
    passed = [row for row in rows(out) if row["found"] == "0"]

    assert len(passed) > 50
    assert f"{len(passed)} (--format csv lists them)" in shown
    assert "traces of no run" not in shown
    assert "models asked whose price is unknown" in shown


DAMAGE = [
    ("UPDATE traces SET cost_usd = cost_usd + 1 WHERE cost_usd > 0", "traces whose tokens or cost"),
    ("UPDATE traces SET input_tokens = 1", "traces whose tokens or cost"),
    ("DELETE FROM runs", "traces of no run"),
    ("DELETE FROM configurations", "traces of no configuration"),
    ("DELETE FROM items", "traces of no item"),
    ("DELETE FROM tasks", "items of no task"),
    ("DELETE FROM contents", "messages without their text"),
    ("DELETE FROM prices", "prices that calls point at"),
    ("DELETE FROM traces WHERE trial = 0", "calls of no trace"),
]


@pytest.mark.parametrize(("statement", "check"), DAMAGE, ids=[c for _, c in DAMAGE])
def test_doctor_finds_damage(store, tmp_path, statement, check):
    """Each invariant can fail, and says so."""
    path = Path(shutil.copy(store.path, tmp_path / "damaged.duckdb"))
    store = open_store(path)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(statement)

    broken = {c.name: c.n for c in checks.checks(store) if c.fatal and c.n}

    assert any(name.startswith(check) for name in broken), broken


def test_doctor_says_what_is_damaged_and_fails(store, tmp_path, capsys):
    """The command that finds it ends with 1, so that a script notices."""
    path = Path(shutil.copy(store.path, tmp_path / "damaged.duckdb"))
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM items")

    assert main(["doctor", "--store", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "traces of no item" in out
    assert "damaged" in err


def test_doctor_without_a_store_says_how_to_make_one(capsys, tmp_path):
    """Nothing is made by looking."""
    path = tmp_path / "none.duckdb"

    assert main(["doctor", "--store", str(path)]) == 0
    assert "missing" in capsys.readouterr().out
    assert not path.exists()


def test_an_error_shows_hostile_text_by_name(capsys, tmp_path):
    """A path may hold escape sequences too."""
    main(["runs", "--store", str(tmp_path / "a\x1b[2Jb.duckdb")])

    assert "\x1b" not in capsys.readouterr().err


def test_bare_workbench_shows_help_and_where_to_begin(capsys):
    """The first thing a newcomer types."""
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "workbench demo" in out
    assert all(name in out for name in COMMANDS)


def test_a_configuration_error_is_told(capsys, monkeypatch, tmp_path):
    """File and key are named, for every command that reads settings."""
    folder = tmp_path / "workbench"
    folder.mkdir()
    Path(folder / "config.toml").write_text("stroe = 'x'\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert main(["runs"]) == 1
    assert "did you mean store?" in capsys.readouterr().err


def test_a_store_without_published_figures_says_so(ask):
    """It was a guess at the name of a metric."""
    status, _, said = ask("analyze", "frontier", "--aggregates")
    assert status == 1
    assert "has no published figures" in said


def test_a_store_of_published_figures_says_what_to_type(tmp_path, capsys):
    """What it names answers; the question about traces fails."""
    figures = open_store(tmp_path / "figures.duckdb", create=True)
    told = [
        Figure(
            run_id="run-1",
            configuration_id=c.configuration_id,
            task_id=making.TASK.task_id,
            metric=metric,
            unit="USD" if metric == "dollars" else "0..1",
            value=value,
        )
        for c, pair in ((making.DIRECT, (0.5, 2.0)), (making.COT, (0.4, 1.0)))
        for metric, value in zip(("accuracy", "dollars"), pair, strict=True)
    ]
    figures.ingest([making.run(), making.TASK, making.DIRECT, making.COT, *told])

    assert main(["analyze", "summary", "--store", str(figures.path)]) == 1
    said = capsys.readouterr().err
    command = re.search(r"run: workbench (analyze frontier .*) \(likewise", said)
    assert "4 published figures (accuracy, dollars)" in said

    assert "--x dollars --y accuracy" in said
    assert main([*shlex.split(command[1]), "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
