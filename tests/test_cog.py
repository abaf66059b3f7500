"""Heatmaps: valid COGs whose tags say what their pixels say, from score maps and from layers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from layers import TRANSFORM, flat_scene, score_map
from places import PLACES, layer_of
from pyproj import CRS
from rio_cogeo.cogeo import cog_validate

from geoanom.errors import ConfigError, InputError
from geoanom.layer import geojson, heat, vector
from geoanom.layer.cog import Statistics, write_heatmap
from geoanom.layer.features import GROUP, Feature, Features, features_of, significant
from geoanom.layer.geometry import to_rfc7946
from geoanom.layer.pixelerror import PixelErrors
from geoanom.layer.reading import read_features
from geoanom.pipeline import Outputs
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.scene import Scene

POINTS = tuple((r, c, 10.0 + c / 1000, 50.0 - r / 1000) for r in (0.0, 256.0) for c in (0.0, 320.0))
PEAKS = {(1, 1): 5.0, (2, 2): 7.0, (6, 8): 2.0, (3, 4): 4.0, (7, 0): 9.0}


def scene_at(place: str, height: int = 250, width: int = 310) -> Scene:
    """A scene at one of `PLACES`, or with control points."""
    if place == "gcps":
        georef = Georeference(crs_wkt=CRS.from_epsg(4326).to_wkt(), transform=Affine.identity(), gcps=POINTS)
        return replace(flat_scene(height, width), georef=georef)
    transform, crs = PLACES[place]
    return flat_scene(height, width, transform=transform, crs_wkt=None if crs is None else crs.to_wkt())


def with_pixel_errors(scores: ScoreMap, path: Path) -> ScoreMap:
    """The same with an error for every pixel, some of them unknown."""
    errors = np.random.default_rng(0).gamma(2.0, 1.0, (scores.grid.height, scores.grid.width)).astype(np.float32)
    errors[:40, :50] = np.nan
    profile = {"driver": "GTiff", "height": scores.grid.height, "width": scores.grid.width, "count": 1, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as dst:
        dst.write(errors, 1)
    return replace(scores, pixel_errors=PixelErrors(path))


def some_scored(scores: ScoreMap, share: float = 0.7) -> ScoreMap:
    """The same with fewer tiles, as a scene with clouds has."""
    kept = np.random.default_rng(1).random(len(scores)) < share
    columns: dict[str, Any] = {
        name: value[kept] for name, value in vars(scores).items() if isinstance(value, np.ndarray) and len(value) == len(scores)
    }
    return replace(scores, member_score={name: value[kept] for name, value in scores.member_score.items()}, **columns)


def pixels(path: Path) -> Any:
    with rasterio.open(path) as src:
        return src.read(1)


@pytest.mark.parametrize("place", [*PLACES, "gcps"])
@pytest.mark.parametrize("fine", [False, True], ids=["cores", "pixels"])
def test_rio_cogeo_accepts_the_heatmap_of_every_kind_of_scene(place: str, fine: bool, tmp_path: Path) -> None:  # noqa: FBT001
    scores = some_scored(score_map(scene_at(place, 300, 600), peaks=PEAKS))
    write_heatmap(with_pixel_errors(scores, tmp_path / "e.tif") if fine else scores, tmp_path / "heat.tif")
    assert cog_validate(tmp_path / "heat.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(tmp_path / "heat.tif") as src:
        assert src.descriptions == ("score", "pixel_error")[: 1 + fine]
        assert src.units == ("1",) * src.count
        assert bool(src.overviews(1)) == fine, "600 pixels are more than a block, 19 cores are not"
        assert "1e-10" in src.tags(1)["LONG_NAME"]
        assert src.tags()["SCENE"] == "flat.tif"
        assert src.tags()["STRIDE"] == "32"


@pytest.mark.parametrize("fine", [False, True], ids=["cores", "pixels"])
def test_the_statistics_in_the_file_are_those_of_its_pixels(fine: bool, tmp_path: Path) -> None:  # noqa: FBT001
    scores = some_scored(score_map(flat_scene(), peaks=PEAKS))
    write_heatmap(with_pixel_errors(scores, tmp_path / "e.tif") if fine else scores, tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as src:
        for band in src.indexes:
            values = src.read(band).astype(float)
            known = values[np.isfinite(values)]
            assert 0 < len(known) < values.size
            told = {
                name.removeprefix("STATISTICS_"): float(text) for name, text in src.tags(band).items() if name.startswith("STATISTICS_")
            }
            mean = math.fsum(known) / len(known)
            assert told.pop("MEAN") == pytest.approx(mean, rel=1e-14)
            assert told.pop("STDDEV") == pytest.approx(math.sqrt(math.fsum((known - mean) ** 2) / len(known)), rel=1e-13)
            assert told.pop("VALID_PERCENT") == pytest.approx(100 * len(known) / values.size, rel=1e-3)
            assert told == {"MINIMUM": known.min(), "MAXIMUM": known.max()}


@given(
    parts=st.lists(npst.arrays(np.float32, st.integers(0, 20), elements=st.floats(-1000, 1000, width=32) | st.just(math.nan)), max_size=6)
)
def test_statistics_of_parts_are_those_of_the_whole(parts: list[Any]) -> None:
    statistics = Statistics()
    for part in parts:
        statistics.add(part)
    whole = np.concatenate([np.zeros(0, np.float32), *parts]).astype(float)
    known = whole[np.isfinite(whole)]
    assert (statistics.n_all, statistics.n) == (len(whole), len(known))
    if len(known):
        assert (statistics.least, statistics.most) == (known.min(), known.max())
        assert statistics.mean == pytest.approx(math.fsum(known) / len(known), abs=1e-10)
        assert statistics.deviation == pytest.approx(known.std(), abs=1e-9)


def test_where_nothing_is_scored_the_statistics_say_only_that(tmp_path: Path) -> None:
    write_heatmap(some_scored(score_map(flat_scene()), share=0.0), tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as src:
        assert {n: v for n, v in src.tags(1).items() if n.startswith("STATISTICS")} == {"STATISTICS_VALID_PERCENT": "0"}


@pytest.mark.parametrize("name", ["ümläut 雪.tif", '<a href="x">&amp;.tif', "bad\udcff\x07\n.tif"])
def test_any_name_of_a_scene_can_be_told(name: str, tmp_path: Path) -> None:
    write_heatmap(score_map(replace(flat_scene(), name=name)), tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as src:
        assert src.tags()["SCENE"] == name.replace("\udcff\x07\n", "\\xff\\x07 ")


def test_equal_scores_give_equal_heatmaps(tmp_path: Path) -> None:
    scores = score_map(flat_scene(), peaks=PEAKS)
    for name in ("one.tif", "two.tif"):
        write_heatmap(scores, tmp_path / name)
        heat.write(features_of(layer_of(scores), [scores]), tmp_path / f"layer-{name}")
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()
    assert (tmp_path / "layer-one.tif").read_bytes() == (tmp_path / "layer-two.tif").read_bytes()


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_with_tiles_gives_the_heatmap_again(place: str, tmp_path: Path) -> None:
    scores = some_scored(score_map(scene_at(place), peaks=PEAKS))
    write_heatmap(replace(scores, score=np.array([significant(s) for s in scores.score])), tmp_path / "heat.tif")
    vector.write_gpkg(features_of(layer_of(scores), [scores]), tmp_path / "layer.gpkg")
    heat.write(read_features(tmp_path / "layer.gpkg"), tmp_path / "again.tif")
    assert cog_validate(tmp_path / "again.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(tmp_path / "heat.tif") as one, rasterio.open(tmp_path / "again.tif") as two:
        assert (one.crs, one.transform, one.tags(1)) == (two.crs, two.transform, two.tags(1))
        assert one.tags().items() <= two.tags().items()
        assert one.read(1).tobytes() == two.read(1).tobytes()


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_without_tiles_gives_its_anomalies(place: str, tmp_path: Path) -> None:
    scores = score_map(scene_at(place), peaks=PEAKS)
    geojson.write(features_of(layer_of(scores)), tmp_path / "layer.geojson")
    heat.write(read_features(tmp_path / "layer.geojson"), tmp_path / "burnt.tif")
    expected = np.full((scores.grid.n_rows, scores.grid.n_cols), np.nan, np.float32)
    groups = [((1, 1), (2, 2), (3, 4)), ((6, 8),), ((7, 0),)]
    assert len(layer_of(scores).anomalies) == 4, "(3, 4) touches neither (2, 2) nor another"
    for cell in (cell for group in groups for cell in group):
        expected[cell] = significant(PEAKS[cell] / 10)
    expected[1, 1] = expected[2, 2]
    np.testing.assert_array_equal(pixels(tmp_path / "burnt.tif"), expected)


def test_outlines_finer_than_cells_are_seen_and_the_highest_score_wins(tmp_path: Path) -> None:
    scene = flat_scene()
    outlines = {
        "a": (shapely.box(33, 33, 36, 36), 0.2),
        "b": (shapely.box(100, 100, 190, 150), 0.5),
        "c": (shapely.box(90, 90, 140, 140), 0.9),
    }
    made = {name: Feature(to_rfc7946(shape, scene.georef), {"anomaly_id": name, "score": s}) for name, (shape, s) in outlines.items()}
    order = [made["c"], *([made["a"]] * GROUP), made["b"]]
    provenance = dict(features_of(layer_of(score_map(scene))).provenance)
    heat.write(Features(provenance=provenance, in_pixels=False, stream=lambda: iter(order)), tmp_path / "burnt.tif")
    expected = np.full((8, 10), np.nan, np.float32)
    expected[1, 1], expected[3:5, 3:6], expected[3, 3] = 0.2, 0.5, 0.9
    np.testing.assert_array_equal(pixels(tmp_path / "burnt.tif"), expected)


def test_an_anomaly_outside_of_its_scene_is_an_error(tmp_path: Path) -> None:
    provenance = dict(features_of(layer_of(score_map(flat_scene()))).provenance)
    made = [Feature(shapely.box(5, 5, 6, 6), {"anomaly_id": "lost", "score": 0.5})]
    with pytest.raises(InputError, match="anomaly lost, which lies outside"):
        heat.write(Features(provenance=provenance, in_pixels=False, stream=lambda: iter(made)), tmp_path / "burnt.tif")
    assert not list(tmp_path.iterdir())


def provenance_of(scores: ScoreMap) -> Any:
    return json.loads(json.dumps(features_of(layer_of(scores)).provenance))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": []}, "needs the place of the scene"),
        ({"stride": None}, "cannot be"),
        ({"stride": 0}, "cannot be"),
        ({"shape": [0, 5]}, "cannot be"),
        ({"shape": [10**9, 10**9]}, "cannot be"),
        ({"shape": "big"}, "cannot be"),
        ({"crs": "EPSG:999999"}, "cannot be"),
        ({"transform": [1, 2]}, "cannot be"),
        ({"transform": None}, "control points.*--heatmap"),
    ],
)
def test_layers_that_do_not_tell_their_scene_are_refused_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    provenance = provenance_of(score_map(flat_scene()))
    target = provenance if changes.keys() <= provenance.keys() else provenance["scenes"][0]
    target.update(changes)
    with pytest.raises(InputError, match=message):
        heat.write(Features(provenance=provenance, in_pixels=False, stream=lambda: iter(())), tmp_path / "burnt.tif")


def test_a_layer_of_two_scenes_is_refused(tmp_path: Path) -> None:
    provenance = provenance_of(score_map(flat_scene()))
    provenance["scenes"] *= 2
    with pytest.raises(InputError, match="the layer has 2; score each scene"):
        heat.write(Features(provenance=provenance, in_pixels=False, stream=lambda: iter(())), tmp_path / "burnt.tif")


def test_a_scene_with_control_points_is_refused_before_it_is_scored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ground control points; let the run write its heatmap"):
        heat.check_place(scene_at("gcps").georef, tmp_path / "layer.tif")
    heat.check_place(scene_at("pixels").georef, tmp_path / "layer.tif")


def test_a_layer_that_is_a_heatmap_is_of_one_scene(tmp_path: Path) -> None:
    assert Outputs(layer=tmp_path / "layer.gpkg").raster is None
    assert Outputs(layer=tmp_path / "layer.TIF").raster == tmp_path / "layer.TIF"
    with pytest.raises(ConfigError):
        Outputs(layer=tmp_path / "layer.tif").check(2)


def test_cells_lie_where_gis_programs_look_for_them(tmp_path: Path) -> None:
    scores = score_map(flat_scene(), peaks=PEAKS)
    heat.write(features_of(layer_of(scores), [scores]), tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as src:
        x, y = TRANSFORM @ (8 * 32 + 5, 6 * 32 + 5)
        assert next(src.sample([(x, y)]))[0] == np.float32(0.2)
