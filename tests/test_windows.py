"""Windows against their surroundings: what their contrast must and must not depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geoanom.embed.statistics import MAX_BANDS
from geoanom.embed.windows import CELL_PX, SURROUNDINGS, WindowGeometry, contrasts, n_columns
from geoanom.layer.windowmap import WindowMap
from geoanom.raster.grid import TileGrid, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 128
TILE = WindowGeometry(size=64, step=32)


def noise(n_bands: int = 3, seed: int = 0, side: int = SIDE) -> torch.Tensor:
    return torch.rand(1, n_bands, side, side, generator=torch.Generator().manual_seed(seed))


def everywhere(side: int = SIDE) -> torch.Tensor:
    return torch.ones(1, side, side, dtype=torch.bool)


@pytest.mark.parametrize("n_bands", [1, 2, 4, 7, 13, 200])
def test_there_are_as_many_columns_as_promised(n_bands: int) -> None:
    found = contrasts(noise(n_bands), everywhere(), TILE)
    assert found.shape == (1, n_columns(n_bands), SIDE // CELL_PX, SIDE // CELL_PX)
    assert found.isfinite().all()
    assert n_columns(n_bands) <= n_columns(MAX_BANDS)


def test_nothing_stands_out_of_a_constant_patch() -> None:
    assert contrasts(torch.full((1, 3, SIDE, SIDE), 0.4), everywhere(), TILE).abs().max() < 1e-6


@given(level=st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=10)
def test_a_brighter_patch_has_the_same_contrasts(level: float) -> None:
    torch.testing.assert_close(contrasts(noise() + level, everywhere(), TILE), contrasts(noise(), everywhere(), TILE), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("size", [16, 32, 64, 100, 400])
def test_the_means_contrast_is_that_of_two_boxes(size: int) -> None:
    geometry = WindowGeometry(size=size, step=size)
    side = 49 * geometry.cell_px
    patch = noise(2, side=side)
    found = contrasts(patch, everywhere(side), geometry)[0, :2].numpy()
    cells = patch[0].numpy().astype(np.float64).reshape(2, 49, geometry.cell_px, 49, geometry.cell_px).mean(axis=(2, 4))
    near, far = geometry.radius, SURROUNDINGS * max(1, geometry.radius)

    def mean(reach: int) -> NDArray[np.float64]:
        boxed: NDArray[np.float64] = cells[:, 24 - reach : 25 + reach, 24 - reach : 25 + reach].mean(axis=(1, 2))
        return boxed

    np.testing.assert_allclose(found[:, 24, 24], mean(near) - mean(far), atol=1e-5)


@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan"), float("inf")])
def test_what_stands_in_pixels_that_are_not_valid_does_not_matter(garbage: float) -> None:
    valid = everywhere()
    valid[:, 30:75, 50:] = False
    dirty = noise().masked_fill(~valid[:, None], garbage)
    torch.testing.assert_close(contrasts(dirty, valid, TILE), contrasts(noise(), valid, TILE), equal_nan=True)


def test_windows_without_enough_valid_pixels_have_no_contrast() -> None:
    valid = everywhere()
    valid[:, :, 64:] = False
    found = contrasts(noise(), valid, TILE)[0, 0]
    assert found[:, :15].isfinite().all()
    assert found[:, 16:].isnan().all()


def test_the_edge_of_what_is_valid_does_not_stand_out() -> None:
    """Fill edges are the commonest false alarm: beside one, contrasts are those of the valid part alone."""
    wide, valid = noise(side=256), everywhere(256)
    valid[:, :, 128:] = False
    beside = contrasts(wide, valid, TILE)[..., :32]
    alone = contrasts(wide[..., :128], everywhere(256)[..., :128], TILE)[..., :32]
    torch.testing.assert_close(beside[..., :30], alone[..., :30], rtol=1e-3, atol=1e-4)
    assert (beside.abs() <= alone.abs() + 1e-4).all()  # the means of fewer cells count less


def test_a_foreign_texture_and_a_foreign_colour_stand_out_of_noise() -> None:
    patch = noise()
    patch[..., 40:60, 40:60] = patch[..., 40:60, 40:60].mean()
    patch[:, :, 80:100, 80:100] = patch[:, [1, 2, 0], 80:100, 80:100] * torch.tensor([1.0, 0.4, 1.0]).view(3, 1, 1)
    size = contrasts(patch, everywhere(), TILE)[0].square().sum(dim=0)
    calm = size[2:8, 20:30].max()
    assert size[12, 12] > 20 * calm
    assert size[22, 22] > 2 * calm


@example(across=0.0, down=1.0, cut=1)
@given(across=st.floats(-1.0, 1.0), down=st.floats(-1.0, 1.0), cut=st.integers(0, 60))
@settings(deadline=None, max_examples=20)
def test_an_even_slope_stands_out_nowhere_not_even_at_an_edge(across: float, down: float, cut: int) -> None:
    line = torch.arange(SIDE) / SIDE
    patch = (across * line + down * line[:, None]).expand(1, 2, SIDE, SIDE)
    valid = everywhere()
    valid[:, :cut] = False
    found = contrasts(patch, valid, TILE)[:, :2]
    assert found[found.isfinite()].abs().max() < 1e-4


def test_single_dead_pixels_do_not_silence_the_windows_around_them() -> None:
    patch, valid = noise(), torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) > 0.08
    patch[..., 40:60, 40:60] = 0.9
    found = contrasts(patch, valid, TILE)[0]
    assert found.isfinite().all(dim=0).float().mean() > 0.95
    size = found.nan_to_num().square().sum(dim=0)
    assert size[12, 12] > 5 * size[2:8, 20:30].max()


def test_what_was_moved_by_whole_cells_keeps_its_contrasts() -> None:
    wide = noise(side=256)
    here = contrasts(wide[..., :192, :192], everywhere(192), TILE)
    there = contrasts(wide[..., 32:224, 32:224], everywhere(192), TILE)
    torch.testing.assert_close(here[..., 22:30, 22:30], there[..., 14:22, 14:22], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("size", "step"), [(64, 32), (32, 16), (64, 25), (9, 1), (400, 400)])
def test_a_cores_windows_are_centred_in_it_in_order(size: int, step: int) -> None:
    geometry = WindowGeometry(size=size, step=step)
    centres = geometry.centres(torch.tensor([48, 96]))
    assert centres.shape == (2, geometry.side)
    middles = (centres + 0.5) * geometry.cell_px
    for first, row in zip((48, 96), middles, strict=True):
        assert ((row > first - geometry.cell_px) & (row < first + step + geometry.cell_px)).all()
        assert (row.diff() > 0).all()


@given(stride=st.integers(1, 40), side=st.integers(1, 8), at=st.integers(0, 60))
@settings(deadline=None, max_examples=50)
def test_a_map_gives_every_pixel_the_window_that_it_lies_in(stride: int, side: int, at: int) -> None:
    grid = TileGrid(height=4 * stride, width=3 * stride, size=stride, stride=stride)
    values = np.random.default_rng(0).random((4, 3, side, side)).astype(np.float16)
    whole = WindowMap(grid=grid, values=values).read(Window(row_off=0, col_off=0, height=4 * stride, width=3 * stride))
    row, col = at % (4 * stride), (at * 7) % (3 * stride)
    wanted = values[row // stride, col // stride, row % stride * side // stride, col % stride * side // stride]
    assert whole[row, col] == np.float32(wanted)
    part = WindowMap(grid=grid, values=values).read(Window(row_off=row, col_off=col, height=4 * stride - row, width=3 * stride - col))
    np.testing.assert_array_equal(part, whole[row:, col:])
