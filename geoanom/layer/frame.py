"""Layers as data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd

from geoanom.layer.geojson import properties_of
from geoanom.layer.geometry import to_rfc7946

if TYPE_CHECKING:
    from geoanom.layer.anomaly import AnomalyLayer


def to_geodataframe(layer: AnomalyLayer) -> gpd.GeoDataFrame:
    """One row per anomaly with the properties and geometries of the GeoJSON, in WGS 84; without a CRS in pixel space."""
    rows = [properties_of(anomaly, layer.model_id) for anomaly in layer.anomalies]
    shapes = [to_rfc7946(anomaly.outline, anomaly.scene.georef) for anomaly in layer.anomalies]
    in_pixels = any(summary.scene.georef.is_pixel_space for summary in layer.scenes)
    return gpd.GeoDataFrame(rows, geometry=gpd.GeoSeries(shapes, dtype="geometry"), crs=None if in_pixels else "EPSG:4326")
