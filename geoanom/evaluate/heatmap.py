"""A heatmap against each kind of truth."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import InputError
from geoanom.evaluate.judged import Judged, Objects, judged_map, mask_grid, require_crs
from geoanom.evaluate.metrics import objects_touched
from geoanom.evaluate.truth import Mask, Table
from geoanom.evaluate.vectors import WGS84, Shapes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.evaluate.grid import Raster


@singledispatch
def judge_heatmap(truth: object, heatmap: Raster, path: Path) -> Judged:
    """A heatmap's scores where the truth is known.

    Args:
        truth: mask, shapes or table.
        heatmap: scores.
        path: of the truth, for errors.

    Raises:
        InputError: both do not meet.
    """
    raise TypeError(type(truth), heatmap, path)


@judge_heatmap.register(Mask)
def _on_mask(truth: Mask, heatmap: Raster, path: Path) -> Judged:
    """On the pixels of the mask: each takes the score of the cell that holds its centre."""
    grid = mask_grid(truth.grid, heatmap.grid.crs, path)
    scores = heatmap.on(grid)
    positive = (truth.labels == 1) & np.isfinite(scores)
    _, n_objects = objects_touched(positive, positive)
    return judged_map(grid, scores, truth.labels, Objects(n_objects=n_objects))


@judge_heatmap.register(Shapes)
def _on_shapes(truth: Shapes, heatmap: Raster, path: Path) -> Judged:
    """On the cells of the heatmap: those whose centre lies in a shape are anomalous, and at least one for each shape."""
    grid = heatmap.grid
    require_crs(truth.crs, grid.crs, path)
    labels = np.zeros(heatmap.values.size, np.int8)
    n_objects = 0
    for geometry in grid.place_geometries(truth.geometries, truth.crs):
        cells = grid.cells_inside(geometry)
        labels[cells] = 1
        n_objects += bool(np.isfinite(heatmap.at(cells)).any())
    if not labels.any():
        raise InputError(path, "lies wholly outside of the heatmap", "name the truth of the same scene")
    return judged_map(grid, heatmap.values, labels.reshape(heatmap.values.shape), Objects(n_objects=n_objects))


@judge_heatmap.register(Table)
def _on_table(truth: Table, heatmap: Raster, path: Path) -> Judged:
    """At the labelled places alone."""
    scores = heatmap.at(_cells_of(truth, heatmap, path))
    known = np.isfinite(scores)
    area = heatmap.grid.cell_area_m2
    return Judged(scores=scores[known], truth=truth.truth[known], n_unscored=int((~known).sum()), cell_area_m2=area)


def _cells_of(truth: Table, heatmap: Raster, path: Path) -> NDArray[np.int64]:
    """Numbers of the cells that a table labels, -1 outside of the heatmap."""
    grid = heatmap.grid
    if truth.kind == ("row", "col"):
        return grid.cell_of(truth.second, truth.first)
    if truth.kind == ("lon", "lat") and grid.crs is None:
        raise InputError(path, "has longitudes and latitudes, and the heatmap is in pixels", "give row,col,label or x,y,label")
    crs = WGS84 if truth.kind == ("lon", "lat") else None
    return grid.cell_of(*grid.place(truth.first, truth.second, crs))
