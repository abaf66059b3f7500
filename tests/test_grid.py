"""The tile grid: windows that are read, cores that are written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoanom.errors import ConfigError
from geoanom.raster.grid import MARGIN_PX, TileGrid, Window


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    size = draw(st.integers(1, 40))
    return TileGrid(height=draw(st.integers(1, 90)), width=draw(st.integers(1, 90)), size=size, stride=draw(st.integers(1, size)))


windows = st.builds(Window, row_off=st.integers(-20, 60), col_off=st.integers(-20, 60), height=st.integers(0, 40), width=st.integers(0, 40))


@given(grids())
def test_cores_cover_every_pixel_of_the_scene_exactly_once(grid: TileGrid) -> None:
    covered = np.zeros((grid.height, grid.width), int)
    for row, col in grid:
        covered[grid.core(row, col).slices] += 1
    assert (covered == 1).all()


@given(grids())
def test_cores_lie_inside_the_scene(grid: TileGrid) -> None:
    for row, col in grid:
        core = grid.core(row, col)
        assert core.within(grid.height, grid.width) == core
        assert core.height > 0
        assert core.width > 0


@given(grids())
def test_each_window_holds_its_core(grid: TileGrid) -> None:
    for row, col in grid:
        window, core = grid.window(row, col), grid.core(row, col)
        assert window.row_off <= core.row_off <= core.row_end <= window.row_end
        assert window.col_off <= core.col_off <= core.col_end <= window.col_end


@given(grids())
def test_windows_reach_beyond_the_scene_only_where_it_is_smaller_than_a_tile(grid: TileGrid) -> None:
    for row, col in grid:
        window = grid.window(row, col)
        assert (window.height, window.width) == (grid.size, grid.size)
        assert window.row_off >= 0
        assert window.col_off >= 0
        assert window.row_end <= max(grid.height, grid.size)
        assert window.col_end <= max(grid.width, grid.size)


@given(grids())
def test_tiles_are_counted_and_listed_in_row_major_order(grid: TileGrid) -> None:
    tiles = list(grid)
    assert tiles == sorted(set(tiles))
    assert len(tiles) == len(grid) == grid.n_rows * grid.n_cols


@given(grids())
def test_the_patch_of_a_block_holds_the_windows_of_its_tiles_and_their_margin(grid: TileGrid) -> None:
    step = grid.block_tiles
    for row, col in grid:
        first, last = grid.window(row - row % step, col - col % step), grid.window(row, col)
        assert last.row_end + MARGIN_PX <= first.row_off - MARGIN_PX + grid.block_side
        assert last.col_end + MARGIN_PX <= first.col_off - MARGIN_PX + grid.block_side


def test_an_inner_window_is_centred_on_its_core() -> None:
    grid = TileGrid(height=640, width=640, size=64, stride=32)
    assert grid.window(5, 7) == Window(row_off=5 * 32 - 16, col_off=7 * 32 - 16, height=64, width=64)
    assert grid.core(5, 7) == Window(row_off=160, col_off=224, height=32, width=32)


@given(windows, st.integers(1, 50), st.integers(1, 50))
def test_the_part_of_a_window_within_a_scene_is_the_intersection_of_their_pixels(window: Window, height: int, width: int) -> None:
    def pixels(box: Window) -> set[tuple[int, int]]:
        return {(r, c) for r in range(box.row_off, box.row_end) for c in range(box.col_off, box.col_end)}

    assert pixels(window.within(height, width)) == {(r, c) for r, c in pixels(window) if 0 <= r < height and 0 <= c < width}


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("stride", 0), ("stride", 65), ("height", 0), ("width", 0)], ids=str)
def test_a_grid_that_would_skip_pixels_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match="tiles"):
        TileGrid(**{"height": 100, "width": 100, "size": 64, "stride": 32, name: value})
