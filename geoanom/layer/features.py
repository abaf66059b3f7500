"""A layer as a stream of features, whatever file it comes from or goes to: a few thousand of them are in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry import mapping, shape

from geoanom.layer.geometry import ground_area_m2, point_inside, to_rfc7946

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.anomaly import Anomaly, AnomalyLayer, SceneSummary
    from geoanom.layer.scoremap import ScoreMap

GROUP = 4096
"""Features that are in memory at a time."""
FOOTPRINT_DEGREES = 1e-5
"""How far a footprint may lie from the scene's edge: a metre."""


@dataclass(frozen=True)
class Feature:
    """One anomaly as files carry it."""

    geometry: BaseGeometry | None
    """Polygon or MultiPolygon in longitude and latitude, ready for RFC 7946; in pixel corners where the layer is in pixels."""
    properties: Mapping[str, Any]
    """Scalars; `anomaly_id` is the feature's identity."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """A layer that can be gone through as often as needed."""

    provenance: Mapping[str, Any]
    """What the layer's ``geoanom`` member says."""
    in_pixels: bool
    """Coordinates are pixel corners of a scene, not longitude and latitude."""
    stream: Callable[[], Iterator[Feature]] = field(repr=False)
    """Begin at the first feature."""
    scenes: tuple[Feature, ...] = ()
    """Footprints, where they are known."""
    tiles: Callable[[], Iterator[Feature]] | None = field(default=None, repr=False)
    """Begin at the first scored tile, where they are known: its core with its scores."""

    def groups(self, size: int = GROUP) -> Iterator[list[Feature]]:
        """The features, a few thousand at a time."""
        return in_groups(self.stream(), size)


def in_groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def features_of(layer: AnomalyLayer, maps: Sequence[ScoreMap] = ()) -> Features:
    """The features of a layer, in its order, and its tiles where their score maps are given."""
    from geoanom.layer.tiles import tiles_of  # makes features itself

    provenance = provenance_of(layer)
    return Features(
        provenance=provenance,
        in_pixels=any(summary.scene.georef.is_pixel_space for summary in layer.scenes),
        stream=lambda: (_feature(anomaly, layer.model_id) for anomaly in layer.anomalies),
        scenes=footprints_of(provenance),
        tiles=tiles_of(maps) if maps else None,
    )


def footprints_of(provenance: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The scenes of a layer with their footprints, as far as its provenance tells them."""
    return tuple(_footprint(entry) for entry in provenance.get("scenes", ()) if "footprint" in entry)


def significant(value: float, digits: int = 4) -> float:
    """A number rounded to significant digits; there is no negative zero."""
    return float(f"{value:.{digits}g}") + 0.0


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
        **({} if anomaly.direction is None else {"direction": anomaly.direction}),
        "lon": None if point is None else round(point[0], 7),
        "lat": None if point is None else round(point[1], 7),
    }


def provenance_of(layer: AnomalyLayer) -> dict[str, Any]:
    """Which model, settings and scenes made a layer."""
    return {
        "version": version("geoanom"),
        "model_id": layer.model_id,
        "config_digest": layer.config_digest,
        "threshold": dict(layer.threshold),
        **({} if layer.tile_size is None else {"tile_size": layer.tile_size, "stride": layer.stride}),
        "tiles_scored": sum(summary.tiles_scored for summary in layer.scenes),
        "tiles_masked": sum(summary.tiles_masked for summary in layer.scenes),
        **layer.about,
        "scenes": [_scene_entry(summary) for summary in layer.scenes],
    }


def _feature(anomaly: Anomaly, model_id: str) -> Feature:
    return Feature(to_rfc7946(anomaly.outline, anomaly.scene.georef), properties_of(anomaly, model_id))


def _footprint(entry: Mapping[str, Any]) -> Feature:
    """A scene's entry as a feature with scalar properties."""
    if entry["footprint"] is None:
        height, width = entry["shape"]
        geometry: BaseGeometry = shapely.box(0, 0, width, height)
    else:
        geometry = shape(entry["footprint"])
    scalars = {name: value for name, value in entry.items() if isinstance(value, str | int | float | None)}
    return Feature(geometry, {**scalars, "warnings": "; ".join(entry["warnings"])})


def _scene_entry(summary: SceneSummary) -> dict[str, Any]:
    scene = summary.scene
    georef = scene.georef
    placed = None if georef.is_pixel_space else to_rfc7946(shapely.box(0, 0, scene.width, scene.height), georef)
    return {
        "name": scene.name,
        "digest": scene.digest,
        "datetime": scene.datetime,
        "coordinates": "pixel" if georef.is_pixel_space else "wgs84",
        "shape": [scene.height, scene.width],
        "crs": georef.crs_name,
        "transform": None if georef.is_pixel_space or georef.gcps else list(georef.transform[:6]),
        "footprint": None if placed is None else _simple(placed),
        "tiles_scored": summary.tiles_scored,
        "tiles_masked": summary.tiles_masked,
        "warnings": list(summary.warnings),
    }


def _simple(footprint: BaseGeometry) -> Any:
    """A GeoJSON geometry without the points that a straight line makes up for."""
    return mapping(shapely.transform(footprint.simplify(FOOTPRINT_DEGREES), lambda points: points.round(7) + 0.0))
