"""The reconstruction error of every pixel, kept on disk and read back by windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window as RioWindow

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from geoanom.raster.grid import TileGrid, Window


@dataclass(frozen=True)
class PixelErrors:
    """A finished file of pixel errors."""

    path: Path
    threshold: float
    """Errors above this are unusual for the model's training scenes."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(row, col) errors of a window inside the scene, NaN where there is none."""
        with rasterio.open(self.path) as src:
            errors: NDArray[np.float32] = src.read(1, window=RioWindow(window.col_off, window.row_off, window.width, window.height))
            return errors


class PixelErrorWriter:
    """Writes the cores of tiles that come in row-major order, one row of cores at a time."""

    def __init__(self, path: Path, grid: TileGrid) -> None:
        """Create the file; nothing is kept in memory but one row of cores."""
        self._grid, self._row = grid, 0
        self._dst = rasterio.open(
            path, "w", driver="GTiff", dtype="float32", count=1, height=grid.height, width=grid.width, nodata=np.nan, BIGTIFF="IF_SAFER"
        )
        self._strip = self._blank()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what is left and close."""
        while kind is None and self._row < self._grid.n_rows:
            self._flush()
        self._dst.close()

    def add(self, row: int, col: int, errors: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Take the core out of a tile's errors (size, size)."""
        while self._row < row:
            self._flush()
        core, window = self._grid.core(row, col), self._grid.window(row, col)
        top, left = core.row_off - window.row_off, core.col_off - window.col_off
        part = (slice(top, top + core.height), slice(left, left + core.width))
        self._strip[: core.height, core.col_off : core.col_end] = np.where(valid[part], errors[part], np.nan)

    def _blank(self) -> NDArray[np.float32]:
        return np.full((self._grid.stride, self._grid.width), np.nan, np.float32)

    def _flush(self) -> None:
        core = self._grid.core(self._row, 0)
        box = RioWindow(0, core.row_off, self._grid.width, core.height)
        self._dst.write(self._strip[: core.height], 1, window=box)
        self._strip, self._row = self._blank(), self._row + 1
