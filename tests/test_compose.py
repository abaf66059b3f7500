"""Scenes of scenes: bands joined, masked, scaled, and brought to other grids without a window ever changing a pixel."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.warp import Resampling, reproject
from rasters import break_block, coordinates, noise, write_raster
from scipy.ndimage import map_coordinates

from geoanom.config import load_config
from geoanom.errors import SceneError
from geoanom.raster import regrid
from geoanom.raster.blocks import stream_panels
from geoanom.raster.compose import masked_by, moved_blocks, scaled, stacked
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.raster.regrid import at_resolution, regridded, same_place
from geoanom.raster.scene import Pixels, open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.raster.scene import Scene

UTM18 = CRS.from_epsg(32618).to_wkt()
WGS84 = CRS.from_epsg(4326).to_wkt()
CORNER = Affine.translation(500_000, 4_200_000)
LAX = load_config(sets=["sources.max_damaged_fraction=1"], environ={})
KINDS = ["nearest", "bilinear", "cubic", "average"]


def place(pixel: float = 20.0, dx: float = 0.0, dy: float = 0.0, turn: float = 0.0) -> Georeference:
    """UTM zone 18, shifted by (dx, dy) metres."""
    return Georeference(crs_wkt=UTM18, transform=CORNER @ Affine.translation(dx, dy) @ Affine.rotation(turn) @ Affine.scale(pixel, -pixel))


def scene_of(values: NDArray[Any], valid: NDArray[np.bool_] | None = None, pixel: float = 20.0) -> Scene:
    return array_scene(values, valid=valid, transform=place(pixel).transform, crs_wkt=UTM18)


def read(scene: Scene, window: Window | None = None) -> Pixels:
    with closing(scene.open_handle()) as handle:
        return handle.read(window or Window(row_off=0, col_off=0, height=scene.height, width=scene.width))


def by_gdal(values: NDArray[Any], source: Georeference, target: Georeference, shape: tuple[int, int], kind: str) -> NDArray[Any]:
    """GDAL's warper, the independent reader."""
    found = np.full((len(values), *shape), np.nan)
    place_of = {"src_transform": source.transform, "src_crs": source.crs_wkt, "dst_transform": target.transform, "dst_crs": target.crs_wkt}
    unscaled = {"XSCALE": 1, "YSCALE": 1}  # GDAL would widen its kernels where pixels grow even a little
    how = {"dst_nodata": np.nan, "resampling": Resampling[kind], "tolerance": 0, "num_threads": 1}
    reproject(values.astype(float), found, **place_of, **how, **unscaled)
    return found


@st.composite
def pieces(draw: st.DrawFn, height: int = 90, width: int = 70) -> Window:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Window(row_off=top, col_off=left, height=draw(st.integers(1, height - top)), width=draw(st.integers(1, width - left)))


GRIDS = {
    "twice as fine": place(10.0),
    "shifted": place(20.0, 3.3, -171.7),
    "coarser": place(47.0, -100.0),
    "turned": place(13.0, 300.0, turn=33.0),
    "degrees": Georeference(crs_wkt=WGS84, transform=Affine(1.7e-4, 0, -75.001, 0, -1.3e-4, 37.948)),
    "next zone": Georeference(crs_wkt=CRS.from_epsg(32617).to_wkt(), transform=Affine(21, 0, 1_027_380, 0, -19, 4_217_130)),
}
TRUTH = np.random.default_rng(1).normal(1000, 300, (2, 80, 75)).astype(np.float32)
HOLES = np.random.default_rng(2).random((80, 75)) > 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
@given(window=pieces())
def test_a_piece_of_another_grid_has_the_bits_of_the_whole(grid: str, kind: str, window: Window) -> None:
    scene = regridded(scene_of(TRUTH, HOLES), GRIDS[grid], 90, 70, kind)
    whole, piece = read(scene), read(scene, window)
    rows, cols = window.slices
    assert np.array_equal(whole.values[:, rows, cols], piece.values)
    assert np.array_equal(whole.valid[rows, cols], piece.valid)
    assert whole.valid.any()


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid != "coarser"])
def test_values_are_those_of_gdals_warper(grid: str, kind: str) -> None:
    scene = scene_of(TRUTH)
    made = regridded(scene, GRIDS[grid], 90, 70, kind)
    pixels, gdal = read(made), by_gdal(TRUTH, scene.georef, made.georef, (90, 70), kind)
    both = pixels.valid & np.isfinite(gdal[0])
    inner = np.zeros_like(both)  # GDAL leaves out taps beyond the edge where this holds on to the edge's pixels
    inner[4:-4, 4:-4] = both[4:-4, 4:-4]
    inner &= read(regridded(scene_of(TRUTH, _rim(80, 75)), GRIDS[grid], 90, 70, "cubic")).valid
    assert inner.sum() > 500
    close = np.isclose(pixels.values, gdal, rtol=0, atol=3.0)[:, inner]  # a hundredth of the pixels' deviation
    assert close.mean() > (0.999 if kind == "nearest" else 0.99999)  # a place on the edge of two pixels may go either way


@pytest.mark.parametrize("grid", ["degrees", "turned", "shifted", "next zone"])
def test_values_are_those_of_scipy_at_places_projected_one_by_one(grid: str) -> None:
    scene = scene_of(TRUTH)
    made = regridded(scene, GRIDS[grid], 90, 70, "bilinear")
    rows, cols = np.mgrid[:90, :70] + 0.5
    there = made.georef.transform @ (cols.ravel(), rows.ravel())
    x, y = Transformer.from_crs(made.georef.crs, scene.georef.crs, always_xy=True).transform(*there)
    source_cols, source_rows = (axis.reshape(90, 70) - 0.5 for axis in ~scene.georef.transform @ (x, y))
    pixels = read(made)
    for band, truth in zip(pixels.values, TRUTH, strict=True):
        expected = map_coordinates(truth.astype(float), [source_rows, source_cols], order=1, mode="nearest")
        assert np.allclose(band[pixels.valid], expected[pixels.valid], rtol=0, atol=0.2)
    inside = (source_cols >= -0.5) & (source_cols < 74.5) & (source_rows >= -0.5) & (source_rows < 79.5)
    assert np.array_equal(pixels.valid, inside)


def _rim(height: int, width: int) -> NDArray[np.bool_]:
    inside = np.zeros((height, width), bool)
    inside[2:-2, 2:-2] = True
    return inside


def doubled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows twice as fine by the closed form of aligned bilinear interpolation: a quarter of the neighbour, three of its own."""
    padded = np.pad(values, ((0, 0), (1, 1), (0, 0)), mode="edge")
    above, below = (0.25 * padded[:, rows] + 0.75 * values for rows in (slice(None, -2), slice(2, None)))
    return np.stack([above, below], axis=2).reshape(len(values), -1, values.shape[2])


def test_aligned_grids_are_exact() -> None:
    fine = read(regridded(scene_of(TRUTH), place(10.0), 160, 150, "nearest"))
    assert np.array_equal(fine.values, TRUTH.repeat(2, axis=1).repeat(2, axis=2))
    linear = read(regridded(scene_of(TRUTH), place(10.0), 160, 150, "bilinear"))
    assert linear.valid.all()
    assert np.allclose(linear.values, doubled(doubled(TRUTH.astype(float)).swapaxes(1, 2)).swapaxes(1, 2), rtol=1e-7)
    coarse = read(regridded(scene_of(TRUTH), place(60.0), 26, 25, "bilinear"))
    assert np.allclose(coarse.values, TRUTH[:, :78].astype(float).reshape(2, 26, 3, 25, 3).mean((2, 4)), rtol=1e-7)


def test_whole_numbers_stay_whole_and_in_their_range() -> None:
    counts = np.where(np.indices((1, 40, 40)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
    pixels = read(regridded(scene_of(counts), place(10.0, 3.0), 80, 70, "cubic"))
    assert pixels.values.dtype == np.uint8
    truth = read(regridded(scene_of(counts.astype(np.float32)), place(10.0, 3.0), 80, 70, "cubic")).values
    assert truth.max() > 255
    assert truth.min() < 0
    assert np.array_equal(pixels.values, np.clip(np.rint(truth), 0, 255))


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "cubic"])
def test_a_cut_of_the_same_grid_is_exact_whatever_its_numbers(kind: str) -> None:
    ugly = Affine(8.983152841195215e-05, 0, -74.98292734124128, 0, -7.1e-05, 37.93316878501569)
    scene = array_scene(TRUTH, valid=HOLES, transform=ugly, crs_wkt=WGS84)
    cut = read(regridded(scene, Georeference(crs_wkt=WGS84, transform=ugly @ Affine.translation(31, 17)), 50, 40, kind))
    assert np.array_equal(cut.valid, HOLES[17:67, 31:71])
    assert np.array_equal(cut.values, np.where(cut.valid, TRUTH[:, 17:67, 31:71], 0))


def test_the_digest_tells_grids_and_ways_apart() -> None:
    scene = scene_of(TRUTH)
    ways = [regridded(scene, place(20.0, dx), 80, 75, kind).digest for dx in (1.0, 1.001) for kind in KINDS]
    assert len({scene.digest, *ways}) == 1 + len(ways)
    assert regridded(scene_of(TRUTH), place(20.0, 1.0), 80, 75, "nearest").digest == ways[0]
    assert regridded(scene_of(TRUTH + 1), place(20.0, 1.0), 80, 75, "nearest").digest != ways[0]


def test_the_same_grid_is_the_same_scene() -> None:
    scene = scene_of(TRUTH)
    assert regridded(scene, place(), 80, 75) is scene
    assert at_resolution(scene, 20.05) is scene


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_is_valid_where_no_invalid_pixel_contributes(kind: str) -> None:
    grid = GRIDS["shifted"]
    pixels = read(regridded(scene_of(TRUTH, HOLES), grid, 90, 70, kind))
    spoiled = np.where(HOLES, TRUTH, 1e9).astype(np.float32)
    touched = read(regridded(scene_of(spoiled), grid, 90, 70, kind))
    same = np.isclose(touched.values, read(regridded(scene_of(TRUTH), grid, 90, 70, kind)).values).all(axis=0)
    assert np.array_equal(pixels.valid, same & touched.valid)
    assert 0 < pixels.valid.sum() < touched.valid.sum()
    assert not pixels.values[:, ~pixels.valid].any()


def test_coarse_pixels_are_means_and_keep_the_memory_small(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noise(300, 400, 2).astype(np.float32)
    largest = 0

    class Watched:
        def __init__(self, scene: Scene) -> None:
            self._inner = scene.open_handle()

        def read(self, window: Window) -> Pixels:
            nonlocal largest
            largest = max(largest, window.height * window.width)
            return self._inner.read(window)

        def close(self) -> None:
            self._inner.close()

    plain = scene_of(values, pixel=1.0)
    made = at_resolution(replace(plain, open_handle=lambda: Watched(plain)), 20.0)
    assert (made.height, made.width) == (15, 20)
    assert made.georef.transform == plain.georef.transform @ Affine.scale(20)
    at_once = read(made)
    assert largest == 300 * 400
    largest = 0
    monkeypatch.setattr(regrid, "MAX_PIECE_PX", 2000)
    by_pieces = read(made)
    assert largest <= 2000
    assert np.array_equal(at_once.values, by_pieces.values)
    assert np.allclose(at_once.values, values.astype(float).reshape(2, 15, 20, 20, 20).mean((2, 4)), rtol=1e-6)


def test_a_grid_elsewhere_or_far_too_coarse_is_refused() -> None:
    with pytest.raises(SceneError, match="array: lies elsewhere than the grid it should have; check"):
        regridded(scene_of(TRUTH), place(20.0, 1e5), 10, 10)
    with pytest.raises(SceneError, match="array: would be coarsened 4998 times, the limit is 4096"):
        at_resolution(scene_of(TRUTH), 100_000.0)
    with pytest.raises(SceneError, match="no place on the Earth in common"):
        regridded(array_scene(TRUTH), place(), 10, 10)


def test_a_scene_by_control_points_lands_where_its_pixels_say() -> None:
    corners = tuple((float(r), float(c), *(place().transform @ (c, r))) for r in (0, 40, 80) for c in (0, 37, 75))
    scene = replace(scene_of(TRUTH), georef=Georeference(crs_wkt=UTM18, transform=place().transform, gcps=corners))
    found, known = (
        read(regridded(scene, place(10.0), 160, 150, "nearest")),
        read(regridded(scene_of(TRUTH), place(10.0), 160, 150, "nearest")),
    )
    assert np.array_equal(found.values[:, 1:-1, 1:-1], known.values[:, 1:-1, 1:-1])
    halved = at_resolution(scene, 10.0)
    assert np.array_equal(read(halved).values, read(at_resolution(scene_of(TRUTH), 10.0)).values)
    x, y = halved.georef.xy(np.array([150.0]), np.array([160.0]))
    assert np.allclose((x[0], y[0]), place().transform @ (75, 80), atol=1e-3)


def test_a_scene_across_the_180th_meridian_is_found_from_either_side() -> None:
    degrees = Georeference(crs_wkt=WGS84, transform=Affine(0.01, 0, 179.5, 0, -0.01, 10))
    scene = array_scene(coordinates(50, 100), transform=degrees.transform, crs_wkt=WGS84)
    west = Georeference(crs_wkt=WGS84, transform=Affine(0.01, 0, -180, 0, -0.01, 10))
    assert np.array_equal(read(regridded(scene, west, 50, 50, "nearest")).values, coordinates(50, 100)[..., 50:])


def test_nothing_is_made_up_where_longitudes_jump() -> None:
    world = array_scene(coordinates(90, 360), transform=Affine(1, 0, -180, 0, -1, 45), crs_wkt=WGS84)
    across = Georeference(crs_wkt=WGS84, transform=Affine(0.01, 0, 175, 0, -0.01, 10))
    pixels = read(regridded(world, across, 20, 1000, "nearest"))
    lon = (175 + (np.arange(1000) + 0.5) * 0.01 + 180) % 360
    assert np.array_equal(pixels.values[0, 0][pixels.valid[0]], coordinates(90, 360)[0, 35][lon.astype(int)][pixels.valid[0]])
    assert 700 < pixels.valid[0].sum() < 1000


def test_blocks_beside_a_window_are_not_told() -> None:
    scene = replace(scene_of(TRUTH), block_height=20, block_width=20)
    window = Window(row_off=27, col_off=33, height=20, width=20)
    assert moved_blocks({(0, 0), (1, 0), (0, 1), (3, 2), (1, 2)}, scene, replace(scene, block_height=16), window) == {(1, 2), (2, 2)}


def test_the_same_place_is_told_from_others() -> None:
    other_words = CRS.from_epsg(32618).to_wkt("WKT1_GDAL")
    assert same_place(place(), Georeference(crs_wkt=other_words, transform=place().transform))
    assert same_place(place(), place(20.0, 1e-6))
    for other in (place(10.0), place(20.0, 1.0), place(turn=0.1), replace(place(), crs_wkt=WGS84), replace(place(), crs_wkt=None)):
        assert not same_place(place(), other)


def test_a_stack_has_all_bands_and_the_pixels_valid_in_each() -> None:
    first, second = scene_of(noise(50, 60, 2)), scene_of(TRUTH[:1, :50, :60], HOLES[:50, :60])
    both = stacked([first, second], uri="both", name="stack", datetime="2024-05-06T00:00:00Z")
    pixels = read(both)
    assert np.array_equal(pixels.values, np.concatenate([noise(50, 60, 2).astype(np.float32), TRUTH[:1, :50, :60]]))
    assert np.array_equal(pixels.valid, HOLES[:50, :60])
    assert [(band.index, band.dtype) for band in both.bands] == [(1, "float32"), (2, "float32"), (3, "float32")]
    assert (both.uri, both.name, both.band_count, both.datetime) == ("both", "stack", 3, "2024-05-06T00:00:00Z")
    assert both.digest not in (first.digest, stacked([second, first]).digest)
    with pytest.raises(SceneError, match=r"lies on another grid \(80 x 75 pixels\) than array \(50 x 60\); resample it first"):
        stacked([first, scene_of(TRUTH)])


def test_scaled_values_are_real_units_and_no_data_is_masked() -> None:
    counts = noise(40, 30, 2).astype(np.uint16)
    pixels = read(scaled(scene_of(counts), (0.5, 2.75e-5), (-3.0, -0.2), (7, None)))
    assert pixels.values.dtype == np.float32
    assert np.allclose(pixels.values[0], counts[0] * 0.5 - 3.0)
    assert np.allclose(pixels.values[1], counts[1] * 2.75e-5 - 0.2)
    assert np.array_equal(pixels.valid, counts[0] != 7)
    assert not pixels.valid.all()


def test_what_a_quality_raster_rejects_or_does_not_know_is_masked() -> None:
    flags, known = noise(80, 75).astype(np.uint8), HOLES.copy()
    quality = scene_of(flags, known)
    assert np.array_equal(read(masked_by(scene_of(TRUTH), quality, reject=(3, 8))).valid, known & (flags[0] != 3) & (flags[0] != 8))
    assert np.array_equal(read(masked_by(scene_of(TRUTH), quality, bits=(1, 4))).valid, known & (flags[0] & 2 == 0) & (flags[0] & 16 == 0))
    assert np.array_equal(read(masked_by(scene_of(TRUTH), quality, bits=(1,))).values, TRUTH)
    with pytest.raises(SceneError, match="has no integers"):
        masked_by(quality, scene_of(TRUTH), bits=(1,))


def test_damage_is_told_and_masked_however_scenes_are_composed(tmp_path: Path) -> None:
    counts = noise(256, 256)
    whole_file = write_raster(tmp_path / "whole.tif", counts, block=64, compress="deflate")
    broken = open_scene(break_block(write_raster(tmp_path / "broken.tif", counts, block=64, compress="deflate"), 1, 2), LAX)
    fine = Georeference(crs_wkt=broken.georef.crs_wkt, transform=broken.georef.transform @ Affine.scale(0.5))
    for made, blocks in (
        (stacked([open_scene(whole_file, LAX), broken]), {(1, 2)}),
        (scaled(broken, (0.1,), (0.0,)), {(1, 2)}),
        (masked_by(open_scene(whole_file, LAX), broken, reject=(0,)), {(1, 2)}),
        (regridded(broken, fine, 512, 512, "nearest"), {(2, 4), (2, 5), (3, 4), (3, 5)}),
    ):
        pixels = read(made)
        assert set(pixels.damaged_blocks) == blocks
        assert pixels.valid.sum() == made.height * made.width * 15 // 16
        assert read(made, Window(row_off=0, col_off=0, height=64, width=100)).damaged_blocks == ()


def test_undeclared_fill_is_masked_before_values_change(fill_scene: Path) -> None:
    scene = open_scene(fill_scene, LAX)
    (panels,) = ([*stream_panels(scene, LAX)],)
    valid = np.concatenate([panel.valid for panel in panels])
    made = scaled(scene, (2e-5,) * 3, (-0.1,) * 3)
    assert made.fill is None
    assert np.array_equal(read(made).valid, valid)
    rows, cols = np.nonzero(valid[1:, 1:] != valid[:-1, 1:])
    for row, col in zip(rows[::40].tolist(), cols[::40].tolist(), strict=True):  # corners of windows at the ragged edge
        window = Window(row_off=row, col_off=col, height=9, width=7).within(512, 512)
        assert np.array_equal(read(made, window).valid, valid[window.slices])
    assert len(rows) > 400


def test_a_replaced_part_is_an_error_of_the_whole(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{i}.tif", noise(40, 40, seed=i)) for i in range(2)]
    made = masked_by(
        scaled(stacked([open_scene(path, LAX) for path in paths]), (1.0, 1.0), (0.0, 0.0)), open_scene(paths[0], LAX), reject=(1,)
    )
    made = at_resolution(made, 20.0)
    made.check_unchanged()
    with rasterio.open(paths[1], "r+") as dst:
        dst.update_tags(CHANGED="yes")
    with pytest.raises(SceneError, match="was replaced or changed"):
        made.check_unchanged()
