"""The reconstruction error of every pixel, kept on disk and read back by windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window as RioWindow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.grid import TileGrid, Window


@dataclass(frozen=True)
class PixelErrors:
    """A finished file of pixel errors."""

    path: Path

    def read(self, window: Window) -> NDArray[np.float32]:
        """(row, col) errors of a window inside the scene, NaN where there is none."""
        with rasterio.open(self.path) as src:
            errors: NDArray[np.float32] = src.read(1, window=RioWindow(window.col_off, window.row_off, window.width, window.height))
            return errors


class PixelErrorWriter:
    """Writes the cores of tiles whose blocks come in row-major order, one row of blocks at a time."""

    def __init__(self, path: Path, grid: TileGrid) -> None:
        """Create the file; nothing is kept in memory but one row of blocks."""
        self._grid, self._row, self._step = grid, 0, grid.block_tiles
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

    def add(self, blocks: Sequence[TileBlock], errors: NDArray[np.float32]) -> None:
        """Take the cores out of the errors (n, size, size) of the tiles of some blocks."""
        taken = 0
        for block in blocks:
            while self._row + self._step <= block.rows[0]:
                self._flush()
            for i, valid in enumerate(block.cut(block.valid)):
                self._place(int(block.rows[i]), int(block.cols[i]), np.where(valid, errors[taken + i], np.nan))
            taken += len(block)

    def _place(self, row: int, col: int, errors: NDArray[np.float32]) -> None:
        core, window = self._grid.core(row, col), self._grid.window(row, col)
        top, left = core.row_off - window.row_off, core.col_off - window.col_off
        start = (row - self._row) * self._grid.stride
        self._strip[start : start + core.height, core.col_off : core.col_end] = errors[top : top + core.height, left : left + core.width]

    def _blank(self) -> NDArray[np.float32]:
        return np.full((self._step * self._grid.stride, self._grid.width), np.nan, np.float32)

    def _flush(self) -> None:
        top = self._row * self._grid.stride
        height = min(len(self._strip), self._grid.height - top)
        self._dst.write(self._strip[:height], 1, window=RioWindow(0, top, self._grid.width, height))
        self._strip, self._row = self._blank(), self._row + self._step


class WindowWriter:
    """Writes a map of every pixel, window by window, in any order; what is never written is NaN."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        """Create the file."""
        self._dst = rasterio.open(
            path, "w", driver="GTiff", dtype="float32", count=1, height=height, width=width, nodata=np.nan, BIGTIFF="IF_SAFER"
        )

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self._dst.close()

    def write(self, window: Window, values: NDArray[np.floating]) -> None:
        """Values (row, col) of a window inside the map."""
        place = RioWindow(window.col_off, window.row_off, window.width, window.height)
        self._dst.write(values.astype(np.float32), 1, window=place)
