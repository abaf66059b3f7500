"""Streaming: each block decoded once and in order, tiles cut from a strip, damage kept to its block."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasters import break_block, coordinates, noise, whole, write_raster

from geoanom.config import load_config
from geoanom.errors import SceneError
from geoanom.raster.blocks import Panel, Tally, TileBlock, stream_panels, stream_tiles
from geoanom.raster.grid import MARGIN_PX, Window
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Handle, Pixels

LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled by pixel": {"block": 64, "interleave": "pixel", "compress": "deflate"},
    "tiled by band": {"block": 64, "interleave": "band", "compress": "deflate"},
    "in strips": {"blockysize": 7, "compress": "lzw"},
    "in one strip": {"blockysize": 300},
    "in big tiles": {"block": 512, "compress": "deflate"},
}


def tiles_of(size: int, stride: int, *more: str) -> Config:
    return load_config(sets=[f"tiles.size={size}", f"tiles.stride={stride}", *more], environ={})


def one_reader(config: Config) -> Config:
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"reader_threads": 1})})


def joined(panels: list[Panel]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    return np.concatenate([p.values for p in panels], axis=1), np.concatenate([p.valid for p in panels])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_panels_are_the_whole_raster_from_top_to_bottom(layout: dict[str, Any], tmp_path: Path, plain_config: Config) -> None:
    truth = coordinates(300, 333, count=3)
    path = write_raster(tmp_path / "scene.tif", truth, **layout)
    panels = list(stream_panels(open_scene(path, plain_config), plain_config))
    values, valid = joined(panels)
    assert np.array_equal(values, truth)
    assert valid.all()
    ends = [panel.window.row_end for panel in panels]
    assert [panel.window.row_off for panel in panels] == [0, *ends[:-1]]


def test_panels_of_a_real_scene_are_what_another_reader_reads(sample_scene: Path, plain_config: Config) -> None:
    values, valid = joined(list(stream_panels(open_scene(sample_scene, plain_config), plain_config)))
    assert np.array_equal(values, whole(sample_scene))
    assert valid.all()


@settings(max_examples=15)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    size=st.integers(8, 70),
    share=st.floats(0.2, 1.0),
)
@example(height=5, width=9, size=32, share=0.5)
@example(height=600, width=17, size=16, share=1.0)
def test_every_tile_is_the_scene_under_its_window_zeros_beyond_the_edge(height: int, width: int, size: int, share: float) -> None:
    config = tiles_of(size, max(1, int(size * share)), "tiles.min_valid_fraction=0")
    truth = coordinates(height, width, count=2) + 1
    scene = replace(array_scene(truth), block_height=min(32, height), block_width=min(48, width))
    grid, pad = scene.grid(config), grid_pad(size)
    padded = np.pad(truth, ((0, 0), (pad, pad), (pad, pad)))
    seen = []
    for block in stream_tiles(scene, grid, config):
        assert block.values.shape[1:] == block.valid.shape == (grid.block_side, grid.block_side)
        assert np.array_equal(block.values[0] > 0, block.valid)
        for tile, row, col in zip(block.cut(block.values), block.rows, block.cols, strict=True):
            window = grid.window(int(row), int(col))
            assert np.array_equal(tile, padded[:, window.row_off + pad : window.row_end + pad, window.col_off + pad : window.col_end + pad])
            seen.append((int(row), int(col)))
        check_margin(block, grid.window(int(block.rows[0]), int(block.cols[0])), padded, pad)
    assert sorted(seen) == list(grid)


def grid_pad(size: int) -> int:
    return 2 * (size + MARGIN_PX) + 400


def check_margin(block: TileBlock, first: Window, padded: NDArray[np.generic], pad: int) -> None:
    """The whole patch, margin included, shows the scene around its first tile."""
    top, left = first.row_off - int(block.tops[0]) + pad, first.col_off - int(block.lefts[0]) + pad
    side = len(block.valid)
    assert block.tops[0] >= MARGIN_PX
    assert np.array_equal(block.values, padded[:, top : top + side, left : left + side])


def test_tiles_with_too_few_valid_pixels_never_come_and_are_counted() -> None:
    valid = np.ones((96, 96), bool)
    valid[:32, :32] = False
    valid[40:42, 70] = False
    config, tally = tiles_of(32, 32, "tiles.min_valid_fraction=1.0"), Tally()
    scene = array_scene(coordinates(96, 96), valid=valid)
    got = {
        (r, c)
        for block in stream_tiles(scene, scene.grid(config), config, tally=tally)
        for r, c in zip(block.rows, block.cols, strict=True)
    }
    assert got == set(scene.grid(config)) - {(0, 0), (1, 2)}
    assert (tally.tiles_scored, tally.tiles_masked) == (7, 2)


def test_a_tile_without_any_valid_pixel_never_comes_even_where_none_need_be_valid() -> None:
    config, tally = tiles_of(32, 32, "tiles.min_valid_fraction=0"), Tally()
    scene = array_scene(coordinates(64, 64), valid=np.zeros((64, 64), bool))
    assert list(stream_tiles(scene, scene.grid(config), config, tally=tally)) == []
    assert (tally.tiles_scored, tally.tiles_masked) == (0, 4)


def test_a_scene_smaller_than_a_tile_is_padded_and_masked() -> None:
    config = tiles_of(64, 64, "tiles.min_valid_fraction=0.1")
    scene = array_scene(coordinates(30, 50) + 1)
    (block,) = stream_tiles(scene, scene.grid(config), config)
    tile, mask = block.cut(block.values)[0, 0], block.cut(block.valid)[0]
    assert np.array_equal(tile[:30, :50], coordinates(30, 50)[0] + 1)
    assert mask[:30, :50].all()
    assert mask.sum() == 30 * 50
    assert tile[~mask].max() == 0
    assert block.valid_fraction[0] == pytest.approx(30 * 50 / 64**2)


def test_only_wanted_blocks_come_and_every_panel_is_shown() -> None:
    config, shown = tiles_of(32, 32), list[Panel]()
    scene = array_scene(coordinates(700, 700))
    grid = scene.grid(config)
    blocks = list(stream_tiles(scene, grid, config, wanted=lambda row, col: (row, col) == (1, 2), watch=shown.append))
    assert [(int(b.rows[0]), int(b.cols[0])) for b in blocks] == [(grid.block_tiles, 2 * grid.block_tiles)]
    assert np.array_equal(joined(shown)[0], coordinates(700, 700))


class Counting:
    """A handle that writes down the windows it reads."""

    def __init__(self, handle: Handle, windows: list[Window]) -> None:
        self.handle, self.windows = handle, windows

    def read(self, window: Window) -> Pixels:
        self.windows.append(window)
        return self.handle.read(window)

    def close(self) -> None:
        self.handle.close()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_block_of_the_file_is_decoded_exactly_once_per_pass(layout: dict[str, Any], tmp_path: Path, plain_config: Config) -> None:
    path = write_raster(tmp_path / "scene.tif", noise(1100, 1300, 2), **layout)
    scene, windows = open_scene(path, plain_config), list[Window]()
    counted = replace(scene, open_handle=lambda: Counting(scene.open_handle(), windows))
    for _ in stream_tiles(counted, scene.grid(plain_config), plain_config):
        pass
    decoded = np.zeros((-(-scene.height // scene.block_height), -(-scene.width // scene.block_width)), int)
    for window in windows:
        first_row, first_col = window.row_off // scene.block_height, window.col_off // scene.block_width
        decoded[first_row : -(-window.row_end // scene.block_height), first_col : -(-window.col_end // scene.block_width)] += 1
    assert (decoded == 1).all()


def test_the_number_of_reader_threads_does_not_change_the_stream(sample_scene: Path) -> None:
    def stream(threads: int) -> list[TileBlock]:
        config = tiles_of(64, 32, f"runtime.reader_threads={threads}")
        scene = open_scene(sample_scene, config)
        return list(stream_tiles(scene, scene.grid(config), config))

    one, three = stream(1), stream(3)
    assert len(one) == len(three) > 1
    for a, b in zip(one, three, strict=True):
        for name in ("rows", "cols", "tops", "lefts", "values", "valid", "valid_fraction"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_memory_depends_on_the_width_of_a_scene_and_not_on_its_height(tmp_path: Path, plain_config: Config) -> None:
    config = one_reader(plain_config)

    def peak(height: int) -> int:
        path = tmp_path / f"{height}.tif"
        write_raster(path, np.broadcast_to(noise(1, 16_000), (1, height, 16_000)), blockysize=1)
        scene = open_scene(path, config)
        tracemalloc.start()
        try:
            n_tiles = sum(len(block) for block in stream_tiles(scene, scene.grid(config), config))
            assert n_tiles == len(scene.grid(config))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    low, high = peak(1500), peak(4500)
    assert high < 1.2 * low
    assert high < 4500 * 16_000


def test_a_panel_beyond_the_memory_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    config = load_config(sets=["sources.max_strip_mb=1"], environ={})
    scene = open_scene(write_raster(tmp_path / "wide.tif", noise(600, 4000)), config)
    with pytest.raises(SceneError, match=r"wide\.tif: needs 2 MB for \d+ rows, the limit is 1 MB; choose fewer --bands"):
        next(stream_panels(scene, config))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_one_undecodable_block_costs_that_block_and_is_counted_once(interleave: str, tmp_path: Path, plain_config: Config) -> None:
    truth = noise(512, 512, 3)
    path = write_raster(tmp_path / "scene.tif", truth, block=64, compress="deflate", interleave=interleave)
    break_block(path, 2, 3, band=2 if interleave == "band" else 1)
    tally = Tally()
    values, valid = joined(list(stream_panels(open_scene(path, plain_config), plain_config, tally)))
    lost = np.zeros((512, 512), bool)
    lost[128:192, 192:256] = True
    assert np.array_equal(valid, ~lost)
    assert np.array_equal(values, np.where(lost, 0, truth))
    assert tally.damaged_blocks == {(2, 3)}
    assert tally.warnings() == ["1 damaged block could not be decoded and is masked"]


def test_the_look_for_fill_survives_damage_in_the_blocks_it_looks_at(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(512, 512)
    truth[0, :, :200] = 0
    path = break_block(write_raster(tmp_path / "scene.tif", truth, block=64, compress="deflate"), 0, 0)
    scene = open_scene(path, plain_config)
    assert list(scene.fill or ()) == [0]
    _, valid = joined(list(stream_panels(scene, plain_config)))
    assert valid.sum() == 512 * 312


def test_gdal_says_nothing_of_damage_on_stderr(tmp_path: Path) -> None:
    path = break_block(write_raster(tmp_path / "scene.tif", noise(512, 512, 3), block=64, compress="deflate"), 2, 3)
    code = (
        "import sys; from geoanom.config import Config; from geoanom.raster.scene import open_scene\n"
        "from geoanom.raster.blocks import Tally, stream_panels\n"
        "tally = Tally(); list(stream_panels(open_scene(sys.argv[1], Config()), Config(), tally)); print(tally.damaged_blocks)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout == "{(2, 3)}\n"
    assert run.stderr == ""


def test_a_scene_that_loses_more_than_the_set_share_fails_by_name(tmp_path: Path, plain_config: Config) -> None:
    path = write_raster(tmp_path / "scene.tif", noise(256, 256), block=64, compress="deflate")
    scene = open_scene(break_block(break_block(path, 1, 1), 2, 1), plain_config)
    with pytest.raises(SceneError, match=r"scene\.tif: is damaged: 2 blocks could not be decoded"):
        list(stream_panels(scene, plain_config))


@pytest.mark.parametrize("deed", ["replaced", "touched", "deleted"])
def test_a_file_that_changes_during_the_pass_is_an_error(deed: str, tmp_path: Path, plain_config: Config) -> None:
    config = one_reader(plain_config)
    path = write_raster(tmp_path / "scene.tif", noise(2000, 300), block=64, compress="deflate")
    panels = stream_panels(open_scene(path, config), config)
    next(panels)
    if deed == "replaced":
        write_raster(tmp_path / "other.tif", noise(2000, 300, seed=1), block=64, compress="deflate").replace(path)
    elif deed == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(SceneError, match="was replaced or changed while it was read"):
        list(panels)
