"""What is usual at a place at a time of the year, told by the looks at it so far.

The location is a median and the scale a median absolute deviation: one look through a thin cloud does not move them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.robust import centre_and_spread, spread_about

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.monitor.settings import Rules

    Floats = NDArray[np.float32]
    Flags = NDArray[np.bool_]

YEAR_DAYS = 365.2425
HARMONIC_LOOKS = 8
HARMONIC_ROUNDS = 3
HUBER = 1.5
"""Residuals beyond so many deviations are drawn in (Huber 1981, section 7.8: pseudo-values)."""
RIDGE = 0.5
"""Looks' worth of doubt in an amplitude: dates that crowd in one season do not tell of the others."""
FITTED_VALUES = 2_000_000
"""Features of all looks together that harmonics are fitted to at once."""
BETTER = 0.9
"""A harmonic must leave less than this share of the scale to be worth its two amplitudes."""
MEDIAN_DOUBT = np.pi / 2
"""Variance of a median, in units of that of a mean."""
KINDS = ("", "season", "all", "year")
LEARNING, SEASON, ALL, YEAR = range(4)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What some cells usually look like on a day."""

    location: Floats
    """(cell, feature); NaN where nothing is known."""
    scale: Floats
    """(cell, feature) robust standard deviation of the next look about the location, what is unknown of the location included."""
    n: NDArray[np.int64]
    """(cell,) looks that it stands on."""
    kind: NDArray[np.int8]
    """(cell,) LEARNING where they are too few; SEASON, ALL, or YEAR where a harmonic tells most of its features."""
    used: Flags
    """(look, cell) the looks that it stands on."""

    @property
    def learned(self) -> Flags:
        """(cell,) has enough been seen for anything to be news?"""
        return np.asarray(self.kind != LEARNING)


def remember(stack: Floats, allowed: Flags, days: NDArray[np.float64], day: float, rules: Rules) -> Memory:
    """The memory of some cells on a day.

    Args:
        stack: (look, cell, feature) NaN where a cell was not visible.
        allowed: (look, cell) may the look be remembered there?
        days: (look,) of the looks, counted in days from anywhere.
        day: for which it is asked.
        rules: least number of looks, and the length of a season.
    """
    seen = allowed & np.isfinite(stack[..., 0])
    used, seasonal = _season_or_all(seen, days, day, rules)
    values = np.where(used[..., None], stack, np.float32(np.nan))
    location, scale = centre_and_spread(values)
    n = used.sum(axis=0)
    n_values = np.isfinite(values).sum(axis=0)
    scale = scale * np.sqrt(1 + MEDIAN_DOUBT / np.maximum(n_values, 1)).astype(np.float32)
    kind = np.where(n < rules.min_history, LEARNING, np.where(seasonal, SEASON, ALL)).astype(np.int8)
    location = np.where(n_values < rules.min_history, np.float32(np.nan), location)
    plain = Memory(location=location, scale=scale, n=n, kind=kind, used=used)
    return plain if rules.season is None else _with_harmonics(plain, stack, seen, days, day)


def season_of(days: NDArray[np.float64], day: float, season: int | None) -> Flags:
    """(look,) those of the same time of the year; all where there are no seasons."""
    away = np.abs((days - day + YEAR_DAYS / 2) % YEAR_DAYS - YEAR_DAYS / 2)
    return away <= (np.inf if season is None else season)


def _season_or_all(seen: Flags, days: NDArray[np.float64], day: float, rules: Rules) -> tuple[Flags, Flags]:
    """(look, cell) the looks to stand on, and (cell,) whether they are those of the season."""
    of_season = seen & season_of(days, day, rules.season)[:, None]
    enough = (of_season.sum(axis=0) >= rules.min_history) & (rules.season is not None)
    return np.where(enough, of_season, seen), enough


def _with_harmonics(plain: Memory, stack: Floats, seen: Flags, days: NDArray[np.float64], day: float) -> Memory:
    """The memory with a constant and an annual wave where these tell more, feature by feature."""
    first = np.where(seen, days[:, None], np.inf).min(axis=0, initial=np.inf)
    last = np.where(seen, days[:, None], -np.inf).max(axis=0, initial=-np.inf)
    able = np.flatnonzero(plain.learned & (seen.sum(axis=0) >= HARMONIC_LOOKS) & (last - first > YEAR_DAYS))
    changed = replace(plain, location=plain.location.copy(), scale=plain.scale.copy(), kind=plain.kind.copy(), n=plain.n.copy())
    for cells in np.array_split(able, 1 + len(able) * len(stack) * stack.shape[2] // FITTED_VALUES):
        location, scale = _harmonic(stack[:, cells], seen[:, cells], days, day)
        better = np.isfinite(scale) & (scale < BETTER * plain.scale[cells]) & np.isfinite(plain.location[cells])
        changed.location[cells] = np.where(better, location, plain.location[cells])
        changed.scale[cells] = np.where(better, scale, plain.scale[cells])
        mostly = cells[better.mean(axis=1) > 0.5]
        changed.kind[mostly], changed.n[mostly] = YEAR, seen[:, mostly].sum(axis=0)
    return changed


def _harmonic(stack: Floats, seen: Flags, days: NDArray[np.float64], day: float) -> tuple[Floats, Floats]:
    """Location and scale (cell, feature) on a day by a constant, a sine and a cosine of the year, fitted robustly."""
    terms, now = _terms(days), _terms(np.array([day]))[0]
    weight = seen.T.astype(np.float64)
    inverse = np.linalg.inv((weight[:, None] * terms.T) @ terms + np.diag([0.0, RIDGE, RIDGE]))
    onto = ((inverse @ terms.T) * weight[:, None]).astype(np.float32)
    gaps = ~seen.T[..., None]
    values = np.ascontiguousarray(np.moveaxis(stack, 0, 1))
    pseudo = np.where(gaps, np.float32(0), values)
    n = np.broadcast_to(seen.sum(axis=0)[:, None], stack.shape[1:])
    for _ in range(HARMONIC_ROUNDS):
        fitted = onto @ pseudo
        told = terms.astype(np.float32) @ fitted
        away = np.where(gaps, np.float32(np.nan), values - told)
        spread = np.maximum(spread_about(np.moveaxis(away, 1, 0), n), np.float32(1e-12))
        limit = HUBER * spread[:, None]
        pseudo = np.where(gaps, np.float32(0), told + np.clip(away, -limit, limit))
    doubt = np.einsum("t,ctu,u->c", now, inverse, now)
    freedom = n / np.maximum(n - terms.shape[1], 1)
    scale = spread * np.sqrt(freedom * (1 + MEDIAN_DOUBT * doubt)[:, None])
    return np.asarray(now.astype(np.float32) @ fitted), scale.astype(np.float32)


def _terms(days: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = 2 * np.pi * days / YEAR_DAYS
    return np.column_stack([np.ones_like(angle), np.sin(angle), np.cos(angle)])
