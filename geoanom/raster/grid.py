"""The tile grid: pure integers, no pixels.

Each tile has a window that is read and a core that is written. Cores are the squares of a regular grid with the stride's
spacing; they cover the scene exactly once, so stitching is assignment. Windows are centred on their cores and shifted
inward at the scene's edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


BLOCK_PX = 224
MAX_BLOCK_TILES = 64
"""Bound on a block's tiles a side, so that few blocks still make a sample of many places."""
MARGIN_PX = 32
"""What a block's patch shows of the surroundings, so that no tile sees an artificial edge beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A rectangle of pixels, half-open: rows ``row_off <= r < row_off + height``."""

    row_off: int
    col_off: int
    height: int
    width: int

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row_off + self.height

    @property
    def col_end(self) -> int:
        """First column right of the window."""
        return self.col_off + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for an array of the whole scene."""
        return slice(self.row_off, self.row_end), slice(self.col_off, self.col_end)

    def within(self, height: int, width: int) -> Window:
        """The part of the window inside a scene of this height and width."""
        top, left = max(0, self.row_off), max(0, self.col_off)
        bottom, right = min(height, self.row_end), min(width, self.col_end)
        return Window(row_off=top, col_off=left, height=max(0, bottom - top), width=max(0, right - left))


@dataclass(frozen=True, kw_only=True, slots=True)
class TileGrid:
    """The tiles of a scene, addressed by (row, col)."""

    height: int
    """Rows of the scene in pixels."""
    width: int
    """Columns of the scene in pixels."""
    size: int
    """Side of a window in pixels; windows of a smaller scene reach beyond it and are padded."""
    stride: int
    """Side of a core in pixels; not larger than the size."""

    def __post_init__(self) -> None:
        """Refuse grids that would skip pixels."""
        if min(self.height, self.width, self.size, self.stride) < 1:
            raise ConfigError("tiles", "height, width, size and stride must be at least 1", "choose larger ones")
        if self.stride > self.size:
            raise ConfigError("tiles", f"stride {self.stride} is larger than size {self.size}", "choose a smaller stride")

    @property
    def n_rows(self) -> int:
        """Number of tile rows."""
        return -(-self.height // self.stride)

    @property
    def n_cols(self) -> int:
        """Number of tile columns."""
        return -(-self.width // self.stride)

    def __len__(self) -> int:
        """Number of tiles."""
        return self.n_rows * self.n_cols

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """All (row, col) in row-major order."""
        return ((row, col) for row in range(self.n_rows) for col in range(self.n_cols))

    def row_off(self, row: int) -> int:
        """First pixel row of the windows in a tile row."""
        return self._offset(row, self.height)

    def col_off(self, col: int) -> int:
        """First pixel column of the windows in a tile column."""
        return self._offset(col, self.width)

    def window(self, row: int, col: int) -> Window:
        """The pixels that are read for a tile, always size x size."""
        return Window(row_off=self.row_off(row), col_off=self.col_off(col), height=self.size, width=self.size)

    def core(self, row: int, col: int) -> Window:
        """The pixels that a tile's score is written to."""
        square = Window(row_off=row * self.stride, col_off=col * self.stride, height=self.stride, width=self.stride)
        return square.within(self.height, self.width)

    @property
    def block_tiles(self) -> int:
        """Tiles along the side of a block of neighbouring tiles that are read together: about `BLOCK_PX` pixels of them."""
        return max(1, min(MAX_BLOCK_TILES, (BLOCK_PX - self.size) // self.stride + 1))

    @property
    def block_side(self) -> int:
        """Side in pixels of the patch that holds a block of tiles and the margin around it."""
        return (self.block_tiles - 1) * self.stride + self.size + 2 * MARGIN_PX

    def _offset(self, index: int, length: int) -> int:
        centred = index * self.stride - (self.size - self.stride) // 2
        return max(0, min(centred, length - self.size))
