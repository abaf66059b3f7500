"""The least unusual of all columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.base import Detector

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Agreement(Detector):
    """The smallest column in robust standard deviations, where each column is a score: high only if all of them are high."""

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:
        """Nothing is left to be learned."""

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(rows.min(axis=1), np.float64)
