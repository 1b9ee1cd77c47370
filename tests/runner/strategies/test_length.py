"""How long to think: efforts in each service's words, lengths relative to the model's own, separate
budgets."""

import asyncio
import json

import pytest

from tests.support.runner_stub import DONE, Stub, delta, stream, usage
from tests.support.scripted import EXAMPLES, ITEM, run, task_set
from workbench import datasets
from workbench.errors import ConfigError
from workbench.runner import strategies
from workbench.runner.attempts.session import Request
from workbench.runner.providers import effort, registry

CHAT = ({"role": "user", "content": "2+2?"},)


def outgoing(endpoint, service, model="m", extra=None, **sampling):
    """The body that would go out, and what it says of effort."""
    provider = registry.make(endpoint, "http://127.0.0.1:1/v1", name=service, extra_body=extra)
    request = Request(model=model, messages=CHAT, sampling={"max_tokens": 16_384, **sampling})
    body = json.loads(provider.body(request))
    return body, provider.effort_sent(body)


# ---- effort
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "service", "model", "level", "said"),
    [
        ("chat", "openai", "gpt-5", "high", "reasoning_effort=high"),
        ("responses", "openai", "gpt-5", "none", "reasoning.effort=none"),
        ("chat", "openrouter", "x/y", "low", "reasoning.effort=low"),
        (
            "chat",
            "deepseek",
            "deepseek-chat",
            "high",
            "reasoning_effort=high, thinking.type=enabled",
        ),
        ("chat", "deepseek", "deepseek-chat", "none", "thinking.type=disabled"),
        ("chat", "llama.cpp", "qwen3", "none", "chat_template_kwargs.enable_thinking=false"),
        (
            "chat",
            "vllm",
            "gpt-oss",
            "low",
            "reasoning_effort=low, chat_template_kwargs.enable_thinking=true,"
            " chat_template_kwargs.reasoning_effort=low",
        ),
        (
            "messages",
            "anthropic",
            "claude-opus-4-6",
            "max",
            "thinking.type=adaptive, output_config.effort=max",
        ),
        (
            "messages",
            "anthropic",
            "claude-sonnet-4-5",
            "medium",
            "thinking.type=enabled, thinking.budget_tokens=8192",
        ),
        (
            "messages",
            "anthropic",
            "claude-3-7-sonnet-20250219",
            "minimal",
            "thinking.type=enabled, thinking.budget_tokens=1638",
        ),
        ("messages", "anthropic", "claude-3-7-sonnet-20250219", "none", "thinking.type=disabled"),
        (
            "gemini",
            "google",
            "gemini-3-pro",
            "high",
            "generationConfig.thinkingConfig.thinkingLevel=high",
        ),
        (
            "gemini",
            "google",
            "gemini-2.5-pro",
            "medium",
            "generationConfig.thinkingConfig.thinkingBudget=8192",
        ),
        (
            "gemini",
            "google",
            "gemini-2.5-pro",
            "none",
            "generationConfig.thinkingConfig.thinkingBudget=0",
        ),
    ],
)
def test_an_effort_is_said_in_each_service_s_words(endpoint, service, model, level, said):
    """One level, and what the outgoing body says of it; nothing is said where nothing was asked."""
    assert outgoing(endpoint, service, model, reasoning_effort=level)[1] == said
    assert outgoing(endpoint, service, model)[1] is None


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-5-haiku-latest",
        "anthropic/claude-3.7-sonnet",
        "claude-opus-4-20250514",
        "claude-sonnet-4",
        "claude-opus-4-1-20250805",
        "claude-opus-4-5-20251101",
        "claude-haiku-4.5",
        "claude-sonnet-4@20250514",
    ],
)
def test_older_claude_gets_a_budget_within_what_it_takes(model):
    """At least 1024 tokens of thinking, at most 128000."""
    asked = {"reasoning_effort": "low"}
    small, _ = outgoing("messages", "anthropic", model, **asked, max_tokens=2000)
    large, _ = outgoing("messages", "anthropic", model, **asked, max_tokens=2_000_000)

    assert small["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert large["thinking"]["budget_tokens"] == 128_000
    assert "output_config" not in small


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-opus-4.7", "claude-sonnet-5", "m"])
def test_newer_claude_gets_the_effort_itself(model):
    """Adaptive thinking, and no budget, which these models refuse."""
    body, _ = outgoing("messages", "anthropic", model, reasoning_effort="low")

    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})


def test_a_budget_that_is_asked_for_wins_over_one_made_of_an_effort():
    """The plan's own number goes out."""
    asked = {"reasoning_effort": "low", "thinking_budget_tokens": 4096}

    body, _ = outgoing("gemini", "google", "gemini-2.5-pro", **asked)

    assert body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 4096


@pytest.mark.parametrize(
    ("service", "said"),
    [("llama.cpp", "thinking_budget_tokens=64"), ("vllm", "thinking_token_budget=64")],
)
def test_local_servers_cap_the_thinking_in_their_own_field(service, said):
    """A budget goes out as that server's field."""
    assert outgoing("chat", service, thinking_budget_tokens=64)[1] == said


def test_what_the_plan_s_extra_body_says_counts_as_sent():
    """Fields of the user's own are read too, and laid under those that an effort makes."""
    extra = {"chat_template_kwargs": {"enable_thinking": True, "style": "x"}}

    body, said = outgoing("chat", "llama.cpp", extra=extra, reasoning_effort="none")

    assert body["chat_template_kwargs"] == {"enable_thinking": False, "style": "x"}
    assert said == "chat_template_kwargs.enable_thinking=false"
    assert outgoing("chat", "x", extra={"think": "low"})[1] == "think=low"


def test_a_completion_has_no_template_to_tell():
    """A base model's prompt goes out without variables of a chat template."""
    request = Request(model="m", prompt="2+2=", sampling={"reasoning_effort": "low"})

    assert effort.translate("vllm", "chat", request) == (request, {})


def test_the_strategy_asks_and_the_call_says_what_went_out(tmp_path):
    """As asked in the parameters, as sent in the call, over the plan's own effort."""
    pieces = [delta("Answer: 4", finish="stop"), usage(prompt_tokens=1, completion_tokens=3), DONE]
    strategy = strategies.get("effort", level="xhigh")

    async def ask(url):
        provider = registry.make("chat", url, name="vllm")
        reply = await provider.generate(
            Request(model="m", messages=CHAT, sampling={"reasoning_effort": strategy.level})
        )
        await provider.aclose()
        return reply

    with Stub(lambda seen: stream(*pieces)) as stub:
        reply = asyncio.run(ask(stub.url))

    assert stub.requests[0].json["reasoning_effort"] == "xhigh"
    assert reply.call.effort_sent.startswith("reasoning_effort=xhigh, chat_template_kwargs")
    assert (strategy.effort, strategy.params["level"]) == ("xhigh", "xhigh")


async def test_an_effort_leaves_the_thinking_to_the_model():
    """One call with the level, no steps asked for, no beginning of an answer."""
    outcome, session, model = await run(
        "effort",
        {"subject": ["Answer: 2"]},
        level="low",
        session={"reasoning_effort": "high"},
        shots=1,
    )

    request = model.asked[0].request
    assert request.sampling["reasoning_effort"] == "low"
    assert "step" not in request.messages[0]["content"]
    assert request.messages[2]["content"] == "Answer: 3"
    assert request.messages[-1] == {"role": "user", "content": ITEM.input}
    assert (outcome.answer_text, len(session.calls)) == ("Answer: 2", 1)


def test_an_unknown_level_is_explained():
    """The nearest level is offered."""
    with pytest.raises(ConfigError, match=r"one of none, minimal.*did you mean 'medium'"):
        strategies.get("effort", level="medum")


# ---- relative effort
# ------------------------------------------------------------------------------


def sums(n):
    """A set of n items."""
    task = task_set()
    items = [
        datasets.TaskItem(task="t", item=str(k), input=f"What is {k} + 1?", target=str(k + 1))
        for k in range(2, n + 1)
    ]
    return datasets.TaskSet(task.task, [ITEM, *items], task.scorer, task.prompt, EXAMPLES)


async def test_a_pilot_of_other_items_finds_the_usual_length():
    """Lengths 600, 1400 and 2500 have the mean 1500; 600 tokens of it are a relative effort of
    0.4."""
    lengths = [600, 1400, 2500]
    texts = {
        "draft": [" ".join(["w"] * (n - 1)) for n in lengths],
        "subject": [" ".join(["w"] * 599)],
    }
    outcome, _, model = await run("relative_effort", texts, fraction=0.4, session={"task": sums(9)})

    assert model.roles == "ddds"
    assert outcome.metadata == {
        "unit": "tokens",
        "mean": 1500.0,
        "pilot": lengths,
        "asked": 600,
        "used": 600,
        "relative_effort": 0.4,
    }
    questions = [a.last for a in model.asked]
    assert questions[3] == ITEM.input
    assert len(set(questions)) == 4
    words = model.asked[3].request.messages[0]["content"]
    assert "about 40 % of the length" in words
    assert "about 600 tokens" in words
    assert "usually" not in model.asked[0].request.messages[0]["content"]


async def test_a_mean_that_is_known_costs_no_pilot():
    """One call; 1500 tokens and a half are 750."""
    outcome, _, model = await run(
        "relative_effort", {"subject": ["a b Answer: 2"]}, mean_tokens=1500.0
    )

    assert model.roles == "s"
    assert "about 750 tokens" in model.asked[0].request.messages[0]["content"]
    assert outcome.metadata["used"] == 5
    assert strategies.get("relative_effort", mean_tokens=1500).most_calls == 1


async def test_the_item_itself_can_be_the_pilot_and_is_where_there_is_no_other():
    """As many times as the pilot says."""
    for settings in ({"pilot_on": "item"}, {"pilot_on": "task"}):
        _, _, model = await run(
            "relative_effort", {"draft": ["a", "b"], "subject": ["c"]}, pilot=2, **settings
        )
        assert [a.last for a in model.asked] == [ITEM.input] * 3


async def test_words_are_counted_where_the_server_counts_no_tokens():
    """The unit says so; an empty pilot leaves the length unknown."""
    texts = {"draft": ["a b", "a b c d"], "subject": ["a b c"]}
    outcome, _, model = await run("relative_effort", texts, pilot=2, options={"counts": False})
    silent, _, quiet = await run(
        "relative_effort", {"draft": [""], "subject": [""]}, pilot=1, options={"counts": False}
    )

    assert (outcome.metadata["unit"], outcome.metadata["mean"]) == ("words", 3.0)
    assert outcome.metadata["relative_effort"] == 1.0
    assert "about 2 words" in model.asked[2].request.messages[0]["content"]
    assert (silent.metadata["mean"], silent.metadata["relative_effort"]) == (None, None)
    assert quiet.asked[1].request.messages[0]["content"].endswith("that you usually write.")


# ---- budgets
# --------------------------------------------------------------------------------------


async def test_thinking_and_answer_have_budgets_of_their_own():
    """The first call may think 100 tokens and is stopped by its tag, the second may answer in 7."""
    texts = {"subject": ["1 + 1 = 2.</think>Answer: 9", " 2"]}
    outcome, session, model = await run("budgeted", texts, thinking_tokens=100, answer_tokens=7)

    first, second = (a.request for a in model.asked)
    assert (first.sampling["max_tokens"], second.sampling["max_tokens"]) == (100, 7)
    assert (first.sampling["stop"], "stop" in second.sampling) == (["</think>"], False)
    assert first.messages[-1]["content"] == "<think>"
    assert second.messages[-1]["content"] == "<think>1 + 1 = 2.</think>\nAnswer:"
    assert outcome.answer_text == "Answer: 2"
    assert outcome.metadata == {
        "enforced_by": "tags",
        "thinking_tokens": 6,
        "extensions": 0,
        "was_cut": False,
    }
    assert [m.text for m in session.messages if m.kind == "thinking"] == ["1 + 1 = 2."]


async def test_thinking_that_ends_too_soon_is_made_to_go_on():
    """ "Wait," is written until 12 tokens are thought; every call gets what is left of the
    budget."""
    texts = {"subject": ["so it is 3", "no it is 2", "yes it is 2", " 2"]}
    outcome, session, model = await run(
        "budgeted", texts, thinking_tokens=50, min_thinking_tokens=12, extensions=4
    )

    begun = [a.last for a in model.asked]
    assert begun[:2] == ["<think>", "<think>so it is 3\nWait,"]
    assert begun[2] == "<think>so it is 3\nWait, no it is 2\nWait,"
    assert begun[3] == "<think>so it is 3\nWait, no it is 2\nWait, yes it is 2</think>\nAnswer:"
    assert [a.request.sampling["max_tokens"] for a in model.asked] == [50, 45, 40, 256]
    assert outcome.metadata["thinking_tokens"] == 15
    assert (outcome.metadata["extensions"], outcome.metadata["was_cut"]) == (2, False)
    assert {c.role for c in session.calls} == {"subject"}


@pytest.mark.parametrize(
    ("texts", "settings", "extensions", "was_cut"),
    [
        (["a b c d e f", " 2"], {"thinking_tokens": 4}, 0, True),
        (
            ["a", "b", "c", " 2"],
            {"thinking_tokens": 90, "min_thinking_tokens": 80, "extensions": 2},
            2,
            False,
        ),
        (
            ["a", "b c d e", " 2"],
            {"thinking_tokens": 6, "min_thinking_tokens": 6, "extensions": 9},
            1,
            True,
        ),
        (
            ["", "", " 2"],
            {"thinking_tokens": 9, "min_thinking_tokens": 2, "extensions": 9},
            1,
            False,
        ),
    ],
    ids=["cut at the cap", "extensions run out", "cap while extended", "nothing thought"],
)
async def test_thinking_ends(texts, settings, extensions, was_cut):
    """At its cap, where it is enough, or where it was extended as often as allowed; then comes the
    answer."""
    outcome, _, model = await run("budgeted", {"subject": texts}, **settings)

    assert model.left == {"subject": []}
    assert outcome.answer_text == "Answer: 2"
    assert (outcome.metadata["extensions"], outcome.metadata["was_cut"]) == (extensions, was_cut)
    assert outcome.metadata["thinking_tokens"] <= settings["thinking_tokens"]


@pytest.mark.parametrize(
    ("by", "endpoint", "asked"),
    [
        ("auto", "local", True),
        ("auto", "messages", True),
        ("auto", "chat", False),
        ("provider", "chat", True),
        ("tags", "local", False),
    ],
)
async def test_the_provider_keeps_the_budget_where_it_can(by, endpoint, asked):
    """One call with both budgets, or tags and a second call."""
    texts = {"subject": ["Answer: 2", "Answer: 2"]}
    outcome, _, model = await run(
        "budgeted",
        texts,
        by=by,
        thinking_tokens=100,
        answer_tokens=20,
        session={"endpoint": endpoint},
    )

    sampling = model.asked[0].request.sampling
    assert (sampling.get("thinking_budget_tokens"), sampling["max_tokens"]) == (
        (100, 120) if asked else (None, 100)
    )
    assert len(model.asked) == (1 if asked else 2)
    assert outcome.metadata["enforced_by"] == ("provider" if asked else "tags")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"min_thinking_tokens": 9, "thinking_tokens": 8}, "min_thinking_tokens = 9 is more than"),
        ({"min_thinking_tokens": 9, "by": "provider"}, 'use by = "tags"'),
        ({"thinking_tokens": 0}, "from 1 up"),
    ],
)
def test_budgets_that_contradict_each_other_are_refused(params, words):
    """Before anything is asked."""
    with pytest.raises(ConfigError, match=words):
        strategies.get("budgeted", **params)


def test_the_calls_of_a_budget_are_bounded():
    """Thinking, extensions where there is a minimum, the answer; one call by the provider."""
    most = [
        strategies.get("budgeted", **p).most_calls
        for p in ({}, {"min_thinking_tokens": 9, "extensions": 3}, {"by": "provider"})
    ]

    assert most == [2, 5, 1]
