"""Which cells stand together as one place, and what its outline is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from rasterio.features import shapes
from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, label
from shapely import box, unary_union
from shapely.geometry import shape

from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.pixelerror import PixelErrors
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.grid import TileGrid

EIGHT = np.ones((3, 3), int)
"""Cells that share an edge or a corner are neighbours."""
CELLS_A_PLACE = 9
"""On average; beyond it, places no longer grow into their surroundings when the k most unusual ones are asked for."""
SPECK_PX = 7
"""Refined outlines are at least this wide."""
REACH_PX = 24
"""How far a refined outline may reach beyond its cells: a tile sees more than its core."""


def connected(scores: ScoreMap, selected: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The groups of neighbouring tiles among the selected ones (n,), each as positions in the score map."""
    tiles = np.flatnonzero(selected)
    field = np.zeros((scores.grid.n_rows, scores.grid.n_cols), bool)
    field[scores.rows[tiles], scores.cols[tiles]] = True
    labels = label(field, EIGHT)[0][scores.rows[tiles], scores.cols[tiles]]
    order = np.argsort(labels, kind="stable")
    return np.split(tiles[order], np.flatnonzero(np.diff(labels[order])) + 1) if len(tiles) else []


def top_places(scores: ScoreMap, k: int) -> NDArray[np.bool_]:
    """The tiles (n,) of the k most unusual places.

    Tiles are taken from the most anomalous downwards; neighbours join, and the tile that would start place k + 1 ends it.
    """
    place_of: dict[tuple[int, int], int] = {}
    members: dict[int, list[tuple[int, int]]] = {}
    chosen = np.zeros(len(scores), bool)
    for i in scores.order():
        cell = int(scores.rows[i]), int(scores.cols[i])
        beside = sorted({place_of[c] for c in _neighbours(cell) if c in place_of})
        if (not beside and len(members) == k) or (beside and len(place_of) >= CELLS_A_PLACE * k):
            if len(members) == k:
                break
            continue
        chosen[i] = True
        merged = [cell, *(c for place in beside for c in members.pop(place))]
        place = beside[0] if beside else int(i) + len(scores)
        members[place] = merged
        place_of.update(dict.fromkeys(merged, place))
    return chosen


def outline_of(cells: Iterable[tuple[int, int]], grid: TileGrid, errors: PixelErrors | None) -> BaseGeometry:
    """Outline of a group of cells in pixel corners (col, row), refined to its badly reconstructed pixels where these are known.

    Args:
        cells: row and column of each.
        grid: the cells' grid.
        errors: of the scene's pixels, if there are any.
    """
    cores = [grid.core(row, col) for row, col in cells]
    coarse = unary_union([box(w.col_off, w.row_off, w.col_end, w.row_end) for w in cores])
    if errors is None:
        return coarse
    fine = _refined(cores, grid, errors)
    return coarse if fine is None or fine.is_empty else fine


def _refined(cores: list[Window], grid: TileGrid, errors: PixelErrors) -> BaseGeometry | None:
    """The badly reconstructed part of the cells and of their near surroundings, told apart by Otsu's threshold; None if there is none."""
    top, left = min(w.row_off for w in cores) - REACH_PX, min(w.col_off for w in cores) - REACH_PX
    bottom, right = max(w.row_end for w in cores) + REACH_PX, max(w.col_end for w in cores) + REACH_PX
    frame = Window(row_off=top, col_off=left, height=bottom - top, width=right - left).within(grid.height, grid.width)
    inside = np.zeros((frame.height, frame.width), bool)
    for core in cores:
        rows = slice(core.row_off - frame.row_off, core.row_end - frame.row_off)
        inside[rows, core.col_off - frame.col_off : core.col_end - frame.col_off] = True
    from skimage.filters import threshold_otsu  # large, and only refined outlines need it

    near = binary_dilation(inside, EIGHT, iterations=REACH_PX)
    field = errors.read(frame)
    known = near & np.isfinite(field)
    if not known.any() or np.ptp(field[known]) == 0:
        return None
    bad = known & (field > threshold_otsu(field[known]))
    bad = binary_fill_holes(binary_opening(bad, np.ones((SPECK_PX, SPECK_PX), bool)))
    labels, _ = label(bad, EIGHT)
    kept = np.isin(labels, np.unique(labels[inside & bad])) & bad
    if not kept.any():
        return None
    place = Affine.translation(frame.col_off, frame.row_off)
    return unary_union([shape(s) for s, _ in shapes(kept.astype(np.uint8), mask=kept, transform=place)])


def _neighbours(cell: tuple[int, int]) -> list[tuple[int, int]]:
    row, col = cell
    return [(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
