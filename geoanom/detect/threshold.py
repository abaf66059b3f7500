"""Which tiles are anomalous: false discovery rate or contamination; the top-k rule counts places and lives in `layer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import false_discovery_control

if TYPE_CHECKING:
    from numpy.typing import NDArray


def q_values(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest false discovery rate at which each p-value is still called (Benjamini and Hochberg 1995).

    Args:
        p: (n,) p-values of one scene.
    """
    return np.asarray(false_discovery_control(p, method="bh"), np.float64) if len(p) else p


def most_anomalous(statistic: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """The given share of the tiles, those with the largest statistic; at least one, ties in the order of the grid."""
    # The small addend: 0.29 * 100 is 28.999999999999996 to a computer.
    chosen = np.zeros(len(statistic), bool)
    order = np.argsort(-statistic, kind="stable")
    chosen[order[: max(1, int(share * len(statistic) + 1e-9))]] = True
    return chosen
