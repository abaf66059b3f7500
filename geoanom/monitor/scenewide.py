"""What is learned of a look and its memory from cells spread over the whole scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.departure import Yardstick, fit_yardstick
from geoanom.monitor.descriptor import n_bands_of
from geoanom.monitor.guards import Condition, condition_of
from geoanom.monitor.light import Light, light_of
from geoanom.monitor.memory import remember, season_of
from geoanom.monitor.past import Remembered, day_of, features_of
from geoanom.monitor.robust import median

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.monitor.settings import Rules

    Floats = NDArray[np.float32]

SAMPLED_CELLS = 2_000
LEAST_LEARNED = 20
"""Cells with a memory below which a look is not judged."""
CANDIDATES = 0.9
"""Only cells that depart more than this share are asked whether they looked like this before."""
GUARDED_CELLS = 1_000
"""Cells by which each look is compared with all others."""


@dataclass(frozen=True, kw_only=True)
class Era:
    """What a look is like all over, compared with looks between which nothing changed all over for good."""

    now: Condition
    before: tuple[Condition, ...]
    """Of these looks, those of the season if they are enough."""


@dataclass(frozen=True, kw_only=True)
class Scenewide:
    """How a look and the looks before it differ all over, and how far cells may."""

    n_bands: int
    lights: tuple[Light, ...]
    """Of each remembered look."""
    light: Light
    """Of the look itself, once those of the others are removed."""
    yardstick: Yardstick
    score_spread: float
    """Robust deviation over the scene of how much the model's score differs from its memory; NaN where it is not known."""
    candidate: float
    """Mean length from which on cells are asked whether they looked like this before."""
    eras: tuple[Era, ...]
    """Compared with the looks since the place was last changed all over, and with those before; at least one."""

    def removed(self, stack: Floats) -> Floats:
        """Remembered looks (look, cell, feature) in one light."""
        parts = [light.removed(part) for light, part in zip(self.lights, stack, strict=True)]
        return np.stack(parts) if parts else stack


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Cells (cell,) spread evenly over a look."""

    now: Floats
    """(cell, feature)."""
    stack: Floats
    """(look, cell, feature)."""
    allowed: NDArray[np.bool_]
    """(look, cell)."""


def learn_scene(remembered: Remembered, rules: Rules, least: NDArray[np.float32]) -> Scenewide | None:
    """Learn what the whole scene shows; None where too few cells have a memory."""
    cells = remembered.look.cells
    n_bands, day = n_bands_of(cells.descriptor.shape[-1]), day_of(remembered.look.moment)
    sample = _sampled(remembered, least)
    usual = median(sample.stack[remembered.is_usual])
    lights = tuple(light_of(part[:, :-1], usual[:, :-1], n_bands) for part in sample.stack)
    stack = np.stack([light.removed(part) for light, part in zip(lights, sample.stack, strict=True)]) if lights else sample.stack
    memory = remember(stack, sample.allowed, remembered.days, day, rules)
    known = memory.learned & np.isfinite(sample.now[:, 0])
    if known.sum() < LEAST_LEARNED:
        return None
    light = light_of(sample.now[known, :-1], memory.location[known, :-1], n_bands)
    away = light.removed(sample.now[known]) - memory.location[known]
    yardstick = fit_yardstick(away[:, :-1], memory.scale[known, :-1], memory.n[known], n_bands)
    lengths = yardstick.lengths(away[:, :-1], memory.scale[known, :-1], memory.n[known]).mean(axis=1)
    eras = [_era(sample, stack, looks, n_bands) for looks in _looks_of_eras(remembered, day, rules)]
    told = tuple(era for era in eras if era is not None)
    if not told:
        return None
    return Scenewide(
        n_bands=n_bands,
        lights=lights,
        light=light,
        yardstick=yardstick,
        score_spread=_spread(away[:, -1]),
        candidate=float(np.quantile(lengths, CANDIDATES)),
        eras=told,
    )


def _sampled(remembered: Remembered, least: NDArray[np.float32]) -> _Sample:
    """Every so manieth visible cell, read band by band."""
    cells = remembered.look.cells
    now = features_of(cells, least)
    places = np.flatnonzero(np.isfinite(now[..., 0]))
    chosen = np.zeros(cells.valid.size, bool)
    chosen[places[:: max(1, -(-len(places) // SAMPLED_CELLS))]] = True
    wanted = chosen.reshape(cells.valid.shape)
    n_looks = len(remembered.entries)
    stacks, allowed = [np.empty((n_looks, 0, now.shape[-1]), np.float32)], [np.empty((n_looks, 0), bool)]
    for band in remembered.bands(now.shape[-1]):
        stacks.append(remembered.stack(band, least[band])[:, wanted[band]])
        allowed.append(remembered.allowed(band)[:, wanted[band]])
    return _Sample(now=now[wanted], stack=np.concatenate(stacks, axis=1), allowed=np.concatenate(allowed, axis=1))


def _looks_of_eras(remembered: Remembered, day: float, rules: Rules) -> Iterator[NDArray[np.int64]]:
    """Remembered looks of the newest era, and of the time before if they are enough to tell; of each those of the season if enough."""
    newest, of_season = remembered.is_newest, season_of(remembered.days, day, rules.season)
    for era, least in ((remembered.is_usual & newest, 0), (remembered.is_usual & ~newest, rules.min_history)):
        if era.sum() >= least:
            yield np.flatnonzero(era & of_season if (era & of_season).sum() >= rules.min_history else era)


def _era(sample: _Sample, stack: Floats, looks: NDArray[np.int64], n_bands: int) -> Era | None:
    """The look against some looks, and each of these against the others; None where it cannot be told."""
    thin = slice(None, None, max(1, -(-len(sample.now) // GUARDED_CELLS)))
    now = _condition(sample.now[thin], stack[looks][:, thin], n_bands)
    if now is None:
        return None
    others = ((look, stack[looks[looks != look]][:, thin]) for look in looks)
    found = [_condition(sample.stack[look][thin], rest, n_bands) for look, rest in others if len(rest)]
    return Era(now=now, before=tuple(condition for condition in found if condition is not None))


def _condition(now: Floats, others: Floats, n_bands: int) -> Condition | None:
    """None where too few cells are visible in both."""
    usual = median(others[..., :n_bands])
    known = np.isfinite(now[:, 0]) & np.isfinite(usual[:, 0])
    if known.sum() < LEAST_LEARNED:
        return None
    light = light_of(now[known, : 2 * n_bands], np.concatenate([usual, usual], axis=1)[known], n_bands)
    return condition_of(now[known, :n_bands], others[:, known, :n_bands], light)


def _spread(away: Floats) -> float:
    known = away[np.isfinite(away)].astype(np.float64)
    return float(np.median(np.abs(known - np.median(known))) * 1.4826) if len(known) else float("nan")
