"""Change between two dates: what is called and how it is named, laws of the measures, blocks, registration, the command."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.control import GroundControlPoint
from rasterio.windows import Window as RioWindow
from scipy.ndimage import map_coordinates
from scipy.stats import chi2, kstest
from test_cli import assert_one_line, run

from geoanom.change import blocks, spectral
from geoanom.change.blocks import HALO_PX, sample_blocks, stream_blocks
from geoanom.change.cells import CellRows, cells_of
from geoanom.change.decades import fit_rarity
from geoanom.change.members import MEMBERS
from geoanom.change.pair import Pair, open_pair, paired
from geoanom.change.register import NONE, estimate_shift
from geoanom.change.run import change
from geoanom.change.scoring import fit_judge, score_pair, told_of
from geoanom.change.spectral import Light, fit_alteration, fit_light, fit_predictor
from geoanom.change.statistic import ChangeMaps, Smoother, standing_out
from geoanom.config import load_config
from geoanom.embed.structure import REACH_PX, StructureMaps
from geoanom.embed.threads import one_thread
from geoanom.errors import SceneError
from geoanom.evaluate.change_peers import alteration
from geoanom.layer.reading import read_features
from geoanom.pipeline import Outputs, select
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.raster.regrid import regridded
from geoanom.raster.scene import Band, Pixels, Scene, open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.layer.scoremap import ScoreMap

SIDE = 256
THING = (slice(96, 120), slice(144, 168))
UTM = CRS.from_epsg(32618).to_wkt()
PLACE = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_200_000.0)


@pytest.fixture(scope="module")
def ground(sample_scene: Path) -> NDArray[np.float32]:
    """Four bands of a real scene, with room around the middle `SIDE` pixels to shift them in."""
    with rasterio.open(sample_scene) as src:
        return np.asarray(src.read(window=RioWindow(280, 280, SIDE + 64, SIDE + 64)), np.float32)


@pytest.fixture(scope="module")
def land(ground: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle."""
    return ground[:, 32:-32, 32:-32].copy()


def noisy(values: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """As another exposure of the same place would be."""
    return (values + np.random.default_rng(seed).normal(0, 20, values.shape)).astype(np.float32)


def with_thing(values: NDArray[np.float32], bands: tuple[int, ...] = (0, 1, 2, 3), deviations: float = 6.0) -> NDArray[np.float32]:
    """The image with a square that is brighter in some bands."""
    changed = values.copy()
    for band in bands:
        changed[band][THING] += deviations * values[band].std()
    return changed


def on_place(values: NDArray[np.generic], transform: Affine = PLACE, crs_wkt: str | None = UTM, **named: Any) -> Scene:
    return array_scene(values, transform=transform, crs_wkt=crs_wkt, **named)


def compared(before: Scene, after: Scene, config: Config, folder: Path) -> ScoreMap:
    with one_thread():
        pair = paired(before, after, config)
        return score_pair(pair, fit_judge(pair, config), config, folder)


def called(scores: ScoreMap, config: Config) -> tuple[NDArray[np.bool_], list[str]]:
    """The cells that are called (row, col), and their directions."""
    chosen = select(scores, config.threshold)
    assert scores.direction is not None
    return np.nan_to_num(scores.on_grid(chosen.astype(float))) > 0, scores.direction[chosen].tolist()


def cells_near_thing(shape: tuple[int, int], margin: int) -> NDArray[np.bool_]:
    near = np.zeros(shape, bool)
    rows, cols = (slice(side.start // 8 - margin, side.stop // 8 + margin) for side in THING)
    near[rows, cols] = True
    return near


def most(directions: list[str]) -> str:
    return max(set(directions), key=directions.count)


ALL_DAMAGE = load_config(sets=["sources.max_damaged_fraction=1"], environ={})


def damaged(scene: Scene) -> Scene:
    """The scene as it is, but for saying that its first block could not be decoded."""
    whole = scene.open_handle()

    class Damaged:
        def read(self, window: Window) -> Pixels:
            return replace(whole.read(window), damaged_blocks=((0, 0),))

        def close(self) -> None:
            """Nothing to give back."""

    return replace(scene, open_handle=Damaged)


# What is called


def test_a_scene_against_itself_has_no_change_and_no_direction(land: NDArray[np.float32], plain_config: Config, tmp_path: Path) -> None:
    scores = compared(array_scene(land), damaged(array_scene(land.copy())), ALL_DAMAGE, tmp_path)
    found, _ = called(scores, plain_config)
    assert scores.warnings == ("the later scene: 1 damaged block could not be decoded and is masked",)
    assert len(scores) == (SIDE // 8) ** 2
    assert not found.any()
    assert scores.direction is not None
    assert set(scores.direction.tolist()) == {"altered"}


def test_gain_and_offset_of_each_band_are_light_and_no_change(land: NDArray[np.float32], plain_config: Config, tmp_path: Path) -> None:
    gain, offset = np.array([1.3, 0.8, 1.1, 0.7]), np.array([100.0, -50.0, 30.0, 5.0])
    lit = (noisy(land, 2) * gain[:, None, None] + offset[:, None, None]).astype(np.float32)
    with one_thread():
        pair = paired(array_scene(noisy(land, 1)), array_scene(lit), plain_config)
        judge = fit_judge(pair, plain_config)
        scores = score_pair(pair, judge, plain_config, tmp_path)
    assert not called(scores, plain_config)[0].any()
    light = judge.statistic.measures.light
    assert light.gain == pytest.approx(gain, rel=0.02)
    assert light.offset == pytest.approx(offset, abs=0.02 * float(land.mean()))


@pytest.mark.parametrize("direction", ["appeared", "vanished"])
def test_a_thing_on_one_date_is_found_and_named(land: NDArray[np.float32], plain_config: Config, tmp_path: Path, direction: str) -> None:
    dates = [array_scene(noisy(land, 1)), array_scene(with_thing(noisy(land, 2)))]
    before, after = dates if direction == "appeared" else dates[::-1]
    scores = compared(before, after, plain_config, tmp_path)
    found, directions = called(scores, plain_config)
    assert found[cells_near_thing(found.shape, 0)].all()
    assert found[~cells_near_thing(found.shape, 2)].sum() <= 0.1 * found.sum()  # a rate of false discoveries is allowed
    assert most(directions) == direction
    assert str(scores.direction[scores.order()[0]]) == direction  # type: ignore[index]
    assert scores.pixel_errors is not None
    field = scores.pixel_errors.read(Window(row_off=0, col_off=0, height=SIDE, width=SIDE))
    inside = np.zeros(field.shape, bool)
    inside[THING] = True
    assert np.median(field[inside]) > np.quantile(field[~inside], 0.99)


def test_a_thing_of_another_colour_and_equal_contrast_is_altered(land: NDArray[np.float32], plain_config: Config, tmp_path: Path) -> None:
    before, after = with_thing(noisy(land, 1), bands=(0, 1)), with_thing(noisy(land, 2), bands=(2, 3))
    scores = compared(array_scene(before), array_scene(after), plain_config, tmp_path)
    found, directions = called(scores, plain_config)
    assert found[cells_near_thing(found.shape, 0)].all()
    assert most(directions) == "altered"
    assert str(scores.direction[scores.order()[0]]) == "altered"  # type: ignore[index]


def test_what_is_not_valid_on_one_date_is_never_called_and_its_values_are_nothing(
    land: NDArray[np.float32], plain_config: Config, tmp_path: Path
) -> None:
    after, valid = with_thing(noisy(land, 2)), np.ones((SIDE, SIDE), bool)
    valid[48:112, 16:208] = False  # covers two thirds of the thing
    junk = after.copy()
    junk[:, ~valid] = 60_000
    first, second = tmp_path / "1", tmp_path / "2"
    found = []
    for folder, values in ((first, after), (second, junk)):
        folder.mkdir()
        found.append(compared(array_scene(noisy(land, 1)), array_scene(values, valid=valid), plain_config, folder))
    whole = Window(row_off=0, col_off=0, height=SIDE, width=SIDE)
    fields = [scores.pixel_errors.read(whole) for scores in found if scores.pixel_errors]
    assert np.array_equal(np.isnan(fields[0]), ~valid)
    assert np.array_equal(fields[0], fields[1], equal_nan=True)
    assert np.array_equal(found[0].score, found[1].score)
    cells, _ = called(found[0], plain_config)
    assert cells.any()
    assert not cells[6:14, 2:26].any()
    assert found[0].tiles_masked + len(found[0]) == (SIDE // 8) ** 2
    assert found[0].valid_fraction.min() >= plain_config.tiles.min_valid_fraction


def test_a_later_date_on_another_grid_and_crs_is_compared_in_place(
    ground: NDArray[np.float32], plain_config: Config, tmp_path: Path
) -> None:
    middle = PLACE @ Affine.translation(32, 32)
    before = on_place(noisy(ground, 1)[:, 32:-32, 32:-32], middle)
    later = noisy(ground, 2)
    later[(slice(None), *(slice(side.start + 32, side.stop + 32) for side in THING))] += 4 * ground.std(axis=(1, 2))[:, None, None]
    elsewhere = materialized(regridded(on_place(later), lonlat_georef(), 420, 420, "cubic"))
    scores = compared(before, elsewhere, plain_config, tmp_path)
    found, _ = called(scores, plain_config)
    assert (scores.grid.height, scores.grid.width) == (SIDE, SIDE)
    assert found[cells_near_thing(found.shape, 0)].mean() > 0.8
    assert found[~cells_near_thing(found.shape, 2)].mean() < 0.05  # bilinear resampling takes sharpness from one date
    assert str(scores.direction[scores.order()[0]]) == "appeared"  # type: ignore[index]


# Shifts


def shifted(ground: NDArray[np.float32], rows: float, cols: float) -> NDArray[np.float32]:
    """The middle as a sensor that looks past it by so much would see it, by splines of the third order."""
    down, right = np.mgrid[32 : 32 + SIDE, 32 : 32 + SIDE]
    return np.stack([map_coordinates(band, [down - rows, right - cols], order=3) for band in ground]).astype(np.float32)


@settings(max_examples=6)
@given(rows=st.floats(-6, 6), cols=st.floats(-6, 6))
def test_a_shift_is_estimated_to_a_fraction_of_a_pixel(ground: NDArray[np.float32], plain_config: Config, rows: float, cols: float) -> None:
    before, after = array_scene(noisy(ground[:, 32:-32, 32:-32], 1)), array_scene(noisy(shifted(ground, rows, cols), 2))
    found = estimate_shift(before, after, plain_config)
    assert found.sure
    assert (found.rows, found.cols) == pytest.approx((rows, cols), abs=0.15)


def test_a_shift_is_removed_and_told(ground: NDArray[np.float32], land: NDArray[np.float32], plain_config: Config) -> None:
    pair = paired(array_scene(land), array_scene(shifted(ground, 0.6, -1.3)), plain_config)
    aligned = all_of(pair.after).values[:, 8:-8, 8:-8].astype(np.float64)
    left = np.abs(aligned - land[:, 8:-8, 8:-8]).mean()
    assert left < 0.4 * np.abs(shifted(ground, 0.6, -1.3) - land)[:, 8:-8, 8:-8].mean()
    assert "a shift of -1.30 columns and +0.60 rows between the dates was removed" in pair.warnings


def test_no_shift_is_looked_for_when_none_is_allowed(ground: NDArray[np.float32], land: NDArray[np.float32]) -> None:
    config = load_config(sets=["change.max_shift_px=0"], environ={})
    after = array_scene(shifted(ground, 2, 2))
    pair = paired(array_scene(land), after, config)
    assert pair.shift == NONE
    assert pair.warnings == ()
    assert np.array_equal(all_of(pair.after).values, all_of(after).values)


def test_two_scenes_of_nothing_in_common_have_no_shift_and_say_so(plain_config: Config) -> None:
    first, second = (np.random.default_rng(seed).normal(0, 1, (1, 512, 512)) for seed in (1, 2))
    pair = paired(array_scene(first), array_scene(second), plain_config)
    assert not pair.shift.sure
    assert pair.warnings == ("no shift between the dates could be told, and none was removed",)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_thing_that_differs_is_no_shift(seed: int, plain_config: Config) -> None:
    """Of otherwise equal scenes that hold little else; it moved by six columns."""
    quiet = np.random.default_rng(seed).normal(0, 0.001, (1, 300, 300))
    dates = [quiet.copy(), quiet.copy()]
    for values, left in zip(dates, (140, 146), strict=True):
        values[0, 90:110, left : left + 20] += 1
    before, after = map(array_scene, dates)
    assert estimate_shift(before, after, plain_config).length_px == 0


@pytest.mark.parametrize("shape", [(64, 64), (100, 100), (127, 190)])
def test_a_scene_too_small_for_several_chips_has_no_sure_shift(ground: NDArray[np.float32], plain_config: Config, shape: Any) -> None:
    values = ground[:, : shape[0], : shape[1]]
    assert estimate_shift(array_scene(values), array_scene(values), plain_config) == NONE


def lonlat_georef() -> Georeference:
    """A grid of about 8 m over the ground of the tests, in degrees."""
    x, y = PLACE @ (0, 0)
    lon, lat = Georeference(crs_wkt=UTM, transform=Affine.identity()).lonlat(np.array([x]), np.array([y]))
    return Georeference(
        crs_wkt=CRS.from_epsg(4326).to_wkt(), transform=Affine(9e-5, 0, float(lon[0]) - 0.0003, 0, -7.2e-5, float(lat[0]) + 0.0003)
    )


def turned_georef() -> Georeference:
    """A grid of 9 m that is turned by 25 degrees."""
    middle = PLACE @ (160, 160)
    return Georeference(
        crs_wkt=UTM,
        transform=Affine.translation(*middle) @ Affine.rotation(25) @ Affine.scale(9, -9) @ Affine.translation(-240, -240),
    )


def gcp_georef() -> Georeference:
    """The grid of the tests, told by control points."""
    points = [(row, col, *(PLACE @ (col, row))) for row in (0.0, 160.0, 320.0) for col in (0.0, 160.0, 320.0)]
    return Georeference(crs_wkt=UTM, transform=PLACE, gcps=tuple(points))


def materialized(scene: Scene) -> Scene:
    pixels = all_of(scene)
    made = array_scene(pixels.values, valid=pixels.valid)
    return replace(made, georef=scene.georef)


def all_of(scene: Scene) -> Pixels:
    return scene.open_handle().read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))


@pytest.mark.parametrize("make", [lonlat_georef, turned_georef, gcp_georef], ids=["degrees", "turned", "control points"])
def test_a_shift_is_removed_whatever_grid_the_later_date_has(
    ground: NDArray[np.float32], plain_config: Config, make: Callable[[], Georeference]
) -> None:
    """The later date lies 1.8 columns and 2.6 rows of the earlier date's grid beside its true place."""
    before = on_place(ground[:, 32:-32, 32:-32], PLACE @ Affine.translation(32, 32))
    misplaced = on_place(ground, PLACE @ Affine.translation(1.8, 2.6))
    pair = paired(before, materialized(regridded(misplaced, make(), 480, 480, "cubic")), plain_config)
    assert (pair.shift.rows, pair.shift.cols) == pytest.approx((2.6, 1.8), abs=0.15)
    again = estimate_shift(before, pair.after, plain_config)
    assert again.length_px < 0.15


# Blocks


@settings(max_examples=8)
@given(height=st.integers(1, 600), width=st.integers(1, 600), seed=st.integers(0, 100))
def test_blocks_show_every_pixel_once_with_its_surroundings_however_they_are_read(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = load_config(environ={})
    dates = [rng.normal(0, 1, (2, height, width)).astype(np.float32) for _ in range(2)]
    masks = [rng.random((height, width)) < 0.9 for _ in range(2)]
    first, second = (array_scene(values, valid=mask) for values, mask in zip(dates, masks, strict=True))
    pair = Pair(before=first, after=second, shift=NONE)
    valid, seen = masks[0] & masks[1], np.zeros((height, width), int)
    around = [(0, 0), (HALO_PX, HALO_PX), (HALO_PX, HALO_PX)]
    shown = [np.pad(np.where(valid, values, 0), around, mode="symmetric") for values in dates]
    padded = np.pad(valid, around[1:], mode="symmetric")
    sampled = {block.core: block for block in sample_blocks(pair)}
    for block in stream_blocks(pair, config):
        seen[block.core.slices] += 1
        near = tuple(slice(s.start, s.stop + 2 * HALO_PX) for s in block.core.slices)
        size = tuple(slice(0, s.stop - s.start + 2 * HALO_PX) for s in block.core.slices)
        assert np.array_equal(block.before[:, *size], shown[0][:, *near])
        assert np.array_equal(block.after[:, *size], shown[1][:, *near])
        assert np.array_equal(block.valid[size], padded[near])
        if block.core in sampled:
            assert_same(sampled.pop(block.core), block)
    assert not sampled
    assert (seen == 1).all()


def assert_same(one: Any, other: Any) -> None:
    for name in ("before", "after", "valid"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@pytest.mark.parametrize("date", [0, 1])
def test_undeclared_fill_is_masked_in_blocks_however_they_are_read(fill_scene: Path, date: int) -> None:
    """Of one date alone, as the other would hide what is not masked."""
    config = load_config(sets=["sources.pixel_space=true"], environ={})
    filled = open_scene(fill_scene, config)
    assert filled.fill is not None
    dates = [replace(filled, fill=None)] * 2
    dates[date] = filled
    pair = Pair(before=dates[0], after=dates[1], shift=NONE)
    sampled = {block.core: block for block in sample_blocks(pair)}
    assert sampled
    lost = 0
    for block in stream_blocks(pair, config):
        lost += int((~block.valid[block.middle]).sum())
        if block.core in sampled:
            assert_same(sampled[block.core], block)
    assert lost > 1000


NO_SHIFT = load_config(sets=["change.max_shift_px=0"], environ={})


@pytest.mark.parametrize(("height", "width", "n_found"), [(200, 200, 1), (300, 200, 2), (256 * 40, 512, 24)])
def test_what_both_dates_show_is_learned_from_however_little_it_is(height: int, width: int, n_found: int) -> None:
    before = replace(endless(51_200), georef=Georeference(crs_wkt=UTM, transform=PLACE))
    later = on_place(np.ones((1, height, width), np.uint8), PLACE @ Affine.translation(0 if width == 512 else 300, 256))
    found = sample_blocks(paired(before, later, NO_SHIFT))
    assert len(found) == n_found
    assert all(block.valid[block.middle].any() for block in found)


@pytest.mark.parametrize("date", [0, 1])
def test_the_only_usable_block_is_found(date: int) -> None:
    only = Window(row_off=256, col_off=256, height=256, width=256)

    class Masked(_Endless):
        def read(self, window: Window) -> Pixels:
            rows, cols = np.indices((window.height, window.width))
            inside = (rows + window.row_off) // 256 + (cols + window.col_off) // 256 * 1000 == 1001
            return replace(super().read(window), valid=inside)

    dates = [endless(51_200)] * 2
    dates[date] = replace(dates[date], open_handle=Masked)
    assert [block.core for block in sample_blocks(Pair(before=dates[0], after=dates[1], shift=NONE))] == [only]


@pytest.mark.parametrize("most", [1, 3_000_000, 10**9])
def test_blocks_held_at_once_have_few_bytes(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(blocks, "SAMPLED_BYTES", most)
    found = sample_blocks(Pair(before=endless(8192), after=endless(8192), shift=NONE))
    held = sum(each.before.nbytes + each.after.nbytes + each.valid.nbytes for each in found)
    assert held <= most or len(found) == 1
    assert len(found) == {1: 1, 3_000_000: 2, 10**9: 24}[most]


class _Endless:
    """Pixels made up from their place, so that no scene is in memory."""

    def read(self, window: Window) -> Pixels:
        rows, cols = np.indices((window.height, window.width))
        values = ((rows + window.row_off) * 7 + (cols + window.col_off) * 13) % 101
        return Pixels(values=values[None].astype(np.uint8), valid=np.ones(values.shape, bool))

    def close(self) -> None:
        """Nothing to give back."""


def endless(height: int) -> Scene:
    band = Band(index=1, name="band 1", dtype="uint8")
    georef = Georeference(crs_wkt=None, transform=Affine.identity())
    return Scene(
        uri="endless", name="endless", digest="", height=height, width=512, bands=(band,), band_count=1,
        block_height=64, block_width=512, georef=georef, open_handle=_Endless,
    )  # fmt: skip


def test_memory_depends_on_the_block_and_not_on_the_scene(plain_config: Config) -> None:
    peaks = []
    for height in (4096, 12_288):
        pair = Pair(before=endless(height), after=endless(height), shift=NONE)
        tracemalloc.start()
        n_pixels = sum(block.core.height * block.core.width for block in stream_blocks(pair, plain_config))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert n_pixels == height * 512
    assert peaks[1] < 1.5 * peaks[0]


def test_a_scene_that_is_replaced_meanwhile_is_an_error(plain_config: Config) -> None:
    def replaced() -> None:
        raise SceneError("b.tif", "was changed while it was read", "run it again")

    scene = array_scene(np.zeros((1, 300, 20)))
    pair = Pair(before=scene, after=replace(scene, check_unchanged=replaced), shift=NONE)
    with pytest.raises(SceneError, match="was changed"):
        list(stream_blocks(pair, plain_config))


# Measures


def gaussians(n: int, n_bands: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (n, band) of two dates between which there is noise, another gain and another offset."""
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(n, n_bands)) @ rng.normal(size=(n_bands, n_bands)) * 10
    return before, before * rng.uniform(0.5, 2, n_bands) + 5 + rng.normal(size=before.shape)


@pytest.mark.parametrize("n_bands", [1, 2, 4, 6])
def test_alteration_is_chi_squared_where_nothing_changed(n_bands: int) -> None:
    before, after = gaussians(10_000, n_bands, n_bands)
    found = fit_alteration(before, after)
    assert kstest(found.squared(before, after), chi2(n_bands).cdf).statistic < 0.03
    assert found.weight.sum() ** 2 / (found.weight**2).sum() > 0.7 * len(before)  # no collapse on a few pixels


@settings(max_examples=4)
@given(seed=st.integers(0, 1000), n_bands=st.integers(1, 5))
def test_alteration_does_not_see_affine_maps_of_either_date(seed: int, n_bands: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = gaussians(2000, n_bands, seed)
    after[:100] += rng.normal(0, 30, n_bands)
    mix = [np.linalg.qr(rng.normal(size=(n_bands, n_bands)))[0] @ np.diag(rng.uniform(0.5, 3, n_bands)) for _ in range(2)]
    moved = before @ mix[0] + rng.normal(0, 100, n_bands), after @ mix[1] + rng.normal(0, 100, n_bands)
    ours, theirs = fit_alteration(before, after).squared(before, after), fit_alteration(*moved).squared(*moved)
    assert theirs == pytest.approx(ours, rel=0.05, abs=0.05)


def test_the_first_round_of_alteration_is_the_generalized_eigenvalue_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "ROUNDS", 1)
    before, after = gaussians(4000, 4, 3)
    after[:200] += 8
    ours = fit_alteration(before, after).squared(before, after)
    theirs = alteration(before.T.reshape(4, 50, 80), after.T.reshape(4, 50, 80), rounds=1).ravel()
    assert ours == pytest.approx(theirs, rel=1e-2)


@settings(max_examples=4)
@given(exponents=st.lists(st.integers(-6, 6), min_size=6, max_size=6))
def test_no_measure_depends_on_the_units_of_a_band(exponents: list[int]) -> None:
    before, after = gaussians(2000, 3, 11)
    after[:100] += 20
    units = 10.0 ** np.array(exponents)
    others = before * units[:3], after * units[3:]
    ours, theirs = (fit_alteration(*pair).squared(*pair) for pair in ((before, after), others))
    assert theirs == pytest.approx(ours, rel=1e-3)
    ours, theirs = (fit_predictor(*pair).error(*pair) for pair in ((before, after), others))
    assert theirs == pytest.approx(ours, rel=1e-3)


def test_light_is_the_ratio_of_deviations_and_constant_bands_have_none() -> None:
    rng = np.random.default_rng(4)
    before = np.column_stack([rng.normal(50, 9, 2000), np.full(2000, 7.0)])
    light = fit_light(before, before * [2.0, 1.0] + [3.0, 4.0], np.ones(2000))
    assert light.gain == pytest.approx([2.0, 1.0])
    assert light.offset == pytest.approx([3.0, 4.0])
    assert light.difference(before, before * [2.0, 1.0] + [3.0, 4.0]) == pytest.approx(0.0, abs=1e-9)


def test_light_does_not_make_a_place_stand_out(land: NDArray[np.float32], plain_config: Config) -> None:
    gain = np.array([20.0, 0.1, 1.0, 3.0])
    pair = Pair(before=array_scene(land), after=array_scene(land * gain[:, None, None] + 9), shift=NONE)
    (block,) = stream_blocks(pair, plain_config)
    light = Light(gain=gain, offset=np.full(4, 9.0), scale=land.std(axis=(1, 2)).astype(np.float64))
    first, second = standing_out(block, Smoother(block.valid), light)
    assert second == pytest.approx(first, rel=1e-3)
    assert first.std() > 0


def test_prediction_knows_a_quadratic_and_is_surprised_by_what_breaks_it() -> None:
    rng = np.random.default_rng(5)
    given_, noise = rng.normal(0, 1, (3000, 2)), rng.normal(0, 0.05, (3000, 2))
    told = np.column_stack([given_[:, 0] ** 2 - given_[:, 1], given_[:, 0] * given_[:, 1]]) + noise
    told[:30] += 3
    error = fit_predictor(given_, told).error(given_, told)
    assert error[:30].min() > 5 * np.quantile(error[30:], 0.99)


@settings(max_examples=20)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_rarity_rises_with_the_value_and_is_never_negative(values: list[float]) -> None:
    rarity = fit_rarity(np.array(values), load_config(environ={}).calibrate)
    decades = rarity(np.sort(values))
    assert (np.diff(decades) >= -1e-12).all()
    assert (decades >= 0).all()
    assert np.isfinite(decades).all()


@settings(max_examples=20)
@given(height=st.integers(1, 40), width=st.integers(1, 40), cell=st.sampled_from([2, 4, 8]), seed=st.integers(0, 99))
def test_cells_are_means_over_valid_pixels(height: int, width: int, cell: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid, field = rng.random((height, width)) < 0.5, rng.random((height, width))
    maps = ChangeMaps(
        combined=np.where(valid, field, np.nan), members={"one": field}, odd=(field, field), difference=field[None], valid=valid
    )
    cells = cells_of(maps, Window(row_off=16, col_off=24, height=height, width=width), cell)
    assert np.array_equal(cells.members[:, 0], cells.combined, equal_nan=True)
    assert np.array_equal(cells.difference[:, 0], cells.combined, equal_nan=True)
    for row, col, mean, share in zip(cells.rows, cells.cols, cells.combined, cells.valid_fraction, strict=True):
        part = (slice(row * cell - 16, row * cell - 16 + cell), slice(col * cell - 24, col * cell - 24 + cell))
        assert share == pytest.approx(valid[part].mean())
        assert mean == pytest.approx(field[part][valid[part]].mean() if valid[part].any() else np.nan, nan_ok=True)


@settings(max_examples=10)
@given(n_bands=st.integers(1, 40), seed=st.integers(0, 99))
def test_what_is_kept_of_cells_are_the_bands_furthest_from_usual(n_bands: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, place, share = 50, np.arange(50), np.ones(50)
    difference, usual, spread = rng.normal(size=(n, n_bands)), rng.normal(size=n_bands), rng.uniform(0.5, 2, n_bands)
    table = np.zeros((n, 400))
    cells = CellRows(
        rows=place, cols=place, combined=table[:, 0], members=table[:, :4], odd=table[:, 4:6], difference=difference, valid_fraction=share
    )
    told, sigma = told_of(cells, usual, spread), (difference - usual) / spread
    for row, bands, values in zip(sigma, told.top_band, told.top_band_sigma, strict=True):
        assert np.abs(values) == pytest.approx(np.sort(np.abs(row))[::-1][:3])
        assert values == pytest.approx(row[bands])
    kept = [getattr(told, each.name) for each in fields(told)]
    assert sum(column.nbytes for column in kept) <= 80 * n


@pytest.mark.parametrize("n_bands", [1, 3])
def test_the_network_looks_no_farther_than_blocks_show(n_bands: int) -> None:
    rng = np.random.default_rng(6)
    image = rng.random((n_bands, 128, 128)).astype(np.float32)
    other = image.copy()
    other[:, :, : 64 - REACH_PX] = rng.random((n_bands, 128, 64 - REACH_PX))
    network = StructureMaps(n_bands)
    with one_thread():
        ours, theirs = network(image), network(other)
    assert ours.shape == (24, 128, 128)
    assert np.array_equal(ours[:, :, 64:], theirs[:, :, 64:])
    assert REACH_PX <= HALO_PX
    assert not np.allclose(ours[:, :, :16], theirs[:, :, :16])


# What is refused


def refuse(before: Scene, after: Scene, config: Config, words: str) -> None:
    with pytest.raises(SceneError, match=words):
        paired(before, after, config)


def test_dates_that_have_nothing_in_common_are_refused_by_name(plain_config: Config) -> None:
    values = np.random.default_rng(7).normal(0, 1, (2, 64, 64))
    here = on_place(values)
    refuse(here, on_place(values[:1]), plain_config, "has 1 bands, and array has 2; choose common ones with --bands")
    refuse(here, on_place(values, PLACE @ Affine.translation(100, 0)), plain_config, "lies elsewhere")
    refuse(here, array_scene(values), plain_config, "has no place on the Earth in common")
    refuse(array_scene(values), array_scene(values[:, :60]), plain_config, "another size than the earlier scene; georeference both")


def test_bands_in_another_order_are_refused_and_other_names_are_not(plain_config: Config) -> None:
    values = np.random.default_rng(8).normal(0, 1, (2, 64, 64))

    def named(*names: str) -> Scene:
        return replace(array_scene(values), bands=tuple(Band(index=i, name=n, dtype="float64") for i, n in enumerate(names, 1)))

    refuse(named("B02", "B03"), named("B03", "B02"), plain_config, "in another order; name them with --bands")
    for names in (("B02", "B03"), ("band 2", "band 1"), ("B04", "B03")):
        assert paired(named("B02", "B03"), named(*names), plain_config).after.width == 64


def test_dates_without_a_pixel_in_common_are_refused(plain_config: Config) -> None:
    values, valid = np.random.default_rng(9).normal(0, 1, (1, 64, 64)), np.indices((64, 64))[0] < 32
    pair = paired(array_scene(values, valid=valid), array_scene(values, valid=~valid), plain_config)
    with pytest.raises(SceneError, match="no usable pixel in common"):
        fit_judge(pair, plain_config)


# The command


@pytest.fixture(scope="module")
def files(land: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two dates as files; something appeared in the second."""
    folder = tmp_path_factory.mktemp("dates")
    paths = folder / "S2_20200101.tif", folder / "S2_20210101.tif"
    for path, values in zip(paths, (noisy(land, 1), with_thing(noisy(land, 2))), strict=True):
        profile = {"count": 4, "height": SIDE, "width": SIDE, "crs": UTM, "transform": PLACE, "tiled": True}
        with rasterio.open(path, "w", driver="GTiff", dtype="uint16", blockxsize=64, blockysize=64, **profile) as dst:
            dst.write(np.rint(values).clip(1, 65_535).astype(np.uint16))
            dst.descriptions = ("B02", "B03", "B04", "B08")
    return paths


def test_the_command_writes_all_outputs_twice_the_same_and_tells_what_they_stand_on(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / f"out.{suffix}" for name, suffix in (("heatmap", "tif"), ("quicklook", "png"), ("report", "html"))}
    asked = [word for name, path in out.items() for word in (f"--{name}", path)]
    code, _, err = run(capsys, "change", *files, *asked, "--exit-code", "-o", tmp_path / "out.geojson")
    assert code == 10, err
    assert "cells compared" in err
    assert all(path.stat().st_size > 1000 for path in out.values())
    with rasterio.open(out["heatmap"]) as src:
        assert (src.count, src.height, src.width, src.crs.to_epsg()) == (2, SIDE, SIDE, 32618)
        assert np.nanmax(src.read(2)) > 1
    layer = json.loads((tmp_path / "out.geojson").read_text())
    about = layer["geoanom"]
    assert about["before"]["name"] == files[0].name
    assert about["before"]["datetime"].startswith("2020-01-01")
    assert about["shift_px"] == pytest.approx([0, 0], abs=0.1)
    assert about["gain"] == pytest.approx([1, 1, 1, 1], abs=0.02)
    assert len(about["offset"]) == 4
    strongest = next(f["properties"] for f in layer["features"] if f["properties"]["rank"] == 1)
    assert strongest["direction"] == "appeared"
    assert "before" in strongest["reason"]
    assert {f"score_{name}" for name in ("spectral", "irmad", "structure", "prediction")} <= set(strongest)
    change(*files, load_config(environ={}), Outputs(layer=tmp_path / "again.geojson", heatmap=tmp_path / "again.tif"))
    assert (tmp_path / "again.geojson").read_bytes() == (tmp_path / "out.geojson").read_bytes()
    assert (tmp_path / "again.tif").read_bytes() == out["heatmap"].read_bytes()
    assert len(list(read_features(tmp_path / "again.geojson").stream())) == len(layer["features"])


def test_the_command_is_done_when_nothing_changed_and_says_what_to_do(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "change", files[0], files[0], "--exit-code", "-o", tmp_path / "out.geojson")
    assert code == 0
    assert "no change is significant; --top 20" in err
    assert json.loads((tmp_path / "out.geojson").read_text())["features"] == []


NO_WEIGHT = [word for name in MEMBERS for word in ("--set", f"change.{name}=0")]


@pytest.mark.parametrize(
    ("after", "more", "code", "words"),
    [
        ("no.tif", [], 4, "no.tif"),
        (None, ["--bands", "9"], 2, "band 9"),
        (None, ["--set", "change.cell_px=7"], 2, "change.cell_px"),
        (None, NO_WEIGHT, 2, "change: gives no measure any weight; raise one of change.spectral"),
        (None, ["--overwrite", "-o", "out.xyz"], 2, ".xyz"),
        (None, ["-o", "no/out.geojson"], 5, "out.geojson"),
    ],
    ids=["no file", "no band", "bad setting", "no weight", "no format", "no folder"],
)
def test_the_command_refuses_in_one_line(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    after: str | None,
    more: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, "change", files[0], after or files[1], "-o", "out.geojson", *more)
    assert found == code, err
    assert_one_line(err, words)
    assert list(tmp_path.iterdir()) == []


def test_dates_in_the_wrong_order_are_told(files: tuple[Path, Path], plain_config: Config) -> None:
    told = "BEFORE is the later one by its date: appeared and vanished are exchanged; swap the two"
    assert told in open_pair(*files[::-1], plain_config).warnings
    assert told not in open_pair(*files, plain_config).warnings
    assert told not in open_pair(files[0], files[0], plain_config).warnings


def test_a_grid_that_a_heatmap_cannot_have_is_refused_before_anything_is_written(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [GroundControlPoint(row=r, col=c, x=x, y=y) for r, c, x, y in gcp_georef().gcps]
    paths = [tmp_path / f"by_points_{number}.tif" for number in (1, 2)]
    for source, path in zip(files, paths, strict=True):
        with (
            rasterio.open(source) as src,
            rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=4, height=SIDE, width=SIDE, gcps=points, crs=UTM) as dst,
        ):
            dst.write(src.read())
    out = tmp_path / "out"
    out.mkdir()
    code, _, err = run(capsys, "change", *paths, "--heatmap", out / "heat.tif", "-o", out / "layer.tif")
    assert code == 4, err
    assert_one_line(err, "control points")
    assert list(out.iterdir()) == []


def test_embeddings_are_not_offered(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--embeddings" not in run(capsys, "change", "--help")[1]
    assert run(capsys, "change", *files, "--embeddings", "e.parquet", "-o", "out.geojson")[0] == 2
