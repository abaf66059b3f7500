"""Where pixels lie on the Earth: affine transforms, ground control points, or no place at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pyproj import CRS, Geod, Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer, from_gcps
from shapely import transform as map_coordinates

if TYPE_CHECKING:
    from affine import Affine
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

    @property
    def crs_name(self) -> str | None:
        """The CRS as ``EPSG:32618`` where a register has it, else as WKT 2; None in pixel space."""
        if self.crs is None:
            return None
        registered = self.crs.to_authority(min_confidence=100)
        return self.crs_wkt if registered is None else ":".join(registered)

    def xy(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CRS coordinates of pixel corners; fractions are allowed."""
        if not self.gcps:
            a, b, c, d, e, f = self.transform[:6]
            return a * cols + b * rows + c, d * cols + e * rows + f
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
        """Geodesic side in metres of the pixel in the middle of the scene, as the root of its area; None where it has no place."""
        if self.is_pixel_space:
            return None
        col, row = width / 2, height / 2
        lon, lat = self.lonlat(np.array([col, col + 1, col + 1, col]), np.array([row, row, row + 1, row + 1]))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None  # a full-disk image may look past the Earth's limb
        area, _ = WGS84.polygon_area_perimeter(lon, lat)
        return float(np.sqrt(abs(area)))

    @cached_property
    def _to_wgs84(self) -> Transformer:
        return Transformer.from_crs(self.crs, CRS.from_epsg(4326), always_xy=True)


def from_control_points(points: tuple[GroundPoint, ...], crs_wkt: str) -> Georeference | None:
    """A georeference by ground control points; None where they are too few or on one line.

    GDAL fits a quadratic polynomial to six or more; points that do not determine one give an affine transform.
    """
    table = np.array(points, float).reshape(-1, 4)
    if not np.isfinite(table).all() or _rank(table, 1) < 3:
        return None
    transform = from_gcps([_control_point(p) for p in points])
    if transform.is_degenerate:
        return None
    return Georeference(crs_wkt=crs_wkt, transform=transform, gcps=points if _rank(table, 2) == 6 else ())


def _rank(points: NDArray[np.float64], degree: int) -> int:
    """Rank of the polynomials of this degree in row and column over the points."""
    place = points[:, :2] - points[:, :2].mean(axis=0) if len(points) else points[:, :2]
    row, col = (place / max(1.0, float(np.abs(place).max(initial=0.0)))).T
    terms = [row**i * col**j for i in range(degree + 1) for j in range(degree + 1 - i)]
    return int(np.linalg.matrix_rank(np.column_stack(terms))) if len(points) else 0


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
    known = np.isfinite(lon)
    turns = np.round((lon[known] - lon[known][:1]) / 360.0)
    moved = lon.copy()
    moved[known] -= 360.0 * turns
    return moved
