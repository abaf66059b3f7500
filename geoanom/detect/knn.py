"""Exact nearest neighbours by matrix products, on the CPU or the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geoanom.detect.base import Detector
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_ROWS = 64


class Knn(Detector):
    """Mean distance to the k nearest rows of the reference (Ramaswamy et al. 2000, doi:10.1145/342009.335437).

    Trees do not help in more than a dozen dimensions; this computes all distances in float64, a fixed number of rows at a
    time, so that a row's score does not depend on how many others come with it.
    """

    def __init__(self, *, k: int = 5, whiten: bool = False, as_is: bool = False, device: str = "cpu") -> None:
        """Set the number of neighbours, how columns are weighed (see `Detector`), and where distances are computed.

        Raises:
            ConfigError: a number of neighbours that is not a whole number from 1.
        """
        if not isinstance(k, int) or k < 1:
            raise ConfigError("detector knn", f"k is {k!r}", "give a whole number of at least 1")
        super().__init__(whiten=whiten, as_is=as_is)
        self._k = k
        self._device = torch.device(device)

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:  # noqa: ARG002 - nothing here is random
        self._reference = torch.from_numpy(rows).to(self._device)
        self._norms = self._reference.square().sum(dim=1)

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [rows[i : i + CHUNK_ROWS] for i in range(0, len(rows), CHUNK_ROWS)]
        return np.concatenate([self._mean_distance(part) for part in parts])

    def _mean_distance(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.resize(rows, (CHUNK_ROWS, rows.shape[1]))
        queries = torch.from_numpy(padded).to(self._device)
        squared = queries.square().sum(dim=1, keepdim=True) + self._norms - 2 * queries @ self._reference.T
        nearest = squared.topk(min(self._k, len(self._reference)), largest=False).values
        distances: NDArray[np.float64] = nearest.clamp_min(0.0).sqrt().mean(dim=1).cpu().numpy()
        return distances[: len(rows)]
