"""A world of cells with fields, seasons, light and clouds, and looks at it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter
from shapely import box

from geoanom.embed.structure import N_CHANNELS
from geoanom.monitor.values import Cell, Cells, Lattice, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from geoanom.monitor.values import Judgement

LATTICE = Lattice(crs="EPSG:32633", transform=(80.0, 0.0, 0.0, 0.0, -80.0, 0.0))
CORNER: Cell = (-62_500, 6_250)
"""Of the world: 500 km east, 5000 km north."""
N_BANDS = 3
N_FEATURES = 2 * N_BANDS + N_CHANNELS
NOISE = 1.0
"""Deviation of every feature from look to look, in units of the world; places differ by about 10."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Places with something to see in each."""

    side: int = 32
    seed: int = 0
    usual: NDArray[np.float64] = field(init=False, repr=False)
    """(row, col, feature)."""
    wave: NDArray[np.float64] = field(init=False, repr=False)
    """(row, col, feature) how far a cell goes up in summer and down in winter."""
    restless: NDArray[np.float64] = field(init=False, repr=False)
    """(row, col) by how much its noise is more than that of others."""

    def __post_init__(self) -> None:
        """Draw the fields."""
        rng = np.random.default_rng(self.seed)
        smooth = gaussian_filter(rng.normal(size=(self.side, self.side, N_FEATURES)), (2, 2, 0))
        fields = np.kron(rng.normal(size=(self.side // 4, self.side // 4, N_FEATURES)), np.ones((4, 4, 1)))
        kinds = np.kron(rng.integers(0, 3, (self.side // 4, self.side // 4)), np.ones((4, 4)))
        object.__setattr__(self, "usual", 100 + 10 * smooth / smooth.std() + 4 * fields)
        object.__setattr__(self, "wave", np.where(kinds == 1, 6.0, 0.0)[..., None] * np.sign(fields))
        object.__setattr__(self, "restless", np.where(kinds == 2, 3.0, 1.0))

    def look(
        self,
        day: int,
        *,
        things: Iterable[Cell] = (),
        size: float = 8.0,
        clouds: Iterable[Cell] = (),
        gain: float | None = None,
        offset: float | None = None,
        seasons: bool = True,
        change: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ) -> Look:
        """A look at a day, counted from the first of January 2020.

        Args:
            day: a number of its own makes noise of its own.
            things: cells, counted from the corner, that differ by `size` in half of their features.
            size: in units of the world.
            clouds: cells that cannot be seen.
            gain: of the light on all bands; a little at random when None.
            offset: of the light.
            seasons: do the fields follow the year?
            change: anything else that becomes of the values (row, col, feature).
        """
        rng = np.random.default_rng([self.seed, day])
        values = self.usual + NOISE * self.restless[..., None] * rng.normal(size=self.usual.shape)
        if seasons:
            values += self.wave * np.cos(2 * np.pi * (day - 195) / 365.2425)
        for row, col in things:
            values[row, col, ::2] += size
        values = values if change is None else change(values)
        values[..., :N_BANDS] *= rng.normal(1.0, 0.03) if gain is None else gain
        values[..., :N_BANDS] += rng.normal(0.0, 2.0) if offset is None else offset
        valid = np.ones((self.side, self.side), np.float32)
        for row, col in clouds:
            valid[row, col] = 0
        values[valid == 0] = np.nan
        return look_of(day, valid, values.astype(np.float32))


def look_of(day: int, valid: NDArray[np.float32], descriptor: NDArray[np.float32], corner: Cell = CORNER) -> Look:
    """A look whose cells are known."""
    moment = str(np.datetime64("2020-01-01T10:00:00") + np.timedelta64(day, "D")) + "Z"
    digest = hashlib.sha256(f"{day}".encode() + descriptor.tobytes()).hexdigest()
    cells = Cells(row=corner[0], col=corner[1], valid=valid, score=np.full(valid.shape, np.nan, np.float32), descriptor=descriptor)
    name = f"scene-{day:04d}"
    return Look(digest=digest, scene=name, path=f"inbox/{name}.tif", moment=moment, footprint=box(15, 45, 15.1, 45.1), cells=cells)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A look without its cells."""

    digest: str
    moment: str
    state: str
    place: tuple[int, int, int, int]


class Shelf:
    """Looks as a store keeps them, in memory."""

    def __init__(self, looks: Iterable[Look] = ()) -> None:
        self._looks: dict[str, tuple[Look, str]] = {}
        for look in looks:
            self.add(look)

    def add(self, look: Look, state: str = "used") -> None:
        self._looks[look.digest] = look, state

    def judged(self, judgement: Judgement) -> None:
        """Keep a look with what became of it."""
        self.add(judgement.look, "suspect" if judgement.suspect else "used")

    def entries(self, since: tuple[str, str] | None = None, before: tuple[str, str] | None = None) -> list[Kept]:
        ordered = sorted(self._looks.values(), key=lambda kept: kept[0].order)
        wanted = [(look, state) for look, state in ordered if (since or ("", "")) <= look.order and (before is None or look.order < before)]
        return [Kept(digest=look.digest, moment=look.moment, state=state, place=_place(look.cells)) for look, state in wanted]

    def read_cells(self, digest: str, rows: range | None = None) -> Cells:
        cells = self._looks[digest][0].cells
        rows = range(cells.row, cells.row + len(cells.valid)) if rows is None else rows
        first = max(rows.start, cells.row)
        part = slice(first - cells.row, max(first, min(rows.stop, cells.row + len(cells.valid))) - cells.row)
        return replace(cells, row=first, valid=cells.valid[part], score=cells.score[part], descriptor=cells.descriptor[part])


def _place(cells: Cells) -> tuple[int, int, int, int]:
    return cells.row, cells.col, *cells.valid.shape


def block(row: int, col: int, height: int = 2, width: int = 2) -> set[Cell]:
    """A rectangle of cells, counted from the corner."""
    return {(row + down, col + right) for down in range(height) for right in range(width)}


def found_in(judgement: Judgement) -> set[Cell]:
    """All detected cells, counted from the corner."""
    return {(row - CORNER[0], col - CORNER[1]) for detection in judgement.detections for row, col in detection.cells}
