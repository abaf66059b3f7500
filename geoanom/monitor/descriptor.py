"""What the cells of a scene look like: colour, texture and structure, streamed block by block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import lcm
from typing import TYPE_CHECKING

import numpy as np

from geoanom.change.members import Stretch
from geoanom.embed.structure import N_CHANNELS, REACH_PX, StructureMaps
from geoanom.monitor.lattice import NETWORK_PX
from geoanom.raster.blocks import stream_panels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.monitor.view import View
    from geoanom.raster.blocks import Panel, Tally
    from geoanom.raster.scene import Scene

    Floats = NDArray[np.float64]
    Values = NDArray[np.generic]

BLOCK_PX = 256


@dataclass(frozen=True, kw_only=True)
class Described:
    """The cells of a whole scene."""

    valid: NDArray[np.float32]
    """(row, col) share of usable pixels."""
    descriptor: NDArray[np.float32]
    """(row, col, feature) means of the bands, their deviations, means of the network's channels; NaN where nothing is usable."""


def n_features(n_bands: int) -> int:
    """Features of a cell."""
    return 2 * n_bands + N_CHANNELS


def n_bands_of(features: int) -> int:
    """Bands of a descriptor with so many features."""
    return (features - N_CHANNELS) // 2


def described(scene: Scene, view: View, config: Config, tally: Tally | None = None) -> Described:
    """Describe the cells of a scene that stands on the pixels of the lattice, with whole cells.

    Each block of the file is decoded once; memory depends on the scene's width and the number of its cells.

    Args:
        scene: as `on_lattice` gives it.
        view: cells, and how the network is shown the bands.
        config: readers and limits.
        tally: filled with what was lost on the way.

    Raises:
        SceneError: the scene cannot be read.
    """
    cell = view.cell_px
    shape = scene.height // cell, scene.width // cell
    valid = np.zeros(shape, np.float32)
    descriptor = np.full((*shape, n_features(len(scene.bands))), np.nan, np.float32)
    network = _network(len(view.shown))
    stretch = Stretch(low=np.array(view.low), high=np.array(view.high))
    side = BLOCK_PX // lcm(cell, NETWORK_PX) * lcm(cell, NETWORK_PX) or lcm(cell, NETWORK_PX)
    for top, values, usable in _strips(scene, config, side, tally):
        for left in range(0, scene.width, side):
            block = _Block(values=values, valid=usable, top=REACH_PX, left=left, side=side)
            place = (slice(top // cell, (top + block.height) // cell), slice(left // cell, (left + block.width) // cell))
            valid[place], descriptor[place] = block.cells(cell, view.shown, stretch, network)
    return Described(valid=valid, descriptor=descriptor)


@cache
def _network(n_bands: int) -> StructureMaps:
    """Built once: a pass looks at many scenes."""
    return StructureMaps(n_bands)


def _strips(scene: Scene, config: Config, side: int, tally: Tally | None) -> Iterator[tuple[int, Values, NDArray[np.bool_]]]:
    """First row, values and validity of strips of `side` rows with the network's reach above and below; none valid beyond the scene."""
    panels = stream_panels(scene, config, tally)
    values: Values = np.zeros((len(scene.bands), REACH_PX, scene.width), scene.bands[0].dtype)
    valid = np.zeros((REACH_PX, scene.width), bool)
    read = 0
    for top in range(0, scene.height, side):
        height = min(side, scene.height - top)
        while read < min(top + height + REACH_PX, scene.height):
            panel = next(panels)
            values, valid = _below(values, valid, panel)
            read = panel.window.row_end
        missing = height + 2 * REACH_PX - len(valid)
        if missing > 0:
            values, valid = np.pad(values, ((0, 0), (0, missing), (0, 0))), np.pad(valid, ((0, missing), (0, 0)))
        yield top, values[:, : height + 2 * REACH_PX], valid[: height + 2 * REACH_PX]
        values, valid = values[:, height:], valid[height:]
    for _ in panels:  # whether the file was replaced is told at its end
        pass


def _below(values: Values, valid: NDArray[np.bool_], panel: Panel) -> tuple[Values, NDArray[np.bool_]]:
    return np.concatenate([values, panel.values], axis=1), np.concatenate([valid, panel.valid])


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Some columns of a strip, and the surroundings that the network sees."""

    values: Values
    valid: NDArray[np.bool_]
    top: int
    left: int
    side: int

    @property
    def height(self) -> int:
        """Rows, without the surroundings."""
        return int(self.valid.shape[0]) - 2 * self.top

    @property
    def width(self) -> int:
        """Columns, fewer at the right edge."""
        return int(min(self.side, self.valid.shape[1] - self.left))

    def cells(self, cell: int, shown: tuple[int, ...], stretch: Stretch, network: StructureMaps) -> tuple[Floats, Floats]:
        """Share of usable pixels (row, col), and descriptors (row, col, feature)."""
        rows, cols = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        usable = self.valid[rows, cols]
        values = self.values[:, rows, cols].astype(np.float64)
        count = _sums(usable[None].astype(np.float64), cell)[0]
        maps = self._maps(shown, stretch, network)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = _sums(np.where(usable, values, 0.0), cell) / count
            away = values - np.repeat(np.repeat(mean, cell, axis=1), cell, axis=2)
            deviation = np.sqrt(_sums(np.where(usable, away**2, 0.0), cell) / count)
            structure = _sums(np.where(usable, maps, 0.0), cell) / count
        return count / cell**2, np.moveaxis(np.concatenate([mean, deviation, structure]), 0, -1)

    def _maps(self, shown: tuple[int, ...], stretch: Stretch, network: StructureMaps) -> Floats:
        """The network's channels over the block itself."""
        left, right = max(0, self.left - REACH_PX), min(self.valid.shape[1], self.left + self.width + REACH_PX)
        valid = self.valid[:, left:right]
        if not valid.any():
            return np.zeros((N_CHANNELS, self.height, self.width))
        maps = network(stretch(self.values[list(shown), :, left:right].astype(np.float64), valid))
        first = self.left - left
        return maps[:, self.top : self.top + self.height, first : first + self.width].astype(np.float64)


def _sums(layers: Floats, cell: int) -> Floats:
    """(layer, row, col) summed over whole cells."""
    n, height, width = layers.shape
    return np.asarray(layers.reshape(n, height // cell, cell, width // cell, cell).sum(axis=(2, 4)))
