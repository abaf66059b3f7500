"""Layers as GeoParquet 1.1, with a covering box that readers filter by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from geoanom.errors import OutputError
from geoanom.layer.arrow import batches, schema_of
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.features import Features

BOX = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
GROUP_ROWS = 65_536


def write(features: Features, path: Path) -> None:
    """Write a layer, one row per anomaly (GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/).

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    plain = schema_of(features)
    schema = plain.append(pa.field("bbox", BOX)).with_metadata(_metadata(features))
    n_rows = 0
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in batches(features, plain):
                boxes = _boxes(batch.column("geometry"))
                writer.write_batch(pa.record_batch([*batch.columns, boxes], schema=schema), row_group_size=GROUP_ROWS)
                n_rows += batch.num_rows
        n_read = pq.ParquetFile(temporary).metadata.num_rows
        if n_read != n_rows:
            raise OutputError(path, f"reads back {n_read} of {n_rows} rows", "check the disk")


def _metadata(features: Features) -> dict[str, str]:
    covering = {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}}
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
        "orientation": "counterclockwise",
        "covering": covering,
    }
    column["crs"] = None if features.in_pixels else CRS.from_user_input("OGC:CRS84").to_json_dict()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return {"geo": json.dumps(geo, sort_keys=True), "geoanom": json.dumps(dict(features.provenance), ensure_ascii=False)}


def _boxes(wkb: pa.Array) -> pa.StructArray:
    """The box of each geometry; none where there is no geometry."""
    bounds = shapely.bounds(shapely.from_wkb(np.array(wkb.to_pylist(), object)))
    missing = pa.array(np.isnan(bounds[:, 0]))
    return pa.StructArray.from_arrays([pa.array(bounds[:, i]) for i in range(4)], fields=list(BOX), mask=missing)
