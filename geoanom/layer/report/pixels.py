"""What a page needs of a scene's pixels, taken in one pass: small pictures, means inside outlines, percentiles of the bands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from geoanom.raster.blocks import stream_panels
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.raster.blocks import Panel
    from geoanom.raster.scene import Scene

SAMPLED_PIXELS = 65_536
"""Pixels that the percentiles of the bands are taken from."""


class Crop:
    """A part of a scene, reduced to every step-th pixel."""

    def __init__(self, window: Window, bands: Sequence[int], dtype: str, max_side_px: int) -> None:
        """Take the smallest step with which no side is longer than `max_side_px`."""
        self.window, self._bands = window, list(bands)
        self._step = max(1, -(-max(window.height, window.width) // max_side_px))
        shape = (-(-window.height // self._step), -(-window.width // self._step))
        self.values = np.zeros((len(self._bands), *shape), dtype)
        self.valid = np.zeros(shape, bool)

    def add(self, panel: Panel) -> None:
        """Keep what lies in the window."""
        first = max(self.window.row_off, panel.window.row_off)
        first += (self.window.row_off - first) % self._step
        end = min(self.window.row_end, panel.window.row_end)
        if first >= end:
            return
        rows = slice(first - panel.window.row_off, end - panel.window.row_off, self._step)
        cols = slice(self.window.col_off, self.window.col_end, self._step)
        top = (first - self.window.row_off) // self._step
        valid = panel.valid[rows, cols]
        self.valid[top : top + len(valid)] = valid
        for i, band in enumerate(self._bands):
            self.values[i, top : top + len(valid)] = panel.values[band, rows, cols]


class Inside:
    """The mean of every band inside an outline."""

    def __init__(self, outline: BaseGeometry, scene: Scene) -> None:
        """Start from nothing."""
        self._outline = outline
        left, top, right, bottom = outline.bounds
        box = Window(
            row_off=math.floor(top), col_off=math.floor(left), height=math.ceil(bottom - top) + 1, width=math.ceil(right - left) + 1
        )
        self._window = box.within(scene.height, scene.width)
        self._sums, self._n = np.zeros(len(scene.bands)), 0

    def add(self, panel: Panel) -> None:
        """Add the pixels whose centres lie inside."""
        top, end = max(self._window.row_off, panel.window.row_off), min(self._window.row_end, panel.window.row_end)
        if top >= end or not self._window.width:
            return
        rows, cols = slice(top - panel.window.row_off, end - panel.window.row_off), slice(self._window.col_off, self._window.col_end)
        shape, place = (end - top, self._window.width), Affine.translation(self._window.col_off, top)
        wanted = geometry_mask([shapely.geometry.mapping(self._outline)], shape, place, invert=True) & panel.valid[rows, cols]
        self._sums += panel.values[:, rows, cols][:, wanted].sum(axis=1, dtype=np.float64)
        self._n += int(wanted.sum())

    @property
    def means(self) -> NDArray[np.float64] | None:
        """(band,) or None where no usable pixel lies inside."""
        return self._sums / self._n if self._n else None


class Sample:
    """An even sample of a scene's pixels, all bands."""

    def __init__(self, scene: Scene) -> None:
        """Choose the step."""
        whole = Window(row_off=0, col_off=0, height=scene.height, width=scene.width)
        step = max(1.0, math.sqrt(scene.height * scene.width / SAMPLED_PIXELS))
        side = max(1, math.ceil(max(scene.height, scene.width) / step))
        self._crop = Crop(whole, range(len(scene.bands)), scene.bands[0].dtype, side)
        self.add = self._crop.add

    @property
    def usable(self) -> NDArray[np.generic]:
        """(band, n) of the usable pixels."""
        return self._crop.values[:, self._crop.valid]

    def percentiles(self, *wanted: float) -> NDArray[np.float64]:
        """(percentile, band); zeros where no pixel is usable."""
        usable = self.usable
        if not usable.shape[1]:
            return np.zeros((len(wanted), len(usable)))
        return np.stack([np.percentile(band.astype(np.float64), wanted) for band in usable], axis=1)


def fill(parts: Iterable[Crop | Inside | Sample], scene: Scene, config: Config) -> None:
    """Show all of a scene to some parts, each block decoded once.

    Raises:
        SceneError: the scene cannot be read.
    """
    kept = list(parts)
    for panel in stream_panels(scene, config):
        for part in kept:
            part.add(panel)
