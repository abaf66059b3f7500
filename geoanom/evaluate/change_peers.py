"""Other ways to tell what changed between two dates, each a map of how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import uniform_filter
from scipy.stats import chi2

from geoanom.evaluate.peers import global_rx

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MEAN_SIDES_PX = (5, 9)
ROUNDS = 30
RIDGE = 1e-9
"""Share of the mean variance that keeps covariances regular."""


def change_scores(before: Floats, after: Floats) -> dict[str, Floats]:
    """Maps (row, col), larger where more changed, of two dates (band, row, col) by method."""
    vectors = change_vectors(before, after)
    length = np.sqrt((vectors**2).sum(axis=0))
    shape = length.shape
    altered = alteration(before, after)
    return {
        "change vector": length,
        **{f"change vector, mean of {side} x {side}": mean_around(length, side) for side in MEAN_SIDES_PX},
        "RX of the difference": global_rx(vectors.reshape(len(vectors), -1).T).reshape(shape),
        "IR-MAD": altered,
        f"IR-MAD, mean of {MEAN_SIDES_PX[-1]} x {MEAN_SIDES_PX[-1]}": mean_around(np.sqrt(altered), MEAN_SIDES_PX[-1]),
    }


def change_vectors(before: Floats, after: Floats) -> Floats:
    """Later minus earlier (band, row, col), each band of each date standardized by itself (Malila 1980)."""
    return standard(after) - standard(before)


def standard(image: Floats) -> Floats:
    """Bands (band, row, col) with mean 0 and deviation 1; constant ones are 0."""
    spread = image.std(axis=(1, 2), keepdims=True)
    return np.asarray((image - image.mean(axis=(1, 2), keepdims=True)) / np.where(spread > 0, spread, 1.0))


def mean_around(field: Floats, side: int) -> Floats:
    """Means (row, col) over squares around each pixel, the image mirrored at its edges."""
    return np.asarray(uniform_filter(field, side, mode="mirror"), np.float64)


def alteration(before: Floats, after: Floats, rounds: int = ROUNDS) -> Floats:
    """Sums (row, col) of squared variates of iteratively reweighted multivariate alteration detection.

    Nielsen 2007, doi:10.1109/TIP.2006.888195: canonical correlations of both dates as a generalized eigenvalue problem, pixels
    weighted by the chance that nothing changed.

    Args:
        before: (band, row, col).
        after: (band, row, col), the same shape.
        rounds: at least one; the first is the plain transformation, of weight 1 everywhere.
    """
    n_bands = len(before)
    pixels = np.vstack([standard(image).reshape(n_bands, -1) for image in (before, after)])
    weight = np.ones(pixels.shape[1])
    squared = np.zeros(pixels.shape[1])
    for _ in range(rounds):
        squared = _squared_variates(pixels, weight)
        weight = chi2.sf(squared, n_bands) + 1e-12
    return squared.reshape(before.shape[1:])


def _squared_variates(pixels: Floats, weight: Floats) -> Floats:
    """Sums (n,) over canonical pairs of the squared differences, each over its variance, of pixels (2 * band, n)."""
    n_bands = len(pixels) // 2
    covariance = np.cov(pixels, aweights=weight, bias=True)
    covariance += (RIDGE * np.trace(covariance) / len(covariance) + 1e-15) * np.eye(len(covariance))
    ours, across, theirs = covariance[:n_bands, :n_bands], covariance[:n_bands, n_bands:], covariance[n_bands:, n_bands:]
    explained, ours_axes = eigh(across @ np.linalg.solve(theirs, across.T), ours)  # axes of unit variance, one a column
    theirs_axes = np.linalg.solve(theirs, across.T @ ours_axes)
    theirs_axes /= np.sqrt(np.maximum(np.einsum("iv,ij,jv->v", theirs_axes, theirs, theirs_axes), 1e-30))
    correlation = np.sqrt(np.clip(explained, 0.0, 1.0))
    centred = pixels - np.average(pixels, axis=1, weights=weight)[:, None]
    variates = ours_axes.T @ centred[:n_bands] - theirs_axes.T @ centred[n_bands:]
    variance = np.maximum(2.0 * (1.0 - correlation), 1e-9)
    return np.asarray((variates**2 / variance[:, None]).sum(axis=0))
