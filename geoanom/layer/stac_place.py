"""Where and when a STAC item is: RFC 7946 geometry and box, the projection extension's grid, the time of acquisition."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.geometry import shape

from geoanom.errors import InputError
from geoanom.layer.geojson import Extent
from geoanom.sources.dates import acquisition_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CODE = re.compile(r"[A-Za-z]\w*:[\w.-]+")
"""Authority and code, such as ``EPSG:32618``."""
WORLD = [-180.0, -90.0, 180.0, 90.0]
ANY_TIME = ("1800-01-01T00:00:00Z", "2200-01-01T00:00:00Z")
"""STAC wants a range where the time is not known; no picture is older than photography, and this fits in nanoseconds since 1970."""


def place_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """``geometry`` and ``bbox`` of a scene; without a known place the geometry is null and there is no box, as STAC wants it."""
    if entry.get("footprint") is None:
        return {"geometry": None}
    return {"geometry": entry["footprint"], "bbox": bbox_of([entry])}


def bbox_of(entries: Sequence[Mapping[str, Any]]) -> list[float]:
    """West, south, east, north of all scenes with a place, west > east across the antimeridian (RFC 7946, section 5); else the world."""
    extent = Extent()
    extent.add(shape(entry["footprint"]) for entry in entries if entry.get("footprint") is not None)
    return extent.bbox(in_pixels=False) or WORLD


def grid_of(size: Sequence[int], crs: str | None, transform: Sequence[float] | None) -> dict[str, Any]:
    """The fields of the projection extension 2.0.0 for a raster.

    Args:
        size: rows and columns.
        crs: ``EPSG:32618`` or WKT; None without a place.
        transform: six numbers, row-major; None with ground control points, whose image has no CRS in the extension's sense.

    Raises:
        InputError: the CRS cannot be understood.
    """
    if crs is None or transform is None:
        return {"proj:code": None, "proj:shape": list(size)}
    height, width = size
    corners = [Affine(*transform) @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    xs, ys = zip(*corners, strict=True)
    box = [min(xs), min(ys), max(xs), max(ys)]
    return {**_named(crs), "proj:shape": list(size), "proj:transform": list(transform), "proj:bbox": box}


def _named(crs: str) -> dict[str, Any]:
    """By code where there is one, else by WKT 2."""
    if CODE.fullmatch(crs):
        return {"proj:code": crs}
    try:
        return {"proj:code": None, "proj:wkt2": CRS.from_user_input(crs).to_wkt("WKT2_2019")}
    except CRSError as error:
        raise InputError(crs[:60], "is no CRS that can be understood", "score the scene again") from error


def time_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """``datetime`` of a scene in UTC; where it is not known null, and the range that STAC then wants."""
    moment = utc_of(entry)
    return {"datetime": moment} if moment else {"datetime": None, "start_datetime": ANY_TIME[0], "end_datetime": ANY_TIME[1]}


def utc_of(entry: Mapping[str, Any]) -> str | None:
    """When a scene was taken, in UTC; None when that is not known."""
    return acquisition_datetime({"ACQUISITION_DATETIME": str(entry.get("datetime") or "")}, "")


def interval_of(entries: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """First and last time; open on both sides where that of a scene is not known."""
    moments = [utc_of(entry) for entry in entries]
    known = [moment for moment in moments if moment is not None]
    return [min(known), max(known)] if len(known) == len(moments) else [None, None]
