"""What holds for every strategy: bounded calls, known roles, the same result in any order of
arrival; parameters."""

import dataclasses
import json
import random

import pytest

from tests.support.scripted import HELPERS, ITEM, Scripted
from workbench.errors import ConfigError, ProviderUnavailable
from workbench.records import content_id
from workbench.runner import strategies
from workbench.runner.attempts.session import Reply
from workbench.runner.strategies.parallel import together
from workbench.runner.strategies.parameters import checked
from workbench.runner.strategies.votes import majority

VOCABULARY = (
    "",
    " ",
    "Answer: 2",
    "Answer: 3",
    "1 + 1 = 2. Answer: 2",
    "Score: 9",
    "Score: 2",
    "Score: 10",
    "Wrong.",
    "First add.\n\nThen Answer: 2",
    "So it is 2.",
    "Confidence: 80",
    "Confidence: 10",
    "hm</think>Answer: 2",
    "1. [2] What is one?\n2. What is two?\n3. (difficulty: 5) And both?",
    "No mistakes.",
)
ACTING = ("react", "reflexion")  # strategies with tools have tests of their own
NAMES = [n for n in strategies.names() if not n.startswith(ACTING)]
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("best_of_n", {"verifier": "judge"}),
    ("best_of_n", {"verifier": "oracle"}),
    ("budgeted", {"min_thinking_tokens": 6, "thinking_tokens": 20, "extensions": 2}),
    ("budgeted", {"by": "provider"}),
    ("relative_effort", {"pilot_on": "item"}),
    ("iterative_agent_decoding", {"verifier": "judge"}),
    ("cascade", {"by": "stated"}),
    ("parallel_distill_refine", {"rounds": 3, "drafts": 2}),
    ("self_refine", {"rounds": 3}),
    ("tree_search", {"order": "best"}),
    ("tree_search", {"order": "best", "nodes": 4}),
    ("tree_search", {"nodes": 5, "delimiter": ""}),
    ("speculative_steps", {"max_steps": 2}),
    ("diverse_prompts", {"samples": 2, "prompts": ["", "You are a baker."]}),
]


def babble(request, role):
    """Say something that depends on the request alone, its seed with it; often nothing of use."""
    key = content_id(role, request.model, request.messages, dict(request.sampling))
    return random.Random(key).choice(VOCABULARY)


async def play(name, params, seed, delays=None, **session):
    """Run a strategy on a babbling model; returns all that a trace would hold of it."""
    model = Scripted(babble, delays=delays)
    bound = model.session(seed=seed, max_tokens=500, **session)
    outcome = await strategies.get(name, **params).run(bound, ITEM)
    calls = [(c.ordinal, c.role, c.model, c.output_tokens) for c in bound.calls]
    seeds = [asked.request.sampling.get("seed") for asked in model.asked]
    return outcome, calls, seeds, bound.messages


@pytest.mark.parametrize(("name", "params"), VARIANTS)
async def test_calls_are_bounded_and_whatever_comes_back_is_endured(name, params):
    """No more calls than `most_calls`, roles that the store knows, facts that are JSON, seeds that
    differ."""
    strategy = strategies.get(name, **params)
    for seed in range(40):
        outcome, calls, seeds, _ = await play(name, params, seed)

        assert 1 <= len(calls) <= getattr(strategy, "most_calls", 1)
        assert {role for _, role, _, _ in calls} <= {"subject", "draft", "verifier"}
        assert {m for _, _, m, _ in calls} <= {"m", *(f"{h}-model" for h in _helpers(strategy))}
        assert isinstance(outcome.answer_text, str)
        assert outcome.confidence is None or 0 <= outcome.confidence <= 1
        assert outcome.verifier_score is None or 0 <= outcome.verifier_score <= 1
        json.dumps(dict(outcome.metadata or {}), allow_nan=False)
        assert len(set(seeds)) == len(seeds)


def _helpers(strategy):
    return getattr(strategy, "helpers", ())


@pytest.mark.parametrize(("name", "params"), VARIANTS)
async def test_the_order_of_arrival_changes_nothing(name, params):
    """Outcome, calls, seeds and messages are the same, however late each reply comes."""
    for seed in range(4):
        in_order = await play(name, params, seed)
        for shuffle in range(2):
            assert await play(name, params, seed, random.Random(shuffle)) == in_order


@pytest.mark.parametrize(("name", "params"), VARIANTS)
async def test_a_base_model_can_be_asked_the_same(name, params):
    """Completions get one text; a provider's own cap is for the endpoints that have one."""
    outcome, calls, *_ = await play(name, params, 1, endpoint="completions")

    assert len(calls) >= 1
    assert isinstance(outcome.answer_text, str)


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_a_strategy_says_what_it_needs(name, params):
    """Parameters are JSON and make the same strategy again; the helpers are names of the plan."""
    strategy = strategies.get(name, **params)
    again = strategies.get(name, **json.loads(json.dumps(dict(strategy.params))))

    assert again == strategy
    assert set(_helpers(strategy)) <= set(HELPERS)
    assert isinstance(getattr(strategy, "most_calls", 1), int)


async def test_calls_at_once_keep_their_order_and_their_failures():
    """All are asked before any is answered; the first failure in the order of asking is raised at
    the end."""
    model = Scripted({"subject": list("abcd")}, fails=(1, 2))
    session = model.session()

    with pytest.raises(ProviderUnavailable, match="call 1 failed"):
        await together(session.generate([{"role": "user", "content": "?"}]) for _ in range(4))

    assert model.most_in_flight == 4
    assert [c.error_type for c in session.calls] == [None, "http_503", "http_503", None]
    assert [m.text for m in session.messages if m.role == "assistant"] == ["a", "d"]


async def test_a_fault_of_the_program_is_not_swallowed():
    """What is no reply and no error of a provider comes out as it is."""

    async def broken() -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await together([broken(), broken()])


@pytest.mark.parametrize(
    ("texts", "place", "share"),
    [
        (["Answer: 3", "Answer: 2", "Answer: 2"], 1, 2 / 3),
        (["Answer: 2", "Answer: 3", "Answer: 3", "Answer: 2"], 0, 0.5),
        (["", "none", "Answer: 7"], 2, 1 / 3),
        (["", "none"], 1, None),
        (["", " "], 0, None),
    ],
)
def test_a_vote_is_of_answers_and_ties_go_to_the_first(texts, place, share):
    """Texts without an answer vote for none and count in the share."""
    assert majority(Scripted({}).session(), ITEM, texts) == (place, share)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """A field of every kind."""

    whole: int = dataclasses.field(default=1, metadata={"least": 1, "most": 9})
    share: float = dataclasses.field(default=0.5, metadata={"most": 1})
    text: str = "x"
    free: str = dataclasses.field(default="", metadata={"empty": True})
    choice: str = dataclasses.field(default="red", metadata={"choices": ("red", "green")})
    flag: bool = False
    texts: tuple[str, ...] = dataclasses.field(default=("a",), metadata={"least": 1})
    maybe: int | None = None


FIELDS = {f.name: f for f in dataclasses.fields(Parameters)}


@pytest.mark.parametrize(
    ("name", "value", "held"),
    [
        ("whole", 9, 9),
        ("share", 1, 1.0),
        ("share", 0, 0.0),
        ("text", "judge", "judge"),
        ("free", "", ""),
        ("choice", "green", "green"),
        ("flag", True, True),
        ("texts", ["a", ""], ("a", "")),
        ("maybe", None, None),
        ("maybe", 3, 3),
    ],
)
def test_a_parameter_is_held_as_its_field_says(name, value, held):
    """A list becomes a tuple, a whole number a float where the field is one."""
    got = checked("s", FIELDS[name], value)

    assert got == held
    assert type(got) is type(held)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("whole", 0, "whole = 0 is not a whole number from 1 to 9"),
        ("whole", 10, "from 1 to 9"),
        ("whole", 2.0, "whole number"),
        ("whole", True, "whole number"),
        ("share", 1.5, "a number from 0 to 1"),
        ("share", float("nan"), "a number"),
        ("share", "1", "a number"),
        ("text", "", "something in it"),
        ("text", 3, "a text"),
        ("choice", "gren", "one of red, green; did you mean 'green'"),
        ("choice", "", "one of red, green"),
        ("flag", 1, "true or false"),
        ("texts", [], "a list of 1 or more texts"),
        ("texts", "abc", "a list of 1 or more texts"),
        ("texts", ["a", 1], "a list of"),
        ("maybe", "1", "whole number"),
    ],
)
def test_a_wrong_parameter_is_explained(name, value, words):
    """The error names the strategy, the parameter, the value and what was wanted."""
    with pytest.raises(ConfigError, match=words) as caught:
        checked("some_strategy", FIELDS[name], value)

    assert "some_strategy" in str(caught.value)
    assert name in str(caught.value)
