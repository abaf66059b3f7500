"""Spectra and their surroundings: laws of the maps, and the whole way on small and real scenes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from geoanom.config import Embed, load_config
from geoanom.embed.backbones import build_backbone
from geoanom.embed.spectrum import RINGS, Ring, Spectrum, SpectrumHead, _noise_fraction, _unexplained, _window_means
from geoanom.errors import ConfigError
from geoanom.evaluate.benchmark import heatmap_of
from geoanom.pipeline import Outputs, detect
from geoanom.raster.normalize import Normalizer, fit_normalizer
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "hyperspectral.yaml"
SIDE = 72
CENTRE = SIDE // 2


@cache
def built(n_bands: int, size: int = 1) -> Spectrum:
    backbone = build_backbone(Embed(backbone="spectrum"), n_bands, size)
    assert isinstance(backbone, Spectrum)
    return backbone


def field(n_bands: int, seed: int = 0) -> Tensor:
    """(band, row, col): two materials mixed in changing shares, and noise."""
    draw = torch.Generator().manual_seed(seed)
    materials = torch.rand(2, n_bands, generator=draw)
    share = torch.linspace(0.2, 0.8, SIDE)[:, None].expand(SIDE, SIDE)
    mixed = materials[0][:, None, None] * share + materials[1][:, None, None] * (1 - share)
    return mixed + 0.01 * torch.randn(n_bands, SIDE, SIDE, generator=draw)


def ratios(patch: Tensor, place: tuple[int, int] = (CENTRE, CENTRE), valid: Tensor | None = None) -> Tensor:
    """Log ratios of one pixel."""
    usable = torch.ones(SIDE, SIDE, dtype=torch.bool) if valid is None else valid
    return built(len(patch)).features(patch[None], usable[None], [[place]])[0, -len(RINGS) :]


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 1000), st.floats(0.01, 100.0))
def test_the_residual_is_that_of_ridge_regression_on_the_surroundings(n_bins: int, n_around: int, seed: int, penalty: float) -> None:
    draw = np.random.default_rng(seed)
    y, around = draw.normal(size=n_bins), draw.normal(size=(n_around, n_bins))
    weight = penalty * np.square(around - y).sum(axis=1)
    share = np.linalg.solve(around @ around.T + np.diag(weight), around @ y)  # Li and Du's own form
    found = _unexplained(torch.from_numpy(y)[None], torch.from_numpy(around)[None], torch.ones(1, n_around, dtype=torch.bool), penalty)
    np.testing.assert_allclose(found[0].numpy(), y - share @ around, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("ring", RINGS, ids=str)
def test_a_ring_is_symmetric_and_leaves_the_guard_window_out(ring: Ring) -> None:
    offsets = set(ring.offsets())
    assert offsets == {(-r, -c) for r, c in offsets} == {(c, r) for r, c in offsets}
    assert min(max(abs(r), abs(c)) for r, c in offsets) > ring.inner // 2
    assert max(max(abs(r), abs(c)) for r, c in offsets) == ring.outer // 2


@pytest.mark.parametrize("n_bands", [1, 2, 4, 16, 40, 300])
def test_a_foreign_pixel_stands_out_in_every_ring_for_any_number_of_bands(n_bands: int) -> None:
    patch = field(n_bands)
    usual = ratios(patch)
    patch[:, CENTRE, CENTRE] = torch.rand(n_bands, generator=torch.Generator().manual_seed(5)) + 1.0
    assert (ratios(patch) > usual + 3.0).all()


def test_the_residual_of_a_material_of_the_surroundings_is_small() -> None:
    patch = field(30)
    patch[:, CENTRE, CENTRE] = patch[:, CENTRE - 6 : CENTRE + 7, CENTRE - 6 : CENTRE + 7].mean(dim=(1, 2))
    assert (ratios(patch) < ratios(field(30), (CENTRE, CENTRE + 9)) + 0.5).all()


@given(st.integers(0, 100))
def test_pixels_that_are_not_valid_say_nothing(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    patch, valid = field(5, seed), torch.rand(SIDE, SIDE, generator=draw) < 0.7
    valid[CENTRE, CENTRE] = True
    spoiled = torch.where(valid, patch, torch.nan)
    usable = valid[None]
    places = [[(CENTRE, CENTRE), (CENTRE - 1, CENTRE)]]
    assert torch.equal(built(5).features(patch[None], usable, places), built(5).features(spoiled[None], usable, places))


def test_clutter_is_that_of_the_valid_pixels() -> None:
    valid = torch.ones(SIDE, SIDE, dtype=torch.bool)
    valid[:, CENTRE + 8 :] = False  # beyond both rings, within the reach of the clutter
    torch.testing.assert_close(ratios(field(5), valid=valid), ratios(field(5)), rtol=0, atol=0.5)


def test_a_pixel_without_neighbours_is_not_unusual() -> None:
    valid = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    valid[CENTRE, CENTRE] = True
    assert (ratios(field(5), valid=valid) == 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_window_means_are_the_means_of_the_valid_pixels(size: int) -> None:
    draw = torch.Generator().manual_seed(size)
    maps, valid = torch.rand(3, 20, 20, generator=draw).double(), torch.rand(20, 20, generator=draw) < 0.6
    windows = [(r, c) for r in (0, 5, 20 - size) for c in (0, 7, 20 - size)]
    for (r, c), found in zip(windows, _window_means(maps, valid, size, windows), strict=True):
        inside = valid[r : r + size, c : c + size]
        expected = maps[:, r : r + size, c : c + size][:, inside].mean(dim=1) if inside.any() else torch.zeros(3).double()
        torch.testing.assert_close(found, expected)


@given(st.integers(1, 10), st.integers(0, 1000))
def test_noise_fraction_whitens_the_signal_orders_it_by_its_noise_and_leads_back(n_bins: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    signal = torch.randn(400, n_bins, generator=draw).double() @ torch.randn(n_bins, n_bins, generator=draw).double()
    signal = signal - signal.mean(dim=0)
    noise = torch.randn(300, n_bins, generator=draw).double() * torch.linspace(0.1, 1.0, n_bins).double()
    forward, back = _noise_fraction(signal, noise)
    parts = signal @ forward
    torch.testing.assert_close(parts.T @ parts / len(parts), torch.eye(n_bins).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts @ back, signal, rtol=1e-4, atol=1e-4)
    of_noise = (noise @ forward).square().mean(dim=0)
    assert (of_noise.diff() >= -0.05 * of_noise[1:]).all()


@pytest.mark.parametrize(("n_bins", "dim"), [(1, 5), (3, 3), (40, 5)])
def test_the_head_needs_no_training_and_fits_any_dimension(n_bins: int, dim: int) -> None:
    head, draw = SpectrumHead(n_bins, dim), torch.Generator().manual_seed(1)
    features = torch.randn(200, 2 * n_bins + len(RINGS), generator=draw)
    head.prepare(features)
    assert head.encode(features).isfinite().all()
    assert head.rows(features).shape == (200, len(RINGS))
    assert (head.errors(features, torch.ones(200, 1, 1, dtype=torch.bool)).tile > 0).all()
    if dim >= n_bins:
        assert head.losses(features).max() < 1e-6


@pytest.mark.parametrize("kind", ["base", "denoising", "variational", "pca", "contrastive", "triplet"])
def test_a_kind_of_head_that_would_be_ignored_is_refused(kind: str) -> None:
    settings = Embed.model_validate({"backbone": "spectrum", "head": {"kind": kind}})
    with pytest.raises(ConfigError, match=rf"embed\.head\.kind: spectrum has no {kind} head; use auto or autoencoder"):
        built(4).autoencoder(settings)


def scene_with_targets(path: Path) -> NDArray[np.bool_]:
    """A made scene of 10 bands without CRS; returns its truth."""
    image, truth = field(10).numpy() * 1000, np.zeros((SIDE, SIDE), bool)
    for r, c in ((12, 20), (40, 50), (60, 8)):
        image[::2, r, c] += 400
        truth[r, c] = True
    with rasterio.open(path, "w", driver="GTiff", height=SIDE, width=SIDE, count=10, dtype="float32") as dst:
        dst.write(image.astype(np.float32))
    return truth


@pytest.mark.filterwarnings("error::rasterio.errors.NotGeoreferencedWarning:geoanom.layer")
def test_planted_pixels_come_first_whatever_the_number_of_threads(tmp_path: Path) -> None:
    truth = scene_with_targets(tmp_path / "scene.tif")
    for threads in (1, 3):
        config = load_config(CONFIG, sets=["sources.pixel_space=true", f"runtime.threads={threads}"], environ={})
        detect([tmp_path / "scene.tif"], config, Outputs(heatmap=tmp_path / f"{threads}.tif"))
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "3.tif").read_bytes()
    with rasterio.open(tmp_path / "1.tif") as src:
        scores = src.read(1)
    assert average_precision_score(truth.ravel(), scores.ravel()) == 1.0


def test_it_beats_global_rx_on_a_real_scene(shared_data: Path) -> None:
    folder = shared_data / "truth" / "had"
    config = load_config(CONFIG, sets=["sources.pixel_space=true"], environ={})
    found = heatmap_of(folder / "hydice.tif", config)
    with rasterio.open(folder / "hydice_gt.tif") as src:
        truth = src.read(1) > 0
    assert average_precision_score(truth.ravel(), found.ravel()) > 3 * 0.16  # global RX's
    assert roc_auc_score(truth.ravel(), found.ravel()) > 0.995


@given(st.floats(1e-3, 1e3), st.floats(1.5, 1e4))
def test_in_the_logarithm_equal_ratios_are_equal_steps(low: float, span: float) -> None:
    normalizer = Normalizer(low=(low,), high=(low * span,), log=True)
    ramp = low * np.geomspace(1.0, span, 9)
    np.testing.assert_allclose(normalizer(ramp[None, None])[0, 0], np.linspace(0, 1, 9), atol=1e-5)
    assert normalizer(np.zeros((1, 1, 1))).item() == 0.0


@pytest.mark.parametrize(("least", "log"), [(0.0, True), (-30.0, False)], ids=["intensity", "dB"])
def test_only_data_without_negative_values_are_taken_to_the_logarithm(tmp_path: Path, least: float, *, log: bool) -> None:
    path = tmp_path / "radar.tif"
    with rasterio.open(path, "w", driver="GTiff", height=40, width=40, count=1, dtype="float32") as dst:
        dst.write(np.arange(1600, dtype=np.float32).reshape(1, 40, 40) + least)
    config = load_config(sets=["sources.pixel_space=true", "normalize.transform=log"], environ={})
    normalizer = fit_normalizer([open_scene(path, config)], config)
    assert normalizer.log == log
    assert np.isfinite(normalizer(np.full((1, 1, 1), least))).all()
