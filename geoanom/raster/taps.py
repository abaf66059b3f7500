"""Sampling pixels at places between them, and which of them contributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.raster.scene import Pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from geoanom.raster.grid import Window
    from geoanom.raster.scene import Scene

Weights = tuple["NDArray[np.float64]", ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Along one side: which pixels contribute to a place, and how much."""

    first: int
    """The first tap, counted from the pixel whose centre is the last before the place."""
    weights: Callable[[NDArray[np.float64]], Weights]
    """From the distance to that centre, 0 to 1, to one weight per tap."""
    centred: bool = True
    """False: pixels are told by their corners instead, and the only tap is the pixel that holds the place."""

    @property
    def reach(self) -> int:
        """Pixels around those that hold a place."""
        return 2 if self.first else int(self.centred)


def _linear(t: NDArray[np.float64]) -> Weights:
    return 1.0 - t, t


def _cubic(t: NDArray[np.float64]) -> Weights:
    """Cubic convolution with a = -1/2 (Keys 1981, doi:10.1109/TASSP.1981.1163711)."""
    s = 1.0 - t
    return -0.5 * t * s * s, 1.0 - 2.5 * t * t + 1.5 * t**3, 1.0 - 2.5 * s * s + 1.5 * s**3, -0.5 * s * t * t


NEAREST = Kernel(first=0, weights=lambda t: (np.ones_like(t),), centred=False)
KERNELS = {
    "nearest": NEAREST,
    "average": NEAREST,  # many samples a pixel
    "bilinear": Kernel(first=0, weights=_linear),
    "cubic": Kernel(first=-1, weights=_cubic),
}
"""By the name of the resampling."""


class Sampler:
    """Adds up samples of a piece of a scene, one place a pixel at a time."""

    def __init__(self, source: Pixels, box: Window, scene: Scene, kernel: Kernel) -> None:
        """Prepare to sample the pixels of `box`, which holds every tap but those beyond the scene's edge."""
        self._source, self._box, self._scene, self._kernel = source, box, scene, kernel
        self._flat = np.where(source.valid, source.values, 0).reshape(len(source.values), -1)
        self._invalid = ~source.valid.ravel()
        self._broken = self._broken_pixels()
        self._n = 0

    def add(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
        """Add the samples at these places: two arrays (row, col) that broadcast to one shape."""
        known_cols, known_rows = (cols >= 0) & (cols < self._scene.width), (rows >= 0) & (rows < self._scene.height)
        inside = known_cols & known_rows
        tap_rows = self._taps(np.where(known_rows, rows, self._box.row_off), self._box.row_off, self._box.height, self._scene.height)
        tap_cols = self._taps(np.where(known_cols, cols, self._box.col_off), self._box.col_off, self._box.width, self._scene.width)
        if self._n == 0:
            self._sum = np.zeros((len(self._flat), *inside.shape))
            self._valid, self._damaged = np.ones(inside.shape, bool), np.zeros(inside.shape, bool)
        self._valid &= inside
        for row, row_weight in tap_rows:
            for col, col_weight in tap_cols:
                self._add_tap(row * self._box.width + col, row_weight * col_weight, inside)
        self._n += 1

    def _add_tap(self, index: NDArray[np.intp], weight: NDArray[np.float64], inside: NDArray[np.bool_]) -> None:
        counts = weight != 0.0
        self._valid &= ~(self._invalid[index] & counts)
        if self._broken is not None:
            self._damaged |= self._broken[index] & counts & inside
        for i, band in enumerate(self._flat):
            self._sum[i] += band[index] * weight

    def _taps(self, places: NDArray[np.float64], start: int, length: int, full: int) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Pixel in the box and weight of each tap along one side; those beyond the scene's edge are the edge's pixels."""
        centre = places - 0.5 if self._kernel.centred else places
        base = np.floor(centre)
        found = []
        for i, weight in enumerate(self._kernel.weights(centre - base)):
            pixel = np.clip(base + (self._kernel.first + i), 0, full - 1) - start
            found.append((np.clip(pixel, 0, length - 1).astype(np.intp), weight))
        return found

    def _broken_pixels(self) -> NDArray[np.bool_] | None:
        """Which pixels of the box lie in blocks that could not be decoded; None when none does."""
        if not self._source.damaged_blocks:
            return None
        broken = np.zeros((self._box.height, self._box.width), bool)
        for row, col in self._source.damaged_blocks:
            top, left = row * self._scene.block_height - self._box.row_off, col * self._scene.block_width - self._box.col_off
            broken[max(0, top) : max(0, top + self._scene.block_height), max(0, left) : max(0, left + self._scene.block_width)] = True
        return broken.ravel()

    def pixels(self, window: Window, made: Scene) -> Pixels:
        """The means of what was added, in the type of the bands; 0 where not valid."""
        values = np.where(self._valid, self._sum / self._n, 0.0)
        return Pixels(values=_as_type(values, np.dtype(made.bands[0].dtype)), valid=self._valid, damaged_blocks=self._blocks(window, made))

    def _blocks(self, window: Window, made: Scene) -> tuple[tuple[int, int], ...]:
        rows, cols = np.nonzero(self._damaged)
        places = np.stack([(rows + window.row_off) // made.block_height, (cols + window.col_off) // made.block_width])
        return tuple((int(row), int(col)) for row, col in np.unique(places, axis=1).T)


def _as_type(values: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Rounded and held within the range of integers."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype.name)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
