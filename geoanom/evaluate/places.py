"""Measures of places: ranked outlines against anomalies whose pixels are known.

A pixel belongs to an outline when its centre does. Outlines are in pixel corners (col, row), the most anomalous first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from shapely import contains_xy, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """How n ranked outlines lie over m known anomalies, in pixels."""

    shared: NDArray[np.int64]
    """(n, m) pixels of an outline in an anomaly."""
    union: NDArray[np.bool_]
    """(row, col) what any outline holds."""
    known: NDArray[np.int64]
    """(m,) pixels of each anomaly."""
    reached: NDArray[np.int64]
    """(m,) pixels of all the outlines together that hit an anomaly."""
    held: NDArray[np.int64]
    """(m,) pixels of an anomaly that any outline holds."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(n, m) which outline hits which anomaly: they share at least a pixel."""
        return self.shared > 0

    @property
    def found(self) -> NDArray[np.bool_]:
        """(m,) which anomalies are hit by any outline."""
        found: NDArray[np.bool_] = self.held > 0
        return found


def pixels_of(outline: BaseGeometry, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Positions, in a flat raster of this shape, of the pixels whose centres lie in an outline."""
    if outline.is_empty:
        return np.empty(0, np.int64)
    left, top, right, bottom = outline.bounds
    rows = np.arange(max(0, int(np.floor(top))), min(shape[0], int(np.ceil(bottom))))
    cols = np.arange(max(0, int(np.floor(left))), min(shape[1], int(np.ceil(right))))
    prepare(outline)
    inside = (
        contains_xy(outline, *np.meshgrid(cols + 0.5, rows + 0.5)) if len(rows) and len(cols) else np.zeros((len(rows), len(cols)), bool)
    )
    at_row, at_col = np.nonzero(inside)
    positions: NDArray[np.int64] = (rows[at_row] * shape[1] + cols[at_col]).astype(np.int64)
    return positions


def overlaps(outlines: Sequence[BaseGeometry], labels: NDArray[np.integer]) -> Overlaps:
    """Lay outlines over known anomalies.

    Args:
        outlines: the most anomalous first.
        labels: (row, col) 1..m in the m anomalies, each of which has a pixel; 0 elsewhere.
    """
    flat, n_known = labels.ravel(), int(labels.max(initial=0))
    pixels = [pixels_of(outline, (labels.shape[0], labels.shape[1])) for outline in outlines]
    shared = np.array([np.bincount(flat[own], minlength=n_known + 1)[1:] for own in pixels], np.int64).reshape(-1, n_known)
    union = np.zeros(flat.shape, bool)
    for own in pixels:
        union[own] = True
    reached = [len(np.unique(np.concatenate([np.empty(0, np.int64), *(pixels[i] for i in np.flatnonzero(hit))]))) for hit in shared.T > 0]
    return Overlaps(
        shared=shared,
        union=union.reshape(labels.shape),
        known=np.bincount(flat, minlength=n_known + 1)[1:].astype(np.int64),
        reached=np.array(reached, np.int64),
        held=np.bincount(flat[union], minlength=n_known + 1)[1:].astype(np.int64),
    )


def chance(union: NDArray[np.bool_], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """How often outlines hit each anomaly when they are moved together to anywhere, over the edges and back in (a torus).

    This is the exact mean over all moves, by one correlation for each anomaly: nothing is drawn.

    Args:
        union: (row, col) what any outline holds.
        labels: (row, col) 1..m in the m anomalies, 0 elsewhere.

    Returns:
        (m,) shares of the moves.
    """
    moved = np.conj(fft.rfft2(union.astype(np.float64)))
    shares = np.empty(int(labels.max(initial=0)))
    for i in range(len(shares)):
        shared = fft.irfft2(fft.rfft2((labels == i + 1).astype(np.float64)) * moved, s=union.shape)
        shares[i] = (shared > 0.5).mean()  # counts, but for rounding
    return shares


def beyond_chance(recall: float, by_chance: float) -> float | None:
    """Share of what chance would miss that is found: 1 = all, 0 = as chance; None where chance finds everything."""
    return (recall - by_chance) / (1 - by_chance) if by_chance < 1 else None


def average_precision(hits: NDArray[np.bool_]) -> float | None:
    """Average precision over ranked outlines; None where nothing was to be found.

    An outline that is the first to hit an anomaly is right, and counts once however many it swallows; one that hits only what is
    found already is ignored; one that hits nothing is wrong. The sum of the precisions at the right ones is divided by the number
    of anomalies, so that those missed count as zero.

    Args:
        hits: (n, m) which outline hits which anomaly, the most anomalous outline first.
    """
    if hits.shape[1] == 0:
        return None
    before: NDArray[np.int64] = np.cumsum(hits, axis=0) - hits
    right = (hits & (before == 0)).any(axis=1)
    wrong = ~hits.any(axis=1)
    n_right, n_wrong = np.cumsum(right), np.cumsum(wrong)
    return float((n_right[right] / (n_right + n_wrong)[right]).sum() / hits.shape[1])


def outline_iou(found: Overlaps) -> NDArray[np.float64]:
    """(m,) intersection over union of each anomaly and the outlines that hit it; NaN where none does."""
    with np.errstate(invalid="ignore"):
        iou: NDArray[np.float64] = np.where(found.found, found.held / (found.known + found.reached - found.held), np.nan)
    return iou
