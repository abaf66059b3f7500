"""Reasons: bands, voters, nearest normal tiles, and the sentence that says them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from layers import flat_scene, score_map
from rasterio.windows import Window
from scipy.spatial import cKDTree

from geoanom.detect.calibrate import SCORE_DECADES, anomaly_score
from geoanom.layer.anomaly import anomalies_of
from geoanom.layer.explain import VOTE_SCORE, BandDeparture, NearTile, NormalTiles, reach_of, reason_of, voters_of
from geoanom.layer.features import features_of
from geoanom.layer.geojson import dumps
from geoanom.model.core import BandStatistics
from geoanom.model.fitting import fit_model
from geoanom.model.scoring import score_scene
from geoanom.pipeline import detect, open_scenes, score
from geoanom.raster.grid import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.layer.anomaly import Anomaly
    from geoanom.layer.scoremap import ScoreMap

BRIGHT = BandDeparture(band="B08", sigma=4.21, contrast=False)
FLAT = BandDeparture(band="B04", sigma=-2.14, contrast=True)


def tiles_of(embedding: NDArray[np.float32], *, n_cols: int = 10, digest: str = "d", reach: int = 1) -> NormalTiles:
    """Points that are the tiles of one scene in the order of its grid."""
    rows, cols = np.divmod(np.arange(len(embedding)), n_cols)
    return NormalTiles(
        embedding=embedding,
        scene=np.zeros(len(embedding), np.int64),
        rows=rows,
        cols=cols,
        names=("a.tif",),
        digests=(digest,),
        reach=reach,
    )


def only(scores: ScoreMap, cell: tuple[int, int]) -> Anomaly:
    """The anomaly that is one tile."""
    (found,) = anomalies_of(scores, (scores.rows == cell[0]) & (scores.cols == cell[1]), "m")
    return found


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_the_nearest_tiles_of_another_scene_are_those_of_a_k_d_tree(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, place = rng.normal(size=(n, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    found = tiles_of(points).nearest(place, "another", (0, 0))
    distance, order = cKDTree(points).query(place[None], k=range(1, min(3, n) + 1))
    assert [(t.row, t.col) for t in found] == [divmod(int(i), 10) for i in np.ravel(order)]
    assert [t.distance for t in found] == pytest.approx(np.ravel(distance).tolist(), rel=1e-6)


@given(st.integers(0, 10**6))
def test_nearest_tiles_that_are_equally_far_come_in_the_order_of_training(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 2, (40, 2)).astype(np.float32)
    found = tiles_of(points).nearest(np.zeros(2, np.float32), "another", (0, 0))
    distances = np.hypot(*points.astype(float).T)
    assert [t.row * 10 + t.col for t in found] == sorted(range(40), key=lambda i: (distances[i], i))[:3]


def test_a_tile_is_not_compared_with_itself_nor_with_tiles_that_share_its_pixels() -> None:
    points = np.zeros((100, 2), np.float32)
    found = tiles_of(points).nearest(points[0], "d", (4, 4))
    assert [(t.row, t.col) for t in found] == [(0, 0), (0, 1), (0, 2)]
    everywhere = tiles_of(points, reach=10)
    assert everywhere.nearest(points[0], "d", (4, 4)) == ()
    assert len(everywhere.nearest(points[0], "another", (4, 4))) == 3
    assert everywhere.usual_distance == 0.0


@given(st.integers(8, 70), st.data())
def test_windows_beyond_the_reach_share_no_pixel_on_any_grid(size: int, data: st.DataObject) -> None:
    stride, length = data.draw(st.integers(1, size)), data.draw(st.integers(1, 400))
    grid = TileGrid(height=length, width=length, size=size, stride=stride)
    apart = reach_of(size, stride) + 1
    for row in range(grid.n_rows - apart):
        assert grid.row_off(row + apart) >= grid.row_off(row) + size


def test_the_usual_distance_is_the_median_distance_to_the_nearest_tile() -> None:
    points = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    found = replace(tiles_of(points), scene=np.arange(100), names=["a"] * 100, digests=[str(i) for i in range(100)], reach=0).usual_distance
    assert found == pytest.approx(np.median(cKDTree(points).query(points, k=[2])[0]), rel=1e-6)
    assert tiles_of(points[:0]).usual_distance == 0.0
    assert tiles_of(points[:0]).nearest(points[0], "another", (0, 0)) == ()


@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=5))
def test_members_vote_with_a_p_value_of_one_percent_and_the_strongest_is_first(p_values: list[float]) -> None:
    member_p = dict(zip("abcde", p_values, strict=False))
    scores = {name: float(anomaly_score(np.array(p))) for name, p in member_p.items()}
    assert voters_of(scores) == tuple(sorted((n for n, p in member_p.items() if scores[n] >= 0.2), key=lambda n: -scores[n]))
    clear = {name for name, p in member_p.items() if abs(p - 0.01) > 1e-9}
    assert set(voters_of(scores)) & clear == {name for name in clear if member_p[name] <= 0.01}


def test_the_vote_s_score_is_one_percent_on_the_scale_of_the_calibration() -> None:
    assert float(anomaly_score(np.array(0.01))) == VOTE_SCORE
    assert SCORE_DECADES * VOTE_SCORE == 2.0


@pytest.mark.parametrize(
    ("bands", "distance", "voters", "words"),
    [
        (
            [BRIGHT, FLAT],
            3.0,
            ("rx", "knn"),
            "B08 brighter than usual by 4.2 sigma; nearest normal tile 3.0 times as far as usual; rx and knn agree",
        ),
        (
            [FLAT],
            1.2,
            ("knn",),
            "B04 with less contrast than usual by 2.1 sigma; nearest normal tile 1.2 times as far as usual; only knn is sure",
        ),
        ([replace(BRIGHT, sigma=-2.0)], None, (), "B08 darker than usual by 2.0 sigma; no single detector is sure"),
        ([replace(FLAT, sigma=1.9)], None, ("a", "b", "c"), "mean and contrast of every band as usual; a, b and c agree"),
        ([replace(FLAT, sigma=9.0)], None, ("a",), "B04 with more contrast than usual by 9.0 sigma; only a is sure"),
    ],
)
def test_the_sentence_says_what_is_known(bands: list[BandDeparture], distance: float | None, voters: tuple[str, ...], words: str) -> None:
    near = [] if distance is None else [NearTile(scene="a", row=0, col=0, distance=distance)]
    assert reason_of(bands, near, voters, 1.0) == words


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_each_band_is_named_once_by_the_further_of_its_mean_and_contrast(n_bands: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    statistics, center, spread = rng.normal(size=(7, 2 * n_bands)), rng.normal(size=2 * n_bands), rng.random(2 * n_bands) + 0.1
    bands, sigma, contrast = BandStatistics(center=center, spread=spread).furthest(statistics)
    assert bands.shape == (7, min(3, n_bands))
    for t in range(7):
        assert len(set(bands[t])) == len(bands[t])
        every = (statistics[t] - center) / spread
        assert sigma[t].tolist() == [every[b + n_bands * c] for b, c in zip(bands[t], contrast[t], strict=True)]
        further = np.sort(np.abs(every.reshape(2, n_bands)).max(axis=0))[::-1]
        assert np.abs(sigma[t]).tolist() == further[:3].tolist()


def test_an_anomaly_of_a_score_map_carries_its_worst_tile_s_reasons() -> None:
    normal = tiles_of(np.arange(200, dtype=np.float32).reshape(50, 4), digest="elsewhere")
    scores = replace(score_map(flat_scene(), peaks={(1, 2): 5.0}), normal_tiles=normal)
    found = only(scores, (1, 2))
    assert [band.label for band in found.bands] == ["band 2 -2.5", "band 1 contrast +1.2"]
    assert (found.top_band, found.top_band_sigma) == ("band 2", -2.5)
    assert found.voters == ("rx", "reconstruction")
    assert [tile.label for tile in found.nearest] == ["a.tif:1:2@0", "a.tif:1:1@8", "a.tif:1:3@8"]
    assert (
        found.reason == "band 2 darker than usual by 2.5 sigma; nearest normal tile 0.0 times as far as usual; rx and reconstruction agree"
    )
    assert only(replace(scores, normal_tiles=None), (1, 2)).nearest == ()


def test_a_real_layer_says_why_and_a_frozen_model_says_the_same(small_scene: Path, quick_config: Config) -> None:
    outcome, model = detect([small_scene], quick_config)
    features = json.loads(dumps(features_of(outcome.layer)))["features"]
    assert len(features) == 5
    normal = set(zip(model.normal_tiles.rows.tolist(), model.normal_tiles.cols.tolist(), strict=True))
    assert len(normal) == pytest.approx(0.95 * len(model.reference.halves), rel=0.02)
    for anomaly, feature in zip(outcome.layer.anomalies, features, strict=True):
        properties = feature["properties"]
        assert properties["reason"].endswith("agree") == (len(anomaly.voters) > 1)
        assert properties["bands"].startswith(properties["top_band"] + " ")
        assert properties["bands"].count(",") == 2
        assert properties["nearest_tiles"].count(";") == 2
        distances = [tile.distance for tile in anomaly.nearest]
        assert distances == sorted(distances)
        assert distances[0] > 0
        for tile in anomaly.nearest:
            assert tile.scene == small_scene.name
            assert (tile.row, tile.col) in normal
            apart = max(abs(tile.row - anomaly.cell[0]), abs(tile.col - anomaly.cell[1]))
            assert apart * quick_config.tiles.step >= quick_config.tiles.size
    assert dumps(features_of(score([small_scene], model, quick_config).layer)) == dumps(features_of(outcome.layer))


def test_normal_tiles_are_where_they_say(small_scene: Path, sample_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    with rasterio.open(sample_scene) as src:
        pixels, profile = src.read(window=Window(600, 600, 240, 200)), {**src.profile, "driver": "GTiff", "height": 200, "width": 240}
    with rasterio.open(tmp_path / "other.tif", "w", **profile) as dst:
        dst.write(pixels)
    scenes, _ = open_scenes([small_scene, tmp_path / "other.tif"], quick_config)
    model = fit_model(scenes, quick_config)
    normal, seen = model.normal_tiles, 0
    for scene in scenes:
        scores = score_scene(scene, model, quick_config, tmp_path)
        assert scores.embedding is not None
        at = {cell: i for i, cell in enumerate(zip(scores.rows.tolist(), scores.cols.tolist(), strict=True))}
        mine = np.flatnonzero(normal.scene == normal.digests.index(scene.digest))
        assert {normal.names[i] for i in normal.scene[mine]} == {scene.name}
        tiles = [at[int(normal.rows[i]), int(normal.cols[i])] for i in mine]
        np.testing.assert_allclose(scores.embedding[tiles], normal.embedding[mine], rtol=1e-4, atol=1e-4)
        assert (scores.p_value[tiles] > 0.04).all()
        seen += len(mine)
    assert seen == len(normal.rows) > 0
