"""Figures of merit: closed forms, brute force, and the laws they obey."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from geoanom.errors import ConfigError, InputError
from geoanom.evaluate.metrics import auroc, average_precision, object_recall, precision_at_k, precision_recall, pro

if TYPE_CHECKING:
    from numpy.typing import NDArray

Ranked = tuple["NDArray[np.float64]", "NDArray[np.bool_]"]


@st.composite
def ranked(draw: st.DrawFn, max_size: int = 40) -> Ranked:
    """Scores with many ties, and a truth with both classes."""
    n = draw(st.integers(2, max_size))
    scores = draw(arrays(np.float64, n, elements=st.integers(0, 8).map(float)))
    truth = draw(arrays(np.bool_, n))
    assume(truth.any() and not truth.all())
    return scores, truth


@st.composite
def maps(draw: st.DrawFn) -> Ranked:
    """A small score map with ties and with holes, and a mask with both classes where there are scores."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
    scores = draw(arrays(np.float64, shape, elements=st.integers(0, 12).map(float)))
    scores[draw(arrays(np.bool_, shape, elements=st.integers(0, 5).map(lambda i: i == 0)))] = np.nan
    truth = draw(arrays(np.bool_, shape, elements=st.integers(0, 2).map(lambda i: i == 0)))
    known = truth[~np.isnan(scores)]
    assume(known.any() and not known.all())
    return scores, truth


@given(ranked())
def test_average_precision_sums_precision_over_the_recall_gained_at_each_distinct_score(case: Ranked) -> None:
    scores, truth = case
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = scores >= threshold
        recall = (called & truth).sum() / truth.sum()
        expected += (recall - recall_before) * (called & truth).sum() / called.sum()
        recall_before = recall
    assert average_precision(scores, truth) == pytest.approx(expected)


@given(ranked())
def test_auroc_is_the_share_of_pairs_in_the_right_order_with_ties_counted_half(case: Ranked) -> None:
    scores, truth = case
    pairs = np.sign(scores[truth][:, None] - scores[~truth][None, :])
    assert auroc(scores, truth) == pytest.approx((pairs + 1).mean() / 2)


@given(ranked(max_size=7), st.data())
def test_precision_at_k_is_the_mean_over_all_orders_of_tied_scores(case: Ranked, data: st.DataObject) -> None:
    scores, truth = case
    k = data.draw(st.integers(1, len(scores)))
    orders = [order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))]
    expected = np.mean([truth[list(order[:k])].mean() for order in orders])
    assert precision_at_k(scores, truth, k) == pytest.approx(expected)


@given(ranked(), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 7]), st.randoms(use_true_random=False))
def test_only_the_order_of_scores_counts_and_not_the_order_of_places(case: Ranked, monotone: Any, random: Any) -> None:
    scores, truth = case
    order = list(range(len(scores)))
    random.shuffle(order)
    for figure in (average_precision, auroc, precision_at_k):
        expected = pytest.approx(figure(scores, truth))
        assert figure(monotone(scores), truth) == expected
        assert figure(scores[order], truth[order]) == expected


@given(ranked())
def test_a_perfect_ranking_is_1_and_its_reverse_the_worst(case: Ranked) -> None:
    _, truth = case
    for figure in (average_precision, auroc, precision_at_k):
        assert figure(truth, truth) == 1.0
    assert auroc(~truth, truth) == 0.0
    assert average_precision(~truth, truth) <= average_precision(np.ones(len(truth)), truth)


@given(ranked())
def test_scores_that_tell_nothing_give_the_base_rate(case: Ranked) -> None:
    _, truth = case
    constant = np.ones(len(truth))
    assert average_precision(constant, truth) == pytest.approx(truth.mean())
    assert precision_at_k(constant, truth) == pytest.approx(truth.mean())
    assert auroc(constant, truth) == 0.5


def test_random_scores_give_about_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(50_000) < 0.1
    scores = rng.random(truth.size)
    assert average_precision(scores, truth) == pytest.approx(0.1, abs=0.01)
    assert auroc(scores, truth) == pytest.approx(0.5, abs=0.02)
    assert pro(scores.reshape(250, 200), truth.reshape(250, 200)) == pytest.approx(0.15, abs=0.01)  # the diagonal up to 0.3, over 0.3


def brute_force_pro(scores: NDArray[np.float64], truth: NDArray[np.bool_], max_fpr: float) -> float:
    """Threshold by threshold, region by region; the area piece by piece."""
    known = ~np.isnan(scores)
    regions = label(truth & known, connectivity=2)
    normal = known & ~truth
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(scores[known]), reverse=True):
        called = known & (scores >= threshold)
        overlaps = [(called & (regions == r)).sum() / (regions == r).sum() for r in range(1, regions.max() + 1)]
        curve.append(((called & normal).sum() / normal.sum(), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / max_fpr


@given(maps(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_pro_equals_brute_force(case: Ranked, max_fpr: float) -> None:
    assert pro(*case, max_fpr=max_fpr) == pytest.approx(brute_force_pro(*case, max_fpr))


def test_pro_counts_a_small_region_as_much_as_a_large_one() -> None:
    truth = np.zeros((20, 20), bool)
    truth[2:10, 2:10] = truth[15, 15] = True
    found_large, found_small = np.zeros((20, 20)), np.zeros((20, 20))
    found_large[2:10, 2:10] = found_small[15, 15] = 1.0
    assert pro(found_large, truth) == pytest.approx(pro(found_small, truth))
    assert pro(truth.astype(float), truth) == 1.0
    assert pro(truth.astype(float), truth, max_fpr=0.01) == 1.0


@given(maps())
def test_object_recall_counts_components_that_are_touched(case: Ranked) -> None:
    scores, truth = case
    called = scores > 6
    regions = label(truth, connectivity=2)
    touched = [bool(called[regions == r].any()) for r in range(1, regions.max() + 1)]
    assert object_recall(called, truth) == pytest.approx(np.mean(touched))


@given(ranked())
def test_precision_and_recall_are_shares_of_what_is_called_and_of_what_is_true(case: Ranked) -> None:
    scores, truth = case
    called = scores > 4
    precision, recall = precision_recall(called, truth)
    assert recall == pytest.approx(called[truth].mean())
    assert precision == (pytest.approx(truth[called].mean()) if called.any() else None)


@pytest.mark.parametrize("figure", [average_precision, auroc, precision_at_k, pro])
def test_a_degenerate_truth_is_an_error_and_never_a_nan(figure: Any) -> None:
    scores = np.arange(6.0).reshape(2, 3)
    mixed = scores > 3
    with pytest.raises(InputError, match="truth: has no positives"):
        figure(scores, np.zeros((2, 3), bool))
    with pytest.raises(InputError, match="truth: has no negatives"):
        figure(scores, np.ones((2, 3), bool))
    with pytest.raises(InputError, match="shape"):
        figure(scores, mixed[:1])
    with pytest.raises(InputError, match="finite"):
        figure(np.where(scores == 1, np.inf, scores), mixed)


def test_other_figures_refuse_a_truth_without_positives() -> None:
    nothing = np.zeros((2, 3), bool)
    for figure in (precision_recall, object_recall):
        with pytest.raises(InputError, match="no positives"):
            figure(nothing, nothing)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match=f"k: is {k}"):
        precision_at_k([1.0, 2.0, 3.0], [True, False, True], k)


@pytest.mark.parametrize("max_fpr", [0.0, 1.1])
def test_a_false_positive_rate_out_of_range_is_refused(max_fpr: float) -> None:
    with pytest.raises(ConfigError, match="max_fpr"):
        pro(np.eye(3), np.eye(3, dtype=bool), max_fpr=max_fpr)
