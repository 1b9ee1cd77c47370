"""Questions in parts, steps by two models, deferral, trees: who is asked what, what is accepted,
what bounds it."""

import math

import pytest

from tests.support.scripted import ITEM, run
from workbench.errors import ConfigError, ProviderRejected
from workbench.runner import strategies
from workbench.runner.strategies.cascade import read_confidence
from workbench.runner.strategies.plan_and_budget import Part, allot, read_plan
from workbench.runner.strategies.steps import cut, has_answer

# ---- plan and budget
# ------------------------------------------------------------------------------


async def test_parts_are_answered_in_turn_each_under_its_cap():
    """Difficulty 2 and 4 with linear decay over two parts weigh 2·2 and 4·1: half of 100 tokens
    each."""
    texts = {
        "draft": ["1. [2] What is one?\n2. [4] What is twice it?", "It is 1.", "It is 2."],
        "subject": ["Answer: 2"],
    }
    outcome, _, model = await run(
        "plan_and_budget", texts, total_tokens=100, answer_tokens=9, schedule="linear"
    )

    assert model.roles == "ddds"
    assert [a.request.sampling.get("max_tokens") for a in model.asked] == [None, 50, 50, 9]
    plan, first, second, last = (a.last for a in model.asked)
    assert plan == ITEM.input
    assert "only this part of it, in 50 tokens at most: What is one?" in first
    assert "What is one?\n  It is 1." in second
    assert "What is twice it?\n  It is 2." in last
    assert outcome.answer_text == "Answer: 2"
    assert outcome.metadata == {"parts": 2, "difficulties": [2, 4], "caps": [50, 50]}


@pytest.mark.parametrize(
    ("plan", "parts"),
    [
        ("1. [3] What is it?", [Part("What is it?", 3)]),
        (
            "Plan:\n 1) (difficulty: 5) A?\n2: B?\n\n3. [difficulty 1]: C?",
            [Part("A?", 5), Part("B?", 3), Part("C?", 1)],
        ),
        ("1. [9] Odd?", [Part("[9] Odd?", 3)]),
        ("I cannot. It is 2.", []),
        ("", []),
        ("1.\n2. [3]\n3. 7", []),
        ("1. " + "x" * 10_000, [Part("x" * 10_000, 3)]),
    ],
)
def test_a_plan_is_read_line_by_line(plan, parts):
    """Numbered lines are parts, whole; the difficulty is 3 where none is given; without words it is
    no part."""
    assert read_plan(plan) == parts


@pytest.mark.parametrize(
    ("total", "weights", "caps"),
    [
        (10, [1, 1], [5, 5]),
        (11, [1, 1], [6, 5]),
        (100, [2, 1, 1], [50, 25, 25]),
        (2, [9, 1], [1, 1]),
        (7, [1], [7]),
        (5, [], []),
        (1024, [25, 16, 9, 4, 1], [464, 297, 168, 75, 20]),
    ],
)
def test_tokens_are_shared_out_to_the_last_one(total, weights, caps):
    """One each, the rest by weight: of 100 for weights 2, 1, 1 that is 1 + 97·(½, ¼, ¼) with
    largest remainders."""
    shared = allot(total, weights)

    assert sum(shared) == (total if weights else 0)
    assert min(shared, default=1) >= 1
    exact = [1 + (total - len(weights)) * w / sum(weights) for w in weights]
    assert all(abs(s - e) < 1 for s, e in zip(shared, exact, strict=True))
    assert shared == caps


def test_too_few_tokens_are_no_share():
    """A part without a token cannot be asked."""
    with pytest.raises(ValueError, match="cannot be shared"):
        allot(1, [1, 1])


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        ("uniform", [1, 1, 1, 1]),
        ("linear", [4, 3, 2, 1]),
        ("polynomial", [16, 9, 4, 1]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
async def test_a_schedule_decays_over_the_parts(schedule, weights):
    """Four parts as difficult as each other share 10 000 tokens as the schedule says."""
    plan = "\n".join(f"{n}. [1] Part {n}?" for n in range(1, 5))
    outcome, *_ = await run(
        "plan_and_budget",
        {"draft": [plan, *"abcd"], "subject": ["Answer: 2"]},
        total_tokens=10_000,
        schedule=schedule,
    )

    assert outcome.metadata["caps"] == [
        pytest.approx(10_000 * w / sum(weights), abs=3) for w in weights
    ]


@pytest.mark.parametrize(
    ("draft", "subject", "answer", "roles"),
    [
        (["no plan"], ["Answer: 2"], "Answer: 2", "ds"),
        ([""], [""], "", "ds"),
        (["1. One?\n2. Two?", "", "two"], ["Answer: 2"], "Answer: 2", "ddds"),
        (["1. One?", ""], ["Answer: 2"], "Answer: 2", "dds"),
        (["1. One?", "So Answer: 2"], [""], "- One?\n  So Answer: 2\n", "dds"),
        (["1. One?", "one"], [""], "", "dds"),
    ],
    ids=["no plan", "silence", "a silent part", "all silent", "answered early", "no answer"],
)
async def test_a_plan_that_fails_still_ends_in_an_answer(draft, subject, answer, roles):
    """Without a plan the question is asked at once; what a part found stands where nothing else
    does."""
    outcome, _, model = await run("plan_and_budget", {"draft": draft, "subject": subject})

    assert (outcome.answer_text, model.roles) == (answer, roles)


async def test_further_parts_are_left_out():
    """No more parts than asked for, nor than there are tokens."""
    plan = "\n".join(f"{n}. Part {n}?" for n in range(1, 9))
    few, *_ = await run("plan_and_budget", {"draft": [plan, *"ab"], "subject": ["x"]}, parts=2)
    poor, *_ = await run(
        "plan_and_budget", {"draft": [plan, *"abc"], "subject": ["x"]}, total_tokens=3
    )

    assert (few.metadata["parts"], poor.metadata["caps"]) == (2, [1, 1, 1])


# ---- speculative steps
# ----------------------------------------------------------------------------


async def test_a_small_model_drafts_and_the_large_one_accepts_or_rewrites():
    """Step one is accepted, step two rewritten, step three accepted and states the answer."""
    texts = {
        "draft": ["One and one.\n\nmore", "That is 3.", "Answer: 2"],
        "verifier": ["Score: 7", "Score: 6", "Score: 9"],
        "subject": ["That is 2.\n\nand on"],
    }
    outcome, _, model = await run("speculative_steps", texts, step_tokens=40)

    assert model.roles == "dvdvsdv"
    assert model.models == ["small-model", "m", "small-model", "m", "m", "small-model", "m"]
    assert outcome.answer_text == "One and one.\n\nThat is 2.\n\nAnswer: 2"
    assert outcome.metadata == {"steps": 3, "accepted": 2, "marks": [0.7, 0.6, 0.9]}
    draft, own = model.asked[2].request, model.asked[4].request
    assert draft.messages == own.messages
    assert draft.messages[-2] == {"role": "assistant", "content": "One and one."}
    assert (own.sampling["stop"], own.sampling["max_tokens"]) == (["\n\n"], 40)
    assert "Proposed next step:\nThat is 3." in model.asked[3].last
    assert "Steps so far:\nOne and one." in model.asked[3].last


@pytest.mark.parametrize(
    ("texts", "answer", "roles", "accepted"),
    [
        ({"draft": [""], "subject": ["Answer: 2"]}, "Answer: 2", "ds", 0),
        ({"draft": ["Answer: 3"], "verifier": ["?"], "subject": [""]}, "Answer: 3", "dvs", 0),
        ({"draft": [""], "subject": ["", "Answer: 2"]}, "Answer: 2", "dss", 0),
        (
            {"draft": ["a", "b"], "verifier": ["Score: 9", "Score: 9"], "subject": ["Answer: 2"]},
            "a\n\nb\n\nAnswer: 2",
            "dvdvs",
            2,
        ),
        (
            {"draft": ["a", "b"], "verifier": ["Score: 9", "Score: 9"], "subject": [""]},
            "a\n\nb",
            "dvdvs",
            2,
        ),
    ],
    ids=["no draft", "no own step", "neither", "no end", "no end and no answer"],
)
async def test_steps_come_to_an_end(texts, answer, roles, accepted):
    """A silent draft is not marked; after the last step allowed the answer is asked for."""
    outcome, _, model = await run("speculative_steps", texts, max_steps=2)

    assert (outcome.answer_text, model.roles) == (answer, roles)
    assert outcome.metadata["accepted"] == accepted


async def test_without_a_delimiter_no_stop_word_is_sent():
    """For services that take none: a reply is a step."""
    texts = {"draft": ["a\n\nb", "Answer: 2"], "verifier": ["Score: 9", "Score: 9"]}
    outcome, _, model = await run("speculative_steps", texts, delimiter="")

    assert "stop" not in model.asked[0].request.sampling
    assert outcome.answer_text == "a\n\nb\nAnswer: 2"


@pytest.mark.parametrize(
    ("text", "delimiter", "step"),
    [
        ("a\n\nb", "\n\n", "a"),
        ("\n\n a", "\n\n", "a"),
        ("", "\n\n", ""),
        ("a ## b", "##", "a"),
        ("a\n\nb ", "", "a\n\nb"),
    ],
)
def test_a_step_ends_at_its_delimiter(text, delimiter, step):
    """Blank ends are no step of their own."""
    assert cut(text, delimiter) == step


@pytest.mark.parametrize(
    ("step", "states"),
    [
        ("Answer: 2", True),
        ("so **Answer:** 2", True),
        (r"\boxed{2}", True),
        ("answer = 2", True),
        ("The answer lies near", False),
        ("", False),
        ("unanswered: 2", False),
    ],
)
def test_a_step_that_states_the_answer_is_the_last(step, states):
    """As the scorers find it."""
    assert has_answer(step) is states


# ---- cascade
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "answer", "confidence", "facts", "models"),
    [
        (["Answer: 2", "Answer: 2", "Answer: 3"], "Answer: 2", 2 / 3, (2 / 3, False), "mmm"),
        (
            ["Answer: 4", "Answer: 5", "Answer: 3", "Answer: 2"],
            "Answer: 2",
            None,
            (1 / 3, True),
            "mmml",
        ),
        (["Answer: 4", "Answer: 5", "Answer: 3", ""], "Answer: 4", 1 / 3, (1 / 3, True), "mmml"),
        (["", "", "", "Answer: 2"], "Answer: 2", None, (None, True), "mmml"),
        (["", "", "", ""], "", None, (None, True), "mmml"),
    ],
    ids=["sure", "deferred", "the large one is silent", "nothing said", "nothing at all"],
)
async def test_what_the_model_is_not_sure_of_goes_to_the_large_one(
    texts, answer, confidence, facts, models
):
    """The share of agreeing samples decides; it is the trace's confidence only where that answer
    stands."""
    outcome, session, model = await run("cascade", {"subject": texts}, threshold=0.6)

    assert (outcome.answer_text, outcome.confidence) == (answer, confidence)
    assert (outcome.metadata["confidence"], outcome.metadata["deferred"]) == facts
    assert "".join(name[0] for name in model.models) == models
    assert {c.role for c in session.calls} == {"subject"}
    assert model.asked[-1].request.messages == model.asked[0].request.messages


@pytest.mark.parametrize(
    ("said", "confidence", "deferred"),
    [("Confidence: 90", 0.9, False), ("Confidence: 40", 0.4, True), ("quite", None, True)],
)
async def test_a_stated_confidence_is_asked_for_in_a_call_of_its_own(said, confidence, deferred):
    """The answer comes first, undisturbed; a number that cannot be read is no confidence."""
    texts = {"subject": ["Answer: 3", "Answer: 2"], "verifier": [said]}
    outcome, _, model = await run("cascade", texts, by="stated")

    assert model.roles == ("svs" if deferred else "sv")
    assert [m["role"] for m in model.asked[1].request.messages[-3:]] == [
        "user",
        "assistant",
        "user",
    ]
    assert outcome.metadata == {"confidence": confidence, "deferred": deferred}
    assert outcome.answer_text == ("Answer: 2" if deferred else "Answer: 3")


async def test_a_likelihood_decides_without_a_further_call():
    """exp(−0.3 / 3) is 0.905; without log probabilities the attempt is refused and says what to
    do."""
    texts = {"subject": ["Answer: 3"]}
    outcome, _, model = await run(
        "cascade", texts, by="logprob", threshold=0.9, options={"logprobs": [-0.3]}
    )

    assert (outcome.confidence, model.roles) == (pytest.approx(math.exp(-0.1)), "s")
    with pytest.raises(ProviderRejected, match="extra_body"):
        await run("cascade", texts, by="logprob")
    assert [
        strategies.get("cascade", by=by).most_calls for by in ("vote", "logprob", "stated")
    ] == [
        4,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("Confidence: 85", 0.85),
        ("**Confidence:** 7.5 %", 0.075),
        ("confidence = 100.", 1.0),
        ("Confidence: 0", 0.0),
        ("Confidence: 30. No.\nConfidence: 60", 0.6),
        ("Confidence: 101", None),
        ("Confidence: high", None),
        ("85", None),
    ],
)
def test_a_confidence_is_read_or_is_unknown(text, confidence):
    """0 to 100 after its word, the last one."""
    assert read_confidence(text) == (None if confidence is None else pytest.approx(confidence))


# ---- tree search
# ----------------------------------------------------------------------------------


def tree(proposals, values, default="Score: 0"):
    """A model that proposes steps after given steps, in turn, and values them by their last
    step."""
    left = {steps: list(said) for steps, said in proposals.items()}

    def say(request, role):
        if role == "verifier":
            steps = request.messages[0]["content"].split("Their steps so far:\n")[1]
            last = steps.split("\n\nHow likely")[0].split("\n\n")[-1]
            return values.get(last, default)
        if role == "subject":
            return "Answer: 2"
        chat = [m for m in request.messages if m["role"] == "assistant"][2:]  # after the examples
        return left[chat[-1]["content"] if chat else ""].pop(0)

    return say


async def test_a_beam_keeps_the_best_of_a_level_and_grows_them_all():
    """Two of three first steps are grown; the best thought of the last level answers."""
    say = tree(
        {"": ["a", "b", "c"], "a": ["d", "e", "Answer: 9"], "c": ["f", "Answer: 2", "g"]},
        {"a": "Score: 5", "c": "Score: 8", "Answer: 9": "Score: 2", "Answer: 2": "Score: 9"},
    )
    outcome, _, model = await run("tree_search", say, depth=2, width=2)

    assert outcome.answer_text == "c\n\nAnswer: 2"
    assert outcome.verifier_score == 0.9
    assert outcome.metadata == {"nodes": 9, "depth": 2}
    assert model.roles == "ddd" + "vvv" + "dddddd" + "vvvvvv"
    assert model.most_in_flight == 6
    draft = model.asked[0].request.sampling
    assert (draft["temperature"], draft["max_tokens"], draft["stop"]) == (0.7, 256, ["\n\n"])


async def test_the_best_thought_of_all_is_grown_first():
    """Best-first goes back to an earlier branch once it promises more; a worse one is never
    grown."""
    say = tree(
        {"": ["a", "b"], "b": ["c", "d"], "a": ["Answer: 2", "e"]},
        {
            "a": "Score: 5",
            "b": "Score: 6",
            "c": "Score: 1",
            "d": "Score: 4",
            "Answer: 2": "Score: 9",
        },
    )
    outcome, _, model = await run("tree_search", say, order="best", branches=2)

    assert outcome.answer_text == "a\n\nAnswer: 2"
    assert model.roles == "ddvv" * 3
    assert outcome.metadata == {"nodes": 6, "depth": 2}


async def test_a_thought_without_the_answer_is_asked_for_it():
    """At the depth's end, in the role of the subject, after all its steps."""
    say = tree({"": ["a", "b"], "b": ["c", "d"]}, {"b": "Score: 3", "d": "Score: 3"})
    outcome, session, model = await run("tree_search", say, depth=2, width=1, branches=2)

    assert outcome.answer_text == "b\n\nd\n\nAnswer: 2"
    assert model.asked[-1].request.messages[-2]["content"] == "b\n\nd"
    assert [c.role for c in session.calls][-1] == "subject"
    assert outcome.verifier_score == 0.3


@pytest.mark.parametrize("order", ["breadth", "best"])
async def test_equal_values_go_to_the_earlier_thought_and_equal_steps_are_valued_once(order):
    """Values that cannot be read are below all."""
    proposals = {"": ["x", "b", "b"], "b": ["Answer: 3", "Answer: 2", "Answer: 2"]}
    say = tree(proposals, {"x": "?", "Answer: 3": "Score: 5", "Answer: 2": "Score: 5"})
    outcome, _, model = await run("tree_search", say, order=order, width=1)

    assert outcome.answer_text == "b\n\nAnswer: 3"
    assert model.roles == "ddd" + "vv" + "ddd" + "vv"


@pytest.mark.parametrize("order", ["breadth", "best"])
async def test_nodes_bound_the_tree(order):
    """Proposals stop at the bound, whether or not they say something."""
    _, session, model = await run(
        "tree_search",
        lambda request, role: "Score: 5" if role == "verifier" else "go on",
        order=order,
        nodes=5,
        depth=50,
    )
    _, silent, _ = await run("tree_search", lambda request, role: "", order=order, nodes=5)

    assert model.roles.count("d") == 5
    assert len(session.calls) <= strategies.get("tree_search", order=order, nodes=5).most_calls
    assert {c.role for c in silent.calls} == {"draft", "subject"}


async def test_a_tree_without_a_thought_is_one_chain():
    """The question itself is asked."""
    outcome, _, model = await run("tree_search", {"draft": [""] * 3, "subject": ["Answer: 2"]})

    assert (outcome.answer_text, model.roles) == ("Answer: 2", "ddds")
    assert model.asked[-1].last == ITEM.input
    assert outcome.metadata == {"nodes": 3, "depth": 0}


def test_the_calls_of_a_tree_are_bounded():
    """Breadth: 3 + 2·3·(4−1) = 21 nodes of at most 24, each valued, and the answer; best: all
    nodes."""
    most = [
        strategies.get("tree_search", **p).most_calls
        for p in ({}, {"nodes": 10}, {"order": "best"})
    ]

    assert most == [43, 21, 49]


@pytest.mark.parametrize("name", ["cascade", "speculative_steps"])
async def test_a_helper_that_the_plan_lacks_is_named(name):
    """The error says which table to add."""
    key = {"cascade": "large", "speculative_steps": "small"}[name]

    with pytest.raises(ConfigError, match=r"helpers\.tiny"):
        await run(name, lambda request, role: "", **{key: "tiny"})
