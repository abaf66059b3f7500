"""Outlines around the globe: across 180 degrees, through a pole, around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import Polygon

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.raster.georef import Georeference

TURN_DEGREES = 10.0
"""Neighbouring points of an outline are less far apart in longitude, however near a pole it runs."""
POLE_DEGREES = 90.0 - 1e-9
"""Where all longitudes are one place; a tenth of a millimetre from the pole."""
CUTS = 40
"""How often an edge is halved to keep to `TURN_DEGREES`: beyond, it leads through the pole itself."""


def around_the_globe(outline: BaseGeometry, georef: Georeference, step_px: float) -> BaseGeometry | None:
    """An outline in longitudes from -180 to 180 and latitudes from -90 to 90, as one geometry on the plane that they span.

    Args:
        outline: Polygon or MultiPolygon in pixel corners (col, row).
        georef: not in pixel space.
        step_px: longest straight piece of an edge.

    Returns:
        Polygon or MultiPolygon; None if no part of it lies on the Earth.
    """
    parts = shapely.get_parts(shapely.segmentize(outline, step_px))
    placed = shapely.union_all([_polygon(part, georef) for part in parts])
    return None if placed.is_empty else placed


def _polygon(polygon: Polygon, georef: Georeference) -> BaseGeometry:
    holes = [_filled(shapely.get_coordinates(ring), georef) for ring in polygon.interiors]
    return shapely.difference(_filled(shapely.get_coordinates(polygon.exterior), georef), shapely.union_all(holes))


def _filled(ring: NDArray[np.float64], georef: Georeference) -> BaseGeometry:
    """What a ring (n, 2) of pixel corners, the last the first again, encloses on the globe."""
    lonlat = _placed(ring, georef)
    if len(lonlat) < 4:
        return Polygon()
    return _folded(shapely.make_valid(Polygon(_closed(_unwound(_with_meridians(lonlat))))))


def _placed(ring: NDArray[np.float64], georef: Georeference) -> NDArray[np.float64]:
    """The ring in longitude and latitude, its edges halved where longitudes turn fast, without what is off the Earth."""
    for _ in range(CUTS):
        lonlat = np.column_stack(georef.lonlat(ring[:, 0], ring[:, 1]))
        on_pole = np.abs(lonlat[:, 1]) >= POLE_DEGREES
        fast = np.abs(_turns(lonlat[:, 0])) > TURN_DEGREES
        fast &= ~(on_pole[1:] | on_pole[:-1])
        if not fast.any():
            break
        middle = (ring[:-1] + ring[1:]) / 2
        ring = np.insert(ring, np.flatnonzero(fast) + 1, middle[fast], axis=0)
    lonlat = lonlat[np.isfinite(lonlat).all(axis=1)]
    return lonlat if len(lonlat) == 0 or (lonlat[0] == lonlat[-1]).all() else np.append(lonlat, lonlat[:1], axis=0)


def _turns(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of neighbouring longitudes, the short way; NaN beside what is off the Earth."""
    with np.errstate(invalid="ignore"):
        return (np.diff(lon) + 180.0) % 360.0 - 180.0


def _with_meridians(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A vertex on a pole drawn as the edge that it is on the plane: up the meridian before it, and down the one after it."""
    on_pole = np.abs(ring[:-1, 1]) >= POLE_DEGREES
    alone = on_pole & ~np.roll(on_pole, 1) & ~np.roll(on_pole, -1)  # edges along a pole have longitudes of their own
    if not alone.any():
        return ring
    before, after = np.roll(ring[:-1, 0], 1), np.roll(ring[:-1, 0], -1)
    doubled = np.repeat(ring[:-1], 1 + alone, axis=0)
    second = np.flatnonzero(np.repeat(alone, 1 + alone))[1::2]
    doubled[second - 1, 0], doubled[second, 0] = before[alone], after[alone]
    return np.append(doubled, doubled[:1], axis=0)


def _unwound(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes that go on beyond 180 degrees instead of leaping."""
    return np.column_stack([ring[0, 0] + np.append(0.0, np.cumsum(_turns(ring[:, 0]))), ring[:, 1]])


def _closed(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring that leads around the globe, closed over the pole that it surrounds: the nearer one."""
    if abs(ring[-1, 0] - ring[0, 0]) < 180.0:
        return ring
    pole = np.copysign(90.0, ring[:, 1].mean())
    return np.append(ring, [[ring[-1, 0], pole], [ring[0, 0], pole]], axis=0)


def _folded(shape: BaseGeometry) -> BaseGeometry:
    """A shape whose longitudes go beyond 180 degrees, cut there and moved by whole turns."""
    west, _, east, _ = shape.bounds
    turns = range(round(np.floor((west + 180.0) / 360.0)), round(np.ceil((east + 180.0) / 360.0)))
    return shapely.union_all([_turn(shape, turn) for turn in turns])


def _turn(shape: BaseGeometry, turn: int) -> BaseGeometry:
    """The part of a shape in one turn around the globe, with longitudes from -180 to 180."""
    part = shapely.intersection(shape, shapely.box(360.0 * turn - 180.0, -90.0, 360.0 * turn + 180.0, 90.0))
    polygons = [piece for piece in shapely.get_parts(shapely.get_parts(part)) if isinstance(piece, Polygon)]  # of collections, too
    moved: BaseGeometry = shapely.transform(shapely.MultiPolygon(polygons), lambda points: points - (360.0 * turn, 0.0))
    return moved
