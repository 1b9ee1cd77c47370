"""Continuous batching over models of several kinds, tiny and random, beside transformers'
`generate`."""

import asyncio
import collections
import threading

import pytest

torch = pytest.importorskip("torch", reason="local models need torch")
transformers = pytest.importorskip("transformers", reason="local models need transformers")

from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.local import loading
from workbench.runner.local.engine import Engine
from workbench.runner.local.loop_bridge import LoopBridge
from workbench.runner.local.output_parser import Detokenizer, Output
from workbench.runner.local.sequence import Sequence
from workbench.runner.local.settings import Sampling

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "head_dim": 8,
}
KINDS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "gemma3, sliding windows": lambda: transformers.Gemma3TextConfig(
        **SIZES, sliding_window=7, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES),
    "gpt2, absolute positions": lambda: transformers.GPT2Config(
        vocab_size=97, n_embd=32, n_layer=3, n_head=4, n_positions=512
    ),
}


class Words:
    """A tokenizer that writes the numbers."""

    def decode(self, tokens, **_):
        return "".join(f" {t}" for t in tokens)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny models only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(kind):
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind]()).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4)  # far from uniform, so that no rounding decides
    model.generation_config.eos_token_id = None
    forward = frozenset(loading.inspect.signature(model.forward).parameters)
    return loading.Loaded(model, Words(), "cpu", "fp32", 512, frozenset(), {}, None, {}, forward)


class Crowd:
    """Sequences given to one engine, at any time."""

    def __init__(self, model, **options):
        self.engine = Engine(model, **options)
        self.ended = collections.defaultdict(threading.Event)
        self.later = {}  # key → (tokens after which, what to submit)

    def sequence(self, key, prompt, n, deliver=None, **sampling):
        return Sequence(
            key,
            prompt,
            sampling=Sampling(**{"temperature": 0.0, **sampling}),
            output=Output(None, (), thinking=False, keep_tags=False),
            detokenizer=Detokenizer(Words(), {}, prompt),
            end_ids=frozenset(),
            closing=[],
            most_tokens=n,
            submitted_s=0.0,
            deliver=deliver or self.deliver,
        )

    def deliver(self, sequences):
        for sequence in sequences:
            after, other = self.later.get(sequence.key, (None, None))
            if len(sequence.tokens) == after:
                self.engine.submit(other)
            if sequence.has_ended:
                self.ended[sequence.key].set()

    def run(self, sequences, wait_for):
        for sequence in sequences:
            self.engine.submit(sequence)
        for key in wait_for:
            assert self.ended[key].wait(60), key
        self.engine.close()


def greedy(model, prompt, n):
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_that_come_and_go_write_what_they_write_alone(kind):
    """Two slots, ragged, one joining mid-way with a longer prompt, one leaving early; parts of
    prompts."""
    model = loaded(kind)
    crowd = Crowd(model, slots=2, prefill_tokens=8)
    rng = torch.Generator().manual_seed(0)
    prompts = [torch.randint(1, 97, (n,), generator=rng).tolist() for n in (5, 3, 29, 11, 2)]
    lengths = [40, 4, 90, 12, 30]
    sequences = [
        crowd.sequence(str(i), p, n) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))
    ]
    crowd.later = {"0": (17, sequences[2]), "2": (3, sequences[3]), "3": (2, sequences[4])}

    crowd.run(sequences[:2], "01234")

    for sequence, prompt, n in zip(sequences, prompts, lengths, strict=True):
        assert sequence.tokens == greedy(model, prompt, n), sequence.key


def short_of_memory(monkeypatch, crowd, *, above):
    """Make torch's allocator refuse, for true, while more than so many sequences hold slots."""
    real = crowd.engine._forward

    def forward(ids, *rest):
        if ids.shape[0] > above:
            torch.empty(1 << 60, dtype=torch.uint8)  # no machine has an exbibyte
        return real(ids, *rest)

    monkeypatch.setattr(crowd.engine, "_forward", forward)


def test_memory_that_runs_out_halves_the_slots_and_loses_nothing(monkeypatch):
    """A refusal of the real allocator above 2 sequences: 8 slots become 4, then 2; drawn texts stay
    as they were."""
    model = loaded("llama")
    prompts = [[i + 1, 7, 9] for i in range(8)]
    free, tight = Crowd(model, slots=8), Crowd(model, slots=8)
    short_of_memory(monkeypatch, tight, above=2)
    texts, kept = [], {}
    for crowd in (free, tight):
        many = [
            crowd.sequence(str(i), p, 12, temperature=0.8, seed=i) for i, p in enumerate(prompts)
        ]
        crowd.run(many, "01234567")
        texts.append([s.tokens for s in many])
        kept[crowd] = [s.error for s in many]

    assert texts[0] == texts[1]
    assert kept[tight] == [None] * 8
    assert (tight.engine.n_out_of_memory, free.engine.n_out_of_memory) == (2, 0)
    assert free.engine.limit == 8
    assert 2 <= tight.engine.limit < 8


def test_running_sequences_go_on_where_they_were(monkeypatch):
    """Memory runs out when a third joins two that are writing: the newest waits, no token is lost
    or doubled."""
    model = loaded("llama")
    crowd = Crowd(model, slots=4)
    short_of_memory(monkeypatch, crowd, above=1)
    first, second = crowd.sequence("0", [3, 4, 5], 20), crowd.sequence("1", [6, 7], 9)
    crowd.later = {"0": (5, second)}

    crowd.run([first], "01")

    assert first.tokens == greedy(model, [3, 4, 5], 20)
    assert second.tokens == greedy(model, [6, 7], 9)
    assert first.ended_s < second.ended_s
    assert crowd.engine.n_out_of_memory == 1


def test_one_sequence_that_memory_cannot_hold_is_refused(monkeypatch):
    """At one slot there is nothing left to give up; the next request that fits is answered."""
    crowd = Crowd(loaded("llama"), slots=4)
    short_of_memory(monkeypatch, crowd, above=0)
    hopeless = crowd.sequence("0", [3, 4, 5], 6)
    crowd.engine.submit(hopeless)
    assert crowd.ended["0"].wait(60)
    monkeypatch.undo()
    small = crowd.sequence("1", [3], 6)

    crowd.run([small], "1")

    assert isinstance(hopeless.error, ProviderRejected)
    assert hopeless.error.kind == "out_of_memory"
    assert "can't allocate memory" in str(hopeless.error)
    assert len(small.tokens) == 6


def test_the_cache_stays_under_its_limit():
    """Keys and values of 2 sequences fit; four take turns."""
    model = loaded("llama")
    token = 2 * 4 * 2 * 8 * 4  # keys and values, layers, heads, dimension, bytes
    crowd = Crowd(model, slots=4, cache_bytes=2 * 130 * token)
    held = []
    crowd.engine.on_step = lambda _: held.append(crowd.engine._cache.nbytes)
    many = [crowd.sequence(str(i), [i + 1] * 4, 60) for i in range(4)]

    crowd.run(many, "0123")

    assert max(held) <= 2 * 130 * token
    assert crowd.engine.n_out_of_memory > 0
    assert [s.tokens for s in many] == [greedy(model, [i + 1] * 4, 60) for i in range(4)]


def test_a_fault_of_the_program_reaches_every_caller(monkeypatch):
    """What is no shortage of memory is not taken for one; the engine takes nothing more."""

    def broken(*_):
        raise IndexError

    crowd = Crowd(loaded("llama"), slots=1)
    monkeypatch.setattr(crowd.engine, "_forward", broken)
    many = [crowd.sequence(str(i), [1], 4) for i in range(3)]

    crowd.engine.submit(*many)
    assert all(crowd.ended[k].wait(60) for k in "012")

    assert all(isinstance(s.error, IndexError) for s in many)
    with pytest.raises(ProviderUnavailable):
        crowd.engine.submit(crowd.sequence("3", [1], 4))


def at_desk(crowd, prompts, n, watchers):
    """Have prompts written side by side; returns what came of each, and how often the loop was
    woken."""
    woken = []

    async def run():
        loop = asyncio.get_running_loop()
        bridge, wake = LoopBridge(loop, crowd.engine), loop.call_soon_threadsafe

        def counted(*call):
            woken.append(1)
            return wake(*call)

        loop.call_soon_threadsafe = counted
        sequences = [
            crowd.sequence(str(i), prompt, n, deliver=bridge.deliver)
            for i, prompt in enumerate(prompts)
        ]
        runs = [bridge.run(s, w) for s, w in zip(sequences, watchers, strict=True)]
        found = await asyncio.gather(*runs, return_exceptions=True)
        loop.call_soon_threadsafe = wake
        return [f or s.tokens for f, s in zip(found, sequences, strict=True)]

    return asyncio.run(run()), len(woken)


def test_what_is_asked_at_one_moment_is_read_in_one_step_and_wakes_the_loop_once():
    """Three prompts: one prefill, as many steps as tokens, and no round trip to the loop in
    between."""
    model, steps = loaded("llama"), []
    crowd = Crowd(model, slots=4, on_step=steps.append)
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]

    found, n_woken = at_desk(crowd, prompts, 6, [None] * 3)
    crowd.engine.close()

    assert found == [greedy(model, prompt, 6) for prompt in prompts]
    assert [sorted({phase for _, phase, _ in s.work}) for s in steps] == [
        ["prefill"],
        *[["answer"]] * 5,
    ]
    assert [len(s.work) for s in steps] == [3] * 6
    assert n_woken == 1


def test_who_looks_on_and_fails_fails_alone():
    """Pieces come as they are written; a fault of one caller neither ends nor delays another."""
    model, seen = loaded("llama"), []
    crowd = Crowd(model, slots=2)

    def broken(text):
        raise ZeroDivisionError(text)

    found, _ = at_desk(crowd, [[5, 6, 7], [8, 9]], 6, [broken, seen.append])
    crowd.engine.close()

    assert isinstance(found[0], ZeroDivisionError)
    assert found[1] == greedy(model, [8, 9], 6)
    assert "".join(seen) == "".join(f" {t}" for t in found[1])
    assert len(seen) > 1


def test_a_closed_engine_refuses_at_the_desk():
    """Whoever asks too late is told so, each of them."""
    crowd = Crowd(loaded("llama"), slots=2)
    crowd.engine.close()

    found, _ = at_desk(crowd, [[5, 6], [8, 9]], 6, [None, None])

    assert all(isinstance(f, ProviderUnavailable) for f in found)
