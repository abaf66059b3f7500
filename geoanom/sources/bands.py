"""Which bands of a raster file are used when the user names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rasterio

SURVEY_BLOCKS = 16


def usable_bands(src: rasterio.DatasetReader) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All bands but alpha, and apart from them the dead ones: masked wherever the file was looked at.

    Hyperspectral products keep bands that hold nothing but nodata; one of them would mask every pixel.

    Returns:
        1-based numbers of the usable and of the dead bands.
    """
    bands = tuple(i for i, c in zip(src.indexes, src.colorinterp, strict=True) if c is not ColorInterp.alpha) or (1,)
    dead = _dead_bands(src, bands) if len(bands) > 1 else ()
    if len(dead) == len(bands):
        return bands, ()
    return tuple(i for i in bands if i not in dead), dead


def _dead_bands(src: rasterio.DatasetReader, bands: tuple[int, ...]) -> tuple[int, ...]:
    masked = tuple(i for i in bands if MaskFlags.nodata in src.mask_flag_enums[i - 1])
    alive: set[int] = set()
    for box in _spread_blocks(src) if masked else ():
        try:
            masks = src.read_masks(list(masked), window=box)
        except RasterioError:
            continue
        alive.update(np.array(masked)[masks.reshape(len(masked), -1).any(axis=1)].tolist())
    return tuple(i for i in masked if i not in alive)


def _spread_blocks(src: rasterio.DatasetReader) -> Iterator[RioWindow]:
    """Up to `SURVEY_BLOCKS` blocks, evenly spread."""
    height, width = src.block_shapes[0]
    n_rows, n_cols = -(-src.height // height), -(-src.width // width)
    for i in np.unique(np.linspace(0, n_rows * n_cols - 1, min(n_rows * n_cols, SURVEY_BLOCKS)).astype(int)):
        row, col = divmod(int(i), n_cols)
        box = RioWindow(col * width, row * height, width, height)
        yield box.intersection(RioWindow(0, 0, src.width, src.height))
