"""Features as Arrow record batches, which GDAL and Parquet take as streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import shapely

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geoanom.layer.features import Feature, Features

WHOLE = ("rank", "n_tiles", "tiles_scored", "tiles_masked")
REAL = ("score", "p_value", "q_value", "area_m2", "valid_fraction", "recon_error", "top_band_sigma", "lon", "lat")
FIRST_LOOK = 4096
"""Features that tell which columns a layer has."""


def schema_of(features: Features, metadata: dict[str, str] | None = None) -> pa.Schema:
    """The columns of a layer: the properties of its features, and the geometry as WKB."""
    names: dict[str, None] = {}
    for group in features.groups(FIRST_LOOK):
        for feature in group:
            names.update(dict.fromkeys(feature.properties))
        break
    names = names or dict.fromkeys(("anomaly_id", "rank", "score", "level", "scene"))
    fields = [pa.field(name, type_of(name)) for name in names]
    return pa.schema([*fields, pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})], metadata=metadata)


def type_of(name: str) -> pa.DataType:
    """The type of a property by its name; what is not known is text."""
    if name in WHOLE:
        return pa.int64()
    return pa.float64() if name in REAL or name.startswith("score_") else pa.string()


def batches(features: Features, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The features in batches with these columns."""
    for group in features.groups():
        yield batch_of(group, schema)


def batch_of(group: Sequence[Feature], schema: pa.Schema) -> pa.RecordBatch:
    """Some features as a batch; every geometry a MultiPolygon, since readers want one type."""
    shapes = np.array([as_multi(feature.geometry) for feature in group], object)
    columns = [
        pa.array([_value(feature.properties.get(f.name), f.type) for feature in group], f.type) for f in schema if f.name != "geometry"
    ]
    return pa.record_batch([*columns, pa.array(shapely.to_wkb(shapes), pa.binary())], schema=schema)


def _column(group: Sequence[Feature], field: pa.Field) -> pa.Array:
    return pa.array([_value(feature.properties.get(field.name), field.type) for feature in group], field.type)


def as_multi(geometry: Any) -> Any:
    """A polygon as a multipolygon of one; others as they are."""
    return shapely.MultiPolygon([geometry]) if isinstance(geometry, shapely.Polygon) else geometry


def _value(value: Any, kind: pa.DataType) -> Any:
    return value if value is None or not pa.types.is_string(kind) else str(value)
