"""Judging and folding again from the first look on that the alerts do not know of."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoanom.monitor.history import LifecycleRules
from geoanom.monitor.lifecycle import advance
from geoanom.monitor.past import judged
from geoanom.monitor.values import Cells, Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from geoanom.monitor.history import History
    from geoanom.monitor.past import Past
    from geoanom.monitor.settings import Monitor, Rules
    from geoanom.monitor.store import Store
    from geoanom.monitor.store.looks import LookEntry, Order
    from geoanom.monitor.values import Cell, Look

    Judge = Callable[[Look, Past, Mapping[Cell, str]], Judgement]

OPEN = ("new", "persistent")
CACHE_BYTES = 256 * 2**20
"""Of cells that are kept from one look to the next."""


class FoldedPast:
    """The memory as it grows while looks are judged: the looks that stand and still have their cells, each with what it was found to be.

    What was read last is kept, as the next look needs nearly the same.
    """

    def __init__(self, store: Store, entries: Iterable[LookEntry]) -> None:
        """Begin with some looks in order."""
        self._store, self._entries = store, list(entries)
        self._cells: OrderedDict[tuple[str, int, int], Cells] = OrderedDict()
        self._held = 0

    def add(self, entry: LookEntry, suspect: str | None) -> None:
        """Go on after a look that was judged."""
        self._entries.append(replace(entry, state="used" if suspect is None else "suspect"))

    def entries(self, since: Order | None = None, before: Order | None = None) -> Sequence[LookEntry]:
        """Looks in the order of moment and digest."""
        orders = [(entry.moment, entry.digest) for entry in self._entries]
        first, last = (0 if since is None else bisect_left(orders, since), len(orders) if before is None else bisect_left(orders, before))
        return self._entries[first:last]

    def read_cells(self, digest: str, rows: range | None = None) -> Cells:
        """Cells of a look, of these lattice rows or of all."""
        if rows is None:
            return self._store.read_cells(digest)
        key = digest, rows.start, rows.stop
        if key not in self._cells:
            self._keep(key, self._store.read_cells(digest, rows))
        self._cells.move_to_end(key)
        return self._cells[key]

    def _keep(self, key: tuple[str, int, int], cells: Cells) -> None:
        self._cells[key] = cells
        self._held += _bytes(cells)
        while self._held > CACHE_BYTES and len(self._cells) > 1:
            self._held -= _bytes(self._cells.popitem(last=False)[1])


def _bytes(cells: Cells) -> int:
    return cells.valid.nbytes + cells.score.nbytes + cells.descriptor.nbytes


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What the looks since one mean."""

    since: Order
    history: History
    judgements: tuple[Judgement, ...]
    """Of all looks since then, without their cells."""


def lifecycle_rules(monitor: Monitor) -> LifecycleRules:
    """What of a monitor's rules, and of those of its areas, the course of an alert depends on."""
    areas = {area.title: _course_of(monitor.rules.of(area)) for area in monitor.areas}
    return replace(_course_of(monitor.rules), areas=areas)


def _course_of(rules: Rules) -> LifecycleRules:
    return LifecycleRules(confirm_after=rules.confirm_after, resolve_after=rules.resolve_after, min_valid_fraction=rules.min_valid_fraction)


def fold(
    store: Store, since: Order, monitor: str, rules: LifecycleRules, *, judge: Judge, fitted: Collection[str], stop: Callable[[], bool]
) -> Fold | None:
    """Judge every look since one, in order, and follow the alerts.

    Args:
        store: of the looks.
        since: the first look.
        monitor: its name.
        rules: of the alerts' course.
        judge: what a look means, given its past and the cells of open alerts with the moments of their beginning.
        fitted: digests of the looks that the model was fitted on, which are history and never news.
        stop: asked before each look whether the pass has to end; then there is no fold.
    """
    history = store.history(monitor, before=since)
    horizon = store.horizon
    past = FoldedPast(store, (entry for entry in store.entries(before=since) if entry.state != "superseded" and entry.moment >= horizon))
    judgements: list[Judgement] = []
    entries = {entry.digest: entry for entry in store.entries(since)}
    for look in store.looks(since):
        if stop():
            return None
        judgement = judge(look, past, frozen_cells(history))
        judgement = _silent(look) if look.digest in fitted else judgement
        history = advance(history, judgement, rules)
        judgements.append(_bare(judgement))
        past.add(entries[look.digest], judgement.suspect)
    return Fold(since=since, history=history, judgements=tuple(judgements))


def frozen_cells(history: History) -> dict[Cell, str]:
    """Cells of open alerts with the moment of their first detection: what stays does not become its own normal.

    Those that people dismissed are among them, so that a verdict never changes what the looks say.
    """
    found: dict[Cell, str] = {}
    for place in history.places.values():
        if place.alert.status in OPEN:
            for cell in place.alert.cells:
                found[cell] = min(found.get(cell, place.alert.first_detected), place.alert.first_detected)
    return found


def _silent(look: Look) -> Judgement:
    """Nothing is said of a look: it finds nothing, and ends nothing."""
    return Judgement(look=judged(look, np.zeros(look.cells.valid.shape, bool)), detections=())


def _bare(judgement: Judgement) -> Judgement:
    """Without the look's cells, so that a long series does not fill the memory."""
    cells = judgement.look.cells
    empty = np.zeros((0, 0), np.float32)
    none = Cells(row=cells.row, col=cells.col, valid=empty, score=empty, descriptor=np.zeros((0, 0, 0), np.float32))
    return replace(judgement, look=replace(judgement.look, cells=none))
