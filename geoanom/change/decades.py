"""How rare a value is among all of its kind, in decades, so that measures of different kinds can be added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.calibrate import fit_calibrator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config import Calibrate
    from geoanom.detect.calibrate import Calibrator

LEVELS = 512
TAIL_VALUES = 20_000
"""Values that the tail is fitted to."""


@dataclass(frozen=True, kw_only=True)
class Rarity:
    """A monotone map from a value to decades: the mean of what its rank says and of what the tail of the usual values says.

    The rank alone would not tell whether the rarest values are far from the usual ones; the tail alone would let one measure with
    far values drown out the others.
    """

    values: NDArray[np.float64]
    """Rising quantiles."""
    decades: NDArray[np.float64]
    """-log10 of the share of values that are larger than each."""
    tail: Calibrator

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Decades of values of any shape."""
        flat = np.asarray(values, np.float64).ravel()
        by_rank = np.interp(flat, self.values, self.decades)
        by_tail = -np.log10(self.tail.p_value(flat))
        return ((by_rank + by_tail) / 2).reshape(np.shape(values))


def fit_rarity(values: NDArray[np.floating], settings: Calibrate) -> Rarity:
    """Learn from values (n,), at least one."""
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    places = np.unique(np.concatenate([np.linspace(0, n - 1, LEVELS), n - np.geomspace(1, n, LEVELS)]).round().astype(int).clip(0, n - 1))
    decades = -np.log10(1.0 - (places + 0.5) / n)
    shown, first = np.unique(ordered[places], return_index=True)
    last = np.append(first[1:], len(places)) - 1  # equal values get the decades of the middle of their ranks
    thinned = ordered[:: max(1, n // TAIL_VALUES)]
    return Rarity(values=shown, decades=(decades[first] + decades[last]) / 2, tail=fit_calibrator(thinned, settings))
