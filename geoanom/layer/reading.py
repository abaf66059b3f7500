"""Reading layers back, from every format that they are written in."""

from __future__ import annotations

import csv
import json
from functools import cache, partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from shapely.geometry import shape

from geoanom.errors import InputError
from geoanom.layer.arrow import type_of
from geoanom.layer.features import Feature, Features, footprints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Stream = Callable[[], Iterator[Feature]]

BATCH_ROWS = 4096
HEAD = '{"type":"FeatureCollection"'


def read_features(path: Path) -> Features:
    """Open a layer file; the format follows the suffix.

    Raises:
        InputError: it is missing, damaged, or not of a kind that can be read.
    """
    if not path.is_file():
        raise InputError(path, "does not exist", "check the path")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(path, "is no layer that can be read", f"name one of {', '.join(READERS)}")
    try:
        return READERS[suffix](path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pa.ArrowException,
        pyogrio.errors.DataSourceError,
        shapely.GEOSException,
    ) as error:
        raise InputError(path, f"is not a readable layer ({error})", "export it again") from error


def _geojson(path: Path) -> Features:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    if first.startswith(HEAD) and first.rstrip().endswith('"features":['):  # as geoanom writes it: a feature a line
        provenance = json.loads(first.rstrip() + "]}").get("geoanom", {})
        return _of(provenance, partial(_lines, path))
    tree = json.loads(path.read_text("utf-8"))
    if tree.get("type") != "FeatureCollection":
        raise ValueError("no FeatureCollection")
    return _of(tree.get("geoanom", {}), lambda: (_feature(each) for each in tree["features"]))


def _geojsonl(path: Path) -> Features:
    return _of({}, partial(_lines, path))


def _lines(path: Path) -> Iterator[Feature]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip().rstrip(",")
            if text.startswith('{"type":"Feature",'):
                yield _feature(json.loads(text))


def _feature(tree: dict[str, Any]) -> Feature:
    properties = dict(tree.get("properties") or {})
    properties.setdefault("anomaly_id", tree.get("id"))
    return Feature(None if tree.get("geometry") is None else shape(tree["geometry"]), properties)


def _by_gdal(path: Path) -> Features:
    layers = [name for name, _ in pyogrio.list_layers(path)]
    layer = "anomalies" if "anomalies" in layers else layers[0]
    info = pyogrio.read_info(path, layer=layer)
    about = (info.get("layer_metadata") or {}).get("geoanom")
    in_pixels = info["crs"] is None
    tiles = partial(_arrow_rows, path, "tiles") if "tiles" in layers and layer != "tiles" else None
    return _of(json.loads(about) if about else {}, partial(_arrow_rows, path, layer), in_pixels=in_pixels, tiles=tiles)


def _arrow_rows(path: Path, layer: str) -> Iterator[Feature]:
    with pyogrio.open_arrow(path, layer=layer, batch_size=BATCH_ROWS, use_pyarrow=True) as (meta, reader):
        for batch in reader:
            yield from _rows(
                batch, meta["geometry_name"] or "wkb_geometry", {meta.get("fid_column") or "fid", "OGC_FID", "Name", "description"}
            )


def _parquet(path: Path) -> Features:
    metadata = pq.read_schema(path).metadata or {}
    geo = json.loads(metadata[b"geo"])
    name = geo["primary_column"]
    in_pixels = "crs" in geo["columns"][name] and geo["columns"][name]["crs"] is None
    return _of(json.loads(metadata.get(b"geoanom", b"{}")), partial(_parquet_rows, path, name), in_pixels=in_pixels)


def _parquet_rows(path: Path, geometry: str) -> Iterator[Feature]:
    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS):
        yield from _rows(batch, geometry, {"bbox"})


def _rows(batch: pa.RecordBatch, geometry: str, skipped: set[str]) -> Iterator[Feature]:
    shapes = _single(shapely.from_wkb(np.array(batch.column(geometry).to_pylist(), object)))
    names = [name for name in batch.schema.names if name != geometry and name not in skipped]
    columns = [list(map(_reader_of(name), batch.column(name).to_pylist())) for name in names]
    records = zip(*columns, strict=True) if columns else repeat(())
    for found, values in zip(shapes, records, strict=False):
        yield Feature(found, dict(zip(names, values, strict=True)))


def _single(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Multipolygons of one as polygons."""
    one = (shapely.get_type_id(shapes) == shapely.GeometryType.MULTIPOLYGON) & (shapely.get_num_geometries(shapes) == 1)
    return np.where(one, shapely.get_geometry(shapes, 0), shapes)


def _csv(path: Path) -> Features:
    return _of({}, partial(_csv_rows, path))


def _csv_rows(path: Path) -> Iterator[Feature]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            properties = {name: _reader_of(name)(text) if text else None for name, text in row.items()}
            lon, lat = properties.get("lon"), properties.get("lat")
            yield Feature(None if lon is None or lat is None else shapely.Point(lon, lat), properties)


@cache
def _reader_of(name: str) -> Callable[[Any], Any]:
    """What turns the values of a column into its type, whatever a format made of them; text stays as it is."""
    kind = type_of(name)
    if pa.types.is_string(kind):
        return lambda value: value
    number = int if pa.types.is_integer(kind) else float
    return lambda value: None if value is None or value == "" else number(value)


def _of(provenance: dict[str, Any], stream: Stream, *, in_pixels: bool | None = None, tiles: Stream | None = None) -> Features:
    entries = provenance.get("scenes", [])
    pixels = any(entry.get("coordinates") == "pixel" for entry in entries) if in_pixels is None else in_pixels
    return Features(provenance=provenance, in_pixels=pixels, stream=stream, scenes=footprints_of(provenance), tiles=tiles)


READERS: dict[str, Callable[[Path], Features]] = {
    ".geojson": _geojson,
    ".json": _geojson,
    ".geojsonl": _geojsonl,
    ".gpkg": _by_gdal,
    ".fgb": _by_gdal,
    ".kml": _by_gdal,
    ".parquet": _parquet,
    ".csv": _csv,
}
