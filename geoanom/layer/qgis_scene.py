"""How a scene looks on the screen, told by an even sample of its windows, whatever its size."""

from __future__ import annotations

from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError

from geoanom.errors import InputError
from geoanom.layer.qgis_place import PACIFIC, across_180
from geoanom.layer.stretch import composite_of, look_of
from geoanom.raster.fill import fill_matches
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.qgis_raster import Stretch
    from geoanom.raster.scene import Pixels, Scene

WINDOWS = 6
"""Windows along each side of a scene."""
SIDE_PX = 192


def stretches(scene: Scene) -> list[Stretch]:
    """The bands to show and what becomes black and white in them, as in all pictures, but linear, since QGIS bends no shades.

    Returns:
        Red, green and blue, or one for grey. Two polarizations are red and green, and the first is blue again, as QGIS forms no ratio.

    Raises:
        SceneError: the scene cannot be read.
    """
    composite = composite_of(scene.bands, scene.name)
    with closing(scene.open_handle()) as handle:
        values = np.concatenate([_usable(handle.read(window), scene.fill, composite.positions) for window in windows(scene)], axis=1)
    limits = [_distinct(stretch.low, stretch.high) for stretch in look_of(composite, values).stretches]
    numbers = [scene.bands[i].index for i in composite.positions]
    if composite.is_ratio:
        numbers, limits = [*numbers, numbers[0]], [*limits[:2], limits[0]]
    return [(number, *limit) for number, limit in zip(numbers, limits, strict=True)]


def windows(scene: Scene) -> list[Window]:
    """Evenly spread windows, all of a small scene."""
    rows, height = _starts(scene.height)
    cols, width = _starts(scene.width)
    return [Window(row_off=row, col_off=col, height=height, width=width) for row, col in product(rows, cols)]


def alpha_band(path: Path) -> int | None:
    """1-based number of a file's alpha band, if it has one."""
    with rasterio.open(path) as src:
        return src.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in src.colorinterp else None


def crs_of(raster: Path, project: CRS | None = None) -> CRS:
    """The CRS in which a project with its CRS places a raster: its own, or that of its ground control points.

    Raises:
        InputError: it cannot be read, or has none.
    """
    try:
        with rasterio.open(raster) as src:
            found, (middle, _) = src.crs or src.gcps[1], src.transform @ (src.width / 2, src.height / 2)
    except RasterioIOError as error:
        raise InputError(raster, "is not a readable raster", "check the path, or write it again") from error
    if not found:
        raise InputError(raster, "has no CRS, and a map cannot place it", "leave it out")
    crs = CRS.from_wkt(found.to_wkt())
    return across_180(middle) if project == PACIFIC and crs.is_geographic else crs


def _starts(length: int) -> tuple[list[int], int]:
    """First pixels of the windows along a side, and their length."""
    side = min(SIDE_PX, length)
    n_windows = min(WINDOWS, -(-length // side))
    return [int(start) for start in np.linspace(0, length - side, n_windows).round()], side


def _usable(pixels: Pixels, fill: tuple[float, ...] | None, bands: tuple[int, ...]) -> NDArray[np.float64]:
    """(band, n) of the usable pixels."""
    valid = pixels.valid if fill is None else pixels.valid & ~fill_matches(pixels.values, fill)[0]
    return pixels.values[list(bands)][:, valid].astype(np.float64)


def _distinct(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + 1.0)
