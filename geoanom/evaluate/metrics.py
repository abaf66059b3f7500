"""Figures of merit of scores against a known truth: pure arrays, higher scores are more anomalous, tied scores are one threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from geoanom.errors import ConfigError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

EIGHT = np.ones((3, 3), int)
"""Pixels that share an edge or a corner belong to one object."""


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Mean precision over the recall that each threshold gains; for scores without meaning about the share of positives.

    Args:
        scores: of any shape, finite.
        truth: the same shape, True = anomaly.

    Raises:
        InputError: the truth has no positives or no negatives, a score is not finite, or shapes differ.
    """
    values, positive = _checked(scores, truth)
    return float(average_precision_score(positive, values))


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """The chance that an anomaly scores higher than a normal place, ties counted half.

    Args:
        scores: of any shape, finite.
        truth: the same shape, True = anomaly.

    Raises:
        InputError: the truth has no positives or no negatives, a score is not finite, or shapes differ.
    """
    values, positive = _checked(scores, truth)
    return float(roc_auc_score(positive, values))


def precision_at_k(scores: ArrayLike, truth: ArrayLike, k: int | None = None) -> float:
    """Share of anomalies among the k highest scores; of tied scores at the border it is the mean over all their orders.

    Args:
        scores: of any shape, finite.
        truth: the same shape, True = anomaly.
        k: the number of positives by default.

    Raises:
        InputError: the truth has no positives or no negatives, a score is not finite, or shapes differ.
        ConfigError: k is not between 1 and the number of scores.
    """
    values, positive = _checked(scores, truth)
    k = int(positive.sum()) if k is None else k
    if not 1 <= k <= values.size:
        raise ConfigError("k", f"is {k}, and {values.size} places are labelled", f"choose 1 to {values.size}")
    border = np.partition(values, -k)[-k]
    above, tied = values > border, values == border
    return float((positive[above].sum() + (k - above.sum()) * positive[tied].mean()) / k)


def precision_recall(called: ArrayLike, truth: ArrayLike) -> tuple[float | None, float]:
    """Precision and recall of a decision; the precision is None when nothing was called.

    Args:
        called: of any shape, True = called anomalous.
        truth: the same shape, True = anomaly.

    Raises:
        InputError: the truth has no positives, or shapes differ.
    """
    decided, positive = np.asarray(called, bool), np.asarray(truth, bool)
    _check_shapes(decided, positive)
    if not positive.any():
        raise InputError("truth", "has no positives", "label at least one anomaly")
    hits = int((decided & positive).sum())
    return (hits / int(decided.sum()) if decided.any() else None), hits / int(positive.sum())


def object_recall(called_mask: ArrayLike, truth_mask: ArrayLike) -> float:
    """Share of the truth's objects, its 8-connected components, that a decision touches.

    Args:
        called_mask: (row, col), True = called anomalous.
        truth_mask: (row, col), True = anomaly.

    Raises:
        InputError: the truth has no positives, or shapes differ.
    """
    n_hit, n_objects = objects_touched(called_mask, truth_mask)
    if n_objects == 0:
        raise InputError("truth", "has no positives", "label at least one anomaly")
    return n_hit / n_objects


def objects_touched(called_mask: ArrayLike, truth_mask: ArrayLike) -> tuple[int, int]:
    """How many of the truth's 8-connected components (row, col) a decision (row, col) touches, and how many there are."""
    decided, positive = np.asarray(called_mask, bool), np.asarray(truth_mask, bool)
    _check_shapes(decided, positive)
    regions, n_regions = label(positive, EIGHT)
    return len(np.unique(regions[decided & positive])), int(n_regions)


def pro(score_map: ArrayLike, truth_mask: ArrayLike, max_fpr: float = 0.3) -> float:
    """Per-region overlap: how much of each region is found on average, integrated over the false positive rate.

    Every region counts the same, however large. The area under the mean overlap from a rate of 0 to `max_fpr` is divided by
    `max_fpr`, so that 1 is perfect. Between two thresholds the curve is straight. Bergmann et al. 2021, The MVTec Anomaly Detection
    Dataset, doi:10.1007/s11263-020-01400-4.

    Args:
        score_map: (row, col); NaN = not evaluated.
        truth_mask: (row, col), True = anomaly; regions are 8-connected components of what is evaluated.
        max_fpr: in (0, 1].

    Raises:
        InputError: the truth has no positives or no negatives where scores are finite, or shapes differ.
        ConfigError: `max_fpr` is out of range.
    """
    if not 0.0 < max_fpr <= 1.0:
        raise ConfigError("max_fpr", f"is {max_fpr:g}", "choose more than 0 and at most 1")
    field, mask = np.asarray(score_map), np.asarray(truth_mask, bool)
    _check_shapes(field, mask)
    known = ~np.isnan(field)
    regions, _ = label(mask & known, EIGHT)
    scores, _ = _checked(field[known], mask[known])
    fpr, overlap = _overlap_curve(scores, regions[known])
    return _area_until(fpr, overlap, max_fpr) / max_fpr


def _overlap_curve(scores: NDArray[np.floating], regions: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate and mean overlap at every distinct threshold, from (0, 0) on.

    Args:
        scores: (n,).
        regions: (n,) number of the region, 0 outside of all.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    sizes = np.bincount(regions)
    share = 1.0 / (np.maximum(sizes, 1) * (len(sizes) - 1))
    share[0] = 0.0
    overlap = np.cumsum(share[regions[order]])[last_of_tie]
    fpr = np.cumsum(regions[order] == 0)[last_of_tie] / sizes[0]
    return np.append(0.0, fpr), np.append(0.0, overlap)


def _area_until(x: NDArray[np.float64], y: NDArray[np.float64], end: float) -> float:
    """Area under straight pieces from 0 to `end`; `x` ascends and reaches `end`."""
    inside = int(np.searchsorted(x, end, side="right"))
    if inside == len(x):
        return float(auc(x, y))
    before, after = inside - 1, inside
    at_end = y[before] + (y[after] - y[before]) * (end - x[before]) / (x[after] - x[before])
    return float(auc(np.append(x[:inside], end), np.append(y[:inside], at_end)))


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Both flattened, after what would give NaN is refused."""
    values, positive = np.asarray(scores), np.asarray(truth, bool)
    _check_shapes(values, positive)
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("scores", "are not all finite", "leave out the places that were not scored")
    if not positive.any():
        raise InputError("truth", "has no positives", "label at least one anomaly")
    if positive.all():
        raise InputError("truth", "has no negatives", "label normal places as well")
    return values.ravel(), positive.ravel()


def _check_shapes(values: NDArray[np.generic], truth: NDArray[np.bool_]) -> None:
    if values.shape != truth.shape:
        raise InputError("truth", f"has the shape {truth.shape}, the scores have {values.shape}", "bring both to the same places")
