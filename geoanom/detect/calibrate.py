"""Raw scores to p-values: empirical in the body of the calibration scores, a fitted tail beyond.

The calibration scores are held out (no tile is scored by a detector fitted on it) but unlabelled, so they contain
anomalies, and tiles overlap, so that one anomaly shows in many. The largest scores are therefore only counted, never
measured: what lies below them says how the tail goes on (an empirical null, Efron 2004, doi:10.1198/016214504000000089).
The tail is a generalized Pareto distribution fitted by maximum likelihood with right-censoring (Pickands 1975,
doi:10.1214/aos/1176343003). It is exponential unless the measured scores are sure that it is heavier: a tail that is
lighter, as that of all log-concave distributions, gets p-values that are too large. One that is only a little heavier is not told from
it, and gets p-values that are too small.
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
SURE = 2.706
"""Log-likelihood that an exponential tail must lack to be given up: one-sided 99 % by profile likelihood."""
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


def fit_calibrator(scores: NDArray[np.float64], settings: Calibrate, least_scale: float = 0.0) -> Calibrator:
    """Learn the distribution of held-out scores.

    Args:
        scores: (n,) finite, from tiles that the detectors were not fitted on.
        settings: the tail is measured between these two shares of the largest scores, and takes over from the smaller one.
        least_scale: differences of this size are nothing unusual, however alike the training tiles are.

    Raises:
        ValueError: no scores, or scores that are not finite.
    """
    body = np.sort(np.asarray(scores, np.float64))
    if len(body) == 0 or not np.isfinite(body).all():
        raise ValueError("calibration needs finite scores")
    lower, upper = np.quantile(body, [1 - settings.tail_fraction, 1 - settings.trim_fraction])
    measured, limit = body[(body > lower) & (body <= upper)] - lower, float(upper - lower)
    scale, shape = _fit_tail(measured, limit, int((body > upper).sum()))
    spread = float(np.subtract(*np.quantile(body, [0.84, 0.16]))) / 2
    floor = max(least_scale, 1e-3 * spread, 1e-6 * (1.0 + abs(float(upper))))
    beyond = scale + shape * limit  # excesses of a Pareto tail are Pareto again, of the same shape
    return Calibrator(body=body, start=float(upper), scale=max(beyond, floor), shape=shape)


def log_survival(excess: NDArray[np.float64], scale: float, shape: float) -> NDArray[np.float64]:
    """Log of the probability that a generalized Pareto variable is larger than `excess`."""
    y = np.asarray(excess, np.float64) / scale
    return -y if shape == 0.0 else -np.log1p(shape * y) / shape


def anomaly_score(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-log10 p on a fixed scale to 0..1."""
    return np.clip(-np.log10(p) / SCORE_DECADES, 0.0, 1.0)


def _fit_tail(measured: NDArray[np.float64], limit: float, n_beyond: int) -> tuple[float, float]:
    """Scale and shape of a tail under which the measured excesses, and the count beyond the limit, are likely.

    The shape is the smallest one that the likelihood does not rule out. The inverse of the number of measured scores is added
    for what they leave unknown: the predictive distribution of an exponential whose scale was learned from k values is a
    generalized Pareto one of shape 1 / k. Where none could be measured since all are equal, scores that differ by rounding must
    not be called: a scale of 0 and a shape of 1.
    """
    if len(measured) == 0 or limit <= 0:
        return 0.0, 1.0
    start = float(np.log(np.mean(measured) + 1e-300))

    def loss(log_scale: float, shape: float) -> float:
        scale = float(np.exp(log_scale))
        density = log_survival(measured, scale, shape) - np.log1p(shape * measured / scale) - log_scale
        return -float(density.sum() + n_beyond * log_survival(np.array(limit), scale, shape))

    fits = [(minimize_scalar(loss, bounds=(start - 7, start + 7), args=(shape,), method="bounded"), shape) for shape in SHAPES]
    enough = min(float(fit.fun) for fit, _ in fits) + SURE
    likely, shape = next((fit, shape) for fit, shape in fits if float(fit.fun) <= enough)
    return float(np.exp(likely.x)), float(shape) + 1 / len(measured)
