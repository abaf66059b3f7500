"""Embeddings as GeoParquet 1.1, one row per tile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file
from geoanom.layer.geometry import all_to_rfc7946
from geoanom.layer.tiles import cores_of, tile_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geoanom.layer.scoremap import ScoreMap

CHUNK_ROWS = 8192


def write_embeddings(maps: Sequence[ScoreMap], path: Path, model_id: str) -> None:
    """Write the tiles of score maps that carry embeddings; each geometry is the tile's core in longitude and latitude.

    Args:
        maps: with embeddings.
        path: a Parquet file.
        model_id: written in every row.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    dim = next(m.embedding.shape[1] for m in maps if m.embedding is not None)
    schema = _schema(dim, in_pixels=any(m.scene.georef.is_pixel_space for m in maps))
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for scores in maps:
                for start in range(0, len(scores), CHUNK_ROWS):
                    writer.write_table(_table(scores, slice(start, start + CHUNK_ROWS), schema, model_id))
        n_read = pq.ParquetFile(temporary).metadata.num_rows
        if n_read != sum(map(len, maps)):
            raise OutputError(path, f"reads back {n_read} rows", "check the disk")


def _table(scores: ScoreMap, part: slice, schema: pa.Schema, model_id: str) -> pa.Table:
    rows, cols = scores.rows[part], scores.cols[part]
    n, name = len(rows), scores.scene.name
    embedding = np.zeros((n, 0), np.float32) if scores.embedding is None else scores.embedding[part]
    flat = pa.array(np.ascontiguousarray(embedding, np.float32).ravel())
    columns = {
        "tile_id": [tile_id(scores.scene.digest, row, col) for row, col in zip(rows, cols, strict=True)],
        "scene": [name] * n,
        "datetime": [scores.scene.datetime] * n,
        "row": rows.astype(np.int32),
        "col": cols.astype(np.int32),
        "geometry": _footprints(scores, part),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, embedding.shape[1]),
        "score": scores.score[part].astype(np.float32),
        "valid_fraction": scores.valid_fraction[part].astype(np.float32),
        "model_id": [model_id] * n,
    }
    return pa.table(columns, schema=schema)


def _footprints(scores: ScoreMap, part: slice) -> list[bytes | None]:
    wkb: list[bytes | None] = shapely.to_wkb(all_to_rfc7946(cores_of(scores, part), scores.scene.georef)).tolist()
    return wkb


def _schema(dim: int, *, in_pixels: bool) -> pa.Schema:
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"]}
    column["crs"] = None if in_pixels else CRS.from_user_input("OGC:CRS84").to_json_dict()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    fields = [
        ("tile_id", pa.string()),
        ("scene", pa.string()),
        ("datetime", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("geometry", pa.binary()),
        ("embedding", pa.list_(pa.float32(), dim)),
        ("score", pa.float32()),
        ("valid_fraction", pa.float32()),
        ("model_id", pa.string()),
    ]
    return pa.schema(fields, metadata={"geo": json.dumps(geo, sort_keys=True)})
