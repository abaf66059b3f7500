"""Pixels as pictures inside the page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from geoanom.errors import InputError
from geoanom.layer.anomaly import LEVELS
from geoanom.layer.quicklook import NO_DATA
from geoanom.layer.styles import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.report.pixels import Crop
    from geoanom.layer.stretch import Look
    from geoanom.raster.scene import Scene

QUALITY = 78
"""Of WebP, where artefacts do not yet look like anomalies."""
MAX_HEATMAP_PX = 1024
HEATMAP_SLACK_PX = 0.01
"""How far a heatmap may lie off its place, in its own pixels."""
SHADES = 255
OPAQUE_FROM = 0.5
"""Score whose colour hides the scene; below, opacity falls with the score."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """The scores of a scene as a picture."""

    picture: str
    """A ``data:`` URI."""
    width: float
    """In pixels of the scene."""
    height: float
    """In pixels of the scene."""
    scores: NDArray[np.float64]
    """(n,) of the tiles."""


def picture_of(crop: Crop, look: Look) -> str:
    """A crop of the bands that a look shows as a ``data:`` URI."""
    rgb = look.rgb(crop.values)
    rgb[~crop.valid] = NO_DATA
    return _uri(Image.fromarray(rgb, "RGB"), "WEBP", quality=QUALITY, method=4)


def heatmap_of(path: Path, scene: Scene, stride: int | None) -> Heatmap:
    """The score band of a heatmap that geoanom wrote for this scene.

    Raises:
        InputError: it cannot be read, or is one of another scene.
    """
    try:
        with rasterio.open(path) as src:
            step = _step(src, scene, stride)
            if step is None:
                raise InputError(path, f"is no heatmap of {scene.name}", "give the one that the same run wrote")
            fewer = max(1, -(-max(src.height, src.width) // MAX_HEATMAP_PX), (stride or 1) // step)
            shape = (-(-src.height // fewer), -(-src.width // fewer))
            scores = src.read(1, out_shape=shape, resampling=Resampling.nearest).astype(np.float64)
            width, height = float(src.width * step), float(src.height * step)
    except (RasterioError, OSError) as error:
        raise InputError(path, f"cannot be read as a heatmap ({error})", "give a GeoTIFF that geoanom wrote") from error
    return Heatmap(picture=_shaded(scores), width=width, height=height, scores=scores[np.isfinite(scores)])


def _step(src: rasterio.DatasetReader, scene: Scene, stride: int | None) -> int | None:
    """Pixels of the scene along the side of one of the heatmap; None if it lies elsewhere."""
    ours, theirs = (math.hypot(place.a, place.d) for place in (scene.georef.transform, src.transform))
    guesses = [1, stride or 1, round(theirs / ours), round(scene.height / src.height), round(scene.width / src.width)]
    fitting = [n for n in guesses if n >= 1 and (-(-scene.height // n), -(-scene.width // n)) == (src.height, src.width)]
    return fitting[0] if fitting and _lies_on(src, scene, fitting[0]) else None


def _lies_on(src: rasterio.DatasetReader, scene: Scene, step: int) -> bool:
    georef = scene.georef
    if georef.is_pixel_space or georef.gcps:
        return src.crs is None or bool(georef.gcps)
    off = ~(georef.transform @ Affine.scale(step)) @ src.transform
    alike = np.allclose(off[:6], Affine.identity()[:6], atol=HEATMAP_SLACK_PX)
    return (
        alike and src.crs is not None and georef.crs is not None and CRS.from_user_input(src.crs).equals(georef.crs, ignore_axis_order=True)
    )


def _shaded(scores: NDArray[np.float64]) -> str:
    """Scores (row, col) in the colours of the levels, fainter where lower and clear where there are none."""
    known = np.isfinite(scores)
    shades = np.zeros(scores.shape, np.uint8)
    shades[known] = 1 + (np.clip(scores[known], 0, 1) * (SHADES - 1)).astype(np.uint8)
    picture = Image.fromarray(shades, "P")
    palette, opacity = zip(*(_shade(n) for n in range(SHADES + 1)), strict=True)
    picture.putpalette([part for colour in palette for part in colour])
    return _uri(picture, "PNG", optimize=True, transparency=bytes(opacity))


def _shade(n: int) -> tuple[tuple[int, int, int], int]:
    if n == 0:
        return (0, 0, 0), 0
    score = (n - 1) / (SHADES - 1)
    stops = [(least, _rgb(COLOURS[level])) for least, level in reversed(LEVELS)]
    places, colours = [place for place, _ in stops], np.array([colour for _, colour in stops], float)
    red, green, blue = (round(float(np.interp(score, places, colours[:, i]))) for i in range(3))
    return (red, green, blue), round(255 * min(1.0, score / OPAQUE_FROM))


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _uri(picture: Image.Image, kind: str, **options: object) -> str:
    memory = io.BytesIO()
    picture.save(memory, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(memory.getvalue()).decode()}"
