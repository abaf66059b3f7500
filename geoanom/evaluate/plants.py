"""The kinds of plants: each takes a site and draws what is to stand there, or says that it cannot stand there.

A maker returns the altered frame (band, row, col) and the mask (row, col) outside of which it is the scene's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from geoanom.evaluate.shapes import blob, coverage, drawn_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN_PX = 16
"""Surroundings that a maker sees on each side."""
DONOR_TRIES = 20
LEAST_CORE = 0.3
"""Share of an object's pixels that it covers wholly, or nearly so."""
FLAT = 1e-3
"""A donor's patch whose contrast is below this share of the donor's own has no texture to give."""


@dataclass(frozen=True, kw_only=True)
class Donor:
    """A scene that gives patches to others."""

    values: NDArray[np.generic] = field(repr=False)
    """(band, row, col)."""
    valid: NDArray[np.bool_] = field(repr=False)
    """(row, col), True = usable."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A square place of a scene that may get a plant."""

    around: NDArray[np.float64]
    """(band, size + 2 margins, size + 2 margins)."""
    spread: NDArray[np.float64]
    """(band,) robust standard deviation of the surroundings."""
    low: NDArray[np.float64]
    """(band,) least valid value of the scene."""
    high: NDArray[np.float64]
    """(band,) largest valid value of the scene."""
    usual: NDArray[np.float64]
    """(2, band) the range that all but one pixel in a hundred lie in."""
    donors: tuple[Donor, ...]
    rng: np.random.Generator = field(repr=False)

    @property
    def size(self) -> int:
        """Side of the frame."""
        return int(self.around.shape[1]) - 2 * MARGIN_PX

    @property
    def here(self) -> NDArray[np.float64]:
        """The frame (band, row, col), as it is."""
        return self.inner(self.around)

    def inner(self, around: NDArray[np.float64], down: int = 0, right: int = 0) -> NDArray[np.float64]:
        """The frame of an array over the surroundings, moved by some pixels; a copy."""
        rows, cols = (slice(MARGIN_PX + move, MARGIN_PX + move + self.size) for move in (down, right))
        return around[..., rows, cols].copy()

    def outline(self) -> NDArray[np.bool_]:
        """A mask over the frame: all of it, or a blob."""
        return blob(self.size, self.rng) if self.rng.random() < 0.5 else np.ones((self.size, self.size), bool)

    def some_bands(self) -> NDArray[np.int64]:
        """One band, or all of them."""
        n_bands = len(self.around)
        return np.arange(n_bands) if self.rng.random() < 0.5 else self.rng.integers(0, n_bands, 1)


Drawn = tuple["NDArray[np.float64]", "NDArray[np.bool_]"]


def foreign(site: Site) -> Drawn | None:
    """A patch of another scene in the colours of what it replaces, so that only texture tells them apart.

    Each band gets the mean and the contrast of what was there, and the principal components of the patch's colours take the
    place of those that were there, as far as there are any: bands that go together still do.
    """
    patch, mask = _donated(site), site.outline()
    if patch is None:
        return None
    recoloured = site.here
    recoloured[:, mask] = _recoloured(patch[:, mask], recoloured[:, mask])
    return recoloured, mask


def object_(site: Site) -> Drawn | None:
    """A small compact thing, 2 to 4 local standard deviations brighter or darker than its surroundings, with soft edges.

    It keeps to the scene's usual range; where that leaves less than two standard deviations in half of the bands, it cannot stand,
    nor can a shape so thin that hardly a pixel is wholly covered.
    """
    rng = site.rng
    alpha = coverage(drawn_shape(site.size, rng), site.size)
    level = np.median(site.around, axis=(1, 2))
    sign = rng.choice([-1.0, 1.0])
    shift = sign * rng.uniform(2.5, 4.0) * rng.uniform(0.8, 1.0, len(level)) * site.spread
    value = np.clip(level + shift, *site.usual)
    if np.median(np.abs(value - level) / site.spread) < 2 or (alpha > 0.9).sum() < LEAST_CORE * (alpha > 0).sum():
        return None
    grain = 0.15 * site.spread[:, None, None] * rng.standard_normal(site.here.shape)
    return site.here * (1 - alpha) + (value[:, None, None] + grain) * alpha, alpha > 0


def fault(site: Site) -> Drawn | None:
    """A fault of the sensor or of its processing over a square."""
    maker = FAULTS[int(site.rng.integers(len(FAULTS)))]
    turned = site.rng.random() < 0.5  # sensors scan along rows or along columns
    patch = maker(_turned(site)) if turned else maker(site)
    mask = np.ones((site.size, site.size), bool)
    return (patch.transpose(0, 2, 1) if turned else patch), mask


def erased(site: Site) -> Drawn | None:
    """What was there is gone: blurred away, or painted over with its low frequencies and a little noise."""
    rng, mask = site.rng, site.outline()
    if rng.random() < 0.5:
        sigma = rng.uniform(3.0, 6.0)
        return site.inner(gaussian_filter(site.around, (0, sigma, sigma), mode="nearest")), mask
    wide = site.size / 4
    smooth = site.inner(gaussian_filter(site.around, (0, wide, wide), mode="nearest"))
    return smooth + 0.1 * site.spread[:, None, None] * rng.standard_normal(smooth.shape), mask


def spectral(site: Site) -> Drawn | None:
    """The texture stays and the colours do not, inside a blob: bands exchanged, one scaled, or one with its contrast mirrored."""
    rng, patch, mask = site.rng, site.here, blob(site.size, site.rng)
    band, other = rng.permutation(len(patch))[[0, -1]]
    change = rng.choice(["exchange", "scale", "mirror"])
    if change == "exchange":
        patch[[band, other]] = patch[[other, band]]
    elif change == "scale":
        patch[band] *= rng.uniform(0.6, 1.5)
    else:
        patch[band] = 2 * patch[band][mask].mean() - patch[band]
    return patch, mask


def matched_bands(patch: NDArray[np.generic], n_bands: int) -> NDArray[np.float64]:
    """A patch (band, row, col) with another number of bands: repeated in turn where there are too few, averaged where too many."""
    if len(patch) >= n_bands:
        return np.stack([group.mean(axis=0, dtype=np.float64) for group in np.array_split(patch, n_bands)])
    return patch[np.arange(n_bands) % len(patch)].astype(np.float64)


def _donated(site: Site) -> NDArray[np.float64] | None:
    """A valid patch with some texture from a donor; None if none is found."""
    rng, size = site.rng, site.size
    donors = [donor for donor in site.donors if min(donor.valid.shape) >= size]
    for _ in range(DONOR_TRIES if donors else 0):
        donor = donors[int(rng.integers(len(donors)))]
        row, col = (int(rng.integers(0, side - size + 1)) for side in donor.valid.shape)
        rows, cols = slice(row, row + size), slice(col, col + size)
        patch = matched_bands(donor.values[:, rows, cols], len(site.around))
        if donor.valid[rows, cols].all() and (patch.std(axis=(1, 2)) > FLAT * np.ptp(donor.values)).all():
            return patch
    return None


def _recoloured(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (band, n) with the principal colours and, in each band, the mean and the standard deviation of others (band, n)."""
    (deviation, axes), (own_deviation, own_axes) = _principal(theirs), _principal(ours)
    there = deviation > FLAT * deviation.max()  # bands repeated or averaged leave components empty
    parts = axes.T @ (theirs - theirs.mean(axis=1, keepdims=True))
    gain = np.where(there, own_deviation / np.where(there, deviation, 1.0), 0.0)
    mixed = own_axes @ (parts * gain[:, None])
    contrast = ours.std(axis=1) / np.maximum(mixed.std(axis=1), 1e-12)
    matched: NDArray[np.float64] = mixed * contrast[:, None] + ours.mean(axis=1, keepdims=True)
    return matched


def _principal(pixels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard deviations (band,), the largest first, and directions (band, band), one a column, of pixels (band, n)."""
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(pixels)))
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)  # so that bright stays bright
    return np.sqrt(np.maximum(variances[::-1], 0.0)), axes[:, ::-1]


def _turned(site: Site) -> Site:
    return replace(site, around=site.around.transpose(0, 2, 1))


def _dead_lines(site: Site) -> NDArray[np.float64]:
    """Some lines of one band, or of all, at the least or the largest value of the scene."""
    rng, patch = site.rng, site.here
    value = site.low if rng.random() < 0.5 else site.high
    lines = rng.choice(site.size, max(2, site.size // 10), replace=False)
    for band in site.some_bands():
        patch[band, lines] = value[band]
    return patch


def _stripes(site: Site) -> NDArray[np.float64]:
    """An offset on every other group of lines."""
    rng, patch = site.rng, site.here
    period = int(rng.integers(1, 4))
    wave = np.where(np.arange(site.size) // period % 2, 1.0, -1.0)
    for band in site.some_bands():
        patch[band] += rng.uniform(0.7, 1.5) * site.spread[band] * wave[:, None]
    return patch


def _noise(site: Site) -> NDArray[np.float64]:
    """Noise of the size of the local spread."""
    rng, patch = site.rng, site.here
    for band in site.some_bands():
        patch[band] += rng.uniform(0.8, 1.6) * site.spread[band] * rng.standard_normal(patch[band].shape)
    return patch


def _misregistered(site: Site) -> NDArray[np.float64]:
    """One band moved by 2 to 4 pixels against the others."""
    rng, patch = site.rng, site.here
    down, right = rng.integers(2, 5, 2) * rng.choice([-1, 1], 2)
    band = int(rng.integers(len(patch)))
    patch[band] = site.inner(site.around[band], int(down), int(right))
    return patch


def _repeated_lines(site: Site) -> NDArray[np.float64]:
    """Each of some lines held for several more, as by a buffer that is not refilled."""
    held = int(site.rng.integers(5, 11))
    patch: NDArray[np.float64] = site.here[:, np.arange(site.size) // held * held]
    return patch


FAULTS = (_dead_lines, _stripes, _noise, _misregistered, _repeated_lines)
"""What sensors and their processing do wrong."""
