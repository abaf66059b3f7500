"""Undeclared fill: what is taken for it, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from rasters import edit, noise, whole, write_raster
from scipy.ndimage import gaussian_filter

from geoanom.raster.blocks import Tally, stream_panels
from geoanom.raster.fill import SPECK_PX, fill_mask, fill_matches, with_border_fill
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene


def valid_of(scene: Scene, config: Config) -> NDArray[np.bool_]:
    return np.concatenate([panel.valid for panel in stream_panels(scene, config)])


def slanted(shape: tuple[int, int], slope: float = 0.4) -> NDArray[np.bool_]:
    """True left of a slanted edge."""
    rows, cols = np.indices(shape)
    return cols < slope * rows + 60


def test_the_zeros_beyond_the_slanted_edge_of_a_real_scene_are_fill_and_nothing_else_is(fill_scene: Path, plain_config: Config) -> None:
    scene, raw, tally = open_scene(fill_scene, plain_config), whole(fill_scene), Tally()
    assert list(scene.fill or ()) == [0, 0, 0]
    assert "a large area of the constant value (0, 0, 0) at the border is taken for fill and masked" in scene.warnings
    valid = np.concatenate([panel.valid for panel in stream_panels(scene, plain_config, tally)])
    zero_everywhere, zero_somewhere = (raw == 0).all(axis=0), (raw == 0).any(axis=0)
    assert zero_everywhere.mean() > 0.1
    assert not (valid & zero_everywhere).any()
    assert not (~valid & ~zero_somewhere).any()
    assert tally.fill_pixels == (~valid).sum()


@pytest.mark.parametrize("value", [0, 255, 77])
def test_a_constant_beyond_a_slanted_edge_is_fill_whatever_its_value(value: int, plain_config: Config) -> None:
    truth, outside = noise(300, 300, 3), slanted((300, 300))
    truth[truth == value] = 5
    truth[:, outside] = value
    scene = with_border_fill(array_scene(truth))
    assert list(scene.fill or ()) == [value] * 3
    assert np.array_equal(valid_of(scene, plain_config), ~outside)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float32", "float64", "int8"])
def test_the_end_of_a_types_range_can_be_fill(dtype: str, plain_config: Config) -> None:
    truth, outside = (noise(300, 300) % 100).astype(dtype), slanted((300, 300))
    truth[:, outside] = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else np.finfo(dtype).min
    assert np.array_equal(valid_of(with_border_fill(array_scene(truth)), plain_config), ~outside)


def test_the_mask_of_fill_does_not_depend_on_where_panels_meet(plain_config: Config) -> None:
    truth = noise(700, 300)
    for foot in range(250, 264):  # a flat wedge that ends around the first seam
        shifted = truth.copy()
        shifted[:, np.subtract.outer(np.arange(700), np.arange(300) // 4) < foot - 30] = 0
        valid = valid_of(with_border_fill(array_scene(shifted)), plain_config)
        assert np.array_equal(valid, ~fill_mask(fill_matches(shifted, (0,))))


def test_a_constant_scene_has_no_fill(plain_config: Config) -> None:
    scene = with_border_fill(array_scene(np.full((2, 200, 300), 9, np.uint16)))
    assert scene.fill is None
    assert valid_of(scene, plain_config).all()


def test_a_scene_that_is_constant_wherever_it_is_valid_has_no_fill() -> None:
    valid = np.zeros((300, 300), bool)
    valid[60:240, 60:240] = True
    assert with_border_fill(array_scene(np.full((1, 300, 300), 9, np.uint16), valid=valid)).fill is None


def test_a_quantized_gradient_is_not_fill(plain_config: Config) -> None:
    rows, cols = np.indices((400, 400))
    scene = with_border_fill(array_scene(((rows + cols) // 16).astype(np.uint8)[None]))
    assert scene.fill is None
    assert valid_of(scene, plain_config).all()


def test_small_saturated_roofs_are_not_fill_even_at_the_border(plain_config: Config) -> None:
    truth = noise(400, 400, 3)
    truth[:, :20, 100:125] = 255
    truth[:, 200:230, 375:] = 255
    scene = with_border_fill(array_scene(truth))
    assert scene.fill is None
    assert valid_of(scene, plain_config).all()


def test_smooth_sea_at_the_border_is_not_fill(plain_config: Config) -> None:
    rng = np.random.default_rng(3)
    truth = (500 + 40 * gaussian_filter(rng.standard_normal((400, 400)), 8) + rng.standard_normal((400, 400))).astype(np.uint16)[None]
    assert valid_of(with_border_fill(array_scene(truth)), plain_config).all()


def test_an_area_that_is_constant_in_one_band_only_is_not_fill() -> None:
    truth = noise(300, 300, 2)
    truth[0, slanted((300, 300))] = 0
    assert with_border_fill(array_scene(truth)).fill is None


def test_declared_nodata_is_not_found_a_second_time(tmp_path: Path, plain_config: Config) -> None:
    truth, outside = noise(300, 300), slanted((300, 300))
    truth[:, outside] = 0
    scene = open_scene(edit(write_raster(tmp_path / "declared.tif", truth), nodata=0), plain_config)
    assert scene.fill is None
    assert np.array_equal(valid_of(scene, plain_config), ~outside)


def test_specks_of_the_fills_value_stay_valid() -> None:
    values = noise(100, 100).astype(np.int16)
    values[0, :, :40] = 0
    values[0, 50 : 50 + SPECK_PX - 1, 70 : 70 + SPECK_PX - 1] = 0
    mask = fill_mask(fill_matches(values, (0,)))
    assert mask[:, :40].all()
    assert not mask[:, 40 + SPECK_PX :].any()


def test_a_real_scene_that_fills_its_frame_has_no_fill(sample_scene: Path, plain_config: Config) -> None:
    assert open_scene(sample_scene, plain_config).fill is None
