"""GeoPackage, FlatGeobuf and KML, written by GDAL from a stream of record batches."""

from __future__ import annotations

import json
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyogrio

from geoanom.errors import InputError, OutputError
from geoanom.layer.arrow import batches, schema_of
from geoanom.layer.atomic import atomic_file
from geoanom.layer.features import Features
from geoanom.layer.styles import add_style

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

EPOCH = "1970-01-01T00:00:00Z"
"""Stands in files as their time of change, since equal content must give equal files."""


def write_gpkg(features: Features, path: Path, more: Mapping[str, Features] | None = None) -> None:
    """Write a GeoPackage 1.3 with the styled layers ``anomalies``, ``tiles`` and ``scenes``, as far as they are known, and more layers.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
    with atomic_file(path) as temporary:
        about = {"geoanom": json.dumps(dict(features.provenance), ensure_ascii=False)}
        _write(features, temporary, path, "GPKG", layer="anomalies", layer_metadata=about, dataset_options={"VERSION": "1.3"})
        beside = _beside(features)
        for name, other in {**beside, **(more or {})}.items():
            _write(other, temporary, path, "GPKG", layer=name, append=True)
        for name in ("anomalies", *beside):
            add_style(temporary, name)


def _beside(features: Features) -> dict[str, Features]:
    """The layers that a layer of anomalies brings along, by name."""
    layer = partial(Features, provenance={}, in_pixels=features.in_pixels)
    tiles = {} if features.tiles is None else {"tiles": layer(stream=features.tiles)}
    scenes = {"scenes": layer(stream=lambda: iter(features.scenes))} if features.scenes else {}
    return tiles | scenes


def write_fgb(features: Features, path: Path) -> None:
    """Write a FlatGeobuf with a spatial index.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    with atomic_file(path) as temporary:
        _write(features, temporary, path, "FlatGeobuf", layer="anomalies")


def write_kml(features: Features, path: Path) -> None:
    """Write a KML (OGC 12-007r2), for globes; unlike the other formats it is held in memory, some 16 KB an anomaly.

    Raises:
        InputError: the layer is in pixels.
        OutputError: it could not be written, or does not read back.
    """
    if features.in_pixels:
        raise InputError(path, "cannot hold pixel coordinates: KML knows only places on the Earth", "choose another format")
    with atomic_file(path) as temporary:
        _write(features, temporary, path, "LIBKML", layer="anomalies")


def _write(features: Features, temporary: Path, path: Path, driver: str, *, layer: str, append: bool = False, **options: Any) -> None:
    """Stream the features into a file and count what it holds."""
    counted = _Counted()
    schema = schema_of(features)
    reader = pa.RecordBatchReader.from_batches(schema, counted.through(batches(features, schema)))
    crs = None if features.in_pixels else "EPSG:4326"
    places = {"geometry_name": "geometry", "geometry_type": "MultiPolygon", "crs": crs}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")  # pixels have none
            pyogrio.write_arrow(reader, temporary, layer=layer, driver=driver, append=append, **places, **options)
        if counted.error is not None:
            raise counted.error
        found = pyogrio.read_info(temporary, layer=layer, force_feature_count=True)["features"]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError, RuntimeError) as error:
        raise OutputError(path, f"could not be written ({error})", "check the disk's space and permissions") from error
    if found != counted.n:
        raise OutputError(path, f"reads back {found} of {counted.n} features", "check the disk")


class _Counted:
    """Counts what flows by, and keeps the error that ends it, of which Arrow would leave a text."""

    def __init__(self) -> None:
        self.n = 0
        self.error: Exception | None = None

    def through(self, stream: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches."""
        try:
            for batch in stream:
                self.n += batch.num_rows
                yield batch
        except Exception as error:  # noqa: BLE001 - raised again behind Arrow's back
            self.error = error
