"""Collecting: every attempt of a plan once, failures as data, and only what is missing the next
time."""

import asyncio
import datetime as dt
import gc
import json

import pytest

from tests.support.launches import answer, make, records, run, task_set
from tests.support.runner_stub import DONE, Stub, data, delta, fixed, reply_pieces, stream, usage
from workbench import spool
from workbench.datasets import Example, TaskSet
from workbench.errors import ConfigError, StoreError
from workbench.records import Attempt, Configuration, Item, Run
from workbench.runner import Plan, StopSignal, Work, collect, expand
from workbench.runner.attempts.session import Outcome
from workbench.runner.execution import launch
from workbench.runner.execution.worker_pool import WorkerPool
from workbench.runner.planning.plan import seed_of
from workbench.spool import SpoolWriter

KEY = "sk-test-0123456789abcdef"


def test_every_attempt_is_made_once_and_scored(tmp_path):
    """2 models × 2 strategies × 3 items × 2 trials, with all they refer to written before them."""
    with Stub(answer) as stub:
        report = run(tmp_path, stub.url, models=("a", "b"), strategies=("direct", "cot"), trials=2)

    every = records(tmp_path, object)
    traces = records(tmp_path)
    keys = {(t.configuration_id, t.item_id, t.trial) for t in traces}
    assert (report.status, report.planned, report.collected, report.failed, report.left) == (
        "done",
        24,
        24,
        0,
        0,
    )
    assert len(traces) == len(keys) == 24
    assert {t.configuration_id for t in traces} == {
        c.configuration_id for c in records(tmp_path, Configuration)
    }
    assert {t.item_id for t in traces} == {i.item_id for i in records(tmp_path, Item)}
    assert isinstance(every[0], Run)
    assert every.index(traces[0]) > max(every.index(c) for c in records(tmp_path, Configuration))
    assert (report.input_tokens, report.output_tokens, report.spent_usd) == (24 * 20, 48, None)


def test_a_trace_says_everything_that_happened(tmp_path):
    """Answer, score, calls, messages and times of one attempt."""
    with Stub(answer) as stub:
        run(tmp_path, stub.url, tasks=[task_set(1)], machine="box")

    (trace,) = records(tmp_path)
    (call,) = trace.calls
    assert (trace.answer, trace.score, trace.passed, trace.stop_reason) == ("1", 1.0, True, "stop")
    assert (trace.n_turns, trace.error_type, trace.scores[0].scorer) == (1, None, "numeric")
    assert [(m.role, m.kind) for m in trace.messages][-2:] == [
        ("user", "text"),
        ("assistant", "text"),
    ]
    assert trace.messages[-1].text == " 1"
    assert (call.ordinal, call.role, call.machine, call.provider) == (0, "subject", "box", "local")
    assert 0 < call.machine_s <= call.e2e_s + 2.0
    assert 0 < call.ttft_s <= call.e2e_s <= trace.e2e_s
    assert 0 < trace.working_s <= trace.e2e_s
    begun, ended = records(tmp_path, Run)
    assert (begun.status, ended.status, ended.n_planned) == ("running", "done", 1)
    assert begun.started_at <= trace.started_at <= ended.ended_at
    assert json.loads(begun.plan)["models"] == ["m"]


def test_the_same_command_again_does_nothing(tmp_path):
    """What is in the spool is not asked again."""
    with Stub(answer) as stub:
        run(tmp_path, stub.url)
        report = run(tmp_path, stub.url, "r2")

    assert (report.status, report.before, report.collected, stub.n) == ("done", 3, 0, 3)


def test_what_the_store_holds_is_not_asked_again(tmp_path):
    """The store is asked for the configurations of the plan."""
    asked = []
    with Stub(answer) as stub:
        _, work = make(stub.url)
        first = next(iter(work)).key

        def done(ids):
            asked.extend(ids)
            return {first}

        report = run(tmp_path, stub.url, options={"done": done})

    assert asked == work.configuration_ids
    assert (report.before, report.collected, stub.n) == (1, 2, 2)
    assert first not in {(t.configuration_id, t.item_id, t.trial) for t in records(tmp_path)}


def test_more_trials_ask_only_for_the_new_ones(tmp_path):
    """A plan may grow."""
    with Stub(answer) as stub:
        run(tmp_path, stub.url)
        report = run(tmp_path, stub.url, "r2", trials=2)

    assert (report.before, report.collected) == (3, 3)
    assert {t.trial for t in records(tmp_path, run_id="r2")} == {1}


def test_a_failed_call_is_data_and_is_tried_again_the_next_time(tmp_path):
    """Error beside null usage; the run goes on; the next launch makes it good."""

    def flaky(seen):
        return fixed(503, b"{}") if stub.n <= 3 and "1 + 1" in seen.body.decode() else answer(seen)

    with Stub(flaky) as stub:
        first = run(tmp_path, stub.url, concurrency=1)
        again = run(tmp_path, stub.url, "r2")

    failed = [t for t in records(tmp_path, run_id="r1") if t.error_type]
    assert (first.collected, first.failed) == (2, 1)
    assert (failed[0].error_type, failed[0].stop_reason, failed[0].passed) == (
        "http_503",
        "error",
        None,
    )
    assert (failed[0].calls[0].output_tokens, failed[0].calls[0].error_type) == (None, "http_503")
    assert (again.before, again.collected, again.failed) == (2, 1, 0)


def test_a_request_that_is_refused_for_good_is_not_tried_again(tmp_path):
    """The same prompt would be too long again."""
    with Stub(lambda seen: fixed(413, b"{}")) as stub:
        run(tmp_path, stub.url)
        again = run(tmp_path, stub.url, "r2")

    assert (again.before, again.collected) == (3, 0)


def test_what_arrived_of_a_broken_reply_is_kept(tmp_path):
    """The beginning of the answer is in the messages of the failed trace."""
    with Stub(lambda seen: stream(delta(" I think"), end=False)) as stub:
        run(tmp_path, stub.url, tasks=[task_set(1)])

    (trace,) = records(tmp_path)
    assert trace.error_type == "connection"
    assert trace.messages[-1].text == " I think"
    assert trace.calls[0].ttft_s > 0


def test_a_configuration_that_is_always_refused_is_stopped(tmp_path):
    """A few refusals say enough; the other configuration goes on."""

    def picky(seen):
        return (
            fixed(404, b'{"error":{"message":"no model b"}}')
            if seen.json["model"] == "b"
            else answer(seen)
        )

    with Stub(picky) as stub:
        report = run(tmp_path, stub.url, tasks=[task_set(40)], models=("a", "b"), concurrency=2)

    assert (report.status, report.collected) == ("cancelled", 40)
    assert 5 <= report.failed <= 7
    assert "stopped 'b direct' after 5 failures in a row" in report.notes[0]
    assert "no model b" in report.notes[0]


def test_the_budget_ends_the_run_and_the_next_one_goes_on(tmp_path):
    """Never more than the budget, and close to it."""

    def price(call):
        return None if call.output_tokens is None else call.output_tokens * 0.01

    with Stub(answer) as stub:
        settings = {"tasks": [task_set(30)], "max_tokens": 4, "budget_usd": 0.21}
        report = run(tmp_path, stub.url, options={"price": price}, **settings)
        rest = run(
            tmp_path, stub.url, "r2", options={"price": price}, **settings | {"budget_usd": 10}
        )

    assert (report.status, report.collected) == ("cancelled", 10)
    assert report.spent_usd == pytest.approx(0.20)
    assert "budget is used up" in report.notes[0]
    assert (rest.before, rest.collected, rest.status) == (10, 20, "done")


def test_a_budget_without_prices_is_refused_before_anything_is_asked(tmp_path):
    """Nothing is sent and nothing written."""
    with Stub(answer) as stub, pytest.raises(ConfigError, match="price"):
        run(tmp_path, stub.url, budget_usd=1.0, options={"price": lambda call: None})

    assert (stub.n, records(tmp_path, object)) == (0, [])


def test_the_first_stop_waits_for_what_is_in_flight(tmp_path):
    """Nothing new begins; everything begun is written."""
    stop = StopSignal()
    slow = lambda seen: [s for s in answer(seen) for s in (0.02, s)]  # noqa: E731  # one line
    with Stub(slow) as stub:
        report = run(
            tmp_path,
            stub.url,
            tasks=[task_set(50)],
            options={"stop": stop, "on_progress": lambda p: p.done == 1 and stop()},
        )

    assert report.status == "cancelled"
    assert report.collected == stub.n == len(records(tmp_path, Attempt)) <= 8
    assert records(tmp_path, Run)[-1].status == "cancelled"


def test_the_second_stop_cancels_what_is_in_flight(tmp_path):
    """It ends at once; what was in flight is made again the next time, and the report says so."""
    stop = StopSignal()
    with Stub(lambda seen: [*stream(delta(" 1"))[:2], 30.0]) as stub:

        async def twice():
            while stub.n < 3:  # noqa: ASYNC110  # the stub counts in a thread of its own
                await asyncio.sleep(0.01)
            stop()
            await asyncio.sleep(0.1)
            stop()

        async def launch():
            plan, work = make(stub.url)
            with SpoolWriter(tmp_path, "r1") as writer:
                stopping = asyncio.create_task(twice())
                report = await collect(plan, spool=writer, work=work, stop=stop)
                await stopping
                return report

        report = asyncio.run(asyncio.wait_for(launch(), 10))

    with Stub(answer) as stub:
        again = run(tmp_path, stub.url, "r2")
    assert (report.status, report.collected) == ("cancelled", 0)
    assert (again.collected, again.repeated) == (3, 3)
    assert "3 attempts were under way when an earlier run ended, and are made again" in str(again)


def test_a_fault_of_the_program_stops_the_run_and_says_so(tmp_path):
    """No trace is made up for it."""

    class Broken:
        name, params = "broken", {}

        async def run(self, session, item):
            raise ZeroDivisionError("oops")

    with Stub(answer) as stub:
        plan, _ = make(stub.url)
        work = Work(plan, [task_set()], [Broken()])
        with SpoolWriter(tmp_path, "r1") as writer, pytest.raises(ZeroDivisionError):
            asyncio.run(collect(plan, spool=writer, work=work))

    last = records(tmp_path, Run)[-1]
    assert (last.status, records(tmp_path)) == ("failed", [])
    assert "ZeroDivisionError: oops" in last.error_message


def test_a_disk_that_refuses_stops_the_run(tmp_path, monkeypatch):
    """No call is made whose answer could not be kept safe."""
    n_syncs = []

    def full(fd):
        n_syncs.append(fd)
        if len(n_syncs) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.os, "fsync", full)
    with (
        Stub(lambda seen: [0.02, *answer(seen)]) as stub,
        pytest.raises(StoreError, match="No space left on device"),
    ):
        run(tmp_path, stub.url, tasks=[task_set(500)], concurrency=2)

    assert stub.n < 100


def _filling(monkeypatch, stub, *, frees):
    """Let the disk refuse lines once the server has answered four times; with room again where
    `frees` says so."""
    real = spool.os.write

    def write(fd, line):
        if stub.n >= 4 and not frees():
            raise OSError(28, "No space left on device")
        return real(fd, line)

    monkeypatch.setattr(spool.os, "write", write)


def test_what_arrives_while_the_disk_is_full_is_written_when_there_is_room(
    tmp_path, monkeypatch, caplog
):
    """Nothing more is begun, and every answer that the server gave is in the spool."""
    with Stub(lambda seen: [0.02, *answer(seen)]) as stub:
        _filling(monkeypatch, stub, frees=lambda: "No space left" in caplog.text and held[0] > 3)
        held, sleep = [0], asyncio.sleep

        async def counting(delay_s, *rest):
            held[0] += "No space left" in caplog.text
            return await sleep(delay_s, *rest)

        monkeypatch.setattr(asyncio, "sleep", counting)
        report = run(tmp_path, stub.url, tasks=[task_set(50)], concurrency=4)

        assert len(records(tmp_path)) == stub.n < 50
    assert report.status == "cancelled"
    assert any("No space left on device" in note for note in report.notes)


def test_answers_that_no_disk_takes_are_counted_as_lost(tmp_path, monkeypatch):
    """One sentence says how many and why, after a wait for room."""
    monkeypatch.setattr(launch, "DISK_WAIT_S", 0.2)
    with Stub(lambda seen: [0.02, *answer(seen)]) as stub:
        _filling(monkeypatch, stub, frees=lambda: False)
        with pytest.raises(StoreError, match=r"\d answers are lost: .*No space left on device"):
            run(tmp_path, stub.url, tasks=[task_set(50)], concurrency=4)
        n_written = len(records(tmp_path))

    assert stub.n - 8 <= n_written < stub.n < 50


def test_faults_of_all_workers_print_one_error(tmp_path, capfd):
    """asyncio has nothing to say of workers that failed beside the first."""

    async def go():
        workers = WorkerPool(_fail_together(asyncio.Barrier(4)), ramp_s=0.0)
        workers.resize(4, 4)
        await workers.run()

    with pytest.raises(StoreError):
        asyncio.run(go())
    gc.collect()
    assert "never retrieved" not in capfd.readouterr().err


def _fail_together(barrier):
    async def step():
        await barrier.wait()
        raise StoreError("full")

    return step


def test_the_key_is_in_no_line_of_the_spool(tmp_path):
    """Not even when the server sends it back in everything that it says."""

    def echo(seen):
        key = seen.headers["authorization"].removeprefix("Bearer ")
        bad = b'{"error":{"message":"bad key %s"}}' % key.encode()
        return (
            fixed(401, bad)
            if seen.number % 2
            else stream(
                delta(key),
                usage(prompt_tokens=1, x=key),
                delta(finish="stop"),
                DONE,
                x_request_id=key,
            )
        )

    with Stub(echo) as stub:
        run(tmp_path, stub.url, api_key_env="THE_KEY", options={"environ": {"THE_KEY": KEY}})

    written = b"".join(s.path.read_bytes() for s in spool.segments(tmp_path))
    assert stub.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert b"[key]" in written
    assert KEY.encode() not in written
    assert b"THE_KEY" in written


def test_a_key_inside_the_plan_is_refused(tmp_path):
    """It would be written to the run's record."""
    with (
        Stub(answer) as stub,
        pytest.raises(ConfigError, match="the plan contains the API key") as caught,
    ):
        run(
            tmp_path,
            stub.url,
            extra_body={"api_key": KEY},
            api_key_env="THE_KEY",
            options={"environ": {"THE_KEY": KEY}},
        )

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": []}, "models"),
        ({"models": ["m"], "tasks": ["t"], "trails": 2}, "trails"),
        ({"models": ["m"], "tasks": ["t"], "trials": 0}, "trials"),
        ({"models": ["m"], "tasks": ["t"], "base_url": "ftp://x"}, "base_url"),
        ({"models": ["m"], "tasks": ["t"], "base_url": "https://u:secret@x/v1"}, "api_key_env"),
        ({"models": ["m"], "tasks": ["t"], "api_key_env": "sk-secret"}, "never the key"),
        (
            {"models": ["m"], "tasks": ["t"], "endpoint": "completions", "template": "no"},
            "template",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused(settings, said):
    """The error names the setting, and never shows a secret."""
    with pytest.raises(ConfigError, match=said) as caught:
        Plan.from_mapping({"tasks": ["t"]} | settings)

    assert "secret" not in str(caught.value)


def test_a_missing_key_names_its_variable():
    """What to set, for whom."""
    plan = Plan(
        models=("m",),
        tasks=("t",),
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
    )

    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY is not set.*openai"):
        plan.api_key({})


def test_any_beginning_of_the_order_is_balanced():
    """Configurations and tasks differ by one at most within a trial; the order is the same each
    time."""
    _, work = make(
        "http://x/v1", tasks=[task_set(10, "a"), task_set(10, "b")], models=("m", "n"), trials=2
    )
    order = list(work)

    for length in range(len(order)):
        for part in ("configuration", "task"):
            counts = [
                sum(getattr(p, part) is value for p in order[:length])
                for value in {id(getattr(p, part)): getattr(p, part) for p in order}.values()
            ]
            assert max(counts) - min(counts) <= 2
    assert [p.key for p in order] == [p.key for p in work]
    assert len(order) == len(work) == len({p.key for p in order}) == 80
    assert [p.trial for p in order] == [0] * 40 + [1] * 40


def test_a_limit_takes_the_same_items_each_time_and_not_only_easy_ones():
    """The items follow their content, not their place in the file."""
    _, work = make("http://x/v1", tasks=[task_set(60)], limit=12)
    chosen = [i.difficulty for i in work.items]
    _, again = make("http://x/v1", tasks=[task_set(60)], limit=12)

    assert chosen == [i.difficulty for i in again.items]
    assert 10 < sum(chosen) / 12 < 50


def test_seeds_differ_by_item_and_trial_and_come_from_the_base(tmp_path):
    """The same for all configurations, so that they are compared on the same luck."""
    seeds = {seed_of(b, i, t) for b in (1, 2) for i in ("x", "y") for t in (0, 1)}
    with Stub(answer) as stub:
        run(tmp_path, stub.url, models=("a", "b"), seed=5, trials=2)

    sent = [(s.json["model"], s.json["seed"]) for s in stub.requests]
    assert len(seeds) == 8
    assert all(0 <= s < 2**31 for s in seeds)
    assert seed_of(None, "x", 0) is None
    assert {s for m, s in sent if m == "a"} == {s for m, s in sent if m == "b"}
    assert len(set(sent)) == 12


def test_progress_tells_rate_and_what_is_left(tmp_path):
    """After each attempt, in order."""
    seen = []
    with Stub(answer) as stub:
        run(
            tmp_path,
            stub.url,
            options={"on_progress": lambda p: seen.append((p.done, p.left, p.eta_s))},
        )

    assert [(d, left) for d, left, _ in seen] == [(1, 2), (2, 1), (3, 0)]
    assert seen[-1][2] == 0.0
    assert seen[0][2] > 0


def test_a_killed_run_is_marked_as_interrupted(tmp_path):
    """The next launch writes down how the earlier one ended."""
    begun = Run(
        run_id="old",
        kind="collect",
        source="runner",
        status="running",
        started_at=dt.datetime.now(dt.UTC),
    )
    with SpoolWriter(tmp_path, "old") as writer:
        writer.append(begun)  # and then the process is gone
    with Stub(answer) as stub:
        run(tmp_path, stub.url)

    last = records(tmp_path, Run, "old")[-1]
    assert (last.status, json.loads(last.metadata)) == ("interrupted", {"n_in_flight_at_end": 0})


def test_a_strategy_of_many_calls_keeps_them_in_order(tmp_path):
    """Roles, ordinals, and no message twice when a chat goes on."""

    class Twice:
        name, params = "twice", {}

        async def run(self, session, item):
            chat = [{"role": "user", "content": item.question}]
            one = await session.generate(chat, role="draft")
            chat += [
                {"role": "assistant", "content": one.text},
                {"role": "user", "content": "Sure?"},
            ]
            two = await session.generate(chat, max_tokens=3)
            return Outcome(two.text, confidence=0.5)

    with Stub(lambda seen: stream(*reply_pieces(2))) as stub:
        plan, _ = make(stub.url)
        work = Work(plan, [task_set(1)], [Twice()])
        with SpoolWriter(tmp_path, "r1") as writer:
            asyncio.run(collect(plan, spool=writer, work=work))

    (trace,) = records(tmp_path)
    assert [(c.ordinal, c.role) for c in trace.calls] == [(0, "draft"), (1, "subject")]
    assert [(m.ordinal, m.role, m.call_ordinal) for m in trace.messages] == [
        (0, "user", 0),
        (1, "assistant", 0),
        (2, "user", 1),
        (3, "assistant", 1),
    ]
    assert (trace.n_turns, trace.confidence) == (1, 0.5)
    assert stub.requests[1].json["max_tokens"] == 3


@pytest.mark.parametrize(
    ("text", "visible", "thinking", "n_thinking"),
    [
        ("<think>a b</think> 4", "4", "a b", 2),
        ("a b</think>4", "4", "a b", 2),
        ("<think>a b", "", "a b", 2),
        ("4", "4", None, 0),
        ("x <think>a</think>4", "x4", "a", 2),
    ],
    ids=["tagged", "only closed", "never closed", "no tags", "text before"],
)
def test_tagged_thinking_is_taken_out_and_counted(tmp_path, text, visible, thinking, n_thinking):
    """By the server's own tokenizer, no more than the output."""

    class Thinks:
        name, params = "thinks", {}

        async def run(self, session, item):
            reply = await session.generate(
                [{"role": "user", "content": "?"}], thinking_tags=("<think>", "</think>")
            )
            return Outcome(json.dumps([reply.text, reply.thinking]))

    def serve(seen):
        if seen.path == "/tokenize":
            return fixed(200, b'{"tokens":[1,2,3,4]}')
        return stream(
            *[delta(c) for c in text],
            delta(finish="stop"),
            usage(prompt_tokens=1, completion_tokens=2),
            DONE,
        )

    with Stub(serve) as stub:
        plan, _ = make(stub.url)
        with SpoolWriter(tmp_path, "r1") as writer:
            asyncio.run(collect(plan, spool=writer, work=Work(plan, [task_set(1)], [Thinks()])))

    (trace,) = records(tmp_path)
    kinds = {m.kind: m.text for m in trace.messages if m.role == "assistant"}
    assert kinds == {k: v for k, v in (("thinking", thinking), ("text", visible)) if v}
    assert (trace.calls[0].reasoning_tokens, trace.calls[0].tokens_source) == (
        n_thinking,
        "counted",
    )
    assert (trace.calls[0].answer_start_s is None) == (not visible)


def test_a_base_model_gets_the_chat_as_text(tmp_path):
    """Instruction, worked examples and the question, up to where the model goes on; it stops at the
    next one."""
    example = Example(input="What is 7 + 1?", target="8")
    bare = task_set(1)
    task = TaskSet(bare.task, bare.items, bare.scorer, bare.prompt, (example,))
    piece = data({"model": "b", "choices": [{"text": " 1\n", "finish_reason": "stop"}]})
    with Stub(lambda seen: stream(piece, DONE)) as stub:
        report = run(tmp_path, stub.url, tasks=[task], endpoint="completions", max_tokens=5)

    (seen,), (trace,) = stub.requests, records(tmp_path)
    prompt = seen.json["prompt"]
    assert (report.status, report.failed, seen.path) == ("done", 0, "/v1/completions")
    assert "Question: What is 7 + 1?\nAnswer: 8\n\nQuestion: What is 0 + 1?\nAnswer:" in prompt
    assert prompt.startswith("Answer.")
    assert (seen.json["stop"], seen.json["max_tokens"]) == (["\nQuestion:"], 5)
    assert (trace.passed, trace.answer) == (True, "1")
    assert trace.messages[0].text == prompt
    assert json.loads(records(tmp_path, Configuration)[0].settings) == {
        "endpoint": "completions",
        "template": "question_answer",
    }


def test_a_strategy_may_write_the_prompt_of_a_base_model_itself(tmp_path):
    """`complete` sends a text as it is."""

    class Continues:
        name, params = "continues", {"style": "bare"}

        async def run(self, session, item):
            return Outcome((await session.complete(f"{item.input} =", stop=["\n"])).text)

    piece = data({"model": "b", "choices": [{"text": " 1", "finish_reason": "stop"}]})
    with Stub(lambda seen: stream(piece, DONE)) as stub:
        plan, _ = make(stub.url, endpoint="completions", template="plain")
        with SpoolWriter(tmp_path, "r1") as writer:
            asyncio.run(collect(plan, spool=writer, work=Work(plan, [task_set(1)], [Continues()])))

    assert stub.requests[0].json["prompt"] == "What is 0 + 1? ="
    assert stub.requests[0].json["stop"] == ["\n"]
    assert records(tmp_path, Configuration)[0].strategy_params == '{"style":"bare"}'
    assert records(tmp_path)[0].passed


def test_a_plan_is_expanded_by_the_names_of_tasks_and_strategies():
    """What ships is found; parameters reach their strategy; the same name twice is refused."""
    settings = {"models": ["m"], "tasks": ["arithmetic"], "limit": 2}
    work = expand(Plan.from_mapping(settings | {"strategy_params": {"direct": {"shots": 1}}}))

    assert (len(work), work.configurations[0][0].strategy_params) == (2, '{"shots":1}')
    with pytest.raises(ConfigError, match="twice"):
        expand(Plan.from_mapping(settings | {"models": ["m", "m"]}))
