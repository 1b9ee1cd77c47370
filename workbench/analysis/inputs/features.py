"""Features of items that are known before they are answered, and predictors of outcomes."""

import collections
import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from workbench.analysis.stats.arrays import Floats, Ints

_BITS = 12  # 4,096 columns
_TEXT = 4000  # characters of a text that are read
_WORD = re.compile(r"[^\W\d_]+|\d+")
_REFERENCES = 2000  # items that are learned from at most
_BLOCK = 100  # items whose neighbours are looked for at once: they stay in the cache
_TOKENS = 500_000  # hashes in the cache
_THREADS = 2  # folds learned at once; the libraries used have no threads of their own
_MAX_STEPS = 100  # of L-BFGS
_MEMORY = 10  # past steps that L-BFGS keeps


class _Codes(dict[str, int]):
    """Hashes of tokens, each computed once."""

    def __missing__(self, token: str) -> int:
        if len(self) >= _TOKENS:
            self.clear()
        self[token] = code = zlib.crc32(token.encode("utf-8", "backslashreplace"))
        return code


def hashed(texts: Sequence[str | None], facts: Sequence[Mapping[str, Any]]) -> Any:
    """Count words, pairs of words and facts in columns chosen by a hash (Weinberger et al. 2009).

    Nothing is learned, the columns are the same everywhere; digits of a number count as one word of
    their length, so that items that differ in their numbers alone are alike.

    Args:
        texts: the question of each item, or None.
        facts: of each item, such as its task; known ones only.

    Returns:
        (n_items, 4096) a sparse matrix of 1 + ln(count), signed.
    """
    from scipy import sparse

    codes = _Codes()
    counts = [
        collections.Counter(map(codes.__getitem__, _tokens(text, known)))
        for text, known in zip(texts, facts, strict=True)
    ]
    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    every = itertools.chain.from_iterable
    code = np.fromiter(every(counts), np.int64, int(lengths.sum()))
    times = np.fromiter(every(c.values() for c in counts), np.float64, len(code))
    values = np.where(code & (1 << 31), 1, -1) * (1 + np.log(times))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shape = len(counts), 1 << _BITS
    matrix = sparse.csr_matrix((values, code & ((1 << _BITS) - 1), ends), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _tokens(text: str | None, facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{name}\0{value}"
    if not text:
        return
    yield f"length\0{int(math.log2(len(text)))}"
    words = [w if w.isalpha() else f"#{len(w)}" for w in _WORD.findall(text[:_TEXT].lower())]
    yield from words
    for pair in itertools.pairwise(words):
        yield " ".join(pair)


def weighted(train: Any, *others: Any) -> tuple[Any, ...]:
    """Weigh columns by how rare they are among the training rows, and scale rows to length 1."""
    from scipy import sparse

    seen = np.asarray((train != 0).sum(axis=0)).ravel()
    rare = sparse.diags(np.log((1 + train.shape[0]) / (1 + seen)) + 1)
    out = []
    for matrix in (train, *others):
        scaled = (matrix @ rare).tocsr()
        length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
        out.append((sparse.diags(1 / np.where(length > 0, length, 1.0)) @ scaled).tocsr())
    return tuple(out)


def predicted(
    features: Any, outcome: Floats, folds: Ints, neighbours: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Predict every item's outcomes from items of other folds, in two ways.

    Args:
        features: (n_items, d) as `hashed` makes them.
        outcome: (n_items, m) 0..1, all known.
        folds: (n_items,) the fold of each item, from 0; at least two.
        neighbours: how many items the nearest-neighbour prediction averages.
        rng: draws what is learned from where there are more than 2,000 items.

    Returns:
        by name, (n_items, m) predictions: "nearest neighbours", "logistic".
    """
    near = np.empty_like(outcome)
    logistic = np.empty_like(outcome)
    split = []
    for fold in range(int(folds.max()) + 1):
        train = np.flatnonzero(folds != fold)
        test = np.flatnonzero(folds == fold)
        if len(train) > _REFERENCES:
            train = np.sort(rng.choice(train, _REFERENCES, replace=False))
        split.append((train, test))

    def learn(train: Ints, test: Ints) -> None:
        x, new = weighted(features[train], features[test])
        near[test] = _nearest(x, outcome[train], new, neighbours)
        logistic[test] = _logistic(x, outcome[train], new)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(learn, *zip(*split, strict=True)))
    return {"nearest neighbours": near, "logistic": logistic}


def _nearest(x: Any, y: Floats, new: Any, k: int) -> Floats:
    """Average the outcomes of the k items of the largest cosine; equal ones by their place."""
    k = min(k, len(y))
    used = np.flatnonzero(np.asarray((x != 0).sum(axis=0)).ravel())
    known, new = np.ascontiguousarray(x[:, used].T.toarray()), new[:, used]
    out = np.empty((new.shape[0], y.shape[1]))
    for start in range(0, new.shape[0], _BLOCK):
        # Rounding must not choose between items that are equally near.
        close = np.round(new[start : start + _BLOCK] @ known, 9)
        place = len(y) - k
        least = np.partition(close, place, axis=1)[:, place : place + 1]
        chosen = close >= least
        many = np.flatnonzero(chosen.sum(axis=1) > k)
        nearer = close[many] > least[many]
        equal = close[many] == least[many]
        n_ties = k - nearer.sum(axis=1, keepdims=True)
        chosen[many] = nearer | (equal & (np.cumsum(equal, axis=1) <= n_ties))
        out[start : start + _BLOCK] = y[np.nonzero(chosen)[1].reshape(-1, k)].mean(axis=1)
    return out


def _logistic(x: Any, y: Floats, new: Any, penalty: float = 1.0) -> Floats:
    """Fit a ridge-penalised logistic curve per outcome; outcomes between 0 and 1 count in part."""
    from scipy import sparse, special

    used = np.flatnonzero(np.asarray((x != 0).sum(axis=0)).ravel())
    one, x, new = np.ones((x.shape[0], 1)), x[:, used], new[:, used]
    design = sparse.hstack([one, x]).tocsr()
    back = design.T.tocsr()
    penalties = np.append(0.0, np.full(len(used), penalty))[:, None]

    def loss_and_gradient(w: Floats, outcomes: Floats) -> tuple[Floats, Floats]:
        z = design @ w
        loss = (np.logaddexp(0, z) - outcomes * z).sum(axis=0) + (penalties * w**2).sum(axis=0) / 2
        return loss, back @ (special.expit(z) - outcomes) + penalties * w

    start = np.zeros((len(used) + 1, y.shape[1]))
    start[0] = special.logit(np.clip(y.mean(axis=0), 0.01, 0.99))
    w = _minimise(loss_and_gradient, start, y)
    return np.asarray(special.expit(new @ w[1:] + w[0]))


def _minimise(
    loss_and_gradient: Callable[[Floats, Floats], tuple[Floats, Floats]], w: Floats, given: Floats
) -> Floats:
    """Minimise smooth convex functions, one per column, by L-BFGS (Liu & Nocedal 1989).

    Steps are halved until the loss falls enough (Armijo). All columns together cost little more
    than one. No linear algebra library is used: its threads cost more than such short sums.

    Args:
        loss_and_gradient: gives the losses (k,) and gradients (p, k) at (p, k), of the columns of
            `given`.
        w: (p, m) where to begin.
        given: (…, m) what each function is of.
    """
    w, going = w.copy(), np.arange(w.shape[1])
    at, (loss, slope) = w, loss_and_gradient(w, given)
    past: list[tuple[Floats, Floats, Floats]] = []
    for _ in range(_MAX_STEPS):
        move = _direction(slope, past)
        size = np.ones(len(going))
        fell, (new_loss, new_slope) = (
            (move * slope).sum(axis=0),
            loss_and_gradient(at + move, given[:, going]),
        )
        for _ in range(30):
            rounding = 1e-13 * (1 + np.abs(loss))
            short = np.flatnonzero(new_loss > loss + 1e-4 * size * fell + rounding)
            if not len(short):
                break
            size[short] /= 2
            again = at[:, short] + size[short] * move[:, short]
            new_loss[short], new_slope[:, short] = loss_and_gradient(again, given[:, going[short]])
        step = size * move
        bend = new_slope - slope
        curved = (step * bend).sum(axis=0)
        with np.errstate(divide="ignore"):
            past.append((step, bend, np.where(curved > 0, 1 / curved, 0.0)))
        del past[:-_MEMORY]
        at, slope = at + step, new_slope
        w[:, going] = at
        gained = (loss - new_loss) / np.maximum(np.maximum(np.abs(loss), np.abs(new_loss)), 1.0)
        keep = (gained > 1e-13) & (np.abs(slope).max(axis=0) > 1e-4)
        loss = new_loss
        if not keep.all():
            going, at, loss, slope = going[keep], at[:, keep], loss[keep], slope[:, keep]
            past = [(s[:, keep], b[:, keep], r[keep]) for s, b, r in past]
        if not len(going):
            break
    return w


def _direction(slope: Floats, past: Sequence[tuple[Floats, Floats, Floats]]) -> Floats:
    """Compute the L-BFGS direction from past (step, change of slope, 1 / step · change)."""
    if not past:
        return np.asarray(-slope / np.maximum(np.sqrt((slope**2).sum(axis=0)), 1.0))
    q = slope.copy()
    shares = []
    for step, bend, inverse in reversed(past):
        shares.append(inverse * (step * q).sum(axis=0))
        q -= shares[-1] * bend
    step, bend, inverse = past[-1]
    square = (bend**2).sum(axis=0)
    known = (inverse > 0) & (square > 0)
    q *= np.where(known, (step * bend).sum(axis=0) / np.where(known, square, 1.0), 1.0)
    for (step, bend, inverse), share in zip(past, reversed(shares), strict=True):
        q += step * (share - inverse * (bend * q).sum(axis=0))
    return -q
