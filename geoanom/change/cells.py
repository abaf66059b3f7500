"""Maps of blocks, summed up over the cells that are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.change.statistic import ChangeMaps
    from geoanom.raster.grid import Window

    Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CellRows:
    """The cells of one block in row-major order."""

    rows: NDArray[np.int64]
    """(n,) cell rows in the scene."""
    cols: NDArray[np.int64]
    """(n,) cell columns in the scene."""
    combined: Floats
    """(n,) mean of the combined map; NaN where nothing is valid."""
    members: Floats
    """(n, member)."""
    odd: Floats
    """(n, 2) how much each date by itself stands out."""
    difference: Floats
    """(n, band) later minus earlier, in standard deviations of the band."""
    valid_fraction: Floats
    """(n,)."""


def cells_of(maps: ChangeMaps, core: Window, cell_px: int) -> CellRows:
    """Means over the valid pixels of each cell; cells start at multiples of their side, and so do blocks."""
    n_rows, n_cols = -(-core.height // cell_px), -(-core.width // cell_px)
    weight = _sums(maps.valid[None].astype(np.float64), cell_px)[0]
    area = _sums(np.ones((1, *maps.valid.shape)), cell_px)[0]
    layers = np.stack([maps.combined, *maps.members.values(), *maps.odd, *maps.difference])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = _sums(np.where(maps.valid, layers, 0.0), cell_px) / weight
    n_members = len(maps.members)
    table = means.reshape(len(layers), -1).T
    rows, cols = np.indices((n_rows, n_cols)).reshape(2, -1)
    return CellRows(
        rows=rows + core.row_off // cell_px,
        cols=cols + core.col_off // cell_px,
        combined=table[:, 0],
        members=table[:, 1 : 1 + n_members],
        odd=table[:, 1 + n_members : 3 + n_members],
        difference=table[:, 3 + n_members :],
        valid_fraction=(weight / area).ravel(),
    )


def _sums(layers: NDArray[np.float64], cell_px: int) -> Floats:
    """(layer, row, col) summed over cells, the last of which may be cut off."""
    starts = (np.arange(0, length, cell_px) for length in layers.shape[1:])
    rows, cols = starts
    return np.asarray(np.add.reduceat(np.add.reduceat(layers, rows, axis=1), cols, axis=2))
