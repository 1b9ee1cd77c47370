"""Many samples: votes over wordings, verifiers of one's choice, rounds of refinement; who is asked
what, and who wins."""

import math

import pytest

from tests.support.scripted import ITEM, run
from workbench.errors import ProviderRejected
from workbench.runner import strategies

# ---- diverse prompts
# ------------------------------------------------------------------------------


async def test_every_wording_is_asked_and_the_commonest_answer_wins():
    """At once; the wording comes before the instruction; its share is the confidence."""
    texts = {"subject": ["Answer: 3", "Answer: 2", "So. Answer: 2"]}
    outcome, session, model = await run(
        "diverse_prompts", texts, prompts=["", "You are a baker.", "Go backwards."]
    )

    systems = [a.request.messages[0]["content"] for a in model.asked]
    assert [s.partition("Think step")[0] for s in systems] == [
        "Solve it. ",
        "Solve it. You are a baker. ",
        "Solve it. Go backwards. ",
    ]
    assert (outcome.answer_text, outcome.confidence) == ("Answer: 2", pytest.approx(2 / 3))
    assert outcome.metadata == {"prompt": 1}
    assert model.most_in_flight == 3
    assert {a.request.sampling["temperature"] for a in model.asked} == {0.7}
    assert {c.role for c in session.calls} == {"subject"}


async def test_a_wording_comes_twice_only_after_all_came_once():
    """So that a tie goes to the first wording, not to the wording asked most."""
    texts = {"subject": ["Answer: 5", "Answer: 6", "Answer: 6", "Answer: 5"]}
    outcome, _, model = await run("diverse_prompts", texts, prompts=["A.", "B."], samples=2)

    systems = [a.request.messages[0]["content"].split()[2] for a in model.asked]
    assert systems == ["A.", "B.", "A.", "B."]
    assert (outcome.answer_text, outcome.metadata["prompt"]) == ("Answer: 5", 0)


# ---- best of n
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verifier", "marker"), [("self", "m"), ("judge", "judge-model")])
async def test_the_verifier_of_one_s_choice_marks(verifier, marker):
    """The same model, or the helper; its calls have the role verifier either way."""
    texts = {"subject": ["Answer: 3", "Answer: 2"], "verifier": ["Score: 1", "Score: 8"]}
    outcome, _, model = await run("best_of_n", texts, samples=2, verifier=verifier)

    assert (outcome.answer_text, outcome.verifier_score) == ("Answer: 2", 0.8)
    assert model.roles == "ssvv"
    assert model.models == ["m", "m", marker, marker]
    assert model.most_in_flight == 2


async def test_self_marks_even_where_there_are_log_probabilities():
    """Only auto looks at them first."""
    texts = {"subject": ["Answer: 3", "Answer: 2"], "verifier": ["Score: 1", "Score: 8"]}
    logs = [-0.1, -9.0, None, None]

    marked, _, _ = await run(
        "best_of_n", texts, samples=2, verifier="self", options={"logprobs": logs}
    )
    auto, _, model = await run("best_of_n", texts, samples=2, options={"logprobs": logs})

    assert marked.answer_text == "Answer: 2"
    assert (auto.answer_text, auto.verifier_score) == (
        "Answer: 3",
        pytest.approx(math.exp(-0.1 / 3)),
    )
    assert model.roles == "ss"


async def test_log_probabilities_alone_rank_what_has_them():
    """A reply without is last; where none has any, the attempt is refused and says what to do."""
    texts = {"subject": ["Answer: 3", "Answer: 2"]}
    outcome, _, _ = await run(
        "best_of_n", texts, samples=2, verifier="logprob", options={"logprobs": [None, -3.0]}
    )

    assert (outcome.answer_text, outcome.verifier_score) == (
        "Answer: 2",
        pytest.approx(math.exp(-1)),
    )
    with pytest.raises(ProviderRejected, match="extra_body") as caught:
        await run("best_of_n", texts, samples=2, verifier="logprob")
    assert caught.value.kind == "no_logprobs"


async def test_the_oracle_is_the_scorer_and_is_named_so():
    """It finds the one right reply without a call; nothing right leaves the first."""
    right, _, model = await run(
        "best_of_n",
        {"subject": ["Answer: 3", "Answer: 2", "Answer: 4"]},
        samples=3,
        verifier="oracle",
    )
    wrong, _, _ = await run(
        "best_of_n", {"subject": ["Answer: 3", "Answer: 4"]}, samples=2, verifier="oracle"
    )

    assert (right.answer_text, right.verifier_score, model.roles) == ("Answer: 2", 1.0, "sss")
    assert (wrong.answer_text, wrong.verifier_score) == ("Answer: 3", 0.0)


@pytest.mark.parametrize(
    ("verifier", "most", "helpers"),
    [
        ("auto", 6, ()),
        ("self", 6, ()),
        ("judge", 6, ("judge",)),
        ("logprob", 3, ()),
        ("oracle", 3, ()),
    ],
)
def test_a_verifier_says_what_it_costs_and_needs(verifier, most, helpers):
    """Calls at most, and the helper."""
    strategy = strategies.get("best_of_n", samples=3, verifier=verifier)

    assert (strategy.most_calls, strategy.helpers) == (most, helpers)
    assert strategies.get("best_of_n", verifier="judge", judge="critic").helpers == ("critic",)


# ---- sequential refinement
# ------------------------------------------------------------------------


async def test_each_round_sees_the_question_and_the_last_answer_alone():
    """Three answers, one after the other; what the scorer reads of each is kept."""
    texts = {"subject": ["Answer: 5", "hm Answer: 4", "yes Answer: 2"]}
    outcome, session, model = await run("sequential_refinement", texts, rounds=2, shots=1)

    assert outcome.answer_text == "yes Answer: 2"
    assert [r["answer"] for r in outcome.metadata["rounds"]] == ["5", "4", "2"]
    assert [r["passed"] for r in outcome.metadata["rounds"]] == [False, False, True]
    assert [len(a.request.messages) for a in model.asked] == [4, 4, 4]
    assert ITEM.input in model.asked[2].last
    assert "hm Answer: 4" in model.asked[2].last
    assert "Answer: 5" not in model.asked[2].last
    assert {c.role for c in session.calls} == {"subject"}


@pytest.mark.parametrize(
    ("texts", "answer", "n_calls"),
    [([""], "", 1), (["Answer: 3", " "], "Answer: 3", 2), (["a", "b", ""], "b", 3)],
)
async def test_a_round_that_says_nothing_ends_it(texts, answer, n_calls):
    """The answer before it stands."""
    outcome, session, _ = await run("sequential_refinement", {"subject": texts}, rounds=5)

    assert (outcome.answer_text, len(session.calls)) == (answer, n_calls)


# ---- parallel, distil, refine
# -----------------------------------------------------------------------


async def test_drafts_are_distilled_into_notes_and_the_notes_refined():
    """Two rounds of two drafts: the second round's drafts, and the answer, start from notes
    alone."""
    texts = {
        "draft": ["one", "two", "notes A", "three", "four", "notes B"],
        "subject": ["Answer: 2"],
    }
    outcome, _, model = await run(
        "parallel_distill_refine", texts, rounds=2, drafts=2, workspace_tokens=30
    )

    assert model.roles == "ddddd" + "ds"
    assert model.most_in_flight == 2
    asked = [a.last for a in model.asked]
    assert asked[0] == asked[1] == ITEM.input
    assert "Try 1:\none" in asked[2]
    assert "Try 2:\ntwo" in asked[2]
    assert asked[3] == asked[4]
    assert "notes A" in asked[3]
    assert "one" not in asked[3].split()
    assert "notes B" in asked[6]
    assert "notes A" not in asked[6]
    caps = [a.request.sampling.get("max_tokens") for a in model.asked]
    assert caps == [None, None, 30, None, None, 30, None]
    assert [a.request.sampling.get("temperature") for a in model.asked] == [
        0.7,
        0.7,
        None,
        0.7,
        0.7,
        None,
        None,
    ]
    assert outcome.answer_text == "Answer: 2"
    assert strategies.get("parallel_distill_refine", rounds=2, drafts=2).most_calls == 7


@pytest.mark.parametrize(
    ("drafts", "answer", "said", "roles"),
    [
        (["", "two", "notes"], "Answer: 2", "Answer: 2", "ddds"),
        (["", ""], "Answer: 2", "Answer: 2", "dds"),
        (["one", "two", ""], "", "one", "ddds"),
        (["", ""], "", "", "dds"),
    ],
    ids=["a silent draft", "no draft", "no notes, no answer", "nothing"],
)
async def test_silence_is_left_out(drafts, answer, said, roles):
    """No notes of nothing; the first draft stands where the answer says nothing."""
    texts = {"draft": drafts, "subject": [answer]}
    outcome, _, model = await run("parallel_distill_refine", texts, drafts=2)

    assert (outcome.answer_text, model.roles) == (said, roles)
    if roles == "ddds" and drafts[0] == "":
        assert "Try 1:\ntwo" in model.asked[2].last


# ---- iterative agent decoding
# -----------------------------------------------------------------------


async def test_the_verdict_on_the_best_is_fed_back_and_a_worse_round_does_not_win():
    """Round two knows of the best of round one; its replies score less; round three brings a better
    one."""
    texts = {
        "subject": ["Answer: 5", "Answer: 4", "Answer: 6", "Answer: 7", "Answer: 2", "Answer: 8"],
        "verifier": ["Score: 1", "Near. Score: 6", "Score: 6", "Score: 0", "Score: 7", "?"],
    }
    outcome, _, model = await run("iterative_agent_decoding", texts, rounds=3, samples=2)

    assert model.roles == "ssvv" * 3
    assert (outcome.answer_text, outcome.verifier_score) == ("Answer: 2", 0.7)
    assert outcome.metadata == {"rounds": 3, "best_round": 3}
    for second in (model.asked[4], model.asked[5], model.asked[8]):
        assert "Answer: 4" in second.last
        assert "Near. Score: 6" in second.last
        assert ITEM.input in second.last
    assert {a.request.sampling["temperature"] for a in model.asked if a.role == "subject"} == {0.7}


async def test_a_mark_that_is_enough_ends_it():
    """No second round."""
    texts = {"subject": ["Answer: 3", "Answer: 2"], "verifier": ["Score: 2", "Score: 9"]}
    outcome, _, model = await run("iterative_agent_decoding", texts, enough=0.9)

    assert (outcome.answer_text, model.roles) == ("Answer: 2", "ssvv")
    assert outcome.metadata == {"rounds": 1, "best_round": 1}


@pytest.mark.parametrize(
    ("subject", "verifier", "answer", "score"),
    [
        (["", "", "", ""], [], "", None),
        (["", "", "Answer: 2", ""], ["who knows"], "Answer: 2", None),
        (["Answer: 3", "Answer: 3", "Answer: 2", ""], ["?", "Score: 0"], "Answer: 2", 0.0),
        (
            ["Answer: 3", "Answer: 4", "Answer: 2", "Answer: 2"],
            ["Score: 5", "Score: 5", "Score: 5"],
            "Answer: 3",
            0.5,
        ),
    ],
    ids=["nothing", "unmarked is better than nothing", "marked is better than unmarked", "tie"],
)
async def test_the_best_so_far_stays_unless_a_mark_is_higher(subject, verifier, answer, score):
    """Silence never wins; equal marks leave the earlier reply."""
    texts = {"subject": subject, "verifier": verifier}
    outcome, _, model = await run("iterative_agent_decoding", texts, rounds=2, samples=2)

    assert (outcome.answer_text, outcome.verifier_score) == (answer, score)
    assert model.left == {"subject": [], "verifier": []}


async def test_the_iterating_oracle_ends_with_the_first_right_reply():
    """The scorer marks without a call, and gives no words to feed back."""
    texts = {"subject": ["Answer: 3", "Answer: 4", "Answer: 9", "Answer: 2"]}
    outcome, _, model = await run("iterative_agent_decoding", texts, verifier="oracle", rounds=9)

    assert (outcome.answer_text, outcome.verifier_score, model.roles) == ("Answer: 2", 1.0, "ssss")
    assert "it may hold mistakes" in model.asked[2].last
    assert strategies.get("iterative_agent_decoding", verifier="oracle").most_calls == 6
    assert strategies.get("iterative_agent_decoding", verifier="judge").helpers == ("judge",)
