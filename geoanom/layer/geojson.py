"""GeoJSON as RFC 7946 wants it: WGS 84, right-hand rule, no crs member, verified before it gets its name."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import antimeridian
import numpy as np
import shapely
from shapely.geometry import mapping

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file
from geoanom.layer.geometry import ground_area_m2, point_inside, to_rfc7946

if TYPE_CHECKING:
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.anomaly import Anomaly, AnomalyLayer, SceneSummary


def write(layer: AnomalyLayer, path: Path) -> None:
    """Write a layer.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    text = dumps(layer)
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")
        _verify(temporary, path, len(layer))


def dumps(layer: AnomalyLayer) -> str:
    """The layer as text, one feature a line."""
    geometries = [to_rfc7946(anomaly.outline, anomaly.scene.georef) for anomaly in layer.anomalies]
    features = [_dump(_feature(a, g, layer.model_id)) for a, g in zip(layer.anomalies, geometries, strict=True)]
    head: dict[str, Any] = {"type": "FeatureCollection", "geoanom": _provenance(layer)}
    bbox = _bbox([g for g in geometries if g is not None], in_pixels=any(a.scene.georef.is_pixel_space for a in layer.anomalies))
    if bbox:
        head["bbox"] = bbox
    body = ",\n".join(features)
    return f'{_dump(head)[:-1]},"features":[\n{body}\n]}}\n' if features else f'{_dump(head)[:-1]},"features":[]}}\n'


def significant(value: float, digits: int = 4) -> float:
    """A number rounded to significant digits."""
    return float(f"{value:.{digits}g}")


def properties_of(anomaly: Anomaly, model_id: str) -> dict[str, Any]:
    """All properties of an anomaly, scalars only."""
    area = ground_area_m2(anomaly.outline, anomaly.scene.georef)
    point = point_inside(anomaly.outline, anomaly.scene.georef)
    return {
        "anomaly_id": anomaly.anomaly_id,
        "rank": anomaly.rank,
        "score": significant(anomaly.score),
        "p_value": significant(anomaly.p_value),
        "q_value": significant(anomaly.q_value),
        "level": anomaly.level,
        "area_m2": None if area is None else significant(area, 7),
        "n_tiles": anomaly.n_tiles,
        "valid_fraction": significant(anomaly.valid_fraction),
        "scene": anomaly.scene.name,
        "datetime": anomaly.scene.datetime,
        "model_id": model_id,
        "recon_error": significant(anomaly.recon_error),
        **{f"score_{name}": significant(value) for name, value in anomaly.member_score.items()},
        "top_band": anomaly.top_band,
        "top_band_sigma": significant(anomaly.top_band_sigma),
        "bands": ", ".join(band.label for band in anomaly.bands),
        "voters": ", ".join(anomaly.voters),
        "nearest_tiles": "; ".join(tile.label for tile in anomaly.nearest),
        "reason": anomaly.reason,
        "lon": None if point is None else round(point[0], 7),
        "lat": None if point is None else round(point[1], 7),
    }


def _feature(anomaly: Anomaly, geometry: BaseGeometry | None, model_id: str) -> dict[str, Any]:
    properties = properties_of(anomaly, model_id)
    shape = None if geometry is None else _rounded(mapping(geometry))
    return {"type": "Feature", "id": anomaly.anomaly_id, "geometry": shape, "properties": properties}


def _provenance(layer: AnomalyLayer) -> dict[str, Any]:
    return {
        "version": version("geoanom"),
        "model_id": layer.model_id,
        "config_digest": layer.config_digest,
        "threshold": dict(layer.threshold),
        "tiles_scored": sum(summary.tiles_scored for summary in layer.scenes),
        "tiles_masked": sum(summary.tiles_masked for summary in layer.scenes),
        "scenes": [_scene_entry(summary) for summary in layer.scenes],
    }


def _scene_entry(summary: SceneSummary) -> dict[str, Any]:
    return {
        "name": summary.scene.name,
        "digest": summary.scene.digest,
        "datetime": summary.scene.datetime,
        "coordinates": "pixel" if summary.scene.georef.is_pixel_space else "wgs84",
        "tiles_scored": summary.tiles_scored,
        "tiles_masked": summary.tiles_masked,
        "warnings": list(summary.warnings),
    }


def _bbox(geometries: list[BaseGeometry], *, in_pixels: bool) -> list[float]:
    """West, south, east, north; west > east across the antimeridian."""
    if not geometries:
        return []
    everything = shapely.union_all(geometries)
    bounds = everything.bounds if in_pixels else antimeridian.bbox(everything)
    return [round(float(value), 7) for value in bounds]


def _rounded(value: Any) -> Any:
    """Coordinates as lists of plain numbers with at most seven decimals."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(float(value), 7) + 0.0 if isinstance(value, float | np.floating) else value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _verify(written: Path, path: Path, n_features: int) -> None:
    try:
        n_read = len(json.loads(written.read_text("utf-8"))["features"])
    except (ValueError, KeyError) as error:
        raise OutputError(path, "does not read back after writing", "check the disk") from error
    if n_read != n_features:
        raise OutputError(path, f"reads back {n_read} of {n_features} features", "check the disk")
