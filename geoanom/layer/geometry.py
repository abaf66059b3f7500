"""From pixel outlines to RFC 7946 geometries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import antimeridian
import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from geoanom.raster.georef import area_m2

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.raster.georef import Georeference

GRID_DEGREES = 1e-7
"""Seven decimals: about a centimetre."""
STEP_PX = 32.0
"""Longest straight piece of an edge, in pixels, before it is placed on the Earth."""


def to_rfc7946(outline: BaseGeometry, georef: Georeference) -> BaseGeometry | None:
    """An outline in longitude and latitude: split at the antimeridian, counter-clockwise, with at most seven decimals.

    Args:
        outline: Polygon or MultiPolygon in pixel corners (col, row).
        georef: in pixel space the outline stays as it is.

    Returns:
        Polygon or MultiPolygon; None if no part of it lies on the Earth.
    """
    if georef.is_pixel_space:
        return _right_handed(outline)
    placed = _finite_part(georef.geometry_lonlat(outline, STEP_PX))
    if placed is None:
        return None
    split = shapely.union_all([_split(polygon) for polygon in polygons_of(placed)])
    rounded = shapely.set_precision(split, GRID_DEGREES)
    return _right_handed(rounded if not rounded.is_empty else split)


def ground_area_m2(outline: BaseGeometry, georef: Georeference) -> float | None:
    """Geodesic area in square metres; None in pixel space or off the Earth."""
    if georef.is_pixel_space:
        return None
    placed = _finite_part(georef.geometry_lonlat(outline, STEP_PX))
    return None if placed is None else sum(area_m2(polygon) for polygon in polygons_of(placed))


def point_inside(outline: BaseGeometry, georef: Georeference) -> tuple[float, float] | None:
    """Longitude and latitude of a point inside an outline; None in pixel space or off the Earth."""
    if georef.is_pixel_space:
        return None
    point = shapely.point_on_surface(outline)
    lon, lat = georef.lonlat(np.array([point.x]), np.array([point.y]))
    if not (np.isfinite(lon[0]) and np.isfinite(lat[0])):
        return None
    return (float(lon[0]) + 180.0) % 360.0 - 180.0, float(lat[0])


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a polygon, a multipolygon or a collection."""
    return [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon)] if not isinstance(geometry, Polygon) else [geometry]


def _split(polygon: Polygon) -> BaseGeometry:
    """Cut a polygon whose longitudes may run beyond 180 degrees."""
    west, _, east, _ = polygon.bounds
    if west >= -180.0 and east <= 180.0:
        return polygon
    wrapped = shapely.transform(polygon, _wrap)
    fixed: Polygon | MultiPolygon = antimeridian.fix_polygon(wrapped, fix_winding=True)
    return fixed


def _wrap(points: NDArray[np.float64]) -> NDArray[np.float64]:
    lon = points[:, 0]
    return np.column_stack([np.where(np.abs(lon) > 180.0, (lon + 180.0) % 360.0 - 180.0, lon), points[:, 1]])


def _finite_part(geometry: BaseGeometry) -> BaseGeometry | None:
    """The geometry without the points that its CRS cannot place."""
    if np.isfinite(shapely.get_coordinates(geometry)).all():
        return geometry
    rings = [[c for c in polygon.exterior.coords if np.isfinite(c).all()] for polygon in polygons_of(geometry)]
    parts = [shapely.make_valid(Polygon(ring)) for ring in rings if len(set(ring)) > 2]
    return shapely.union_all(parts) if parts else None


def _right_handed(geometry: BaseGeometry) -> BaseGeometry:
    """Only polygons, exteriors counter-clockwise, in the smallest type that holds them."""
    parts = [shapely.orient_polygons(polygon) for polygon in polygons_of(geometry)]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
