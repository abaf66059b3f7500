"""Robust per-band scaling from a streamed sample, frozen into the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import SceneError
from geoanom.raster.blocks import stream_panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

SOFT = 0.5
"""How far beyond 0 and 1 an extreme value can reach."""
FAR = 1e6
"""Where the bend is flat in 32 bits; what lies beyond would overflow."""
LEAST_SHARE = 1e-3
"""What the lowest value is taken for before its logarithm, as a share of the highest."""
QUANTILES = np.linspace(0.0, 1.0, 2001)
"""What is kept of each scene's distribution, so that scenes of any size weigh the same."""
MAX_SAMPLE_VALUES = 16_000_000
"""Bound on pixels times bands of one scene's sample."""


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """Maps each band's low percentile to 0 and its high one to 1; what lies beyond is bent, never cut."""

    low: tuple[float, ...]
    """One value per band, in the band's units."""
    high: tuple[float, ...]
    """One value per band, in the band's units."""
    log: bool = False
    """Scale the logarithm; what is below `low` is 0 then, and `low` is positive."""

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Scale pixels.

        Args:
            values: (band, row, col), in the bands' units.

        Returns:
            (band, row, col) within -SOFT..1 + SOFT.
        """
        low, high = np.array(self.low, np.float64), np.array(self.high, np.float64)
        real: NDArray[np.float64] = np.asarray(values, np.float64)
        if self.log:  # speckle multiplies: its spread is the same everywhere only in the logarithm
            real, low, high = np.log(np.maximum(real, low[:, None, None])), np.log(low), np.log(high)
        span = high - low
        gain = np.divide(1.0, span, out=np.zeros_like(span), where=span > 0)
        scaled = np.clip((real - low[:, None, None]) * gain[:, None, None], -FAR, FAR).astype(np.float32)
        plain = np.clip(scaled, 0.0, 1.0)
        bent: NDArray[np.float32] = plain + SOFT * np.tanh((scaled - plain) / SOFT)
        return bent


def fit_normalizer(scenes: Sequence[Scene], config: Config) -> Normalizer:
    """Percentiles of the valid pixels of all scenes, each scene with the same weight.

    Args:
        scenes: with the same bands.
        config: percentiles, sample size and seed.

    Raises:
        SceneError: a scene has no valid pixel.
    """
    quantiles = [np.quantile(_sample_pixels(scene, config), QUANTILES, axis=1) for scene in sorted(scenes, key=lambda s: s.digest)]
    pooled = np.concatenate(quantiles)
    low, high = np.percentile(pooled, [config.normalize.low_percentile, config.normalize.high_percentile], axis=0)
    log = config.normalize.transform == "log" and bool((pooled >= 0).all() and (high > 0).all())  # negative values are in dB already
    low = np.maximum(low, LEAST_SHARE * high) if log else low
    return Normalizer(low=tuple(map(float, low)), high=tuple(map(float, high)), log=log)


def _sample_pixels(scene: Scene, config: Config) -> NDArray[np.float64]:
    """(band, n) valid pixels on a regular lattice with a random start in each panel."""
    rng = np.random.default_rng(config.seed)
    wanted = min(config.normalize.sample_pixels, MAX_SAMPLE_VALUES // len(scene.bands))
    step = max(1, scene.height * scene.width // wanted)
    kept = []
    for panel in stream_panels(scene, config):
        usable = np.flatnonzero(panel.valid)
        start = int(rng.integers(step)) % max(1, len(usable))  # a panel with few valid pixels still gives one
        kept.append(panel.values.reshape(len(panel.values), -1)[:, usable[start::step]].astype(np.float64))
    sample = np.concatenate(kept, axis=1)
    if sample.shape[1] == 0:
        raise SceneError(scene.uri, "has no valid pixel in all used bands", "check its nodata and masks, or choose other --bands")
    return sample
