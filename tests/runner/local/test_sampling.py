"""Sampling on the device, beside transformers' own processors and the probabilities themselves."""

import math
import random

import pytest

torch = pytest.importorskip("torch", reason="local models need torch")
transformers = pytest.importorskip("transformers", reason="local models need transformers")

from workbench.runner.local import sampling
from workbench.runner.local.settings import Sampling

CASES = [
    {"top_k": 3},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"top_k": 40, "top_p": 0.9},
    {"temperature": 1.7, "top_p": 0.3},
    {"temperature": 0.4, "top_k": 9, "top_p": 0.95, "min_p": 0.05},
    {},
    {"top_p": 0.999},
]


def warped(logits, settings):
    """Return the probabilities by transformers' processors, in the order that `generate` uses."""
    from transformers.generation import logits_process as p

    logits = p.TemperatureLogitsWarper(settings.temperature)(None, logits.clone())
    if settings.top_k:
        logits = p.TopKLogitsWarper(settings.top_k)(None, logits)
    if settings.top_p < 1:
        logits = p.TopPLogitsWarper(settings.top_p)(None, logits)
    if settings.min_p:
        logits = p.MinPLogitsWarper(settings.min_p)(None, logits)
    return logits.softmax(-1)


@pytest.mark.parametrize("size", [50, 3000])
def test_what_is_cut_off_is_what_transformers_cuts_off(size):
    """All settings in one batch, each row against its own processors; 3000 does not fit the
    candidates."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(len(CASES), size, generator=generator) * 2
    settings = [Sampling(**{"temperature": 1.0, **c}) for c in CASES]

    temperature = torch.tensor([s.temperature for s in settings])[:, None]
    kept = sampling._cut((logits / temperature).softmax(-1), settings)

    for row, (weights, setting) in enumerate(zip(kept, settings, strict=True)):
        expected = warped(logits[row : row + 1], setting)[0]
        assert torch.equal(weights > 0, expected > 0), setting
        assert torch.allclose(weights / weights.sum(), expected, atol=1e-6)


def test_tokens_come_as_often_as_their_probability():
    """20,000 draws: a chi-square of 5 degrees of freedom stays below its 0.1 % point, 20.5."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -2.0]])
    rng, n = random.Random(5), 20_000
    expected = (logits[0] / 0.8).softmax(-1).tolist()

    many = sampling.choose(
        logits.expand(n, -1),
        [Sampling(temperature=0.8)] * n,
        [rng.random() for _ in range(n)],
        [None] * n,
    ).tokens

    counts = [many.count(t) for t in range(6)]
    assert sum((c - n * p) ** 2 / (n * p) for c, p in zip(counts, expected, strict=True)) < 20.5


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_give_possible_tokens(draw):
    """Neither end falls on a token of probability 0."""
    logits = torch.tensor([[-math.inf, 1.0, 0.0, -math.inf]])

    chosen = sampling.choose(logits, [Sampling(temperature=1.0)], [draw], [None])

    assert chosen.tokens == [1 if draw == 0 else 2]


def test_greedy_forced_and_drawn_rows_share_a_step():
    """The likeliest, the forced one and the drawn one; each with the model's own log
    probability."""
    logits = torch.tensor([[0.0, 3.0, 1.0]] * 3)
    settings = [Sampling(temperature=0.0), Sampling(temperature=0.0), Sampling(temperature=5.0)]

    chosen = sampling.choose(logits, settings, [0.0, 0.0, 0.01], [None, 2, None])

    assert chosen.tokens == [1, 2, 0]
    assert chosen.logprobs == pytest.approx(logits.log_softmax(-1)[[0, 1, 2], [1, 2, 0]].tolist())
