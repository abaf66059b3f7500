"""Which cells have really changed: decades of three members, smoothed a little, calibrated on the look itself, and called by their FDR.

With fewer than `FEW_CELLS` cells nothing can be calibrated. The lengths are then taken for what they would be if the features were
normal: squares that follow an F distribution, as the scales were learned from a few looks; the least p of the members counts, times
their number (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation, convolve
from scipy.optimize import brentq
from scipy.stats import f as f_distribution
from scipy.stats import gamma

from geoanom.change.decades import fit_rarity
from geoanom.config import Calibrate
from geoanom.detect.calibrate import SMALLEST_P, fit_calibrator
from geoanom.detect.threshold import q_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.monitor.areas import Areas
    from geoanom.monitor.judging import Departures

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

CALIBRATE = Calibrate(tail_fraction=0.2, trim_fraction=0.05)
"""Nearer to the tail than for scenes of one date, as few cells change."""
WIDE = Calibrate(tail_fraction=0.4, trim_fraction=0.2)
"""For looks in which many do: beyond a quarter of the cells the scene is suspect."""
QUANTILES = (0.5, 0.8)
SHAPES = (0.3, 300.0)
FEW_CELLS = 200
AROUND = np.array([[0.5, 1.0, 0.5], [1.0, 4.0, 1.0], [0.5, 1.0, 0.5]])
"""Weights of a cell and its neighbours: things seldom end at the border of a cell."""
COMPANY = 3.0
"""A called cell has a neighbour whose q is at most so many times the rate, or"""
ALONE = 10.0
"""its p is so many times below what the rate asks for: a cell alone is a speck unless it is sure."""
CLEAR_CELLS = 5
"""Side, in cells, of the square in which nothing may be hidden where an alert begins: haze lies about clouds farther than their masks."""
CLEAR_SHARE = 0.25
"""Share of what has ever been visible that must be so for anything to be news in a look."""
SUPPORT_P = 0.01
"""The model's score counts as a second witness up to this p."""


@dataclass(frozen=True, kw_only=True)
class Called:
    """What is said of the cells of a look."""

    p_value: Floats
    """(row, col); NaN where not judged."""
    called: Flags
    """(row, col)."""
    supported: Flags
    """(row, col) does the model's score say so, too?"""


def called_cells(departures: Departures, numbers: NDArray[np.int32], frozen: Flags, visible: Flags, areas: Areas) -> Called:
    """Call cells.

    The cells of each area are a family of tests of its own, and so are those of its open alerts: whether a thing is still there is asked of
    few cells, so that it is found with less evidence than it took to find it first.

    Args:
        departures: of all cells.
        numbers: (row, col) area of each cell, negative where none is.
        frozen: (row, col) cells of open alerts.
        visible: (row, col) cells of which enough is usable.
        areas: their rules.
    """
    p = p_values(departures, frozen)
    families = ((~frozen & _clear_around(visible, departures.ever), True), (frozen, False))
    called = np.zeros(p.shape, bool)
    for number in np.unique(numbers[numbers >= 0]):
        fdr = areas.rules_of(int(number)).fdr
        for cells, company in families:
            called |= _called(p, (numbers == number) & np.isfinite(p) & cells, fdr, company=company)
    return Called(p_value=p, called=called, supported=_supported(departures))


def p_values(departures: Departures, frozen: Flags) -> Floats:
    """(row, col) how probable such a departure is where nothing has changed; what open alerts (row, col) show says nothing of that."""
    learned = departures.learned
    found = np.full(learned.shape, np.nan)
    usual = ~frozen[learned]
    if usual.sum() < FEW_CELLS:
        found[learned] = _by_theory(departures.lengths[learned], departures)
        return found
    members = [fit_rarity(column[usual], CALIBRATE)(column) for column in departures.lengths[learned].T]
    combined = np.zeros(learned.shape)
    combined[learned] = np.mean(members, axis=0)
    statistic = _exponential(_smoothed(combined, learned)[learned], usual)
    each = [fit_calibrator(statistic[usual], settings).p_value(statistic) for settings in (CALIBRATE, WIDE)]
    found[learned] = np.clip(len(each) * np.min(each, axis=0), SMALLEST_P, 1.0)  # Bonferroni
    return found


def _clear_around(visible: Flags, ever: Flags) -> Flags:
    """(row, col) where an alert may begin: what no look (row, col) has ever shown is the edge of the scenes and hides nothing."""
    if not ever.any() or visible[ever].mean() < CLEAR_SHARE:
        return np.zeros_like(visible)
    return np.asarray(visible & ~binary_dilation(ever & ~visible, np.ones((CLEAR_CELLS, CLEAR_CELLS), bool)))


def _exponential(sums: Floats, usual: Flags) -> Floats:
    """Sums of decades (n,) as decades again, learned from those (n,) that are usual.

    Where nothing has changed a decade is exponential and a sum of them gamma distributed, also of dependent ones, nearly (Brown 1975,
    doi:10.2307/2529826). Its shape and scale are told by two quantiles, which what has changed does not reach.
    """
    middle, upper = np.quantile(sums[usual], QUANTILES)
    if middle <= 0 or upper <= middle:
        return sums
    wanted = np.clip(np.log(upper / middle), _log_ratio(SHAPES[1]), _log_ratio(SHAPES[0]))
    ends = float(np.log(SHAPES[0])), float(np.log(SHAPES[1]))
    shape = np.exp(brentq(lambda log_shape: _log_ratio(float(np.exp(log_shape))) - wanted, ends[0], ends[1]))
    scale = middle / gamma.ppf(QUANTILES[0], shape)
    return np.asarray(-gamma.logsf(sums / scale, shape) / np.log(10))


def _log_ratio(shape: float) -> float:
    """Of the two quantiles of a gamma distribution."""
    lower, upper = (float(gamma.ppf(quantile, shape)) for quantile in QUANTILES)
    return float(np.log(upper / lower))


def _smoothed(values: Floats, known: Flags) -> Floats:
    """Averaged with the neighbours; what is not known counts as usual, as means of fewer cells would be more often far from it."""
    filled = np.where(known, values, np.median(values[known]))
    return np.asarray(convolve(filled, AROUND / AROUND.sum(), mode="constant", cval=float(np.median(values[known]))))


def _by_theory(lengths: Floats, departures: Departures) -> Floats:
    n_bands = departures.sigma.shape[-1]
    freedom = np.maximum(departures.n[departures.learned].astype(float) - 1, 1)
    sizes = (n_bands, n_bands, 24)
    each = [f_distribution.sf(lengths[:, member] ** 2, size, freedom) for member, size in enumerate(sizes)]
    return np.asarray(np.clip(np.min(each, axis=0) * len(sizes), SMALLEST_P, 1.0))


def _called(p: Floats, family: Flags, fdr: float, *, company: bool) -> Flags:
    """The cells of a family that are called; new ones are not called alone unless they are sure."""
    q = np.full(p.shape, np.inf)
    q[family] = q_values(p[family])
    called = q <= fdr
    if not company or not called.any():
        return called
    near = np.minimum(q, 1e9) <= COMPANY * fdr
    others = convolve(near.astype(int), np.ones((3, 3), int), mode="constant") - near
    needed = fdr * called.sum() / family.sum()
    return np.asarray(called & ((others > 0) | (p <= needed / ALONE)))


def _supported(departures: Departures) -> Flags:
    known = departures.learned & np.isfinite(departures.scored)
    found = np.zeros(known.shape, bool)
    if known.sum() >= FEW_CELLS:
        scores = departures.scored[known].astype(np.float64)
        found[known] = fit_calibrator(scores, CALIBRATE).p_value(scores) <= SUPPORT_P
    return found
