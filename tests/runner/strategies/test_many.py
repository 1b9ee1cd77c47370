"""Strategies of several calls: what each call asks, which answer wins, and what the trace then
holds."""

import asyncio
import json
import math

import pytest

from tests.support.launches import records, task_set
from tests.support.runner_stub import DONE, Stub, data, delta, fixed, stream, usage
from tests.support.scripted import ITEM, InTurn, run_in_turn
from workbench.records import Call, Configuration
from workbench.runner import Plan, Work, collect, expand, strategies
from workbench.runner.strategies.best_of_n import likelihood, read_mark
from workbench.spool import SpoolWriter


def say(text, **fields):
    """One streamed reply."""
    return stream(
        delta(text, **fields),
        delta(finish="stop"),
        usage(prompt_tokens=20, completion_tokens=4, total_tokens=24),
        DONE,
    )


def launch(folder, url, name, run_id="r1", *, items=1, options=None, params=None, **settings):
    """Collect with one strategy; returns the report and the traces."""
    plan = Plan(
        models=("m",),
        tasks=("sums",),
        strategies=(name,),
        strategy_params={name: params or {}},
        base_url=url,
        retries=0,
        concurrency=1,
        **settings,
    )
    made = [strategies.get(s, **plan.strategy_params[s]) for s in plan.strategies]
    work = Work(plan, [task_set(items)], made)
    with SpoolWriter(folder, run_id) as writer:
        report = asyncio.run(collect(plan, spool=writer, work=work, **(options or {})))
    return report, records(folder, run_id=run_id)


# ---- self-consistency
# -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "chosen", "confidence"),
    [
        (["Answer: 3", "1 + 1 = 2. Answer: 2", "So. Answer: 2"], 1, 2 / 3),
        (["Answer: 2", "Answer: 3", "Answer: 3", "Answer: 2"], 0, 0.5),
        (["Answer: 3", "Answer: 4", "Answer: 2"], 0, 1 / 3),
        (["Answer: 1,000", "Answer: 5", "It is 1000"], 0, 2 / 3),
        (["I cannot say", "no idea", "Answer: 2"], 2, 1 / 3),
        (["I cannot say", "no idea"], 0, None),
        (["Answer: 2"], 0, 1.0),
    ],
    ids=["majority", "tie", "all differ", "one answer in two spellings", "no vote", "none", "one"],
)
async def test_the_majority_of_the_answers_that_the_scorer_reads_wins(texts, chosen, confidence):
    """Its first reply is scored, its share of all samples is the confidence."""
    outcome, session, script = await run_in_turn("self_consistency", *texts, samples=len(texts))

    assert outcome.answer_text == texts[chosen]
    assert outcome.confidence == confidence
    assert [c.role for c in session.calls] == ["subject"] * len(texts)
    assert all(r.messages == script.requests[0].messages for r in script.requests)
    assert {r.sampling["temperature"] for r in script.requests} == {0.7}


async def test_every_call_has_a_seed_of_its_own_that_comes_again():
    """The first is the attempt's; another attempt's seeds are others; without a seed there is
    none."""

    async def seeds(**sampling):
        script = InTurn(*["Answer: 2"] * 8)
        await strategies.get("self_consistency", samples=8).run(script.session(**sampling), ITEM)
        return [r.sampling.get("seed") for r in script.requests]

    first, again, other = [await seeds(seed=s) for s in (7, 7, 8)]
    assert first == again
    assert first[0] == 7
    assert len({*first, *other}) == 16
    assert all(0 <= s < 2**31 for s in first)
    assert await seeds() == [None] * 8


def test_every_sample_is_in_the_trace_and_paid_for(tmp_path):
    """By name and parameters from the plan: calls, tokens, budget, and the vote."""
    answers = ["Answer: 9", "One. Answer: 1", "Answer: 1"]
    with Stub(lambda seen: say(answers[seen.number % 3])) as stub:
        report, (trace,) = launch(
            tmp_path,
            stub.url,
            "self_consistency",
            seed=3,
            temperature=0.1,
            params={"samples": 3, "temperature": 1},
            options={"price": lambda c: 0.5},
        )

    assert (trace.passed, trace.answer, trace.confidence) == (True, "1", pytest.approx(2 / 3))
    assert [(c.ordinal, c.role, c.output_tokens) for c in trace.calls] == [
        (0, "subject", 4),
        (1, "subject", 4),
        (2, "subject", 4),
    ]
    said = [(m.call_ordinal, m.text) for m in trace.messages if m.role == "assistant"]
    assert said == list(enumerate(answers))
    assert (trace.n_turns, report.output_tokens, report.spent_usd) == (3, 12, 1.5)
    assert {r.json["temperature"] for r in stub.requests} == {1.0}
    assert len({r.json["seed"] for r in stub.requests}) == 3
    (configuration,) = records(tmp_path, Configuration)
    assert json.loads(configuration.strategy_params) == {
        "shots": 5,
        "samples": 3,
        "temperature": 1.0,
    }


def test_a_sample_that_fails_fails_the_attempt_and_keeps_what_was_paid(tmp_path):
    """No vote of fewer samples than were asked for; those in flight are waited for, and none is
    asked again."""

    def flaky(seen):
        return fixed(503, b"{}") if seen.number == 1 else say("Answer: 1")

    with Stub(flaky) as stub:
        settings = {"params": {"samples": 3}}
        report, (failed,) = launch(tmp_path, stub.url, "self_consistency", **settings)
        again, (trace,) = launch(tmp_path, stub.url, "self_consistency", "r2", **settings)

    assert (report.failed, failed.error_type, failed.passed, failed.confidence) == (
        1,
        "http_503",
        None,
        None,
    )
    assert [c.output_tokens for c in failed.calls] == [4, None, 4]
    assert (again.collected, trace.confidence, stub.n) == (1, 1.0, 4)
    assert [c.error_type for c in trace.calls] == [None, None, None, "http_503"]
    assert trace.trace_id == failed.trace_id


def test_a_budget_holds_within_the_first_attempt(tmp_path):
    """Nobody knows yet how long one is: of five calls with room for four, four are asked, and none
    is lost."""

    def price(call):
        return None if call.output_tokens is None else call.output_tokens * 0.01

    with Stub(lambda seen: say("Answer: 1")) as stub:
        report, traces = launch(
            tmp_path,
            stub.url,
            "self_consistency",
            max_tokens=4,
            budget_usd=0.19,
            options={"price": price},
        )

    assert (stub.n, traces, report.status, report.left) == (4, [], "cancelled", 1)
    assert report.spent_usd <= 0.19
    assert len(list((tmp_path / "arrived").iterdir())) == 1


@pytest.mark.parametrize("name", sorted({*strategies.names()} - {"plain"}))
def test_a_plan_names_a_strategy_and_its_parameters(name):
    """Every strategy is found by its name; a whole number for a float is the same configuration."""
    settings = {"models": ["m"], "tasks": ["arithmetic"], "strategies": [name], "limit": 1}
    settings["helpers"] = {helper: {"model": helper} for helper in ("small", "large", "judge")}
    work = expand(Plan.from_mapping(settings | {"strategy_params": {name: {"shots": 1}}}))

    assert json.loads(work.configurations[0][0].strategy_params)["shots"] == 1
    assert strategies.get("self_consistency", temperature=1).params["temperature"] == 1.0


# ---- self-refine
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "rounds", "answer", "roles"),
    [
        (["Answer: 3", "It is 2.", "Answer: 2"], 1, "Answer: 2", "svs"),
        (["Answer: 4", "No.", "Answer: 3", "No.", "Answer: 2"], 2, "Answer: 2", "svsvs"),
        (["Answer: 2", "**No mistakes.**"], 3, "Answer: 2", "sv"),
        (["Answer: 3", "Wrong.", "Answer: 2", "no mistakes"], 3, "Answer: 2", "svsv"),
        (["Answer: 3", "No mistakes but the sum.", "Answer: 2"], 1, "Answer: 2", "svs"),
        (["Answer: 3", "Wrong.", " "], 2, "Answer: 3", "svs"),
        (["Answer: 3", ""], 2, "Answer: 3", "sv"),
        ([""], 2, "", "s"),
    ],
    ids=[
        "one round",
        "two",
        "content",
        "content later",
        "but",
        "no revision",
        "no critique",
        "none",
    ],
)
async def test_an_answer_is_refined_until_no_mistake_is_found(texts, rounds, answer, roles):
    """The last answer counts; no call is made that has nothing to work on."""
    outcome, session, script = await run_in_turn("self_refine", *texts, rounds=rounds)

    assert outcome.answer_text == answer
    assert "".join(c.role[0] for c in session.calls) == roles
    assert script.texts == []
    for before, after in zip(script.requests, script.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
        assert [m["role"] for m in after.messages[-2:]] == ["assistant", "user"]


def test_a_refined_answer_is_one_chat_in_the_trace(tmp_path):
    """Nothing is said twice; the critique is paid for and is no turn of the subject."""
    texts = ["Answer: 7", "0 + 1 is not 7.", "Answer: 1"]
    with Stub(lambda seen: say(texts[seen.number])) as stub:
        report, (trace,) = launch(
            tmp_path, stub.url, "self_refine", seed=1, options={"price": lambda c: 0.5}
        )

    assert (trace.passed, trace.answer, trace.n_turns) == (True, "1", 2)
    assert [c.role for c in trace.calls] == ["subject", "verifier", "subject"]
    assert [m.text for m in trace.messages if m.role == "assistant"] == texts
    assert [m.role for m in trace.messages] == ["system"] + ["user", "assistant"] * 3
    assert (report.spent_usd, report.output_tokens) == (1.5, 12)
    assert len({r.json["seed"] for r in stub.requests}) == 3


# ---- best of n
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "chosen", "score", "n_calls"),
    [
        (["Answer: 3", "Answer: 2", "Score: 2", "Right. Score: 9"], "Answer: 2", 0.9, 4),
        (["Answer: 3", "Answer: 2", "Score: 5", "Score: 5"], "Answer: 3", 0.5, 4),
        (["Answer: 3", "Answer: 2", "who knows", "Score: 0"], "Answer: 2", 0.0, 4),
        (["Answer: 3", "Answer: 2", "?", "?"], "Answer: 3", None, 4),
        (["Answer: 3", "Answer: 3", "Score: 4"], "Answer: 3", 0.4, 3),
        (["", "Answer: 2", "Score: 0"], "Answer: 2", 0.0, 3),
    ],
    ids=["best", "tie", "unread ranks last", "none read", "same text once", "empty is not marked"],
)
async def test_the_reply_with_the_best_mark_wins(texts, chosen, score, n_calls):
    """The verifier sees the question and each different reply, at temperature 0."""
    outcome, session, script = await run_in_turn("best_of_n", *texts, samples=2)

    marks = script.requests[2:]
    assert (outcome.answer_text, outcome.verifier_score) == (chosen, score)
    assert outcome.confidence is None
    assert [c.role for c in session.calls] == ["subject"] * 2 + ["verifier"] * (n_calls - 2)
    assert {r.sampling["temperature"] for r in script.requests[:2]} == {0.7}
    assert {r.sampling["temperature"] for r in marks} == {0.0}
    assert all(ITEM.input in r.messages[0]["content"] for r in marks)
    assert chosen in "".join(r.messages[0]["content"] for r in marks)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Score: 7", 0.7),
        ("**Score:** 7.5/10", 0.75),
        ("score = 10.", 1.0),
        ("Score: 0", 0.0),
        ("Score: 3. No: it is right.\nScore: 9", 0.9),
        ("Score: 85", None),
        ("Score: 100", None),
        ("Score: -1", None),
        ("7", None),
        ("Score: seven", None),
        ("", None),
        ("underscore: 3", None),
    ],
)
def test_a_mark_is_read_or_is_unknown(text, mark):
    """0 to 10 after its word, the last one; anything else is no mark."""
    assert read_mark(text) == (None if mark is None else pytest.approx(mark))


def test_the_likelihood_is_the_geometric_mean_of_the_tokens_probabilities():
    """0.5, 0.5 and 0.125 have the mean (1/32)^(1/3); nothing is made up without log
    probabilities."""
    logs = math.log(0.5) * 2 + math.log(0.125)

    assert likelihood(Call(logprob_sum=logs, output_tokens=3)) == pytest.approx(32 ** (-1 / 3))
    assert likelihood(Call(logprob_sum=None, output_tokens=3)) is None
    assert likelihood(Call(logprob_sum=-1.0, output_tokens=None)) is None
    assert likelihood(Call(logprob_sum=0.0, output_tokens=0)) is None


def test_log_probabilities_choose_without_another_call(tmp_path):
    """Asked for by the plan's extra_body; where one reply lacks them, all are marked instead."""

    def serve(seen):
        per_token = math.log((0.2, 0.8, 0.4)[seen.number % 3])
        tokens = [{"token": "x", "logprob": per_token}] * 4
        piece = {"index": 0, "delta": {"content": f"Answer: {seen.number}"}, "finish_reason": None}
        piece |= {"logprobs": {"content": tokens}} if seen.json.get("logprobs") else {}
        return stream(
            data({"model": "stub-1", "choices": [piece]}),
            delta(finish="stop"),
            usage(prompt_tokens=20, completion_tokens=4, total_tokens=24),
            DONE,
        )

    with Stub(serve) as stub:
        _, (trace,) = launch(
            tmp_path, stub.url, "best_of_n", params={"samples": 3}, extra_body={"logprobs": True}
        )
    with Stub(lambda seen: say("Answer: 1" if seen.number < 2 else "Score: 6")) as stub:
        _, (marked,) = launch(tmp_path, stub.url, "best_of_n", "r2", params={"samples": 2})

    assert (trace.passed, trace.answer, len(trace.calls)) == (True, "1", 3)
    assert trace.verifier_score == pytest.approx(0.8)
    assert (marked.verifier_score, marked.n_turns) == (0.6, 2)
    assert [c.role for c in marked.calls] == ["subject", "subject", "verifier"]
