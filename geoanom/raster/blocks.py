"""Streaming: every block of a scene is decoded once and in order; tiles are cut from a strip of rows that slides down.

Memory depends on the height of a block, the side of a tile and the width of the scene, never on its area.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import SceneError
from geoanom.raster.fill import fill_mask
from geoanom.raster.grid import Window
from geoanom.raster.prefetch import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.grid import TileGrid
    from geoanom.raster.scene import Pixels, Scene

PANEL_ROWS = 256
SEGMENT_COLS = 1024


@dataclass(frozen=True, kw_only=True)
class TileBatch:
    """Tiles cut from a scene, with their places in the grid."""

    rows: NDArray[np.int64]
    """(n,) tile rows."""
    cols: NDArray[np.int64]
    """(n,) tile columns."""
    values: NDArray[np.generic]
    """(n, band, size, size), in real units; 0 where not valid."""
    valid: NDArray[np.bool_]
    """(n, size, size), True = usable."""
    valid_fraction: NDArray[np.float64]
    """(n,) share of valid pixels."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Full-width rows of a scene."""

    window: Window
    values: NDArray[np.generic]
    """(band, row, col), in real units; 0 where not valid."""
    valid: NDArray[np.bool_]
    """(row, col), True = usable."""


@dataclass(kw_only=True)
class Tally:
    """What a pass over a scene met; filled while the pass runs."""

    tiles_scored: int = 0
    tiles_masked: int = 0
    damaged_blocks: set[tuple[int, int]] = field(default_factory=set)
    fill_pixels: int = 0

    def warnings(self) -> list[str]:
        """In plain words, what was lost."""
        n = len(self.damaged_blocks)
        return [f"{n} damaged block{'s' * (n > 1)} could not be decoded and {'are' if n > 1 else 'is'} masked"] if n else []


def stream_panels(scene: Scene, config: Config, tally: Tally | None = None) -> Iterator[Panel]:
    """All pixels of a scene in full-width panels from top to bottom, each block decoded once.

    Raises:
        SceneError: a panel would not fit the memory limit, too many blocks are damaged, or the file was changed.
    """
    tally = tally or Tally()
    panel_rows = scene.block_height * max(1, PANEL_ROWS // scene.block_height)
    _check_memory(scene, panel_rows, config)
    segments = _segments(scene, panel_rows)
    reads = read_ahead(scene, segments, threads=config.runtime.reader_threads, timeout_s=config.sources.read_timeout_s)
    parts: list[Pixels] = []
    for window, pixels in reads:
        parts.append(pixels)
        tally.damaged_blocks.update(pixels.damaged_blocks)
        if window.col_end == scene.width:
            _check_damage(scene, tally, config)
            yield _panel(scene, window, parts, tally)
            parts = []
    scene.check_unchanged()


def stream_tiles(
    scene: Scene,
    grid: TileGrid,
    config: Config,
    *,
    batch_size: int,
    wanted: Callable[[int, int], bool] | None = None,
    watch: Callable[[Panel], None] | None = None,
    tally: Tally | None = None,
) -> Iterator[TileBatch]:
    """The tiles of a scene in row-major order, those with too few valid pixels left out and counted.

    Args:
        scene: what to cut.
        grid: how to cut it.
        config: the least valid share, readers and limits.
        batch_size: tiles in a batch; the last one may have fewer.
        wanted: takes (row, col) and says whether a tile is wanted; all when None.
        watch: is shown every panel, fill masked, as it comes by.
        tally: filled while the pass runs.
    """
    tally = tally if tally is not None else Tally()
    strip = _Strip(scene, grid)
    row, pending = 0, _Pending(batch_size)
    for panel in stream_panels(scene, config, tally):
        if watch is not None:
            watch(panel)
        strip.append(panel)
        while row < grid.n_rows and strip.holds(row):
            for col in range(grid.n_cols):
                if wanted is None or wanted(row, col):
                    yield from pending.add(row, col, *strip.cut(row, col), config.tiles.min_valid_fraction, tally)
            row += 1
        strip.forget_above(row)
    yield from pending.rest()


def _panel(scene: Scene, last: Window, parts: list[Pixels], tally: Tally) -> Panel:
    """Join segments and mask the fill."""
    values, valid = np.concatenate([p.values for p in parts], axis=2), np.concatenate([p.valid for p in parts], axis=1)
    if scene.fill is not None:
        filled = fill_mask(values, scene.fill) & valid
        tally.fill_pixels += int(filled.sum())
        valid &= ~filled
    values[:, ~valid] = 0
    window = Window(row_off=last.row_off, col_off=0, height=last.height, width=scene.width)
    return Panel(window=window, values=values, valid=valid)


class _Strip:
    """The rows of a scene that unfinished tiles still need."""

    def __init__(self, scene: Scene, grid: TileGrid) -> None:
        self._scene, self._grid = scene, grid
        self._top = 0
        self._values: NDArray[np.generic] = np.zeros((len(scene.bands), 0, scene.width), scene.bands[0].dtype)
        self._valid = np.zeros((0, scene.width), bool)

    def append(self, panel: Panel) -> None:
        """Add a panel below."""
        self._values = np.concatenate([self._values, panel.values], axis=1)
        self._valid = np.concatenate([self._valid, panel.valid], axis=0)

    def holds(self, row: int) -> bool:
        """Is the last pixel row of a tile row here?"""
        end = min(self._grid.row_off(row) + self._grid.size, self._scene.height)
        return self._top + self._valid.shape[0] >= end

    def cut(self, row: int, col: int) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Values (band, size, size) and valid mask (size, size) of a tile, padded where the scene is smaller than a tile."""
        size, top, left = self._grid.size, self._grid.row_off(row) - self._top, self._grid.col_off(col)
        values = self._values[:, top : top + size, left : left + size]
        valid = self._valid[top : top + size, left : left + size]
        short = (size - valid.shape[0], size - valid.shape[1])
        if any(short):
            values = np.pad(values, ((0, 0), (0, short[0]), (0, short[1])))
            valid = np.pad(valid, ((0, short[0]), (0, short[1])))
        return values, valid

    def forget_above(self, row: int) -> None:
        """Drop the rows above a tile row that is still to come."""
        top = self._grid.row_off(row) if row < self._grid.n_rows else self._top + self._valid.shape[0]
        drop = max(0, top - self._top)
        self._values, self._valid = self._values[:, drop:].copy(), self._valid[drop:].copy()
        self._top += drop


class _Pending:
    """Tiles waiting for their batch to be full."""

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._tiles: list[tuple[int, int, NDArray[np.generic], NDArray[np.bool_], float]] = []

    def add(
        self, row: int, col: int, values: NDArray[np.generic], valid: NDArray[np.bool_], least: float, tally: Tally
    ) -> Iterator[TileBatch]:
        fraction = float(valid.mean())
        if fraction == 0.0 or fraction < least:
            tally.tiles_masked += 1
            return
        tally.tiles_scored += 1
        self._tiles.append((row, col, values.copy(), valid.copy(), fraction))
        if len(self._tiles) == self._size:
            yield from self.rest()

    def rest(self) -> Iterator[TileBatch]:
        if self._tiles:
            rows, cols, values, valid, fraction = zip(*self._tiles, strict=True)
            self._tiles = []
            yield TileBatch(
                rows=np.array(rows), cols=np.array(cols), values=np.stack(values), valid=np.stack(valid), valid_fraction=np.array(fraction)
            )


def _segments(scene: Scene, panel_rows: int) -> Iterator[Window]:
    """Windows of whole blocks, panel by panel and from left to right."""
    step = scene.block_width * max(1, SEGMENT_COLS // scene.block_width)
    for top in range(0, scene.height, panel_rows):
        for left in range(0, scene.width, step):
            yield Window(row_off=top, col_off=left, height=panel_rows, width=step).within(scene.height, scene.width)


def _check_memory(scene: Scene, panel_rows: int, config: Config) -> None:
    rows = min(scene.height, panel_rows + config.tiles.size + config.tiles.step)
    need_mb = len(scene.bands) * rows * scene.width * np.dtype(scene.bands[0].dtype).itemsize / 2**20
    if need_mb > config.sources.max_strip_mb:
        what = f"needs {need_mb:.0f} MB for {rows} rows, the limit is {config.sources.max_strip_mb} MB"
        raise SceneError(scene.uri, what, "choose fewer --bands, retile it with smaller blocks, or raise sources.max_strip_mb")


def _check_damage(scene: Scene, tally: Tally, config: Config) -> None:
    total = -(-scene.height // scene.block_height) * -(-scene.width // scene.block_width)
    lost = len(tally.damaged_blocks)
    if lost > config.sources.max_damaged_fraction * total:
        raise SceneError(scene.uri, f"is damaged: {lost} blocks could not be decoded", "copy it again, or raise sources.max_damaged_fraction")
