"""The plane of the page's map: the scene's own pixels, or metres around the anomalies where there is no scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from pyproj import CRS, Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer
from shapely.errors import GEOSException

from geoanom.layer.geometry import polygons_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.features import Features
    from geoanom.raster.georef import Georeference
    from geoanom.raster.scene import Scene

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom."""
WGS84 = CRS.from_epsg(4326)
MARGIN = 0.08
"""Empty share on each side of a map without a scene."""
LEAST_SIDE = 100.0
"""Metres or pixels that such a map shows at least."""
NORTHWARD_DEGREES = 1e-4
POLAR_DEGREES = 89.99
MOST_POINTS = 1500
"""Outlines of more points are simplified."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The map's plane: x to the right, y down."""

    bounds: Bounds
    metres_per_unit: float | None
    """None where no place on the Earth is known."""
    north_degrees: float | None
    """Direction of north, clockwise from up."""
    project: Callable[[NDArray[np.float64]], NDArray[np.float64]] = field(repr=False)
    """Coordinates (n, 2) of the layer to x and y."""

    def place(self, geometry: BaseGeometry | None) -> BaseGeometry | None:
        """A geometry of the layer in the plane, whole again where the antimeridian had cut it; None where it cannot be placed."""
        if geometry is None or geometry.is_empty:
            return None
        placed = shapely.transform(geometry, self.project)
        if not np.isfinite(shapely.get_coordinates(placed)).all():
            return None
        return placed if placed.geom_type == "Point" else _joined(placed)


def scene_frame(scene: Scene) -> Frame:
    """The pixels of a scene."""
    georef, centre = scene.georef, (scene.width / 2, scene.height / 2)
    bounds = (0.0, 0.0, float(scene.width), float(scene.height))
    if georef.is_pixel_space:
        return Frame(bounds=bounds, metres_per_unit=None, north_degrees=None, project=lambda points: points)
    transformer = Transformer.from_crs(WGS84, georef.crs, always_xy=True)
    middle_x = float(georef.xy(*(np.array([c]) for c in centre))[0][0])

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = transformer.transform(points[:, 0], points[:, 1])
        if georef.crs is not None and georef.crs.is_geographic:
            x = x + 360.0 * np.round((middle_x - x) / 360.0)
        return _pixels(georef, np.asarray(x), np.asarray(y))

    north = _north(project, *(float(v[0]) for v in georef.lonlat(*(np.array([c]) for c in centre))))
    return Frame(bounds=bounds, metres_per_unit=scene.resolution_m, north_degrees=north, project=project)


def free_frame(features: Features, geometries: Sequence[BaseGeometry | None]) -> Frame:
    """The plane of a layer whose scene is not there: metres by Lambert's azimuthal equal-area projection, or the layer's pixels."""
    points = shapely.get_coordinates([g for g in geometries if g is not None])
    points = points[np.isfinite(points).all(axis=1)]
    if features.in_pixels or not len(points):
        return Frame(bounds=_bounds(points), metres_per_unit=None, north_degrees=None, project=lambda points: points)
    lon, lat = _middle(points)
    plane = CRS.from_dict({"proj": "laea", "lon_0": lon, "lat_0": lat, "datum": "WGS84"})
    transformer = Transformer.from_crs(WGS84, plane, always_xy=True)

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = transformer.transform(points[:, 0], points[:, 1])
        return np.column_stack([x, -np.asarray(y)])

    placed = project(points)
    return Frame(bounds=_bounds(placed[np.isfinite(placed).all(axis=1)]), metres_per_unit=1.0, north_degrees=0.0, project=project)


def path_of(geometry: BaseGeometry) -> str:
    """A placed geometry in the language of SVG's paths, to a tenth of a unit."""
    n_points = shapely.get_num_coordinates(geometry)
    if n_points > MOST_POINTS:
        geometry = geometry.simplify(math.sqrt(geometry.area) / 200)
    rings = [ring for polygon in polygons_of(geometry) for ring in (polygon.exterior, *polygon.interiors)]
    return "".join(
        "M" + " ".join(f"{x:.1f},{y:.1f}".replace(".0", "") for x, y in np.round(ring.coords[:-1], 1) + 0.0) + "Z" for ring in rings
    )


def _pixels(georef: Georeference, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns and rows (n, 2) of places in the scene's CRS."""
    if georef.gcps:
        points = [GroundControlPoint(row=row, col=col, x=px, y=py) for row, col, px, py in georef.gcps]
        with GCPTransformer(points) as by_points:
            rows, cols = by_points.rowcol(x, y, op=lambda value: value)
        return np.column_stack([cols, rows])
    a, b, c, d, e, f = (~georef.transform)[:6]
    with np.errstate(invalid="ignore"):  # places that the CRS does not know
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def _joined(geometry: BaseGeometry) -> BaseGeometry | None:
    try:
        whole = shapely.union_all([shapely.make_valid(polygon) for polygon in polygons_of(geometry)])
    except GEOSException:
        return None
    return None if whole.is_empty else whole


def _middle(points: NDArray[np.float64]) -> tuple[float, float]:
    """Longitude and latitude of the middle of some places, by their mean direction from the Earth's centre."""
    lon, lat = np.radians(points).T
    x, y, z = (float(v.mean()) for v in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


def _north(project: Callable[[NDArray[np.float64]], NDArray[np.float64]], lon: float, lat: float) -> float | None:
    if not abs(lat) < POLAR_DEGREES:
        return None  # all directions are alike
    here, there = project(np.array([[lon, lat], [lon, lat + NORTHWARD_DEGREES]]))
    degrees = math.degrees(math.atan2(there[0] - here[0], here[1] - there[1]))
    return round(degrees, 1) if math.isfinite(degrees) else None


def _bounds(points: NDArray[np.float64]) -> Bounds:
    """A box around points with room on every side."""
    if not len(points):
        return (0.0, 0.0, LEAST_SIDE, LEAST_SIDE)
    low, high = points.min(axis=0), points.max(axis=0)
    half: NDArray[np.float64] = np.maximum((high - low) * (0.5 + MARGIN), LEAST_SIDE / 2)
    (left, top), (right, bottom) = ((low + high) / 2 - half).tolist(), ((low + high) / 2 + half).tolist()
    return left, top, right, bottom
