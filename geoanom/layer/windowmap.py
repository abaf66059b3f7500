"""The scores of the small windows in every tile's core, read back as pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.raster.grid import TileGrid, Window


@dataclass(frozen=True, kw_only=True)
class WindowMap:
    """How odd the windows of a scene's tiles are."""

    grid: TileGrid
    values: NDArray[np.float16]
    """(tile row, tile col, side, side); NaN where a tile or a window was not scored."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(row, col) the value of the nearest window for every pixel of a part of the scene, NaN where there is none."""
        rows, cols = (self._places(first, end) for first, end in ((window.row_off, window.row_end), (window.col_off, window.col_end)))
        return self.values[rows[0][:, None], cols[0], rows[1][:, None], cols[1]].astype(np.float32)

    def _places(self, first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tile and the window in it that pixels of one axis belong to."""
        tile, inside = np.divmod(np.arange(first, end), self.grid.stride)
        return tile, inside * self.values.shape[-1] // self.grid.stride
