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
from hypothesis import given
from hypothesis import strategies as st
from places import ON_EARTH, PLACES, layer_at, scene_at
from rfc7946 import assert_rfc7946

from geoanom.errors import InputError
from geoanom.layer.features import Feature, Features
from geoanom.layer.geojson import Extent, dumps
from geoanom.layer.reading import READERS, read_features
from geoanom.registry import EXPORTERS

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = [suffix for suffix in EXPORTERS.names() if suffix in READERS]
"""Of what holds anomalies; a heatmap holds their scores alone."""


def a_layer(place: str = "mid-latitude", peaks: dict[tuple[int, int], float] | None = None) -> Features:
    return layer_at(scene_at(place), peaks)


def export(features: Features, path: Path) -> Path:
    EXPORTERS.load(path.suffix)(features, path)
    return path


def test_every_format_that_is_written_is_read() -> None:
    assert set(EXPORTERS.names()) - set(READERS) <= {".tif"}
    assert set(READERS) <= set(EXPORTERS.names())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("suffix", SUFFIXES)
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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_layer_is_written_and_read_in_every_format(suffix: str, tmp_path: Path) -> None:
    assert list(read_features(export(a_layer(peaks={}), tmp_path / f"layer{suffix}")).stream()) == []


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".kml"])
def test_equal_layers_give_equal_files(suffix: str, tmp_path: Path) -> None:
    one, two = export(a_layer(), tmp_path / f"one{suffix}"), export(a_layer(), tmp_path / f"two{suffix}")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("place", ON_EARTH)
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
    styled = dict(zip(styles["f_table_name"], styles["styleQML"], strict=True))
    assert set(styled) == {"anomalies", "scenes"}
    assert "categorizedSymbol" in styled["anomalies"]
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
