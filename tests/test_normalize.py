"""Robust scaling per band."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoanom.config import Config, load_config
from geoanom.errors import SceneError
from geoanom.raster.blocks import stream_panels
from geoanom.raster.normalize import SOFT, Normalizer, fit_normalizer
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.raster.scene import Scene

EXACT = load_config(environ={})
"""Samples every pixel of a small scene."""
anything = arrays(np.float32, (1, 1, 40), elements=st.floats(width=32, allow_nan=False))


def scene_of(seed: int = 0, *, side: int = 200, scale: float = 1.0) -> Scene:
    values = np.random.default_rng(seed).gamma(2.0, 100.0 * scale, (3, side, side)).astype(np.float32)
    return array_scene(values * np.array([1, 10, 100], np.float32)[:, None, None], name=f"scene {seed}")


def pixels(scene: Scene) -> NDArray[np.float64]:
    return np.concatenate([p.values[:, p.valid] for p in stream_panels(scene, EXACT)], axis=1).astype(np.float64)


@given(anything, st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_whatever_comes_in_goes_out_finite_and_within_bounds(values: NDArray[Any], low: float, span: float) -> None:
    scaled = Normalizer(low=(low,), high=(low + span,))(values)
    assert scaled.dtype == np.float32
    assert scaled.shape == values.shape
    assert np.isfinite(scaled).all()
    assert scaled.min() >= -SOFT
    assert scaled.max() <= 1 + SOFT


@given(anything, st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_larger_value_is_never_scaled_to_a_smaller_one(values: NDArray[Any], low: float, span: float) -> None:
    scaled = Normalizer(low=(low,), high=(low + span,))(np.sort(values))
    assert (np.diff(scaled) >= 0).all()


@given(arrays(np.float64, (1, 1, 40), elements=st.floats(0, 1)), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_between_the_percentiles_scaling_is_linear(shares: NDArray[Any], low: float, span: float) -> None:
    scaled = Normalizer(low=(low,), high=(low + span,))(low + shares * span)
    assert np.allclose(scaled, shares, atol=1e-5)


def test_a_constant_band_becomes_zero_and_leaves_the_others_alone() -> None:
    values = np.stack([np.full((4, 4), 7.0), np.linspace(0, 1, 16).reshape(4, 4)])
    scaled = Normalizer(low=(7.0, 0.0), high=(7.0, 1.0))(values)
    assert (scaled[0] == 0).all()
    assert np.allclose(scaled[1], values[1])


def test_the_input_is_not_changed() -> None:
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    Normalizer(low=(2.0,), high=(5.0,))(values)
    assert np.array_equal(values, np.arange(12, dtype=np.float32).reshape(1, 3, 4))


def test_the_fitted_percentiles_are_those_of_all_valid_pixels() -> None:
    scene = scene_of()
    fitted = fit_normalizer([scene], EXACT)
    low, high = np.percentile(pixels(scene), [1, 99], axis=1)
    assert fitted.low == pytest.approx(low, rel=0.01)
    assert fitted.high == pytest.approx(high, rel=0.01)


def test_a_sample_gives_nearly_the_percentiles_of_the_whole() -> None:
    scene = scene_of(side=400)
    whole = fit_normalizer([scene], EXACT)
    part = fit_normalizer([scene], load_config(sets=["normalize.sample_pixels=20000"], environ={}))
    assert part != whole
    assert part.low == pytest.approx(whole.low, rel=0.1)
    assert part.high == pytest.approx(whole.high, rel=0.05)


def test_masked_pixels_do_not_count() -> None:
    values, valid = np.random.default_rng(0).random((1, 100, 100)), np.ones((100, 100), bool)
    valid[:50] = False
    wild = values.copy()
    wild[:, :50] = 1e9
    assert fit_normalizer([array_scene(values, valid=valid)], EXACT) == fit_normalizer([array_scene(wild, valid=valid)], EXACT)


def test_the_order_of_the_scenes_does_not_matter() -> None:
    scenes = [scene_of(seed) for seed in range(3)]
    assert fit_normalizer(scenes, EXACT) == fit_normalizer(scenes[::-1], EXACT)


def test_scenes_of_any_size_weigh_the_same() -> None:
    small, large = scene_of(1, side=60), scene_of(2, side=300, scale=5.0)
    both = fit_normalizer([small, large], load_config(sets=["normalize.high_percentile=75"], environ={}))
    quantiles = [np.quantile(pixels(scene), np.linspace(0, 1, 2001), axis=1) for scene in (small, large)]
    assert both.high == pytest.approx(np.percentile(np.concatenate(quantiles), 75, axis=0), rel=1e-6)


def test_the_number_of_reader_threads_does_not_change_a_bit() -> None:
    few = load_config(sets=["normalize.sample_pixels=5000", "runtime.reader_threads=1"], environ={})
    many = load_config(sets=["normalize.sample_pixels=5000", "runtime.reader_threads=4"], environ={})
    scene = scene_of(side=700)
    assert fit_normalizer([scene], few) == fit_normalizer([scene], many)


def test_a_few_valid_pixels_are_found_though_the_sample_is_thin() -> None:
    valid = np.zeros((600, 600), bool)
    valid[300, 17] = valid[301, 18] = True
    values = np.zeros((1, 600, 600))
    values[:, valid] = 3.0
    thin: Config = load_config(sets=["normalize.sample_pixels=1000"], environ={})
    assert fit_normalizer([array_scene(values, valid=valid)], thin) == Normalizer(low=(3.0,), high=(3.0,))


def test_a_scene_without_a_valid_pixel_is_refused_by_name() -> None:
    scene = replace(array_scene(np.ones((1, 20, 20)), valid=np.zeros((20, 20), bool)), uri="cloud.tif")
    with pytest.raises(SceneError, match=r"cloud\.tif: has no valid pixel in all used bands"):
        fit_normalizer([scene], EXACT)
