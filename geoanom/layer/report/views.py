"""The views of one scene that a page shows: the whole, every anomaly, the normal tiles, and the bands' distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geoanom.layer.quicklook import MAX_SIDE_PX
from geoanom.layer.report.pictures import picture_of
from geoanom.layer.report.pixels import Crop, Inside, Sample, fill
from geoanom.layer.stretch import composite_of, look_of
from geoanom.raster.grid import TileGrid, Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

THUMBNAIL_PX = 128
DEFAULT_SIDE_PX = 64
"""Of an anomaly's view, where the layer does not tell the size of its tiles."""
ROOM = 1.3
"""Side of an anomaly's view over the longest side of its outline."""


@dataclass(frozen=True)
class _Place:
    crop: Crop
    inside: Inside


class SceneViews:
    """Collects what is wanted, reads the scene once, and gives the views."""

    def __init__(self, scene: Scene, config: Config, tile_size: int | None, stride: int | None) -> None:
        """Want the whole scene."""
        self._scene, self._config, self._side = scene, config, tile_size or DEFAULT_SIDE_PX
        self._grid = TileGrid(height=scene.height, width=scene.width, size=tile_size, stride=stride) if tile_size and stride else None
        self._composite, self._dtype = composite_of(scene.bands, scene.name), scene.bands[0].dtype
        self._bands = self._composite.positions
        whole = Window(row_off=0, col_off=0, height=scene.height, width=scene.width)
        self._whole = Crop(whole, self._bands, self._dtype, MAX_SIDE_PX)
        self._sample = Sample(scene)
        self._places: list[_Place] = []
        self._tiles: dict[str, Crop] = {}

    def watch(self, outline: BaseGeometry) -> _Place:
        """Want the surroundings of an outline in pixel corners."""
        left, top, right, bottom = outline.bounds
        side = max(self._side, math.ceil(max(right - left, bottom - top) * ROOM))
        window = self._square((top + bottom) / 2, (left + right) / 2, side)
        place = _Place(Crop(window, self._bands, self._dtype, THUMBNAIL_PX), Inside(outline, self._scene))
        self._places.append(place)
        return place

    def watch_tile(self, row: int, col: int) -> str | None:
        """Want a tile; returns its key, or None for one that is not in the scene."""
        if self._grid is None or row >= self._grid.n_rows or col >= self._grid.n_cols:
            return None
        key = f"{row}:{col}"
        if key not in self._tiles:
            window = self._grid.window(row, col).within(self._scene.height, self._scene.width)
            self._tiles[key] = Crop(window, self._bands, self._dtype, THUMBNAIL_PX)
        return key

    def fill(self) -> None:
        """Read the scene.

        Raises:
            SceneError: it cannot be read.
        """
        parts = [part for place in self._places for part in (place.crop, place.inside)]
        fill([self._whole, self._sample, *parts, *self._tiles.values()], self._scene, self._config)
        self._look = look_of(self._composite, self._sample.usable[list(self._bands)])

    def quicklook(self) -> str:
        """The whole scene."""
        return self._picture(self._whole)

    def shown(self, place: _Place) -> dict[str, Any]:
        """The picture of an anomaly and the means of its bands."""
        means = place.inside.means
        profile = None if means is None else [float(f"{mean:.5g}") for mean in means]
        return {"view": self._view(place.crop), "means": profile}

    def tiles(self) -> dict[str, Any]:
        """The normal tiles by their keys."""
        return {key: self._view(crop) for key, crop in self._tiles.items()}

    def bands(self) -> list[dict[str, Any]]:
        """Names of the bands and the 1st, 50th and 99th percentile of each."""
        low, middle, high = self._sample.percentiles(1, 50, 99)
        rows = zip(self._scene.bands, low, middle, high, strict=True)
        return [
            {"name": band.name, "low": float(f"{a:.5g}"), "middle": float(f"{b:.5g}"), "high": float(f"{c:.5g}")} for band, a, b, c in rows
        ]

    def _view(self, crop: Crop) -> dict[str, Any]:
        window = crop.window
        return {"image": self._picture(crop), "window": [window.col_off, window.row_off, window.width, window.height]}

    def _picture(self, crop: Crop) -> str:
        return picture_of(crop, self._look)

    def _square(self, row: float, col: float, side: int) -> Window:
        """A square around a place, moved inward at the scene's edges."""
        height, width = min(side, self._scene.height), min(side, self._scene.width)
        top, left = (round(middle - length / 2) for middle, length in ((row, height), (col, width)))
        top, left = max(0, min(top, self._scene.height - height)), max(0, min(left, self._scene.width - width))
        return Window(row_off=top, col_off=left, height=height, width=width)
