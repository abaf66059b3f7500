"""Scenes of one archive that differ: in their bands, their resolution, their types of values."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window
from rasters import edit, write_raster

from geoanom.config import load_config
from geoanom.errors import ConfigError, ModelError, SceneError
from geoanom.layer.features import features_of
from geoanom.layer.geojson import dumps
from geoanom.model.bundle import load_model, save_model
from geoanom.model.harmony import harmonized, matched, names_of, open_for
from geoanom.model.scoring import score_scene
from geoanom.pipeline import detect, fit, score
from geoanom.raster.grid import Window as TileWindow
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene
from geoanom.sources.bands import UnnamedBandsError, band_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.errors import GeoanomError
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.model import Model

NAMES = ("B02", "B03", "B04", "B08")
QUICK = [
    "tiles.size=32",
    "embed.backbone=spectrum",
    "embed.dim=4",
    "embed.head.hidden=[8]",
    "embed.training.epochs=1",
    "normalize.sample_pixels=5000",
    "fit.max_tiles=300",
    "fit.fold_tiles=2",
    "threshold.top=3",
    "runtime.threads=1",
]


def settings(*sets: str) -> Config:
    return load_config(sets=[*QUICK, *sets], environ={})


@pytest.fixture(scope="module")
def crops(sample_scene: Path) -> list[NDArray[Any]]:
    """Crops (4, 128, 128) of a real scene."""
    with rasterio.open(sample_scene) as src:
        return [src.read(window=Window(100 + 128 * i, 300, 128, 128)) for i in range(3)]


def named(path: Path, values: NDArray[Any], names: tuple[str, ...] = NAMES, **profile: Any) -> Path:
    """A raster file with names of its bands."""
    return edit(write_raster(path, values, block=64, photometric="minisblack", **profile), descriptions=names)


@pytest.fixture(scope="module")
def model(crops: list[NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("named")
    return fit([named(folder / f"{i}.tif", crop) for i, crop in enumerate(crops[:2])], settings())


@pytest.fixture(scope="module")
def per_scene(crops: list[NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("per_scene")
    return fit([named(folder / f"{i}.tif", crop) for i, crop in enumerate(crops[:2])], settings("normalize.per=scene"))


def scores_of(path: Path, model: Model, folder: Path, *sets: str) -> ScoreMap:
    config = settings(*sets)
    return score_scene(open_for(path, model, config), model, config, folder)


# ---- bands


@given(names=st.permutations(NAMES), wanted=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True), upper=st.booleans())
def test_a_band_is_found_by_its_name_wherever_it_stands_and_however_it_is_written(
    names: list[str], wanted: list[str], *, upper: bool
) -> None:
    asked = [name.upper() if upper else name.lower() for name in wanted]
    assert [names[number - 1] for number in band_numbers(asked, names, "file")] == wanted


def test_an_unknown_name_is_refused_with_the_known_ones_the_closest_first() -> None:
    with pytest.raises(ConfigError, match=r"^x\.tif: has no band 'nir2'; its bands are nir, red, green; "):
        band_numbers(["nir2"], ["red", None, "green", "nir", "band 5"], "x.tif")
    with pytest.raises(ConfigError, match=r"calls bands 1 and 3 'red'"):
        band_numbers(["red"], ["red", "green", "RED"], "x.tif")
    with pytest.raises(UnnamedBandsError, match="does not name its bands, and band 'red' was asked for"):
        band_numbers(["red"], [None, "band 2", "Band 3"], "x.tif")


def test_bands_are_read_by_name(crops: list[NDArray[Any]], tmp_path: Path) -> None:
    scene = open_scene(named(tmp_path / "a.tif", crops[0]), settings("bands=[b08, 1]"))
    assert [(band.index, band.name) for band in scene.bands] == [(4, "B08"), (1, "B02")]
    box = TileWindow(row_off=0, col_off=0, height=64, width=64)
    with rasterio.open(tmp_path / "a.tif") as src, closing(scene.open_handle()) as handle:
        np.testing.assert_array_equal(handle.read(box).values, src.read([4, 1], window=Window(0, 0, 64, 64)))


def test_a_model_states_names_resolution_and_type_and_reads_them_back(model: Model, tmp_path: Path) -> None:
    assert names_of(model.bands) == NAMES
    assert model.resolution_m == pytest.approx(10.0, rel=0.01)
    assert model.dtype == "uint16"
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model", "cpu")
    assert (again.bands, again.resolution_m, again.dtype) == (model.bands, model.resolution_m, model.dtype)


def test_a_scene_is_read_by_names_in_whatever_order_its_bands_are_and_by_number_without_names(
    crops: list[NDArray[Any]], model: Model, tmp_path: Path
) -> None:
    order = [3, 0, 2, 1]
    turned = named(tmp_path / "turned.tif", crops[2][order], tuple(NAMES[i].lower() for i in order))
    more = named(tmp_path / "more.tif", np.concatenate([crops[2][::-1], crops[2][:1] // 2]), (*NAMES[::-1], "B11"))
    bare = write_raster(tmp_path / "bare.tif", crops[2], block=64)
    straight = scores_of(named(tmp_path / "straight.tif", crops[2]), model, tmp_path)
    assert len(straight) > 30
    for path in (turned, more, bare):
        np.testing.assert_array_equal(scores_of(path, model, tmp_path).statistic, straight.statistic, err_msg=path.name)


def test_a_scene_that_lacks_a_named_band_is_refused_by_name(crops: list[NDArray[Any]], model: Model, tmp_path: Path) -> None:
    path = named(tmp_path / "other.tif", crops[2], ("B02", "B03", "B04", "B8A"))
    with pytest.raises(SceneError, match=r"other\.tif: has no band 'B08'; its bands are B8A, B02, B03, B04, and the model"):
        score([path], model, settings())
    with pytest.raises(SceneError, match=r"other\.tif: has the bands B02, B03, B04, B8A, the model was fitted on B02, B03, B04, B08"):
        matched(open_scene(path, settings()), model, settings())
    assert len(score([path], model, settings("bands=[1,2,3,4]")).layer.scenes) == 1, "numbers are the user's decree"


def test_training_scenes_with_their_bands_in_another_order_need_names(crops: list[NDArray[Any]], tmp_path: Path) -> None:
    paths = [named(tmp_path / "a.tif", crops[0]), named(tmp_path / "b.tif", crops[1][::-1], NAMES[::-1])]
    with pytest.raises(SceneError, match=r"has the bands .*choose common ones with --bands"):
        fit(paths, settings())
    straight = [paths[0], named(tmp_path / "c.tif", crops[1])]
    turned, plain = fit(paths, settings("bands=[B02,B03,B04,B08]")), fit(straight, settings("bands=[B02,B03,B04,B08]"))
    assert turned.embedder.normalizer == plain.embedder.normalizer
    bare = write_raster(tmp_path / "bare.tif", crops[2], block=64)
    with pytest.raises(ConfigError, match=r"bare\.tif: does not name its bands, and those of the model stood at other numbers"):
        score([bare], turned)
    np.testing.assert_array_equal(
        scores_of(paths[1], turned, tmp_path).statistic, scores_of(straight[1], turned, tmp_path).statistic, "read by names"
    )
    assert fit(paths, settings("bands=[1,2,3,4]")).bands[0].name == "band 1", "what has several names has none"


# ---- resolution


def coarse(path: Path, values: NDArray[Any], resolution_m: float) -> Path:
    place = Affine(resolution_m, 0, 500_000, 0, -resolution_m, 5_000_000)
    return named(path, values, transform=place)


def test_a_scene_of_another_resolution_is_refused_or_resampled(crops: list[NDArray[Any]], model: Model, tmp_path: Path) -> None:
    path = coarse(tmp_path / "twenty.tif", crops[2], 20.0)
    refusal = r"twenty\.tif: is at 20 m a pixel, the model was fitted at 10 m; score it with sources\.resample=true or fit a model for it"
    with pytest.raises(SceneError, match=refusal):
        score([path], model, settings())
    scores = scores_of(path, model, tmp_path, "sources.resample=true")
    assert (scores.scene.height, scores.scene.width) == (256, 256)
    assert scores.scene.resolution_m == pytest.approx(model.resolution_m, rel=0.02)
    assert scores_of(coarse(tmp_path / "near.tif", crops[2], 10.8), model, tmp_path).scene.height == 128, "a tenth is borne"


@given(resolutions=st.lists(st.sampled_from([5.0, 10.0, 10.5, 20.0, 60.0]), min_size=1, max_size=6))
def test_training_scenes_come_to_the_finer_median_of_their_resolutions(resolutions: list[float]) -> None:
    with rasterio.Env():
        wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    scenes = [
        array_scene(np.full((1, 120, 120), i, np.uint16), crs_wkt=wkt, transform=Affine(r, 0, 5e5, 0, -r, 5e6), name=f"{i} {r}")
        for i, r in enumerate(resolutions)
    ]
    known = [float(scene.resolution_m or 0.0) for scene in scenes]
    wanted = np.percentile(known, 50.0, method="lower")
    found, resolution_m = harmonized(scenes, load_config(sets=["sources.resample=true"], environ={}))
    assert resolution_m == wanted
    assert all(abs(float(scene.resolution_m or 0.0) / wanted - 1) <= 0.1 + 1e-9 for scene in found)
    unlike = [scene for scene, r in zip(scenes, known, strict=True) if abs(r - wanted) > 0.1 * wanted]
    if unlike:
        with pytest.raises(SceneError, match=r"m a pixel, the training scenes are at .* m; set sources\.resample=true or fit them apart"):
            harmonized(scenes, load_config(environ={}))


def test_scenes_in_pixel_space_have_no_resolution_to_refuse(crops: list[NDArray[Any]], model: Model, tmp_path: Path) -> None:
    path = named(tmp_path / "nowhere.tif", crops[2], crs=None, transform=None)
    assert len(scores_of(path, model, tmp_path, "sources.pixel_space=true")) > 30


def test_a_mixed_archive_gives_the_same_bytes_by_detect_and_by_score(crops: list[NDArray[Any]], tmp_path: Path) -> None:
    other_place = named(tmp_path / "b.tif", crops[1], crs="EPSG:4326", transform=Affine(9e-5, 0, 10, 0, -9e-5, 0.5))
    paths = [named(tmp_path / "a.tif", crops[0]), other_place, coarse(tmp_path / "c.tif", crops[2], 5.0)]
    config = settings("sources.resample=true", "normalize.per=scene")
    outcome, model = detect(paths, config)
    save_model(model, tmp_path / "model")
    again = score(paths, load_model(tmp_path / "model", "cpu"), config)
    assert dumps(features_of(again.layer)) == dumps(features_of(outcome.layer))
    assert not outcome.failures


# ---- types and radiometry


@pytest.mark.parametrize(("dtype", "factor"), [("uint8", 0.02), ("float32", 0.0001)])
def test_values_that_cannot_be_compared_are_refused_or_scaled_scene_by_scene(
    dtype: str, factor: float, crops: list[NDArray[Any]], model: Model, per_scene: Model, tmp_path: Path
) -> None:
    path = named(tmp_path / "other.tif", np.clip(crops[2] * factor, 0, 250).astype(dtype))
    with pytest.raises(SceneError, match=rf"other\.tif: holds {dtype} values, the model was fitted on uint16.*normalize\.per=scene"):
        score([path], model, settings())
    assert len(scores_of(path, per_scene, tmp_path)) > 30
    both = [named(tmp_path / "a.tif", crops[0]), named(tmp_path / "b.tif", crops[1]), path]
    with pytest.raises(SceneError, match=rf"other\.tif: holds {dtype} values, 2 of 3 scenes uint16 or like it.*set normalize\.per=scene"):
        fit(both, settings())
    assert fit(both, settings("normalize.per=scene")).resolution_m == model.resolution_m


def test_scene_by_scene_the_unit_of_the_values_means_nothing(
    crops: list[NDArray[Any]], model: Model, per_scene: Model, tmp_path: Path
) -> None:
    path, brighter = named(tmp_path / "a.tif", crops[2]), named(tmp_path / "b.tif", crops[2] * 4)
    ours, theirs = (scores_of(p, per_scene, tmp_path) for p in (path, brighter))
    np.testing.assert_array_equal(ours.statistic, theirs.statistic)
    ours, theirs = (scores_of(p, model, tmp_path) for p in (path, brighter))
    assert not np.array_equal(ours.statistic, theirs.statistic), "but it does where all scenes are scaled alike"


def test_a_model_per_scene_still_has_a_normalizer_for_its_golden_tiles(model: Model, per_scene: Model, tmp_path: Path) -> None:
    assert per_scene.embedder.normalizer == model.embedder.normalizer
    save_model(per_scene, tmp_path / "model")
    assert load_model(tmp_path / "model", "cpu").model_id == per_scene.model_id


# ---- schemas


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (99, "has schema 99, newer than .*upgrade geoanom"),
        (1, "has schema 1, older than .*fit the model again"),
        ("x", "does not say its schema"),
    ],
)
def test_a_newer_schema_is_told_from_an_older_one(schema: object, message: str, model: Model, tmp_path: Path) -> None:
    save_model(replace(model), tmp_path / "model")
    tree = json.loads((tmp_path / "model/model.json").read_text())
    (tmp_path / "model/model.json").write_text(json.dumps({**tree, "schema_version": schema}))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model", "cpu")


def test_a_folder_is_fitted_on_the_scenes_that_go_together_and_the_others_are_named(crops: list[NDArray[Any]], tmp_path: Path) -> None:
    good = [named(tmp_path / f"{i}.tif", crop) for i, crop in enumerate(crops[:2])]
    two = named(tmp_path / "two.tif", crops[2][:2], NAMES[:2])
    coarse = named(tmp_path / "coarse.tif", crops[2], transform=Affine(30, 0, 500_000, 0, -30, 5_000_000))
    bytes_ = named(tmp_path / "bytes.tif", (crops[2] // 40).astype(np.uint8))
    (tmp_path / "text.tif").write_text("no raster")
    lost: list[GeoanomError] = []
    together = fit([two, coarse, bytes_, tmp_path / "text.tif", *good], settings(), lost=lost)
    assert together.model_id == fit(good, settings()).model_id
    assert {error.subject.rsplit("/", 1)[-1] for error in lost} == {"two.tif", "coarse.tif", "bytes.tif", "text.tif"}
    with pytest.raises(SceneError):
        fit([coarse, *good], settings())
