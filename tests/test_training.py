"""The one training loop, and the two autoencoders that go through it first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoanom.config import Embed, Training
from geoanom.embed.autoencoder import CLIP, DenseAutoencoder
from geoanom.embed.backbones import build_backbone
from geoanom.embed.conv_ae import ConvAutoencoder
from geoanom.embed.training import schedule_of, train, trimmed
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

CPU = torch.device("cpu")
QUICK = {"epochs": 15, "batch_size": 32, "patience": 15, "learning_rate": 5e-3}
TILE = 32


def ridge(n: int = 200, seed: int = 0) -> Tensor:
    """Rows near a plane of two dimensions in eight."""
    draw = torch.Generator().manual_seed(seed)
    plane = torch.randn(2, 8, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, 2, generator=draw) @ plane + 0.05 * torch.randn(n, 8, generator=draw)


def dense(rows: Tensor, dim: int = 2) -> DenseAutoencoder:
    torch.manual_seed(0)
    model = DenseAutoencoder(rows.shape[1], (16,), dim)
    model.prepare(rows)
    return model


def trained(rows: Tensor, seed: int = 0, **more: object) -> DenseAutoencoder:
    model = dense(rows)
    train(model, rows, Training.model_validate({**QUICK, **more}), seed=seed, device=CPU, title="test")
    return model


@settings(max_examples=40, deadline=None)
@given(losses=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60), fraction=st.floats(0, 0.499))
def test_the_trimmed_mean_is_the_mean_without_the_largest(losses: list[float], fraction: float) -> None:
    keep = len(losses) - int(fraction * len(losses))
    assert float(trimmed(torch.tensor(losses), fraction)) == pytest.approx(sum(sorted(losses)[:keep]) / keep, rel=1e-5, abs=1e-6)


def test_the_trimmed_loss_has_no_gradient_where_it_was_trimmed() -> None:
    losses = torch.tensor([1.0, 50.0, 2.0, 3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(trimmed(losses, 0.3), losses)
    assert gradient.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


def test_the_loss_falls() -> None:
    rows = ridge()
    before, after = (model.losses(rows).mean().detach() for model in (dense(rows), trained(rows)))
    assert after < before / 3


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    rows = ridge()
    first, again, other = (torch.cat([p.flatten() for p in trained(rows, seed, epochs=2).parameters()]) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_trained_model_is_frozen() -> None:
    model = trained(ridge(), epochs=1)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def first_weight(model: DenseAutoencoder) -> Tensor:
    weight: Tensor = model.state_dict()["encoder.0.weight"]
    return weight


class Scripted(DenseAutoencoder):
    """Its held-out losses are written down beforehand; it notes its weights whenever it is asked for one."""

    def __init__(self, script: list[float]) -> None:
        super().__init__(8, (4,), 2)
        self.script = script
        self.seen: list[Tensor] = []

    def losses(self, features: Tensor) -> Tensor:
        if self.training:
            return super().losses(features)
        self.seen.append(first_weight(self).clone())
        return torch.full((len(features),), self.script[len(self.seen) - 1])


def test_training_stops_when_patience_is_over_and_the_best_weights_win() -> None:
    torch.manual_seed(0)
    model = Scripted([5.0, 3.0, 4.0, 3.5, 3.0, 1.0, 0.5])
    train(model, ridge(60), Training(epochs=7, batch_size=64, patience=3), seed=0, device=CPU, title="test")
    assert len(model.seen) == 5  # three epochs without a loss below 3.0
    assert torch.equal(first_weight(model), model.seen[1])
    assert not torch.equal(model.seen[1], model.seen[4])


def test_held_out_tiles_are_not_trained_on() -> None:
    rows = ridge(50)
    n_held_out = 10
    held_out = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:n_held_out]
    changed = rows.clone()
    changed[held_out] = 9.0
    first, second = dense(rows), dense(rows)
    settings_ = Training(epochs=1, batch_size=64, holdout=0.2)
    for model, table in ((first, rows), (second, changed)):
        train(model, table, settings_, seed=0, device=CPU, title="test")
    assert torch.equal(first_weight(first), first_weight(second))


def test_planted_outliers_are_not_learned() -> None:
    clean = ridge(300)
    draw = torch.Generator().manual_seed(5)
    outliers = 6 * torch.randn(1, 8, generator=draw).sign() + 0.3 * torch.randn(12, 8, generator=draw)  # alike, so that they can be learned
    rows = torch.cat([clean, outliers])  # 4 %
    trimming, believing = (trained(rows, trim_fraction=share, epochs=60, patience=60, batch_size=312) for share in (0.05, 0.0))
    contrast = [float(model.losses(outliers).mean() / model.losses(clean).mean()) for model in (trimming, believing)]
    assert contrast[0] > 3 * contrast[1]


@pytest.mark.parametrize("n", [1, 2, 3, 33, 65])
def test_any_number_of_tiles_can_be_trained_on(n: int) -> None:
    model = trained(ridge(n), epochs=2)
    assert torch.cat([p.flatten() for p in model.parameters()]).isfinite().all()


@pytest.mark.parametrize("n", [5, 9, 17])  # trained on in batches of four, so that one is left over
def test_a_last_batch_of_one_small_tile_is_no_trouble_for_batch_norms(n: int) -> None:
    torch.manual_seed(0)
    model = ConvAutoencoder(1, 16, 2)
    train(model, torch.rand(n + 1, 2, 16, 16), Training(epochs=1, batch_size=4, holdout=1.01 / (n + 1)), seed=0, device=CPU, title="test")
    assert not model.training


def test_a_training_that_diverges_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        trained(ridge(), learning_rate=1e25, epochs=3)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("cosine", [0.5 * (1 + math.cos(math.pi * step / 9)) for step in range(9)]),
        ("constant", [1.0] * 9),
        ("step", [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule: str, wanted: list[float]) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule_of(optimizer, Training.model_validate({"schedule": schedule}), 9)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(wanted)


def test_a_constant_feature_is_silent_and_an_extreme_one_bent() -> None:
    rows = ridge()
    rows[:, 3] = 7.0
    model = dense(rows)
    other = rows.clone()
    other[:, 3], other[0, 0] = 1e6, 1e9
    assert model.rows(other)[:, 3].abs().max() == 0
    assert model.rows(other).abs().max() <= CLIP


def test_standardized_rows_have_median_zero_and_unit_spread() -> None:
    rows = 100 + 20 * torch.randn(4001, 3, generator=torch.Generator().manual_seed(0))
    standard = dense(rows).rows(rows)
    torch.testing.assert_close(standard.median(dim=0).values, torch.zeros(3), atol=1e-5, rtol=0)
    assert (standard.std(dim=0) - 1).abs().max() < 0.05


# The convolutional autoencoder


def smooth_tiles(n: int, n_bands: int = 2, seed: int = 0) -> Tensor:
    """Features of conv_ae: tiles of one broad wave each, with a little noise, both views."""
    draw = torch.Generator().manual_seed(seed)
    angle, phase = (6.28 * torch.rand(n, 1, 1, 1, generator=draw) for _ in range(2))
    row, col = torch.arange(TILE)[:, None], torch.arange(TILE)
    wave = torch.sin(0.2 * (row * torch.sin(angle) + col * torch.cos(angle)) + phase)
    return features_of(0.5 + 0.3 * wave + 0.02 * torch.randn(n, n_bands, TILE, TILE, generator=draw))


def features_of(tiles: Tensor) -> Tensor:
    backbone = build_backbone(Embed(backbone="conv_ae"), tiles.shape[1], TILE)
    with torch.no_grad():
        return backbone.features(tiles, torch.ones(len(tiles), TILE, TILE, dtype=torch.bool), [[(0, 0)]] * len(tiles))


@pytest.fixture(scope="module")
def conv_ae() -> ConvAutoencoder:
    torch.manual_seed(0)
    model = ConvAutoencoder(2, TILE, 16, noise=0.1)
    train(model, smooth_tiles(160), Training(epochs=12, batch_size=32), seed=0, device=CPU, title="test")
    return model


def test_a_convolutional_autoencoder_reconstructs(conv_ae: ConvAutoencoder) -> None:
    torch.manual_seed(0)
    tiles = smooth_tiles(40, seed=1)
    before, after = (model.eval().losses(tiles).mean().detach() for model in (ConvAutoencoder(2, TILE, 16), conv_ae))
    assert after < 0.5 * before


def test_pixel_errors_are_larger_where_a_foreign_texture_is_pasted(conv_ae: ConvAutoencoder) -> None:
    tiles = smooth_tiles(10, seed=2)
    pasted = tiles.clone()
    pasted[:, :, 4:16, 4:16] = torch.rand(10, 4, 12, 12, generator=torch.Generator().manual_seed(4))
    usable = torch.ones(10, TILE, TILE, dtype=torch.bool)
    pixel = conv_ae.errors(pasted, usable).pixel
    assert pixel is not None
    assert pixel.shape == (10, TILE, TILE)
    assert (pixel[:, 6:14, 6:14].mean(dim=(1, 2)) > 2 * pixel[:, 22:, 22:].mean(dim=(1, 2))).all()
    assert (conv_ae.rows(pasted).square().mean(dim=1) > conv_ae.rows(tiles).square().mean(dim=1)).all()


def test_pixels_that_are_not_valid_do_not_count_in_a_tiles_error(conv_ae: ConvAutoencoder) -> None:
    tiles = smooth_tiles(3, seed=3)
    valid = torch.ones(3, TILE, TILE, dtype=torch.bool)
    valid[1, :, 16:], valid[2] = False, False
    residual = conv_ae._residual(tiles)[:, :2].square().mean(dim=1)
    found = conv_ae.errors(tiles, valid).tile
    torch.testing.assert_close(found, torch.stack([residual[0].mean(), residual[1, :, :16].mean(), torch.tensor(0.0)]))


@pytest.mark.parametrize("n_bands", [1, 3, 7])
@pytest.mark.parametrize("size", [16, 48])
def test_the_convolutional_autoencoder_takes_any_number_of_bands_and_size(n_bands: int, size: int) -> None:
    torch.manual_seed(0)
    model, tiles = ConvAutoencoder(n_bands, size, 3), torch.rand(5, 2 * n_bands, size, size)
    train(model, tiles, Training(epochs=1, batch_size=4), seed=0, device=CPU, title="test")
    assert model.rows(tiles).isfinite().all()
    errors = model.errors(tiles, torch.ones(5, size, size, dtype=torch.bool))
    assert errors.pixel is not None
    assert errors.pixel.isfinite().all()
    assert errors.tile.shape == (5,)
