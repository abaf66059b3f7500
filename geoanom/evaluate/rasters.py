"""Heatmaps and masks, read through the checks that scenes pass."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from geoanom.config import Config, Sources
from geoanom.evaluate.grid import Grid, Raster
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.registry import SOURCES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.raster.scene import Pixels, Scene

log = logging.getLogger(__name__)


def read_heatmap(path: Path) -> Raster:
    """The scores of a heatmap that geoanom wrote.

    Raises:
        InputError: it cannot be read.
    """
    scene, pixels = _read(path, bands=(1,))
    values = pixels.values[0].astype(np.float32)
    values[~pixels.valid] = np.nan
    return Raster(grid=_grid(scene, _stride_of(path) if scene.georef.is_pixel_space else scene.georef), values=values)


def read_mask(path: Path) -> tuple[Grid, NDArray[np.int8]]:
    """A mask's grid and its labels (row, col): 1 = anomaly (any band is not zero), 0 = normal, -1 = not labelled.

    Nodata, NaN and negative values are not labelled.

    Raises:
        InputError: it cannot be read.
    """
    scene, pixels = _read(path, bands=None)
    for warning in scene.warnings if not scene.georef.is_pixel_space else ():
        log.warning("%s: %s", path, warning)
    labels = (pixels.values != 0).any(axis=0).astype(np.int8)
    labels[~pixels.valid | np.less(pixels.values, 0).any(axis=0)] = -1
    return _grid(scene, scene.georef), labels


def _read(path: Path, bands: tuple[int, ...] | None) -> tuple[Scene, Pixels]:
    scene: Scene = SOURCES.load("geotiff")(str(path), Config(bands=bands, sources=Sources(pixel_space=True)))
    handle = scene.open_handle()
    try:
        pixels = handle.read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))
    finally:
        handle.close()
    if pixels.damaged_blocks:
        log.warning("%s: %d blocks cannot be decoded and are left out", path, len(pixels.damaged_blocks))
    return scene, pixels


def _grid(scene: Scene, georef: Georeference) -> Grid:
    """The scene's grid; for ground control points by their least-squares fit, which unlike the polynomial can be inverted."""
    place = Georeference(crs_wkt=georef.crs_wkt, transform=georef.transform)
    return Grid(height=scene.height, width=scene.width, georef=place)


def _stride_of(path: Path) -> Georeference:
    """Where a heatmap in pixel space lies in its scene's pixels."""
    with rasterio.open(path) as src:
        return Georeference(crs_wkt=None, transform=src.transform)
