"""The global RX detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.covariance import ledoit_wolf

from geoanom.detect.base import Detector

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rx(Detector):
    """Squared Mahalanobis distance to the reference (Reed and Yu 1990, doi:10.1109/29.60107).

    The covariance is shrunk (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4), so that it can be inverted with
    any number of columns and rows.
    """

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:  # noqa: ARG002 - nothing here is random
        self._mean = rows.mean(axis=0)
        covariance = ledoit_wolf(rows)[0] if len(rows) > 1 else np.eye(rows.shape[1])
        floor = 1e-9 * max(float(np.trace(covariance)) / len(covariance), 1e-3)
        values, vectors = np.linalg.eigh(covariance)
        self._whiten = vectors / np.sqrt(np.maximum(values, floor))

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        whitened = np.einsum("nd,de->ne", rows - self._mean, self._whiten)
        squared: NDArray[np.float64] = np.einsum("ne,ne->n", whitened, whitened)
        return squared
