"""The contract that every detector of the table keeps, and what each one is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from sklearn.neighbors import NearestNeighbors

from geoanom.config import Member
from geoanom.detect.ensemble import make_detector
from geoanom.detect.knn import CHUNK_ROWS
from geoanom.detect.whiten import SHRINKAGE, fit_whitener
from geoanom.errors import ConfigError
from geoanom.registry import DETECTORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.detect.base import Detector

EVERY = pytest.mark.parametrize("name", DETECTORS.names())
TAILS = pytest.mark.parametrize(("name", "judge"), [("ecod", ECOD), ("copod", COPOD)])
N_COLUMNS = 5


def reference(n: int = 150) -> NDArray[np.float32]:
    """A skewed, correlated table: neither symmetric nor axis-aligned."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(n, N_COLUMNS)) @ rng.normal(size=(N_COLUMNS, N_COLUMNS)) + rng.gamma(2.0, size=(n, N_COLUMNS))
    return rows.astype(np.float32)


def fitted(name: str, rows: NDArray[np.floating], seed: int = 0, **params: Any) -> Detector:
    detector = make_detector(Member.model_validate({"name": name, "params": params}))
    detector.fit(rows, seed)
    return detector


@pytest.fixture(scope="module", params=DETECTORS.names())
def detector(request: pytest.FixtureRequest) -> Detector:
    return fitted(request.param, reference())


def test_scores_are_finite_one_for_each_row_and_not_all_the_same(detector: Detector) -> None:
    scores = detector.score(reference()[:40])
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)), n=st.integers(1, 12))
def test_the_score_of_a_row_does_not_depend_on_the_other_rows(detector: Detector, order: list[int], n: int) -> None:
    rows = reference()[:12]
    together = detector.score(rows)
    chosen = order[:n]
    np.testing.assert_allclose(detector.score(rows[chosen]), together[chosen], rtol=1e-9, atol=1e-9)


def test_one_row_alone_is_scored_as_among_more_rows_than_a_chunk_holds(detector: Detector) -> None:
    rows = reference(CHUNK_ROWS + 3)
    np.testing.assert_allclose(detector.score(rows[-1:]), detector.score(rows)[-1:], rtol=1e-9, atol=1e-9)


@EVERY
def test_a_row_far_away_scores_higher_than_every_row_of_the_reference(name: str) -> None:
    rows = reference()
    detector = fitted(name, rows)
    far = (rows.mean(axis=0) + 100 * rows.std(axis=0))[None]
    assert detector.score(far)[0] > detector.score(rows).max()


@EVERY
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    rows = reference()
    first, second = (fitted(name, rows, seed=7).score(rows) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_another_seed_gives_another_isolation_forest() -> None:
    rows = reference()
    assert not np.array_equal(fitted("iforest", rows, seed=0).score(rows), fitted("iforest", rows, seed=1).score(rows))


@EVERY
def test_the_input_is_not_changed(name: str) -> None:
    rows = reference().astype(np.float64)
    kept = rows.copy()
    detector = fitted(name, rows)
    detector.score(rows)
    assert rows.tobytes() == kept.tobytes()
    rows[:] = 0.0
    np.testing.assert_array_equal(detector.score(kept), fitted(name, kept).score(kept))


@EVERY
@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_constant_column_changes_nothing_but_that_it_is_there(name: str, noise: float) -> None:
    rows = reference().astype(np.float64)
    rows[:, 2] = 3.5 + noise * np.random.default_rng(0).normal(size=len(rows))
    detector = fitted(name, rows)
    far = rows[:1] + 100 * rows.std(axis=0)
    assert np.isfinite(detector.score(rows)).all()
    assert detector.score(far)[0] > np.median(detector.score(rows))


@EVERY
@pytest.mark.parametrize("n", [1, 2, 60])
def test_when_all_of_the_reference_is_one_point_only_other_points_stand_out(name: str, n: int) -> None:
    rows = np.full((n, N_COLUMNS), 2.5, np.float32)
    detector = fitted(name, rows)
    same, other = detector.score(rows[:1]), detector.score(rows[:1] + 1)
    assert np.isfinite(same).all()
    assert other[0] > same[0]


@EVERY
def test_two_different_rows_are_reference_enough(name: str) -> None:
    assert np.isfinite(fitted(name, reference(2)).score(reference(3))).all()


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(name: str, bad: float) -> None:
    rows = reference()
    detector = fitted(name, rows)
    rows[3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        detector.score(rows)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fitted(name, rows)


@EVERY
def test_a_table_that_does_not_fit_is_an_error(name: str) -> None:
    detector = fitted(name, reference())
    with pytest.raises(ValueError, match="4 columns, the reference has 5"):
        detector.score(reference()[:, :4])
    with pytest.raises(ValueError, match="non-empty table"):
        detector.score(reference()[:0])
    with pytest.raises(ValueError, match="not fitted"):
        make_detector(Member(name=name)).score(reference())


@EVERY
def test_an_unknown_parameter_is_a_config_error_that_names_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown parameter"):
        make_detector(Member(name=name, params={"qqq": 1}))


@pytest.mark.parametrize(
    ("name", "param", "near"),
    [("knn", "kk", "k"), ("lof", "n_neighbor", "n_neighbors"), ("knn", "whitten", "whiten"), ("gmm", "whitten", "whiten")],
)
def test_a_misspelt_parameter_is_answered_with_the_right_one(name: str, param: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        make_detector(Member(name=name, params={param: 1}))


@pytest.mark.parametrize("param", ["random_state", "contamination", "n_jobs"])
def test_what_geoanom_sets_itself_is_no_parameter(param: str) -> None:
    with pytest.raises(ConfigError, match="unknown parameter"):
        make_detector(Member(name="iforest", params={param: 1}))


@pytest.mark.parametrize(
    ("name", "params"),
    [("knn", {"k": 0}), ("knn", {"k": 2.5}), ("lof", {"n_neighbors": 0}), ("lof", {"n_neighbors": "many"}), ("ocsvm", {"nu": 7.0})],
)
def test_a_value_that_a_parameter_cannot_have_is_a_config_error(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="detector"):
        fitted(name, reference(), **params)


def test_an_unknown_detector_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'iforest'"):
        make_detector(Member(name="iforrest"))


def mixed(seed: int, n: int) -> NDArray[np.float64]:
    """Columns of clear skew in both directions, so that one row more cannot turn its sign."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.gamma(1.0, size=n), -rng.gamma(1.0, size=n), rng.exponential(size=n).round(1)])


@TAILS
def test_tails_agree_with_pyod_when_it_scores_one_row_at_a_time(name: str, judge: type) -> None:
    rows, queries = mixed(0, 400), mixed(1, 25)
    model = judge()
    model.fit(rows)
    theirs = np.concatenate([model.decision_function(query[None]) for query in queries])
    np.testing.assert_allclose(fitted(name, rows).score(queries), theirs, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(1, 4), k=st.integers(1, 60), seed=st.integers(0, 99))
def test_knn_is_the_mean_distance_to_the_k_nearest_of_all(n: int, d: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, queries = rng.normal(size=(n, d)), rng.normal(size=(7, d))
    low, middle, high = np.percentile(rows, [16, 50, 84], axis=0)
    scaled, asked = ((x - middle) / ((high - low) / 2) for x in (rows, queries))
    distance, _ = NearestNeighbors(n_neighbors=min(k, n), algorithm="brute").fit(scaled).kneighbors(asked)
    np.testing.assert_allclose(fitted("knn", rows, k=k).score(queries), distance.mean(axis=1), rtol=1e-6, atol=1e-6)


def test_knn_and_its_tree_agree() -> None:
    rows = reference()
    queries = rows[:20] + np.float32(0.1)
    np.testing.assert_allclose(fitted("knn", rows, k=10).score(queries), fitted("knn_tree", rows).score(queries), rtol=1e-6)


def test_whitening_makes_directions_that_vary_little_count_more() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 2))
    rows[:, 1] = rows[:, 0] + 0.3 * rows[:, 1]  # a narrow ridge: across it is strange, along it is not
    asked = np.array([[4.0, 4.0], [0.7, -0.7]])  # along the ridge beyond its end, and across it
    plain, whitened = (fitted("knn", rows, whiten=whiten).score(asked) for whiten in (False, True))
    assert whitened[1] / whitened[0] > 1.5 * plain[1] / plain[0]


def test_rx_is_the_mahalanobis_distance_with_a_share_of_the_mean_variance_added() -> None:
    rows, queries = reference().astype(np.float64), reference(30)[20:].astype(np.float64) + 1
    low, middle, high = np.percentile(rows, [16, 50, 84], axis=0)
    scaled, asked = ((x - middle) / ((high - low) / 2) for x in (rows, queries))
    covariance = np.cov(scaled.T)
    shrunk = covariance + SHRINKAGE * np.trace(covariance) / N_COLUMNS * np.eye(N_COLUMNS)
    offset = asked - scaled.mean(axis=0)
    wanted = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(shrunk), offset)
    np.testing.assert_allclose(fitted("rx", rows).score(queries), wanted, rtol=1e-9)


def test_whitened_rows_have_no_correlations_left() -> None:
    rows = reference(400).astype(np.float64)
    covariance = np.cov(fit_whitener(rows)(rows).T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert (np.diag(covariance) <= 1.0).all()
