"""Layers at places that are hard to map: turned, upside down, across 180 degrees, over a pole, tiny, nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import shapely
from affine import Affine
from layers import TRANSFORM, UTM18, flat_scene, score_map
from pyproj import CRS

from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.explain import NearTile
from geoanom.layer.features import Feature, Features, features_of

if TYPE_CHECKING:
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.scene import Scene

PLACES = {
    "mid-latitude": (TRANSFORM, CRS.from_epsg(32618)),
    "rotated": (TRANSFORM @ Affine.rotation(30), CRS.from_epsg(32618)),
    "south-up": (Affine(10.0, 0.0, 435_730.0, 0.0, 10.0, 4_176_000.0), CRS.from_epsg(32618)),
    "antimeridian": (Affine(0.01, 0.0, 178.6, 0.0, -0.01, 10.0), CRS.from_epsg(4326)),
    "pole": (Affine(2000.0, 0.0, -320_000.0, 0.0, -2000.0, 256_000.0), CRS.from_epsg(3413)),
    "south pole": (Affine(2000.0, 0.0, -320_000.0, 0.0, -2000.0, 256_000.0), CRS.from_epsg(3031)),
    "pixels": (Affine.identity(), None),
}
"""Transform and CRS of scenes of 320 x 256 pixels."""
ON_EARTH = [place for place in PLACES if place != "pixels"]
PEAKS = {(1, 1): 5.0, (2, 2): 7.0, (6, 8): 2.0, (3, 4): 4.0}
"""Statistics of the anomalous tiles by row and column; two of the four are neighbours."""
AROUND = {(3, 4): 5.0, (3, 5): 5.0, (4, 4): 5.0, (4, 5): 5.0}
"""Tiles that hold the middle of the scene, where the pole is."""
CORNERS = ((0, 0), (0, 320), (256, 0), (256, 320), (128, 160))


def scene_at(place: str) -> Scene:
    """A flat scene at a place."""
    transform, crs = PLACES[place]
    return flat_scene(transform=transform, crs_wkt=None if crs is None else crs.to_wkt())


def scene_by_points() -> Scene:
    """A flat scene whose place is told by five ground control points, a little bent."""
    bent = Affine(1e-4, 2e-5, -75.0, 1e-5, -1e-4, 38.0)
    points = tuple((float(row), float(col), *(bent * (col, row + (col / 100) ** 2))) for row, col in CORNERS)
    scene = flat_scene(transform=bent, crs_wkt=CRS.from_epsg(4326).to_wkt())
    return replace(scene, georef=replace(scene.georef, gcps=points))


def tiny_scene() -> Scene:
    """A flat scene with pixels of a millimetre."""
    return flat_scene(transform=Affine(0.001, 0.0, 435_730.0, 0.0, -0.001, 4_179_460.0), crs_wkt=UTM18)


def layer_of(scores: ScoreMap, near: tuple[tuple[int, int], ...] = ((0, 0), (4, 4))) -> AnomalyLayer:
    """Every tile of a statistic above 0.5, each cluster an anomaly with the same nearest tiles."""
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=3, warnings=("a warning",))
    found = anomalies_of(scores, scores.statistic > 0.5, "0123456789ab")
    tiles = tuple(NearTile(scene=scores.scene.name, row=row, col=col, distance=2.5 + row) for row, col in near)
    return AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=(summary,),
        anomalies=tuple(replace(anomaly, nearest=tiles) for anomaly in found),
        tile_size=scores.grid.size,
        stride=scores.grid.stride,
    )


def layer_at(scene: Scene, peaks: dict[tuple[int, int], float] | None = None) -> Features:
    """The features of a flat scene."""
    return features_of(layer_of(score_map(scene, peaks=PEAKS if peaks is None else peaks)))


def features_like(properties: list[dict[str, Any]], provenance: dict[str, Any] | None = None) -> Features:
    """A layer of small squares side by side."""
    made = [Feature(shapely.box(n / 100, 0, n / 100 + 0.005, 0.005), each) for n, each in enumerate(properties)]
    return Features(provenance=provenance or {}, in_pixels=False, stream=lambda: iter(made))
