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
    from geoanom.layer.windowmap import WindowMap
    from geoanom.raster.grid import TileGrid

EIGHT = np.ones((3, 3), int)
"""Cells that share an edge or a corner are neighbours."""
CELLS_A_PLACE = 4
"""What lies on a corner of cells shows in four; where the k most unusual places are asked for, none grows larger."""
LEAST_PLACE_PX = 12
"""Places may grow to a square of this side, however small the cells are."""
LARGEST_FRAME_PX = 2_000**2
"""Places that span more, such as a coast, keep the outline of their cells: memory must not follow the scene."""
LEAST_ERROR = 1e-9
"""Errors below it are equal."""
SPECK_PX = 7
"""Refined outlines are at least this wide."""
REACH_PX = 24
"""How far a refined outline may reach beyond its cells: a tile sees more than its core."""
AROUND_PX = 96
"""How far from its cells a place's surroundings reach, which say what is usual there."""


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

    Tiles are taken from the most anomalous downwards; neighbours join, what would make a place too large is left out, and the tile
    that would start place k + 1 ends it.
    """
    largest = max(CELLS_A_PLACE, (LEAST_PLACE_PX // scores.grid.stride) ** 2)
    place_of: dict[tuple[int, int], int] = {}
    members: dict[int, list[tuple[int, int]]] = {}
    chosen = np.zeros(len(scores), bool)
    for i in scores.order():
        cell = int(scores.rows[i]), int(scores.cols[i])
        beside = sorted({place_of[c] for c in _neighbours(cell) if c in place_of})
        if not beside and len(members) == k:
            break
        merged = [cell, *(c for place in beside for c in members[place])]
        if beside and len(merged) > largest:
            continue
        chosen[i] = True
        for place in beside:
            del members[place]
        place = beside[0] if beside else int(i)
        members[place] = merged
        place_of.update(dict.fromkeys(merged, place))
    return chosen


def outline_of(cells: Iterable[tuple[int, int]], grid: TileGrid, detail: PixelErrors | WindowMap | None) -> BaseGeometry:
    """Outline of a group of cells in pixel corners (col, row), refined to its odd pixels where these are known.

    Args:
        cells: row and column of each.
        grid: the cells' grid.
        detail: how odd the scene's pixels are, if that is known.
    """
    cores = [grid.core(row, col) for row, col in cells]
    coarse = unary_union([box(w.col_off, w.row_off, w.col_end, w.row_end) for w in cores])
    if detail is None:
        return coarse
    fine = _refined(cores, grid, detail)
    return coarse if fine is None or fine.is_empty else fine


def _refined(cores: list[Window], grid: TileGrid, detail: PixelErrors | WindowMap) -> BaseGeometry | None:
    """The odd part of the cells and of their near surroundings; None where nothing is odder than its surroundings."""
    frame = _frame(cores, AROUND_PX).within(grid.height, grid.width)
    if frame.height * frame.width > LARGEST_FRAME_PX:
        return None
    inside = np.zeros((frame.height, frame.width), bool)
    for core in cores:
        rows = slice(core.row_off - frame.row_off, core.row_end - frame.row_off)
        inside[rows, core.col_off - frame.col_off : core.col_end - frame.col_off] = True
    kept = _odd_part(detail.read(frame), inside)
    if not kept.any():
        return None
    place = Affine.translation(frame.col_off, frame.row_off)
    return unary_union([shape(s) for s, _ in shapes(kept.astype(np.uint8), mask=kept, transform=place)])


def _odd_part(field: NDArray[np.floating], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels around the cells' peak that are above half its height, on a logarithmic scale.

    The height counts from what is usual around, and pixels are joined over edges and corners.
    """
    known = np.isfinite(field)
    if not (inside & known).any():
        return np.zeros_like(inside)
    height = np.log(np.where(known, np.maximum(field, LEAST_ERROR), LEAST_ERROR))
    peak, usual = height[inside & known].max(), np.median(height[known])
    near = binary_dilation(inside, EIGHT, iterations=REACH_PX)
    odd = known & near & (height > (peak + usual) / 2)
    odd = binary_fill_holes(binary_opening(odd, np.ones((SPECK_PX, SPECK_PX), bool))) & known
    labels, _ = label(odd, EIGHT)
    kept: NDArray[np.bool_] = np.isin(labels, np.unique(labels[inside & odd])) & odd
    return kept


def _frame(cores: list[Window], beyond: int) -> Window:
    """The rectangle around some windows, and so many pixels more on each side."""
    top, left = min(w.row_off for w in cores) - beyond, min(w.col_off for w in cores) - beyond
    bottom, right = max(w.row_end for w in cores) + beyond, max(w.col_end for w in cores) + beyond
    return Window(row_off=top, col_off=left, height=bottom - top, width=right - left)


def _neighbours(cell: tuple[int, int]) -> list[tuple[int, int]]:
    row, col = cell
    return [(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
