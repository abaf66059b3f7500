"""All anomalies of an archive in one GeoPackage, scene by scene, so that memory holds one scene's layer at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pyogrio

from geoanom.archive.ledger import SCORED
from geoanom.errors import OutputError, one_line
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from geoanom.archive.ledger import Row

GROUP = 500
"""Features that are written at once."""
WGS84, PIXELS = "anomalies", "anomalies_in_pixels"
EPOCH = "1970-01-01T00:00:00Z"
"""Stands in the file as its time of change, since equal content must give equal files."""


class _StoppedError(Exception):
    """The run is to end before all is merged."""


def merge_layers(rows: Mapping[str, Row], folder: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """Write ``anomalies.gpkg`` from the layers of all scored scenes, in the order of their names; nothing when it is stopped.

    Scenes without a place on the Earth go into a layer of their own, as their coordinates are pixels.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    path = folder / "anomalies.gpkg"
    written = {WGS84: 0, PIXELS: 0}
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
    with suppress(_StoppedError), atomic_file(path) as temporary:
        try:
            for layer, features in _groups(rows, folder, stopped):
                _append(features, temporary, layer, is_first=written[layer] == 0)
                written[layer] += len(features)
            if not temporary.exists():
                _write_empty(temporary)
            _verify(temporary, path, written)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError) as error:
            raise OutputError(path, f"could not be written ({error})", "check the disk's space and permissions") from error


def _groups(rows: Mapping[str, Row], folder: Path, stopped: Callable[[], bool]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Features of one layer of the file, a few hundred at a time."""
    kept: dict[str, list[dict[str, Any]]] = {WGS84: [], PIXELS: []}
    for row in rows.values():
        if stopped():
            raise _StoppedError
        for name in row.outputs if row.state in SCORED else ():
            if not name.endswith(".geojson"):
                continue
            tree = _read(folder / name)
            in_pixels = tree["geoanom"]["scenes"][0]["coordinates"] == "pixel"
            kept[PIXELS if in_pixels else WGS84] += [_with_path(feature, row) for feature in tree["features"]]
        for layer, features in kept.items():
            if len(features) >= GROUP:
                yield layer, features
                kept[layer] = []
    yield from ((layer, features) for layer, features in kept.items() if features)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(path, "is gone, or not what was written", "run again to have it made anew") from error
    return tree


def _with_path(feature: dict[str, Any], row: Row) -> dict[str, Any]:
    return {**feature, "properties": {"path": one_line(row.name), **feature["properties"]}}


def _append(features: list[dict[str, Any]], path: Path, layer: str, *, is_first: bool) -> None:
    frame = gpd.GeoDataFrame.from_features(features, crs="EPSG:4326" if layer == WGS84 else None)
    for column in frame.columns[frame.isna().all()]:
        frame[column] = frame[column].astype("float64" if column in ("area_m2", "lon", "lat") else "object")
    pyogrio.write_dataframe(
        frame, path, layer=layer, driver="GPKG", append=not is_first, promote_to_multi=True, geometry_type="MultiPolygon"
    )


def _write_empty(path: Path) -> None:
    frame = gpd.GeoDataFrame({"path": [], "anomaly_id": [], "score": []}, geometry=[], crs="EPSG:4326")
    pyogrio.write_dataframe(frame, path, layer=WGS84, driver="GPKG", geometry_type="MultiPolygon")


def _verify(temporary: Path, path: Path, written: Mapping[str, int]) -> None:
    for layer, n in written.items():
        found = pyogrio.read_info(temporary, layer=layer)["features"] if n else 0
        if found != n:
            raise OutputError(path, f"reads back {found} of {n} features", "check the disk")
