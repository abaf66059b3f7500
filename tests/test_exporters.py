"""Every format carries the same layer: identities, scores, shapes, and where it lies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import TRANSFORM, flat_scene, score_map
from pyproj import CRS
from rfc7946 import assert_rfc7946

from geoanom.errors import InputError
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.features import Feature, Features, features_of
from geoanom.layer.geojson import Extent, dumps
from geoanom.layer.reading import READERS, read_features
from geoanom.registry import EXPORTERS

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.scoremap import ScoreMap

PLACES = {
    "mid-latitude": (TRANSFORM, CRS.from_epsg(32618)),
    "rotated": (TRANSFORM @ Affine.rotation(30), CRS.from_epsg(32618)),
    "south-up": (Affine(10.0, 0.0, 435_730.0, 0.0, 10.0, 4_176_000.0), CRS.from_epsg(32618)),
    "antimeridian": (Affine(0.01, 0.0, 178.6, 0.0, -0.01, 10.0), CRS.from_epsg(4326)),
    "pole": (Affine(2000.0, 0.0, -320_000.0, 0.0, -2000.0, 256_000.0), CRS.from_epsg(3413)),
    "pixels": (TRANSFORM, None),
}
PEAKS = {(1, 1): 5.0, (2, 2): 7.0, (6, 8): 2.0, (3, 4): 4.0}


def layer_of(scores: ScoreMap) -> AnomalyLayer:
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=3, warnings=("a warning",))
    return AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=(summary,),
        anomalies=tuple(anomalies_of(scores, scores.statistic > 0.5, "0123456789ab")),
    )


def a_layer(place: str = "mid-latitude", peaks: dict[tuple[int, int], float] | None = None) -> Features:
    transform, crs = PLACES[place]
    scene = flat_scene(transform=Affine.identity() if crs is None else transform, crs_wkt=None if crs is None else crs.to_wkt())
    return features_of(layer_of(score_map(scene, peaks=PEAKS if peaks is None else peaks)))


def export(features: Features, path: Path) -> Path:
    EXPORTERS.load(path.suffix)(features, path)
    return path


def test_every_format_that_is_written_is_read() -> None:
    assert set(READERS) == set(EXPORTERS.names())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("suffix", EXPORTERS.names())
def test_a_round_trip_keeps_identities_scores_and_shapes(suffix: str, place: str, tmp_path: Path) -> None:
    features = a_layer(place)
    if (suffix, place) == (".kml", "pixels"):
        with pytest.raises(InputError, match="KML knows only places on the Earth"):
            export(features, tmp_path / "layer.kml")
        return
    before = {f.properties["anomaly_id"]: f for f in features.stream()}
    again = read_features(export(features, tmp_path / f"layer{suffix}"))
    after = {f.properties["anomaly_id"]: f for f in again.stream()}
    assert len(before) == 3
    assert after.keys() == before.keys()
    for name, feature in after.items():
        ours = before[name]
        for column, value in ours.properties.items():
            found = feature.properties[column]
            assert found == pytest.approx(value, rel=1e-12) if isinstance(value, float) else (found or None) == (value or None), column
        assert feature.geometry is not None or (suffix == ".csv" and place == "pixels")
        if suffix != ".csv":
            assert ours.geometry is not None
            assert shapely.hausdorff_distance(feature.geometry, ours.geometry) <= 1e-7


@pytest.mark.parametrize("suffix", EXPORTERS.names())
def test_an_empty_layer_is_written_and_read_in_every_format(suffix: str, tmp_path: Path) -> None:
    assert list(read_features(export(a_layer(peaks={}), tmp_path / f"layer{suffix}")).stream()) == []


@pytest.mark.parametrize("suffix", [s for s in EXPORTERS.names() if s != ".kml"])
def test_equal_layers_give_equal_files(suffix: str, tmp_path: Path) -> None:
    one, two = export(a_layer(), tmp_path / f"one{suffix}"), export(a_layer(), tmp_path / f"two{suffix}")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("place", [place for place in PLACES if place != "pixels"])
def test_other_readers_agree_on_places_and_counts(place: str, tmp_path: Path) -> None:
    features = a_layer(place)
    expected = assert_rfc7946(dumps(features))
    for suffix in (".geojson", ".gpkg", ".fgb"):
        frame = gpd.read_file(
            export(features, tmp_path / f"layer{suffix}"), engine="pyogrio", layer=None if suffix == ".geojson" else "anomalies"
        )
        assert len(frame) == len(expected["features"])
        assert frame.crs.to_epsg() == 4326
    frame = gpd.read_parquet(export(features, tmp_path / "layer.parquet"))
    assert sorted(frame["anomaly_id"]) == sorted(feature["id"] for feature in expected["features"])


def test_a_geopackage_has_its_style_its_scenes_and_its_provenance(tmp_path: Path) -> None:
    path = export(a_layer(), tmp_path / "layer.gpkg")
    layers = dict(pyogrio.list_layers(path))
    assert {"anomalies", "scenes", "layer_styles"} <= set(layers)
    styles = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)
    assert styles["f_table_name"].tolist() == ["anomalies"]
    assert "categorizedSymbol" in styles["styleQML"][0]
    scenes = pyogrio.read_dataframe(path, layer="scenes")
    assert scenes["name"].tolist() == ["flat.tif"]
    assert scenes.geometry.iloc[0].area > 0
    assert read_features(path).provenance["model_id"] == "0123456789ab"


def test_a_geoparquet_can_be_filtered_by_its_covering_box(tmp_path: Path) -> None:
    path = export(a_layer(), tmp_path / "layer.parquet")
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    whole = gpd.read_parquet(path)
    west, south, east, north = whole.geometry.iloc[0].bounds
    part = gpd.read_parquet(path, bbox=(west + 1e-6, south + 1e-6, east - 1e-6, north - 1e-6))
    assert 0 < len(part) < len(whole)


def test_a_spreadsheet_runs_nothing_that_a_name_says(tmp_path: Path) -> None:
    feature = Feature(None, {"anomaly_id": "a", "scene": '=HYPERLINK("http://x")', "score": 0.5})
    path = export(Features(provenance={}, in_pixels=False, stream=lambda: iter([feature])), tmp_path / "layer.csv")
    assert "'=HYPERLINK" in path.read_text()


intervals = st.lists(st.tuples(st.floats(-180, 179), st.floats(0.01, 60)), min_size=1, max_size=6)


@given(intervals=intervals)
def test_the_box_holds_every_part_and_no_smaller_arc_does(intervals: list[tuple[float, float]]) -> None:
    boxes = [shapely.box(west, 0, min(west + width, 180), 1) for west, width in intervals]
    extent = Extent()
    extent.add(boxes)
    west, _, east, _ = extent.bbox(in_pixels=False)
    length = (east - west) % 360 or 360.0
    for box in boxes:
        assert (box.bounds[0] - west + 1e-6) % 360 <= length + 2e-6 or abs(length - 360) < 1e-6
    covered = np.zeros(36_000, bool)
    for box in boxes:
        cells = np.arange(int(np.floor((box.bounds[0] + 180) * 100)), int(np.ceil((box.bounds[2] + 180) * 100))) % 36_000
        covered[cells] = True
    free = "".join("1" if c else "0" for c in np.concatenate([covered, covered])).split("1")
    assert length <= 360 - max(map(len, free)) / 100 + 0.03 or covered.all()


@pytest.mark.parametrize(
    ("name", "content"), [("a.geojson", "{"), ("a.geojson", "[]"), ("a.gpkg", "no"), ("a.parquet", "no"), ("a.fgb", "no")]
)
def test_what_is_no_layer_is_one_line(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="is not a readable layer"):
        list(read_features(tmp_path / name).stream())
