"""Layers: regions, outlines, GeoJSON, heatmap, embeddings, quicklook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import TRANSFORM, flat_scene, score_map
from pyproj import CRS, Geod, Transformer
from rfc7946 import assert_rfc7946
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import label

from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.cog import write_heatmap
from geoanom.layer.embeddings import write_embeddings
from geoanom.layer.features import features_of, significant
from geoanom.layer.frame import to_geodataframe
from geoanom.layer.geojson import dumps, write
from geoanom.layer.geometry import ground_area_m2, point_inside, to_rfc7946
from geoanom.layer.pixelerror import PixelErrors, PixelErrorWriter
from geoanom.layer.quicklook import display_bands
from geoanom.layer.regions import outline_of, top_places
from geoanom.raster.georef import Georeference
from geoanom.raster.scene import Band

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.scoremap import ScoreMap


def layer_of(scores: ScoreMap, threshold: float = 0.5) -> AnomalyLayer:
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=0, warnings=())
    return AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=(summary,),
        anomalies=tuple(anomalies_of(scores, scores.statistic > threshold, "0123456789ab")),
    )


def test_a_layer_is_rfc_7946_and_has_every_property_of_the_contract() -> None:
    scores = score_map(flat_scene(), peaks={(1, 1): 5.0, (2, 2): 7.0, (6, 8): 2.0})
    tree = assert_rfc7946(dumps(features_of(layer_of(scores))))
    assert [f["properties"]["rank"] for f in tree["features"]] == [1, 2]
    assert [f["geometry"]["type"] for f in tree["features"]] == ["MultiPolygon", "Polygon"], "cells that share a corner are one place"
    first = tree["features"][0]["properties"]
    assert list(first) == [
        "anomaly_id",
        "rank",
        "score",
        "p_value",
        "q_value",
        "level",
        "area_m2",
        "n_tiles",
        "valid_fraction",
        "scene",
        "datetime",
        "model_id",
        "recon_error",
        "score_rx",
        "score_reconstruction",
        "top_band",
        "top_band_sigma",
        "bands",
        "voters",
        "nearest_tiles",
        "reason",
        "lon",
        "lat",
    ]
    assert first["n_tiles"] == 2
    assert first["level"] == "high"
    assert first["top_band_sigma"] == -2.5
    assert all(value is None or isinstance(value, str | int | float) for value in first.values()), "scalars only"
    assert set(tree["geoanom"]) == {"version", "model_id", "config_digest", "threshold", "tiles_scored", "tiles_masked", "scenes"}


def test_coordinates_agree_with_pyproj_and_areas_with_its_geodesics() -> None:
    scores = score_map(flat_scene(), peaks={(3, 4): 5.0})
    feature = assert_rfc7946(dumps(features_of(layer_of(scores))))["features"][0]
    to_wgs84 = Transformer.from_crs(32618, 4326, always_xy=True)
    corners = [TRANSFORM @ (col, row) for col, row in [(128, 96), (160, 96), (160, 128), (128, 128)]]
    expected = shapely.Polygon([to_wgs84.transform(x, y) for x, y in corners])
    found = shapely.geometry.shape(feature["geometry"])
    assert found.symmetric_difference(expected).area < 1e-4 * expected.area, "seven decimals are a centimetre"
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(expected)
    assert feature["properties"]["area_m2"] == pytest.approx(abs(area), rel=1e-4)
    assert found.contains(shapely.Point(feature["properties"]["lon"], feature["properties"]["lat"]))


@pytest.mark.parametrize(
    ("epsg", "transform"),
    [
        (32660, Affine(1000.0, 0.0, 700_000.0, 0.0, -1000.0, 5_847_615.0)),
        (4326, Affine(0.05, 0.0, 175.0, 0.0, -0.05, 10.0)),
        (3995, Affine(5000.0, 0.0, -800_000.0, 0.0, -5000.0, 640_000.0)),
    ],
    ids=["utm-over-180", "degrees-over-180", "over-the-north-pole"],
)
def test_places_across_the_antimeridian_and_over_a_pole_stay_valid(epsg: int, transform: Affine) -> None:
    scene = flat_scene(transform=transform, crs_wkt=CRS.from_epsg(epsg).to_wkt())
    peaks = {(row, col): 5.0 for row in range(1, 7) for col in range(1, 9)}
    layer = layer_of(score_map(scene, peaks=peaks))
    tree = assert_rfc7946(dumps(features_of(layer)))
    found = shapely.geometry.shape(tree["features"][0]["geometry"])
    area = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in shapely.get_parts(found))
    assert area == pytest.approx(ground_area_m2(layer.anomalies[0].outline, scene.georef), rel=0.02)


def test_rotated_and_south_up_scenes_keep_their_outlines_counter_clockwise() -> None:
    for transform in (Affine.translation(4e5, 4e6) @ Affine.rotation(30) @ Affine.scale(10, -10), Affine(10, 0, 4e5, 0, 10, 4e6)):
        assert_rfc7946(dumps(features_of(layer_of(score_map(flat_scene(transform=transform), peaks={(2, 2): 4.0})))))


def test_a_layer_in_pixel_space_has_pixel_coordinates_and_no_place() -> None:
    scene = flat_scene(crs_wkt=None, transform=Affine.identity())
    tree = json.loads(dumps(features_of(layer_of(score_map(scene, peaks={(3, 4): 5.0})))))
    assert shapely.geometry.shape(tree["features"][0]["geometry"]).bounds == (128, 96, 160, 128)
    assert tree["features"][0]["properties"]["lon"] is None
    assert tree["features"][0]["properties"]["area_m2"] is None
    assert tree["geoanom"]["scenes"][0]["coordinates"] == "pixel"


def test_an_empty_layer_is_a_valid_one(tmp_path: Path) -> None:
    layer = layer_of(score_map(flat_scene()))
    write(features_of(layer), tmp_path / "empty.geojson")
    assert assert_rfc7946((tmp_path / "empty.geojson").read_text())["features"] == []
    assert len(gpd.read_file(tmp_path / "empty.geojson")) == 0


def test_geopandas_reads_the_layer(tmp_path: Path) -> None:
    write(features_of(layer_of(score_map(flat_scene(), peaks={(1, 1): 5.0, (5, 5): 6.0}))), tmp_path / "layer.geojson")
    frame = gpd.read_file(tmp_path / "layer.geojson")
    assert len(frame) == 2
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry.is_valid.all()


def test_a_data_frame_says_what_the_file_says(tmp_path: Path) -> None:
    layer = layer_of(score_map(flat_scene(), peaks={(1, 1): 5.0, (5, 5): 6.0}))
    write(features_of(layer), tmp_path / "layer.geojson")
    read, made = gpd.read_file(tmp_path / "layer.geojson"), to_geodataframe(layer)
    assert made["anomaly_id"].tolist() == read["anomaly_id"].tolist()
    assert made["score"].tolist() == read["score"].tolist()
    assert made.geometry.geom_equals_exact(read.geometry, 1e-7).all()
    assert len(to_geodataframe(layer_of(score_map(flat_scene())))) == 0


@given(st.floats(1e-12, 1e12))
def test_significant_digits_are_a_projection_within_half_a_unit(value: float) -> None:
    rounded = significant(value)
    assert significant(rounded) == rounded
    assert abs(rounded - value) <= 0.5001e-3 * value


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_the_top_k_rule_gives_at_most_k_places_and_always_the_worst_tile(seed: int, k: int) -> None:
    scores = score_map(flat_scene(), peaks=dict(zip(np.ndindex(8, 10), np.random.default_rng(seed).random(80).tolist(), strict=True)))
    chosen = scores.on_grid(top_places(scores, k)) == 1
    assert chosen.ravel()[scores.statistic.argmax()]
    n_places = label(chosen, np.ones((3, 3)))[1]
    assert 1 <= n_places <= k
    least = scores.statistic[chosen.ravel()].min()
    skipped = (scores.statistic > least) & ~chosen.ravel()
    grown = label(chosen, np.ones((3, 3)))[0] > 0
    near = np.array([grown[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].any() for r, c in zip(scores.rows, scores.cols, strict=True)])
    assert near[skipped].all(), "a tile is only passed over when it would widen a place"


def test_the_anomaly_id_depends_on_scene_model_and_cell_only() -> None:
    scene = flat_scene()
    first = anomalies_of(score_map(scene, peaks={(1, 1): 5.0}), np.arange(80) == 11, "aaaaaaaaaaaa")[0]
    again = anomalies_of(score_map(scene, peaks={(1, 1): 9.0}), np.arange(80) == 11, "aaaaaaaaaaaa")[0]
    other = anomalies_of(score_map(scene, peaks={(1, 1): 5.0}), np.arange(80) == 11, "bbbbbbbbbbbb")[0]
    assert first.anomaly_id == again.anomaly_id != other.anomaly_id


def test_a_refined_outline_follows_the_bad_pixels(tmp_path: Path) -> None:
    scores = score_map(flat_scene())
    errors = np.random.default_rng(0).random((256, 320)).astype(np.float32)
    errors[100:130, 100:140] += 10
    with rasterio.open(
        tmp_path / "e.tif", "w", driver="GTiff", height=256, width=320, count=1, dtype="float32", transform=TRANSFORM
    ) as dst:
        dst.write(errors, 1)
    cells = [(3, 3)]
    outline = outline_of(cells, scores.grid, PixelErrors(tmp_path / "e.tif"))
    assert list(outline.bounds) == [100, 100, 140, 130]
    assert list(outline_of(cells, scores.grid, None).bounds) == [96, 96, 128, 128]


def test_the_pixel_errors_of_tiles_are_stitched_without_gap_or_overlap(tmp_path: Path) -> None:
    scene = flat_scene(200, 330)
    from geoanom.config import load_config
    from geoanom.raster.blocks import stream_tiles

    grid = score_map(scene).grid
    with PixelErrorWriter(tmp_path / "e.tif", grid) as writer:
        for block in stream_tiles(scene, grid, load_config(environ={})):
            place = [
                np.add.outer(1000.0 * np.arange(64) + 1000 * grid.row_off(r), np.arange(64.0) + grid.col_off(c))
                for r, c in zip(block.rows, block.cols, strict=True)
            ]
            writer.add([block], np.stack(place).astype(np.float32))
    with rasterio.open(tmp_path / "e.tif") as src:
        np.testing.assert_array_equal(src.read(1), np.add.outer(1000.0 * np.arange(200), np.arange(330.0)))


def test_the_heatmap_is_a_cog_whose_pixels_are_the_cores(tmp_path: Path) -> None:
    scores = score_map(flat_scene(250, 1300), peaks={(3, 4): 5.0})
    write_heatmap(scores, tmp_path / "heat.tif")
    valid, errors, _ = cog_validate(tmp_path / "heat.tif", quiet=True)
    assert valid, errors
    with rasterio.open(tmp_path / "heat.tif") as src:
        assert src.descriptions == ("score",)
        assert np.isnan(src.nodata)
        assert src.crs.to_epsg() == 32618
        np.testing.assert_allclose(src.read(1), scores.on_grid(scores.score), rtol=1e-6)
        assert src.transform == TRANSFORM @ Affine.scale(32)
        assert src.index(*(TRANSFORM @ (4 * 32 + 16, 3 * 32 + 16))) == (3, 4)


def test_the_heatmap_of_a_scene_with_control_points_keeps_them(tmp_path: Path) -> None:
    from dataclasses import replace

    points = tuple((r, c, 10.0 + c / 1000, 50.0 - r / 1000) for r in (0.0, 256.0) for c in (0.0, 320.0))
    scene = replace(flat_scene(), georef=Georeference(crs_wkt=CRS.from_epsg(4326).to_wkt(), transform=Affine.identity(), gcps=points))
    write_heatmap(score_map(scene), tmp_path / "heat.tif")
    with rasterio.open(tmp_path / "heat.tif") as src:
        placed, crs = src.gcps
    assert crs.to_epsg() == 4326
    assert {(p.row, p.col, round(p.x, 6), round(p.y, 6)) for p in placed} == {(r / 32, c / 32, x, y) for r, c, x, y in points}


def test_embeddings_are_geoparquet_with_one_row_per_tile(tmp_path: Path) -> None:
    scores = score_map(flat_scene())
    write_embeddings([scores], tmp_path / "e.parquet", "0123456789ab")
    frame = gpd.read_parquet(tmp_path / "e.parquet")
    assert len(frame) == len(scores)
    assert frame.geometry.is_valid.all()
    np.testing.assert_array_equal(np.stack(frame["embedding"].to_numpy()), scores.embedding)
    schema = pq.read_schema(tmp_path / "e.parquet")
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[4]"
    assert json.loads(schema.metadata[b"geo"])["version"] == "1.1.0"
    union = frame.to_crs(32618).union_all().area
    assert union == pytest.approx(256 * 320 * 100, rel=1e-4), "cores cover the scene once"


def test_display_bands_follow_names_where_names_tell() -> None:
    def bands(*names: str) -> tuple[Band, ...]:
        return tuple(Band(index=i + 1, name=name, dtype="uint16") for i, name in enumerate(names))

    assert display_bands(bands("B02", "B03", "B04", "B08")) == (2, 1, 0)
    assert display_bands(bands("nir", "Red", "Green", "Blue")) == (1, 2, 3)
    assert display_bands(bands("a", "b", "c", "d")) == (0, 1, 2)
    assert display_bands(bands("VV", "VH")) == (0,)


def test_a_point_inside_lies_inside_and_pixel_space_has_none() -> None:
    ring = shapely.Point(100, 100).buffer(40) - shapely.Point(100, 100).buffer(30)
    scene = flat_scene()
    place = point_inside(ring, scene.georef)
    outline = to_rfc7946(ring, scene.georef)
    assert place is not None
    assert outline is not None
    assert outline.contains(shapely.Point(*place))
    assert point_inside(ring, Georeference(crs_wkt=None, transform=Affine.identity())) is None
