"""What a strategy asks, and which text it hands to the scorer: no server, the runner's own
session."""

from collections.abc import Mapping

import pytest

from tests.support.scripted import ITEM, run_in_turn
from workbench.errors import ConfigError
from workbench.runner import strategies
from workbench.runner.providers.protocol import BegunTurns


async def test_direct_begins_the_answer_for_the_model() -> None:
    """Where it goes on with a begun turn: one call; examples show answers alone; the text holds the
    mark."""
    outcome, session, script = await run_in_turn("direct", " 2", begun_turns=BegunTurns(True))

    chat = script.requests[0].messages
    assert [m["role"] for m in chat] == ["system", "user", "assistant"] + ["user", "assistant"] * 2
    assert chat[2]["content"] == "Answer: 3"
    assert chat[-1] == {"role": "assistant", "content": "Answer:"}
    assert outcome.answer_text == "Answer: 2"
    assert len(session.calls) == 1
    assert session.calls[0].reasoning_tokens is None


@pytest.mark.parametrize("begun_turns", [None, BegunTurns(), BegunTurns(False)])
async def test_direct_ends_the_chat_with_the_question(begun_turns: BegunTurns | None) -> None:
    """Unless the server is known to go on with a begun turn: current Claude models refuse one."""
    outcome, _, script = await run_in_turn("direct", "Answer: 2", begun_turns=begun_turns)

    assert script.requests[0].messages[-1] == {"role": "user", "content": ITEM.question}
    assert outcome.answer_text == "Answer: 2"


async def test_plain_sends_the_item_verbatim() -> None:
    """One message by the user; a base model continues the text alone."""
    outcome, _, script = await run_in_turn("plain", "2")
    _, _, base = await run_in_turn("plain", "2", endpoint="completions")

    assert script.requests[0].messages == ({"role": "user", "content": ITEM.question},)
    assert base.requests[0].prompt == ITEM.question
    assert outcome.answer_text == "2"


async def test_cot_leaves_the_steps_visible() -> None:
    """The examples think in the open; nothing counts as thinking."""
    outcome, session, script = await run_in_turn("cot", "1 + 1 = 2.\nAnswer: 2")

    assert script.requests[0].messages[2]["content"] == "1 + 2 = 3.\nAnswer: 3"
    assert script.requests[0].messages[4]["content"] == "Answer: B"
    assert outcome.answer_text == "1 + 1 = 2.\nAnswer: 2"
    assert session.calls[0].reasoning_tokens is None
    assert {m.kind for m in session.messages} == {"text"}


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_think_parts_thinking_from_the_answer(endpoint: str) -> None:
    """Closed tags: one call, thinking tokens counted, the answer without tags."""
    outcome, session, _ = await run_in_turn(
        "think", "1 + 1 = 2.</think>\nAnswer: 2</think>", endpoint=endpoint
    )

    assert outcome.answer_text == "Answer: 2"
    assert [(c.reasoning_tokens, c.tokens_source) for c in session.calls] == [(5, "counted")]
    assert [m.text for m in session.messages if m.kind == "thinking"] == ["1 + 1 = 2."]


async def test_think_closes_the_tag_where_the_cap_was_hit() -> None:
    """A second, short call is given the thinking so far and asked for the answer; nothing is
    thought twice."""
    outcome, session, script = await run_in_turn(
        "think", "1 + 1 is", " 2", max_thinking_tokens=4, max_answer_tokens=7
    )

    first, second = script.requests
    assert (first.sampling["max_tokens"], second.sampling["max_tokens"]) == (4, 7)
    assert second.messages[-1]["content"] == "<think>1 + 1 is</think>\nAnswer:"
    assert outcome.answer_text == "Answer: 2"
    assert [c.reasoning_tokens for c in session.calls] == [4, 0]


async def test_base_model_gets_one_text() -> None:
    """A completion's prompt holds the examples and ends where the model goes on."""
    _, _, script = await run_in_turn("direct", " 2", endpoint="completions")

    prompt = script.requests[0].prompt
    assert prompt is not None
    assert prompt.endswith("What is 1 + 1?\nAnswer:")
    assert "B) y" in prompt


# without examples: those of agents would be of other tools, and `plain` adds nothing
BARE = {"react", "reflexion", "reflexion_oracle", "plain"}


@pytest.mark.parametrize("name", sorted({*strategies.names()} - BARE))
@pytest.mark.parametrize("shots", [0, 1])
async def test_shots_bound_the_examples(name: str, shots: int) -> None:
    """So many worked examples, and the question; a plan is asked for before them, without."""
    _, _, script = await run_in_turn(name, *["Answer: 2</think>Answer: 2"] * 12, shots=shots)

    first = script.requests[1 if name == "plan_and_budget" else 0]
    asked = [m["content"] for m in first.messages if m["role"] == "user"]
    assert len(asked) == shots + 1
    assert asked[-1] == ITEM.input


@pytest.mark.parametrize("name", strategies.names())
def test_params_are_what_makes_a_strategy(name: str) -> None:
    """A strategy made from its parameters is the same strategy."""
    strategy = strategies.get(name)

    assert strategy.name == name
    assert isinstance(strategy.params, Mapping)
    assert strategies.get(name, **strategy.params) == strategy


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("cott", {}, "did you mean 'cot'"),
        ("zzz", {}, "there are direct, plain, cot"),
        ("direct", {"shot": 3}, "has no parameter 'shot'"),
        ("direct", {"shots": "3"}, "not a whole number"),
        ("direct", {"shots": True}, "not a whole number"),
        ("think", {"max_thinking_tokens": -1}, "not a whole number"),
        ("self_consistency", {"samples": 0}, "samples = 0 is not a whole number from 1 up"),
        ("self_consistency", {"samples": 2.5}, "not a whole number"),
        ("self_consistency", {"temperature": "hot"}, "temperature = 'hot' is not a number"),
        ("self_consistency", {"temperature": float("nan")}, "is not a number from 0 up"),
    ],
)
def test_wrong_name_or_parameter_is_explained(name: str, params: dict, words: str) -> None:
    """The error says what there is."""
    with pytest.raises(ConfigError, match=words):
        strategies.get(name, **params)
