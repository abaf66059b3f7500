"""What a STAC item points to: addresses relative to the item, media types, roles, and what a heatmap says of itself.

The roles are the item's own: ``mlm:model`` would promise fields of the MLM extension that a bundle's model.json does not have, and
a heatmap that were ``data`` would be taken for bands of the scene when the item is opened as one.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import rasterio
from rasterio.errors import RasterioError

from geoanom.errors import InputError
from geoanom.layer.stac_place import grid_of
from geoanom.raster.georef import Georeference
from geoanom.sources.remote import is_remote
from geoanom.sources.web import public_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rasterio.io import DatasetReader

    from geoanom.layer.stac import StacAssets

GEOTIFF = "image/tiff; application=geotiff"
COG = f"{GEOTIFF}; profile=cloud-optimized"
LAYER_TYPES = {
    ".geojson": "application/geo+json",
    ".json": "application/geo+json",
    ".geojsonl": "application/x-ndjson",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".kml": "application/vnd.google-earth.kml+xml",
}
SCENE_TYPES = {
    ".tif": GEOTIFF,
    ".tiff": GEOTIFF,
    ".jp2": "image/jp2",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".zip": "application/zip",
    ".json": "application/geo+json",
    ".geojson": "application/geo+json",
}
RASTERS = (".tif", ".tiff")
"""Layers that are heatmaps."""
LEVEL = "L4"
"""Results from analyses of lower level data, as the processing extension names them."""
STATISTICS = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV", "valid_percent": "VALID_PERCENT"}
"""STAC's names, and those of GDAL's tags without their ``STATISTICS_``."""

DATA_TYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)) - {"float8"}

Asset = dict[str, Any]


def assets_of(assets: StacAssets, items: Path, model_id: str | None) -> dict[str, Asset]:
    """The assets of every item, the layers first.

    Args:
        assets: what there is.
        items: the folder that the items will lie in.
        model_id: that of the layer.

    Raises:
        InputError: a file is not there, cannot be read, or is not of this layer.
    """
    found = layer_assets(assets.layers, items)
    if assets.scene is not None:
        found["scene"] = _scene(assets.scene, items)
    if assets.heatmap is not None:
        found[_free("heatmap", found)] = _heatmap(assets.heatmap, items)
    if assets.model is not None:
        found["model"] = _model(assets.model, items, model_id)
    if assets.report is not None:
        page = {"href": href_of(assets.report, items), "type": "text/html", "title": "A page to look at, confirm and dismiss"}
        found["report"] = {**page, "roles": ["report"], "processing:level": LEVEL}
    return found


def layer_assets(paths: tuple[Path, ...], items: Path) -> dict[str, Asset]:
    """The layer's files: ``anomalies`` and then ``anomalies_gpkg`` and the like, and ``heatmap`` for one that is a raster.

    Raises:
        InputError: a file is not there, or a raster cannot be read.
    """
    found: dict[str, Asset] = {}
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in RASTERS:
            found[_free("heatmap", found)] = _heatmap(path, items)
            continue
        key = _free(f"anomalies_{suffix.lstrip('.')}" if "anomalies" in found else "anomalies", found)
        kind = {"type": LAYER_TYPES[suffix]} if suffix in LAYER_TYPES else {}
        title = f"Anomalies as {suffix.lstrip('.')}"
        found[key] = {"href": href_of(path, items), **kind, "title": title, "roles": ["data", "anomalies"], "processing:level": LEVEL}
    return found


def _free(key: str, found: Mapping[str, Asset]) -> str:
    """The key, with a number where another asset has it."""
    return key if key not in found else f"{key}_{len(found) + 1}"


def href_of(path: Path, items: Path) -> str:
    """Where a file lies as seen from an item, written as a URI reference (RFC 3986); links of folders are followed.

    Raises:
        InputError: it is not there.
    """
    if not path.exists():
        raise InputError(path, "does not exist", "check the path")
    there = path.absolute().parent.resolve() / path.name
    try:
        relative = os.path.relpath(there, items.parent.absolute().parent.resolve() / items.parent.name / items.name)
    except ValueError as error:
        raise InputError(path, "lies on another drive than the STAC folder", "put both on one drive") from error
    return quote(Path(relative).as_posix(), errors="surrogateescape")


def _scene(uri: str, items: Path) -> Asset:
    """The scene, a URL without the secrets that it may have."""
    public = public_name(uri)
    href = public if is_remote(uri) else href_of(Path(uri), items)
    suffix = Path(public).suffix.lower()
    kind = {"type": SCENE_TYPES[suffix]} if suffix in SCENE_TYPES else {}
    return {"href": href, **kind, "title": "The scene", "roles": ["data"]}


def _model(path: Path, items: Path, model_id: str | None) -> Asset:
    """The description of the model, which must be the layer's own."""
    file = path / "model.json" if path.is_dir() else path
    asset = {"href": href_of(file, items), "type": "application/json", "title": "The model that judged", "roles": ["model", "metadata"]}
    try:
        name = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", "check its permissions") from error
    if name != model_id:
        raise InputError(file, f"is the model {name}, and the layer is of {model_id}", "name the model that made the layer")
    return asset


def _heatmap(path: Path, items: Path) -> Asset:
    href = href_of(path, items)
    try:
        with rasterio.open(path) as src:
            kind = COG if src.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG" else GEOTIFF
            about = {"bands": [_band(src, index) for index in src.indexes], **_grid(src)}
    except (RasterioError, ValueError) as error:
        raise InputError(path, f"is no heatmap that can be read ({error})", "write it again with --heatmap") from error
    return {"href": href, "type": kind, "title": "Scores from 0 to 1", "roles": ["heatmap"], "processing:level": LEVEL, **about}


def _band(src: DatasetReader, index: int) -> Asset:
    """Name, type, nodata and, where the file tells them, statistics."""
    nodata = src.nodatavals[index - 1]
    told = {} if nodata is None else {"nodata": nodata if math.isfinite(nodata) else str(float(nodata))}
    tags = src.tags(index)
    statistics = {name: float(tags[f"STATISTICS_{tag}"]) for name, tag in STATISTICS.items() if f"STATISTICS_{tag}" in tags}
    numbers = {"statistics": statistics} if statistics and all(map(math.isfinite, statistics.values())) else {}
    kind = src.dtypes[index - 1] if src.dtypes[index - 1] in DATA_TYPES else "other"
    return {"name": src.descriptions[index - 1] or f"band {index}", "data_type": kind, **told, **numbers}


def _grid(src: DatasetReader) -> Asset:
    placed = Georeference(crs_wkt=src.crs.to_wkt() if src.crs else None, transform=src.transform)
    return grid_of((src.height, src.width), placed.crs_name, list(placed.transform[:6]))
