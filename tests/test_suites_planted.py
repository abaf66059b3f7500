"""Measures of places against closed forms, and the suites that use them on small scenes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import timm
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.features import geometry_mask, shapes
from rasterio.windows import Window
from shapely import Polygon, box
from shapely.geometry import shape
from sklearn.metrics import average_precision_score

from geoanom.config import Threshold
from geoanom.embed.lite0 import load_pretrained
from geoanom.embed.plain import pooled_lite0
from geoanom.errors import InputError
from geoanom.evaluate.grounds import called_places, find_grounds, on_any_ground, read_ground
from geoanom.evaluate.place_peers import PLACE_PEERS
from geoanom.evaluate.places import average_precision, beyond_chance, chance, outline_iou, overlaps, pixels_of
from geoanom.evaluate.plant import plant
from geoanom.evaluate.suites import planted as suite
from geoanom.evaluate.suites import traps
from geoanom.pipeline import detect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geoanom.config import Config

SIDES = st.integers(1, 12)


def silent(items: Iterable[Any], /, **_: Any) -> Iterable[Any]:
    return items


@pytest.fixture(scope="module")
def small_data(small_scene: Path, sample_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small scenes laid out as the benchmark's data."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "oscd").mkdir()
    (folder / "oscd" / "here_1.tif").write_bytes(small_scene.read_bytes())
    with rasterio.open(sample_scene) as src:
        crop = Window(0, 600, 288, 256)
        profile = {**src.profile, "driver": "GTiff", "height": 256, "width": 288, "transform": src.window_transform(crop), "tiled": False}
        for name in ("blockxsize", "blockysize", "interleave"):
            profile.pop(name, None)
        for date in "12":
            with rasterio.open(folder / "oscd" / f"there_{date}.tif", "w", **profile) as dst:
                dst.write(src.read(window=crop))
    return folder


@given(height=SIDES, width=SIDES, other_height=SIDES, other_width=SIDES, row=st.integers(0, 30), col=st.integers(0, 30))
def test_chance_of_a_rectangle_to_hit_a_rectangle_is_that_of_a_torus(
    height: int, width: int, other_height: int, other_width: int, row: int, col: int
) -> None:
    union, labels = np.zeros((37, 31), bool), np.zeros((37, 31), int)
    union[:height, :width] = True
    labels[:other_height, :other_width] = 1
    union, labels = np.roll(union, (row, col), (0, 1)), np.roll(labels, (col, row), (0, 1))
    expected = (height + other_height - 1) * (width + other_width - 1) / union.size
    assert chance(union, labels) == pytest.approx([expected], abs=1e-12)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_chance_is_the_share_of_all_moves_that_hit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    union, labels = rng.random((9, 14)) < 0.05, np.where(rng.random((9, 14)) < 0.1, rng.integers(1, 4, (9, 14)), 0)
    labels[0, :3] = 1, 2, 3
    moved = [np.roll(union, (r, c), (0, 1)) for r in range(9) for c in range(14)]
    brute = [np.mean([(one & (labels == k)).any() for one in moved]) for k in (1, 2, 3)]
    assert chance(union, labels) == pytest.approx(brute, abs=1e-12)


def test_chance_of_everything_is_one_and_of_nothing_zero() -> None:
    labels = np.zeros((50, 41), int)
    labels[3:9, 4:7], labels[20, 20] = 1, 2
    assert (chance(np.ones(labels.shape, bool), labels) == 1).all()
    assert (chance(np.zeros(labels.shape, bool), labels) == 0).all()
    assert beyond_chance(1.0, 1.0) is None
    assert beyond_chance(1.0, 0.3) == 1
    assert beyond_chance(0.3, 0.3) == 0


@given(right=st.lists(st.booleans(), min_size=1, max_size=20))
def test_average_precision_is_the_common_one_where_each_outline_hits_another_anomaly(right: list[bool]) -> None:
    hits = np.zeros((len(right), max(1, sum(right))), bool)
    hits[np.flatnonzero(right), np.arange(sum(right))] = True
    expected = average_precision_score(right, -np.arange(len(right))) if any(right) else 0.0
    assert average_precision(hits) == pytest.approx(expected)


def test_average_precision_ignores_repeats_and_counts_what_is_missed_and_what_is_wrong() -> None:
    one, two, none, both = [True, False], [False, True], [False, False], [True, True]
    assert average_precision(np.array([one, two])) == 1
    assert average_precision(np.array([one, one, one, two])) == 1, "repeats are neither right nor wrong"
    assert average_precision(np.array([one])) == 0.5, "one is missed"
    assert average_precision(np.array([none, one, two])) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(np.array([one, two, none])) == 1, "what comes after the last find costs nothing"
    assert average_precision(np.array([both])) == 0.5, "an outline counts once, however many it swallows"
    assert average_precision(np.zeros((0, 2), bool)) == 0
    assert average_precision(np.zeros((3, 0), bool)) is None


@given(seed=st.integers(0, 10_000))
def test_pixels_of_an_outline_are_those_that_rasterio_burns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outline = Polygon(rng.uniform(-5, 45, (3, 2)))
    expected = geometry_mask([outline], (32, 40), Affine.identity(), invert=True)
    found = np.zeros(32 * 40, bool)
    found[pixels_of(outline, (32, 40))] = True
    assert (found.reshape(32, 40) != expected).sum() <= 1, "but for a centre on the edge itself"


@given(a=st.integers(0, 20), b=st.integers(0, 20), c=st.integers(1, 15), d=st.integers(1, 15))
def test_iou_is_that_of_the_areas(a: int, b: int, c: int, d: int) -> None:
    known, outline = box(10, 12, 22, 20), box(a, b, a + c, b + d)
    labels = geometry_mask([known], (40, 40), Affine.identity(), invert=True).astype(int)
    over = overlaps([outline], labels)
    expected = known.intersection(outline).area / known.union(outline).area
    assert over.found[0] == (expected > 0)
    assert np.nan_to_num(outline_iou(over)) == pytest.approx([expected])


def test_a_miss_has_no_iou_and_outlines_that_overlap_count_once() -> None:
    labels = np.zeros((40, 40), int)
    labels[:10, :10], labels[30:, 30:] = 1, 2
    over = overlaps([box(0, 0, 10, 10), box(0, 0, 10, 10), box(20, 0, 25, 5)], labels)
    assert outline_iou(over)[0] == 1
    assert np.isnan(outline_iou(over)[1])
    assert over.hits.tolist() == [[True, False], [True, False], [False, False]]
    nothing = overlaps([], labels)
    assert nothing.hits.shape == (0, 2)
    assert not nothing.found.any()


def test_a_perfect_detector_has_full_marks_and_a_blind_one_none(small_scene: Path, plain_config: Config) -> None:
    ground = read_ground(small_scene, plain_config)
    copy = plant(ground.values, ground.valid, [("fault", 48), ("erased", 24), ("spectral", 32), ("object", 12)], [], seed=1)
    assert len(copy.plants) == 4
    outlines = [shape(geometry).union(shape(geometry)) for i in range(1, 5) for geometry in [_joined(copy.labels == i)]]
    results = suite.summarize([suite.measured("perfect", "s", 0, outlines, copy), suite.measured("blind", "s", 0, [], copy)], {})
    perfect, blind = (row.figures for row in results.rows)
    assert [perfect[name] for name in ("recall", "beyond chance", "IoU", "average precision")] == [1, 1, 1, 1]
    assert [blind[name] for name in ("recall", "chance", "beyond chance", "average precision")] == [0, 0, 0, 0]
    assert blind["IoU"] is None
    assert results.tables["kind: fault"][0].figures["recall"] == 1
    assert set(results.tables["recall by size"][0].figures) == {"12 px", "24 px", "32 px", "48 px"}


def _joined(mask: np.ndarray) -> dict[str, Any]:
    parts = [shape(part) for part, _ in shapes(mask.astype(np.uint8), mask=mask, transform=Affine.identity())]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.union(part)
    geometry: dict[str, Any] = whole.__geo_interface__
    return geometry


@pytest.mark.parametrize("method", PLACE_PEERS)
def test_a_peer_ranks_places_on_valid_pixels_the_same_each_time(method: str, small_scene: Path, plain_config: Config) -> None:
    values = read_ground(small_scene, plain_config).values.astype(np.float32)
    valid = np.ones((values.shape[1], values.shape[2]), bool)
    valid[:, :70] = False
    values[:, 196:220, 196:220] = values[:, valid].max(axis=1)[[1, 0, 3, 2], None, None] * np.array([2, 0.1, 2, 0.1])[:, None, None]
    places = PLACE_PEERS[method](values, valid)
    assert places
    scores = [score for _, score in places]
    assert scores == sorted(scores, reverse=True)
    assert all(valid.ravel()[pixels_of(outline, valid.shape)].all() for outline, _ in places)
    if method.startswith(("global", "colour and edges", "colour, ECOD")):
        assert any(place.intersects(box(196, 196, 220, 220)) for place, _ in places[:3]), "what is plain to see comes first"
    again = PLACE_PEERS[method](values, valid)
    assert all(a.equals(b) and s == t for (a, s), (b, t) in zip(places, again, strict=True))


def test_a_peer_finds_nothing_where_nothing_is_valid_in_a_whole_tile(small_scene: Path, plain_config: Config) -> None:
    values = read_ground(small_scene, plain_config).values.astype(np.float32)
    valid = np.zeros((values.shape[1], values.shape[2]), bool)
    valid[::2] = True
    assert PLACE_PEERS["colour, ECOD"](values, valid) == []


def test_plain_features_are_those_of_the_network_itself_whatever_the_batch() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (18, 3, 64, 64)).astype(np.float32)
    found = pooled_lite0(images)
    assert found.shape == (18, 1280)
    assert (found[17] == pooled_lite0(images[17:])[0]).all()
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    large = np.stack([np.array(Image.fromarray(band).resize((224, 224), Image.Resampling.BILINEAR)) for band in images[0]])
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_pretrained(whole, "package")
    net.load_state_dict({name: value for name, value in whole.state_dict().items() if not name.startswith("classifier")})
    with torch.inference_mode():
        expected = net((torch.from_numpy(large)[None] - 127) / 128)[0].numpy()
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    assert pooled_lite0(images[:0]).shape == (0, 1280)


def test_a_scene_in_memory_is_judged_as_its_file_is(small_scene: Path, quick_config: Config) -> None:
    ground = read_ground(small_scene, quick_config)
    (found,) = called_places(ground, ground.values, ground.valid, quick_config)
    layer = detect([small_scene], quick_config)[0].layer
    expected = [anomaly.outline for anomaly in sorted(layer.anomalies, key=lambda anomaly: anomaly.rank)]
    assert len(found) == len(expected) > 0
    assert all(a.equals(b) for a, b in zip(found, expected, strict=True))


def test_scenes_are_found_in_their_places_and_later_dates_are_not(small_data: Path, tmp_path: Path) -> None:
    assert [path.name for path in find_grounds(small_data)] == ["here_1.tif", "there_1.tif"]
    (tmp_path / "truth").symlink_to(small_data)
    assert len(find_grounds(tmp_path)) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="none of the scenes"):
        find_grounds(tmp_path / "empty")
    (tmp_path / "pair" / "taizhou").mkdir(parents=True)
    for name in ("2000TM", "2003TM", "2000TM.HDR"):
        (tmp_path / "pair" / "taizhou" / name).touch()
    assert [path.name for path in find_grounds(tmp_path / "pair")] == ["2000TM"]


def test_the_planted_suite_measures_all_methods_on_all_scenes(small_data: Path, quick_config: Config) -> None:
    results = suite.run(small_data, quick_config, seeds=1, peers=True, progress=silent)
    assert [row.method for row in results.rows] == ["geoanom", *PLACE_PEERS]
    assert all(row.n_runs == 2 for row in results.rows)
    found = [record for record in results.details if "kind" in record]
    assert len(found) == results.settings["plants"] * len(results.rows) > 0
    for row in results.rows:
        own = [record for record in found if record["method"] == row.method]
        assert row.figures["recall"] == pytest.approx(np.mean([record["hit"] for record in own]))
        assert 0 <= (row.figures["chance"] or 0) <= 1
    json.dumps(results.to_json(), allow_nan=False)
    assert "kind: spectral" in results.markdown()


def test_the_traps_are_what_they_say(small_scene: Path, plain_config: Config) -> None:
    rng, shape_px = np.random.default_rng(5), (300, 320)
    wedge, alpha = traps.fill_wedge(shape_px, rng), traps.cloud_alpha(shape_px, rng)
    assert wedge.mean() == pytest.approx(traps.WEDGE_SHARE, abs=0.01)
    assert (alpha > 0).mean() == pytest.approx(traps.CLOUD_SHARE, abs=0.01)
    assert (alpha.min(), alpha.max()) == (0, 1)
    ground = read_ground(small_scene, plain_config)
    values, touched = traps.with_clouds(ground, traps.cloud_alpha(ground.valid.shape, rng))
    assert values.dtype == ground.values.dtype
    assert (values[:, ~touched] == ground.values[:, ~touched]).all()
    assert (values != ground.values).any(axis=0)[touched].mean() > 0.9
    area = np.zeros((40, 40), bool)
    area[:20] = True
    outlines = [box(0, 0, 10, 20), box(0, 15, 10, 25), box(0, 16, 10, 26), box(0, 19, 10, 30), box(0, 20, 10, 30)]
    assert traps.count_on(outlines, area, 0) == 4
    assert traps.count_on(outlines, area, 0.45) == 2


def test_the_suite_of_traps_counts_places(small_scene: Path, tmp_path: Path, quick_config: Config) -> None:
    (tmp_path / "oscd").mkdir()
    (tmp_path / "oscd" / "here_1.tif").symlink_to(small_scene)
    results = traps.run(tmp_path, quick_config, seeds=1, peers=False, progress=silent, side=128)
    assert {row.method for row in results.rows} == {
        *traps.SYNTHETIC,
        "touching cut fill",
        *(f"on{how} cloud {when}" for how in ("", " masked") for when in ("at FDR", "in top")),
    }
    figures = {row.method: row.figures["places, most"] for row in results.rows}
    assert all(figures[name] == 0 for name in ("gradient", "diagonal gradient"))
    assert all(count is not None and count == int(count) >= 0 for count in figures.values())
    json.dumps(results.to_json(), allow_nan=False)


def test_scenes_with_fill_are_found_beside_the_data(tmp_path: Path) -> None:
    for name in ("truth/oscd/a_fill.tif", "scenes/l8_fill0.tif", "scenes/l8_fill0.txt", "scenes/other.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in traps.filled_scenes(tmp_path / "truth")] == ["l8_fill0.tif", "a_fill.tif"]
    assert len(traps.filled_scenes(tmp_path)) == 2


def test_the_threshold_of_a_suite_is_its_own(plain_config: Config) -> None:
    assert on_any_ground(plain_config).sources.pixel_space
    assert [rule.threshold for rule in traps.rules(plain_config)] == [Threshold(fdr=0.05), Threshold(top=50)]
