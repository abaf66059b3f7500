"""geoanom-base: the crops it is learned from, the axes that come with the package, and the command that makes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import timm
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rasters import write_raster
from safetensors import safe_open
from safetensors.torch import load, load_file
from torch.nn.functional import interpolate

from geoanom.cli.main import main
from geoanom.config import Config, Embed, canonical_json, parse_config
from geoanom.config.pretraining import Pretraining, load_pretraining
from geoanom.embed.backbones import build_backbone
from geoanom.embed.base import PACKAGED, Base, explained_variance, fit_axes, packaged_note
from geoanom.embed.crops import PLAIN_COLUMNS, Square, draw_squares, plain_features, two_views_of
from geoanom.embed.head_kinds import build_head, kind_of
from geoanom.embed.heads import head_bytes, load_heads
from geoanom.embed.lite0 import load_pretrained
from geoanom.errors import ConfigError, InputError
from geoanom.model.bundle import load_model, save_model
from geoanom.model.pretrain import pretrain
from geoanom.pipeline import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
N_FEATURES = 674
SEEDS = st.integers(0, 2**32 - 1)
TINY: dict[str, Any] = {
    "sources": [{"glob": "s2_virginia_*.tif", "crops": 6, "rgb": [3, 2, 1]}, {"glob": "l8_fill_edge_512.tif", "crops": 6}],
    "crop_px": [24, 64],
    "side_px": 32,
    "zoom": 1,
    "dim": 4,
}
STILL = {"shift": 0.0, "light": 0.0}


def settings_of(**changes: Any) -> Pretraining:
    return Pretraining.model_validate({**TINY, **changes})


def features_like_real(n: int, seed: int = 0) -> Tensor:
    """Rows (n, N_FEATURES) around the packaged centre, as far out as features are."""
    state, draw = load_file(PACKAGED), torch.Generator().manual_seed(seed)
    center, spread = state["center"], state["spread"].nan_to_num(posinf=0.0)
    plain = center + 2 * spread * torch.randn(n, len(center), generator=draw)
    return torch.cat([plain, torch.randn(n, N_FEATURES - len(center), generator=draw)], dim=1)


# Crops


@given(seed=SEEDS, height=st.integers(20, 90), width=st.integers(20, 90), n_holes=st.integers(0, 3))
def test_every_pixel_that_a_square_can_show_is_valid(seed: int, height: int, width: int, n_holes: int) -> None:
    rng = np.random.default_rng(seed)
    valid = np.ones((height, width), bool)
    for _ in range(n_holes):
        valid[rng.integers(height), rng.integers(width)] = False
    for square in draw_squares(valid, 5, settings_of(crop_px=[16, 64]), rng):
        assert 16 <= square.side_px <= 64
        assert square.top >= 0 <= square.left
        reach = square.side_px + square.slack_px
        part = valid[square.top : square.top + reach, square.left : square.left + reach]
        assert part.shape == (reach, reach)
        assert part.all()


@given(seed=SEEDS)
def test_both_views_show_nothing_outside_their_square(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.full((4, 80, 90), np.nan, np.float32)
    square = Square(top=20, left=30, side_px=40, slack_px=5)
    pixels[:, 20:65, 30:75] = rng.random((4, 45, 45))
    views = two_views_of(pixels, square, (3, 2, 1), settings_of(), rng)
    assert views.shape == (2, 3, 32, 32)
    assert views.isfinite().all()


@given(seed=SEEDS)
def test_a_view_in_the_same_light_is_the_square_turned_or_mirrored(seed: int) -> None:
    pixels = np.random.default_rng(0).random((4, 50, 50)).astype(np.float32)
    settings = settings_of(mix={"natural": 1.0, "permuted": 0.0, "grey": 0.0}, jitter=STILL)
    square = Square(top=7, left=9, side_px=32, slack_px=0)
    shown = pixels[[2, 1, 0], 7:39, 9:41]
    eight = [turned for k in range(4) for turned in (np.rot90(shown, k, (1, 2)), np.rot90(shown, k, (1, 2))[:, :, ::-1])]
    for view in two_views_of(pixels, square, (3, 2, 1), settings, np.random.default_rng(seed)):
        assert sum(np.allclose(view, turned, atol=1e-6) for turned in eight) == 1


def bands_shown(mix: str, n_bands: int) -> set[tuple[int, ...]]:
    """Which bands 300 views show, of a scene whose bands are the constants 0, 1, 2 ..."""
    pixels = np.arange(n_bands, dtype=np.float32)[:, None, None] * np.ones((40, 40), np.float32)
    shares = {name: float(name == mix) for name in ("natural", "permuted", "grey")}
    settings, rng = settings_of(mix=shares, jitter=STILL), np.random.default_rng(0)
    square = Square(top=0, left=0, side_px=32, slack_px=0)
    views = torch.cat([two_views_of(pixels, square, (1, 1, 1), settings, rng) for _ in range(150)])
    return {tuple(int(value) for value in view.mean(dim=(1, 2)).round()) for view in views}


def test_the_mix_of_bands_is_what_its_name_says() -> None:
    assert bands_shown("natural", 4) == {(0, 0, 0)}
    assert bands_shown("grey", 3) == {(0, 0, 0), (1, 1, 1), (2, 2, 2)}
    assert bands_shown("permuted", 3) == {(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert bands_shown("permuted", 1) == {(0, 0, 0)}


def test_the_features_learned_from_are_the_means_of_the_networks_own_stages() -> None:
    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_pretrained(net, "package")
    views, means = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), []
    with torch.inference_mode():
        shown = interpolate(views, scale_factor=2, mode="bilinear", align_corners=False)
        maps = net.bn1(net.conv_stem((shown - 127 / 255) / (128 / 255)))
        for number, block in enumerate(net.blocks):
            maps = block(maps)
            means += [maps.mean(dim=(2, 3))] if number in (1, 2, 4, 6) else []
    found = plain_features(build_backbone(Embed(zoom=2), 3, 64), views)
    assert found.shape == (2, 2 + 24 + 40 + 112 + 320)
    torch.testing.assert_close(found[:, 2:], torch.cat(means, dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[:, 0], views.std(dim=(2, 3), correction=0).mean(dim=1), rtol=1e-3, atol=1e-3)
    steps = (views.diff(dim=2).abs().sum(dim=(1, 2, 3)) + views.diff(dim=3).abs().sum(dim=(1, 2, 3))) / (3 * 64 * 64)
    torch.testing.assert_close(found[:, 1], steps, rtol=1e-3, atol=1e-3)


# Axes


@given(seed=SEEDS, dim=st.integers(1, 6))
def test_the_axes_are_the_singular_vectors_of_the_standardized_rows(seed: int, dim: int) -> None:
    features = torch.randn(60, 9, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, 10)
    head = fit_axes(features, dim + 2, 0.5)
    rows = head.rows(features).double().numpy()[:, 2:]
    _, singular, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    cosines = np.abs((axes[:dim] * head.axes.T.numpy()[2:, 2:]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-4)
    total = head.rows(features).double().var(dim=0).sum().item()
    np.testing.assert_allclose(explained_variance(head, features)[2:], singular[:dim] ** 2 / 59 / total, rtol=1e-3)
    assert (head.axes.gather(0, head.axes.abs().argmax(dim=0, keepdim=True)) > 0).all()


@given(seed=SEEDS, share=st.floats(0.1, 3.0))
def test_the_statistics_have_their_share_of_the_spread(seed: int, share: float) -> None:
    features = torch.randn(60, 30, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, 31)
    spread = fit_axes(features, 20, share).encode(features).std(dim=0)
    torch.testing.assert_close(spread[:2], (share * spread[2:16].norm() / 2**0.5).expand(2), rtol=1e-3, atol=1e-5)


def test_the_packaged_axes_are_orthonormal_and_their_signs_unique() -> None:
    axes = load_file(PACKAGED)["axes"].double()
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]).double(), atol=1e-5, rtol=0)
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all()
    assert axes.shape == (PLAIN_COLUMNS, 64)


def test_the_package_says_what_its_axes_were_made_of_and_no_truth_was_among_it() -> None:
    note, settings = packaged_note(), load_pretraining(ROOT / "configs/pretrain.yaml")
    assert PACKAGED.stat().st_size < 5_000_000
    assert note["settings"] == settings.model_dump(mode="json")
    assert note["settings_sha256"] == hashlib.sha256(canonical_json(note["settings"]).encode()).hexdigest()
    names = [scene["name"] for scene in note["scenes"]]
    assert len(names) == len(set(names)) >= 18
    assert not any(word in json.dumps(note).lower() for word in ("truth", "rsscn", "oscd", "sztaki", "taizhou", "flood", "/had"))
    card = PACKAGED.with_name("README.md").read_text("utf-8")
    assert "contains modified Copernicus Sentinel data" in card
    assert all(scene["sha256"][:12] in card for scene in note["scenes"])


def test_the_named_imagery_is_the_imagery_that_was_read(shared_data: Path) -> None:
    for scene in packaged_note()["scenes"]:
        assert hashlib.sha256((shared_data / scene["name"]).read_bytes()).hexdigest() == scene["sha256"]


# The head


def test_the_embedding_is_the_projection_of_the_bent_features() -> None:
    state = {name: tensor.double().numpy() for name, tensor in load_file(PACKAGED).items()}
    features = features_like_real(20)
    bent = 8 * np.tanh((features[:, :PLAIN_COLUMNS].double().numpy() - state["center"]) / state["spread"] / 8)
    code = (bent - state["mean"]) @ state["axes"]
    head = Base(N_FEATURES, 16)
    np.testing.assert_allclose(head.encode(features), (code / state["scale"])[:, :16], rtol=1e-4, atol=1e-3)
    residual = bent - state["mean"] - code @ state["axes"].T
    np.testing.assert_allclose(head.losses(features), (residual**2).mean(axis=1), rtol=1e-3)


@given(seed=SEEDS, scale=st.floats(0.1, 10.0))
def test_no_archive_changes_the_embedding_and_every_archive_its_own_rows(seed: int, scale: float) -> None:
    features, head = features_like_real(12, seed), Base(N_FEATURES, 8)
    before = head.encode(features)
    head.prepare(scale * features_like_real(30, seed + 1) + 1)
    head.settle(features)
    assert torch.equal(head.encode(features), before)
    other = Base(N_FEATURES, 8)
    other.prepare(features)
    assert not torch.equal(other.rows(features), head.rows(features))


@given(seed=SEEDS)
def test_the_evened_view_takes_no_part_in_embedding_and_error(seed: int) -> None:
    features, head = features_like_real(6, seed), Base(N_FEATURES, 8)
    other = features.clone()
    other[:, PLAIN_COLUMNS:] = 1e3
    assert torch.equal(head.encode(features), head.encode(other))
    assert torch.equal(head.losses(features), head.losses(other))
    other[:, PLAIN_COLUMNS - 1] += 1.0
    assert not torch.equal(head.encode(features), head.encode(other))


@given(dim=st.integers(1, 64), seed=SEEDS)
def test_fewer_dimensions_are_the_first_of_more_and_the_error_is_the_same(dim: int, seed: int) -> None:
    features, whole = features_like_real(5, seed), Base(N_FEATURES, 64)
    head = Base(N_FEATURES, dim)
    assert torch.equal(head.encode(features), whole.encode(features)[:, :dim])
    assert torch.equal(head.errors(features, torch.ones(5)).tile, whole.errors(features, torch.ones(5)).tile)


def test_there_is_nothing_to_train() -> None:
    assert not list(Base(N_FEATURES, 8).parameters())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "base"),
        ({"head": {"train_on": "folder"}}, "autoencoder"),
        ({"weights": "none"}, "autoencoder"),
        ({"backbone": "resnet18", "weights": "none"}, "autoencoder"),
        ({"head": {"kind": "pca"}}, "pca"),
    ],
)
def test_the_kind_that_is_left_open_is_base_where_that_suits(change: dict[str, Any], kind: str) -> None:
    settings = Embed.model_validate(change)
    assert kind_of(settings) == kind
    assert isinstance(build_head(settings, N_FEATURES), Base) == (kind == "base")


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"weights": "none"}, "base is for efficientnet_lite0 with the weights of its package"),
        ({"backbone": "resnet18", "weights": "download"}, "not for resnet18 with download"),
        ({"dim": 65}, r"embed\.dim: geoanom-base has 64 dimensions, 65 are asked for; use at most 64"),
    ],
)
def test_base_where_it_does_not_suit_is_a_config_error_with_a_way_out(change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong) as caught:
        build_head(Embed.model_validate({**change, "head": {"kind": "base"}}), N_FEATURES)
    assert "set embed.head.kind to autoencoder" in str(caught.value)
    with pytest.raises(ConfigError, match="base needs 498 features, the backbone gives 497"):
        Base(PLAIN_COLUMNS - 1, 4)


def test_a_head_file_brings_its_own_axes_whatever_the_package_holds(tmp_path: Path) -> None:
    settings, path = Embed(dim=8), tmp_path / "head.safetensors"
    backbone, head, features = build_backbone(settings, 3, 32), Base(N_FEATURES, 8), features_like_real(9)
    head.broad.axes.mul_(-1.0)  # as if an earlier package had held other ones
    path.write_bytes(head_bytes([head], backbone, settings))
    (again,) = load_heads(path, backbone, settings)
    assert torch.equal(again.encode(features), head.encode(features))
    assert not torch.equal(again.encode(features), Base(N_FEATURES, 8).encode(features))


def test_a_model_with_base_comes_back_from_its_bundle(small_scene: Path, quick_config: Config, tmp_path: Path) -> None:
    tree = quick_config.model_dump(mode="json")
    config = parse_config({**tree, "embed": {**tree["embed"], "head": {"kind": "auto"}}})
    model = fit([small_scene], config)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert all(isinstance(head, Base) for head in (*model.embedder.heads, *again.embedder.heads))
    features = features_like_real(7)
    for one, other in zip(model.embedder.heads, again.embedder.heads, strict=True):
        assert torch.equal(one.encode(features), other.encode(features))
        assert torch.equal(one.rows(features), other.rows(features))
        assert torch.equal(one.encode(features), Base(N_FEATURES, config.embed.dim).encode(features))
    assert again.model_id == model.model_id


# The command


@pytest.fixture(scope="module")
def data(sample_scene: Path) -> Path:
    return sample_scene.parent


def test_the_same_imagery_and_settings_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), "utf-8")
    for name in ("one", "two"):
        with pytest.raises(SystemExit) as stop:
            main(["pretrain", str(config), "--data", str(data), "-o", str(tmp_path / f"{name}.safetensors")])
        assert stop.value.code == 0
    content = (tmp_path / "one.safetensors").read_bytes()
    assert (tmp_path / "two.safetensors").read_bytes() == content
    assert load(content)["axes"].shape == (PLAIN_COLUMNS, 4)
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        note = json.loads(file.metadata()["geoanom"])
    digests = {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in ("s2_virginia_1024.tif", "l8_fill_edge_512.tif")}
    assert {scene["name"]: scene["sha256"] for scene in note["scenes"]} == digests
    assert note["n_views"] == 24
    assert str(data) not in json.dumps(note)
    assert pretrain(settings_of(seed=1), data).content != content


def bad_imagery(folder: Path) -> None:
    pixels: NDArray[np.uint16] = np.random.default_rng(0).integers(1, 4000, (3, 60, 60)).astype(np.uint16)
    write_raster(folder / "three.tif", pixels)
    write_raster(folder / "small.tif", pixels[:, :26])
    (folder / "damaged.tif").write_bytes((folder / "three.tif").read_bytes()[:5000])
    (folder / "text.tif").write_text("no raster", "utf-8")
    holes = pixels.copy()
    holes[:, ::9, ::9] = 0
    with rasterio.open(write_raster(folder / "holes.tif", holes), "r+") as dst:
        dst.nodata = 0


@pytest.mark.parametrize(
    ("glob", "rgb", "wrong"),
    [
        ("none/*.tif", (1, 2, 3), r"none/\*\.tif: matches no file; name the folder of the imagery with --data"),
        ("small.tif", (1, 2, 3), r"small\.tif: is of 26 x 60 pixels, the smallest crop needs 27 x 27"),
        ("damaged.tif", (1, 2, 3), r"damaged\.tif: "),
        ("text.tif", (1, 2, 3), r"text\.tif: is not a raster"),
        ("three.tif", (1, 2, 4), r"three\.tif: has 3 bands, rgb asks for band 4"),
        ("holes.tif", (1, 2, 3), r"holes\.tif: has room for 0 of 8 crops in its valid area"),
    ],
)
def test_bad_imagery_is_one_line_that_names_the_file(tmp_path: Path, glob: str, rgb: tuple[int, int, int], wrong: str) -> None:
    bad_imagery(tmp_path)
    with pytest.raises(InputError, match=wrong) as caught:
        pretrain(settings_of(sources=[{"glob": glob, "crops": 8, "rgb": rgb}]), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sources: []", "sources"),
        ("sources: [{glob: a, crop: 3}]", r"sources\.0\.crop.*did you mean 'sources\.0\.crops'"),
        ("sources: [{glob: a, crops: 3}]\njiter: {}", "did you mean 'jitter'"),
        ("sources: [{glob: a, crops: 3}]\nmix: {natral: 1}", r"did you mean 'mix\.natural'"),
        ("sources: [{glob: a, crops: 3}]\nmix: {natural: 0.9}", "must add up to 1"),
        ("sources: [{glob: ../a, crops: 3}]", "below the data folder"),
        ("sources: [{glob: /a, crops: 3}]", "below the data folder"),
        ("sources: [{glob: a, crops: 3, rgb: [0, 1, 2]}]", "bands count from 1"),
        ("sources: [{glob: a, crops: 3}]\ncrop_px: [30, 20]", "smallest side"),
        ("sources: [", "cannot be read as YAML"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=wrong) as caught:
        load_pretraining(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_fewer_views_than_axes_are_a_config_error(data: Path) -> None:
    with pytest.raises(ConfigError, match="2 views have no 4 principal components"):
        pretrain(settings_of(sources=[{"glob": "s2_virginia_1024.tif", "crops": 1}]), data)
