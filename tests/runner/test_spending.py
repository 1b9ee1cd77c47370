"""The budgets of a plan hold for the plan, over all its launches; those of a launch for the
launch."""

import asyncio
import datetime as dt

import pytest

from tests.support import runner_stub as stub
from tests.support.chains import Chain, Killed, Server
from tests.support.launches import answer, make, task_set
from workbench.cli import main
from workbench.cli.estimates import spent_of
from workbench.records import Call, EnergyBalance, Price, Run
from workbench.runner import Plan, Work, collect
from workbench.runner.planning.plan_budget import Spent, describe_spent, remaining
from workbench.spool import SpoolWriter
from workbench.store import open_store

TEN = Plan(models=("m",), tasks=("t",), budget_usd=10.0)


@pytest.mark.parametrize(
    ("spent_usd", "limits", "left"),
    [
        (0.0, {}, {"budget_usd": 10.0}),
        (6.5, {}, {"budget_usd": 3.5}),
        (12.0, {}, {"budget_usd": 0.0}),
        (6.5, {"budget_usd": 2.0}, {"budget_usd": 2.0}),
        (6.5, {"budget_usd": 20.0}, {"budget_usd": 3.5}),
        (6.5, {"budget_tokens": 9.0}, {"budget_usd": 3.5, "budget_tokens": 9.0}),
    ],
)
def test_what_is_left_of_a_plan_and_a_launch_both_hold(spent_usd, limits, left):
    """Ten dollars for the plan are never more than ten; a limit of the launch only makes it
    less."""
    assert remaining(TEN, Spent(budget_usd=spent_usd), limits) == left


def test_what_was_spent_before_is_said():
    """In the unit of each budget that was set; nothing where nothing was spent."""
    assert describe_spent(TEN, Spent(budget_tokens=5.0)) == []
    assert describe_spent(TEN, Spent(budget_usd=6.5)) == [
        "budget_usd = $10 is for all launches of the plan: $6.5 spent before, $3.5 left"
    ]


def launch(store, run_id, url, *, ingest, limits=None, **settings):
    """Collect sums of 22 tokens each, with what the plan spent before."""
    plan, work = make(url, tasks=[task_set(100)], max_tokens=4, energy="off", **settings)
    with SpoolWriter(store.spool_dir, run_id) as writer:
        report = asyncio.run(
            collect(
                plan,
                spool=writer,
                work=work,
                limits=limits,
                spent=lambda work: spent_of(store, work),
            )
        )
    if ingest:
        store.ingest_spool()
    return report


def test_a_budget_of_a_plan_holds_over_its_launches(tmp_path):
    """1,320 tokens are sixty answers, however many launches make them, and wherever their traces
    lie."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    with stub.Stub(answer) as server:
        first = launch(
            store, "r1", server.url, ingest=False, budget_tokens=1320, limits={"budget_tokens": 660}
        )
        second = launch(store, "r2", server.url, ingest=True, budget_tokens=1320)
        third = launch(store, "r3", server.url, ingest=True, budget_tokens=1320)
        assert server.n == 60
        other = launch(
            store,
            "r4",
            server.url,
            ingest=True,
            budget_tokens=1320,
            models=("other",),
            limits={"budget_tokens": 660},
        )

    assert [r.collected for r in (first, second, third, other)] == [30, 30, 0, 30]
    before = (
        "budget_tokens = 1,320 tokens is for all launches of the plan:"
        " {} tokens spent before, {} tokens left"
    )
    assert second.notes[0] == before.format("660", "660")
    assert third.notes[0] == before.format("1,320", "0")
    assert "the budget is used up" in second.notes[1]


def test_replies_without_a_trace_and_calls_without_an_amount_count(tmp_path):
    """A killed attempt's three answers are paid; a call whose usage nobody told counts as their
    mean."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    dollar = {"input_usd_per_mtok": 1e6, "output_usd_per_mtok": 1e6}
    store.add_prices([Price(model="m", sheet="mine", **dollar)])
    plan = Plan(models=("m",), tasks=("sums",), retries=0, concurrency=1, energy="off")
    work = Work(plan, [task_set(2)], [Chain()])

    class Dies(Server):
        async def generate(self, request, on_chunk=None):
            if len(self.answered) == 8:
                raise Killed
            reply = await super().generate(request, on_chunk)
            return type(reply)(text=reply.text, call=Call()) if len(self.answered) == 3 else reply

    with pytest.raises(Killed), SpoolWriter(store.spool_dir, "r1") as writer:
        asyncio.run(collect(plan, spool=writer, work=work, provider=Dies()))
    unsettled = spent_of(store, work)
    store.ingest_spool()

    for found in (unsettled, spent_of(store, work)):
        assert found.budget_tokens == pytest.approx(8 * 13)
        assert found.budget_usd == pytest.approx(8 * 13)
    other = Plan(models=("other",), tasks=("sums",))
    assert spent_of(store, Work(other, [task_set(2)], [Chain()])) == Spent()


def test_joules_and_seconds_are_those_of_the_plans_runs(tmp_path):
    """The meter of a run that ended, with its idle power; how long each run lasted."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    begin = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    with stub.Stub(answer) as server:
        for n in (1, 2):
            launch(store, f"r{n}", server.url, ingest=False, trials=n)
    plan, work = make(NOWHERE, tasks=[task_set(100)], max_tokens=4, energy="off")
    with SpoolWriter(store.spool_dir, "later") as writer:
        for n, minutes in ((1, 2), (2, 5), (3, 60)):
            ended = begin + dt.timedelta(minutes=minutes)
            run = Run(run_id=f"r{n}", kind="collect", source="runner", started_at=begin)
            writer.append(
                Run(
                    run_id=f"r{n}",
                    kind="collect",
                    source="runner",
                    status="done",
                    started_at=begin,
                    ended_at=ended,
                )
            )
            writer.append(EnergyBalance(run_id=run.run_id, device="gpu:0", meter_j=100.0 * n))
    waiting = spent_of(store, work)
    store.ingest_spool()

    assert plan.budget_j is None
    assert (waiting.budget_j, waiting.budget_time_s) == (300.0, 7 * 60.0)
    assert spent_of(store, work).budget_j == 300.0


NOWHERE = "http://127.0.0.1:9/v1"


def test_a_plan_file_is_continued_within_its_budget(tmp_path, capsys):
    """Dry run and report say what was spent before; a flag is for the launch and is no part of the
    plan."""
    store = str(tmp_path / "s.duckdb")
    told = stub.usage(prompt_tokens=20, completion_tokens=2, total_tokens=22)
    reply = stub.stream(stub.delta("Answer: 4", finish="stop"), told, stub.DONE)
    with stub.Stub(lambda _seen: reply) as server:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            f'models = ["m"]\ntasks = ["arithmetic"]\nbase_url = "{server.url}"\nmax_tokens = 4\n'
            "concurrency = 1\nretries = 0\nbudget_tokens = 1100\n"
        )
        run = ["collect", str(plan), "--store", store]
        status = main([*run, "--budget-tokens", "550"])
        first = capsys.readouterr().err
        n_first = server.n
        main([*run, "--dry-run"])
        dry = capsys.readouterr().err
        main(run)
        second = capsys.readouterr().err

    shown = "budget_tokens = 1,100 tokens is for all launches of the plan: {} tokens spent before"
    assert (status, n_first) == (1, 25)
    assert "for all launches" not in first
    assert shown.format(550) in dry
    assert shown.format(550) in second
    spent = open_store(tmp_path / "s.duckdb").sql(
        "SELECT sum(input_tokens + output_tokens) AS n, any_value(plan) AS plan FROM traces"
        " JOIN runs USING (run_id)"
    )
    assert (spent["n"][0], server.n) == (1100, 50)
    assert '"budget_tokens":1100' in spent["plan"][0]


def test_an_edit_of_the_strategy_does_not_fill_the_budget_again(tmp_path, capsys):
    """The edit makes another configuration, whose attempts are all missing; the plan is the
    same."""
    store = str(tmp_path / "s.duckdb")
    usage = stub.usage(prompt_tokens=20, completion_tokens=2, total_tokens=22)
    reply = stub.stream(stub.delta("Answer: 4", finish="stop"), usage, stub.DONE)
    code = tmp_path / "mine.py"
    text = (
        "from workbench.runner import Outcome\n\n\nclass Mine:\n    name = 'mine'\n\n"
        "    async def run(self, session, item):\n"
        "        said = await session.generate([{'role': 'user', 'content': item.question}])\n"
        "        return Outcome(said.text)\n"
    )
    with stub.Stub(lambda _seen: reply) as server:
        plan = tmp_path / "plan.toml"
        plan.write_text(
            f'models = ["m"]\ntasks = ["arithmetic"]\nbase_url = "{server.url}"\nmax_tokens = 4\n'
            'strategies = ["mine.py:Mine"]\nconcurrency = 1\nretries = 0\nbudget_tokens = 1100\n'
        )
        run = ["collect", str(plan), "--store", store, "--trust"]
        code.write_text(text)
        main([*run, "--budget-tokens", "550"])
        n_first = server.n
        code.write_text(text + "\n# edited\n")
        capsys.readouterr()
        main(run)

    assert (n_first, server.n) == (25, 50)
    assert "550 tokens spent before, 550 tokens left" in capsys.readouterr().err
    configurations = open_store(tmp_path / "s.duckdb").sql("FROM configurations")
    assert configurations.height == 2
