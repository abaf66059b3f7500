"""From pixel outlines to RFC 7946 geometries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import Polygon

from geoanom.layer.globe import POLE_DEGREES, TURN_DEGREES, around_the_globe
from geoanom.raster.georef import area_m2

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.raster.georef import Georeference

GRID_DEGREES = 1e-7
"""Seven decimals: about a centimetre."""
STEP_PX = 32.0
"""Longest straight piece of an edge, in pixels, before it is placed on the Earth."""
BENT_PX = 600.0
"""The same over the root of a pixel's metres: a line straight on a map bends by a tenth of a pixel at 85 degrees of latitude."""


def to_rfc7946(outline: BaseGeometry, georef: Georeference) -> BaseGeometry | None:
    """An outline in longitude and latitude: split at the antimeridian, counter-clockwise, with at most seven decimals.

    Args:
        outline: Polygon or MultiPolygon in pixel corners (col, row).
        georef: in pixel space the outline stays as it is.

    Returns:
        Polygon or MultiPolygon; None if no part of it lies on the Earth.
    """
    placed: BaseGeometry | None = all_to_rfc7946(np.array([outline], object), georef)[0]
    return placed


def all_to_rfc7946(outlines: NDArray[np.object_], georef: Georeference) -> NDArray[np.object_]:
    """The same for many outlines (n,) at once; only those at 180 degrees, at a pole or off the Earth are looked at one by one."""
    if georef.is_pixel_space:
        return _right_handed(outlines)
    placed = shapely.segmentize(outlines, step_px(georef))
    points, owner = shapely.get_coordinates(placed, return_index=True)
    lonlat = np.column_stack(georef.lonlat(points[:, 0], points[:, 1]))
    odd = np.zeros(len(outlines), bool)
    odd[owner[_is_odd(lonlat, owner)]] = True
    placed[~odd] = _unbroken(shapely.set_coordinates(placed[~odd], lonlat[~odd[owner]]))
    placed[odd] = [around_the_globe(outline, georef, step_px(georef)) for outline in outlines[odd]]
    return _right_handed(_rounded(placed))


def step_px(georef: Georeference) -> float:
    """Longest straight piece of an edge; shorter where a pixel is so wide that the piece would bend, or lead half around the Earth."""
    a, b, _, d, e, _ = georef.transform[:6]
    side = float(max(map(abs, (a, b, d, e))))
    if georef.crs is None or not side:
        return STEP_PX
    if georef.crs.is_geographic:
        return min(STEP_PX, TURN_DEGREES / side)
    metres: float = side * georef.crs.axis_info[0].unit_conversion_factor
    halvings = math.ceil(math.log2(max(1.0, STEP_PX * math.sqrt(metres) / BENT_PX)))  # so that edges of tiles and scenes are cut alike
    return float(STEP_PX / 2**halvings)


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


def _is_odd(lonlat: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Points (n,) that are beyond 180 degrees, at a pole, off the Earth, or followed by a leap in longitude."""
    with np.errstate(invalid="ignore"):
        leap = (np.abs(np.diff(lonlat[:, 0])) > TURN_DEGREES) & (np.diff(owner) == 0)
    known = (np.abs(lonlat[:, 0]) <= 180.0) & (np.abs(lonlat[:, 1]) < POLE_DEGREES)
    known[:-1] &= ~leap
    return np.logical_not(known)


def _rounded(placed: NDArray[np.object_]) -> NDArray[np.object_]:
    """Coordinates with seven decimals, where a geometry is large enough for them; what they would break is noded anew."""
    rounded = shapely.transform(placed, lambda points: points.round(7) + 0.0)
    whole = shapely.is_valid(rounded) | shapely.is_missing(placed)
    rounded[whole] = shapely.remove_repeated_points(rounded[whole])
    rounded[~whole] = shapely.set_precision(placed[~whole], GRID_DEGREES)
    return np.where(shapely.is_empty(rounded), placed, rounded)


def _unbroken(placed: NDArray[np.object_]) -> NDArray[np.object_]:
    """Parts of one outline that share more than corners once they are placed, joined."""
    several = shapely.get_num_geometries(placed) > 1
    placed[several] = [shapely.union_all(shapely.get_parts(shape)) for shape in placed[several]]
    return placed


def _finite_part(geometry: BaseGeometry) -> BaseGeometry | None:
    """The geometry without the points that its CRS cannot place."""
    if np.isfinite(shapely.get_coordinates(geometry)).all():
        return geometry
    rings = [[c for c in polygon.exterior.coords if np.isfinite(c).all()] for polygon in polygons_of(geometry)]
    parts = [shapely.make_valid(Polygon(ring)) for ring in rings if len(set(ring)) > 2]
    return shapely.union_all(parts) if parts else None


def _right_handed(placed: NDArray[np.object_]) -> NDArray[np.object_]:
    """Exteriors counter-clockwise, in the smallest type that holds them."""
    turned = shapely.orient_polygons(placed)
    one = (shapely.get_type_id(turned) == shapely.GeometryType.MULTIPOLYGON) & (shapely.get_num_geometries(turned) == 1)
    return np.where(one, shapely.get_geometry(turned, 0), turned)
