"""What must not happen silently: pixels that are no data, and values that are not what the file says."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasters import TEN_METRES, UTM, block_place, coordinates, edit, noise, whole, write_raster

from geoanom.config import load_config
from geoanom.errors import SceneError
from geoanom.raster.blocks import Tally, stream_panels
from geoanom.raster.environ import LOCKED, SKIPPED_DRIVERS
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene


def read(scene: Scene, config: Config) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    panels = list(stream_panels(scene, config))
    return np.concatenate([p.values for p in panels], axis=1), np.concatenate([p.valid for p in panels])


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_blocks_that_were_never_written_are_masked_and_told(interleave: str, tmp_path: Path, plain_config: Config) -> None:
    path, truth = tmp_path / "killed.tif", noise(256, 256, 2)
    profile = {"driver": "GTiff", "count": 2, "height": 256, "width": 256, "dtype": "uint8", "crs": UTM, "transform": TEN_METRES}
    tiling = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True, "interleave": interleave}
    with rasterio.open(path, "w", **profile, **tiling) as dst:
        dst.write(truth[:, :128], window=((0, 128), (0, 256)))
        if interleave == "band":
            dst.write(truth[0, 128:192, :64], 1, window=((128, 192), (0, 64)))
    assert whole(path)[1, 128:].max() == 0  # what GDAL serves for them
    scene = open_scene(path, plain_config)
    values, valid = read(scene, plain_config)
    assert valid[:128].all()
    assert not valid[128:].any()
    assert np.array_equal(values[:, :128], truth[:, :128])
    assert "8 of 16 blocks were never written and are masked" in scene.warnings


def test_blocks_beyond_the_end_of_the_file_are_masked_as_damage(tmp_path: Path) -> None:
    config = load_config(sets=["sources.max_damaged_fraction=0.2"], environ={})
    path = write_raster(tmp_path / "short.tif", noise(256, 256), block=64)
    offset, size = block_place(path, 3, 3)
    assert offset + size == path.stat().st_size
    os.truncate(path, offset + size - 1)
    scene, tally = open_scene(path, config), Tally()
    valid = np.concatenate([p.valid for p in stream_panels(scene, config, tally)])
    assert not valid[192:, 192:].any()
    assert valid.sum() == 256 * 256 - 64 * 64
    assert tally.damaged_blocks == {(3, 3)}


def test_a_file_that_lost_its_tail_is_refused_as_truncated(tmp_path: Path, plain_config: Config) -> None:
    path = write_raster(tmp_path / "short.tif", noise(256, 256), block=64)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SceneError, match=r"short\.tif: is truncated: \d of 16 blocks lie beyond the end of the file"):
        open_scene(path, plain_config)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_one_strip_that_holds_the_whole_scene_is_not_taken_for_rows_that_were_never_written(
    interleave: str, tmp_path: Path, plain_config: Config
) -> None:
    truth = noise(3500, 3500, 2)  # large enough for GDAL to show its rows as blocks
    path = write_raster(tmp_path / "strip.tif", truth, blockysize=3500, compress="deflate", zlevel=1, interleave=interleave)
    scene = open_scene(path, plain_config)
    values, valid = read(scene, plain_config)
    assert scene.warnings == ()
    assert valid.all()
    assert np.array_equal(values, truth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_in_any_band_masks_the_pixel(bad: float, tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50, 3).astype("float32")
    truth[1, 7, 9] = bad
    values, valid = read(open_scene(write_raster(tmp_path / "nan.tif", truth), plain_config), plain_config)
    assert np.argwhere(~valid).tolist() == [[7, 9]]
    assert np.isfinite(values).all()


def test_nodata_in_one_band_masks_the_pixel_though_the_dataset_mask_calls_it_valid(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50, 3)
    truth[2, 4, 5] = 0
    path = write_raster(tmp_path / "nodata.tif", truth, nodata=0)
    with rasterio.open(path) as src:
        assert src.dataset_mask()[4, 5] == 255
    _, valid = read(open_scene(path, plain_config), plain_config)
    assert np.argwhere(~valid).tolist() == [[4, 5]]


def test_nodata_of_a_band_that_is_not_used_masks_nothing(tmp_path: Path) -> None:
    truth = noise(40, 50, 3)
    truth[2, 4, 5] = 0
    config = load_config(sets=["bands=[1,2]"], environ={})
    values, valid = read(open_scene(write_raster(tmp_path / "nodata.tif", truth, nodata=0), config), config)
    assert valid.all()
    assert np.array_equal(values, truth[:2])


def test_nodata_is_compared_before_the_scale_is_applied(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50).astype("int16")
    truth[0, 3, 3] = -32768
    path = edit(write_raster(tmp_path / "scaled.tif", truth, nodata=-32768), scales=[0.5], offsets=[10.0])
    scene = open_scene(path, plain_config)
    values, valid = read(scene, plain_config)
    assert np.argwhere(~valid).tolist() == [[3, 3]]
    assert np.array_equal(values[:, valid], (truth * 0.5 + 10)[:, valid])
    assert "scale and offset of the file are applied" in scene.warnings


def test_each_band_has_its_own_scale_and_offset(tmp_path: Path) -> None:
    truth = coordinates(20, 30, 3, "float64")
    path = edit(write_raster(tmp_path / "scaled.tif", truth), scales=[1.0, 0.1, 2.0], offsets=[0.0, -1.0, 5.0])
    config = load_config(sets=["bands=[3,1]"], environ={})
    values, _ = read(open_scene(path, config), config)
    assert np.allclose(values, np.stack([truth[2] * 2 + 5, truth[0]]), rtol=1e-6)
    assert values.dtype == np.float32


@pytest.mark.filterwarnings("ignore:.*shadowing the alpha band")
def test_alpha_masks_beside_nodata(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50, 4)
    truth[3], truth[3, :, :20], truth[:3, :10] = 255, 0, 255
    path = write_raster(tmp_path / "rgba.tif", truth, nodata=255)
    edit(path, colorinterp=[ColorInterp[c] for c in ("red", "green", "blue", "alpha")])
    _, valid = read(open_scene(path, plain_config), plain_config)
    assert np.array_equal(valid, (truth[3] > 0) & (truth[:3] != 255).all(axis=0))


def test_alpha_masks_and_is_not_a_band(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50, 4)
    truth[3] = 255
    truth[3, 10:20, 5:9] = 0
    path = edit(write_raster(tmp_path / "rgba.tif", truth), colorinterp=[ColorInterp[c] for c in ("red", "green", "blue", "alpha")])
    scene = open_scene(path, plain_config)
    values, valid = read(scene, plain_config)
    assert [band.index for band in scene.bands] == [1, 2, 3]
    assert scene.band_count == 3
    assert np.array_equal(valid, truth[3] > 0)
    assert np.array_equal(values[:, valid], truth[:3, valid])


def test_an_internal_mask_masks(tmp_path: Path, plain_config: Config) -> None:
    mask = np.full((40, 50), 255, np.uint8)
    mask[:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_raster(tmp_path / "masked.tif", noise(40, 50, 3), mask=mask)
    _, valid = read(open_scene(path, plain_config), plain_config)
    assert np.array_equal(valid, mask > 0)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_values_are_read_as_their_amplitude_and_it_is_told(dtype: str, tmp_path: Path, plain_config: Config) -> None:
    truth = (noise(40, 50) + 1j * noise(40, 50, seed=1)).astype("complex64")
    scene = open_scene(write_raster(tmp_path / "slc.tif", truth, dtype=dtype), plain_config)
    values, _ = read(scene, plain_config)
    assert values.dtype == np.float32 == np.dtype(scene.bands[0].dtype)
    assert np.allclose(values, np.hypot(truth.real, truth.imag), rtol=1e-6)
    assert "complex values: their amplitude is used, the phase is not" in scene.warnings


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64", "float32"])
def test_values_of_every_type_arrive_unchanged_at_both_ends_of_its_range(dtype: str, tmp_path: Path, plain_config: Config) -> None:
    limits = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    truth = noise(40, 50).astype(dtype) % 100
    truth[0, 0, :2] = limits.min, limits.max
    scene = open_scene(write_raster(tmp_path / "typed.tif", truth), plain_config)
    values, valid = read(scene, plain_config)
    assert values.dtype == np.dtype(dtype) == np.dtype(scene.bands[0].dtype)
    assert np.array_equal(values, truth)
    assert valid.all()


def test_doubles_are_read_as_floats_and_masked_where_they_do_not_fit(tmp_path: Path, plain_config: Config) -> None:
    truth = noise(40, 50).astype("float64") / 3
    truth[0, 1, 1] = 1e300
    values, valid = read(open_scene(write_raster(tmp_path / "double.tif", truth), plain_config), plain_config)
    assert np.argwhere(~valid).tolist() == [[1, 1]]
    assert np.array_equal(values[:, valid], truth[:, valid].astype("float32"))


def test_bands_that_are_nodata_everywhere_are_left_out_and_named(shared_data: Path, plain_config: Config) -> None:
    scene = open_scene(shared_data / "scenes" / "enmap_potsdam.tif", plain_config)
    raw = whole(shared_data / "scenes" / "enmap_potsdam.tif")
    dead = [i + 1 for i in range(224) if (raw[i] == -32768).all()]
    assert sorted({band.index for band in scene.bands} | set(dead)) == list(range(1, 225))
    assert len(scene.bands) == 218
    assert f"6 bands hold nothing but nodata and are left out: {', '.join(map(str, dead))}" in scene.warnings
    used = [band.index - 1 for band in scene.bands]
    assert np.array_equal(read(scene, plain_config)[1], (raw[used] != -32768).all(axis=0))


def test_pixels_that_are_not_valid_are_zero() -> None:
    config, valid = load_config(environ={}), np.random.default_rng(0).random((30, 30)) > 0.5
    values, got = read(array_scene(coordinates(30, 30) + 1, valid=valid), config)
    assert np.array_equal(got, valid)
    assert np.array_equal(values[0] > 0, valid)


def test_an_array_scene_neither_changes_its_array_nor_shares_a_digest_with_another() -> None:
    truth = coordinates(30, 30).astype("float32")
    copy, valid = truth.copy(), np.ones((30, 30), bool)
    valid[0] = False
    read(array_scene(truth, valid=valid), load_config(environ={}))
    assert np.array_equal(truth, copy)
    others = [truth, truth.reshape(1, 20, 45), truth.view("uint32"), truth + 1]
    assert len({array_scene(a).digest for a in others} | {array_scene(truth, valid=valid).digest}) == 5


@pytest.mark.parametrize(
    "values", [np.zeros((3, 4)), np.zeros((1, 3, 4), complex), np.zeros((1, 0, 4)), np.zeros((1, 2, 2), bool)], ids=str
)
def test_an_array_that_is_no_raster_is_refused(values: NDArray[Any]) -> None:
    with pytest.raises(SceneError, match="array: is not a real array with the axes band, row, col"):
        array_scene(values)


def test_the_environment_of_the_caller_cannot_loosen_gdal() -> None:
    code = "import os, geoanom.raster; from geoanom.raster.environ import LOCKED; print([os.environ[k] for k in (*LOCKED, 'GDAL_SKIP')])"
    hostile = {**os.environ, **dict.fromkeys(LOCKED, "loose"), "GDAL_SKIP": ""}
    run = subprocess.run([sys.executable, "-c", code], env=hostile, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([*LOCKED.values(), ",".join(SKIPPED_DRIVERS)])


def test_the_drivers_that_follow_references_are_gone(tmp_path: Path) -> None:
    code = "import geoanom.raster, rasterio.drivers, rasterio\nwith rasterio.Env() as env: print(*env.drivers())"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    drivers = run.stdout.split()
    assert "GTiff" in drivers
    assert not set(drivers) & set(SKIPPED_DRIVERS)
