"""Joint resampling of groups that are not columns of one panel, with shared draws of clusters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.inputs import engine
from workbench.analysis.stats import resampling
from workbench.analysis.stats.arrays import Floats


class Part(NamedTuple):
    """Contribution of one group.

    Attributes:
        batch: parts of one batch share their draws; those of other batches have none of their
            items.
        clusters: (n_items,) the name or number of each item's cluster, the same in every part.
        values: (n_items, k); NaN where unknown.
    """

    batch: str
    clusters: pl.Series
    values: Floats


class ResampledMeans(NamedTuple):
    """Means over a group's items.

    Attributes:
        mean: (k,); NaN where a value of an item is unknown.
        draws: (resamples, k), or None below two clusters.
        n_clusters: of the group.
    """

    mean: Floats
    draws: Floats | None
    n_clusters: int


def resample_jointly(
    parts: Sequence[Part], resamples: int, rng: np.random.Generator
) -> list[ResampledMeans]:
    """Average each part's values over items, and over shared resamples of clusters."""
    results: list[ResampledMeans | None] = [None] * len(parts)
    for batch in dict.fromkeys(part.batch for part in parts):
        at = [i for i, part in enumerate(parts) if part.batch == batch]
        for i, means in zip(at, _batch([parts[i] for i in at], resamples, rng), strict=True):
            results[i] = means
    return [means for means in results if means is not None]


def _batch(parts: Sequence[Part], resamples: int, rng: np.random.Generator) -> list[ResampledMeans]:
    codes = _codes(pl.concat([part.clusters for part in parts]))
    n_clusters = int(codes.max()) + 1
    bag = resampling.bags(n_clusters, rng)
    ends = np.cumsum([part.values.shape[1] + 1 for part in parts])
    sums = np.zeros((int(bag.max()) + 1, int(ends[-1])))
    cluster_counts = []
    start = 0
    done = 0
    for part, end in zip(parts, ends.tolist(), strict=True):
        place = codes[done : done + len(part.values)]
        cluster_counts.append(int((np.bincount(place) > 0).sum()))
        for j, column in enumerate([*part.values.T, np.ones(len(place))]):
            sums[:, start + j] = np.bincount(bag[place], column, len(sums))
        start, done = end, done + len(part.values)
    unknown = np.asarray(np.isnan(sums).any(axis=0))
    sums = np.nan_to_num(sums)
    resampled = None
    if n_clusters > 1:
        distinct, again = _distinct(sums)
        resampled = resampling.resampled_sums(distinct, resamples, rng)[:, again]
    out = []
    start = 0
    for end, n in zip(ends.tolist(), cluster_counts, strict=True):
        gone = unknown[start : end - 1]
        whole = _means(sums[:, start:end].sum(axis=0, keepdims=True), gone)[0]
        draws = None
        if resampled is not None and n > 1:
            draws = _means(resampled[:, start:end], gone)
        out.append(ResampledMeans(whole, draws, n))
        start = end
    return out


def _codes(clusters: pl.Series) -> npt.NDArray[np.int64]:
    """Number the clusters from 0, in order."""
    ranks = clusters.rank("dense") if clusters.dtype.is_numeric() else engine.ranks(clusters)
    return np.asarray(ranks.cast(pl.Int64).to_numpy() - 1)


def _distinct(sums: Floats) -> tuple[Floats, list[int]]:
    """Keep equal columns once: (n_clusters, j), and for every column the place of its equal."""
    seen: dict[bytes, int] = {}
    place = [seen.setdefault(column.tobytes(), len(seen)) for column in sums.T]
    first = [place.index(j) for j in range(len(seen))]
    return np.ascontiguousarray(sums[:, first]), place


def _means(totals: Floats, unknown: npt.NDArray[np.bool_]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Floats = totals[:, :-1] / totals[:, -1:]
    means[:, unknown] = np.nan
    return means


def batch(names: pl.DataFrame) -> str:
    """Name the batch of a group: its task, where tasks are distinguished."""
    return str(names["task"][0]) if "task" in names.columns else ""
