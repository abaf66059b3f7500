"""Raw scores to p-values: empirical where the calibration scores resolve them, a fitted tail beyond.

The calibration scores are held out (no tile is scored by a detector fitted on it) but unlabelled, so they contain
anomalies. The largest ones are therefore only counted, never measured: the tail is a generalized Pareto distribution
fitted by maximum likelihood with right-censoring (Pickands 1975, doi:10.1214/aos/1176343003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config import Calibrate

SHAPES = np.linspace(0.0, 0.5, 26)
"""Tails no lighter than the exponential one: a bounded tail would call every new extreme impossible."""
SMALLEST_P = 1e-12
SCORE_DECADES = 10.0
"""A p-value of 10 to the minus this is a score of 1."""


@dataclass(frozen=True, kw_only=True)
class Calibrator:
    """A monotone map from a raw score to a p-value."""

    body: NDArray[np.float64]
    """(n,) sorted calibration scores."""
    start: float
    """Where the fitted tail takes over."""
    scale: float
    """Scale of the generalized Pareto tail, in units of the score."""
    shape: float
    """Shape of the generalized Pareto tail."""

    def p_value(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1 + calibration scores at least as large) / (n + 1), continued by the tail.

        Args:
            scores: (n,) raw scores.

        Returns:
            (n,) in (0, 1].
        """
        p = self._empirical(np.minimum(scores, self.start))
        excess = np.maximum(scores - self.start, 0.0)
        return np.maximum(p * np.exp(log_survival(excess, self.scale, self.shape)), SMALLEST_P)

    def _empirical(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(self.body)
        at_least = n - np.searchsorted(self.body, scores, "left")
        return np.asarray((1 + at_least) / (n + 1), np.float64)


def fit_calibrator(scores: NDArray[np.float64], settings: Calibrate) -> Calibrator:
    """Learn the distribution of held-out scores.

    Args:
        scores: (n,) finite, from tiles that the detectors were not fitted on.
        settings: shares of the tail and of the censored top.

    Raises:
        ValueError: no scores, or scores that are not finite.
    """
    body = np.sort(np.asarray(scores, np.float64))
    if len(body) == 0 or not np.isfinite(body).all():
        raise ValueError("calibration needs finite scores")
    start, censor = np.quantile(body, [1 - settings.tail_fraction, 1 - settings.trim_fraction])
    measured = body[(body > start) & (body <= censor)] - start
    scale, shape = _fit_tail(measured, float(censor - start), int((body > censor).sum()))
    spread = float(np.subtract(*np.quantile(body, [0.84, 0.16]))) / 2
    floor = max(1e-3 * spread, 1e-6 * (1.0 + abs(float(start))))
    return Calibrator(body=body, start=float(start), scale=max(scale, floor), shape=shape)


def log_survival(excess: NDArray[np.float64], scale: float, shape: float) -> NDArray[np.float64]:
    """Log of the probability that a generalized Pareto variable is larger than `excess`."""
    y = np.asarray(excess, np.float64) / scale
    return -y if shape == 0.0 else -np.log1p(shape * y) / shape


def anomaly_score(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-log10 p on a fixed scale to 0..1."""
    return np.clip(-np.log10(p) / SCORE_DECADES, 0.0, 1.0)


def _fit_tail(measured: NDArray[np.float64], limit: float, n_beyond: int) -> tuple[float, float]:
    """Scale and shape that make the measured excesses, and the count beyond the limit, most likely."""
    if len(measured) == 0 or limit <= 0:
        return 0.0, 0.0
    start = float(np.log(np.mean(measured) + 1e-300))

    def loss(log_scale: float, shape: float) -> float:
        scale = float(np.exp(log_scale))
        density = log_survival(measured, scale, shape) - np.log1p(shape * measured / scale) - log_scale
        return -float(density.sum() + n_beyond * log_survival(np.array(limit), scale, shape))

    fits = [(minimize_scalar(loss, bounds=(start - 7, start + 7), args=(shape,), method="bounded"), shape) for shape in SHAPES]
    best, shape = min(fits, key=lambda fit: float(fit[0].fun))
    return float(np.exp(best.x)), float(shape)
