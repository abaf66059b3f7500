"""Streaming: every block of a scene is decoded once and in order; tiles are cut from a strip of rows that slides down.

Memory depends on the height of a block, the side of a tile and the width of the scene, never on its area.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import SceneError
from geoanom.raster.fill import REACH_PX, fill_mask, fill_matches
from geoanom.raster.grid import MARGIN_PX, Window
from geoanom.raster.prefetch import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.grid import TileGrid
    from geoanom.raster.scene import Scene

PANEL_ROWS = 256
SEGMENT_COLS = 1024


@dataclass(frozen=True, kw_only=True)
class TileBlock:
    """Neighbouring tiles in one patch of pixels, with a margin around them; always of the same shape."""

    rows: NDArray[np.int64]
    """(n,) tile rows."""
    cols: NDArray[np.int64]
    """(n,) tile columns."""
    tops: NDArray[np.int64]
    """(n,) first row of each tile's window in the patch."""
    lefts: NDArray[np.int64]
    """(n,) first column of each tile's window in the patch."""
    core_tops: NDArray[np.int64]
    """(n,) first row of each tile's core in the patch."""
    core_lefts: NDArray[np.int64]
    """(n,) first column of each tile's core in the patch."""
    size: int
    """Side of a tile in pixels."""
    values: NDArray[np.generic]
    """(band, side, side), in real units; 0 where not valid."""
    valid: NDArray[np.bool_]
    """(side, side), True = usable; False beyond the scene's edge."""
    valid_fraction: NDArray[np.float64]
    """(n,) share of valid pixels."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows)

    def cut(self, patch: NDArray[np.generic]) -> NDArray[np.generic]:
        """The tiles' windows of an array (..., side, side) laid over the patch, as (n, ..., size, size)."""
        return np.stack([patch[..., t : t + self.size, left : left + self.size] for t, left in zip(self.tops, self.lefts, strict=True)])


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
    tally = tally if tally is not None else Tally()
    panels = _read_panels(scene, config, tally)
    for panel in panels if scene.fill is None else _without_fill(panels, scene.fill, tally):
        panel.values[:, ~panel.valid] = 0
        yield panel
    scene.check_unchanged()


def _read_panels(scene: Scene, config: Config, tally: Tally) -> Iterator[Panel]:
    """Panels as they are in the file."""
    panel_rows = scene.block_height * max(1, PANEL_ROWS // scene.block_height)
    _check_memory(scene, panel_rows, config)
    segments = _segments(scene, panel_rows)
    reads = read_ahead(scene, segments, threads=config.runtime.reader_threads, timeout_s=config.sources.read_timeout_s)
    for window, pixels in reads:
        if window.col_off == 0:
            values = np.empty((len(scene.bands), window.height, scene.width), scene.bands[0].dtype)
            valid = np.empty((window.height, scene.width), bool)
        columns = slice(window.col_off, window.col_end)
        values[:, :, columns], valid[:, columns] = pixels.values, pixels.valid
        tally.damaged_blocks.update(pixels.damaged_blocks)
        if window.col_end == scene.width:
            _check_damage(scene, tally, config)
            place = Window(row_off=window.row_off, col_off=0, height=window.height, width=scene.width)
            yield Panel(window=place, values=values, valid=valid)


def stream_tiles(
    scene: Scene,
    grid: TileGrid,
    config: Config,
    *,
    wanted: Callable[[int, int], bool] | None = None,
    watch: Callable[[Panel], None] | None = None,
    tally: Tally | None = None,
) -> Iterator[TileBlock]:
    """The tiles of a scene, block by block in row-major order; those with too few valid pixels are left out and counted.

    Args:
        scene: what to cut.
        grid: how to cut it.
        config: the least valid share, readers and limits.
        wanted: takes row and column of a block, in blocks, and says whether it is wanted; all when None.
        watch: is shown every panel, fill masked, as it comes by.
        tally: filled while the pass runs.
    """
    tally = tally if tally is not None else Tally()
    strip, step, row = _Strip(scene, grid), grid.block_tiles, 0
    for panel in stream_panels(scene, config, tally):
        if watch is not None:
            watch(panel)
        strip.append(panel)
        del panel  # not needed while its tiles are computed
        while row < grid.n_rows and strip.holds(row):
            for col in range(0, grid.n_cols, step):
                if wanted is None or wanted(row // step, col // step):
                    block = _with_usable_tiles(strip.cut(row, col), config.tiles.min_valid_fraction, tally)
                    if len(block):
                        yield block
            row += step
        strip.forget_above(row)


def _without_fill(panels: Iterator[Panel], fill: tuple[float, ...], tally: Tally) -> Iterator[Panel]:
    """Mask the fill. A panel waits for the next one, as fill may narrow to a wedge where two panels meet."""
    above: NDArray[np.bool_] | None = None
    for panel, following in pairwise(chain(panels, (None,))):
        if panel is None:  # pragma: no cover - only the last one is
            return
        here = fill_matches(panel.values, fill)
        above = here[:, :0] if above is None else above
        below = here[:, :0] if following is None else fill_matches(following.values[:, :REACH_PX], fill)
        filled = fill_mask(np.concatenate([above, here, below], axis=1))[above.shape[1] :][: len(panel.valid)]
        tally.fill_pixels += int((filled & panel.valid).sum())
        panel.valid[filled] = False
        yield panel
        above = here[:, -REACH_PX:]


class _Strip:
    """The rows of a scene that unfinished tiles still need, in arrays that are made once."""

    def __init__(self, scene: Scene, grid: TileGrid) -> None:
        self._scene, self._grid = scene, grid
        self._top = self._n_rows = 0
        self._values: NDArray[np.generic] = np.zeros((len(scene.bands), 0, scene.width), scene.bands[0].dtype)
        self._valid = np.zeros((0, scene.width), bool)

    def append(self, panel: Panel) -> None:
        """Add a panel below."""
        end = self._n_rows + panel.window.height
        if end > len(self._valid):
            self._grow(end)
        self._values[:, self._n_rows : end], self._valid[self._n_rows : end] = panel.values, panel.valid
        self._n_rows = end

    def _grow(self, n_rows: int) -> None:
        values, valid = (
            np.zeros((len(self._values), n_rows, self._scene.width), self._values.dtype),
            np.zeros((n_rows, self._scene.width), bool),
        )
        values[:, : self._n_rows], valid[: self._n_rows] = self._values[:, : self._n_rows], self._valid[: self._n_rows]
        self._values, self._valid = values, valid

    def holds(self, row: int) -> bool:
        """Is all of the patches of the row of blocks that starts with this tile row here?"""
        end = min(self._patch_start(self._grid.row_off(row)) + self._grid.block_side, self._scene.height)
        return self._top + self._n_rows >= end

    def cut(self, row: int, col: int) -> TileBlock:
        """The block whose first tile stands at (row, col), padded beyond the scene's edge."""
        grid = self._grid
        top, left = self._patch_start(grid.row_off(row)), self._patch_start(grid.col_off(col))
        side, step = grid.block_side, grid.block_tiles
        patch = Window(row_off=top, col_off=left, height=side, width=side)
        inside = patch.within(self._scene.height, self._scene.width)
        part = (slice(inside.row_off - self._top, inside.row_end - self._top), slice(inside.col_off, inside.col_end))
        pad = ((inside.row_off - top, patch.row_end - inside.row_end), (inside.col_off - left, patch.col_end - inside.col_end))
        places = [(r, c) for r in range(row, min(row + step, grid.n_rows)) for c in range(col, min(col + step, grid.n_cols))]
        valid = np.pad(self._valid[part], pad)
        tops, lefts = np.array([(grid.row_off(r) - top, grid.col_off(c) - left) for r, c in places]).T
        fractions = [valid[t : t + grid.size, c : c + grid.size].mean() for t, c in zip(tops, lefts, strict=True)]
        return TileBlock(
            rows=np.array([r for r, _ in places]),
            cols=np.array([c for _, c in places]),
            tops=tops,
            lefts=lefts,
            core_tops=np.array([r * grid.stride - top for r, _ in places]),
            core_lefts=np.array([c * grid.stride - left for _, c in places]),
            size=grid.size,
            values=np.pad(self._values[:, part[0], part[1]], ((0, 0), *pad)),
            valid=valid,
            valid_fraction=np.array(fractions),
        )

    def forget_above(self, row: int) -> None:
        """Drop the rows above the patches of a row of blocks that is still to come."""
        top = self._patch_start(self._grid.row_off(row)) if row < self._grid.n_rows else self._top + self._n_rows
        drop = min(max(0, top - self._top), self._n_rows)
        keep = self._n_rows - drop
        for band in self._values:
            band[:keep] = band[drop : self._n_rows]
        self._valid[:keep] = self._valid[drop : self._n_rows]
        self._top, self._n_rows = self._top + drop, keep

    @staticmethod
    def _patch_start(offset: int) -> int:
        return offset - MARGIN_PX


def _with_usable_tiles(block: TileBlock, least: float, tally: Tally) -> TileBlock:
    """The block without the tiles that have too few valid pixels."""
    usable = (block.valid_fraction >= least) & (block.valid_fraction > 0.0)
    tally.tiles_scored += int(usable.sum())
    tally.tiles_masked += int((~usable).sum())
    names = ("rows", "cols", "tops", "lefts", "core_tops", "core_lefts", "valid_fraction")
    return replace(block, **{name: getattr(block, name)[usable] for name in names})


def _segments(scene: Scene, panel_rows: int) -> Iterator[Window]:
    """Windows of whole blocks, panel by panel and from left to right."""
    step = scene.block_width * max(1, SEGMENT_COLS // scene.block_width)
    for top in range(0, scene.height, panel_rows):
        for left in range(0, scene.width, step):
            yield Window(row_off=top, col_off=left, height=panel_rows, width=step).within(scene.height, scene.width)


def _check_memory(scene: Scene, panel_rows: int, config: Config) -> None:
    rows = min(scene.height, panel_rows + scene.grid(config).block_side)
    need_mb = len(scene.bands) * rows * scene.width * np.dtype(scene.bands[0].dtype).itemsize / 2**20
    if need_mb > config.sources.max_strip_mb:
        what = f"needs {need_mb:.0f} MB for {rows} rows, the limit is {config.sources.max_strip_mb} MB"
        raise SceneError(scene.uri, what, "choose fewer --bands, retile it with smaller blocks, or raise sources.max_strip_mb")


def _check_damage(scene: Scene, tally: Tally, config: Config) -> None:
    total = -(-scene.height // scene.block_height) * -(-scene.width // scene.block_width)
    lost = len(tally.damaged_blocks)
    if lost > config.sources.max_damaged_fraction * total:
        raise SceneError(
            scene.uri, f"is damaged: {lost} blocks could not be decoded", "copy it again, or raise sources.max_damaged_fraction"
        )
