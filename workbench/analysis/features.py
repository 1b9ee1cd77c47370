"""What is known of an item before it is answered, as numbers; and two ways to predict outcomes from it."""

import itertools
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BITS = 12  # 4,096 columns
_TEXT = 4000  # characters of a text that are read
_WORD = re.compile(r"[^\W\d_]+|\d+")
_REFERENCES = 2000  # items that are learned from at most
_BLOCK = 1000


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

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for i, (text, known) in enumerate(zip(texts, facts, strict=True)):
        counts: dict[int, int] = {}
        for token in _tokens(text, known):
            code = zlib.crc32(token.encode("utf-8", "backslashreplace"))
            counts[code] = counts.get(code, 0) + 1
        rows += [i] * len(counts)
        columns += [code & ((1 << _BITS) - 1) for code in counts]
        values += [
            (1 if code & (1 << 31) else -1) * (1 + math.log(n)) for code, n in counts.items()
        ]
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(texts), 1 << _BITS))


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
    near, logistic = np.empty_like(outcome), np.empty_like(outcome)
    for fold in range(int(folds.max()) + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(train) > _REFERENCES:
            train = np.sort(rng.choice(train, _REFERENCES, replace=False))
        x, new = weighted(features[train], features[test])
        near[test] = _nearest(x, outcome[train], new, neighbours)
        logistic[test] = _logistic(x, outcome[train], new)
    return {"nearest neighbours": near, "logistic": logistic}


def _nearest(x: Any, y: Floats, new: Any, k: int) -> Floats:
    """Average the outcomes of the k items of the largest cosine; equal ones by their place."""
    k = min(k, len(y))
    out = np.empty((new.shape[0], y.shape[1]))
    for start in range(0, new.shape[0], _BLOCK):
        close = (new[start : start + _BLOCK] @ x.T).toarray()
        # Rounding must not choose between items that are equally near.
        order = np.argsort(-np.round(close, 9), axis=1, kind="stable")[:, :k]
        out[start : start + _BLOCK] = y[order].mean(axis=1)
    return out


def _logistic(x: Any, y: Floats, new: Any, penalty: float = 1.0) -> Floats:
    """Fit a ridge-penalised logistic curve per outcome; outcomes between 0 and 1 count in part."""
    from scipy import optimize, special

    used = np.flatnonzero(np.asarray((x != 0).sum(axis=0)).ravel())
    x, new = x[:, used], new[:, used]
    back = x.T.tocsr()

    def loss(w: Floats, own: Floats) -> tuple[float, Floats]:
        z = x @ w[1:] + w[0]
        off = special.expit(z) - own
        total = (np.logaddexp(0, z) - own * z).sum() + penalty / 2 * (w[1:] ** 2).sum()
        return float(total), np.concatenate([[off.sum()], back @ off + penalty * w[1:]])

    # One outcome after the other: of all at once the vectors are so long that the linear algebra
    # library shares each sum out over threads, and waits for them.
    out = np.empty((new.shape[0], y.shape[1]))
    for j, own in enumerate(y.T):
        start = np.zeros(len(used) + 1)
        start[0] = special.logit(np.clip(own.mean(), 0.01, 0.99))
        w = optimize.minimize(
            loss, start, args=(own,), jac=True, method="L-BFGS-B", options={"maxiter": 100}
        ).x
        out[:, j] = special.expit(new @ w[1:] + w[0])
    return out
