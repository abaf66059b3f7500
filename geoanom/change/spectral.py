"""Differences of spectra: light removed, invariant directions, and what one date cannot tell of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import chi2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROUNDS = 30
RIDGE = 1e-6
"""Share of the mean variance that is added to covariances, which may be singular; the bands are in units of their own deviations."""
LEAST_WEIGHT = 1e-9
PREDICTOR_ROUNDS = 5
PREDICTOR_RIDGE = 1e-3
MOST_QUADRATIC = 8
"""Bands whose products help to predict; of more, only the bands themselves."""


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """Iteratively reweighted multivariate alteration detection (Nielsen 2007, doi:10.1109/TIP.2006.888195)."""

    mean: Floats
    """(2 * band,) of both dates where nothing changed."""
    directions: Floats
    """(2 * band, variate) each of which has unit variance where nothing changed."""
    weight: Floats
    """(n,) how surely each pixel that was learned from did not change, 0..1."""

    def squared(self, before: Floats, after: Floats) -> Floats:
        """Sums of squared variates (n,) of pixels (n, band), which follow a chi-squared distribution where nothing changed."""
        variates = (np.hstack([before, after]) - self.mean) @ self.directions
        return np.asarray(np.einsum("nv,nv->n", variates, variates))


def fit_alteration(before: Floats, after: Floats) -> Alteration:
    """Learn from pixels (n, band) of both dates.

    Where nothing changed the weights prefer small variates, whose variance is then too small by a known factor; without it the
    variates of one or two bands shrink from round to round until a few pixels are left.
    """
    both, n_bands = np.hstack([before, after]), before.shape[1]
    scale = _deviations(both)
    both /= scale
    weight, kept = np.ones(len(both)), 1.0
    for _ in range(ROUNDS):
        mean = np.average(both, axis=0, weights=weight)
        directions = _directions(_covariance(both - mean, weight), n_bands) * np.sqrt(kept)
        kept = _kept_variance(n_bands)
        variates = (both - mean) @ directions
        weight = chi2.sf(np.einsum("nv,nv->n", variates, variates), n_bands) + LEAST_WEIGHT
    return Alteration(mean=mean * scale, directions=directions / scale[:, None], weight=weight)


def _deviations(values: Floats) -> Floats:
    """Standard deviations (band,) of pixels (n, band); 1 where there is none but for rounding."""
    scale = values.std(axis=0)
    return np.where(scale > 1e-12 * np.abs(values).max(axis=0, initial=0.0), scale, 1.0)


def _kept_variance(n_bands: int) -> float:
    """Share of the variance of standard normal variates that is left under weights of `chi2.sf` of their sum of squares.

    The smaller of two chi-squared sums over their mean: both lie beyond x with a chance of sf(x) squared.
    """
    places = np.linspace(0.0, float(chi2.isf(1e-16, n_bands)), 20_001)
    return float(trapezoid(chi2.sf(places, n_bands) ** 2, places)) / n_bands


def _covariance(centred: Floats, weight: Floats) -> Floats:
    covariance = (centred * weight[:, None]).T @ centred / weight.sum()
    scale = float(np.trace(covariance)) / len(covariance)
    return np.asarray(covariance + (RIDGE * scale + 1e-12) * np.eye(len(covariance)))


def _directions(covariance: Floats, n_bands: int) -> Floats:
    """Differences of canonical variates, scaled to unit variance."""
    ours, theirs = covariance[:n_bands, :n_bands], covariance[n_bands:, n_bands:]
    white_ours, white_theirs = (np.linalg.inv(np.linalg.cholesky(part)) for part in (ours, theirs))
    left, correlation, right = np.linalg.svd(white_ours @ covariance[:n_bands, n_bands:] @ white_theirs.T)
    spread = np.sqrt(np.maximum(2.0 * (1.0 - np.minimum(correlation, 1.0)), 1e-9))
    return np.asarray(np.vstack([white_ours.T @ left, -white_theirs.T @ right.T]) / spread)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Gain and offset of each band of the later date, learned where nothing changed."""

    gain: Floats
    """(band,) later over earlier."""
    offset: Floats
    """(band,) in units of the values."""
    scale: Floats
    """(band,) standard deviation of the earlier date."""

    def difference(self, before: Floats, after: Floats) -> Floats:
        """Differences (n, band) in standard deviations of the band, once gain and offset are removed."""
        return np.asarray(((after - self.offset) / self.gain - before) / self.scale)


def fit_light(before: Floats, after: Floats, weight: Floats) -> Light:
    """Match mean and deviation of each band over the pixels (n, band) that did not change.

    Radiometric normalization by invariant pixels: Canty and Nielsen 2008, doi:10.1016/j.rse.2007.07.013.
    """
    means = [np.average(part, axis=0, weights=weight) for part in (before, after)]
    spreads = [np.sqrt(np.average((part - m) ** 2, axis=0, weights=weight)) for part, m in zip((before, after), means, strict=True)]
    usable = (spreads[0] > 0) & (spreads[1] > 0)
    gain = np.where(usable, spreads[1] / np.where(usable, spreads[0], 1.0), 1.0)
    scale = before.std(axis=0)
    return Light(gain=gain, offset=means[1] - gain * means[0], scale=np.where(scale > 0, scale, 1.0))


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Tells one date from the other by a quadratic of the bands, learned where nothing changed."""

    mean: Floats
    """(band,) of the date that is given."""
    scale: Floats
    """(band,)."""
    weights: Floats
    """(term, band)."""
    whitening: Floats
    """(band, band)."""

    def error(self, given: Floats, told: Floats) -> Floats:
        """Lengths (n,) of the whitened errors of reconstructing pixels (n, band) of one date from the other."""
        away = (told - self._terms(given) @ self.weights) @ self.whitening
        return np.asarray(np.sqrt(np.einsum("nb,nb->n", away, away)))

    def _terms(self, given: Floats) -> Floats:
        return _terms((given - self.mean) / self.scale)


def fit_predictor(given: Floats, told: Floats) -> Predictor:
    """Learn from pixels (n, band), those that changed counting less from round to round.

    Predicting one date from the other: chronochrome, Schaum and Stocker 1997; Theiler 2008, doi:10.1364/AO.47.000F12.
    """
    mean, scale, unit = given.mean(axis=0), _deviations(given), _deviations(told)
    terms, told = _terms((given - mean) / scale), told / unit
    weight = np.ones(len(given))
    for _ in range(PREDICTOR_ROUNDS):
        weighted = terms * weight[:, None]
        ridge = PREDICTOR_RIDGE * weight.sum() * np.eye(terms.shape[1])
        weights = np.linalg.solve(weighted.T @ terms + ridge, weighted.T @ told)
        away = told - terms @ weights
        whitening = np.linalg.cholesky(np.linalg.inv(_covariance(away, weight)))
        squared = ((away @ whitening) ** 2).sum(axis=1)
        usual = max(float(np.median(squared)), 1e-12)
        weight = chi2.sf(squared / usual * chi2.median(told.shape[1]), told.shape[1]) + LEAST_WEIGHT
    return Predictor(mean=mean, scale=scale, weights=weights * unit, whitening=whitening / unit[:, None])


def _terms(standard: Floats) -> Floats:
    """One, the bands, and products of the first ones, (n, term)."""
    n_bands = standard.shape[1]
    pairs = [(i, j) for i in range(n_bands) for j in range(i, n_bands)] if n_bands <= MOST_QUADRATIC else []
    products = [standard[:, i] * standard[:, j] for i, j in pairs]
    return np.column_stack([np.ones(len(standard)), standard, *products])
