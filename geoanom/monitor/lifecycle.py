"""What becomes of a place: alerts and their transitions, folded from judgements in the order of acquisition.

Nothing here knows a clock or remembers an arrival: the same judgements give the same history, however they came, and a history that
was taken up in the middle goes on like one that was never left.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.history import History, LifecycleRules, Place, Transition, Verdict
from geoanom.monitor.values import Alert

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from geoanom.monitor.values import Cell, Cells, Confidence, Detection, Judgement, Look

__all__ = ["History", "LifecycleRules", "Place", "Transition", "Verdict", "advance", "alert_id_of", "anchor_of", "replay"]

BLOCK = 4
"""Cells along the side of an anchor: a place that is seen a cell further on is the same place."""


AROUND = [(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)]


def replay(
    judgements: Iterable[Judgement], rules: LifecycleRules, verdicts: Mapping[str, Verdict] | None = None, *, monitor: str = ""
) -> History:
    """The history of judgements in the order of their looks: a fold of `advance`."""
    begun = History(monitor=monitor, verdicts=verdicts or {})
    return reduce(lambda history, judgement: advance(history, judgement, rules), judgements, begun)


def advance(history: History, judgement: Judgement, rules: LifecycleRules) -> History:
    """The history after one more look; a suspect one changes nothing.

    A detection belongs to the open alert most of whose cells it covers or touches, by one cell in eight directions. Of equals the one that
    began first takes it. The others that it covers are seen as well.

    Raises:
        ValueError: the look is not later than the last one.
    """
    if judgement.suspect is not None:
        return history
    if judgement.look.order <= history.order:
        raise ValueError(f"looks are taken in order: {judgement.look.order} after {history.order}")
    standing = {name: place for name, place in history.places.items() if place.alert.status != "resolved"}
    hits = _hits(standing, judgement.detections)
    seen = [_seen(place, hits.get(name), judgement.look, rules.of(place.alert.area)) for name, place in standing.items()]
    changed = [place for place in seen if place is not standing[place.alert.alert_id]]
    begun = list(_begun(history, hits.get(None, _Hit()).own, judgement.look, rules))
    return _joined(history, [*changed, *begun], judgement.look)


@dataclass(kw_only=True)
class _Hit:
    """What one look finds at one alert."""

    own: list[Detection] = field(default_factory=list)
    shared: list[Detection] = field(default_factory=list)
    """Those that belong to another alert and cover cells of this one."""


def _hits(standing: Mapping[str, Place], detections: Iterable[Detection]) -> dict[str | None, _Hit]:
    """What is found at each open alert, and under None what is found elsewhere."""
    owners: dict[Cell, list[str]] = {}
    for name, place in standing.items():
        for cell in place.alert.cells:
            owners.setdefault(cell, []).append(name)
    hits: dict[str | None, _Hit] = {}
    for detection in detections:
        touched = Counter(name for cell in _dilated(detection.cells) for name in owners.get(cell, ()))
        best = min(touched, key=lambda name: (-touched[name], standing[name].alert.first_detected, name), default=None)
        hits.setdefault(best, _Hit()).own.append(detection)
        for name in {name for cell in detection.cells for name in owners.get(cell, ())} - {best}:
            hits.setdefault(name, _Hit()).shared.append(detection)
    return hits


def _dilated(cells: frozenset[Cell]) -> set[Cell]:
    return {(row + down, col + right) for row, col in cells for down, right in AROUND}


def _seen(place: Place, hit: _Hit | None, look: Look, rules: LifecycleRules) -> Place:
    """The place after a look; the same object if the look has not seen it."""
    if hit is not None:
        return _detected(place, hit, look, rules)
    share = visible_share(place.alert.cells, look.cells)
    if share <= 0 or share < rules.min_valid_fraction:
        return place
    return _clear(place, look, rules)


def visible_share(cells: frozenset[Cell], seen: Cells) -> float:
    """Mean valid share of some cells in a look, 0..1; what lies outside the look is not valid."""
    at = np.array(sorted(cells), np.int64) - (seen.row, seen.col)
    inside = at[((at >= 0) & (at < seen.valid.shape)).all(axis=1)]
    return float(seen.valid[inside[:, 0], inside[:, 1]].astype(np.float64).sum() / len(at))


def _clear(place: Place, look: Look, rules: LifecycleRules) -> Place:
    alert, day = place.alert, day_of(look.moment)
    clear_days = place.clear_days + (day != place.clear_day)
    after = replace(
        alert,
        status="resolved" if clear_days >= rules.resolve_after else alert.status,
        last_observed=look.moment,
        n_valid_observations=alert.n_valid_observations + 1,
        n_clear=alert.n_clear + 1,
    )
    return replace(place, alert=after, order=look.order, clear_days=clear_days, clear_day=day)


def _detected(place: Place, hit: _Hit, look: Look, rules: LifecycleRules) -> Place:
    """Several detections are one on that day: the strongest speaks, and the cells of those of its own are joined."""
    alert, best, own = place.alert, _strongest([*hit.own, *hit.shared]), hit.own
    days = place.days + (day_of(look.moment) != day_of(alert.last_detected))
    families = tuple(sorted({*alert.families, *(name for detection in [*own, *hit.shared] for name in detection.families)}))
    after = replace(
        alert,
        status="persistent" if days >= rules.confirm_after else alert.status,
        confidence=_confidence(days, families, rules),
        geometry=_strongest(own).geometry if own and _strongest(own).score > alert.max_score else alert.geometry,
        cells=alert.cells.union(*(detection.cells for detection in own)),
        score=best.score,
        max_score=max(alert.max_score, best.score),
        families=families,
        last_detected=look.moment,
        last_observed=look.moment,
        n_detections=alert.n_detections + 1,
        n_valid_observations=alert.n_valid_observations + 1,
        n_clear=0,
        scene=look.scene,
        reason=best.reason,
    )
    return replace(place, alert=after, order=look.order, days=days, clear_days=0, clear_day="")


def _begun(history: History, detections: Iterable[Detection], look: Look, rules: LifecycleRules) -> Iterator[Place]:
    """New places, one for each detection that no open alert takes."""
    episodes = Counter(place.anchor for place in history.places.values())
    for detection in detections:
        anchor = anchor_of(detection.cells)
        episodes[anchor] += 1
        yield _first(detection, anchor, episodes[anchor], history.monitor, look=look, rules=rules.of(detection.area))


def _first(detection: Detection, anchor: Cell, episode: int, monitor: str, *, look: Look, rules: LifecycleRules) -> Place:
    families = tuple(sorted(set(detection.families)))
    alert = Alert(
        alert_id=alert_id_of(monitor, anchor, episode),
        status="persistent" if rules.confirm_after <= 1 else "new",
        confidence=_confidence(1, families, rules),
        geometry=detection.geometry,
        cells=detection.cells,
        area=detection.area,
        score=detection.score,
        max_score=detection.score,
        families=families,
        first_detected=look.moment,
        last_detected=look.moment,
        last_observed=look.moment,
        n_detections=1,
        n_valid_observations=1,
        n_clear=0,
        scene=look.scene,
        reason=detection.reason,
    )
    return Place(alert=alert, anchor=anchor, episode=episode, order=look.order, days=1)


def _joined(history: History, changed: list[Place], look: Look) -> History:
    """The history with these states of places appended."""
    moves = [move for place in changed if (move := _move(history.places.get(place.alert.alert_id), place, look))]
    return replace(
        history,
        places={**history.places, **{place.alert.alert_id: place for place in changed}},
        log=(*history.log, *changed),
        moves=(*history.moves, *sorted(moves, key=lambda move: move.alert_id)),
        order=look.order,
    )


def _move(old: Place | None, new: Place, look: Look) -> Transition | None:
    before, after = old.alert.status if old else None, new.alert.status
    if before == after:
        return None
    return Transition(alert_id=new.alert.alert_id, moment=look.moment, digest=look.digest, scene=look.scene, before=before, after=after)


def _confidence(days: int, families: tuple[str, ...], rules: LifecycleRules) -> Confidence:
    """One day is never two independent ones, whatever the rules ask for."""
    if days < max(2, rules.confirm_after):
        return "nominal"
    return "highest" if len(families) > 1 else "high"


def _strongest(detections: Iterable[Detection]) -> Detection:
    return min(detections, key=lambda detection: (-detection.score, min(detection.cells)))


def anchor_of(cells: frozenset[Cell]) -> Cell:
    """The block of 4 x 4 cells with the median cell of a detection: few of its cells more or less do not move it."""
    rows, cols = sorted(row for row, _ in cells), sorted(col for _, col in cells)
    return rows[len(rows) // 2] // BLOCK, cols[len(cols) // 2] // BLOCK


def alert_id_of(monitor: str, anchor: Cell, episode: int) -> str:
    """16 hex digits that say which monitor, which place and the how manieth event there."""
    return hashlib.sha256(f"{monitor}\n{anchor[0]}\n{anchor[1]}\n{episode}".encode()).hexdigest()[:16]


def day_of(moment: str) -> str:
    """The calendar day, UTC."""
    return moment[:10]
