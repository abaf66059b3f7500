"""The whole story on small real scenes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from affine import Affine
from rfc7946 import assert_rfc7946
from shapely.geometry import box

from geoanom.config import load_config, parse_config
from geoanom.errors import ConfigError, InputError, ModelError, SceneError
from geoanom.layer.features import features_of
from geoanom.layer.geojson import dumps
from geoanom.model.bundle import load_model, save_model
from geoanom.pipeline import Outputs, detect, fit, score

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.model import Model


def with_settings(config: Config, **sections: object) -> Config:
    """A config with some sections changed."""
    tree = config.model_dump(mode="json")
    for name, value in sections.items():
        tree[name] = {**tree[name], **value} if isinstance(value, dict) and name != "threshold" else value
    return parse_config(tree)


def write_raster(path: Path, values: NDArray[np.generic], **extra: object) -> Path:
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    place = {"crs": "EPSG:32618", "transform": Affine(10, 0, 4e5, 0, -10, 4e6)}
    with rasterio.open(path, "w", **{**profile, **place, **extra}) as dst:
        dst.write(values)
    return path


@pytest.fixture(scope="session")
def model(small_scene: Path, quick_config: Config) -> Model:
    return fit([small_scene], quick_config)


def test_a_bundle_scores_in_a_new_process_with_the_bytes_of_detect(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    from geoanom.config import dump_config

    _, model = detect([small_scene], quick_config, Outputs(layer=tmp_path / "detect.geojson"))
    save_model(model, tmp_path / "model")
    (tmp_path / "config.yaml").write_text(dump_config(quick_config))
    command = [sys.executable, "-m", "geoanom", "score", str(small_scene), "-m", str(tmp_path / "model")]
    command += ["--config", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "score.geojson")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (tmp_path / "score.geojson").read_bytes() == (tmp_path / "detect.geojson").read_bytes()


def test_layers_and_models_have_the_same_bytes_for_any_number_of_threads(small_scene: Path, quick_config: Config) -> None:
    texts = []
    for threads in (1, 2):
        outcome, model = detect([small_scene], with_settings(quick_config, runtime={"threads": threads, "reader_threads": threads}))
        texts.append((model.model_id, dumps(features_of(outcome.layer))))
    assert texts[0] == texts[1]


def test_another_seed_gives_another_model(small_scene: Path, quick_config: Config, model: Model) -> None:
    assert fit([small_scene], with_settings(quick_config, seed=1)).model_id != model.model_id


def test_a_layer_does_not_depend_on_the_other_scenes_or_their_order(
    small_scene: Path, sample_scene: Path, model: Model, tmp_path: Path
) -> None:
    with rasterio.open(sample_scene) as src:
        other = write_raster(tmp_path / "other.tif", src.read(window=rasterio.windows.Window(600, 600, 200, 160)))
    alone = {f["id"] for f in json.loads(dumps(features_of(score([small_scene], model).layer)))["features"]}
    both = json.loads(dumps(features_of(score([small_scene, other], model).layer)))
    turned = json.loads(dumps(features_of(score([other, small_scene], model).layer)))
    assert both == turned
    assert {f["id"] for f in both["features"] if f["properties"]["scene"] == small_scene.name} == alone


def test_a_model_does_not_depend_on_the_order_of_its_scenes(
    small_scene: Path, sample_scene: Path, quick_config: Config, tmp_path: Path
) -> None:
    with rasterio.open(sample_scene) as src:
        other = write_raster(tmp_path / "other.tif", src.read(window=rasterio.windows.Window(600, 600, 200, 160)))
    assert fit([small_scene, other], quick_config).model_id == fit([other, small_scene], quick_config).model_id


def test_every_output_is_written_and_is_what_it_says(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    names = {"layer": "a.geojson", "heatmap": "h.tif", "embeddings": "e.parquet", "quicklook": "q.png"}
    paths = {kind: tmp_path / name for kind, name in names.items()}
    detect(
        [small_scene],
        quick_config,
        Outputs(layer=paths["layer"], heatmap=paths["heatmap"], embeddings=paths["embeddings"], quicklook=paths["quicklook"]),
    )
    assert {p.name for p in tmp_path.iterdir()} == set(names.values())
    tree = assert_rfc7946((tmp_path / "a.geojson").read_text())
    assert len(tree["features"]) == 5
    assert str(small_scene.parent) not in (tmp_path / "a.geojson").read_text(), "no absolute path inside a layer"
    with rasterio.open(tmp_path / "h.tif") as heat:
        row, col = np.unravel_index(np.nanargmax(heat.read(1)), heat.shape)
        corners = [heat.xy(row + i, col + j) for i, j in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))]
    worst = min(tree["features"], key=lambda feature: feature["properties"]["rank"])
    from pyproj import Transformer
    from shapely.geometry import Polygon, shape

    to_degrees = Transformer.from_crs(32618, 4326, always_xy=True)
    cell = Polygon([to_degrees.transform(x, y) for x, y in corners])
    assert shape(worst["geometry"]).intersects(cell), "heatmap and layer agree on the worst place"


def test_a_foreign_patch_is_among_the_top_places(small_scene: Path, shared_data: Path, tmp_path: Path) -> None:
    with rasterio.open(small_scene) as src, rasterio.open(min((shared_data / "series/naip").glob("*.tif"))) as naip:
        pixels, foreign = src.read(), naip.read(window=rasterio.windows.Window(300, 300, 48, 48)).astype(float)
    there = pixels[:, 140:188, 200:248].astype(float)
    alike = (foreign - foreign.mean((1, 2), keepdims=True)) / foreign.std((1, 2), keepdims=True)
    pixels[:, 140:188, 200:248] = alike * there.std((1, 2), keepdims=True) + there.mean((1, 2), keepdims=True)
    config = load_config(sets=["threshold.top=8", "tiles.stride=16", "embed.training.epochs=20"], environ={})
    layer = detect([write_raster(tmp_path / "planted.tif", pixels)], config)[0].layer
    assert any(box(200, 140, 248, 188).intersects(anomaly.outline) for anomaly in layer.anomalies)


def test_conv_ae_refines_outlines_to_pixels(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    config = with_settings(
        quick_config,
        embed={"backbone": "conv_ae"},
        detect={"members": [{"name": "knn", "input": "features"}], "reconstruction": False},
    )
    outcome, _ = detect([small_scene], config, Outputs(heatmap=tmp_path / "h.tif"))
    with rasterio.open(tmp_path / "h.tif") as heat:
        assert heat.descriptions == ("score", "pixel_error")
        assert heat.shape == (320, 320)
        assert np.isfinite(heat.read()).all()
    corners = {float(v) for a in outcome.layer.anomalies for v in a.outline.bounds}
    assert any(v % config.tiles.step for v in corners), "some outline leaves the grid of cores"


@pytest.mark.parametrize("kind", ["noise", "constant", "gradient"])
def test_nothing_is_called_where_nothing_stands_out(kind: str, quick_config: Config, tmp_path: Path) -> None:
    shape = (3, 384, 384)
    values = {
        "noise": np.random.default_rng(1).normal(1000, 50, shape),
        "constant": np.full(shape, 700.0),
        "gradient": np.broadcast_to(np.linspace(100, 5000, 384), shape),
    }[kind].astype(np.uint16)
    config = with_settings(quick_config, threshold={"fdr": 0.05})
    assert len(detect([write_raster(tmp_path / "trap.tif", values)], config)[0].layer) <= 1


def test_no_place_touches_undeclared_fill(quick_config: Config) -> None:
    from pathlib import Path

    path = Path(__file__).parent.parent / "data/l8_fill_edge_512.tif"
    outcome, _ = detect([path], with_settings(quick_config, threshold={"top": 20}))
    with rasterio.open(path) as src:
        fill = (src.read() == 0).all(axis=0)
    assert "fill" in outcome.layer.scenes[0].warnings[0]
    for anomaly in outcome.layer.anomalies:
        inside = rasterio.features.geometry_mask([anomaly.outline], fill.shape, Affine.identity(), all_touched=True, invert=True)
        assert not (fill & inside).any()


def test_a_bundle_reads_back_to_the_same_model(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model", "cpu")
    assert again.model_id == model.model_id
    assert again.config == model.config.model_copy(
        update={"threshold": again.config.threshold, "sources": again.config.sources, "runtime": again.config.runtime}
    )
    save_model(again, tmp_path / "again")
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {
        "model.json",
        "weights.safetensors",
        "head.safetensors",
        "reference.safetensors",
    }


def test_a_bundle_keeps_the_logarithm(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    model = fit([small_scene], with_settings(quick_config, normalize={"transform": "log"}))
    assert model.embedder.normalizer.log
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model", "cpu").embedder.normalizer == model.embedder.normalizer


def head_of(config: Config, **more: object) -> dict[str, object]:
    return {"head": {**config.embed.head.model_dump(mode="json"), **more}}


@pytest.mark.parametrize("kind", ["pca", "contrastive", "supervised"])
def test_a_model_with_any_kind_of_head_is_the_same_for_any_number_of_threads_and_reads_back(
    kind: str, small_scene: Path, quick_config: Config, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(
        "scene,row,col,label\n" + "".join(f"{small_scene.name},{i},{j},{'ab'[i % 2]}\n" for i in range(12) for j in range(12))
    )
    labels = str(tmp_path / "labels.csv") if kind == "supervised" else None
    config = with_settings(quick_config, embed=head_of(quick_config, kind=kind, labels=labels))
    one, two = (fit([small_scene], with_settings(config, runtime={"threads": threads})) for threads in (1, 2))
    assert one.model_id == two.model_id
    save_model(one, tmp_path / "model")
    assert load_model(tmp_path / "model", "cpu").model_id == one.model_id


def test_a_pair_of_views_can_be_learned_from_broad_imagery(
    small_scene: Path, sample_scene: Path, quick_config: Config, tmp_path: Path
) -> None:
    with rasterio.open(sample_scene) as src:
        write_raster(tmp_path / "broad.tif", src.read(window=rasterio.windows.Window(600, 600, 200, 200)))
    model = fit([small_scene], with_settings(quick_config, embed=head_of(quick_config, kind="triplet", train_on=str(tmp_path))))
    assert len(model.embedder.heads) == 1
    np.testing.assert_allclose(np.linalg.norm(model.reference.rows["embedding"], axis=1), 1.0, rtol=1e-5)


def test_labels_that_name_no_training_tile_are_refused(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("scene,row,col,label\nelsewhere.tif,0,0,a\n")
    head = head_of(quick_config, kind="supervised", labels=str(tmp_path / "labels.csv"))
    with pytest.raises(InputError, match=r"labels\.csv: labels none of the training tiles"):
        fit([small_scene], with_settings(quick_config, embed=head))


def test_a_detector_on_two_inputs_has_two_scores_in_the_layer(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    members = [{"name": "knn", "input": "features"}, {"name": "knn", "label": "knn_embedding"}]
    outcome, model = detect([small_scene], with_settings(quick_config, detect={"members": members}))
    assert model.member_names == ("knn", "knn_embedding")
    for feature in json.loads(dumps(features_of(outcome.layer)))["features"]:
        assert {"score_knn", "score_knn_embedding"} <= feature["properties"].keys()
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model", "cpu").member_names == model.member_names


@pytest.mark.parametrize("name", ["weights.safetensors", "head.safetensors", "reference.safetensors"])
def test_a_changed_file_of_a_bundle_is_refused(name: str, model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    content = bytearray((tmp_path / "model" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: was changed since the model was fitted"):
        load_model(tmp_path / "model", "cpu")


def test_a_bundle_that_computes_other_scores_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    tree = json.loads((tmp_path / "model/model.json").read_text())
    tree["golden_scores"][0][0] *= 1.1
    (tmp_path / "model/model.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="golden"):
        load_model(tmp_path / "model", "cpu")


def test_a_bundle_of_another_schema_or_with_a_missing_file_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    tree = json.loads((tmp_path / "model/model.json").read_text())
    shutil.copytree(tmp_path / "model", tmp_path / "newer")
    (tmp_path / "newer/model.json").write_text(json.dumps({**tree, "schema_version": 99}))
    with pytest.raises(ModelError, match="schema 99"):
        load_model(tmp_path / "newer", "cpu")
    (tmp_path / "model/head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"head\.safetensors: is missing"):
        load_model(tmp_path / "model", "cpu")
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path / "nowhere", "cpu")


def test_a_fitted_head_can_be_reused_and_another_setting_refuses_it(
    small_scene: Path, quick_config: Config, model: Model, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model")
    head = str(tmp_path / "model/head.safetensors")
    again = fit([small_scene], with_settings(quick_config, embed={"head": {**quick_config.embed.head.model_dump(), "path": head}}))
    np.testing.assert_array_equal(again.ensemble.joint.body, model.ensemble.joint.body)
    with pytest.raises(ModelError, match="dim"):
        fit([small_scene], with_settings(quick_config, embed={"dim": 5, "head": {**quick_config.embed.head.model_dump(), "path": head}}))


def test_a_head_can_be_learned_on_a_folder_of_other_imagery(
    small_scene: Path, sample_scene: Path, quick_config: Config, tmp_path: Path
) -> None:
    with rasterio.open(sample_scene) as src:
        write_raster(tmp_path / "broad.tif", src.read(window=rasterio.windows.Window(600, 600, 200, 200)))
    model = fit([small_scene], with_settings(quick_config, embed={"head": {"train_on": str(tmp_path)}}))
    assert len(model.embedder.heads) == 1
    (tmp_path / "broad.tif").unlink()
    with pytest.raises(ConfigError, match="has no GeoTIFF"):
        fit([small_scene], with_settings(quick_config, embed={"head": {"train_on": str(tmp_path)}}))


def test_a_scene_with_other_bands_is_refused_by_name(sample_scene: Path, model: Model, tmp_path: Path) -> None:
    with rasterio.open(sample_scene) as src:
        pixels = src.read(window=rasterio.windows.Window(0, 0, 200, 200))
    with pytest.raises(SceneError, match=r"five\.tif: has 5 bands, the model was fitted on 4"):
        score([write_raster(tmp_path / "five.tif", np.concatenate([pixels, pixels[:1]]))], model)
    with pytest.raises(SceneError, match=r"three\.tif"):
        score([write_raster(tmp_path / "three.tif", pixels[:3])], model)


def test_too_small_a_scene_says_so_and_what_to_do(model: Model, quick_config: Config, tmp_path: Path) -> None:
    tiny = write_raster(tmp_path / "tiny.tif", np.random.default_rng(0).integers(1, 99, (4, 20, 20), np.uint16))
    with pytest.raises(SceneError, match=r"20 x 20 px.*--tile-size"):
        fit([tiny], quick_config)
    with pytest.raises(SceneError, match="smaller than a tile"):
        score([tiny], model)


def test_a_damaged_block_is_masked_counted_and_the_rest_is_scored(small_scene: Path, model: Model, tmp_path: Path) -> None:
    with rasterio.open(small_scene) as src:
        path = write_raster(tmp_path / "hurt.tif", src.read(), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(path) as src:
        start = int(src.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    summary = score([path], model).layer.scenes[0]
    assert summary.warnings == ("1 damaged block could not be decoded and is masked",)
    assert 0 < summary.tiles_masked < summary.tiles_scored


def test_failed_scenes_do_not_stop_the_others(small_scene: Path, model: Model, tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_text("no raster")
    outcome = score([small_scene, tmp_path / "bad.tif", tmp_path / "gone.tif"], model)
    assert len(outcome.failures) == 2
    assert [s.scene.name for s in outcome.layer.scenes] == [small_scene.name]


def test_the_shipped_settings_are_the_defaults() -> None:
    from pathlib import Path

    configs = Path(__file__).parent.parent / "configs"
    assert load_config(configs / "default.yaml", environ={}) == load_config(environ={})
    assert load_config(configs / "conv_ae.yaml", environ={}).embed.backbone == "conv_ae"
