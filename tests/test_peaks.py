"""Detectors on windows: a tile is as odd as its oddest window; floors of what is known to be nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoanom.config import Calibrate, Member
from geoanom.detect.calibrate import fit_calibrator
from geoanom.detect.ensemble import fit_jury, make_detector
from geoanom.detect.knn import Knn
from geoanom.detect.peaks import CALM, as_rows, few_windows, tile_scores, window_scores
from geoanom.detect.rx import Rx
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(0)
WINDOWS = RNG.normal(size=(40, 4, 4, 5)).astype(np.float16)


def rx_on(table: NDArray[np.floating], **params: float) -> Rx:
    detector = Rx(**params)
    detector.fit(as_rows(table), 0)
    return detector


def test_a_tile_is_as_odd_as_its_oddest_window_that_has_statistics() -> None:
    windows = WINDOWS.copy()
    windows[3, 1, 2] = np.nan
    windows[7] = np.nan
    detector = rx_on(WINDOWS)
    single = window_scores(detector, windows)
    assert np.isnan(single[3, 1, 2])
    assert np.isnan(single[7]).all()
    peaks = tile_scores(detector, windows)
    assert peaks[7] == CALM
    np.testing.assert_array_equal(np.delete(peaks, 7), np.nanmax(np.delete(single, 7, axis=0), axis=(1, 2)))
    np.testing.assert_allclose(single[5, 2, 3], detector.score(windows[5, 2, 3][None])[0])


def test_a_table_with_one_row_a_tile_is_scored_as_it_is() -> None:
    table = RNG.normal(size=(50, 5))
    detector = rx_on(table)
    np.testing.assert_array_equal(tile_scores(detector, table), detector.score(table))


@given(n=st.integers(1, 30), most=st.integers(1, 400))
def test_few_windows_are_some_of_each_tiles_own(n: int, most: int) -> None:
    windows = WINDOWS[:n]
    few = few_windows(windows, most)
    assert few.shape[0] == n
    assert 1 <= few.shape[1] <= 16
    assert n * few.shape[1] <= max(most, n)
    own = windows.reshape(n, 16, 5)
    assert all(len(np.unique((few[i][:, None] == own[i]).all(axis=2).argmax(axis=1))) == few.shape[1] for i in range(n))


def test_a_jury_tells_the_windows_scores_of_each_half() -> None:
    halves = np.arange(40) % 2
    rows: dict[str, NDArray[np.floating]] = {"windows": WINDOWS, "embedding": RNG.normal(size=(40, 3))}
    both = (Member(name="knn"), Member(name="rx", label="windows", input="windows"))
    jury = fit_jury(both, rows, halves, seed=0)
    single = jury.window_scores(rows, halves)
    assert single is not None
    np.testing.assert_array_equal(single.max(axis=(1, 2)), jury.raw_scores(rows, halves)[:, 1])
    assert fit_jury(both[:1], rows, halves, seed=0).window_scores(rows, halves) is None


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_trimmed_rx_sees_the_many_when_few_are_foreign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    normal, foreign = rng.normal(size=(500, 3)), np.array([6.0, 6.0, 6.0]) + 0.1 * rng.normal(size=(20, 3))
    plain, trimmed = (rx_on(np.concatenate([normal, foreign]), trim=trim).score(foreign).mean() for trim in (0.0, 0.05))
    clean = rx_on(normal).score(foreign).mean()
    assert plain < 0.6 * clean
    assert trimmed > 0.8 * clean


def test_columns_that_vary_less_than_noise_are_not_blown_up() -> None:
    table = RNG.normal(size=(400, 4)) * 1e-4
    odd = table[:1] + 5e-4
    assert rx_on(table).score(odd)[0] > 20
    assert rx_on(table, least=0.03).score(odd)[0] < 0.1
    wide = RNG.normal(size=(400, 4)) * 3.0
    np.testing.assert_allclose(rx_on(wide, least=0.03).score(wide), rx_on(wide).score(wide), rtol=0.05)


def test_columns_left_as_they_are_keep_their_weights_and_their_unit() -> None:
    table = RNG.normal(size=(200, 3)) * [10.0, 1.0, 0.1]
    detector = Knn(k=1, as_is=True)
    detector.fit(table, 0)
    distances = np.linalg.norm(table[:, None] - (table[:5] + 0.3)[None], axis=2).min(axis=0)
    np.testing.assert_allclose(detector.score(table[:5] + 0.3), distances, rtol=1e-6)


@given(scale=st.floats(1e-6, 1e-2))
def test_differences_below_the_least_scale_are_nothing(scale: float) -> None:
    body = scale * np.random.default_rng(0).exponential(size=400)
    free, held = fit_calibrator(body, Calibrate()), fit_calibrator(body, Calibrate(), least_scale=1.0)
    far = np.array([100 * scale])
    assert free.p_value(far)[0] < 1e-6
    assert held.p_value(far)[0] > 0.05


@pytest.mark.parametrize("params", [{"trim": 0.5}, {"trim": -0.1}, {"least": -1.0}])
def test_shares_and_spreads_that_make_no_sense_are_refused(params: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="detector rx"):
        make_detector(Member(name="rx", params=dict(params)))
