"""Decoding windows of a raster file: real units, the valid mask, and damage kept to the block it is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, RasterioError
from rasterio.windows import Window as RioWindow

from geoanom.errors import SceneError
from geoanom.raster.grid import Window
from geoanom.raster.scene import Pixels

UNREADABLE = (RasterioError, CRSError, UnicodeDecodeError)
"""What rasterio raises for a damaged file; not all of it is a `RasterioError`."""

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.sources.checks import BlockMap


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which bands of which file are read, and how their values become real units."""

    path: Path
    driver: str
    indexes: tuple[int, ...]
    """1-based bands."""
    dead: tuple[int, ...]
    """1-based bands that hold no data and are left out."""
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    dtype: str
    """Type in the file; of bands with different types the one that holds them all."""
    is_mixed: bool = False
    """True when the bands' types differ."""
    palette: Mapping[int, tuple[int, int, int, int]] | None = None
    """Colours of an indexed image."""
    colours_used: tuple[int, ...] = ()
    """Which of red (1), green (2), blue (3) an indexed image is read as."""

    @property
    def is_complex(self) -> bool:
        """True when the amplitude is taken."""
        return self.dtype.startswith("complex")

    @property
    def is_scaled(self) -> bool:
        """True when a band has a scale or an offset of its own."""
        return any(scale != 1.0 for scale in self.scales) or any(offset != 0.0 for offset in self.offsets)

    @property
    def out_dtype(self) -> np.dtype[np.generic]:
        """Type of the values that a read returns: the file's own where it is exact in 32 bits, float32 otherwise."""
        if self.palette is not None:
            return np.dtype(np.uint8)
        if self.is_complex or self.is_scaled or self.dtype == "float64":
            return np.dtype(np.float32)
        return np.dtype(self.dtype)

    @cached_property
    def colours(self) -> NDArray[np.uint8]:
        """(index, used colour) of the palette."""
        palette = self.palette or {}
        table = np.zeros((max(palette, default=0) + 1, len(self.colours_used)), np.uint8)
        for index, colour in palette.items():
            table[index] = [colour[i - 1] for i in self.colours_used]
        return table


class RasterHandle:
    """An open raster file, for one thread."""

    def __init__(self, reading: Reading, blocks: BlockMap) -> None:
        """Open the file again; handles are never shared.

        Raises:
            SceneError: it cannot be opened any more.
        """
        self._reading, self._blocks = reading, blocks
        try:
            self._src = rasterio.open(reading.path, driver=reading.driver, sharing=False)
        except UNREADABLE as error:
            raise SceneError(reading.path, f"cannot be opened again ({error})", "leave it in place while it is read") from error

    def close(self) -> None:
        """Close the file."""
        self._src.close()

    def read(self, window: Window) -> Pixels:
        """The window in real units; absent and undecodable blocks are masked, the latter also named."""
        absent, damaged = self._blocks.bad_in(window)
        if not damaged:
            try:
                values, valid = self._decode(window)
                return self._as_pixels(window, values, valid, absent, [])
            except (*UNREADABLE, OSError):
                pass  # some block in the window is unreadable: find out which, below
        values, valid, broken = self._decode_piecewise(window, damaged)
        return self._as_pixels(window, values, valid, absent, broken)

    def _decode(self, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Raw values (band, row, col) and the AND of the bands' masks (row, col)."""
        indexes = list(self._reading.indexes)
        box = RioWindow(window.col_off, window.row_off, window.width, window.height)
        if self._reading.is_mixed:
            values = np.stack([self._src.read(i, window=box).astype(self._reading.dtype) for i in indexes])
        else:
            values = self._src.read(indexes, window=box)
        valid = (self._src.read_masks(indexes, window=box) > 0).all(axis=0)
        for band in self._shadowed:
            valid &= self._src.read(band, window=box) > 0
        return values, valid

    @cached_property
    def _shadowed(self) -> tuple[int, ...]:
        """Alpha bands that GDAL leaves out of its masks, since nodata is declared as well."""
        kinds = zip(self._src.indexes, self._src.colorinterp, self._src.nodatavals, strict=True)
        alphas = (band for band, kind, nodata in kinds if kind is ColorInterp.alpha and nodata is not None)
        return tuple(band for band in alphas if band not in self._reading.indexes)

    def _decode_piecewise(
        self, window: Window, damaged: list[tuple[int, int]]
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_], list[tuple[int, int]]]:
        """Decode block by block, leaving out those that cannot be decoded."""
        values = np.zeros((len(self._reading.indexes), window.height, window.width), self._reading.dtype)
        valid = np.zeros((window.height, window.width), bool)
        broken = list(damaged)
        for place, part in self._blocks.parts_of(window):
            if place in damaged:
                continue
            rows, cols = _relative(part, window)
            try:
                values[:, rows, cols], valid[rows, cols] = self._decode(part)
            except (*UNREADABLE, OSError):
                broken.append(place)
        return values, valid, broken

    def _as_pixels(
        self,
        window: Window,
        values: NDArray[np.generic],
        valid: NDArray[np.bool_],
        absent: list[tuple[int, int]],
        broken: list[tuple[int, int]],
    ) -> Pixels:
        for part in self._blocks.windows_of([*absent, *broken], window):
            rows, cols = _relative(part, window)
            valid[rows, cols] = False
        real = self._to_real_units(values)
        if real.dtype.kind == "f":
            valid &= np.isfinite(real).all(axis=0)
        return Pixels(values=real, valid=valid, damaged_blocks=tuple(sorted(broken)))

    def _to_real_units(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        reading = self._reading
        if reading.palette is not None:
            return np.moveaxis(reading.colours.take(values[0].astype(np.intp), axis=0, mode="clip"), -1, 0)
        if reading.is_complex:
            values = np.abs(values)
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite or no number is masked
            if reading.is_scaled:
                scales, offsets = np.array(reading.scales)[:, None, None], np.array(reading.offsets)[:, None, None]
                values = values * scales + offsets
            return values.astype(reading.out_dtype, copy=False)


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The NumPy type that rasterio reads a band type into."""
    return np.dtype("complex64" if name == "complex_int16" else name)


def _relative(part: Window, window: Window) -> tuple[slice, slice]:
    rows = slice(part.row_off - window.row_off, part.row_end - window.row_off)
    return rows, slice(part.col_off - window.col_off, part.col_end - window.col_off)


def block_parts(window: Window, block_height: int, block_width: int) -> Iterator[tuple[tuple[int, int], Window]]:
    """The blocks that a window touches, as ((row, col), part of the window inside the block)."""
    for row in range(window.row_off // block_height, -(-window.row_end // block_height)):
        for col in range(window.col_off // block_width, -(-window.col_end // block_width)):
            top, left = max(window.row_off, row * block_height), max(window.col_off, col * block_width)
            bottom, right = min(window.row_end, (row + 1) * block_height), min(window.col_end, (col + 1) * block_width)
            yield (row, col), Window(row_off=top, col_off=left, height=bottom - top, width=right - left)
