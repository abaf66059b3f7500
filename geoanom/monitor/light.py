"""The light of a whole scene: what season, sun, haze and sensor do to all cells alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.robust import NORMAL_MAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST_CELLS = 20
ROUNDS = 6
TINY = 1e-300
LEFT_OUT = 0.1
"""Share of the farthest cells that a correlation does not count."""
HUBER = 1.345
"""95 % as good as least squares where nothing changed (Huber 1981)."""
SURE = 0.5
"""Correlation below which only an offset can be told."""
GAINS = (0.25, 4.0)


@dataclass(frozen=True, kw_only=True)
class Light:
    """How a look differs from its memory all over."""

    gain: Floats
    """(band,) of the means, and of the deviations with them."""
    offset: Floats
    """(band,) in units of the band."""
    shift: Floats
    """(other feature,) median difference of deviations and channels."""
    contrast: Floats
    """(band,) how much wider or narrower the means spread than their memory does; 1 where they hardly agree."""
    correlation: Floats
    """(band,) of the means with their memory, without the farthest cells."""
    jump: Floats
    """(band,) median difference of the means, in robust deviations over the scene."""

    def removed(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Descriptors (..., feature) as they would be in the light of the memory; further features stay as they are."""
        n, known = len(self.gain), len(self.gain) + len(self.shift)
        gain = np.clip(self.gain, *GAINS)
        found = np.array(values, np.float32)
        found[..., :n] = (values[..., :n] - self.offset) / gain
        found[..., n : 2 * n] = values[..., n : 2 * n] / gain - self.shift[:n]
        found[..., 2 * n : known] = values[..., 2 * n : known] - self.shift[n:]
        return found


def light_of(values: NDArray[np.floating], memory: NDArray[np.floating], n_bands: int) -> Light:
    """The light of a look against a memory.

    Args:
        values: (cell, feature) descriptors; NaN where not visible.
        memory: (cell, feature); NaN where nothing is known.
        n_bands: the first features are means of the bands, the next ones their deviations.
    """
    known = np.isfinite(values[:, 0]) & np.isfinite(memory[:, 0])
    now, before = values[known].astype(np.float64), memory[known].astype(np.float64)
    if len(now) < LEAST_CELLS:
        return _no_light(n_bands, values.shape[1] - n_bands)
    means = slice(0, n_bands)
    gain, offset, correlation = _lines(before[:, means], now[:, means])
    deviations = now[:, n_bands : 2 * n_bands] / np.clip(gain, *GAINS) - before[:, n_bands : 2 * n_bands]
    others = np.concatenate([deviations, now[:, 2 * n_bands :] - before[:, 2 * n_bands :]], axis=1)
    contrast = np.where(correlation >= SURE, gain / np.maximum(correlation, SURE), 1.0)  # a slope alone falls with each cell that changed
    spread = np.median(np.abs(before[:, means] - np.median(before[:, means], axis=0)), axis=0) * NORMAL_MAD
    jump = np.median(now[:, means] - before[:, means], axis=0) / np.where(spread > 0, spread, np.inf)
    return Light(gain=gain, offset=offset, shift=np.median(others, axis=0), contrast=contrast, correlation=correlation, jump=jump)


def _no_light(n_bands: int, n_others: int) -> Light:
    zeros = np.zeros(n_bands)
    return Light(gain=zeros + 1, offset=zeros, shift=np.zeros(n_others), contrast=zeros + 1, correlation=zeros + 1, jump=zeros)


def _lines(before: Floats, now: Floats) -> tuple[Floats, Floats, Floats]:
    """Gain, offset and correlation (band,) of means (cell, band), changed cells counting less from round to round (Huber's weights)."""
    weight = np.ones_like(now)
    for _ in range(ROUNDS):
        total = weight.sum(axis=0)
        middle, after = (weight * before).sum(axis=0) / total, (weight * now).sum(axis=0) / total
        variance = (weight * (before - middle) ** 2).sum(axis=0)
        gain = np.where(variance > 0, (weight * (before - middle) * (now - after)).sum(axis=0) / np.where(variance > 0, variance, 1), 1.0)
        away = np.abs(now - after - gain * (before - middle))
        usual = HUBER * NORMAL_MAD * np.median(away, axis=0)
        weight = np.where(away > usual, np.maximum(usual, TINY) / np.maximum(away, TINY), 1.0)
    near = away <= np.quantile(away, 1 - LEFT_OUT, axis=0)
    correlation = _correlations(before, now, near)
    sure = (correlation >= SURE) & (gain > 0)
    return np.where(sure, gain, 1.0), np.where(sure, after - gain * middle, np.median(now - before, axis=0)), correlation


def _correlations(before: Floats, now: Floats, near: NDArray[np.bool_]) -> Floats:
    """(band,) of the near cells; 1 where the memory is the same all over, as there is nothing to agree with."""
    n = near.sum(axis=0)
    ours, theirs = (np.where(near, part - (near * part).sum(axis=0) / n, 0.0) for part in (before, now))
    lengths = [np.sqrt((part**2).sum(axis=0)) for part in (ours, theirs)]
    flat = lengths[0] <= 1e-9 * (1.0 + np.abs(before).max(axis=0)) * np.sqrt(n)
    product = lengths[0] * lengths[1]
    return np.where(flat, 1.0, (ours * theirs).sum(axis=0) / np.where(product > 0, product, 1.0))
