"""Have the scenes moved away from what the model was fitted on?

Two signs, both of the newest looks. The figure is how far what cells look like has moved: for each feature of the descriptor the first
Wasserstein distance between the distributions over the cells then and now (Vallender 1974, doi:10.1137/1118101), in units of the spread
then (1.4826 MAD over cells and looks), and over the features the mean. A feature whose values all moved by their own spread gives 1. Where
the reference has enough looks of the same season only these are compared, so that winter is not a drift. The other sign is the share of
cells to which the model gives p < 0.01, which is 0.01 while its calibration holds.

Besides, a model scores its golden tiles whenever it is loaded (`geoanom.model.bundle.load_model`), and is refused if they come out
otherwise: libraries or a machine that compute other numbers never reach the looks.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from geoanom.monitor.store import Store
    from geoanom.monitor.store.looks import LookEntry

LIMIT = 1.0
"""Above this mean distance a new fit is recommended."""
INFLATION_LIMIT = 10.0
"""Above this many times the expected share of unusual cells, too."""
NEWEST = 4
"""Looks that are compared."""
REFERENCE = 8
"""First looks that stand for the fit where the fitted ones are not in the store."""
LEAST = 3
"""Looks of one season that are enough to compare with."""
SEASON_DAYS = 45
CELLS = 2000
"""Cells of a look that are compared, evenly chosen."""
UNUSUAL = 2.0
"""Decades of p."""
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the newest looks are from the reference."""

    distance: float
    """Mean over the features, in spreads of the reference."""
    worst: float
    """Of the feature that moved most."""
    inflation: float | None
    """Share of cells with p < 0.01 over 0.01; None where nothing is scored."""
    newest: str
    """Acquisition of the newest look that was compared."""
    n_reference: int
    """Looks of the reference."""
    n_compared: int

    @property
    def refit(self) -> bool:
        """Is a new fit recommended?"""
        return self.distance > LIMIT or (self.inflation or 0.0) > INFLATION_LIMIT

    def as_json(self) -> dict[str, Any]:
        """For the store's facts and for machines."""
        return {**asdict(self), "limit": LIMIT, "inflation_limit": INFLATION_LIMIT, "refit": self.refit}


def drift_of(store: Store, fitted: Collection[str]) -> Drift | None:
    """Compare the newest looks with the first ones; None where there are not enough of them.

    Args:
        store: with the looks and their cells.
        fitted: digests of the looks that the model was fitted on.
    """
    kept = [entry for entry in store.entries() if entry.state == "used" and entry.moment >= store.horizon]
    reference = [entry for entry in kept if entry.digest in fitted] or kept[:REFERENCE]
    known = {entry.digest for entry in reference}
    newest = [entry for entry in kept if entry.digest not in known and entry.moment > reference[-1].moment][-NEWEST:] if reference else []
    if not newest or len(reference) < LEAST:
        return None
    reference = _of_season(reference, newest[-1])
    then, _ = _sample(store, reference)
    now, scores = _sample(store, newest)
    if not len(then) or not len(now):
        return None
    moved = distances(then, now)
    inflation = float((scores > UNUSUAL).mean() / 10**-UNUSUAL) if len(scores) else None
    return Drift(
        distance=_rounded(float(moved.mean())),
        worst=_rounded(float(moved.max())),
        inflation=None if inflation is None else _rounded(inflation),
        newest=newest[-1].moment,
        n_reference=len(reference),
        n_compared=len(newest),
    )


def distances(then: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each feature of cells (cell, feature) has moved, in its spread then; a feature that had none and has not moved is left at 0.

    Raises:
        ConfigError: the features are not the same.
    """
    from scipy.stats import wasserstein_distance  # half a second, which a pass without news has no use for

    if then.shape[1] != now.shape[1]:
        raise ConfigError("drift", f"looks of {then.shape[1]} and of {now.shape[1]} features cannot be compared", "begin with a new store")
    middle = np.median(then, axis=0)
    spread = MAD_TO_SIGMA * np.median(np.abs(then - middle), axis=0)
    floor = np.finfo(np.float32).eps * np.maximum(1.0, np.abs(middle))
    moved = np.array([wasserstein_distance(a, b) for a, b in zip(then.T, now.T, strict=True)])
    found: NDArray[np.float64] = moved / np.maximum(spread, floor)
    return np.where(moved <= floor, 0.0, np.minimum(found, 1e6))


def words(drift: Drift) -> str:
    """For people, on one line."""
    cells = "" if drift.inflation is None else f", and {drift.inflation:.3g} times as many unusual cells as were expected"
    advice = "; fit a new model, and watch by it with a new store" if drift.refit else ""
    return f"{drift.distance:.2f} of the spread at the fit (limit {LIMIT:g}){cells}{advice}"


def drift_from(tree: dict[str, Any] | None) -> Drift | None:
    """From what the store's facts hold."""
    return None if not tree else Drift(**{name: tree[name] for name in Drift.__dataclass_fields__})


def _of_season(reference: Sequence[LookEntry], newest: LookEntry) -> list[LookEntry]:
    alike = [entry for entry in reference if _days_apart(entry.moment, newest.moment) <= SEASON_DAYS]
    return alike if len(alike) >= LEAST else list(reference)


def _days_apart(one: str, other: str) -> int:
    """Days of the year between two moments, the shorter way round."""
    days = [dt.datetime.fromisoformat(moment).timetuple().tm_yday for moment in (one, other)]
    apart = abs(days[0] - days[1])
    return min(apart, 365 - apart)


def _sample(store: Store, entries: Sequence[LookEntry]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Descriptors (cell, feature) and scores (cell,) of evenly chosen cells."""
    descriptors, scores = [], []
    for entry in entries:
        cells = store.read_cells(entry.digest)
        known = cells.descriptor[np.isfinite(cells.descriptor).all(axis=2)]
        descriptors.append(known[:: max(1, len(known) // CELLS)].astype(np.float64))
        scores.append(cells.score[np.isfinite(cells.score)].astype(np.float64))
    return np.concatenate(descriptors), np.concatenate(scores)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
