"""How far a look departs from the memory of each cell: in colour, in texture, and in structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.whiten import fit_whitener

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.detect.whiten import Whitener

    Floats = NDArray[np.float64]

MEMBERS = ("spectral", "texture", "structure")
PRIOR_LOOKS = 4
LEAST_SCALE = 1e-9
TRIM = 0.05
LEAST_ROWS = 5
"""Cells a feature without which correlations cannot be told."""
LEAST_VARIANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What the cells of a look differ by where nothing has changed."""

    n_bands: int
    usual: Floats
    """(feature,) scale of the memory of most cells."""
    whiteners: tuple[Whitener | None, ...]
    """Of each member; None where the cells are too few."""

    def sigmas(self, away: NDArray[np.floating], scale: NDArray[np.floating], n: NDArray[np.integer]) -> Floats:
        """Differences (cell, feature) in deviations of each cell, so that restless fields weigh less.

        A scale learned from few looks is moderated by the usual one, as if that had been learned from `PRIOR_LOOKS` more (Smyth 2004,
        doi:10.2202/1544-6115.1027).
        """
        own = n[:, None] / (n[:, None] + PRIOR_LOOKS)
        return np.asarray(away / np.sqrt(own * np.square(scale, dtype=np.float64) + (1 - own) * self.usual**2), np.float64)

    def lengths(self, away: NDArray[np.floating], scale: NDArray[np.floating], n: NDArray[np.integer]) -> Floats:
        """Root mean squares (cell, member) of differences (cell, feature) from memories of these scales, learned from n looks."""
        sigmas = self.sigmas(away, scale, n)
        parts = []
        for group, whitener in zip(groups(self.n_bands, len(self.usual)), self.whiteners, strict=True):
            white = sigmas[:, group] if whitener is None else whitener(sigmas[:, group])
            parts.append(np.sqrt(np.mean(white**2, axis=1)))
        return np.stack(parts, axis=1)


def groups(n_bands: int, n_features: int) -> tuple[slice, slice, slice]:
    """Features of each member."""
    return slice(0, n_bands), slice(n_bands, 2 * n_bands), slice(2 * n_bands, n_features)


def fit_yardstick(away: NDArray[np.floating], scale: NDArray[np.floating], n: NDArray[np.integer], n_bands: int) -> Yardstick:
    """Learn from differences (cell, feature) of some cells, most of which have not changed, and the scales of their memories.

    Whatever a look differs by all over, such as a shift of the scene, counts as usual in it.
    """
    rows = np.asarray(away, np.float64)
    usual = np.maximum(np.median(scale, axis=0), LEAST_SCALE * (1 + np.abs(rows).max(initial=0.0)))
    plain = Yardstick(n_bands=n_bands, usual=np.asarray(usual, np.float64), whiteners=(None, None, None))
    sigmas = plain.sigmas(rows, scale, n)
    whiteners = tuple(
        fit_whitener(sigmas[:, group], TRIM, LEAST_VARIANCE) if len(rows) >= LEAST_ROWS * sigmas[:, group].shape[1] else None
        for group in groups(n_bands, rows.shape[1])
    )
    return Yardstick(n_bands=n_bands, usual=plain.usual, whiteners=whiteners)
