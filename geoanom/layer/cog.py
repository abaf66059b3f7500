"""The heatmap: a Cloud Optimized GeoTIFF with one pixel per tile core, in the scene's own CRS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.georef import Georeference

COG_OPTIONS = {"driver": "COG", "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": 256, "OVERVIEW_RESAMPLING": "AVERAGE"}


def write_heatmap(scores: ScoreMap, path: Path) -> None:
    """Write the scores, and the pixel errors where they exist, as float32 bands with nodata NaN.

    Without pixel errors a pixel is a core, so its side is the stride; with them it is a pixel of the scene.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    try:
        with atomic_file(path) as temporary:
            plain = temporary.with_suffix(".plain.tif")
            _write_plain(scores, plain)
            rasterio.shutil.copy(plain, temporary, **COG_OPTIONS)
            _verify(scores, temporary, path)
    except RasterioError as error:
        raise OutputError(path, f"could not be written ({error})", "check the disk's space and permissions") from error


def _write_plain(scores: ScoreMap, path: Path) -> None:
    grid, step = scores.grid, 1 if scores.pixel_errors else scores.grid.stride
    height, width = -(-grid.height // step), -(-grid.width // step)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 2 if scores.pixel_errors else 1,
        "height": height,
        "width": width,
        "nodata": np.nan,
        "BIGTIFF": "IF_SAFER",
        **_place(scores.scene.georef, step),
    }
    field = scores.on_grid(scores.score).astype(np.float32)
    with rasterio.open(path, "w", **profile) as dst:
        dst.descriptions = ("score", "pixel_error")[: profile["count"]]
        if scores.pixel_errors is None:
            dst.write(field, 1)
            return
        for row in range(grid.n_rows):
            core = grid.core(row, 0)
            line = np.repeat(field[row], grid.stride)[: grid.width]
            box = RioWindow(0, core.row_off, grid.width, core.height)
            dst.write(np.broadcast_to(line, (core.height, grid.width)), 1, window=box)
            strip = Window(row_off=core.row_off, col_off=0, height=core.height, width=grid.width)
            dst.write(scores.pixel_errors.read(strip), 2, window=box)


def _place(georef: Georeference, step: int) -> dict[str, Any]:
    """Transform or ground control points of a raster whose pixels are `step` scene pixels wide."""
    if georef.is_pixel_space:
        return {"transform": Affine.scale(step)} if step > 1 else {}  # an identity transform is taken for a mistake
    if georef.gcps:
        points = [GroundControlPoint(row=r / step, col=c / step, x=x, y=y) for r, c, x, y in georef.gcps]
        return {"gcps": points, "crs": georef.crs_wkt}
    return {"transform": georef.transform @ Affine.scale(step), "crs": georef.crs_wkt}


def _verify(scores: ScoreMap, written: Path, path: Path) -> None:
    """Read every block back: GDAL reports a full disk only here."""
    with rasterio.open(written) as src:
        n_scored = 0
        for _, window in src.block_windows(1):
            n_scored += int(np.isfinite(src.read(1, window=window)).sum())
        if src.count == 1 and n_scored != len(scores):
            raise OutputError(path, f"reads back {n_scored} of {len(scores)} scores", "check the disk")
