"""What every detector promises, and the guards that make it keep the promise.

A detector is fitted on a frozen reference and then scores each row by itself: finite scores, higher = more anomalous,
the same for a row whatever the other rows are, the same bits for the same seed; NaN is an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.whiten import fit_whitener

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FLAT = 1e-5
"""A column whose spread is below this share of its size is constant, up to rounding."""


class Detector(ABC):
    """Fits a reference and scores rows; subclasses see standardized rows and need no guards of their own."""

    def __init__(self, *, whiten: bool = False, trim: float = 0.0, least: float = 0.0, as_is: bool = False) -> None:
        """Start unfitted.

        Args:
            whiten: let directions that vary little count as much as those that vary a lot.
            least: spreads of columns below it are noise, and directions that whitening stretches are not stretched beyond it.
            as_is: leave the columns' scales, where they mean something.
            trim: share of the reference, its farthest rows, that whitening does not look at.
        """
        self._whiten, self._trim, self._least, self._as_is = whiten, trim, least, as_is
        self._place: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
        self._n_columns = 0

    def fit(self, rows: NDArray[np.floating], seed: int) -> None:
        """Freeze the reference.

        Args:
            rows: (n, d), finite.
            seed: makes random detectors repeatable.

        Raises:
            ValueError: rows that are not a finite, non-empty table.
        """
        table = _checked(rows)
        center = np.median(table, axis=0)
        spread = np.maximum(_robust_spread(table, center), self._least)
        scaler = _Scaler(center=center, spread=np.ones_like(spread) if self._as_is else spread)
        self._n_columns = table.shape[1]
        self._place = (
            fit_whitener(scaler(table), self._trim, least=1.0 if self._least > 0 else 0.0).after(scaler) if self._whiten else scaler
        )
        self._fit(self._place(table), seed)

    def score(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score rows against the reference.

        Args:
            rows: (n, d), finite; not changed.

        Returns:
            (n,), higher = more anomalous.

        Raises:
            ValueError: not fitted, or rows that are not a finite table of the reference's width.
        """
        if self._place is None:
            raise ValueError("the detector is not fitted")
        table = _checked(rows)
        if table.shape[1] != self._n_columns:
            raise ValueError(f"rows have {table.shape[1]} columns, the reference has {self._n_columns}")
        scores = np.asarray(self._score(self._place(table)), np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"{type(self).__name__} gave scores that are not finite")
        return scores

    @abstractmethod
    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:
        """Fit on standardized, perhaps whitened rows (n, d)."""

    @abstractmethod
    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows (n, d), placed like those of the fit, as (n,)."""


@dataclass(frozen=True)
class _Scaler:
    """Columns in robust standard deviations."""

    center: NDArray[np.float64]
    spread: NDArray[np.float64]

    def __call__(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return (rows - self.center) / self.spread


def _checked(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    table = np.array(rows, np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"rows must be a non-empty table, not of shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("rows contain NaN or infinite values")
    return table


def _robust_spread(table: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the width of the middle 68 % of each column; its standard deviation where that is flat; 1 where all is."""
    low, high = np.percentile(table, [16.0, 84.0], axis=0)
    spread = (high - low) / 2
    floor = FLAT * np.maximum(np.abs(center), 1.0)
    spread = np.where(spread > floor, spread, table.std(axis=0))
    return np.where(spread > floor, spread, 1.0)
