"""Features as Arrow record batches, which GDAL and Parquet take as streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import shapely

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geoanom.layer.features import Feature, Features

WHOLE = ("rank", "n_tiles", "row", "col", "tiles_scored", "tiles_masked")
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
    shapes = as_multi(np.array([feature.geometry for feature in group], object))
    columns = [_column(group, field) for field in schema if field.name != "geometry"]
    return pa.record_batch([*columns, pa.array(shapely.to_wkb(shapes), pa.binary())], schema=schema)


def as_multi(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons as multipolygons of one; others as they are."""
    polygons = np.flatnonzero(shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON)
    shapes = shapes.copy()
    shapes[polygons] = shapely.multipolygons(shapes[polygons], indices=np.arange(len(polygons)))
    return shapes


def _column(group: Sequence[Feature], field: pa.Field) -> pa.Array:
    values = [feature.properties.get(field.name) for feature in group]
    if pa.types.is_string(field.type):
        values = [value if value is None else str(value) for value in values]
    return pa.array(values, field.type)
