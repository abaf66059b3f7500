"""Anomaly layers and truth in polygons or points."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from shapely.geometry import shape

from geoanom.errors import InputError
from geoanom.evaluate.grid import as_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LAYER_SUFFIXES = (".geojson", ".json")
VECTOR_SUFFIXES = (*LAYER_SUFFIXES, ".gpkg", ".fgb", ".shp", ".zip", ".parquet", ".geoparquet", ".kml", ".gml", ".gdb", ".sqlite")
"""Files that are read as vectors; every other one is taken for a raster."""
WGS84 = CRS.from_epsg(4326)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The features of an anomaly layer."""

    geometries: NDArray[np.object_] = field(repr=False)
    """(n,) in longitude and latitude, or in the pixel corners (col, row) of the scene."""
    scores: NDArray[np.float32] = field(repr=False)
    """(n,)."""
    n_tiles: NDArray[np.float64] = field(repr=False)
    """(n,) cells in each, NaN where unknown."""
    crs: CRS | None
    """WGS 84; None in pixel space."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """True anomalies as single polygons and points."""

    geometries: NDArray[np.object_] = field(repr=False)
    """(n,)."""
    crs: CRS | None


def read_layer(path: Path) -> Layer:
    """The anomaly layer in a GeoJSON that geoanom wrote.

    Raises:
        InputError: it cannot be read, or is not such a layer.
    """
    content = _json_of(path)
    features = [feature for feature in content["features"] if feature.get("geometry") is not None]
    properties = [feature.get("properties") or {} for feature in features]
    scores = pd.to_numeric(pd.Series([p.get("score") for p in properties], dtype=object), errors="coerce").to_numpy(np.float32)
    if not np.isfinite(scores).all():
        raise InputError(path, "has features without a score", "name a layer that geoanom wrote")
    try:
        geometries = as_array([shape(feature["geometry"]) for feature in features])
    except (shapely.errors.ShapelyError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "has a geometry that cannot be read", "write the layer again") from error
    n_tiles = pd.to_numeric(pd.Series([p.get("n_tiles") for p in properties], dtype=object), errors="coerce").to_numpy(np.float64)
    return Layer(geometries=_valid(geometries), scores=scores, n_tiles=n_tiles, crs=_layer_crs(path, content))


def read_shapes(path: Path) -> Shapes:
    """True anomalies in any file that geopandas reads, each part of a collection by itself.

    Raises:
        InputError: it cannot be read, holds nothing, or holds lines.
    """
    frame = _frame_of(path)
    parts = shapely.get_parts(_valid(frame.geometry.dropna().to_numpy()))
    parts = parts[~shapely.is_empty(parts)]
    kinds = {str(kind) for kind in np.unique([part.geom_type for part in parts])}
    if not len(parts):
        raise InputError(path, "holds no geometries", "draw at least one true anomaly")
    if kinds - {"Polygon", "Point"}:
        raise InputError(path, f"holds geometries of the type {', '.join(sorted(kinds - {'Polygon', 'Point'}))}", "give polygons or points")
    return Shapes(geometries=parts, crs=None if frame.crs is None else CRS.from_user_input(frame.crs))


def _valid(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """Plane geometries whose rings do not cross."""
    mended: NDArray[np.object_] = shapely.make_valid(shapely.force_2d(geometries), method="structure", keep_collapsed=False)
    return mended


def _frame_of(path: Path) -> gpd.GeoDataFrame:
    """The data frame in a vector file."""
    _require_file(path)
    try:
        return gpd.read_parquet(path) if path.suffix.lower() in {".parquet", ".geoparquet"} else gpd.read_file(path)
    except Exception as error:  # the readers behind geopandas share no base class
        raise InputError(path, f"is not a vector file that can be read ({error})", "name polygons, points, a mask or a CSV") from error


def _json_of(path: Path) -> dict[str, Any]:
    _require_file(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(path, "is not valid JSON", "name a layer that geoanom wrote") from error
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        raise InputError(path, "is not a GeoJSON feature collection", "name a layer that geoanom wrote")
    return content


def _layer_crs(path: Path, content: dict[str, Any]) -> CRS | None:
    """WGS 84, or None for a layer in pixel coordinates.

    Raises:
        InputError: pixels of several scenes, which one truth cannot fit.
    """
    scenes = (content.get("geoanom") or {}).get("scenes") or []
    in_pixels = [scene.get("coordinates") == "pixel" for scene in scenes]
    if any(in_pixels) and len(scenes) > 1:
        raise InputError(path, f"holds {len(scenes)} scenes, some in pixel coordinates", "evaluate a layer for each scene")
    return None if any(in_pixels) else WGS84


def _require_file(path: Path) -> None:
    if not path.exists():
        raise InputError(path, "does not exist", "check the path")
