"""A piece of real land that goes through the year: fields ripen and are harvested at dates that return, the rest changes little."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter
from skimage.segmentation import felzenszwalb

if TYPE_CHECKING:
    import datetime as dt

    from affine import Affine
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "s2_virginia_1024.tif"
CORNER = (180, 330)
"""Row and column of the sample scene: farmland, forest, and a creek that opens into a bay."""
PIXEL_M = 10.0
WATER, FOREST, FIELD = range(3)

BARE, GREEN, RIPE, STUBBLE, SHORT = np.array(
    [[1300, 1200, 1350, 1850], [960, 860, 520, 3500], [1150, 1120, 1200, 2500], [1250, 1200, 1300, 2100], [1050, 950, 800, 2500]], float
)
CROPS = (
    ((1, GREEN), (110, GREEN), (165, RIPE), (180, RIPE), (182, STUBBLE), (225, STUBBLE), (227, BARE), (280, BARE), (330, SHORT)),
    ((1, STUBBLE), (120, STUBBLE), (122, BARE), (140, BARE), (185, GREEN), (230, GREEN), (262, RIPE), (275, RIPE), (277, STUBBLE)),
    ((1, STUBBLE), (150, STUBBLE), (152, BARE), (175, BARE), (215, GREEN), (250, GREEN), (280, RIPE), (282, STUBBLE)),
    ((1, BARE), (90, BARE), (125, GREEN), (193, GREEN), (195, BARE)),
    (
        (1, SHORT),
        (70, SHORT),
        (110, GREEN),
        (158, GREEN),
        (160, SHORT),
        (190, GREEN),
        (213, GREEN),
        (215, SHORT),
        (250, GREEN),
        (300, SHORT),
    ),
)
"""Winter grain, maize, soy, vegetables, meadow: day of the year and reflectance x 10000, with straight lines between."""


@dataclass(frozen=True, kw_only=True)
class Land:
    """What the ground looks like on any day, but for events, sky and camera."""

    image: Floats
    """(band, row, col) of the one real date."""
    parcels: NDArray[np.int64]
    """(row, col) number of the parcel."""
    kind: NDArray[np.int64]
    """(row, col) WATER, FOREST (and all that is not farmed) or FIELD."""
    transform: Affine
    crs: str
    seed: int

    @cached_property
    def texture(self) -> Floats:
        """(band, row, col) what is left of the real land once each parcel's mean is taken away."""
        n = int(self.parcels.max()) + 1
        count = np.bincount(self.parcels.ravel(), minlength=n)
        means = [np.bincount(self.parcels.ravel(), band.ravel(), n) / count for band in self.image]
        return np.asarray(self.image - np.stack(means)[:, self.parcels])

    def on(self, day: dt.date, rng: np.random.Generator) -> Floats:
        """(band, row, col) on a day; `rng` is for what differs from date to date: rain, tides."""
        phase = 2 * np.pi * (day.timetuple().tm_yday - 200) / 365.25
        wild = self.image * (1 + np.array([0.02, 0.03, 0.02, 0.12]) * np.cos(phase))[:, None, None]
        swirl = gaussian_filter(rng.normal(size=self.kind.shape), 30, mode="wrap")
        sea = self.image * (1 + 0.03 * np.cos(phase) + 0.03 * swirl / swirl.std())
        fields = self._crops(day, rng)[:, self.parcels] + 0.7 * self.texture
        return np.asarray(np.where(self.kind == FIELD, fields, np.where(self.kind == WATER, sea, wild)))

    def _crops(self, day: dt.date, rng: np.random.Generator) -> Floats:
        """(band, parcel) as if all parcels were fields: each has a crop and dates of its own, a few days off from year to year."""
        n = int(self.parcels.max()) + 1
        own, this_year = np.random.default_rng(self.seed), np.random.default_rng((self.seed, day.year))
        crop, tint = own.integers(0, len(CROPS), n), np.exp(own.normal(0, 0.05, (4, n)))
        when = day.timetuple().tm_yday - own.normal(0, 7, n) - this_year.normal(0, 4, n)
        tables = [_states(CROPS[kind], time) for kind, time in zip(crop, when, strict=True)]
        return np.asarray(np.stack(tables, axis=1) * tint * rng.normal(1, 0.04) * rng.normal(1, 0.015, n))


def _states(frames: tuple[tuple[int, Floats], ...], day: float) -> Floats:
    days, states = [frame[0] for frame in frames], np.stack([frame[1] for frame in frames])
    return np.array([np.interp(day, days, band, period=365.25) for band in states.T])


def real_land(seed: int, side: int) -> Land:
    """A square of the sample scene, cut into parcels by colour."""
    crop = Window(CORNER[1], CORNER[0], side, side)
    with rasterio.open(SAMPLE) as src:
        image, transform, crs = src.read(window=crop).astype(float), src.window_transform(crop), src.crs.to_string()
    shown = image[1:]
    low, high = np.percentile(shown, [1, 99], axis=(1, 2), keepdims=True)
    colours = np.moveaxis(np.clip((shown - low) / (high - low), 0, 1), 0, -1)
    parcels = felzenszwalb(colours, scale=150, sigma=0.7, min_size=150, channel_axis=-1)
    kind = np.array([np.bincount(piece, minlength=3).argmax() for piece in _pieces(_kinds(image), parcels)])[parcels]
    return Land(image=image, parcels=parcels, kind=kind, transform=transform, crs=crs, seed=seed)


def _pieces(values: NDArray[np.int64], parcels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The values of each parcel."""
    order = np.argsort(parcels, axis=None, kind="stable")
    return np.split(values.ravel()[order], np.cumsum(np.bincount(parcels.ravel()))[:-1])


def _kinds(image: Floats) -> NDArray[np.int64]:
    """By the water index, and by how bright red or the vegetation is."""
    _, green, red, infrared = (gaussian_filter(band, 1.5) for band in image)
    water = (green - infrared) / (green + infrared) > 0.05
    field = ~water & ((red > 620) | (infrared > 2300))
    return np.where(water, WATER, np.where(field, FIELD, FOREST)).astype(np.int64)
