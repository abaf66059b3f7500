"""Where pixels lie on the Earth: affine transforms, ground control points, or no place at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import CRS, Geod, Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer, from_gcps
from shapely import transform as map_coordinates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

EARTH_RADIUS_M = 6_371_000.0
WGS84 = Geod(ellps="WGS84")

GroundPoint = tuple[float, float, float, float]
"""row, col, x, y of one ground control point."""


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """Maps pixel corners (col, row) to a CRS and to longitude and latitude."""

    crs_wkt: str | None
    """WKT 2 of the CRS; None in pixel space."""
    transform: Affine
    """Pixel corner (col, row) to (x, y); for ground control points their least-squares fit."""
    gcps: tuple[GroundPoint, ...] = ()
    """Ground control points, which then replace the transform; empty otherwise."""

    @property
    def is_pixel_space(self) -> bool:
        """True where no place on the Earth is known."""
        return self.crs_wkt is None

    @cached_property
    def crs(self) -> CRS | None:
        """The CRS; None in pixel space."""
        return None if self.crs_wkt is None else CRS.from_wkt(self.crs_wkt)

    def xy(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CRS coordinates of pixel corners; fractions are allowed."""
        if not self.gcps:
            x, y = self.transform * (cols, rows)
            return np.asarray(x, float), np.asarray(y, float)
        with GCPTransformer([_control_point(p) for p in self.gcps]) as transformer:
            x, y = transformer.xy(np.atleast_1d(rows), np.atleast_1d(cols), offset="ul")
        return np.asarray(x, float), np.asarray(y, float)

    def lonlat(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude on WGS 84, in degrees, of pixel corners."""
        lon, lat = self._to_wgs84.transform(*self.xy(cols, rows))
        return np.asarray(lon, float), np.asarray(lat, float)

    def geometry_lonlat(self, outline: BaseGeometry, step_px: float) -> BaseGeometry:
        """A pixel-space outline in longitude and latitude, its edges first cut to `step_px` so that they may curve.

        Longitudes of one geometry are kept continuous: across the 180th meridian they run beyond it.
        """

        def to_lonlat(points: NDArray[np.float64]) -> NDArray[np.float64]:
            lon, lat = self.lonlat(points[:, 0], points[:, 1])
            return np.column_stack([_continuous(lon), lat])

        return map_coordinates(outline.segmentize(step_px), to_lonlat)

    def resolution_m(self, height: int, width: int) -> float | None:
        """Geodesic side in metres of the pixel in the middle of the scene, as the root of its area; None in pixel space."""
        if self.is_pixel_space:
            return None
        col, row = width / 2, height / 2
        lon, lat = self.lonlat(np.array([col, col + 1, col + 1, col]), np.array([row, row, row + 1, row + 1]))
        area_m2, _ = WGS84.polygon_area_perimeter(lon, lat)
        return float(np.sqrt(abs(area_m2)))

    @cached_property
    def _to_wgs84(self) -> Transformer:
        return Transformer.from_crs(self.crs, CRS.from_epsg(4326), always_xy=True)


def from_control_points(points: tuple[GroundPoint, ...], crs_wkt: str) -> Georeference:
    """A georeference by ground control points."""
    return Georeference(crs_wkt=crs_wkt, transform=from_gcps([_control_point(p) for p in points]), gcps=points)


def is_of_the_earth(crs: CRS) -> bool:
    """False for the Moon, Mars and other bodies, judged by the ellipsoid (within 1 % of the Earth's)."""
    ellipsoid = crs.ellipsoid
    return ellipsoid is not None and abs(ellipsoid.semi_major_metre / EARTH_RADIUS_M - 1) < 0.01


def area_m2(polygon_lonlat: BaseGeometry) -> float:
    """Geodesic area on WGS 84 in square metres (Karney 2013, doi:10.1007/s00190-012-0578-z)."""
    area, _ = WGS84.geometry_area_perimeter(polygon_lonlat)
    return abs(area)


def _control_point(point: GroundPoint) -> GroundControlPoint:
    row, col, x, y = point
    return GroundControlPoint(row=row, col=col, x=x, y=y)


def _continuous(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes moved by whole turns so that none is more than half a turn from the first."""
    return lon - 360.0 * np.round((lon - lon[:1]) / 360.0)
