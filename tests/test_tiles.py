"""The scored tiles as features: their cores, their scores, and the GeoPackage that keeps them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from layers import TRANSFORM, flat_scene, score_map
from places import ON_EARTH, PEAKS, PLACES, layer_of, scene_at
from pyproj import Transformer

from geoanom.layer.embeddings import write_embeddings
from geoanom.layer.features import features_of, significant
from geoanom.layer.geometry import to_rfc7946
from geoanom.layer.reading import read_features
from geoanom.layer.tiles import tiles_of
from geoanom.layer.vector import write_gpkg

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.features import Feature


@pytest.mark.parametrize("place", PLACES)
def test_each_tile_is_its_core_by_the_rules_of_anomalies(place: str) -> None:
    scores = score_map(scene_at(place), peaks=PEAKS)
    tiles = list(tiles_of([scores])())
    assert len(tiles) == len(scores)
    for tile, row, col in zip(tiles, scores.rows, scores.cols, strict=True):
        core = scores.grid.core(int(row), int(col))
        expected = to_rfc7946(shapely.box(core.col_off, core.row_off, core.col_end, core.row_end), scores.scene.georef)
        assert shapely.equals_identical(tile.geometry, expected)
        assert place == "pixels" or shapely.is_ccw(shapely.get_parts(tile.geometry)[0].exterior)


def test_corners_agree_with_pyproj() -> None:
    to_wgs84 = Transformer.from_crs(32618, 4326, always_xy=True)
    scores = score_map(flat_scene(250, 310))
    for tile, row, col in zip(tiles_of([scores])(), scores.rows, scores.cols, strict=True):
        corners = [(32 * col + c, 32 * row + r) for r, c in ((0, 0), (0, min(32, 310 - 32 * col)), (min(32, 250 - 32 * row), 0))]
        expected = np.array([to_wgs84.transform(*(TRANSFORM @ corner)) for corner in corners])
        found = shapely.get_coordinates(tile.geometry)
        assert (np.abs(found[:, None] - expected).max(axis=2).min(axis=0) <= 0.51e-7).all()


def test_a_tile_tells_its_place_and_all_its_scores_with_four_digits() -> None:
    scores = score_map(flat_scene(), peaks=PEAKS)
    tile = next(islice(tiles_of([scores])(), 22, None))
    assert dict(tile.properties) == {
        "tile_id": f"{scores.scene.digest[:12]}/2/2",
        "scene": "flat.tif",
        "row": 2,
        "col": 2,
        "score": 0.7,
        "p_value": 1e-7,
        "q_value": 1e-7,
        "valid_fraction": 1.0,
        "recon_error": 7.0,
        "score_rx": 0.7,
        "score_reconstruction": 0.35,
    }
    assert all(tile.properties["score"] == significant(s) for tile, s in zip(tiles_of([scores])(), scores.score, strict=True))


def test_the_tiles_of_several_scenes_follow_one_another_and_are_called_as_in_the_embeddings(tmp_path: Path) -> None:
    maps = [score_map(flat_scene()), score_map(replace(flat_scene(200, 100), name="other.tif"))]
    names = [tile.properties["tile_id"] for tile in tiles_of(maps)()]
    write_embeddings(maps, tmp_path / "e.parquet", "0123456789ab")
    assert names == pq.read_table(tmp_path / "e.parquet")["tile_id"].to_pylist()
    assert len(set(names)) == sum(map(len, maps))


def told(tiles: list[Feature]) -> list[dict[str, object]]:
    return [dict(tile.properties) for tile in tiles]


@pytest.mark.parametrize("place", PLACES)
def test_a_geopackage_keeps_anomalies_tiles_and_scenes(place: str, tmp_path: Path) -> None:
    scores = score_map(scene_at(place), peaks=PEAKS)
    features = features_of(layer_of(scores), [scores])
    write_gpkg(features, tmp_path / "one.gpkg")
    again = read_features(tmp_path / "one.gpkg")
    write_gpkg(again, tmp_path / "two.gpkg")
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes(), "an export of an export is the same"
    assert features.tiles is not None
    assert again.tiles is not None
    before, after = list(features.tiles()), list(again.tiles())
    assert told(after) == told(before)
    for one, two in zip(before, after, strict=True):
        assert shapely.equals_identical(one.geometry, two.geometry)


@pytest.mark.parametrize("place", ON_EARTH)
def test_another_reader_finds_three_styled_layers(place: str, tmp_path: Path) -> None:
    scores = score_map(scene_at(place), peaks=PEAKS)
    write_gpkg(features_of(layer_of(scores), [scores]), tmp_path / "layer.gpkg")
    assert [name for name, _ in pyogrio.list_layers(tmp_path / "layer.gpkg")] == ["anomalies", "tiles", "scenes", "layer_styles"]
    tiles = pyogrio.read_dataframe(tmp_path / "layer.gpkg", layer="tiles")
    assert len(tiles) == len(scores)
    assert tiles.crs.to_epsg() == 4326
    assert tiles.geometry.is_valid.all()
    assert {str(tiles[name].dtype) for name in ("row", "col")} == {"int64"}
    assert {str(tiles[name].dtype) for name in ("score", "p_value", "score_rx")} == {"float64"}
    styles = pyogrio.read_dataframe(tmp_path / "layer.gpkg", layer="layer_styles", read_geometry=False)
    assert sorted(styles["f_table_name"]) == ["anomalies", "scenes", "tiles"]
    assert styles["styleQML"].nunique() == 3


def test_tiles_without_a_known_error_have_none(tmp_path: Path) -> None:
    scores = score_map(flat_scene())
    scores = replace(scores, recon_error=np.where(np.arange(len(scores)) < 3, np.nan, 1.0))
    write_gpkg(features_of(layer_of(scores), [scores]), tmp_path / "layer.gpkg")
    assert pyogrio.read_dataframe(tmp_path / "layer.gpkg", layer="tiles")["recon_error"].isna().sum() == 3


def test_a_layer_without_score_maps_has_no_tiles(tmp_path: Path) -> None:
    features = features_of(layer_of(score_map(flat_scene(), peaks=PEAKS)))
    assert features.tiles is None
    write_gpkg(features, tmp_path / "layer.gpkg")
    assert read_features(tmp_path / "layer.gpkg").tiles is None


def test_memory_does_not_follow_the_number_of_tiles() -> None:
    def peak(side: int) -> int:
        scene = flat_scene(side, side, transform=Affine(2.0, 0, 4e5, 0, -2.0, 4e6))
        stream = tiles_of([score_map(scene, size=8, stride=8)])
        tracemalloc.start()
        n = sum(1 for _ in stream())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n == (side // 8) ** 2
        return most

    assert peak(8 * 192) < 1.2 * peak(8 * 96)
