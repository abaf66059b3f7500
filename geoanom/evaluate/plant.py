"""Planting of synthetic anomalies in copies of real scenes, so that it is known what is there to be found.

Real scenes hold real anomalies that nobody has labelled. A plant has a kind, a size and a mask to the pixel; who finds plants
and how well they are outlined can be measured on any scene.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude

from geoanom.evaluate.plants import MARGIN_PX, Donor, Site, erased, fault, foreign, object_, spectral

if TYPE_CHECKING:
    from numpy.typing import NDArray

Maker = Callable[[Site], tuple["NDArray[np.float64]", "NDArray[np.bool_]"] | None]

MAKERS: Mapping[str, Maker] = {"foreign": foreign, "object": object_, "fault": fault, "erased": erased, "spectral": spectral}
"""What draws each kind."""
SIZES_PX: Mapping[str, tuple[int, ...]] = {
    "foreign": (24, 48, 64),
    "object": (8, 12, 20),
    "fault": (24, 48, 64),
    "erased": (24, 48, 64),
    "spectral": (16, 32, 64),
}
"""Sides of the frames that plants of each kind fill."""
GAP_PX = 32
"""Plants are at least this far apart, so that one outline seldom holds two by accident."""
MAX_TRIES = 200
"""Places that are tried for a plant before it is left out."""
LEAST_CHANGE = 0.5
"""Least mean change of a plant, in robust standard deviations of its surroundings."""
LEAST_ROUGHNESS_RATIO = 1.3
"""Least factor between the roughness before and after that counts as another texture."""
TEXTURE_ONLY = ("foreign", "erased")
"""Kinds that nothing but their texture gives away."""
FLOOR = 0.1
"""Share of the scene's own spread below which differences are noise, such as those between waves."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """One synthetic anomaly: where it is, and what."""

    kind: str
    size_px: int
    """Side of its frame."""
    row: int
    """First row of the frame."""
    col: int
    """First column of the frame."""
    mask: NDArray[np.bool_] = field(repr=False)
    """(row, col) in the frame, True where the scene was changed on purpose."""

    @property
    def frame(self) -> tuple[slice, slice]:
        """Rows and columns of the frame in the scene."""
        return slice(self.row, self.row + self.size_px), slice(self.col, self.col + self.size_px)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A copy of a scene with plants in it."""

    values: NDArray[np.generic] = field(repr=False)
    """(band, row, col), of the scene's type; equal to the scene outside the plants' masks."""
    valid: NDArray[np.bool_] = field(repr=False)
    """(row, col), that of the scene."""
    plants: tuple[Plant, ...]
    left_out: int
    """Plants for which no place was found."""

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """(row, col): 1 + the position of the plant that a pixel belongs to, 0 elsewhere."""
        found = np.zeros(self.valid.shape, np.int32)
        for i, plant in enumerate(self.plants, 1):
            found[plant.frame][plant.mask] = i
        return found


def deal(copy: int, n_plants: int, kinds: Sequence[str] = tuple(MAKERS)) -> list[tuple[str, int]]:
    """The kinds and sizes of one copy's plants, such that all combinations are used equally often, give or take one.

    Args:
        copy: number of the copy, counted from 0 over all scenes and seeds.
        n_plants: in each copy.
        kinds: that take part.

    Returns:
        Kind and size of each plant, the large ones first because they are hard to place.
    """
    deck = [(kind, size) for kind in kinds for size in SIZES_PX[kind]]
    cards = range(copy * n_plants, (copy + 1) * n_plants)
    orders = {n: np.random.default_rng([len(deck), n]).permutation(len(deck)) for n in {card // len(deck) for card in cards}}
    dealt = [deck[orders[card // len(deck)][card % len(deck)]] for card in cards]
    return sorted(dealt, key=lambda card: -card[1])


def plant(
    values: NDArray[np.generic], valid: NDArray[np.bool_], cards: Sequence[tuple[str, int]], donors: Sequence[Donor], *, seed: int
) -> Planted:
    """A copy of a scene with one plant for each card, apart from one another and on valid pixels only.

    A place is refused where the plant would be invisible: where the mean absolute change stays below `LEAST_CHANGE` robust
    standard deviations of the surroundings in every band and the roughness changes by less than `LEAST_ROUGHNESS_RATIO`; foreign
    and erased patches need the other roughness in any case, since nothing else gives them away. Spreads below `FLOOR` of the
    scene's own count as that much.

    Args:
        values: (band, row, col) of real numbers; not changed.
        valid: (row, col), True = usable.
        cards: kind and size of each plant.
        donors: other scenes, for foreign patches.
        seed: same seed, same bytes.
    """
    rng = np.random.default_rng([seed, *values.shape])
    sites = _Sites(values, valid, tuple(donors), rng)
    out, plants = values.copy(), []
    free = valid.copy()
    for kind, size in cards:
        found = _place(kind, size, free, valid, sites)
        if found is not None:
            new, patch = found
            out[(slice(None), *new.frame)][:, new.mask] = patch[:, new.mask]
            _close_around(free, new)
            plants.append(new)
    return Planted(values=out, valid=valid, plants=tuple(plants), left_out=len(cards) - len(plants))


class _Sites:
    """The places of a scene, and what is the same for all of them."""

    def __init__(self, values: NDArray[np.generic], valid: NDArray[np.bool_], donors: tuple[Donor, ...], rng: np.random.Generator) -> None:
        known = values[:, valid].astype(np.float64)
        self.values, self.donors, self.rng = values, donors, rng
        self.low, self.high = known.min(axis=1), known.max(axis=1)
        self.usual = np.percentile(known, [0.5, 99.5], axis=1)
        self.floor = FLOOR * np.maximum(_spread(known), 1e-6 * np.maximum(np.abs(known).max(axis=1), 1.0))

    def at(self, row: int, col: int, size: int) -> Site:
        """A square place and its surroundings."""
        around = self.values[(slice(None), *_reach(row, col, size))].astype(np.float64)
        spread = np.maximum(_spread(around.reshape(len(around), -1)), self.floor)
        return Site(around=around, spread=spread, low=self.low, high=self.high, usual=self.usual, donors=self.donors, rng=self.rng)

    def rounded(self, patch: NDArray[np.float64]) -> NDArray[Any]:
        """A patch inside the scene's range and of its type."""
        inside = np.clip(patch, self.low[:, None, None], self.high[:, None, None])
        dtype = self.values.dtype
        return (np.rint(inside) if dtype.kind in "iu" else inside).astype(dtype)


def _reach(row: int, col: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of a frame with its margin."""
    return slice(row - MARGIN_PX, row + size + MARGIN_PX), slice(col - MARGIN_PX, col + size + MARGIN_PX)


def _place(kind: str, size: int, free: NDArray[np.bool_], valid: NDArray[np.bool_], sites: _Sites) -> tuple[Plant, NDArray[Any]] | None:
    """A plant on free pixels that is visible, and its pixels; None after too many tries."""
    height, width = free.shape
    if min(height, width) < size + 2 * MARGIN_PX:
        return None
    for _ in range(MAX_TRIES):
        row, col = (int(sites.rng.integers(MARGIN_PX, side - size - MARGIN_PX + 1)) for side in (height, width))
        if not (free[row : row + size, col : col + size].all() and valid[_reach(row, col, size)].all()):
            continue
        site = sites.at(row, col, size)
        made = MAKERS[kind](site)
        if made is None:
            continue
        patch, mask = sites.rounded(made[0]), made[1]
        if is_visible(kind, site.here, patch.astype(np.float64), mask, spread=site.spread, floor=sites.floor):
            return Plant(kind=kind, size_px=size, row=row, col=col, mask=mask), patch
    return None


def is_visible(
    kind: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    mask: NDArray[np.bool_],
    *,
    spread: NDArray[np.float64],
    floor: NDArray[np.float64],
) -> bool:
    """Is the change of a patch (band, row, col) more than negligible, by the rule of `plant`?

    Args:
        kind: of the plant.
        before: the scene.
        after: the planted copy.
        mask: (row, col) of the plant.
        spread: (band,) robust standard deviation of the surroundings.
        floor: (band,) differences below are noise.
    """
    if not mask.any():
        return False
    changed = bool((np.abs(after - before)[:, mask].mean(axis=1) >= LEAST_CHANGE * spread).any())
    ratio = (_roughness(after, mask) + floor / 2) / (_roughness(before, mask) + floor / 2)
    rougher = bool((np.abs(np.log(ratio)) >= np.log(LEAST_ROUGHNESS_RATIO)).any())
    return rougher if kind in TEXTURE_ONLY else changed or rougher


def _roughness(patch: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean length of the gradient of each band inside a mask."""
    return np.array([gaussian_gradient_magnitude(band, 0.7)[mask].mean() for band in patch])


def _spread(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the width of the middle 68 % of each row."""
    low, high = np.percentile(rows, [16.0, 84.0], axis=1)
    half: NDArray[np.float64] = (high - low) / 2
    return half


def _close_around(free: NDArray[np.bool_], new: Plant) -> None:
    """Keep later plants away from a new one."""
    rows, cols = new.frame
    free[max(0, rows.start - GAP_PX) : rows.stop + GAP_PX, max(0, cols.start - GAP_PX) : cols.stop + GAP_PX] = False
