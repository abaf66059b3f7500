"""The heatmap: a Cloud Optimized GeoTIFF with one pixel per tile core, in the scene's own CRS."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geoanom.errors import OutputError, one_line
from geoanom.layer.atomic import atomic_file
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.georef import Georeference

COG_OPTIONS = {"driver": "COG", "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": 256, "OVERVIEW_RESAMPLING": "AVERAGE"}


BANDS = {
    "score": "anomaly score of a tile's core: 0 is usual, 1 is a p-value of 1e-10 or less",
    "pixel_error": "error of a pixel's reconstruction; larger is less usual",
}
"""Band to what it tells."""
ONE = "1"
"""The unit of what has none (UDUNITS)."""


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A heatmap before it is written."""

    height: int
    width: int
    place: Mapping[str, Any]
    """Transform or ground control points, and the CRS, as rasterio takes them."""
    bands: tuple[str, ...]
    """Names among `BANDS`."""
    about: Mapping[str, str]
    """What the file's tags say of scene and run."""
    n_scored: int | None
    """Pixels with a score; None if they are not counted."""
    strips: Callable[[], Iterator[tuple[RioWindow, NDArray[np.float32]]]] = field(repr=False)
    """All values (band, row, col), each with its window."""


def write_heatmap(scores: ScoreMap, path: Path) -> None:
    """Write the scores, and the pixel errors where they exist, as float32 bands with nodata NaN.

    Without pixel errors a pixel is a core, so its side is the stride; with them it is a pixel of the scene.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    grid, step = scores.grid, 1 if scores.pixel_errors else scores.grid.stride
    heat = Heat(
        height=-(-grid.height // step),
        width=-(-grid.width // step),
        place=placed(scores.scene.georef, step),
        bands=("score", "pixel_error") if scores.pixel_errors else ("score",),
        about=_about(scores),
        n_scored=None if scores.pixel_errors else len(scores),
        strips=partial(_strips, scores),
    )
    write_cog(heat, path)


def write_cog(heat: Heat, path: Path) -> None:
    """Write a heatmap as a Cloud Optimized GeoTIFF, with overviews where it is larger than a block, and with its bands' statistics.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    try:
        with atomic_file(path) as temporary:
            plain = temporary.with_suffix(".plain.tif")
            _write_plain(heat, plain)
            rasterio.shutil.copy(plain, temporary, **COG_OPTIONS)
            _verify(heat, temporary, path)
    except RasterioError as error:
        raise OutputError(path, f"could not be written ({error})", "check the disk's space and permissions") from error


def _about(scores: ScoreMap) -> dict[str, str]:
    scene, grid = scores.scene, scores.grid
    when = {} if scene.datetime is None else {"ACQUISITION_DATETIME": scene.datetime}
    return about(scene.name, scene.digest, grid.stride, TILE_SIZE=str(grid.size), **when)


def about(scene: str, digest: str, stride: int, **more: str) -> dict[str, str]:
    """A heatmap's tags: of what it is, which scene it shows, and how many pixels of it lie along a tile's core."""
    title = {"TIFFTAG_IMAGEDESCRIPTION": "geoanom heatmap", "TIFFTAG_SOFTWARE": f"geoanom {version('geoanom')}"}
    return {**title, "SCENE": one_line(scene), "SCENE_DIGEST": digest, "STRIDE": str(stride), **more}


def _strips(scores: ScoreMap) -> Iterator[tuple[RioWindow, NDArray[np.float32]]]:
    """The rows of the grid, or the rows of pixels that belong to each of them."""
    grid = scores.grid
    values = scores.on_grid(scores.score).astype(np.float32) + np.float32(0.0)  # no negative zeros
    if scores.pixel_errors is None:
        yield RioWindow(0, 0, grid.n_cols, grid.n_rows), values[None]
        return
    for row in range(grid.n_rows):
        core = grid.core(row, 0)
        strip = Window(row_off=core.row_off, col_off=0, height=core.height, width=grid.width)
        line = np.broadcast_to(np.repeat(values[row], grid.stride)[: grid.width], (strip.height, strip.width))
        yield RioWindow(0, strip.row_off, strip.width, strip.height), np.stack([line, scores.pixel_errors.read(strip)])


def _write_plain(heat: Heat, path: Path) -> None:
    size = {"height": heat.height, "width": heat.width, "count": len(heat.bands)}
    profile = {"driver": "GTiff", "dtype": "float32", "nodata": np.nan, "BIGTIFF": "IF_SAFER", **size, **heat.place}
    statistics = [Statistics() for _ in heat.bands]
    with rasterio.open(path, "w", **profile) as dst:
        for window, values in heat.strips():
            dst.write(values, window=window)
            for each, band in zip(statistics, values, strict=True):
                each.add(band)
        dst.descriptions, dst.units = heat.bands, [ONE] * len(heat.bands)
        dst.update_tags(**heat.about)
        for i, (name, each) in enumerate(zip(heat.bands, statistics, strict=True), 1):
            dst.update_tags(i, LONG_NAME=BANDS[name], **each.tags())


class Statistics:
    """Of values that come in parts, in float64, merged without loss (Chan, Golub, LeVeque 1983, doi:10.1080/00031305.1983.10483115)."""

    def __init__(self) -> None:
        """Of nothing."""
        self.n_all = self.n = 0
        self.least, self.most, self.mean, self._squares = np.inf, -np.inf, 0.0, 0.0

    def add(self, values: NDArray[np.floating]) -> None:
        """Take more values in; NaN counts as missing."""
        known = values[np.isfinite(values)].astype(np.float64)
        self.n_all += values.size
        if not known.size:
            return
        mean, n = float(known.mean()), self.n + known.size
        away = mean - self.mean
        self._squares += float(((known - mean) ** 2).sum()) + away**2 * self.n * known.size / n
        self.mean += away * known.size / n
        self.least, self.most, self.n = min(self.least, float(known.min())), max(self.most, float(known.max())), n

    @property
    def deviation(self) -> float:
        """Standard deviation of the values, as of a whole population."""
        return math.sqrt(self._squares / self.n) if self.n else math.nan

    def tags(self) -> dict[str, str]:
        """As GDAL keeps them in a file, so that no program needs to read the pixels for them; where all is missing, only that."""
        share = {"STATISTICS_VALID_PERCENT": f"{100 * self.n / self.n_all:.4g}"}
        if not self.n:
            return share
        values = {"MINIMUM": self.least, "MAXIMUM": self.most, "MEAN": self.mean, "STDDEV": self.deviation}
        return {f"STATISTICS_{name}": f"{value + 0.0:.17g}" for name, value in values.items()} | share


def placed(georef: Georeference, step: int) -> dict[str, Any]:
    """Transform or ground control points of a raster whose pixels are `step` scene pixels wide."""
    if georef.is_pixel_space:
        return {"transform": Affine.scale(step)} if step > 1 else {}  # an identity transform is taken for a mistake
    if georef.gcps:
        points = [GroundControlPoint(row=r / step, col=c / step, x=x, y=y) for r, c, x, y in georef.gcps]
        return {"gcps": points, "crs": georef.crs_wkt}
    return {"transform": georef.transform @ Affine.scale(step), "crs": georef.crs_wkt}


def _verify(heat: Heat, written: Path, path: Path) -> None:
    """Read every block back: GDAL reports a full disk only here."""
    with rasterio.open(written) as src:
        n_scored = 0
        for _, window in src.block_windows(1):
            n_scored += int(np.isfinite(src.read(1, window=window)).sum())
        if heat.n_scored is not None and n_scored != heat.n_scored:
            raise OutputError(path, f"reads back {n_scored} of {heat.n_scored} scores", "check the disk")
