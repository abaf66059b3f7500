"""Every kind of head: its law, its training on real features, its way into a file and back."""

from __future__ import annotations

import copy
import itertools
import json
import math
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import rasterio
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch.distributions import Independent, Normal, kl_divergence

from geoanom.config import Embed, Training, load_config
from geoanom.config.sections import HeadKind
from geoanom.embed.augment import augmented, seed_of, turned_places
from geoanom.embed.autoencoder import DenseAutoencoder, dense
from geoanom.embed.backbones import build_backbone
from geoanom.embed.contrastive import nt_xent, triplet_losses
from geoanom.embed.conv_ae import ConvAutoencoder, ConvVariational
from geoanom.embed.head_kinds import build_head
from geoanom.embed.heads import head_bytes, load_heads
from geoanom.embed.linear import PrincipalComponents
from geoanom.embed.supervised import Supervised, label_codes, label_losses
from geoanom.embed.training import train
from geoanom.embed.variational import VariationalAutoencoder, divergence
from geoanom.errors import ConfigError, InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from geoanom.embed.autoencoder import FeatureHead
    from geoanom.embed.backbones import Backbone

CPU = torch.device("cpu")
KINDS = tuple(kind for kind in get_args(HeadKind) if kind not in ("auto", "base"))
"""Those that are learned; geoanom-base comes fitted, see test_base.py."""
TILE, SIDE = 32, 128
QUICK = Training(epochs=30, batch_size=64, patience=30)
SEEDS = st.integers(0, 2**32 - 1)


def settings_of(kind: str, **more: Any) -> Embed:
    labels = {"labels": "labels.csv"} if kind == "supervised" else {}
    return Embed.model_validate({"weights": "package", "zoom": 1, "dim": 6, "head": {"kind": kind, "hidden": [32], **labels, **more}})


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(settings_of("autoencoder"), 4, TILE)


@pytest.fixture(scope="module")
def real(sample_scene: Path, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Features of 256 tiles of a scene, and of the same tiles in another view."""
    with rasterio.open(sample_scene) as src:
        bands = src.read(window=((0, 4 * SIDE), (0, 4 * SIDE))).astype(np.float32)
    low, high = (np.percentile(bands, q, axis=(1, 2), keepdims=True) for q in (1, 99))
    scaled = torch.from_numpy((bands - low) / (high - low)).float()
    plain, other = [], []
    places = [(top, left) for top in range(0, SIDE, TILE) for left in range(0, SIDE, TILE)]
    for i, (row, col) in enumerate(itertools.product(range(4), range(4))):
        patch = scaled[None, :, row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
        valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
        plain.append(backbone.features(patch, valid, [places]))
        other.append(backbone.features(*augmented(patch, valid, i), [turned_places(places, SIDE, TILE, i)]))
    return torch.cat(plain), torch.cat(other)


def labels_like(features: Tensor) -> Tensor:
    """Two labels for a third of the tiles, by a feature that says which; none for the others."""
    column = features[:, features.std(dim=0).argmax()]
    labels = (column > column.median()).long()
    labels[torch.arange(len(labels)) % 3 > 0] = -1
    return labels


def beside(head: FeatureHead, features: Tensor, views: Tensor) -> dict[str, Tensor]:
    return {"views": views} if head.needs_views else {"labels": labels_like(features)} if head.needs_labels else {}


def fresh(settings: Embed, features: Tensor) -> FeatureHead:
    torch.manual_seed(0)
    head = build_head(settings, features.shape[1])
    head.prepare(features)
    return head


def trained(settings: Embed, features: Tensor, views: Tensor, training: Training = QUICK) -> FeatureHead:
    head = fresh(settings, features)
    train(head, features, training, seed=0, device=CPU, title="test", **beside(head, features, views))
    return head


def loss_of(head: FeatureHead, features: Tensor, views: Tensor) -> float:
    head.eval()
    with torch.no_grad():
        if head.needs_labels:
            labels = labels_like(features)
            return float(head.losses_with(features[labels >= 0], labels[labels >= 0]).mean())
        losses = head.losses_with(features, views) if head.needs_views else head.losses(features)
    return float(losses.mean())


# All kinds


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, real: tuple[Tensor, Tensor]) -> tuple[Embed, FeatureHead]:
    settings = settings_of(request.param)
    return settings, trained(settings, *real)


def test_training_lowers_the_loss(case: tuple[Embed, FeatureHead], real: tuple[Tensor, Tensor]) -> None:
    settings, head = case
    assert loss_of(head, *real) < 0.97 * loss_of(fresh(settings, real[0]), *real)


def test_a_head_comes_back_from_its_file(
    case: tuple[Embed, FeatureHead], real: tuple[Tensor, Tensor], backbone: Backbone, tmp_path: Path
) -> None:
    settings, head = case
    path = tmp_path / "head.safetensors"
    path.write_bytes(head_bytes([head, copy.deepcopy(head)], backbone, settings))
    for again in load_heads(path, backbone, settings):
        assert torch.equal(again.encode(real[0]), head.encode(real[0]))
        assert torch.equal(again.errors(real[0], torch.ones(1)).tile, head.errors(real[0], torch.ones(1)).tile)
    other = settings_of(KINDS[KINDS.index(settings.head.kind) - 1])
    with pytest.raises(ModelError, match=f"was made for kind {settings.head.kind}, not {other.head.kind}"):
        load_heads(path, backbone, other)


def test_a_head_file_from_before_there_were_kinds_is_an_autoencoder(
    real: tuple[Tensor, Tensor], backbone: Backbone, tmp_path: Path
) -> None:
    settings, path = settings_of("autoencoder"), tmp_path / "head.safetensors"
    head = fresh(settings, real[0]).eval()
    note = {"backbone": settings.backbone, "dim": 6, "features": list(backbone.n_features), "heads": 1, "hidden": [32]}
    tensors = {f"0.{name}": tensor for name, tensor in head.state_dict().items()}
    safetensors.torch.save_file(tensors, path, {"geoanom": json.dumps(note)})
    (again,) = load_heads(path, backbone, settings)
    assert torch.equal(again.encode(real[0]), head.encode(real[0]))
    with pytest.raises(ModelError, match="was made for kind autoencoder, not pca"):
        load_heads(path, backbone, settings_of("pca"))


def test_all_heads_show_detectors_the_same_rows(case: tuple[Embed, FeatureHead], real: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(case[1].rows(real[0]), fresh(settings_of("autoencoder"), real[0]).rows(real[0]))


def test_embeddings_and_errors_are_finite_and_one_per_tile(case: tuple[Embed, FeatureHead], real: tuple[Tensor, Tensor]) -> None:
    head, errors = case[1], case[1].errors(real[0], torch.ones(1))
    assert head.encode(real[0]).shape == (len(real[0]), 6)
    assert head.encode(real[0]).isfinite().all()
    assert errors.tile.shape == (len(real[0]),)
    assert errors.tile.isfinite().all()
    assert (errors.tile >= 0).all()
    assert errors.tile.std() > 0


def test_a_foreign_tile_has_a_larger_error_than_most(case: tuple[Embed, FeatureHead], real: tuple[Tensor, Tensor]) -> None:
    strange = real[0][:1] + 5 * real[0].std(dim=0) * normal(1, real[0].shape[1], seed=1).sign()
    head = case[1]
    assert head.errors(strange, torch.ones(1)).tile > head.errors(real[0], torch.ones(1)).tile.median()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: str, real: tuple[Tensor, Tensor]) -> None:
    settings = settings_of(kind, dropout=0.2, batch_norm=True)
    first, again = (trained(settings, *real, Training(epochs=2)).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_and_batch_norm_leave_what_is_trained_deterministic_and_batch_invariant(kind: str, real: tuple[Tensor, Tensor]) -> None:
    head = trained(settings_of(kind, dropout=0.3, batch_norm=True), *real, Training(epochs=2))
    whole = head.encode(real[0])
    assert torch.equal(whole, head.encode(real[0]))
    for part in (real[0][5:6], real[0][5:9]):
        torch.testing.assert_close(head.encode(part), whole[5 : 5 + len(part)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "supervised"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_any_number_of_tiles_can_be_trained_on(kind: str, n: int) -> None:
    rows = normal(n, 8)
    head = trained(settings_of(kind, batch_norm=True), rows, rows + 0.1, Training(epochs=1, batch_size=4))
    assert head.encode(rows).isfinite().all()


# Settings


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "supervised"])
def test_every_kind_is_one_setting_away(kind: str) -> None:
    assert load_config(sets=[f"embed.head.kind={kind}"], environ={}).embed.head.kind == kind


def test_supervision_needs_labels() -> None:
    sets = ["embed.head.kind=supervised"]
    with pytest.raises(ConfigError, match="needs labels"):
        load_config(sets=sets, environ={})
    assert load_config(sets=[*sets, "embed.head.labels=a.csv"], environ={}).embed.head.kind == "supervised"


def test_a_misspelt_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"embed\.head\.kind.*did you mean 'variational'") as caught:
        load_config(sets=["embed.head.kind=varational"], environ={})
    assert "\n" not in str(caught.value)


# Autoencoders


def test_a_denoising_autoencoder_sees_noise_in_training_and_none_after() -> None:
    rows, head = normal(50, 8), DenseAutoencoder(8, (16,), 2, noise=0.5)
    assert not torch.equal(head.losses(rows), head.losses(rows))
    head.eval()
    assert torch.equal(head.losses(rows), head.losses(rows))
    plain = DenseAutoencoder(8, (16,), 2)
    assert torch.equal(plain.losses(rows), plain.losses(rows))


def test_hidden_layers_get_norm_and_dropout_and_the_last_layer_gets_none() -> None:
    names = [type(layer).__name__ for layer in dense([8, 4, 2], 0.5, batch_norm=True)]
    assert names == ["Linear", "BatchNorm", "GELU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in dense([8, 4, 2])] == ["Linear", "GELU", "Linear"]


@given(seed=SEEDS, n=st.integers(1, 9), dim=st.integers(1, 7))
def test_the_divergence_is_that_of_normal_distributions(seed: int, n: int, dim: int) -> None:
    mean, log_variance = normal(2, n, dim, seed=seed).double()
    ours, standard = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(n, dim).double(), 1.0)
    torch.testing.assert_close(divergence(mean, log_variance), kl_divergence(Independent(ours, 1), Independent(standard, 1)))


def test_a_variational_autoencoder_draws_codes_in_training_and_none_after() -> None:
    rows, head = normal(50, 8), VariationalAutoencoder(8, (16,), 2)
    assert not torch.equal(head.losses(rows), head.losses(rows))
    head.eval()
    assert torch.equal(head.losses(rows), head.losses(rows))
    assert torch.equal(head.errors(rows, torch.ones(1)).tile, head.errors(rows, torch.ones(1)).tile)


def test_a_heavier_divergence_brings_codes_nearer_to_the_standard_normal(real: tuple[Tensor, Tensor]) -> None:
    light, heavy = (trained(settings_of("variational", beta=beta), *real).encode(real[0]).square().mean() for beta in (0.01, 100.0))
    assert heavy < light / 10


# Principal components


@pytest.mark.parametrize("whiten", [False, True])
def test_principal_components_are_those_of_scikit_learn(real: tuple[Tensor, Tensor], *, whiten: bool) -> None:
    head = trained(settings_of("pca", whiten=whiten), *real)
    rows = head.rows(real[0]).double().numpy()
    reference = PCA(6, whiten=whiten, svd_solver="full").fit(rows)
    found, wanted = head.encode(real[0]).double().numpy(), reference.transform(rows)
    sign = np.sign((found * wanted).sum(axis=0))
    np.testing.assert_allclose(found, sign * wanted, rtol=1e-3, atol=1e-3 * wanted.std())
    residual = ((rows - reference.inverse_transform(wanted)) ** 2).mean(axis=1)
    np.testing.assert_allclose(head.errors(real[0], torch.ones(1)).tile.numpy(), residual, rtol=1e-3)


def test_whitened_components_have_unit_variance_and_no_correlation(real: tuple[Tensor, Tensor]) -> None:
    code = trained(settings_of("pca", whiten=True), *real).encode(real[0])
    torch.testing.assert_close(torch.cov(code.T), torch.eye(6), rtol=1e-3, atol=1e-3)


def test_an_axis_without_variance_is_silent_when_whitened() -> None:
    rows = normal(40, 1) * torch.arange(1, 9) + 3
    code = trained(settings_of("pca", whiten=True), rows, rows).encode(rows)
    assert code[:, 0].std() == pytest.approx(1, abs=1e-3)
    assert code.isfinite().all()


def test_more_components_than_features_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"embed\.dim: 5 features"):
        PrincipalComponents(5, 6)


# Contrast


@given(seed=SEEDS, n=st.integers(1, 7), temperature=st.floats(0.05, 2.0))
def test_nt_xent_is_its_formula(seed: int, n: int, temperature: float) -> None:
    one, other = normal(2, n, 3, seed=seed).double()
    points = [*one.numpy(), *other.numpy()]

    def similarity(i: int, j: int) -> float:
        return math.exp(points[i] @ points[j] / np.linalg.norm(points[i]) / np.linalg.norm(points[j]) / temperature)

    def single(i: int, j: int) -> float:
        return -math.log(similarity(i, j) / sum(similarity(i, k) for k in range(2 * n) if k != i))

    wanted = [(single(i, i + n) + single(i + n, i)) / 2 for i in range(n)]
    np.testing.assert_allclose(nt_xent(one, other, temperature).numpy(), wanted, rtol=1e-6, atol=1e-9)


@given(seed=SEEDS, n=st.integers(2, 9))
def test_nt_xent_does_not_depend_on_the_order_of_pairs_or_views(seed: int, n: int) -> None:
    one, other = normal(2, n, 4, seed=seed).double()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nt_xent(one[order], other[order], 0.3), nt_xent(one, other, 0.3)[order])
    torch.testing.assert_close(nt_xent(other, one, 0.3), nt_xent(one, other, 0.3))


@given(seed=SEEDS, n=st.integers(2, 7), margin=st.floats(0.05, 1.0))
def test_triplet_losses_are_their_formula(seed: int, n: int, margin: float) -> None:
    anchors, positives = normal(2, n, 3, seed=seed).double()
    a, p = anchors.numpy(), positives.numpy()
    hinges = [[max(0.0, ((a[i] - p[i]) ** 2).sum() - ((a[i] - p[j]) ** 2).sum() + margin) for j in range(n) if j != i] for i in range(n)]
    np.testing.assert_allclose(triplet_losses(anchors, positives, margin).numpy(), np.mean(hinges, axis=1), atol=1e-9)


@given(n=st.integers(1, 6), margin=st.floats(0.01, 1.9))
def test_triplet_losses_are_zero_where_the_margin_separates(n: int, margin: float) -> None:
    corners = torch.eye(n)  # squared distances of 2
    assert triplet_losses(corners, corners, margin).abs().max() == 0
    if n > 1:
        torch.testing.assert_close(triplet_losses(corners, corners, 2.5), torch.full((n,), 0.5))


@pytest.mark.parametrize("kind", ["contrastive", "triplet", "supervised"])
def test_the_error_of_an_embedding_is_its_shrunken_mahalanobis_distance(kind: str, real: tuple[Tensor, Tensor]) -> None:
    head = trained(settings_of(kind), *real, Training(epochs=2))
    code = head.encode(real[0]).double().numpy()
    cov = np.cov(code.T, bias=True)
    inverse = np.linalg.inv(cov + 0.05 * np.trace(cov) / 6 * np.eye(6))
    centred = code - code.mean(axis=0)
    wanted = np.einsum("ni,ij,nj->n", centred, inverse, centred) / 6
    np.testing.assert_allclose(head.errors(real[0], torch.ones(1)).tile.numpy(), wanted, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["contrastive", "triplet"])
def test_the_other_view_of_a_tile_is_found_more_often_after_training(kind: str, real: tuple[Tensor, Tensor]) -> None:
    def found(head: FeatureHead) -> float:
        head.eval()
        distances = torch.cdist(head.encode(real[0]), head.encode(real[1]))
        return float((distances.argmin(dim=1) == torch.arange(len(real[0]))).float().mean())

    settings = settings_of(kind)
    assert found(trained(settings, *real, Training(epochs=30))) > found(fresh(settings, real[0])) + 0.1


@pytest.mark.parametrize("kind", ["contrastive", "triplet", "supervised"])
def test_heads_that_need_more_than_features_say_so(kind: str) -> None:
    with pytest.raises(ValueError, match="give them"):
        train(fresh(settings_of(kind), normal(40, 8)), normal(40, 8), QUICK, seed=0, device=CPU, title="test")


# Labels


@given(seed=SEEDS, n=st.integers(1, 8), n_labels=st.integers(1, 4))
def test_label_losses_are_their_formula(seed: int, n: int, n_labels: int) -> None:
    points = normal(n, 3, seed=seed).double()
    labels = torch.randint(n_labels, (n,), generator=torch.Generator().manual_seed(seed))
    unit = (points / points.norm(dim=1, keepdim=True)).numpy()
    wanted = []
    for i in range(n):
        alike = [j for j in range(n) if j != i and labels[j] == labels[i]]
        total = sum(math.exp(unit[i] @ unit[k] / 0.4) for k in range(n) if k != i)
        wanted.append(-np.mean([unit[i] @ unit[j] / 0.4 - math.log(total) for j in alike]) if alike else 0.0)
    np.testing.assert_allclose(label_losses(points, labels, 0.4).numpy(), wanted, rtol=1e-6, atol=1e-9)


def test_few_labels_set_tiles_apart_that_have_none(real: tuple[Tensor, Tensor]) -> None:
    features, labels = real[0], labels_like(real[0])
    column = features[:, features.std(dim=0).argmax()]
    truth, rest = column > column.median(), labels < 0

    def agreement(head: FeatureHead) -> float:
        code = torch.nn.functional.normalize(head.eval().encode(features), dim=1)
        nearest = (code @ code[~rest].T).argmax(dim=1)
        return float((truth[~rest][nearest] == truth)[rest].float().mean())

    settings = settings_of("supervised")
    assert agreement(trained(settings, *real, Training(epochs=40))) > agreement(fresh(settings, features)) + 0.15


@pytest.mark.parametrize("labels", [[-1] * 6, [0, 0, 0, -1, -1, -1], [0, 1, 2, -1, -1, -1]])
def test_labels_that_teach_nothing_are_a_config_error(labels: list[int]) -> None:
    head = Supervised(8, (4,), 2)
    with pytest.raises(ConfigError, match=r"embed\.head\.labels"):
        train(head, normal(6, 8), QUICK, seed=0, device=CPU, title="test", labels=torch.tensor(labels))


def test_labels_are_found_by_scene_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("scene,row,col,label\nb,0,1,water\na,2,0,field\na,0,0,water\nc,0,0,roof\n")
    codes = label_codes(path, ["a", "a", "a", "b", "b"], np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 0]))
    assert codes.tolist() == [2, -1, 0, 2, -1]
    with pytest.raises(InputError, match="labels none of the training tiles"):
        label_codes(path, ["z"], np.array([0]), np.array([0]))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("scene,row,col\na,0,0\n", "has no column 'label'"),
        ("scene,row,col,label\na,x,0,water\n", "is not a table of labels"),
        ("scene,row,col,label\na,0,0,water\na,0,0,roof\n", "labels tile 0, 0 of a twice"),
        ("", "is not a table of labels"),
        (None, "is not a table of labels"),
    ],
)
def test_bad_tables_of_labels_are_input_errors_of_one_line(tmp_path: Path, text: str | None, wrong: str) -> None:
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=wrong) as caught:
        label_codes(path, ["a"], np.array([0]), np.array([0]))
    assert "\n" not in str(caught.value)


# Views


@given(seed=SEEDS, side=st.integers(5, 12), size=st.integers(1, 4), top=st.integers(0, 8), left=st.integers(0, 8))
def test_a_tile_of_an_augmented_patch_lies_where_its_place_says(seed: int, side: int, size: int, top: int, left: int) -> None:
    top, left = min(top, side - size), min(left, side - size)
    valid = torch.zeros(1, side, side, dtype=torch.bool)
    valid[0, top : top + size, left : left + size] = True
    _, turned = augmented(torch.rand(1, 2, side, side), valid, seed)
    ((row, col),) = turned_places([(top, left)], side, size, seed)
    assert turned[0, row : row + size, col : col + size].all()
    assert turned.sum() == size**2


def test_augmented_pixels_turn_with_their_mask_and_all_turns_occur() -> None:
    """A ramp along rows and one along columns say which way each patch lies: eight ways, found by the pixels alone."""
    ramp = torch.arange(16).float() / 15
    patch = torch.stack([ramp[:, None].expand(16, 16), ramp[None].expand(16, 16)])[None]
    valid = (patch[:, 0] < 0.5) & (patch[:, 1] < 0.2)
    ways = set()
    for seed in range(60):
        pixels, mask = augmented(patch, torch.ones_like(valid), seed)[0], augmented(patch, valid, seed)[1]
        inside, outside = (pixels[0, :, m].mean(dim=1) for m in (mask[0], ~mask[0]))
        assert (inside < outside).all()
        ways.add(tuple(torch.nonzero(mask[0]).float().mean(dim=0).tolist()))
    assert len(ways) == 8


@given(seed=SEEDS)
def test_augmentation_is_a_function_of_its_seed_and_changes_little(seed: int) -> None:
    patches, valid = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.ones(2, 16, 16, dtype=torch.bool)
    before = patches.clone()
    first, again = (augmented(patches, valid, seed)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(patches, before)
    assert first.isfinite().all()
    assert (first.mean(dim=(2, 3)) - patches.mean(dim=(2, 3))).abs().max() < 0.4
    assert not torch.equal(first, augmented(patches, valid, seed_of(seed, 1))[0])


@given(seed=SEEDS, foreign=st.sampled_from([math.nan, math.inf, 1e6]))
def test_pixels_that_are_not_valid_change_nothing_in_the_others(seed: int, foreign: float) -> None:
    patches, valid = torch.rand(1, 2, 12, 12), torch.ones(1, 12, 12, dtype=torch.bool)
    valid[0, :3, :5] = False
    other = patches.clone()
    other[:, :, :3, :5] = foreign
    (one, mask), (two, _) = augmented(patches, valid, seed), augmented(other, valid, seed)
    assert torch.equal(one[:, :, mask[0]], two[:, :, mask[0]])


# The convolutional autoencoder


@pytest.mark.parametrize(
    ("kind", "cls"), [("autoencoder", ConvAutoencoder), ("denoising", ConvAutoencoder), ("variational", ConvVariational)]
)
def test_conv_ae_knows_three_kinds(kind: str, cls: type[ConvAutoencoder], tmp_path: Path) -> None:
    settings = Embed.model_validate({"backbone": "conv_ae", "dim": 4, "head": {"kind": kind}})
    pixels, tiles = build_backbone(settings, 1, 16), torch.rand(40, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    head = pixels.autoencoder(settings)
    assert type(head) is cls
    assert getattr(head, "noise", None) == (settings.head.noise if kind == "denoising" else 0)
    before = float(head.eval().losses(tiles).mean().detach())
    train(head, tiles, Training(epochs=5, batch_size=16), seed=0, device=CPU, title="test")
    assert float(head.losses(tiles).mean()) < before
    (tmp_path / "head.safetensors").write_bytes(head_bytes([head], pixels, settings))
    (again,) = load_heads(tmp_path / "head.safetensors", pixels, settings)
    assert torch.equal(again.encode(tiles), head.encode(tiles))
    assert torch.equal(again.rows(tiles), head.rows(tiles))
    assert head.encode(tiles).shape == (40, 4)


@pytest.mark.parametrize("kind", ["pca", "contrastive", "triplet"])
def test_conv_ae_refuses_heads_of_features(kind: str) -> None:
    settings = Embed.model_validate({"backbone": "conv_ae", "head": {"kind": kind}})
    with pytest.raises(ConfigError, match=f"conv_ae has no {kind} head"):
        build_backbone(settings, 1, 16).autoencoder(settings)
