"""Reading layers back, from every format that they are written in."""

from __future__ import annotations

import csv
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import shapely
from shapely.geometry import shape

from geoanom.errors import InputError
from geoanom.layer.features import Feature, Features, footprints_of, in_groups
from geoanom.layer.sound import BROKEN, check_degrees, check_pages, check_told, guarded, sound, sound_table, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from geoanom.layer.sound import Groups

BATCH_ROWS = 512
HEAD = '{"type":"FeatureCollection"'
GDAL_COLUMNS = ("OGC_FID", "Name", "description")
"""What drivers add of their own."""


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
    except BROKEN as error:
        raise unreadable(path, error) from error


def _geojson(path: Path) -> Features:
    with path.open(encoding="utf-8") as file:
        first, second = file.readline().strip(), file.readline()
    if first.startswith(HEAD) and first.endswith('"features":[') and _is_whole(second):  # as geoanom writes it: a feature a line
        head = json.loads(first + "]}")
        check_degrees(_crs_member(head))
        return _of(path, head.get("geoanom", {}), partial(_json_groups, partial(_lines, path, in_collection=True)))
    tree = json.loads(path.read_text("utf-8"))
    if not isinstance(tree, dict) or tree.get("type") != "FeatureCollection":
        raise ValueError("no FeatureCollection")
    if not isinstance(tree.get("features"), list):
        raise TypeError("it has no list of features")
    check_degrees(_crs_member(tree))
    return _of(path, tree.get("geoanom", {}), partial(_json_groups, lambda: iter(tree["features"])))


def _is_whole(line: str) -> bool:
    """Whether a line after the first holds a whole feature, or ends the collection."""
    try:
        return line.startswith("]") or isinstance(json.loads(line.strip().rstrip(",")), dict)
    except ValueError:
        return False


def _crs_member(tree: dict[str, Any]) -> Any:
    """What GeoJSON named its CRS with before RFC 7946."""
    member = tree.get("crs")
    return None if member is None else member["properties"]["name"]


def _geojsonl(path: Path) -> Features:
    return _of(path, {}, partial(_json_groups, partial(_lines, path)))


def _lines(path: Path, *, in_collection: bool = False) -> Iterator[Any]:
    """What each line holds, of a collection between its first line and the bracket that ends it."""
    with path.open(encoding="utf-8") as file:
        if in_collection:
            file.readline()
        for line in file:
            text = line.strip().lstrip("\x1e").rstrip(",")
            if in_collection and text.startswith("]"):
                json.loads('{"features":[' + line.strip() + file.read())
                return
            if text:
                yield json.loads(text)
    if in_collection:
        raise ValueError("it is cut off")


def _json_groups(trees: Callable[[], Iterator[Any]]) -> Iterator[list[Feature]]:
    yield from map(sound, in_groups(map(_feature, trees()), BATCH_ROWS))


def _feature(tree: Any) -> Feature:
    if not isinstance(tree, dict) or tree.get("type") != "Feature":
        raise ValueError("an entry is no Feature")
    told = tree.get("properties")
    if not isinstance(told, dict | None):
        raise TypeError("the properties of a feature are no object")
    properties = dict(told or {})
    properties.setdefault("anomaly_id", tree.get("id"))
    return Feature(None if tree.get("geometry") is None else shape(tree["geometry"]), properties)


def _by_gdal(path: Path) -> Features:
    if path.suffix.lower() == ".gpkg":
        check_pages(path)
    layers = [name for name, _ in pyogrio.list_layers(path)]
    layer = "anomalies" if "anomalies" in layers else layers[0]
    info = pyogrio.read_info(path, layer=layer)
    check_degrees(info["crs"])
    about = (info.get("layer_metadata") or {}).get("geoanom")
    in_pixels = info["crs"] is None
    tiles = partial(_arrow_groups, path, "tiles") if "tiles" in layers and layer != "tiles" else None
    return _of(path, json.loads(about) if about else {}, partial(_arrow_groups, path, layer), in_pixels=in_pixels, tiles=tiles)


def _arrow_groups(path: Path, layer: str) -> Iterator[list[Feature]]:
    """The rows of a layer, and an error where the file tells of more or less than it gives."""
    n_read, n_told = 0, pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"]
    with pyogrio.open_arrow(path, layer=layer, batch_size=BATCH_ROWS, use_pyarrow=True) as (meta, reader):
        for batch in reader:
            n_read += batch.num_rows
            yield _rows(batch, meta["geometry_name"] or "wkb_geometry", {meta.get("fid_column") or "fid", *GDAL_COLUMNS})
    if n_read != n_told:
        raise ValueError(f"it gives {n_read} of {n_told} features")


def _parquet(path: Path) -> Features:
    metadata = pq.read_schema(path).metadata or {}
    geo = json.loads(metadata[b"geo"])
    name = geo["primary_column"]
    crs = geo["columns"][name].get("crs")
    check_degrees(crs)
    in_pixels = "crs" in geo["columns"][name] and crs is None
    return _of(path, json.loads(metadata.get(b"geoanom", b"{}")), partial(_parquet_groups, path, name), in_pixels=in_pixels)


def _parquet_groups(path: Path, geometry: str) -> Iterator[list[Feature]]:
    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS):
        yield _rows(batch, geometry, {"bbox"})


def _rows(batch: pa.RecordBatch, geometry: str, skipped: set[str]) -> list[Feature]:
    shapes = _single(shapely.from_wkb(np.array(batch.column(geometry).to_pylist(), object)))
    names = [name for name in batch.schema.names if name != geometry and name not in skipped]
    return sound_table(shapes, names, [batch.column(name).to_pylist() for name in names])


def _single(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Multipolygons of one as polygons."""
    one = (shapely.get_type_id(shapes) == shapely.GeometryType.MULTIPOLYGON) & (shapely.get_num_geometries(shapes) == 1)
    return np.where(one, shapely.get_geometry(shapes, 0), shapes)


def _csv(path: Path) -> Features:
    return _of(path, {}, partial(_csv_groups, path))


def _csv_groups(path: Path) -> Iterator[list[Feature]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from map(_points, in_groups(csv.DictReader(file), BATCH_ROWS))


def _points(rows: list[dict[Any, str | None]]) -> list[Feature]:
    """Rows of a table as features, each a point where it tells one."""
    if any(None in row for row in rows):
        raise ValueError("a row has more cells than the first")
    known = sound([Feature(None, {name: text or None for name, text in row.items()}) for row in rows])
    return [Feature(_point(feature.properties), feature.properties) for feature in known]


def _point(properties: Mapping[str, Any]) -> shapely.Point | None:
    lon, lat = properties.get("lon"), properties.get("lat")
    return None if lon is None or lat is None else shapely.Point(lon, lat)


def _of(path: Path, provenance: Any, groups: Groups, *, in_pixels: bool | None = None, tiles: Groups | None = None) -> Features:
    check_told(provenance)
    entries = provenance.get("scenes", [])
    pixels = any(entry.get("coordinates") == "pixel" for entry in entries) if in_pixels is None else in_pixels
    return Features(
        provenance=provenance,
        in_pixels=pixels,
        stream=partial(guarded, path, groups),
        scenes=tuple(sound(footprints_of(provenance))),
        tiles=None if tiles is None else partial(guarded, path, tiles),
    )


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
