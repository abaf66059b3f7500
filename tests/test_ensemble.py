"""Two halves, each judged by detectors that never saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from geoanom.config import Calibrate, Config, Detect, Member
from geoanom.detect.ensemble import CHUNK_ROWS, fit_ensemble, fit_jury, half_of, make_detector
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMBERS = (Member(name="knn", input="features"), Member(name="ecod"))
N = 200


def tables(n: int = N, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {"embedding": rng.normal(size=(n, 3)).astype(np.float32), "features": rng.gamma(2.0, size=(n, 6)).astype(np.float32)}


def checkerboard(n: int = N) -> NDArray[np.int64]:
    return half_of(np.arange(n) // 20, np.arange(n) % 20, 4)


@settings(max_examples=60, deadline=None)
@given(row=st.integers(0, 10_000), col=st.integers(0, 10_000), fold=st.integers(1, 50))
def test_the_halves_are_a_checkerboard_of_squares(row: int, col: int, fold: int) -> None:
    def half(r: int, c: int) -> int:
        return int(half_of(np.array([r]), np.array([c]), fold)[0])

    assert half(row, col) in {0, 1}
    assert half(row + fold, col) == half(row, col + fold) == 1 - half(row, col)
    assert half(row + fold, col + fold) == half(row, col)
    assert half(row - row % fold, col - col % fold) == half(row, col)  # the same in all of a square


def test_the_half_of_a_tile_is_a_rule_of_its_place_alone() -> None:
    rows, cols = np.divmod(np.arange(100), 10)
    some = np.array([3, 97, 20, 55])
    assert half_of(rows[some], cols[some], 3).tolist() == half_of(rows, cols, 3)[some].tolist()


def test_the_two_halves_have_the_same_size_on_a_square_of_even_side() -> None:
    rows, cols = (index.ravel() for index in np.indices((16, 16)))
    assert half_of(rows, cols, 4).mean() == 0.5


@pytest.mark.parametrize("half", [0, 1])
def test_no_tile_is_judged_by_detectors_that_were_fitted_on_its_half(half: int) -> None:
    rows, halves = tables(), checkerboard()
    raw = fit_jury(MEMBERS, rows, halves, seed=0).raw_scores(rows, halves)
    rng = np.random.default_rng(5)
    changed = {name: np.where((halves == half)[:, None], 100 * rng.normal(size=table.shape), table) for name, table in rows.items()}
    again = fit_jury(MEMBERS, {name: table.astype(np.float32) for name, table in changed.items()}, halves, seed=0)
    mine = halves == half
    np.testing.assert_array_equal(again.raw_scores(rows, halves)[mine], raw[mine])
    assert not np.isclose(again.raw_scores(rows, halves)[~mine], raw[~mine]).all(axis=1).any()


def test_a_training_tile_is_not_its_own_neighbour() -> None:
    rows, halves = tables(), checkerboard()
    members = (Member(name="knn", params={"k": 1}),)
    assert (fit_jury(members, rows, halves, seed=0).raw_scores(rows, halves) > 0).all()


def test_each_member_scores_its_own_table_as_a_detector_fitted_on_the_other_half_does() -> None:
    rows, halves = tables(), checkerboard()
    raw = fit_jury(MEMBERS, rows, halves, seed=0).raw_scores(rows, halves)
    for m, member in enumerate(MEMBERS):
        for half in (0, 1):
            judge = make_detector(member)
            judge.fit(rows[member.input][halves != half], 0)
            np.testing.assert_array_equal(raw[halves == half, m], judge.score(rows[member.input][halves == half]))


def test_scores_do_not_depend_on_how_the_tiles_are_grouped() -> None:
    rows, halves = tables(), checkerboard()
    jury = fit_jury(MEMBERS, rows, halves, seed=0)
    whole = jury.raw_scores(rows, halves)
    parts = [jury.raw_scores({name: table[i : i + 7] for name, table in rows.items()}, halves[i : i + 7]) for i in range(0, N, 7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-9)


def test_more_rows_than_a_chunk_holds_are_all_scored() -> None:
    rows = {"embedding": np.tile(tables()["embedding"][:2], (CHUNK_ROWS + 1, 1))}
    halves = np.zeros(len(rows["embedding"]), np.int64)
    reference = {"embedding": tables()["embedding"]}
    scores = fit_jury(MEMBERS[1:], reference, checkerboard(), seed=0).raw_scores(rows, halves)
    assert len(np.unique(scores)) == 2
    assert np.isfinite(scores).all()


def test_the_names_of_the_jury_are_those_of_its_members_in_order() -> None:
    assert fit_jury(MEMBERS, tables(), checkerboard(), seed=0).names == ("knn", "ecod")


def test_a_detector_may_vote_twice_under_two_titles() -> None:
    rows, halves = tables(), checkerboard()
    members = Detect(members=(Member(name="knn"), Member(name="knn", label="far", params={"k": 20}))).members
    jury = fit_jury(members, rows, halves, seed=0)
    assert jury.names == ("knn", "far")
    raw = jury.raw_scores(rows, halves)
    np.testing.assert_array_equal(raw[:, :1], fit_jury(members[:1], rows, halves, seed=0).raw_scores(rows, halves))
    assert (raw[:, 1] > raw[:, 0]).all()


def test_an_unknown_member_or_parameter_is_a_config_error() -> None:
    for member, near in [(Member(name="lov"), "lof"), (Member(name="knn", params={"whitn": True}), "whiten")]:
        with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
            fit_jury((member,), tables(), checkerboard(), seed=0)


def test_the_default_members_are_built_from_the_default_settings() -> None:
    members, rows = Config().detect.members, dict[str, "NDArray[np.floating]"](tables())
    rows["windows"] = np.random.default_rng(0).normal(size=(N, 4, 4, 6))
    raw = fit_jury(members, rows, checkerboard(), seed=0).raw_scores(rows, checkerboard())
    assert raw.shape == (N, len(members))


def test_the_members_are_joined_by_the_weighted_mean_square_of_their_decades() -> None:
    raw = np.random.default_rng(0).exponential(size=(500, 3))
    verdicts = fit_ensemble(raw, np.array([1.0, 2.0, 3.0]), Calibrate()).judge(raw)
    wanted = [sum((weight * np.log10(p)) ** 2 for weight, p in zip((1, 2, 3), row, strict=True)) / 3 for row in verdicts.member_p]
    np.testing.assert_allclose(verdicts.statistic**2, wanted)
    order = np.argsort(verdicts.statistic)
    assert (np.diff(verdicts.p_value[order]) <= 0).all()


def test_joint_p_values_are_uniform_even_when_the_members_say_the_same() -> None:
    def agreeing(seed: int) -> NDArray[np.float64]:
        score = np.random.default_rng(seed).exponential(size=3000)
        return np.column_stack([score, score**2, 5 * score])

    p = fit_ensemble(agreeing(0), np.ones(agreeing(0).shape[1]), Calibrate()).judge(agreeing(1)).p_value
    assert kstest(p, "uniform").pvalue > 0.01


def test_a_member_may_change_its_units_without_changing_the_verdict() -> None:
    raw = np.random.default_rng(0).exponential(size=(800, 2))
    one, other = (fit_ensemble(table, np.ones(2), Calibrate()).judge(table) for table in (raw, raw * [1.0, 1e4] + [0.0, 50.0]))
    np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-3)


def test_a_tile_that_all_members_find_strange_is_stranger_than_one_that_one_member_does() -> None:
    raw = np.random.default_rng(0).exponential(size=(800, 2))
    p = fit_ensemble(raw, np.ones(raw.shape[1]), Calibrate()).judge(np.array([[9.0, 9.0], [9.0, 0.5], [0.5, 0.5]])).p_value
    assert p[0] < p[1] < p[2]
