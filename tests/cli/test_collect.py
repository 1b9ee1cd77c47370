"""`workbench collect` against a real socket: what is asked, kept, shown and not asked again."""

import json
import os
import re

import pytest

from tests.support import runner_stub as stub
from workbench import sandbox
from workbench.cli import main
from workbench.cli.progress import line
from workbench.errors import StoreError
from workbench.formats import clock
from workbench.runner import Progress
from workbench.store import Store, open_store

KEY = "sk-very-secret-123"
NOBODY = "http://127.0.0.1:9/v1"  # asking there would end in another message


def answer(_seen):
    """Answer anything with a streamed number."""
    text = [stub.delta("Answer: "), stub.delta("4"), stub.delta(finish="stop")]
    return stub.stream(*text, stub.usage(prompt_tokens=20, completion_tokens=3), stub.DONE)


@pytest.fixture
def collect(tmp_path, capsys):
    """Collect into a fresh store from a server; returns status and stderr."""

    def run(url, *args):
        status = main(
            [
                "collect",
                "--store",
                str(tmp_path / "s.duckdb"),
                "--base-url",
                url,
                "--model",
                "m",
                "--task",
                "arithmetic",
                "--limit",
                "3",
                *map(str, args),
            ]
        )
        captured = capsys.readouterr()
        assert bool(captured.out) == ("--dry-run" in args)
        return status, captured.err

    return run


def test_the_same_command_again_asks_nothing(tmp_path, collect):
    """Traces land in the store; a second run finds them done; more trials add only the new ones."""
    with stub.Stub(answer) as server:
        status, err = collect(server.url, "--trials", 2)
        assert status == 0, err
        assert "6 planned, 0 done before, 6 collected" in err
        status, err = collect(server.url, "--trials", 2)
        assert "6 done before, 0 collected" in err
        status, err = collect(server.url, "--trials", 3, "--dry-run")
        assert "9 planned, 3 missing" in err
        collect(server.url, "--trials", 3)
        assert len(server.requests) == 9

    store = open_store(tmp_path / "s.duckdb")
    assert store.count() == 9
    assert store.sql("SELECT sum(output_tokens) AS n FROM traces")["n"][0] == 27
    assert not list(store.spool_dir.glob("*.jsonl"))


def test_a_store_that_cannot_be_written_leaves_the_answers_in_the_spool(
    tmp_path, collect, monkeypatch
):
    """They are said to wait there, the exit status is 1, and the next command takes them in."""

    def refuse(_store):
        raise StoreError("cannot write the store: the disk is full")

    monkeypatch.setattr(Store, "ingest_spool", refuse)
    with stub.Stub(answer) as server:
        status, err = collect(server.url)
        assert len(server.requests) == 3
    monkeypatch.undo()

    assert status == 1
    assert "the disk is full\nthe traces are in" in err
    assert open_store(tmp_path / "s.duckdb").count() == 3


def test_a_plan_file_is_overruled_by_flags(tmp_path, capsys):
    """Settings < plan < flags."""
    with stub.Stub(answer) as server:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            'models = ["a"]\ntasks = ["arithmetic", "strings"]\nlimit = 2\n'
            f'base_url = "{server.url}"\n'
            'strategies = ["direct", "cot"]\ntemperature = 0.5\n'
        )
        status = main(
            [
                "collect",
                str(plan),
                "--store",
                str(tmp_path / "s.duckdb"),
                "--task",
                "strings",
                "--limit",
                "1",
            ]
        )
        assert status == 0, capsys.readouterr().err
        assert len(server.requests) == 2
        assert {s.json["temperature"] for s in server.requests} == {0.5}


def test_a_price_sheet_prices_what_is_collected_and_bounds_it(tmp_path, collect):
    """The budget stops the run with a sentence and status 1; spend is shown."""
    sheet = tmp_path / "p.toml"
    sheet.write_text(
        '[[price]]\nmodel = "m"\ninput_usd_per_mtok = 1000\noutput_usd_per_mtok = 1000\n'
    )

    with stub.Stub(answer) as server:
        status, err = collect(
            server.url,
            "--prices",
            sheet,
            "--budget-usd",
            1.6,
            "--max-tokens",
            10,
            "--trials",
            40,
            "--concurrency",
            1,
        )

    assert status == 1
    assert "the budget is used up" in err
    cost = open_store(tmp_path / "s.duckdb").overview().cost_usd
    assert 0 < cost <= 1.6


def test_a_budget_without_a_price_is_refused(collect):
    """Nothing is asked that could not be counted."""
    status, err = collect(NOBODY, "--budget-usd", 1)

    assert status == 1
    assert "no price is known" in err


def test_a_server_that_refuses_everything_is_a_failure(collect):
    """Failed traces are data, but a run of nothing else is exit 1."""
    with stub.Stub(
        lambda _seen: stub.fixed(400, b'{"error": {"message": "no such model"}}')
    ) as server:
        status, err = collect(server.url, "--retries", 0)

    assert status == 1
    assert "3 failed" in err


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, collect, monkeypatch):
    """Not into the store, not into what is printed."""
    monkeypatch.setenv("MY_KEY", KEY)
    with stub.Stub(answer) as server:
        status, err = collect(server.url, "--api-key-env", "MY_KEY")
        assert status == 0, err
        assert KEY in server.requests[0].headers["authorization"]

    assert KEY not in err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--task", "nosuch"], 1, "nosuch"),
        (["--strategy", "nosuch"], 1, "nosuch"),
        (["--api-key-env", "NOT_SET_ANYWHERE"], 1, "NOT_SET_ANYWHERE"),
        (["--concurrency", "0"], 1, "concurrency"),
        (["--trials", "many"], 2, "many"),
        (["--endpoint", "telepathy"], 1, "telepathy"),
    ],
)
def test_a_plan_that_cannot_work_is_told(collect, args, status, said):
    """Before anything is asked."""
    found, err = collect(NOBODY, *args)

    assert found == status
    assert said in err


def test_a_broken_plan_file_is_named(tmp_path, capsys):
    """File and reason."""
    plan = tmp_path / "plan.toml"
    plan.write_text("models = [")
    assert main(["collect", str(plan)]) == 1
    assert "plan.toml is not TOML" in capsys.readouterr().err

    plan.write_text('models = ["a"]\ntasks = ["arithmetic"]\nmodle = 1\n')
    assert main(["collect", str(plan), "--store", str(tmp_path / "s.duckdb")]) == 1
    assert "modle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "—"), (0, "0:00"), (59.6, "1:00"), (3723, "1:02:03")]
)
def test_durations_are_clocks(seconds, shown):
    """Unknown is a dash."""
    assert clock(seconds) == shown


def test_progress_says_how_far_how_fast_how_long_and_what_it_costs():
    """One line; unknown spend is a dash."""
    p = Progress(planned=100, before=10, done=30, failed=2, in_flight=4, elapsed_s=15.0)

    assert line(p) == "40 of 100 (4 in flight, 2 failed) · 2.00/s · 0:30 left · —"
    assert re.search(r"· \$0\.50", line(Progress(planned=1, spent_usd=0.5)))


def test_the_plan_is_kept_with_the_run(tmp_path, collect, monkeypatch):
    """Everything that decides what was asked, and nothing that is secret."""
    monkeypatch.setenv("WORKBENCH_PROVIDER", "mine")
    with stub.Stub(answer) as server:
        collect(server.url, "--seed", 7, "--temperature", 0.2)

    store = open_store(tmp_path / "s.duckdb")
    (row,) = store.sql("SELECT plan, status FROM runs").rows(named=True)
    plan = json.loads(row["plan"])
    assert (plan["seed"], plan["temperature"], row["status"]) == (7, 0.2, "done")
    assert plan["provider"] == "mine"


PRICES = '[[price]]\nmodel = "m"\ninput_usd_per_mtok = 1000\noutput_usd_per_mtok = 1000\n'


@pytest.fixture
def priced(tmp_path, capsys):
    """Collect with prices; returns status, stdout, stderr."""
    sheet = tmp_path / "p.toml"
    sheet.write_text(PRICES)

    def run(url, *args):
        status = main(
            [
                "collect",
                "--store",
                str(tmp_path / "s.duckdb"),
                "--base-url",
                url,
                "--model",
                "m",
                "--task",
                "arithmetic",
                "--limit",
                "10",
                "--prices",
                str(sheet),
                *map(str, args),
            ]
        )
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_dry_run_says_what_is_there_what_is_missing_and_what_it_will_take(priced):
    """As a table with intervals for people, as numbers for programs; nothing is asked."""
    with stub.Stub(answer) as server:
        priced(server.url, "--trials", 1)
        status, out, err = priced(server.url, "--trials", 3, "--dry-run")
        assert status == 0
        assert "30 planned, 20 missing" in err
        assert "elapsed about" in err
        assert "10 items, this configuration" in out
        assert "$0.460" in out  # 20 × 23 tokens × $0.001
        assert "total energy is not known: not measured for 1 of 1 rows" in err

        _, out, _ = priced(server.url, "--trials", 3, "--dry-run", "--format", "json")
        assert len(server.requests) == 10

    (row,) = json.loads(out)["rows"]
    assert (row["planned"], row["there"], row["missing"]) == (30, 10, 20)
    assert row["cost_usd"] == pytest.approx(0.46)
    assert (row["energy_j"], row["energy_j_unknown_because"]) == (None, "not measured")
    assert json.loads(out)["more"]["total"][0]["output_tokens"] == 60


def test_without_history_a_dry_run_says_so(priced):
    """A dash and the way to get one."""
    _, out, err = priced(NOBODY, "--dry-run")

    assert "nothing like it" in out
    assert (
        "the total cost, tokens in, tokens out, latencies, energy are not known: no history" in err
    )
    assert "--pilot N" in err


def test_a_budget_that_will_not_do_is_told_before_it_is_spent(priced):
    """From history; the run then stops where it was foretold."""
    with stub.Stub(answer) as server:
        priced(server.url, "--trials", 1)
        status, _, err = priced(
            server.url, "--trials", 3, "--budget-usd", 0.6, "--concurrency", 1, "--max-tokens", 3
        )
        # another cap is another configuration: like it is only the model with the strategy
        assert "will not do: $0.69 expected; it ends after about 26 of 30 attempts" in err
        assert "30 planned, 0 done before, 26 collected" in err
        assert status == 1


def test_a_pilot_is_made_and_yes_goes_on(priced, tmp_path):
    """One run: the pilot's traces are its first."""
    with stub.Stub(answer) as server:
        status, out, err = priced(server.url, "--trials", 2, "--pilot", 3, "--yes")
        assert (status, out) == (0, "")
        assert "the pilot is finished; 17 attempts are left" in err
        assert "3 items, this configuration" in err
        assert len(server.requests) == 20

    store = open_store(tmp_path / "s.duckdb")
    assert store.sql("SELECT count(*) AS n, count(DISTINCT run_id) AS r FROM traces").row(0) == (
        20,
        1,
    )


def test_where_nobody_can_answer_it_ends_after_the_pilot(priced):
    """The same command with --yes makes the rest."""
    with stub.Stub(answer) as server:
        status, _, err = priced(server.url, "--pilot", 3)
        assert status == 1
        assert "the same command with --yes" in err
        assert len(server.requests) == 3

        status, _, err = priced(server.url, "--pilot", 3, "--yes")
        assert (status, len(server.requests)) == (0, 10)


@pytest.mark.parametrize(("typed", "asked"), [(b"y\n", 10), (b"\n", 3), (b"no\n", 3)])
def test_a_person_is_asked_after_the_pilot(priced, monkeypatch, typed, asked):
    """Only a yes goes on; nothing typed is a no."""
    master, slave = os.openpty()
    os.write(master, typed)
    with stub.Stub(answer) as server, os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        status, _, err = priced(server.url, "--pilot", 3)
    os.close(master)

    assert "continue? [y/N]" in err
    assert (status, len(server.requests)) == (0 if asked == 10 else 1, asked)


def test_formats_are_for_dry_runs(priced):
    """A collection prints no data."""
    status, _, err = priced(NOBODY, "--format", "json")

    assert status == 2
    assert "--dry-run" in err


def test_a_task_of_code_is_collected_from_a_folder_and_analysed_in_another(
    tmp_path, capsys, monkeypatch
):
    """What tests took is what code-efficiency reads; the plan that is shown names its file so that
    it is found."""
    if (why := sandbox.why_not()) is not None:
        pytest.skip(why)
    items = [
        {"input": f"Write f that adds {n}.", "metadata": {"tests": [f"assert f(1) == {n + 1}"]}}
        for n in (1, 2)
    ]
    header = {"task": "code", "scorer": "unit_tests"}
    folder, elsewhere = tmp_path / "here", tmp_path / "there"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "code.jsonl").write_text("\n".join(map(json.dumps, [header, *items])))
    store = ["--store", str(tmp_path / "s.duckdb")]

    def write(seen):
        asked = json.loads(seen.body)
        n = re.findall(r"adds (\d)", seen.body.decode())[-1]
        wait = "import time; time.sleep(0.4)\n" if asked["model"] == "slow" else ""
        code = f"```python\n{wait}def f(x): return x + {n}\n```"
        told = stub.usage(prompt_tokens=20, completion_tokens=3)
        return stub.stream(stub.delta(code), stub.delta(finish="stop"), told, stub.DONE)

    with stub.Stub(write) as server:
        plan = folder / "plan.toml"
        plan.write_text(
            'models = ["quick", "slow"]\ntasks = ["code.jsonl"]\n'
            f'base_url = "{server.url}"\nretries = 0\n'
        )
        assert main(["collect", str(plan), *store]) == 0, capsys.readouterr().err
        monkeypatch.chdir(elsewhere)
        main(["runs", "show", "latest", *store])
        shown = elsewhere / "again.toml"
        shown.write_text(capsys.readouterr().out)
        assert main(["collect", str(shown), *store]) == 0
        assert "4 planned, 4 done before" in capsys.readouterr().err
    main(["analyze", "code-efficiency", "--by", "model", "--format", "json", *store])
    found = json.loads(capsys.readouterr().out)

    assert str(folder / "code.jsonl") in shown.read_text()
    rows = {row["model"]: row for row in found["rows"]}
    assert {name: (row["n_items"], row["n"]) for name, row in rows.items()} == {
        "quick": (2, 2),
        "slow": (2, 2),
    }
    assert rows["quick"]["dps"] > rows["slow"]["dps"]


def some_fail(seen):
    """Refuse one of three for now, and one for good."""
    text = seen.body.decode()
    if "Item one" in text:
        return stub.fixed(500, b'{"error": {"message": "out of memory"}}')
    if "Item two" in text:
        return stub.fixed(413, b'{"error": {"message": "too long"}}')
    return answer(seen)


@pytest.fixture
def three(tmp_path):
    """A task of three items."""
    lines = [
        json.dumps({"input": f"Item {n}: what is 2 + 2?", "target": "4"})
        for n in ("one", "two", "three")
    ]
    path = tmp_path / "three.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(("flags", "status"), [((), 1), (("--allow-partial",), 0)])
def test_a_run_with_failures_is_not_ok(tmp_path, three, flags, status, capsys):
    """Exit 1 and a last line that says what is missing; --allow-partial takes what there is."""
    command = [
        "collect",
        "--model",
        "m",
        "--task",
        str(three),
        "--store",
        str(tmp_path / "s.duckdb"),
        "--retries",
        "0",
        *flags,
    ]
    with stub.Stub(some_fail) as server:
        found = main([*command, "--base-url", server.url])
        err = capsys.readouterr().err

    assert found == status
    assert "1 collected, 2 failed, 0 left" in err
    assert "1 × http_500: the server answered 500: out of memory (e.g. three/" in err
    assert err.splitlines()[-1] == (
        "not complete: of 3 attempts 1 failed, 1 refused for good; to make those that"
        " failed or are left, run the same command again"
    )


def test_what_was_refused_for_good_before_is_not_ok_later(tmp_path, three, capsys):
    """The second launch asks for the one that may pass, and does not call the plan whole."""
    command = [
        "collect",
        "--model",
        "m",
        "--task",
        str(three),
        "--store",
        str(tmp_path / "s.duckdb"),
        "--retries",
        "0",
    ]
    with stub.Stub(some_fail) as server:
        main([*command, "--base-url", server.url])
        server._respond = lambda seen: (
            stub.fixed(413, b"{}") if b"Item two" in seen.body else answer(seen)
        )
        capsys.readouterr()
        status = main([*command, "--base-url", server.url])
        err = capsys.readouterr().err

    assert status == 1
    assert "done: 3 planned, 2 done before, 1 collected, 0 failed, 0 left" in err
    assert err.splitlines()[-1] == "not complete: of 3 attempts 1 refused for good"


def test_an_answer_without_a_score_is_not_ok(tmp_path, capsys, monkeypatch):
    """The scorer's own fault is told; a run in which everything is scored ends with a line that
    says so."""
    from workbench.errors import TaskError
    from workbench.runner.attempts import grading

    async def broken(*_):
        raise TaskError("no such checker")

    command = [
        "collect",
        "--model",
        "m",
        "--task",
        "arithmetic",
        "--limit",
        "2",
        "--store",
        str(tmp_path / "s.duckdb"),
    ]
    with stub.Stub(answer) as server:
        whole = main([*command, "--base-url", server.url])
        last = capsys.readouterr().err.splitlines()[-1]
        monkeypatch.setattr(grading, "_run", broken)
        unscored = main([*command, "--base-url", server.url, "--trials", "2"])
        err = capsys.readouterr().err

    assert (whole, unscored) == (0, 1)
    assert last == "all 2 attempts are answered and scored"
    assert "2 × not scored: the scorer failed: no such checker" in err
    assert err.splitlines()[-1] == "not complete: of 4 attempts 2 without a score"
