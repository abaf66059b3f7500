"""The shift between two dates of a place, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from skimage.registration import phase_cross_correlation

from geoanom.raster.compose import without_fill
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

SIDE_PX = 256
LEAST_SIDE_PX = 64
MAX_CHIPS = 16
UPSAMPLING = 20
"""Shifts are told to a twentieth of a pixel (Guizar-Sicairos et al. 2008, doi:10.1364/OL.33.000156)."""
LEAST_VALID = 0.9
AGREEMENT_PX = 0.35
"""Chips agree when their shifts scatter by less than this (median absolute deviation)."""
LEAST_CHIPS = 3


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far the later scene lies right of and below the earlier one, in pixels."""

    rows: float
    cols: float
    sure: bool
    """False where chips disagree or are too few; rows and columns are then 0."""

    @property
    def length_px(self) -> float:
        """Euclidean."""
        return float(np.hypot(self.rows, self.cols))


NONE = Shift(rows=0.0, cols=0.0, sure=False)


def estimate_shift(before: Scene, after: Scene, config: Config) -> Shift:
    """The median shift of chips spread over two scenes of one grid, by phase correlation of their edges.

    Each chip is read by itself, so that memory does not depend on the scenes' size.
    """
    found = [_shift_of(*chips) for chips in _chips(before, after)]
    limit = config.change.max_shift_px
    near = np.array([shift for shift in found if np.abs(shift).max() <= limit]).reshape(-1, 2)
    if len(near) < LEAST_CHIPS or 2 * len(near) < len(found):
        return NONE
    middle = np.median(near, axis=0)
    scatter = np.median(np.abs(near - middle), axis=0)
    if scatter.max() > AGREEMENT_PX:
        return NONE
    return Shift(rows=float(middle[0]), cols=float(middle[1]), sure=True)


def _chips(before: Scene, after: Scene) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both dates' edges in windows that are valid enough."""
    handles = without_fill(before).open_handle(), without_fill(after).open_handle()
    try:
        for window in _windows(before.height, before.width):
            ours, theirs = (handle.read(window) for handle in handles)
            valid = ours.valid & theirs.valid
            if valid.mean() >= LEAST_VALID:
                yield _edges(ours.values, valid), _edges(theirs.values, valid)
    finally:
        for handle in handles:
            handle.close()


def _windows(height: int, width: int) -> list[Window]:
    """Up to `MAX_CHIPS` squares spread evenly, smaller ones in small scenes, since one chip alone may be misled by what changed in it."""
    side = min(SIDE_PX, max(LEAST_SIDE_PX, min(height, width) // 2), height, width)
    if side < LEAST_SIDE_PX:
        return []
    n_rows, n_cols = (max(1, min(4, length // side)) for length in (height, width))
    rows, cols = (np.linspace(0, length - side, n).astype(int).tolist() for length, n in ((height, n_rows), (width, n_cols)))
    return [Window(row_off=row, col_off=col, height=side, width=side) for row in rows for col in cols][:MAX_CHIPS]


def _edges(values: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How strong the edges of all bands are, which light and season change less than brightness, in a soft frame."""
    total = np.zeros(valid.shape)
    for band in values.astype(np.float64):
        usual = float(np.median(band[valid]))
        spread = float(np.percentile(band[valid], 98) - np.percentile(band[valid], 2))
        gradient = gaussian_gradient_magnitude(np.where(valid, band, usual), 1.0)
        total += gradient / max(spread, 1e-12)
    total -= gaussian_filter(total, 16.0)
    n_rows, n_cols = valid.shape
    return np.asarray(total * np.outer(np.hanning(n_rows), np.hanning(n_cols)))


def _shift_of(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, cols) by which the later chip is shifted; infinite where a chip is flat."""
    if before.std() == 0 or after.std() == 0:
        return np.full(2, np.inf)
    moved, _, _ = phase_cross_correlation(before, after, upsample_factor=UPSAMPLING, normalization=None)
    return -np.asarray(moved, np.float64)
