"""What RFC 7946 demands of a GeoJSON text, written down once more and independently of the writer."""

from __future__ import annotations

import json
import re
from typing import Any

from shapely import get_parts
from shapely.geometry import LinearRing, shape


def assert_rfc7946(text: str) -> dict[str, Any]:
    """Check a FeatureCollection and return it."""
    tree: dict[str, Any] = json.loads(text)
    assert tree["type"] == "FeatureCollection"
    assert "crs" not in tree
    assert not re.search(r"\d\.\d{8,}[,\]]", json.dumps([f["geometry"] for f in tree["features"]])), "more than seven decimals"
    for feature in tree["features"]:
        assert feature["type"] == "Feature"
        assert {"type", "id", "geometry", "properties"} == set(feature)
        assert not any(isinstance(value, dict | list) for value in feature["properties"].values()), "properties are scalars"
        _assert_geometry(feature["geometry"])
    if tree["features"]:
        _assert_bbox(tree)
    return tree


def _assert_geometry(geometry: dict[str, Any]) -> None:
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    assert shape(geometry).is_valid
    for rings in polygons:
        for i, ring in enumerate(rings):
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert LinearRing(ring).is_ccw == (i == 0), "exterior rings run counter-clockwise, holes clockwise"
            assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)
            around_pole = any(abs(lat) == 90 for _, lat in ring)
            assert around_pole or max(lon for lon, _ in ring) - min(lon for lon, _ in ring) <= 180, "cut at the antimeridian"


def _assert_bbox(tree: dict[str, Any]) -> None:
    west, south, east, north = tree["bbox"]
    for part in (part for feature in tree["features"] for part in get_parts(shape(feature["geometry"]))):
        left, bottom, right, top = part.bounds
        assert south <= bottom
        assert top <= north
        if west <= east:
            assert west <= left
            assert right <= east
        else:
            assert left >= west or right <= east
