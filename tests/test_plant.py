"""Planting: nothing changes but the plants, and each plant is what it says."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import whole
from scipy.ndimage import gaussian_filter, label
from shapely import box

from geoanom.evaluate.grounds import find_grounds, read_ground
from geoanom.evaluate.plant import GAP_PX, MAKERS, SIZES_PX, deal, is_visible, plant
from geoanom.evaluate.plants import Donor, matched_bands
from geoanom.evaluate.shapes import blob, coverage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from geoanom.config import Config
    from geoanom.evaluate.plant import Plant, Planted

CARDS = [(kind, sizes[0]) for kind, sizes in SIZES_PX.items()]


def textured(seed: int, dtype: DTypeLike = "uint16", n_bands: int = 4, side: int = 240) -> NDArray[Any]:
    """Bands that have much in common, with coarse and fine texture."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((side, side)), sigma) * sigma for sigma in (1, 2, 12)]
    own = rng.standard_normal((n_bands, side, side)) * 0.2
    bands = 90 + 25 * (np.sum(fields, axis=0) + own + np.arange(n_bands)[:, None, None] * 0.5)
    clipped: NDArray[Any] = np.clip(bands, 1, 250).astype(dtype)
    return clipped


@cache
def donor() -> Donor:
    values = gaussian_filter(textured(90, "float32", 3), (0, 4, 4))  # so smooth that it is visible anywhere
    return Donor(values=values, valid=np.ones(values.shape[1:], bool))


def planted_on(values: NDArray[Any], seed: int, cards: list[tuple[str, int]], valid: NDArray[np.bool_] | None = None) -> Planted:
    usable = np.ones(values.shape[1:], bool) if valid is None else valid
    return plant(values, usable, cards, [donor()], seed=seed)


def inside(values: NDArray[Any], one: Plant) -> NDArray[np.float64]:
    """Pixels (band, n) of a plant."""
    return values[(slice(None), *one.frame)][:, one.mask].astype(float)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]), edge=st.integers(0, 120))
def test_nothing_changes_outside_the_masks_and_types_and_invalid_pixels_stay(seed: int, dtype: str, edge: int) -> None:
    values = textured(seed, dtype)
    valid = np.add.outer(np.arange(240), np.arange(240)) >= edge
    values[:, ~valid] = 0
    before = values.copy()
    found = planted_on(values, seed, CARDS, valid)
    assert (values == before).all(), "the scene itself is left alone"
    assert found.values.dtype == values.dtype
    assert found.plants
    assert (found.values[:, found.labels == 0] == values[:, found.labels == 0]).all()
    assert valid[found.labels > 0].all()
    known = values[:, valid]
    assert (found.values[:, valid].min(axis=1) >= known.min(axis=1)).all(), "no new value that could stand for nodata"
    assert (found.values[:, valid].max(axis=1) <= known.max(axis=1)).all()
    for number, one in enumerate(found.plants, 1):
        assert (found.labels == number).sum() == one.mask.sum() > 0
        assert (inside(found.values, one) != inside(values, one)).any()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    values = textured(0)
    first, again, other = (planted_on(values, seed, CARDS) for seed in (3, 3, 4))
    assert first.values.tobytes() == again.values.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.values.tobytes() != other.values.tobytes()


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000))
def test_plants_keep_apart(seed: int) -> None:
    plants = planted_on(textured(seed), seed, CARDS).plants
    for one, other in combinations(plants, 2):
        gaps = [max(b.start - a.stop, a.start - b.stop) for a, b in zip(one.frame, other.frame, strict=True)]
        assert max(gaps) >= GAP_PX


@given(n_copies=st.integers(1, 40), n_plants=st.integers(1, 15), leave_out=st.sampled_from([None, "foreign"]))
def test_kinds_and_sizes_are_dealt_evenly(n_copies: int, n_plants: int, leave_out: str | None) -> None:
    kinds = [kind for kind in MAKERS if kind != leave_out]
    cards = Counter(card for copy in range(n_copies) for card in deal(copy, n_plants, kinds))
    deck = [(kind, size) for kind in kinds for size in SIZES_PX[kind]]
    counts = [cards[card] for card in deck]
    assert sum(counts) == n_copies * n_plants == cards.total()
    assert max(counts) - min(counts) <= 1


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), size=st.sampled_from(SIZES_PX["foreign"]))
def test_a_foreign_patch_has_the_mean_and_the_contrast_of_what_it_replaces(seed: int, size: int) -> None:
    values = textured(seed, "float32", n_bands=6)  # twice those of the donor
    found = planted_on(values, seed, [("foreign", size)])
    for one in found.plants:
        new, old = inside(found.values, one), inside(values, one)  # what is beyond the scene's range is cut, so not quite equal
        np.testing.assert_allclose(new.mean(axis=1), old.mean(axis=1), rtol=0.02)
        np.testing.assert_allclose(new.std(axis=1), old.std(axis=1), rtol=0.1)
        assert abs(np.corrcoef(new[0], old[0])[0, 1]) < 0.9, "and is not what it replaces"


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), size=st.sampled_from(SIZES_PX["object"]))
def test_an_object_stands_out_and_keeps_to_the_usual_range(seed: int, size: int) -> None:
    values = textured(seed, "float32")
    found = planted_on(values, seed, [("object", size)])
    low, high = np.percentile(values, [0.5, 99.5], axis=(1, 2))
    for one in found.plants:
        surroundings = values[:, one.row - 16 : one.row + size + 16, one.col - 16 : one.col + size + 16].astype(float)
        usual = np.median(surroundings, axis=(1, 2))
        spread = np.subtract(*np.percentile(surroundings, [84, 16], axis=(1, 2))) / 2
        core = inside(found.values, one)
        assert np.percentile(np.median(np.abs(core.T - usual) / spread, axis=1), 80) > 1.5, "all but its soft edges"
        core = np.median(core, axis=1)
        assert ((core >= low - 1e-3) & (core <= high + 1e-3)).all()
        reach = [np.ptp(np.flatnonzero(one.mask.any(axis=axis))) + 1 for axis in (0, 1)]  # a bent thing may leave gaps
        assert max(reach) >= size - 2, "it fills its frame"


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), size=st.sampled_from(SIZES_PX["erased"]))
def test_an_erased_patch_is_smoother_than_it_was(seed: int, size: int) -> None:
    values = textured(seed, "float32")
    found = planted_on(values, seed, [("erased", size)])
    for one in found.plants:
        inner = one.mask[1:] & one.mask[:-1]
        new, old = (np.diff(v[(slice(None), *one.frame)].astype(float), axis=1)[:, inner].std() for v in (found.values, values))
        assert new < 0.8 * old


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), size=st.sampled_from(SIZES_PX["spectral"]))
def test_a_spectral_plant_keeps_the_texture_and_changes_one_band_or_two(seed: int, size: int) -> None:
    values = textured(seed, "float32", n_bands=6)
    found = planted_on(values, seed, [("spectral", size)])
    for one in found.plants:
        changed = (inside(found.values, one) != inside(values, one)).any(axis=1)
        assert 1 <= changed.sum() <= 2
        assert label(one.mask)[1] == 1, "one blob"


def test_a_fault_takes_a_whole_square() -> None:
    for seed in range(8):
        found = planted_on(textured(seed), seed, [("fault", 24)])
        assert all(one.mask.all() and one.mask.shape == (24, 24) for one in found.plants)


def test_without_donors_foreign_patches_are_left_out_and_counted() -> None:
    values = textured(0)
    found = plant(values, np.ones(values.shape[1:], bool), [("foreign", 24), ("fault", 24)], [], seed=0)
    assert [one.kind for one in found.plants] == ["fault"]
    assert found.left_out == 1


def test_a_scene_too_small_or_without_texture_takes_no_invisible_plants() -> None:
    flat = np.full((3, 200, 200), 100, np.uint8)
    found = planted_on(flat, 0, [("erased", 24), ("foreign", 24), ("spectral", 16)])
    assert found.left_out == 3
    tiny = textured(0, side=64)
    assert planted_on(tiny, 0, [("fault", 64)]).left_out == 1


def test_what_is_negligible_is_not_visible() -> None:
    before = textured(1)[:, :40, :40].astype(float)
    mask, spread, floor = np.ones((40, 40), bool), np.full(4, 10.0), np.full(4, 1.0)
    assert not is_visible("fault", before, before, mask, spread=spread, floor=floor)
    assert not is_visible("fault", before, before + 4.9, mask, spread=spread, floor=floor)
    assert is_visible("fault", before, before + 5.1, mask, spread=spread, floor=floor)
    assert not is_visible("foreign", before, before + 50, mask, spread=spread, floor=floor), "the same texture, only brighter"
    assert not is_visible("fault", before, before + 50, np.zeros((40, 40), bool), spread=spread, floor=floor)


@given(seed=st.integers(0, 10_000), size=st.integers(8, 64))
def test_a_blob_is_one_piece_and_fills_its_frame(seed: int, size: int) -> None:
    mask = blob(size, np.random.default_rng(seed))
    assert label(mask)[1] == 1
    assert max(mask.any(axis=0).sum(), mask.any(axis=1).sum()) >= size - 3
    assert mask.mean() > 0.15


@given(left=st.integers(0, 40), top=st.integers(0, 40), width=st.integers(1, 40), height=st.integers(1, 40))
def test_coverage_of_a_rectangle_sums_to_its_area(left: int, top: int, width: int, height: int) -> None:
    quarter = box(left / 4, top / 4, (left + width) / 4, (top + height) / 4)
    assert coverage(quarter, 20).sum() == pytest.approx(quarter.area)


@given(n_bands=st.integers(1, 13), n_donor=st.integers(1, 13))
def test_bands_are_matched_by_averaging_or_repeating(n_bands: int, n_donor: int) -> None:
    patch = np.random.default_rng(n_donor).integers(0, 100, (n_donor, 5, 5))
    matched = matched_bands(patch, n_bands)
    assert matched.shape == (n_bands, 5, 5)
    if n_bands == n_donor:
        assert (matched == patch).all()
    if n_bands == 1:
        np.testing.assert_allclose(matched[0], patch.mean(axis=0))


def test_real_scenes_take_all_their_plants(shared_data: Path, plain_config: Config) -> None:
    grounds = [read_ground(path, plain_config) for path in find_grounds(shared_data)]
    assert len(grounds) >= 8
    for n, ground in enumerate(grounds):
        donors = [other.donor for other in grounds if other is not ground]
        found = plant(ground.values, ground.valid, deal(n, 12), donors, seed=0)
        assert len(found.plants) == 12, ground.name
        assert found.values.dtype == ground.values.dtype


def test_a_scene_is_read_as_its_file_says(sample_scene: Path, plain_config: Config) -> None:
    ground = read_ground(sample_scene, plain_config)
    assert (ground.values == whole(sample_scene)).all()
    assert ground.crs_wkt is not None
