"""Which CRS and which view a project of a layer starts with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geoanom.layer.geojson import Extent
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoanom.layer.features import Features
    from geoanom.raster.scene import Scene

WGS84 = CRS.from_epsg(4326)
PACIFIC = CRS.from_epsg(3832)
"""WGS 84 / PDC Mercator, which runs through 180 degrees, where maps in degrees end."""
HALF_TURN_M = 20037508.342789244
DEGREE_M = HALF_TURN_M / 180
MERCATOR_LATITUDE = 85.0
"""Mercator's maps end about here."""
ROOM = 0.05
"""Margin of the first view, over its sides."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def place_of(features: Features, scene: Scene | None) -> tuple[CRS, Bounds | None]:
    """The project's CRS, and the bounds of the first view in it, None where nothing has a place.

    The CRS is that of the scene that is shown, else the one that all scenes of the layer share, else longitude and latitude; where such
    degrees would end inside the view, it is the Pacific's Mercator.
    """
    grids = [(scene.georef, scene.height, scene.width)] if scene else _grids(features)
    systems = {georef.crs for georef, _, _ in grids}
    crs = systems.pop() if len(systems) == 1 else None
    around = _around(features)
    if around and around[0] > around[2] and (crs is None or crs.is_geographic):
        return PACIFIC, _roomy(_projected(around, PACIFIC))
    if crs is None:
        return WGS84, _roomy(_projected(around, WGS84) if around else None)
    return crs, _roomy(_union([_corners(*grid) for grid in grids]))


def across_180(middle: float) -> CRS:
    """Longitude and latitude for a raster that runs beyond 180 degrees, of which QGIS draws nothing there otherwise.

    A plane map of a sphere, whose unit is a degree, so that a place has the numbers that it has in degrees.

    Args:
        middle: of the raster, in degrees; tells whether it runs beyond 180 or -180.
    """
    side = HALF_TURN_M if middle > 0 else -HALF_TURN_M
    return CRS.from_proj4(f"+proj=eqc +lon_0=180 +x_0={side} +R={HALF_TURN_M / math.pi} +to_meter={DEGREE_M} +no_defs +type=crs")


def _grids(features: Features) -> list[tuple[Georeference, int, int]]:
    """Place, height and width of the layer's scenes; nothing where one of them does not tell."""
    grids = [_grid(entry) for entry in features.provenance.get("scenes", ())]
    known = [grid for grid in grids if grid is not None]
    return known if len(known) == len(grids) else []


def _grid(entry: Mapping[str, Any]) -> tuple[Georeference, int, int] | None:
    if not entry.get("crs") or not entry.get("transform"):
        return None
    try:
        crs = CRS.from_user_input(entry["crs"])
        height, width = map(int, entry["shape"])
        place = Affine(*map(float, entry["transform"]))
    except (CRSError, LookupError, TypeError, ValueError, OverflowError):
        return None
    return (Georeference(crs_wkt=crs.to_wkt(), transform=place), height, width) if np.isfinite(place[:6]).all() else None


def _corners(georef: Georeference, height: int, width: int) -> Bounds:
    x, y = georef.xy(np.array([0.0, width, width, 0.0]), np.array([0.0, 0.0, height, height]))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _around(features: Features) -> list[float]:
    """West, south, east, north of the scenes, or of the anomalies where no scene tells; west > east across 180 degrees."""
    extent = Extent()
    for group in [list(features.scenes)] if features.scenes else features.groups():
        extent.add(feature.geometry for feature in group)
    return extent.bbox(in_pixels=False)


def _projected(around: Sequence[float], crs: CRS) -> Bounds:
    west, south, east, north = around
    low, high = (float(np.clip(lat, -MERCATOR_LATITUDE, MERCATOR_LATITUDE)) if crs is PACIFIC else lat for lat in (south, north))
    (left, right), (bottom, top) = Transformer.from_crs(WGS84, crs, always_xy=True).transform([west, east], [low, high])
    return left, bottom, right, top


def _union(bounds: Sequence[Bounds]) -> Bounds | None:
    if not bounds:
        return None
    left, bottom, right, top = zip(*bounds, strict=True)
    return min(left), min(bottom), max(right), max(top)


def _roomy(bounds: Bounds | None) -> Bounds | None:
    if bounds is None:
        return None
    left, bottom, right, top = bounds
    room = ROOM * max(right - left, top - bottom, 1e-6)
    return left - room, bottom - room, right + room, top + room
