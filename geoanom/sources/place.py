"""The georeference of a raster file, or a clear refusal."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoanom.errors import SceneError
from geoanom.raster.georef import Georeference, from_control_points, is_of_the_earth

if TYPE_CHECKING:
    import rasterio

IN_PIXELS = "score it in pixel coordinates with --pixel-space"


def georeference_of(src: rasterio.DatasetReader, uri: str, *, pixel_space: bool) -> Georeference:
    """Where the raster lies, by its transform or its ground control points.

    Args:
        src: the open raster.
        uri: named in errors.
        pixel_space: fall back to pixel coordinates where there is no usable place.

    Raises:
        SceneError: it has no usable place and `pixel_space` is False.
    """
    try:
        return _place_on_earth(src, uri)
    except SceneError:
        if pixel_space:
            return Georeference(crs_wkt=None, transform=Affine.identity())
        raise


def _place_on_earth(src: rasterio.DatasetReader, uri: str) -> Georeference:
    gcps, gcps_crs = src.gcps
    crs = src.crs or (gcps_crs if gcps else None)
    if crs is None:
        what = "has only rational polynomial coefficients" if src.rpcs else "has no coordinate reference system"
        raise SceneError(uri, what, IN_PIXELS)
    wkt = _earthly_wkt(crs.to_wkt(), uri)
    if gcps and src.transform.is_identity:
        georef = from_control_points(tuple((p.row, p.col, p.x, p.y) for p in gcps), wkt)
        if georef is None:
            raise SceneError(uri, "has ground control points that are too few or on one line", IN_PIXELS)
        return georef
    if src.transform.is_identity:
        raise SceneError(uri, "has a coordinate reference system but no transform", IN_PIXELS)
    if src.transform.is_degenerate or not all(map(isfinite, src.transform)):
        raise SceneError(uri, "has a transform that cannot be inverted", IN_PIXELS)
    return Georeference(crs_wkt=wkt, transform=src.transform)


def _earthly_wkt(wkt: str, uri: str) -> str:
    try:
        crs = CRS.from_wkt(wkt)
    except CRSError as error:
        raise SceneError(uri, "has a coordinate reference system that cannot be understood", IN_PIXELS) from error
    if crs.is_engineering or not (crs.is_projected or crs.is_geographic or crs.is_compound):
        raise SceneError(uri, f"has a local coordinate system ({crs.name})", IN_PIXELS)
    if not is_of_the_earth(crs):
        raise SceneError(uri, f"is not on the Earth ({crs.name})", IN_PIXELS)
    return wkt
