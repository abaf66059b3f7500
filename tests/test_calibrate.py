"""From raw scores to p-values, q-values and calls."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import genpareto, kstest

from geoanom.config import Calibrate
from geoanom.detect.calibrate import SMALLEST_P, anomaly_score, fit_calibrator, log_survival
from geoanom.detect.threshold import most_anomalous, q_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT = Calibrate(tail_fraction=0.4, trim_fraction=0.2)
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80).map(lambda values: np.array(values, np.float64))
LEVELS = (1e-2, 1e-3, 1e-4)
P_VALUES = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=40).map(lambda values: np.array(values, np.float64))


def draw(kind: str, n: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    match kind:
        case "exponential":
            return rng.exponential(size=n)
        case "distance":
            return rng.chisquare(4, size=n)
        case "peak of distances":
            peaks: NDArray[np.float64] = rng.chisquare(10, size=(n, 16)).max(axis=1)
            return peaks
        case "heavy":
            return rng.lognormal(sigma=0.5, size=n)
    return rng.normal(size=n)


@settings(max_examples=60, deadline=None)
@given(calibration=SCORES, asked=SCORES)
def test_a_higher_score_never_has_a_larger_p_value(calibration: NDArray[np.float64], asked: NDArray[np.float64]) -> None:
    p = fit_calibrator(calibration, DEFAULT).p_value(np.sort(asked))
    assert (np.diff(p) <= 0).all()
    assert ((p > 0) & (p <= 1)).all()


@settings(max_examples=60, deadline=None)
@given(calibration=SCORES, asked=SCORES)
def test_up_to_the_tail_the_p_value_is_one_plus_the_count_at_least_as_large_over_n_plus_one(
    calibration: NDArray[np.float64], asked: NDArray[np.float64]
) -> None:
    calibrator = fit_calibrator(calibration, DEFAULT)
    body = np.concatenate([calibration, asked])
    body = body[body <= calibrator.start]
    wanted = [(1 + sum(c >= s for c in calibration)) / (len(calibration) + 1) for s in body]
    assert calibrator.p_value(body).tolist() == wanted


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_p_values_of_fresh_scores_are_uniform(seed: int) -> None:
    calibrator = fit_calibrator(draw("exponential", 4000, seed), DEFAULT)
    p = calibrator.p_value(draw("exponential", 2000, seed + 100))
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("kind", ["normal", "distance", "peak of distances", "heavy"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_the_calibration_scores_decide_p_values_of_fresh_scores_are_uniform_whatever_the_tail(kind: str, seed: int) -> None:
    calibrator = fit_calibrator(draw(kind, 40_000, seed), DEFAULT)
    p = calibrator.p_value(draw(kind, 1000, seed + 100))
    cut = DEFAULT.trim_fraction
    assert (p <= cut).mean() == pytest.approx(cut, abs=0.05)
    assert kstest((p[p > cut] - cut) / (1 - cut), "uniform").pvalue > 0.01


@pytest.mark.parametrize("kind", ["exponential", "normal", "distance", "peak of distances"])
@pytest.mark.parametrize("n", [300, 5000])
def test_the_tail_does_not_promise_more_than_chance_allows(kind: str, n: int) -> None:
    fresh = draw(kind, 50_000, 1)
    shares = np.mean(
        [
            [(fit_calibrator(draw(kind, n, seed), DEFAULT).p_value(fresh) <= level).mean() / level for level in LEVELS]
            for seed in range(2, 14)
        ],
        axis=0,
    )
    assert (shares < 2).all()


@pytest.mark.parametrize("level", LEVELS)
def test_a_somewhat_heavier_tail_is_promised_little_more(level: float) -> None:
    calibrator = fit_calibrator(draw("heavy", 5000, 0), DEFAULT)
    assert (calibrator.p_value(draw("heavy", 200_000, 1)) <= level).mean() < 4 * level


@pytest.mark.parametrize("k", [10, 40, 200])
def test_few_measured_scores_promise_what_an_exponential_learned_from_so_many_can(k: int) -> None:
    """The exact mean over all samples: with k measured of n, whatever the scale, 1 in 1 / level fresh scores gets p <= level."""
    shares = [
        (fit_calibrator(draw("exponential", 5 * k, seed), DEFAULT).p_value(draw("exponential", 20_000, seed + 1000)) <= 1e-3).mean()
        for seed in range(60)
    ]
    assert np.mean(shares) == pytest.approx(1e-3, rel=0.9)


def test_the_exponential_tail_is_continued_as_an_exponential() -> None:
    calibrator = fit_calibrator(draw("exponential", 20_000, 0), DEFAULT)
    np.testing.assert_allclose(np.log10(calibrator.p_value(np.array([10.0, 14.0]))), np.log10(np.exp([-10.0, -14.0])), rtol=0.15)


@pytest.mark.parametrize("kind", ["exponential", "distance", "peak of distances"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.15])
def test_obvious_anomalies_among_the_calibration_scores_are_called_and_little_else(kind: str, share: float) -> None:
    scores, anomalies = draw(kind, 1000, 0), round(1000 * share)
    scores[:anomalies] = 10 * scores.max() * (1 + np.random.default_rng(9).random(anomalies))
    called = q_values(fit_calibrator(scores, DEFAULT).p_value(scores)) <= 0.05
    assert called[:anomalies].all()
    assert called[anomalies:].sum() <= 0.05 / 0.95 * anomalies
    if share:  # a tail that measures anomalies takes them for granted
        measures = Calibrate(tail_fraction=0.1, trim_fraction=0.0)
        assert not (q_values(fit_calibrator(scores, measures).p_value(scores)) <= 0.05)[:anomalies].all()


def test_how_large_the_censored_scores_are_makes_no_difference() -> None:
    scores = np.sort(draw("normal", 1000, 0))
    larger = scores.copy()
    larger[-190:] *= 1000
    asked = np.linspace(-3, 6, 50)
    body = scores <= fit_calibrator(scores, DEFAULT).start
    first, second = fit_calibrator(scores, DEFAULT), fit_calibrator(larger, DEFAULT)
    assert body.mean() == pytest.approx(0.8, abs=0.01)
    assert (first.scale, first.shape, first.start) == (second.scale, second.shape, second.start)
    np.testing.assert_allclose(first.p_value(asked), second.p_value(asked))


@pytest.mark.parametrize("value", [0.0, -7.25, 1e9])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_a_constant_calibration_gives_p_one_to_that_score_and_little_to_a_larger_one(value: float, n: int) -> None:
    calibrator = fit_calibrator(np.full(n, value), DEFAULT)
    same, lower, higher = calibrator.p_value(np.array([value, value - 1, value + 1e5 * (1 + abs(value))]))
    assert same == lower == 1.0
    assert higher < 1e-3


@pytest.mark.parametrize("value", [0.0, -7.25, 1e6])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.19])
def test_scores_that_are_equal_up_to_rounding_are_never_called(value: float, share: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.full(400, value)
    off = rng.random(400) < share
    scores[off] += 1e-5 * (1 + abs(value)) * rng.random(off.sum())
    p = fit_calibrator(scores, DEFAULT).p_value(scores)
    assert (q_values(p) > 0.05).all()
    assert (p[~off] == 1).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(20, 300))
def test_the_tail_starts_where_the_body_ends(seed: int, n: int) -> None:
    calibrator = fit_calibrator(np.random.default_rng(seed).lognormal(size=n), DEFAULT)
    at, just_above = calibrator.p_value(np.array([calibrator.start, calibrator.start + 1e-9 * calibrator.scale]))
    assert just_above == pytest.approx(at, rel=1e-6)
    assert just_above <= at


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.5])
def test_the_survival_is_that_of_a_generalized_pareto_distribution(shape: float) -> None:
    excess = np.linspace(0, 20, 40)
    np.testing.assert_allclose(log_survival(excess, 1.7, shape), genpareto.logsf(excess, shape, scale=1.7), rtol=1e-10, atol=1e-14)


def test_the_fitted_tail_finds_the_shape_that_made_the_scores() -> None:
    scores = genpareto.rvs(0.3, scale=2.0, size=60_000, random_state=np.random.default_rng(0))
    fitted = fit_calibrator(scores, Calibrate(tail_fraction=0.4, trim_fraction=0.01))
    assert fitted.shape == pytest.approx(0.3, abs=0.06)
    assert fitted.scale == pytest.approx(2.0 + 0.3 * fitted.start, rel=0.06)  # excesses of a Pareto tail are Pareto again


def test_no_p_value_is_smaller_than_what_a_score_of_one_needs() -> None:
    p = fit_calibrator(draw("normal", 500, 0), DEFAULT).p_value(np.array([1e300]))
    assert p[0] >= SMALLEST_P
    assert anomaly_score(p).tolist() == [1.0]


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [np.inf]])
def test_calibration_needs_finite_scores(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_calibrator(np.array(bad), DEFAULT)


def test_the_anomaly_score_counts_decades_on_a_fixed_scale() -> None:
    np.testing.assert_allclose(anomaly_score(np.array([1.0, 1e-1, 1e-5, 1e-10, 1e-12])), [0.0, 0.1, 0.5, 1.0, 1.0])


def written_out(p: list[float]) -> list[float]:
    """Benjamini and Hochberg: the smallest over all thresholds t >= p of n * t / (number of p-values up to t), at most 1."""
    return [min(1.0, *(len(p) * t / sum(other <= t for other in p) for t in p if t >= value)) for value in p]


@settings(max_examples=60, deadline=None)
@given(p=P_VALUES)
def test_q_values_are_those_of_benjamini_and_hochberg(p: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(q_values(p), written_out(p.tolist()), rtol=1e-12)


def test_no_tiles_have_no_q_values() -> None:
    assert len(q_values(np.empty(0))) == 0


def test_calls_at_five_percent_are_false_in_five_percent_at_most() -> None:
    shares = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        p = np.concatenate([rng.random(180), rng.random(20) * 1e-4])  # the last 20 are real
        called = np.flatnonzero(q_values(p) <= 0.05)
        shares.append((called < 180).sum() / max(1, len(called)))
    assert 0.02 < np.mean(shares) <= 0.06


def test_scenes_without_anomalies_are_seldom_called() -> None:
    calibrator = fit_calibrator(draw("exponential", 5000, 0), DEFAULT)
    called = [(q_values(calibrator.p_value(draw("exponential", 300, seed + 1))) <= 0.05).any() for seed in range(200)]
    assert np.mean(called) <= 0.10


@settings(max_examples=60, deadline=None)
@given(statistic=SCORES, share=st.floats(0.001, 0.999))
def test_the_given_share_is_called_and_nothing_left_out_is_more_anomalous(statistic: NDArray[np.float64], share: float) -> None:
    called = most_anomalous(statistic, share)
    assert called.sum() == max(1, np.floor(round(share * len(statistic), 6)))
    if not called.all():
        assert statistic[called].min() >= statistic[~called].max()


def test_twenty_nine_percent_of_a_hundred_are_twenty_nine() -> None:
    assert most_anomalous(np.arange(100.0), 0.29).sum() == 29


def test_ties_are_called_in_the_order_of_the_grid() -> None:
    assert np.flatnonzero(most_anomalous(np.ones(10), 0.3)).tolist() == [0, 1, 2]


def test_a_larger_share_calls_everything_that_a_smaller_one_calls() -> None:
    statistic = draw("normal", 50, 0).round(1)
    for small, large in pairwise([0.05, 0.1, 0.3, 0.9]):
        assert not (most_anomalous(statistic, small) & ~most_anomalous(statistic, large)).any()
