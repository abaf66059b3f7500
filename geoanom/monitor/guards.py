"""Is a whole look to be trusted? Haze, a sensor, a wrong place or a new calibration change everything at once, and things do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.light import GAINS
from geoanom.monitor.robust import NORMAL_MAD, centre_and_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoanom.monitor.light import Light
    from geoanom.monitor.settings import Rules

    Floats = NDArray[np.float32]

LEAST_SPREAD = 3
"""Looks from which a spread can be told."""

ROUNDING = 1e-5
"""Share of the values that is taken for their rounding."""
FAR = 3.0
"""Deviations of its own by which a cell departs to be counted."""
FEW = 2.0
"""With so many looks an allowance is twice what it is with many."""
UNUSUAL = 5.0
"""Robust deviations beyond the looks so far."""
CONTRAST = np.log(1.6)
"""Contrast may grow or shrink by so much in any scene."""
JUMP = 1.5
"""Brightness may move by so many deviations over the scene."""
LOST = 0.3
"""Correlation with the memory that may be lost."""
SHARE = 0.25
"""Share of the cells that may depart."""
TIMES = 2.0
"""The usual departure may be so many times that of the looks so far."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a look is like all over, compared with its memory."""

    log_contrast: tuple[float, ...]
    """(band,) logarithm of the contrast."""
    jump: tuple[float, ...]
    """(band,) change of brightness, in deviations over the scene."""
    correlation: float
    """Of the cells' means with their memory, the median over the bands."""
    share: float
    """Of the cells that depart by more than `FAR`, once the light is removed; NaN with too few looks to tell."""
    departure: float
    """Median over the cells, in deviations of their own."""


def condition_of(now: Floats, others: Floats, light: Light) -> Condition:
    """What a look is like, compared with other looks.

    Args:
        now: (cell, band) means; NaN where not visible.
        others: (look, cell, band) in one light; at least one.
        light: of the look against the others.
    """
    centre, spread = centre_and_spread(others)
    known = np.isfinite(now[:, 0]) & np.isfinite(centre[:, 0])
    gain = np.clip(light.gain, *GAINS)
    floor = np.maximum(np.median(spread[known], axis=0), ROUNDING * (1 + np.abs(centre[known]).max(axis=0)))
    away = ((now[known] - light.offset) / gain - centre[known]) / np.maximum(spread[known], floor)
    sigmas = np.sqrt(np.mean(np.square(away), axis=1))
    told = len(others) >= LEAST_SPREAD
    return Condition(
        log_contrast=tuple(np.log(np.maximum(light.contrast, 1e-3)).tolist()),
        jump=tuple(light.jump.tolist()),
        correlation=float(np.median(light.correlation)),
        share=float(np.mean(sigmas > FAR)) if told else float("nan"),
        departure=float(np.median(sigmas)) if told else float("nan"),
    )


def suspicion(now: Condition, before: Sequence[Condition], rules: Rules, bands: Sequence[str]) -> str | None:
    """Why a look is not to be trusted, in plain words; None where nothing speaks against it.

    Each figure may leave its usual value by an allowance, which is larger while the looks are few, or by `UNUSUAL` robust deviations of the
    looks so far, whichever is more.

    Args:
        now: the look.
        before: looks that were trusted; with fewer than the least history nothing is said.
        rules: of the monitor.
        bands: their names.
    """
    if len(before) < rules.min_history:
        return None
    found = [
        *(_contrast(now, before, band, name) for band, name in enumerate(bands)),
        *(_jump(now, before, band, name) for band, name in enumerate(bands)),
        _fit(now, before),
        _share(now, before),
        _departure(now, before),
    ]
    said = [reason for reason in found if reason]
    return "; ".join(said[:3]) if said else None


def _contrast(now: Condition, before: Sequence[Condition], band: int, name: str) -> str | None:
    usual, limit = _limit([c.log_contrast[band] for c in before], CONTRAST)
    away = now.log_contrast[band] - usual
    if abs(away) <= limit:
        return None
    return f"the contrast of {name} is {np.exp(away):.2g} times what it was: haze, shadow or another calibration"


def _jump(now: Condition, before: Sequence[Condition], band: int, name: str) -> str | None:
    usual, limit = _limit([c.jump[band] for c in before], JUMP)
    away = now.jump[band] - usual
    if abs(away) <= limit:
        return None
    said = "brighter" if away > 0 else "darker"
    return f"{name} is {said} all over by {abs(away):.1f} deviations of the scene: haze, light or another calibration"


def _fit(now: Condition, before: Sequence[Condition]) -> str | None:
    usual, limit = _limit([c.correlation for c in before], LOST)
    if now.correlation >= usual - limit:
        return None
    return f"the scene hardly resembles its memory (correlation {now.correlation:.2f} instead of {usual:.2f}): clouds, or a wrong place"


def _share(now: Condition, before: Sequence[Condition]) -> str | None:
    usual, limit = _limit([c.share for c in before], SHARE)
    if not now.share > usual + limit:  # nor where it cannot be told
        return None
    return f"{now.share:.0%} of the cells depart from their memory, {usual:.0%} are usual: clouds, snow, or a bad sensor"


def _departure(now: Condition, before: Sequence[Condition]) -> str | None:
    usual, limit = _limit([c.departure for c in before], 0.0)
    if not now.departure > usual + max(limit, TIMES * max(usual, 1.0)):
        return None
    return f"cells depart {now.departure / max(usual, 1e-9):.1f} times as far as usual all over: a bad sensor, or a shifted scene"


def _limit(values: list[float], allowance: float) -> tuple[float, float]:
    """What is usual, and how far from it one may be; few looks have not seen all that light can do."""
    usual = float(np.median(values))
    spread = NORMAL_MAD * float(np.median(np.abs(np.array(values) - usual)))
    return usual, max(allowance * (1 + FEW / len(values)), UNUSUAL * spread)
