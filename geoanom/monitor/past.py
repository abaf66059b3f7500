"""The looks before a look, as far as they are remembered, read in bands of lattice rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoanom.monitor.memory import season_of
from geoanom.monitor.values import Cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.monitor.values import Cell, Look

    Floats = NDArray[np.float32]

REMEMBERED = 64
"""Looks that a cell is remembered by."""
REMEMBERED_BEFORE = 32
"""Looks that a cell is remembered by where an alert is open: of those before it began."""
LASTING = 6
"""So many suspect looks in a row are no bad looks, but how the place looks from now on."""
SEASON_DAYS = 45
"""Looks of this time of other years come first, whatever a monitor takes for a season."""
HELD_VALUES = 4_000_000
"""Features of all looks together that are held at once."""
MOST_ROWS = 32
"""Rows that are read at once, as they are stored."""


class Entry(Protocol):
    """A look without its cells."""

    @property
    def digest(self) -> str:
        """Of the scene's content."""

    @property
    def moment(self) -> str:
        """Acquisition."""

    @property
    def state(self) -> str:
        """``used`` looks are remembered, ``suspect`` ones if they last, ``superseded`` ones are not."""

    @property
    def place(self) -> tuple[int, int, int, int]:
        """First lattice row and column, number of rows and columns."""


class Past(Protocol):
    """What a monitor has seen; a store is one."""

    def entries(self, since: tuple[str, str] | None = None, before: tuple[str, str] | None = None) -> Sequence[Entry]:
        """Looks in the order of moment and digest."""

    def read_cells(self, digest: str, rows: range | None = None) -> Cells:
        """Cells of a look, of these lattice rows or of all."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """Which looks are remembered where."""

    past: Past
    look: Look
    entries: tuple[Entry, ...]
    """In order."""
    moments: tuple[str, ...]
    """First detections of open alerts, in order."""
    began: NDArray[np.int32]
    """(row, col) of the look: position in `moments` of the alert that is open there, -1 where none is."""
    usual: frozenset[str]
    """Digests of the looks that are remembered where no alert is open."""
    before: tuple[frozenset[str], ...]
    """The same for each of the moments."""
    newest: frozenset[str]
    """Digests of the looks since the place was last changed all over for good; of all where it never was."""

    @property
    def days(self) -> NDArray[np.float64]:
        """(look,) acquisitions in days since 1970."""
        return np.array([day_of(entry.moment) for entry in self.entries])

    @property
    def is_usual(self) -> NDArray[np.bool_]:
        """(look,) is it remembered where no alert is open?"""
        return self._among(self.usual)

    @property
    def is_newest(self) -> NDArray[np.bool_]:
        """(look,) is it of the time since the place was last changed all over?"""
        return self._among(self.newest)

    def bands(self, n_features: int) -> Iterator[slice]:
        """Rows of the look that are held at once; they begin at multiples of lattice rows, as stored looks do."""
        cells = self.look.cells
        a_row = max(1, len(self.entries) * cells.valid.shape[1] * n_features)
        height = next(rows for rows in (MOST_ROWS, 16, 8, 4, 2, 1) if rows * a_row <= HELD_VALUES or rows == 1)
        last = cells.row + len(cells.valid)
        for start in range(cells.row // height * height, last, height):
            yield slice(max(start, cells.row) - cells.row, min(start + height, last) - cells.row)

    def allowed(self, band: slice) -> NDArray[np.bool_]:
        """(look, row, col) may the look be remembered there? Where an alert is open, only what was before it."""
        began = self.began[band]
        found = np.broadcast_to(self._among(self.usual)[:, None, None], (len(self.entries), *began.shape)).copy()
        for position in np.unique(began[began >= 0]):
            found[:, began == position] = self._among(self.before[position])[:, None]
        return found

    def _among(self, digests: frozenset[str]) -> NDArray[np.bool_]:
        return np.array([entry.digest in digests for entry in self.entries], bool)

    def stack(self, band: slice, least: NDArray[np.float32]) -> Floats:
        """(look, row, col, feature) of these rows, the model's score last; NaN where less than `least` (row, col) was usable."""
        look = self.look.cells
        rows = range(look.row + band.start, look.row + band.stop)
        shape = (len(self.entries), len(rows), look.valid.shape[1], look.descriptor.shape[-1] + 1)
        found = np.full(shape, np.nan, np.float32)
        for place, entry in zip(found, self.entries, strict=True):
            _lay(self.past.read_cells(entry.digest, rows), place, (rows.start, look.col), least)
        return found


def remembered(past: Past, look: Look, frozen: Mapping[Cell, str]) -> Remembered:
    """The looks that a look is compared with, and for open alerts those before each began."""
    usable, newest = _trusted(entry for entry in past.entries(None, look.order) if _overlaps(entry.place, look))
    began, moments = _began(look, frozen)
    day = day_of(look.moment)
    kept = newest[-LASTING:] if len(newest) < len(usable) else []  # so that the guards can tell what is usual now
    usual = _chosen(usable, day, REMEMBERED).union(entry.digest for entry in kept)
    before = tuple(_chosen([entry for entry in usable if entry.moment < moment], day, REMEMBERED_BEFORE) for moment in moments)
    wanted = usual.union(*before)
    entries = tuple(entry for entry in usable if entry.digest in wanted)
    since = frozenset(entry.digest for entry in newest)
    return Remembered(past=past, look=look, entries=entries, moments=moments, began=began, usual=usual, before=before, newest=since)


def _trusted(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The looks that are remembered, and those of them since the last run of suspect ones that lasts; all where none did."""
    found, waiting, in_a_row, begin = list[Entry](), list[Entry](), 0, 0
    for entry in entries:
        if entry.state == "used":
            found.append(entry)
            waiting, in_a_row = [], 0
        elif entry.state == "suspect":
            waiting.append(entry)
            in_a_row += 1
            begin = len(found) if in_a_row == LASTING else begin
            if in_a_row >= LASTING:
                found, waiting = found + waiting, []
    return found, found[begin:]


def _chosen(entries: Sequence[Entry], day: float, most: int) -> frozenset[str]:
    """Digests of the looks that are remembered: of the season the newest, to half their number, and of the others an even spread.

    The newest of all would be of this year alone where a place is seen every few days, and tell nothing of last August.
    """
    if len(entries) <= most:
        return frozenset(entry.digest for entry in entries)
    of_season = season_of(np.array([day_of(entry.moment) for entry in entries]), day, SEASON_DAYS)
    near = np.flatnonzero(of_season)[-(most // 2) :]
    others = np.setdiff1d(np.arange(len(entries)), near)
    spread = others[np.linspace(len(others) - 1, 0, most - len(near)).round().astype(int)]
    return frozenset(entries[place].digest for place in (*near, *spread))


def features_of(cells: Cells, least: NDArray[np.float32]) -> Floats:
    """(row, col, feature) the descriptor and the model's score; NaN where less than `least` is usable."""
    found = np.concatenate([cells.descriptor, cells.score[..., None]], axis=-1).astype(np.float32)
    return np.where((visible(cells.valid, least) & np.isfinite(found[..., 0]))[..., None], found, np.float32(np.nan))


def visible(valid: NDArray[np.float32], least: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Is enough of a cell usable?"""
    return np.asarray((valid >= least) & (valid > 0))


def judged(look: Look, known: NDArray[np.bool_]) -> Look:
    """A look as a judgement tells of it: only cells (row, col) that were compared with something count as seen.

    A cell that nothing is known of would else be taken for one where nothing was found, and end an alert.
    """
    return replace(look, cells=replace(look.cells, valid=np.where(known, look.cells.valid, np.float32(0))))


def day_of(moment: str) -> float:
    """Days since 1970."""
    return float(np.datetime64(moment.removesuffix("Z")).astype("datetime64[s]").astype(np.int64)) / 86_400


def _began(look: Look, frozen: Mapping[Cell, str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """(row, col) position in the moments, -1 where no alert is open; and the moments."""
    cells = look.cells
    began = np.full(cells.valid.shape, -1, np.int32)
    inside = {(row - cells.row, col - cells.col): moment for (row, col), moment in frozen.items()}
    inside = {place: moment for place, moment in inside.items() if _within(place, began.shape)}
    moments = tuple(sorted(set(inside.values())))
    for place, moment in inside.items():
        began[place] = moments.index(moment)
    return began, moments


def _within(place: Cell, shape: tuple[int, ...]) -> bool:
    return 0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]


def _overlaps(place: tuple[int, int, int, int], look: Look) -> bool:
    row, col, n_rows, n_cols = place
    ours = look.cells
    height, width = ours.valid.shape
    return row < ours.row + height and ours.row < row + n_rows and col < ours.col + width and ours.col < col + n_cols


def _lay(cells: Cells, onto: Floats, corner: Cell, least: NDArray[np.float32]) -> None:
    """Write the features of cells where they lie in an array (row, col, feature) with this corner."""
    height, width = cells.valid.shape
    top, left = max(cells.row, corner[0]), max(cells.col, corner[1])
    bottom, right = min(cells.row + height, corner[0] + onto.shape[0]), min(cells.col + width, corner[1] + onto.shape[1])
    if top >= bottom or left >= right:
        return
    theirs = slice(top - cells.row, bottom - cells.row), slice(left - cells.col, right - cells.col)
    ours = slice(top - corner[0], bottom - corner[0]), slice(left - corner[1], right - corner[1])
    part = Cells(row=top, col=left, valid=cells.valid[theirs], score=cells.score[theirs], descriptor=cells.descriptor[theirs])
    onto[ours] = features_of(part, least[ours])
