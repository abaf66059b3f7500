"""A world of 12 x 12 cells in which things stand, and looks and judgements of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage
from shapely import MultiPolygon, box

from geoanom.monitor.events import Said, Telling, retired, tell
from geoanom.monitor.lifecycle import History, LifecycleRules, Verdict, advance, replay
from geoanom.monitor.values import Alert, Cell, Cells, Detection, Event, Judgement, Look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from geoanom.monitor.store import Store

SIDE = 12
NAME = "north-sea"
RULES = LifecycleRules()
ORIGIN: Cell = (-5, 3)
"""Lattice row and column of the world's first cell: rows are negative, and lie in two stripes."""
FOOTPRINT = box(4.0, 52.0, 4.12, 52.12)


def moment(day: int, hour: int = 10) -> str:
    """Days from the first of May on."""
    return str(np.datetime64("2024-05-01T00:00:00") + np.timedelta64(day, "D") + np.timedelta64(hour, "h")) + "Z"


def look_of(day: int, things: Iterable[Cell] = (), *, hour: int = 10, clouds: Iterable[Cell] = (), salt: str = "", path: str = "") -> Look:
    """A look at a day; things and clouds in cells of the lattice."""
    valid, score = np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    for row, col in things:
        score[row - ORIGIN[0], col - ORIGIN[1]] = 4 + (row % 3)
    for row, col in clouds:
        valid[row - ORIGIN[0], col - ORIGIN[1]] = 0
    score[valid == 0] = np.nan
    descriptor = np.stack([score, valid * day], axis=-1)
    digest = hashlib.sha256(f"{day} {hour} {salt}".encode() + score.tobytes()).hexdigest()
    cells = Cells(row=ORIGIN[0], col=ORIGIN[1], valid=valid, score=score, descriptor=descriptor)
    scene = f"scene-{day:03d}-{hour:02d}{salt}"
    return Look(digest=digest, scene=scene, path=path or f"inbox/{scene}.tif", moment=moment(day, hour), footprint=FOOTPRINT, cells=cells)


def block(row: int, col: int, side: int = 2) -> set[Cell]:
    """A square of cells of the lattice."""
    return {(row + down, col + right) for down in range(side) for right in range(side)}


ALL = block(ORIGIN[0], ORIGIN[1], SIDE)
"""Every cell of the world."""


def judge(earlier: Sequence[Look], look: Look) -> Judgement:
    """A simple judge with a memory: what was there in the first of all looks is normal, and a scene full of things is suspect."""
    score = look.cells.score
    usual = earlier[0].cells.score > 1 if earlier else score > 1
    odd = (score > 1) & ~usual
    if odd.mean() > 0.5:
        return Judgement(look=look, detections=(), suspect="most of it departs from all that was seen before")
    labels, n = ndimage.label(odd, np.ones((3, 3)))
    found = [_detection(np.argwhere(labels == number), score) for number in range(1, n + 1)]
    return Judgement(look=look, detections=tuple(found))


def _detection(at: np.ndarray, score: np.ndarray) -> Detection:
    cells = [(int(row), int(col)) for row, col in at]
    highest = max(float(score[cell]) for cell in cells)
    squares = [box(4 + 0.01 * col, 52.12 - 0.01 * (row + 1), 4.01 + 0.01 * col, 52.12 - 0.01 * row) for row, col in cells]
    return Detection(
        cells=frozenset((row + ORIGIN[0], col + ORIGIN[1]) for row, col in cells),
        geometry=MultiPolygon(squares).buffer(0),
        score=highest / 10,
        p_value=10**-highest,
        families=("change", "embedding") if highest > 5 else ("change",),
        area="harbour",
        reason="brighter than ever",
    )


def judged(looks: Sequence[Look]) -> list[Judgement]:
    """All looks in their right order, each with the memory of those before it."""
    ordered = sorted(looks, key=lambda look: look.order)
    return [judge(ordered[:number], look) for number, look in enumerate(ordered)]


def history_of(looks: Sequence[Look], verdicts: Mapping[str, Verdict] | None = None, rules: LifecycleRules = RULES) -> History:
    """What all of them come to."""
    return replay(judged(looks), rules, verdicts, monitor=NAME)


def one_pass(store: Store, looks: Iterable[Look], rules: LifecycleRules = RULES, max_alerts: int | None = None) -> Telling | None:
    """What a run does with looks that have arrived."""
    for look in looks:
        store.add_look(look)
    since = store.stale_since()
    if since is None:
        return None
    standing = list(store.looks())
    judgements = [judge(standing[:number], look) for number, look in enumerate(standing) if look.order >= since]
    history = store.history(NAME, since)
    for judgement in judgements:
        history = advance(history, judgement, rules)
    telling = tell(history, judgements, store.said(), max_alerts)
    store.commit_state(since, judgements, telling)
    return telling


class Memory:
    """What a store keeps of what was said, without a database: every pass judges everything anew."""

    def __init__(self, rules: LifecycleRules = RULES, max_alerts: int | None = None) -> None:
        self.rules, self.max_alerts = rules, max_alerts
        self.looks: dict[str, Look] = {}
        self.named: dict[str, Alert] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.events: list[Event] = []
        self.folded: list[Event] = []

    def see(self, *looks: Look) -> Telling:
        """One pass."""
        self.looks |= {look.digest: look for look in looks}
        return self._told()

    def lose(self, *looks: Look) -> Telling:
        """One pass in which scenes were reprocessed to nothing."""
        for look in looks:
            del self.looks[look.digest]
        return self._told()

    def types(self) -> list[str]:
        """Of the events so far."""
        return [event.type for event in self.events]

    def _told(self) -> Telling:
        judgements = judged(list(self.looks.values()))
        history = replay(judgements, self.rules, monitor=NAME)
        known = {event.event_id for event in [*self.events, *self.folded]}
        said = Said(named=self.named, told=known, verdicts=self.verdicts)
        telling = tell(history, judgements, said, self.max_alerts)
        self.named |= retired(said, telling.names)
        self.named |= {telling.names[key]: place.alert for key, place in history.places.items()}
        self.events += telling.events
        self.folded += telling.folded
        return telling


def taken_up(history: History) -> History:
    """The same history as a later run finds it."""
    return replace(history, log=(), moves=())


@st.composite
def series(draw: st.DrawFn, max_looks: int = 8) -> list[Look]:
    """Looks at blocks that come and go behind clouds, several on some days, some of them suspect."""
    looks = []
    for number in range(draw(st.integers(1, max_looks))):
        day = draw(st.integers(0, 9))
        corners = draw(st.lists(st.tuples(st.integers(0, SIDE - 3), st.integers(0, SIDE - 3)), max_size=3))
        things = {cell for row, col in corners for cell in block(row + ORIGIN[0], col + ORIGIN[1], draw(st.integers(1, 3)))}
        things = ALL if draw(st.integers(0, 9)) == 0 else things
        clouds = draw(st.sampled_from([set(), set(), block(ORIGIN[0], ORIGIN[1], 7), ALL]))
        looks.append(look_of(day, things - clouds, hour=draw(st.integers(0, 3)), clouds=clouds, salt=f"-{number}"))
    return list({look.moment: look for look in looks}.values())
