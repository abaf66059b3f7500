"""Layers as data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd

from geoanom.layer.features import features_of

if TYPE_CHECKING:
    from geoanom.layer.anomaly import AnomalyLayer


def to_geodataframe(layer: AnomalyLayer) -> gpd.GeoDataFrame:
    """One row per anomaly with the properties and geometries of the GeoJSON, in WGS 84; without a CRS in pixel space."""
    features = features_of(layer)
    found = list(features.stream())
    shapes = gpd.GeoSeries([feature.geometry for feature in found], dtype="geometry")
    rows = [dict(feature.properties) for feature in found]
    return gpd.GeoDataFrame(rows, geometry=shapes, crs=None if features.in_pixels else "EPSG:4326")
