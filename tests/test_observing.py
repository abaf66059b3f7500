"""How a monitor sees: one lattice for all scenes, and cells that say what is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod
from rasterio.windows import Window
from rasters import TEN_METRES, noise, write_raster
from shapely import Polygon

from geoanom.change.members import Stretch
from geoanom.embed.structure import StructureMaps
from geoanom.errors import InputError, SceneError
from geoanom.model.scoring import score_scene
from geoanom.monitor import descriptor
from geoanom.monitor.lattice import geometry_of, lattice_of, on_lattice
from geoanom.monitor.observing import aligned, first_view, moment_of, observe
from geoanom.monitor.view import View
from geoanom.pipeline import fit
from geoanom.raster.grid import Window as Core
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.config import Config
    from geoanom.model.core import Model
    from geoanom.monitor.values import Look

CELL = 8


@pytest.fixture
def scene_path(tmp_path: Path) -> Path:
    """160 x 200 pixels of three bands without structure, whose corner is 5 rows and 3 columns beside a cell's."""
    place = TEN_METRES @ Affine.translation(3, 5)
    return write_raster(tmp_path / "scene_20240501.tif", noise(160, 200, 3), block=64, transform=place)


def seen(path: Path, config: Config, view: View | None = None) -> tuple[View, Look]:
    scene = open_scene(path, config)
    view = view or first_view(scene, config, CELL)
    return view, observe(scene, view, None, config, path.parent)


def cropped(path: Path, window: Window, name: str) -> Path:
    with rasterio.open(path) as src:
        made = path.parent / name
        values, place = src.read(window=window), src.window_transform(window)
    return write_raster(made, values, block=64, transform=place)


def test_all_scenes_on_the_same_pixels_make_the_same_lattice(scene_path: Path, plain_config: Config) -> None:
    lattices = [
        lattice_of(open_scene(path, plain_config), CELL)
        for path in (scene_path, cropped(scene_path, Window(17, 29, 90, 80), "part_20240502.tif"))
    ]
    assert lattices[0] == lattices[1]


def test_means_and_deviations_are_those_of_the_pixels_in_each_cell(scene_path: Path, plain_config: Config) -> None:
    _, look = seen(scene_path, plain_config)
    with rasterio.open(scene_path) as src:
        values = src.read().astype(float)
    assert look.cells.row == -62_500
    assert look.cells.col == 6_250
    for row, col in [(2, 3), (10, 1), (19, 24)]:
        inside = values[:, row * CELL - 5 : (row + 1) * CELL - 5, col * CELL - 3 : (col + 1) * CELL - 3]
        np.testing.assert_allclose(look.cells.descriptor[row, col, :3], inside.mean(axis=(1, 2)), rtol=1e-6)
        np.testing.assert_allclose(look.cells.descriptor[row, col, 3:6], inside.std(axis=(1, 2)), rtol=1e-5)
    assert look.cells.valid[0, 0] == pytest.approx(3 * 5 / 64)
    assert look.cells.valid[5, 5] == 1


def test_structure_is_what_the_network_says_of_the_whole_scene_at_once(
    scene_path: Path, plain_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptor, "BLOCK_PX", 64)
    view, look = seen(scene_path, plain_config)
    with rasterio.open(scene_path) as src:
        values = np.zeros((3, 168, 208))
        values[:, 5:165, 3:203] = src.read()
    valid = np.zeros((168, 208), bool)
    valid[5:165, 3:203] = True
    maps = StructureMaps(3)(Stretch(low=np.array(view.low), high=np.array(view.high))(values[list(view.shown)], valid))
    means = maps.reshape(24, 21, CELL, 26, CELL).mean(axis=(2, 4))
    inner = (slice(5, 15), slice(5, 20))
    np.testing.assert_allclose(look.cells.descriptor[inner][..., 6:], np.moveaxis(means[:, *inner], 0, -1), rtol=1e-3, atol=1e-3)


def test_a_part_of_a_scene_shows_the_same_cells(scene_path: Path, plain_config: Config) -> None:
    view, whole = seen(scene_path, plain_config)
    _, part = seen(cropped(scene_path, Window(13, 11, 170, 140), "part_20240502.tif"), plain_config, view)
    down, right = part.cells.row - whole.cells.row, part.cells.col - whole.cells.col
    assert (down, right) == (2, 2)
    known = part.cells.valid == 1
    known[:5], known[-5:], known[:, :5], known[:, -5:] = False, False, False, False  # the network sees beyond the edge of the part
    height, width = part.cells.valid.shape
    theirs = whole.cells.descriptor[down : down + height, right : right + width]
    assert known.sum() > 50
    np.testing.assert_allclose(part.cells.descriptor[known], theirs[: len(known), :][known], rtol=1e-3, atol=1e-3)


def test_a_scene_between_the_pixels_or_of_another_size_or_crs_is_resampled(plain_config: Config, tmp_path: Path) -> None:
    yy, xx = np.mgrid[:160, :200]
    smooth = np.stack([100 + 40 * np.sin(xx / 25) + 30 * np.cos(yy / 30)] * 3).astype(np.float32)
    first = write_raster(tmp_path / "a_20240501.tif", smooth, block=64)
    view, look = seen(first, plain_config)
    half = np.stack([100 + 40 * np.sin((xx + 0.5) / 25) + 30 * np.cos((yy + 0.5) / 30)] * 3).astype(np.float32)
    moved = write_raster(tmp_path / "b_20240502.tif", half, block=64, transform=TEN_METRES @ Affine.translation(0.5, 0.5))
    _, between = seen(moved, plain_config, view)
    assert (between.cells.row, between.cells.col) == (look.cells.row, look.cells.col)
    inner = (slice(2, 17), slice(2, 22))
    np.testing.assert_allclose(between.cells.descriptor[inner][..., :3], look.cells.descriptor[inner][..., :3], atol=0.2)


def test_what_is_not_valid_is_not_seen(plain_config: Config, tmp_path: Path) -> None:
    values = noise(96, 96, 3, seed=1).astype(np.float32)
    values[:, 16:24, 40:48], values[:, 32:36, 40:48] = -1, -1
    path = write_raster(tmp_path / "gap_20240501.tif", values, block=32, nodata=-1)
    _, look = seen(path, plain_config)
    assert look.cells.valid[2, 5] == 0
    assert np.isnan(look.cells.descriptor[2, 5]).all()
    assert look.cells.valid[4, 5] == 0.5
    np.testing.assert_allclose(look.cells.descriptor[4, 5, :3], values[:, 36:40, 40:48].mean(axis=(1, 2)), rtol=1e-6)


def test_cells_lie_on_the_earth_where_their_pixels_do(scene_path: Path, plain_config: Config) -> None:
    view, look = seen(scene_path, plain_config)
    shape = geometry_of([(look.cells.row, look.cells.col), (look.cells.row, look.cells.col + 1)], view.lattice)
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(shape)
    assert area == pytest.approx(2 * 80 * 80, rel=2e-3)
    assert isinstance(shape, Polygon)
    assert shape.exterior.is_ccw
    west, _, _, north = shape.bounds
    assert west == pytest.approx(15.0, abs=1e-4)
    assert north == pytest.approx(45.15, abs=0.01)


def test_scenes_without_a_place_a_time_or_the_same_bands_are_refused(scene_path: Path, plain_config: Config, tmp_path: Path) -> None:
    view, _ = seen(scene_path, plain_config)
    scene = open_scene(scene_path, plain_config)
    nowhere = replace(scene, georef=replace(scene.georef, crs_wkt=None))
    with pytest.raises(SceneError, match="has no place on the Earth"):
        first_view(nowhere, plain_config, CELL)
    with pytest.raises(InputError, match=r"tells no acquisition time; name it YYYYMMDD, or tag it ACQUISITION_DATETIME"):
        observe(replace(scene, datetime=None), view, None, plain_config, tmp_path)
    with pytest.raises(SceneError, match="and the monitor watches"):
        observe(replace(scene, bands=scene.bands[:2]), view, None, plain_config, tmp_path)
    coarse = replace(scene, georef=replace(scene.georef, transform=scene.georef.transform @ Affine.scale(50)))
    with pytest.raises(SceneError, match="larger than it is"):
        observe(coarse, view, None, plain_config, tmp_path)


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2024-05-01T10:30:00Z", "2024-05-01T10:30:00Z"),
        ("2024-05-01T10:30:00.75+02:00", "2024-05-01T08:30:00Z"),
        ("2024-05-01", "2024-05-01T00:00:00Z"),
    ],
)
def test_moments_are_in_utc(scene_path: Path, plain_config: Config, told: str, moment: str) -> None:
    assert moment_of(replace(open_scene(scene_path, plain_config), datetime=told)) == moment


def test_a_view_survives_the_store(scene_path: Path, plain_config: Config) -> None:
    view, _ = seen(scene_path, plain_config)
    assert View.from_json(view.to_json()) == view
    with pytest.raises(InputError, match="view"):
        View.from_json("{}")


@pytest.fixture(scope="module")
def model(small_scene: Path, quick_config: Config) -> Model:
    return fit([small_scene], quick_config)


def test_each_cell_has_the_score_of_the_core_that_holds_its_centre(
    small_scene: Path, model: Model, quick_config: Config, tmp_path: Path
) -> None:
    scene = replace(open_scene(small_scene, quick_config), datetime="2024-05-01T10:30:00Z")
    view = first_view(scene, quick_config, CELL)
    look = observe(scene, view, model, quick_config, tmp_path)
    placed, _ = on_lattice(scene, view.lattice, CELL, quick_config)
    scores = score_scene(placed, model, quick_config, tmp_path)
    assert np.isfinite(look.cells.score).mean() > 0.5
    for row, col in [(0, 0), (3, 20), (17, 4), (18, 18), (25, 31), (39, 40)]:
        there = [i for i, (r, c) in enumerate(zip(scores.rows, scores.cols, strict=True)) if _holds(scores.grid.core(r, c), row, col)]
        told = -np.log10(scores.p_value[there[0]]) if there else np.nan
        np.testing.assert_allclose(look.cells.score[row, col], told, rtol=1e-6)


def test_a_scene_that_has_nothing_to_score_is_still_a_look(small_scene: Path, model: Model, quick_config: Config, tmp_path: Path) -> None:
    with rasterio.open(small_scene) as src:
        values, place, crs = src.read(), src.transform, src.crs
    path = write_raster(
        tmp_path / "clouded_20240501.tif", values, block=64, transform=place, crs=crs, mask=np.zeros(values.shape[1:], np.uint8)
    )
    scene = open_scene(path, quick_config)
    view = first_view(replace(open_scene(small_scene, quick_config), datetime=scene.datetime), quick_config, CELL)
    look = observe(scene, view, model, quick_config, tmp_path)
    assert not look.cells.valid.any()
    assert np.isnan(look.cells.score).all()


def _holds(core: Core, row: int, col: int) -> bool:
    centre = (row + 0.5) * CELL, (col + 0.5) * CELL
    return core.row_off <= centre[0] < core.row_end and core.col_off <= centre[1] < core.col_end


def test_a_shifted_scene_is_brought_back(small_scene: Path, plain_config: Config, tmp_path: Path) -> None:
    with rasterio.open(small_scene) as src:
        values, place, crs = src.read(), src.transform, src.crs
    moved = write_raster(tmp_path / "moved_20240502.tif", values, block=64, transform=place @ Affine.translation(2, -1), crs=crs)
    back = aligned(open_scene(moved, plain_config), open_scene(small_scene, plain_config), plain_config)
    handle = back.open_handle()
    pixels = handle.read(Core(row_off=100, col_off=100, height=64, width=64))
    handle.close()
    np.testing.assert_allclose(pixels.values.astype(float), values[:, 100:164, 100:164], atol=0.1 * values.std())
