"""What a look means, given the looks before it.

A cell is compared with its own memory, in the light of the whole scene; how far it departs is compared with how far the other cells of
the same look do. So neither a restless field nor a bright day is news, but a cell that is far from what it was while the others are
not. Nothing here knows a clock or an order of arrival: the same looks give the same judgement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.areas import Areas
from geoanom.monitor.calling import called_cells
from geoanom.monitor.guards import suspicion
from geoanom.monitor.memory import LEARNING, Memory, remember
from geoanom.monitor.past import day_of, features_of, judged, remembered, visible
from geoanom.monitor.places import Findings
from geoanom.monitor.scenewide import learn_scene
from geoanom.monitor.values import Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.monitor.past import Past, Remembered
    from geoanom.monitor.scenewide import Scenewide
    from geoanom.monitor.settings import Rules
    from geoanom.monitor.values import Cell, Lattice, Look

__all__ = ["Departures", "judge", "measure"]

RECURRING = 2
"""A state that so many remembered looks have shown is not new, however far it is from the usual one."""


@dataclass(frozen=True, kw_only=True)
class Departures:
    """How far the cells of a look are from their memories."""

    lengths: NDArray[np.float64]
    """(row, col, member) root mean squares; NaN where not visible or still learning."""
    sigma: NDArray[np.float32]
    """(row, col, band) of the means, signed, in deviations."""
    scored: NDArray[np.float32]
    """(row, col) how far the model's score is above its memory, in deviations; NaN where not known."""
    n: NDArray[np.int16]
    """(row, col) looks that the memory stands on."""
    kind: NDArray[np.int8]
    """(row, col) of the memory, see `geoanom.monitor.memory`."""
    since: NDArray[np.int32]
    """(row, col) year of the first of these looks."""
    ever: NDArray[np.bool_]
    """(row, col) was it visible in any of the looks, or is it now?"""

    @property
    def learned(self) -> NDArray[np.bool_]:
        """(row, col) visible cells with a memory."""
        return np.isfinite(self.lengths[..., 0])


def judge(
    look: Look,
    past: Past,
    rules: Rules,
    lattice: Lattice,
    *,
    frozen: Mapping[Cell, str] | None = None,
    areas: Areas | None = None,
    bands: Sequence[str] = (),
) -> Judgement:
    """Judge a look.

    Args:
        look: with all its cells.
        past: what came before it in the order of acquisition; only looks that are used count, and what came later is not asked for.
        rules: of the monitor.
        lattice: on which the cells lie.
        frozen: cells of open alerts, with the moment of their first detection: only looks before it are their memory, so that a thing
            that stays is found until it goes.
        areas: that are watched; everything when None.
        bands: their names, for reasons; numbers when empty.
    """
    areas = areas or Areas(rules=rules)
    numbers = areas.numbers(look.cells)
    least = areas.least_valid(numbers)
    before = remembered(past, look, frozen or {})
    scene = learn_scene(before, rules, least)
    if scene is None:
        return Judgement(look=judged(look, np.zeros_like(numbers, bool)), detections=())
    names = tuple(bands) or tuple(f"band {band + 1}" for band in range(scene.n_bands))
    suspect = [suspicion(era.now, era.before, rules, names) for era in scene.eras]
    if all(suspect):
        return Judgement(look=look, detections=(), suspect=suspect[0])
    departures = measure(before, scene, rules, least)
    called = called_cells(departures, numbers, before.began >= 0, visible(look.cells.valid, least), areas)
    findings = Findings(look=look, departures=departures, called=called, numbers=numbers, areas=areas, lattice=lattice, bands=names)
    return Judgement(look=judged(look, departures.learned), detections=findings.detections())


def measure(before: Remembered, scene: Scenewide, rules: Rules, least: NDArray[np.float32]) -> Departures:
    """How far all cells depart, a band of rows at a time."""
    cells = before.look.cells
    now = features_of(cells, least)
    shape, n_bands = cells.valid.shape, scene.n_bands
    found = Departures(
        lengths=np.full((*shape, 3), np.nan),
        sigma=np.full((*shape, n_bands), np.nan, np.float32),
        scored=np.full(shape, np.nan, np.float32),
        n=np.zeros(shape, np.int16),
        kind=np.full(shape, LEARNING, np.int8),
        since=np.zeros(shape, np.int32),
        ever=np.isfinite(now[..., 0]),
    )
    for band in before.bands(now.shape[-1]):
        _measure_band(before, scene, rules, band, now=now[band], least=least[band], onto=found)
    return found


def _measure_band(
    before: Remembered,
    scene: Scenewide,
    rules: Rules,
    band: slice,
    *,
    now: NDArray[np.float32],
    least: NDArray[np.float32],
    onto: Departures,
) -> None:
    """Fill in the visible cells of a band of rows that have a memory, and what has ever been visible."""
    seen = np.isfinite(now[..., 0])
    everything = before.stack(band, least)
    onto.ever[band] |= np.isfinite(everything[..., 0]).any(axis=0)
    if not len(everything) or not seen.any():
        return
    stack = scene.removed(everything[:, seen])
    memory = remember(stack, before.allowed(band)[:, seen], before.days, day_of(before.look.moment), rules)
    ours = scene.light.removed(now[seen])
    lengths = _lengths(ours, stack, memory, scene)
    away = ours - memory.location
    places = tuple(axis[memory.learned] for axis in np.nonzero(seen))
    places = places[0] + band.start, places[1]
    n_bands, known = scene.n_bands, memory.learned
    onto.lengths[places] = lengths[known]
    onto.sigma[places] = scene.yardstick.sigmas(away[known, :-1], memory.scale[known, :-1], memory.n[known])[:, :n_bands]
    onto.scored[places] = away[known, -1] / np.sqrt(memory.scale[known, -1] ** 2 + scene.score_spread**2 + 1e-12)
    onto.n[places], onto.kind[places] = memory.n[known], memory.kind[known]
    years = np.array([int(entry.moment[:4]) for entry in before.entries])
    onto.since[places] = np.where(memory.used[:, known], years[:, None], 9999).min(axis=0)


def _lengths(ours: NDArray[np.float32], stack: NDArray[np.float32], memory: Memory, scene: Scenewide) -> NDArray[np.float64]:
    """(cell, member) how far cells are from their memory, or from the state that they have been in before if that is nearer."""
    lengths = scene.yardstick.lengths((ours - memory.location)[:, :-1], memory.scale[:, :-1], memory.n)
    far = np.flatnonzero(memory.learned & (lengths.mean(axis=1) >= scene.candidate))
    if not len(far) or len(stack) < RECURRING:
        return lengths
    scale, n = memory.scale[far, :-1], memory.n[far]
    each = np.stack([scene.yardstick.lengths(ours[far, :-1] - past[far, :-1], scale, n) for past in stack])
    distance = np.where(memory.used[:, far], each.mean(axis=2), np.inf)
    nearest = np.argsort(distance, axis=0, kind="stable")[RECURRING - 1]
    again = np.take_along_axis(distance, nearest[None], axis=0)[0] < lengths[far].mean(axis=1)
    lengths[far[again]] = each[nearest[again], np.flatnonzero(again)]
    return lengths
