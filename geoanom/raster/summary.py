"""What a scene's pixels are like: extremes, percentiles and histograms of its bands, and what a user should know of them.

One pass, each block decoded once. Extremes and counts are of all usable pixels. Percentiles and histograms are of a simple random sample of
bounded size: each pixel draws a key, and those with the smallest keys are kept (bottom-k sampling; Cohen and Kaplan 2007,
doi:10.1145/1281100.1281133). A scene that has no more pixels than the sample is told exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.raster.blocks import Tally, stream_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.blocks import Panel
    from geoanom.raster.scene import Band, Scene

SAMPLE_PIXELS = 200_000
"""With it the rank of the median is right to 0.22 %, that of the 2nd percentile to 0.06 % (two standard errors)."""
MAX_SAMPLE_VALUES = 8_000_000
"""Bound on pixels times bands of the sample."""
PIECE_PIXELS = 1_000_000
"""Pixels that draw their keys at a time."""
BINS = 24
FEW_STEPS = 16
"""Fewer steps than these between the 2nd and the 98th percentile are called coarse."""
MUCH_SATURATED = 0.01
LITTLE_VALID = 0.5
MAX_NAMED = 6
"""Bands that one warning names."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How a band's values lie between its 1st and 99th percentile; the first and the last bin also hold what lies beyond."""

    low: float
    """Lower end of the first bin, in the band's units."""
    high: float
    """Upper end of the last bin."""
    counts: tuple[int, ...]
    """Sampled pixels in bins of equal width, at most `BINS`; of integers each bin holds as many values as the others."""


@dataclass(frozen=True, kw_only=True)
class BandSummary:
    """One band over the usable pixels, in its units."""

    band: Band
    minimum: float
    p02: float
    """2nd percentile."""
    median: float
    p98: float
    """98th percentile."""
    maximum: float
    saturated_fraction: float
    """Share of the usable pixels at the largest value of an integer type; 0 for others."""
    histogram: Histogram


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A scene as one pass over it shows it."""

    n_valid: int
    """Usable pixels: those with a value in every band."""
    n_sampled: int
    """Pixels that percentiles and histograms are of."""
    tiles_scored: int
    """Tiles with enough usable pixels."""
    tiles_masked: int
    """The other ones."""
    bands: tuple[BandSummary, ...]
    """Empty where no pixel is usable."""
    warnings: tuple[str, ...]
    """In plain words, what a user should know and can do; those of the scene itself first."""


def summarize(scene: Scene, config: Config) -> Summary:
    """Look at all of a scene once.

    Args:
        scene: of any size.
        config: tiles, readers and limits.

    Raises:
        SceneError: it cannot be read.
    """
    tally, extremes, sample = Tally(), _Extremes(scene), _Sample(scene)

    def watch(panel: Panel) -> None:
        extremes.add(panel)
        sample.add(panel)

    for _ in stream_tiles(scene, scene.grid(config), config, watch=watch, tally=tally):
        pass  # only the tally and the panels are wanted
    bands = _bands(scene, extremes, sample) if extremes.n_valid else ()
    return Summary(
        n_valid=extremes.n_valid,
        n_sampled=sample.size,
        tiles_scored=tally.tiles_scored,
        tiles_masked=tally.tiles_masked,
        bands=bands,
        warnings=(*scene.warnings, *tally.warnings(), *_remarks(scene, extremes.n_valid, tally, bands)),
    )


class _Extremes:
    """Smallest and largest value of every band, and how often an integer type's largest one occurs."""

    def __init__(self, scene: Scene) -> None:
        dtype = np.dtype(scene.bands[0].dtype)
        self.n_valid = 0
        self.low: list[float] = [np.inf] * len(scene.bands)
        self.high: list[float] = [-np.inf] * len(scene.bands)
        self.n_saturated = [0] * len(scene.bands)
        self._limit = np.iinfo(dtype).max if dtype.kind in "iu" else None

    def add(self, panel: Panel) -> None:
        """Look at the usable pixels of a panel."""
        n_valid = int(panel.valid.sum())
        self.n_valid += n_valid
        for i, band in enumerate(panel.values if n_valid else ()):
            values = band if n_valid == band.size else band[panel.valid]
            low, high = values.min().item(), values.max().item()
            self.low[i], self.high[i] = min(self.low[i], low), max(self.high[i], high)
            if high == self._limit:
                self.n_saturated[i] += int((values == high).sum())


class _Sample:
    """The usable pixels with the smallest keys."""

    def __init__(self, scene: Scene) -> None:
        self._limit = max(1, min(SAMPLE_PIXELS, MAX_SAMPLE_VALUES // len(scene.bands)))
        self._rng = np.random.default_rng(0)
        self._bound = 1.0
        self._keys = np.empty(0)
        self._values: NDArray[np.generic] = np.empty((len(scene.bands), 0), scene.bands[0].dtype)

    @property
    def size(self) -> int:
        """Pixels in the sample."""
        return len(self._keys)

    def add(self, panel: Panel) -> None:
        """Let every usable pixel of a panel draw its key."""
        values, valid = panel.values.reshape(len(panel.values), -1), panel.valid.reshape(-1)
        for start in range(0, len(valid), PIECE_PIXELS):
            self._add(values[:, start : start + PIECE_PIXELS], np.flatnonzero(valid[start : start + PIECE_PIXELS]))

    def _add(self, values: NDArray[np.generic], usable: NDArray[np.int64]) -> None:
        keys = self._rng.random(len(usable))
        low = np.flatnonzero(keys < self._bound)
        low = low[_smallest(keys[low], self._limit)]
        keys = np.concatenate([self._keys, keys[low]])
        best = _smallest(keys, self._limit)
        self._keys, self._values = keys[best], np.concatenate([self._values, values[:, usable[low]]], axis=1)[:, best]
        if self.size == self._limit:
            self._bound = float(self._keys.max())

    def of(self, band: int) -> NDArray[np.float64]:
        """The sampled values of a band, by its position."""
        values: NDArray[np.float64] = self._values[band].astype(np.float64)
        return values


def _smallest(keys: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Positions of the up to k smallest."""
    return np.argpartition(keys, k)[:k] if len(keys) > k else np.arange(len(keys))


def _bands(scene: Scene, extremes: _Extremes, sample: _Sample) -> tuple[BandSummary, ...]:
    return tuple(_band(band, i, extremes, sample.of(i)) for i, band in enumerate(scene.bands))


def _band(band: Band, i: int, extremes: _Extremes, values: NDArray[np.float64]) -> BandSummary:
    p01, p02, median, p98, p99 = (float(p) for p in np.percentile(values, [1, 2, 50, 98, 99]))
    return BandSummary(
        band=band,
        minimum=extremes.low[i],
        p02=p02,
        median=median,
        p98=p98,
        maximum=extremes.high[i],
        saturated_fraction=extremes.n_saturated[i] / extremes.n_valid,
        histogram=_histogram(values, p01, p99, whole=np.dtype(band.dtype).kind in "iu"),
    )


def _histogram(values: NDArray[np.float64], low: float, high: float, *, whole: bool) -> Histogram:
    """Bins from low to high; of integers (`whole`) all bins hold equally many values, as a comb would appear otherwise."""
    if whole:
        low, high = np.floor(low), np.floor(high) + 1
        width = float(np.ceil((high - low) / BINS))
        n_bins = int(np.ceil((high - low) / width))
    else:
        width, n_bins = (high - low) / BINS, BINS
    if not width > 0:
        return Histogram(low=low, high=high, counts=(len(values),))
    place = np.clip((values - low) / width, 0, n_bins - 1).astype(np.int64)
    return Histogram(low=float(low), high=float(low + n_bins * width), counts=tuple(np.bincount(place, minlength=n_bins).tolist()))


def _remarks(scene: Scene, n_valid: int, tally: Tally, bands: Sequence[BandSummary]) -> list[str]:
    if not n_valid:
        return ["no pixel can be used, and a run would refuse the scene: check its nodata value and masks, or choose other --bands"]
    return [*_of_holes(scene, n_valid, tally), *_of_constants(bands), *_of_steps(bands), *_of_saturation(bands)]


def _of_holes(scene: Scene, n_valid: int, tally: Tally) -> list[str]:
    share, remarks = n_valid / (scene.height * scene.width), []
    if share < LITTLE_VALID:
        what = f"only {100 * share:.3g} % of the pixels can be used: "
        one, several = (
            "check its nodata value and masks",
            "a pixel counts only where every band has a value; leave a band with holes out with --bands",
        )
        remarks.append(what + (one if len(scene.bands) == 1 else several))
    if not tally.tiles_scored:
        remarks.append("no tile has enough usable pixels to be scored: choose a smaller --tile-size, or lower tiles.min_valid_fraction")
    return remarks


def _of_constants(bands: Sequence[BandSummary]) -> list[str]:
    constant = [band for band in bands if band.minimum == band.maximum]
    if not constant:
        return []
    if len(constant) == len(bands):
        return ["every band has one value everywhere, so nothing can stand out: check that this is the right file"]
    one = len(constant) == 1
    return [f"{_named(constant)} {'has' if one else 'have'} one value everywhere: leave {'it' if one else 'them'} out with --bands"]


def _of_steps(bands: Sequence[BandSummary]) -> list[str]:
    coarse = [band for band in bands if band.minimum < band.maximum and _steps(band) < FEW_STEPS]
    if not coarse:
        return []
    verb = "uses" if len(coarse) == 1 else "use"
    what = f"{_named(coarse)} {verb} fewer than {FEW_STEPS} steps of {coarse[0].band.dtype} for most of the values"
    return [f"{what}, so that contrast is lost: look for a version that was rounded less, and do not use class maps as scenes"]


def _steps(band: BandSummary) -> float:
    """How many different values the type can tell apart between the 2nd and the 98th percentile."""
    dtype = np.dtype(band.band.dtype)
    if dtype.kind != "f":
        return band.p98 - band.p02
    return float((band.p98 - band.p02) / np.spacing(np.array(max(abs(band.p02), abs(band.p98)), dtype)))


def _of_saturation(bands: Sequence[BandSummary]) -> list[str]:
    saturated = [band for band in bands if band.saturated_fraction > MUCH_SATURATED and band.minimum < band.maximum]
    if not saturated:
        return []
    most, limit = max(band.saturated_fraction for band in saturated), saturated[0].maximum
    share = f"{100 * most:.2g} % of the pixels" if len(saturated) == 1 else f"up to {100 * most:.2g} % of the pixels"
    what = f"{share} of {_named(saturated)} are at {limit}, the most that {saturated[0].band.dtype} can hold"
    return [f"{what}: details are lost there; mask them with sources.qa, or declare {limit} as nodata if it stands for none"]


def _named(bands: Sequence[BandSummary]) -> str:
    """Such as "band 3 (B04)" or "bands 1, 2, 3 and 197 more"."""
    named = [str(b.band.index) if b.band.name == f"band {b.band.index}" else f"{b.band.index} ({b.band.name})" for b in bands]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return f"band{'s' * (len(named) > 1)} {', '.join(named[:MAX_NAMED])}{more}"
