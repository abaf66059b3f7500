"""The global RX detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.base import Detector

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rx(Detector):
    """Squared Mahalanobis distance to the reference in float64, with shrinkage (Reed and Yu 1990, doi:10.1109/29.60107)."""

    def __init__(self) -> None:
        """Whiten: in whitened rows the Mahalanobis distance is the length."""
        super().__init__(whiten=True)

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:
        """Nothing is left to be learned."""

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        squared: NDArray[np.float64] = np.square(rows).sum(axis=1)
        return squared
