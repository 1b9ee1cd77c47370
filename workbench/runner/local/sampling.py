"""Sampling of the next token for all sequences of a step at once, on the device.

The randomness of a sequence is one number in [0, 1) a token, drawn by the sequence from its own
seed: the token is where that number falls in the cumulative distribution. So a sequence's text does
not depend on what else is in the batch, but for the last bits of the arithmetic.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from workbench.runner.local.settings import Sampling

_CANDIDATES = 512  # likeliest tokens that nearly always hold top_p; fewer to sort than a vocabulary


class Choice(NamedTuple):
    """One token a sequence.

    Attributes:
        tokens: ids.
        logprobs: natural log of their probability, as the model gives it: temperature 1, nothing
            cut off.
    """

    tokens: list[int]
    logprobs: list[float]


def choose(
    logits: Any, settings: Sequence[Sampling], draws: Sequence[float], forced: Sequence[int | None]
) -> Choice:
    """Choose the next tokens; the device is waited for once, at the end.

    Args:
        logits: (n sequences, vocabulary).
        settings: how each sequence is sampled.
        draws: each sequence's own random number in [0, 1); not looked at where it is greedy or
            forced.
        forced: a token that is written whatever the model says, or None.
    """
    logits = logits.float()
    tokens = logits.argmax(-1)
    sampled = [n for n, s in enumerate(settings) if s.temperature > 0 and forced[n] is None]
    if sampled:
        rows = _tensor(sampled, logits, torch.long)
        tokens[rows] = _draw(
            logits[rows], [settings[n] for n in sampled], [draws[n] for n in sampled]
        )
    for n, token in enumerate(forced):
        if token is not None:
            tokens[n] = token
    chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    both = torch.stack([tokens.to(_wide(logits)), chosen.to(_wide(logits))]).tolist()
    return Choice([int(t) for t in both[0]], both[1])


def _draw(logits: Any, settings: Sequence[Sampling], draws: Sequence[float]) -> Any:
    temperature = _tensor([s.temperature for s in settings], logits)
    weights = (logits / temperature[:, None]).softmax(-1)
    weights = _cut(weights, settings)
    sums = weights.to(_wide(logits)).cumsum(-1)
    total = sums[:, -1:]
    at = _tensor(draws, logits, _wide(logits))[:, None] * total
    at = torch.minimum(at, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, at, right=True)[:, 0]


def _cut(weights: Any, settings: Sequence[Sampling]) -> Any:
    """Zero the probabilities that top_k, top_p and min_p exclude, applied in this order."""
    if any(s.top_k for s in settings):
        size = weights.shape[-1]
        most = [min(s.top_k or size, size) for s in settings]
        widest = max((m for m in most if m < size), default=0)
        if widest:
            best = weights.topk(widest, dim=-1).values
            rank = _tensor([min(m, widest) - 1 for m in most], weights, torch.long)
            least = best.gather(1, rank[:, None])
            whole = _tensor([m == size for m in most], weights, torch.bool)[:, None]
            weights = weights.masked_fill((weights < least) & ~whole, 0)
    if any(s.top_p < 1 for s in settings):
        weights = weights.masked_fill(weights < _least_of_top_p(weights, settings), 0)
    if any(s.min_p for s in settings):
        part = _tensor([s.min_p for s in settings], weights)
        weights = weights.masked_fill(weights < (weights.amax(-1) * part)[:, None], 0)
    return weights


def _least_of_top_p(weights: Any, settings: Sequence[Sampling]) -> Any:
    """Return the smallest weight that is kept, (n, 1): the smallest set whose sum reaches top_p."""
    share = _tensor([s.top_p for s in settings], weights)[:, None] * weights.sum(-1, keepdim=True)
    size = weights.shape[-1]
    count = min(_CANDIDATES, size) if weights.device.type == "cpu" else size
    best = weights.topk(count, dim=-1).values
    before = best.cumsum(-1) - best
    if count < size and bool((before[:, -1:] + best[:, -1:] < share).any()):
        best = weights.sort(dim=-1, descending=True).values
        before = best.cumsum(-1) - best
    n_kept = (before < share).sum(-1, keepdim=True).clamp(min=1)
    least = best.gather(1, n_kept - 1)
    whole = _tensor([s.top_p >= 1 for s in settings], weights, torch.bool)
    return least.masked_fill(whole[:, None], 0)  # an index by booleans would wait for the device


def _wide(tensor: Any) -> torch.dtype:
    """Return the widest float of a device; Apple's GPU has no doubles."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _tensor(values: Sequence[Any], like: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Make a small tensor on a device without waiting for it."""
    tensor = torch.tensor(values, dtype=dtype)
    if like.device.type == "cuda":
        return tensor.pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like.device)
