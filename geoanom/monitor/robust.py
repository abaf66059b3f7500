"""Medians and spreads along the first axis of arrays with gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""
SMALL_SAMPLES = np.array([1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107])
"""What the spread of so few values has to be multiplied by (Croux and Rousseeuw 1992, doi:10.1007/978-3-662-26811-7_58)."""


def median(values: Floats) -> Floats:
    """Medians (...) of values (n, ...) that are not NaN; NaN where there are none."""
    return _middle(np.sort(values, axis=0), np.isfinite(values).sum(axis=0))


def centre_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Medians and robust standard deviations (...) of values (n, ...) that are not NaN."""
    n = np.isfinite(values).sum(axis=0)
    centre = _middle(np.sort(values, axis=0), n)
    return centre, spread_about(values - centre, n)


def spread_about(away: Floats, n: NDArray[np.intp]) -> Floats:
    """Robust standard deviations (...) of what is left (n, ...) once the centre is taken away."""
    spread = _middle(np.sort(np.abs(away), axis=0), n)
    return spread * (NORMAL_MAD * _few(n)).astype(spread.dtype)


def _few(n: NDArray[np.intp]) -> NDArray[np.float64]:
    known = SMALL_SAMPLES[np.minimum(n, len(SMALL_SAMPLES) - 1)]
    return np.where(n < len(SMALL_SAMPLES), known, n / np.maximum(n - 0.8, 1.0))


def _middle(ordered: Floats, n: NDArray[np.intp]) -> Floats:
    """The middle of the first n values (n, ...) along the first axis, which are in order; NaN comes last."""
    if not len(ordered):
        return np.full(ordered.shape[1:], np.nan, ordered.dtype)
    lower, upper = np.maximum((n - 1) // 2, 0)[None], np.minimum(n // 2, len(ordered) - 1)[None]
    return np.asarray((np.take_along_axis(ordered, lower, 0)[0] + np.take_along_axis(ordered, upper, 0)[0]) / 2)
