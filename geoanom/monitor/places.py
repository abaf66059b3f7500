"""Neighbouring called cells as places, with reasons in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

from geoanom.detect.calibrate import anomaly_score
from geoanom.monitor.lattice import geometry_of
from geoanom.monitor.memory import ALL, SEASON, YEAR
from geoanom.monitor.values import Detection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoanom.monitor.areas import Areas
    from geoanom.monitor.calling import Called
    from geoanom.monitor.judging import Departures
    from geoanom.monitor.values import Cell, Lattice, Look

NAMED_BANDS = 3
NAMED_SIGMA = 2.0
MEMORIES = {SEASON: "looks of this season", ALL: "looks", YEAR: "looks and their course over the year"}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that is said of the cells of a look."""

    look: Look
    departures: Departures
    called: Called
    numbers: NDArray[np.int32]
    """(row, col) area of each cell."""
    areas: Areas
    lattice: Lattice
    bands: Sequence[str]
    """Names."""

    def detections(self) -> tuple[Detection, ...]:
        """One for each group of called cells that touch, also by corners, in the order of their worst cells."""
        groups, n = label(self.called.called, np.ones((3, 3), int))
        order = np.argsort(groups, axis=None, kind="stable")
        starts = np.searchsorted(groups.ravel()[order], np.arange(1, n + 2))
        places = (np.unravel_index(order[first:last], groups.shape) for first, last in pairwise(starts))
        return tuple(sorted(map(self._detection, places), key=lambda detection: (detection.p_value, min(detection.cells))))

    def _detection(self, places: tuple[NDArray[np.intp], ...]) -> Detection:
        corner = self.look.cells.row, self.look.cells.col
        cells = frozenset((int(row) + corner[0], int(col) + corner[1]) for row, col in zip(*places, strict=True))
        p = self.called.p_value[places]
        counts = Counter(self.numbers[places].tolist())
        worst = int(np.lexsort((-self.departures.lengths[places].mean(axis=1), p))[0])
        return Detection(
            cells=cells,
            geometry=geometry_of(cells, self.lattice),
            score=float(f"{float(anomaly_score(p[worst : worst + 1])[0]):.4g}"),
            p_value=float(f"{p[worst]:.4g}"),
            families=("change", "embedding") if self.called.supported[places].any() else ("change",),
            area=self.areas.name_of(min(counts, key=lambda number: (-counts[number], number))),
            reason=reason_of(self.departures, (int(places[0][worst]), int(places[1][worst])), self.bands),
        )


def reason_of(departures: Departures, at: Cell, bands: Sequence[str]) -> str:
    """What a cell departs by, and from what, such as ``B08 fell by 6.1 sigma; against 12 looks of this season since 2019``."""
    sigma = departures.sigma[at]
    strongest = [band for band in np.argsort(-np.abs(sigma), kind="stable")[:NAMED_BANDS] if abs(sigma[band]) >= NAMED_SIGMA]
    said = [f"{bands[band]} {'rose' if sigma[band] > 0 else 'fell'} by {abs(sigma[band]):.1f} sigma" for band in strongest]
    lengths = departures.lengths[at]
    member = int(np.argmax(lengths))
    if member or not said:
        said.append(f"{('colour', 'texture', 'structure')[member]} departs {lengths[member]:.1f} times as far as usual")
    return f"{', '.join(said)}; against {departures.n[at]} {MEMORIES[int(departures.kind[at])]} since {departures.since[at]}"
