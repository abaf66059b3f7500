"""Places of pixels in another grid, computed at nodes and interpolated between them.

Nodes are counted from the corner of the grid, so that the place of a pixel does not depend on the window it is asked for in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.raster.grid import Window

SNAP = 2.0**20
"""Places are rounded to a millionth of a pixel, so that grids which should coincide do."""

Places = tuple["NDArray[np.float64]", "NDArray[np.float64]"]
"""Columns and rows of pixel corners, fractions allowed, NaN where there is no such place."""


class Mapping(Protocol):
    """From the new grid to the old one."""

    @property
    def keeps_axes(self) -> bool:
        """Do columns depend on columns alone, and rows on rows?"""

    def __call__(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> Places:
        """Places in the old grid, point by point."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Places of the nodes around a window, every `step` pixels counted from the corner of the grid."""

    top: int
    left: int
    step: int
    cols: NDArray[np.float64]
    """(node row, node col); one row where axes are kept."""
    rows: NDArray[np.float64]
    """(node row, node col); one column where axes are kept."""
    keeps_axes: bool

    @classmethod
    def over(cls, window: Window, step: int, mapping: Mapping) -> Nodes:
        """The nodes of all cells that the window touches."""
        top, left = window.row_off // step, window.col_off // step
        n_rows, n_cols = -(-window.row_end // step) - top + 1, -(-window.col_end // step) - left + 1
        rows, cols = np.meshgrid((top + np.arange(n_rows)) * float(step), (left + np.arange(n_cols)) * float(step), indexing="ij")
        x, y = mapping(cols.ravel(), rows.ravel())
        x, y = x.reshape(rows.shape), y.reshape(rows.shape)
        if mapping.keeps_axes:
            x, y = x[:1], y[:, :1]
        return cls(top=top, left=left, step=step, cols=x, rows=y, keeps_axes=mapping.keeps_axes)

    def places(self, window: Window, row: float, col: float) -> Places:
        """Places of the samples that stand at (row, col) in each pixel of a window.

        Returns:
            Two arrays (row, col); where axes are kept one row of columns and one column of rows stand for all.
        """
        i, down = _cells(window.row_off, window.height, row, self.step, self.top)
        j, right = _cells(window.col_off, window.width, col, self.step, self.left)
        if self.keeps_axes:
            return _snapped(_between(self.cols.T, j, right).T), _snapped(_between(self.rows, i, down))
        cols, rows = (_snapped(_between(_between(nodes.T, j, right).T, i, down)) for nodes in (self.cols, self.rows))
        return cols, rows


def _between(nodes: NDArray[np.float64], cell: NDArray[np.intp], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolated between a node and the next along the first axis."""
    with np.errstate(invalid="ignore"):  # nodes without a place are infinite or no number, and so are the places between
        return np.asarray(nodes[cell] * (1.0 - share)[:, None] + nodes[cell + 1] * share[:, None])


def _snapped(places: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.rint(places * SNAP) / SNAP)


def _cells(start: int, length: int, offset: float, step: int, first: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Cell of each sample along one side, and where in it the sample stands, from 0 to 1."""
    index = np.arange(start, start + length)
    return (index // step - first).astype(np.intp), (index % step + offset) / step
