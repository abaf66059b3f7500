"""Detectors on tables of windows: a tile is as odd as the oddest window in its core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.detect.base import Detector

CHUNK_ROWS = 65_536
CALM = 0.0
"""Score of a tile without any window that could be judged."""


def as_rows(table: NDArray[np.floating]) -> NDArray[np.floating]:
    """The finite rows of a table (n, ..., columns), as (m, columns)."""
    rows = table.reshape(-1, table.shape[-1])
    return rows if table.ndim == 2 else rows[np.isfinite(rows).all(axis=1)]


def window_scores(detector: Detector, windows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores (n, ...) of windows (n, ..., columns), NaN where one has no statistics."""
    rows = windows.reshape(-1, windows.shape[-1])
    known = np.isfinite(rows).all(axis=1)
    scores = np.full(len(rows), np.nan)
    for places in np.array_split(np.flatnonzero(known), 1 + int(known.sum()) // CHUNK_ROWS):
        if len(places):
            scores[places] = detector.score(rows[places])
    return scores.reshape(windows.shape[:-1])


def tile_scores(detector: Detector, table: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores (n,) of tiles with one row each (n, columns), or of the oddest of their windows (n, ..., columns)."""
    if table.ndim == 2:
        return detector.score(table)
    scores = window_scores(detector, table).reshape(len(table), -1)
    peaks: NDArray[np.float64] = np.where(np.isnan(scores), -np.inf, scores).max(axis=1)
    return np.where(np.isfinite(peaks), peaks, CALM)


def few_windows(windows: NDArray[np.float16], most: int) -> NDArray[np.float16]:
    """Some windows (n, m, columns) of each tile (n, side, side, columns): `most` of all tiles together, but at least one each."""
    n, columns = len(windows), windows.shape[-1]
    flat = windows.reshape(n, -1, columns)
    m = int(np.clip(most // n, 1, flat.shape[1]))
    places = np.sort(np.random.default_rng(0).permutation(flat.shape[1])[:m])  # equal steps could keep to one column
    return np.ascontiguousarray(flat[:, places])
