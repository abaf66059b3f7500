"""Fine-tuning: what learns, what stays, that it learns at all, and that it is the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoanom.config import Config, Embed, parse_config
from geoanom.embed import finetune
from geoanom.embed.backbones import build_backbone
from geoanom.embed.contrastive import nt_xent
from geoanom.embed.embedder import Embedder
from geoanom.embed.finetune import Crops, collect_crops, fine_tune, last_blocks, most_crops
from geoanom.embed.head_kinds import kind_of
from geoanom.errors import ConfigError
from geoanom.model import fitting
from geoanom.model.bundle import load_model, save_model
from geoanom.model.fitting import fit_model
from geoanom.model.radiometry import Radiometry
from geoanom.raster.blocks import TileBlock, stream_tiles
from geoanom.raster.normalize import Normalizer, fit_normalizer
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from geoanom.model import Model

TILE = 32
POOLED = pytest.mark.parametrize(
    ("name", "weights", "parts"), [("efficientnet_lite0", "package", ("blocks.5.", "blocks.6.")), ("resnet18", "none", ("net.layer3.",))]
)


def with_embed(config: Config, **changes: Any) -> Config:
    tree = config.model_dump(mode="json")
    return parse_config({**tree, "embed": {**tree["embed"], **changes}})


def embedder_of(n_bands: int = 3, **settings: Any) -> Embedder:
    torch.manual_seed(0)
    embed = Embed.model_validate({"zoom": 1, **settings})
    backbone = build_backbone(embed, n_bands, TILE)
    normalizer = Normalizer(low=(0.0,) * n_bands, high=(1.0,) * n_bands)
    return Embedder(normalizer=normalizer, backbone=backbone, heads=(), settings=embed, device=torch.device("cpu"))


def weights_of(embedder: Embedder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in embedder.backbone.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def random_crops(n: int, n_bands: int = 3) -> Crops:
    side, draw = TILE + 2 * (TILE // finetune.SHIFT_SHARE), torch.Generator().manual_seed(1)
    pixels = torch.rand(n, n_bands, side, side, generator=draw).half()
    return Crops(pixels=pixels, valid=torch.ones(n, side, side, dtype=torch.bool), size=TILE)


def first(n: int, crops: Crops) -> Crops:
    return Crops(pixels=crops.pixels[:n], valid=crops.valid[:n], size=crops.size)


@pytest.fixture(scope="module")
def real_crops(sample_scene: Path, quick_config: Config) -> Crops:
    """Tiles of a real scene with 4 bands."""
    scene = open_scene(sample_scene, quick_config)
    blocks = stream_tiles(scene, scene.grid(quick_config), quick_config, wanted=lambda row, col: (row + col) % 2 == 0)
    crops = collect_crops(blocks, fit_normalizer([scene], quick_config), 20, 0)
    assert crops is not None
    return first(40, crops)


@pytest.fixture(scope="module")
def tuned_config(quick_config: Config) -> Config:
    return with_embed(quick_config, fine_tune={"epochs": 1, "max_tiles": 32, "batch_size": 16})


@pytest.fixture(scope="module")
def tuned(small_scene: Path, tuned_config: Config) -> Model:
    return fit_model([open_scene(small_scene, tuned_config)], tuned_config)


# What learns


@POOLED
def test_only_the_blocks_behind_the_last_but_one_map_learn_and_all_are_frozen_again(
    name: str, weights: str, parts: tuple[str, ...]
) -> None:
    embedder = embedder_of(backbone=name, weights=weights, fine_tune={"epochs": 1, "batch_size": 4})
    before = weights_of(embedder)
    fine_tune(embedder, random_crops(8), 0)
    learned = {name for name, _ in embedder.backbone.named_parameters() if name.startswith(parts)}  # not batch norms' statistics
    assert changed(before, weights_of(embedder)) == learned
    assert not any(p.requires_grad or p.grad is not None for p in embedder.backbone.parameters())
    assert not embedder.backbone.training


@POOLED
def test_what_learns_moves_the_last_map_and_no_other(name: str, weights: str, parts: tuple[str, ...]) -> None:  # noqa: ARG001
    embedder, image = embedder_of(backbone=name, weights=weights), torch.rand(1, 3, 128, 128)
    backbone: Any = embedder.backbone
    with torch.no_grad():
        before = [each.clone() for each in backbone.maps(image, 0)]
        for parameter in last_blocks(embedder):
            parameter.mul_(1.1)
        after = backbone.maps(image, 0)
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True] * (len(before) - 1) + [False]


def alikeness(embedder: Embedder, crops: Crops) -> float:
    """NT-Xent of the standardized features themselves, in views that training does not draw."""
    everything = torch.arange(len(crops))
    with torch.no_grad():
        both = torch.cat([finetune._features(embedder, *crops.view(everything, 10**6 + seed)) for seed in range(2)])
    center, spread = both.mean(dim=0), both.std(dim=0) + 1e-6
    one, other = ((both - center) / spread).chunk(2)
    return float(nt_xent(one, other, 0.2).mean())


def test_on_real_pixels_the_loss_falls_and_views_of_a_tile_become_more_alike(real_crops: Crops) -> None:
    embedder = embedder_of(4, fine_tune={"epochs": 3, "learning_rate": 3e-4, "batch_size": 20})
    before = alikeness(embedder, real_crops)
    losses = fine_tune(embedder, real_crops, 0)
    assert len(losses) == 3
    assert losses[2] < losses[1] < losses[0]
    assert alikeness(embedder, real_crops) < before - 0.05  # the projector, which is dropped, has no part in this


# The same every time


def test_the_seed_alone_decides(real_crops: Crops) -> None:
    found = []
    for seed, threads in ((0, 1), (0, 2), (1, 1)):
        embedder, before = embedder_of(4, fine_tune={"epochs": 1}), torch.get_num_threads()
        torch.manual_seed(threads)  # whatever else has drawn
        torch.set_num_threads(threads)
        fine_tune(embedder, first(32, real_crops), seed)
        torch.set_num_threads(before)
        found.append(weights_of(embedder))
    assert not changed(found[0], found[1])
    assert changed(found[0], found[2])


def test_reader_threads_change_no_weight(small_scene: Path, tuned_config: Config, tuned: Model) -> None:
    runtime = {"runtime": {"reader_threads": 5, "threads": 1}}
    config = parse_config({**tuned_config.model_dump(mode="json"), **runtime})
    again = fit_model([open_scene(small_scene, config)], config)
    assert not changed(weights_of(tuned.embedder), weights_of(again.embedder))
    assert again.model_id == tuned.model_id


def test_a_pipe_sees_nothing(real_crops: Crops, capfd: pytest.CaptureFixture[str]) -> None:
    fine_tune(embedder_of(4, fine_tune={"epochs": 1}), first(4, real_crops), 0)
    assert capfd.readouterr() == ("", "")


# The switch


def test_by_default_no_weight_changes(small_scene: Path, quick_config: Config) -> None:
    model = fit_model([open_scene(small_scene, quick_config)], quick_config)
    fresh = build_backbone(quick_config.embed, 4, TILE)
    assert Config().embed.fine_tune.epochs == 0
    assert not changed(fresh.state_dict(), model.embedder.backbone.state_dict())


def test_a_fine_tuned_model_comes_back_from_its_bundle(tuned: Model, tuned_config: Config, tmp_path: Path) -> None:
    fresh = build_backbone(tuned_config.embed, 4, TILE)
    assert changed(fresh.state_dict(), tuned.embedder.backbone.state_dict())
    save_model(tuned, tmp_path / "model")
    again = load_model(tmp_path / "model", "cpu")  # which checks the golden scores
    assert again.model_id == tuned.model_id
    assert not changed(weights_of(tuned.embedder), weights_of(again.embedder))
    block = tuned.golden.block
    assert np.array_equal(again.raw_scores(again.encode([block]), again.halves(block.rows, block.cols)), tuned.golden.raw)


@pytest.mark.parametrize("backbone", ["conv_ae", "spectrum"])
def test_a_backbone_without_pretrained_blocks_is_refused(backbone: str, small_scene: Path, tuned_config: Config) -> None:
    config = with_embed(tuned_config, backbone=backbone)
    with pytest.raises(ConfigError, match=rf"^embed\.fine_tune\.epochs: {backbone} has no .*; set it to 0"):
        fit_model([open_scene(small_scene, config)], config)


@pytest.mark.parametrize(
    ("head", "wrong"),
    [
        (
            {"kind": "base"},
            r"^embed\.head\.kind: base was learned on .*; set embed\.head\.kind to autoencoder, or embed\.fine_tune\.epochs to 0",
        ),
        ({"path": "head.safetensors"}, r"^embed\.head\.path: .* does not fit .*; set it to null, or embed\.fine_tune\.epochs to 0"),
    ],
)
def test_a_head_that_was_fitted_to_other_features_is_refused(
    head: dict[str, str], wrong: str, small_scene: Path, tuned_config: Config
) -> None:
    config = with_embed(tuned_config, head=head)
    with pytest.raises(ConfigError, match=wrong):
        fit_model([open_scene(small_scene, config)], config)


def test_the_head_that_is_left_open_is_an_autoencoder_where_the_backbone_is_fine_tuned() -> None:
    assert kind_of(Embed()) == "base"
    assert kind_of(Embed.model_validate({"fine_tune": {"epochs": 1}})) == "autoencoder"


def test_a_learning_rate_that_diverges_is_a_config_error_and_leaves_nothing_unfrozen() -> None:
    embedder = embedder_of(fine_tune={"epochs": 9, "learning_rate": 1e30, "batch_size": 4})
    with pytest.raises(ConfigError, match=r"lower embed\.fine_tune\.learning_rate"):
        fine_tune(embedder, random_crops(8), 0)
    assert not any(p.requires_grad for p in embedder.backbone.parameters())


# The tiles


@given(size=st.integers(1, 2048), n_bands=st.integers(1, 300), max_tiles=st.integers(2, 10**6))
def test_what_is_kept_never_outgrows_its_bounds(size: int, n_bands: int, max_tiles: int) -> None:
    n = most_crops(Embed.model_validate({"fine_tune": {"max_tiles": max_tiles}}), n_bands, size)
    assert 1 <= n <= max_tiles
    assert n == 1 or n * (2 * n_bands + 1) * size**2 <= finetune.MAX_BYTES


@given(first=st.tuples(st.integers(0, 64), st.integers(0, 64)))
def test_a_crop_shows_its_tile_and_what_is_around_it_wherever_it_lies(first: tuple[int, int]) -> None:
    side, slack = TILE + 64, TILE // finetune.SHIFT_SHARE
    row, col = np.indices((side, side))
    block = TileBlock(
        **{name: np.array([0]) for name in ("rows", "cols", "core_tops", "core_lefts")},
        tops=np.array([first[0]]),
        lefts=np.array([first[1]]),
        size=TILE,
        values=np.stack([row, col]).astype(np.float32),  # every pixel tells where it is
        valid=(row + 5 * col) % 7 > 0,
        valid_fraction=np.array([0.66]),
    )
    crops = collect_crops([block], Normalizer(low=(0.0, 0.0), high=(1024.0, 1024.0)), 1, 0)
    assert crops is not None
    assert crops.pixels.shape == (1, 2, TILE + 2 * slack, TILE + 2 * slack)
    rows, cols = (crops.pixels[0].double() * 1024).round().long().tolist()
    found = np.array([rows, cols])
    assert np.array_equal((found[0] + 5 * found[1]) % 7 > 0, crops.valid[0].numpy())
    for axis in range(2):  # the tile is inside, wherever it lies in the patch
        assert found[axis].min() <= first[axis] <= found[axis].max() - TILE + 1


@given(seed=st.integers(0, 999))
def test_what_is_valid_moves_and_turns_with_the_pixels(seed: int) -> None:
    crops = random_crops(4)
    usable = torch.rand(crops.valid.shape, generator=torch.Generator().manual_seed(seed)) > 0.2
    crops = Crops(pixels=crops.pixels.where(usable[:, None], -1000.0), valid=usable, size=TILE)  # no light makes these look real
    pixels, valid = crops.view(torch.tensor([3, 1]), seed)
    assert pixels.shape == (2, 3, TILE, TILE)
    assert torch.equal((pixels > -10).all(dim=1), valid)
    assert torch.equal(pixels, crops.view(torch.tensor([3, 1]), seed)[0])


@pytest.mark.parametrize(("most", "kept"), [(2, {1, 2}), (7, {4, 5, 6, 7}), (48, set(range(40, 49))), (100_000, {400})])
def test_at_most_so_many_tiles_are_learned_from(most: int, kept: set[int], small_scene: Path, tuned_config: Config) -> None:
    config = with_embed(tuned_config, fine_tune={"epochs": 1, "max_tiles": most})
    scene = open_scene(small_scene, config)
    crops = fitting._crops(Radiometry(pooled=fit_normalizer([scene], config), own={}), [scene], config)
    assert crops is not None
    assert len(crops) in kept
