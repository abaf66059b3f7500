"""Blocks of pixels of both dates, with their surroundings: evenly chosen ones to learn from, or all of them once and in order.

Blocks stand on a fixed raster and are read with the same surroundings either way, so a pixel's value never depends on how it was reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geoanom.raster.blocks import Tally, stream_panels
from geoanom.raster.compose import without_fill
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.change.pair import Pair
    from geoanom.config import Config
    from geoanom.raster.blocks import Panel
    from geoanom.raster.scene import Handle, Pixels, Scene

CORE_PX = 256
HALO_PX = 64
SIDE_PX = CORE_PX + 2 * HALO_PX
SAMPLED_BLOCKS = 24
"""Blocks that are learned from: 1.5 million pixels."""
SAMPLED_BYTES = 10**9
"""Of fewer blocks where there are many bands, as they are all held at once."""
CANDIDATES = 3
"""Blocks looked at first for each one wanted, since some are mostly without data."""
MOST_LOOKED_AT = 4096
"""Blocks looked at, where most are without data."""


@dataclass(frozen=True, kw_only=True)
class PairBlock:
    """A square of both dates; the middle is what it stands for, the rest are its surroundings."""

    core: Window
    """The middle, cut off at the scene's edges."""
    before: NDArray[np.float32]
    """(band, side, side); continued by mirroring beyond the scene's edges."""
    after: NDArray[np.float32]
    """(band, side, side)."""
    valid: NDArray[np.bool_]
    """(side, side), usable on both dates."""

    @property
    def middle(self) -> tuple[slice, slice]:
        """Where the core lies in the arrays."""
        return slice(HALO_PX, HALO_PX + self.core.height), slice(HALO_PX, HALO_PX + self.core.width)


def sample_blocks(pair: Pair) -> list[PairBlock]:
    """Up to `SAMPLED_BLOCKS` blocks with usable pixels, spread evenly over what both dates may show."""
    wanted = max(1, min(SAMPLED_BLOCKS, SAMPLED_BYTES // _block_bytes(len(pair.before.bands))))
    handles = without_fill(pair.before).open_handle(), without_fill(pair.after).open_handle()
    try:
        near, far = _candidates(pair, wanted)
        return _first(near, wanted, pair, handles) or _first(far, wanted, pair, handles)
    finally:
        for handle in handles:
            handle.close()


def _first(cores: list[Window], n_wanted: int, pair: Pair, handles: tuple[Handle, Handle]) -> list[PairBlock]:
    """The first blocks with usable pixels."""
    looked_at = (_looked_at(core, pair, handles) for core in cores[:MOST_LOOKED_AT])
    return list(islice((block for block in looked_at if block is not None), n_wanted))


def _looked_at(core: Window, pair: Pair, handles: tuple[Handle, Handle]) -> PairBlock | None:
    """The block, if it has usable pixels."""
    if not handles[0].read(core).valid.any():  # most of what is without data costs one small read so
        return None
    wanted = _around(core).within(pair.before.height, pair.before.width)
    block = _block(core, wanted, *(_masked(handle.read(wanted)) for handle in handles))
    return block if block.valid[block.middle].any() else None


def _block_bytes(n_bands: int) -> int:
    """Of both dates in one block."""
    return SIDE_PX**2 * (2 * n_bands * 4 + 1)


def _candidates(pair: Pair, n_wanted: int) -> tuple[list[Window], list[Window]]:
    """The cores that the later date may show, and all others, in case its place is not what its transform says."""
    cores = _cores(pair.before.height, pair.before.width)
    near = [core for core in cores if pair.common is None or _meet(core, pair.common)]
    known = set(near)
    return _spread(near, n_wanted), _spread([core for core in cores if core not in known], n_wanted)


def _spread(cores: list[Window], n_wanted: int) -> list[Window]:
    """The same cores, so ordered that as many as are wanted are spread evenly, those behind them too, and so on."""
    evenly = np.linspace(0, len(cores) - 1, min(len(cores), n_wanted * CANDIDATES)).round().astype(int).tolist()
    chosen = sorted(set(evenly))
    rest = sorted(set(range(len(cores))) - set(chosen))
    step = max(1, len(rest) // n_wanted)
    order = [place for start in range(CANDIDATES) for place in chosen[start::CANDIDATES]]
    return [cores[place] for place in (*order, *(place for start in range(step) for place in rest[start::step]))]


def _meet(one: Window, other: Window) -> bool:
    rows = max(one.row_off, other.row_off) < min(one.row_end, other.row_end)
    return rows and max(one.col_off, other.col_off) < min(one.col_end, other.col_end)


def stream_blocks(pair: Pair, config: Config, tallies: tuple[Tally, Tally] | None = None) -> Iterator[PairBlock]:
    """All blocks in row-major order; each block of the files is decoded once.

    Args:
        pair: on one grid.
        config: readers and limits.
        tallies: of the earlier and of the later date; filled while the pass runs.

    Raises:
        SceneError: one of the scenes cannot be read, is too damaged, or was replaced meanwhile.
    """
    height, width = pair.before.height, pair.before.width
    ours, theirs = tallies or (Tally(), Tally())
    rows = _Rows(pair.before, config, ours), _Rows(pair.after, config, theirs)
    for core in _cores(height, width):
        wanted = _around(core).within(height, width)
        yield _block(core, wanted, *(each.read(wanted) for each in rows))
    for each in rows:
        each.finish()


def n_blocks(height: int, width: int) -> int:
    """Blocks of a pair of this size."""
    return -(-height // CORE_PX) * -(-width // CORE_PX)


class _Rows:
    """The rows of a scene that are still needed, read ahead as far as asked for."""

    def __init__(self, scene: Scene, config: Config, tally: Tally) -> None:
        self._panels = stream_panels(scene, config, tally)
        self._held: list[Panel] = []

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A window; its first row may never lie above that of the window before."""
        while not self._held or self._held[-1].window.row_end < window.row_end:
            self._held.append(next(self._panels))
        self._held = [panel for panel in self._held if panel.window.row_end > window.row_off]
        top, (_, columns) = self._held[0].window.row_off, window.slices
        rows = slice(window.row_off - top, window.row_end - top)
        values = np.concatenate([panel.values[:, :, columns] for panel in self._held], axis=1)[:, rows]
        valid = np.concatenate([panel.valid[:, columns] for panel in self._held])[rows]
        return values.astype(np.float32), valid

    def finish(self) -> None:
        """Let the scene be checked for having been replaced meanwhile, which is done behind its last row."""
        self._held += list(self._panels)


def _cores(height: int, width: int) -> list[Window]:
    places = ((row, col) for row in range(0, height, CORE_PX) for col in range(0, width, CORE_PX))
    return [Window(row_off=row, col_off=col, height=CORE_PX, width=CORE_PX).within(height, width) for row, col in places]


def _around(core: Window) -> Window:
    return Window(row_off=core.row_off - HALO_PX, col_off=core.col_off - HALO_PX, height=SIDE_PX, width=SIDE_PX)


def _masked(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.where(pixels.valid, pixels.values, 0).astype(np.float32), pixels.valid


def _block(
    core: Window,
    read: Window,
    before: tuple[NDArray[np.float32], NDArray[np.bool_]],
    after: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> PairBlock:
    valid = before[1] & after[1]
    around = _around(core)
    rows, cols = (
        _reflected(first, first + SIDE_PX, start, end)
        for first, start, end in (
            (around.row_off, read.row_off, read.row_end),
            (around.col_off, read.col_off, read.col_end),
        )
    )
    shown = [np.where(valid, values, 0)[:, rows][:, :, cols] for values, _ in (before, after)]
    return PairBlock(core=core, before=shown[0], after=shown[1], valid=valid[rows][:, cols])


def _reflected(first: int, end: int, start: int, stop: int) -> NDArray[np.intp]:
    """For places from `first` to `end` the positions, counted from `start`, that mirrors at `start` and `stop` show there."""
    length = stop - start
    folded = (np.arange(first, end) - start) % (2 * length)
    return np.asarray(np.where(folded < length, folded, 2 * length - 1 - folded))
