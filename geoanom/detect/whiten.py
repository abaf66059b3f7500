"""Whitening: coordinates in which the reference has unit variance in every direction, with shrinkage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHRINKAGE = 0.05
"""Share of the mean variance added to every direction, so that directions that hardly vary do not dominate."""
CONCENTRATIONS = 3
"""Steps after which trimmed means and covariances hardly change."""
FLAT_VARIANCE = 1e-6
"""Variance of standardized columns below which a direction is rounding noise."""


@dataclass(frozen=True, kw_only=True)
class Whitener:
    """An affine map fitted to a reference."""

    mean: NDArray[np.float64]
    """(d,)."""
    directions: NDArray[np.float64]
    """(d, d) scaled principal directions, one a column."""

    def __call__(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Whitened rows (n, d)."""
        whitened: NDArray[np.float64] = (rows - self.mean) @ self.directions
        return whitened

    def after(self, first: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Another map, then this one."""
        return lambda rows: self(first(rows))


def fit_whitener(rows: NDArray[np.float64], trim: float = 0.0, least: float = 0.0) -> Whitener:
    """Principal directions of a reference (n, d), each divided by the root of its shrunk variance.

    Args:
        rows: the reference.
        trim: share of the farthest rows that are left out, as in the concentration steps of Rousseeuw and Van Driessen (1999,
            doi:10.1080/00401706.1999.10485670).
        least: mean variance that the shrinkage takes for granted.
    """
    fitted = _whitener(rows, least)
    for _ in range(CONCENTRATIONS if trim > 0 else 0):
        distance = np.square(fitted(rows)).sum(axis=1)
        fitted = _whitener(rows[distance <= np.quantile(distance, 1 - trim)], least)
    return fitted


def _whitener(rows: NDArray[np.float64], least: float) -> Whitener:
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(rows) - 1))
    shrunk = np.maximum(values, 0.0) + max(SHRINKAGE * max(float(values.mean()), least), FLAT_VARIANCE)
    return Whitener(mean=mean, directions=vectors / np.sqrt(shrunk))
