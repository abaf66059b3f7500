"""ECOD and COPOD against a frozen reference.

PyOD's own versions rank a row among the batch that it is scored with, so its score depends on the other rows. Here each
row is ranked among the reference and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import skew

from geoanom.detect.base import Detector

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Tails(Detector):
    """Log tail probabilities of each column under the reference's empirical distribution."""

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:  # noqa: ARG002 - nothing here is random
        self._sorted = np.sort(rows, axis=0)
        self._skew = np.nan_to_num(skew(rows, axis=0)) * (rows.std(axis=0) > 0)

    def _tails(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """-log of the left, the right and the skewness-chosen tail probability, each (n, d)."""
        n = len(self._sorted)
        columns = range(rows.shape[1])
        at_most = np.stack([np.searchsorted(self._sorted[:, j], rows[:, j], "right") for j in columns], axis=1)
        below = np.stack([np.searchsorted(self._sorted[:, j], rows[:, j], "left") for j in columns], axis=1)
        left = -np.log((at_most + 1) / (n + 1))  # the row itself counts, as if it stood in the reference
        right = -np.log((n - below + 1) / (n + 1))
        return left, right, np.where(self._skew < 0, left, np.where(self._skew > 0, right, left + right))


class Ecod(_Tails):
    """Empirical cumulative distribution outlier detection (Li et al. 2022, doi:10.1109/TKDE.2022.3159580)."""

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        left, right, chosen = self._tails(rows)
        total: NDArray[np.float64] = np.maximum(np.maximum(left, right), chosen).sum(axis=1)
        return total


class Copod(_Tails):
    """Copula-based outlier detection (Li et al. 2020, doi:10.1109/ICDM50108.2020.00135)."""

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        left, right, chosen = self._tails(rows)
        total: NDArray[np.float64] = np.maximum(chosen, (left + right) / 2).sum(axis=1)
        return total
