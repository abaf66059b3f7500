"""Robust per-band scaling from a streamed sample, frozen into the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import SceneError
from geoanom.raster.blocks import stream_panels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

    Tables = Callable[[], Iterable[NDArray[np.float64]]]

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
SIGN = np.uint64(1 << 63)


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
    tables = [quantile_table(scene, config) for scene in scenes]
    return normalizer_of(lambda: tables, config)


def quantile_table(scene: Scene, config: Config) -> NDArray[np.float64]:
    """What is kept of the values of a scene: the `QUANTILES` of its valid pixels, (quantile, band).

    Raises:
        SceneError: it has no valid pixel.
    """
    table: NDArray[np.float64] = np.quantile(_sample_pixels(scene, config), QUANTILES, axis=1)
    return table


def normalizer_of(tables: Tables, config: Config) -> Normalizer:
    """The normalizer of scenes of which the quantile tables are known, whatever their order.

    Args:
        tables: gives the quantile tables of all scenes, one at a time, each time it is called.
        config: percentiles and transform.
    """
    low, high = pooled_percentiles(tables, (config.normalize.low_percentile, config.normalize.high_percentile))
    log = config.normalize.transform == "log" and bool((high > 0).all())
    log = log and all(bool((table[0] >= 0).all()) for table in tables())  # negative values are in dB already
    low = np.maximum(low, LEAST_SHARE * high) if log else low
    return Normalizer(low=tuple(map(float, low)), high=tuple(map(float, high)), log=log)


def pooled_percentiles(tables: Tables, percents: Sequence[float]) -> NDArray[np.float64]:
    """What `numpy.percentile` gives for the rows of all tables, to the last bit, with one table in memory at a time.

    Args:
        tables: gives the tables (row, band), finite, each time it is called: once to count and once for each byte of a value.
        percents: from 0 to 100.

    Returns:
        (percent, band).
    """
    last = sum(len(table) for table in tables()) - 1
    places = last * (np.asarray(percents) / 100.0)
    below = np.floor(places).astype(np.int64)
    ends = _order_statistics(tables, np.concatenate([below, np.minimum(below + 1, last)]))
    pairs = zip(*np.split(ends, 2), places - below, strict=True)
    return np.stack([np.quantile(np.stack([lower, upper]), share, axis=0) for lower, upper, share in pairs])


def _order_statistics(tables: Tables, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values (rank, band) that stand at these places of the sorted columns, by radix selection: byte after byte, the highest first."""
    n_bands = next(iter(tables())).shape[1]
    found = np.zeros((len(ranks), n_bands), np.uint64)
    left = np.repeat(ranks[:, None], n_bands, axis=1)
    for shift in range(56, -1, -8):
        counts = np.zeros((*found.shape, 256), np.int64)
        for table in tables():
            _count_bytes(_as_ordered_integers(table) >> np.uint64(shift), found, counts)
        through = counts.cumsum(axis=2)
        digit = (through <= left[..., None]).sum(axis=2)
        left -= np.where(digit > 0, np.take_along_axis(through, np.maximum(digit - 1, 0)[..., None], axis=2)[..., 0], 0)
        found = found << np.uint64(8) | digit.astype(np.uint64)
    return _as_floats(found)


def _count_bytes(keys: NDArray[np.uint64], found: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """Count the last bytes of the keys (row, band) that begin as what was found (rank, band), into (rank, band, 256)."""
    starts, bytes_ = keys >> np.uint64(8), (keys & np.uint64(255)).astype(np.int64)
    for rank, band in np.ndindex(found.shape):
        alike = starts[:, band] == found[rank, band]
        counts[rank, band] += np.bincount(bytes_[alike, band], minlength=256)


def _as_ordered_integers(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Integers in the order of the values."""
    bits = (values + 0.0).view(np.uint64)  # the sum has no negative zero
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _as_floats(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The values of ordered integers."""
    return np.where(keys & SIGN, keys ^ SIGN, ~keys).view(np.float64)


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
