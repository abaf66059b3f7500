"""The global RX detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.base import Detector
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_TRIMMED = 0.5


class Rx(Detector):
    """Squared Mahalanobis distance to the reference in float64, with shrinkage (Reed and Yu 1990, doi:10.1109/29.60107)."""

    def __init__(self, trim: float = 0.0, least: float = 0.0) -> None:
        """Whiten: in whitened rows the Mahalanobis distance is the length.

        Args:
            trim: share of the reference, its farthest rows, that mean and covariance leave out.
            least: spread of a column that is noise, in the column's units; 0 where nothing is known of it.

        Raises:
            ConfigError: less than half would be left.
        """
        if not 0 <= trim < MOST_TRIMMED:
            raise ConfigError("detector rx", f"trim is {trim!r}", f"give a share of at least 0 and below {MOST_TRIMMED}")
        if not least >= 0:
            raise ConfigError("detector rx", f"least is {least!r}", "give a spread of at least 0")
        super().__init__(whiten=True, trim=trim, least=least)

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:
        """Nothing is left to be learned."""

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        squared: NDArray[np.float64] = np.square(rows).sum(axis=1)
        return squared
