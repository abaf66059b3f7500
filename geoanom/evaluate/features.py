"""The features of an anomaly layer against each kind of truth."""

from __future__ import annotations

import logging
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine

from geoanom.errors import InputError
from geoanom.evaluate.grid import Grid
from geoanom.evaluate.judged import Judged, Objects, judged_map, mask_grid, require_crs
from geoanom.evaluate.metrics import objects_touched
from geoanom.evaluate.truth import Mask, Table
from geoanom.evaluate.vectors import Shapes
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.evaluate.vectors import Layer

log = logging.getLogger(__name__)

CELLS_A_SIDE = 1024
"""Cells of the grid that is laid where neither layer nor truth brings one."""
SLIVER = 0.01
"""Least share of the smaller of two areas that both have in common when they meet."""


@singledispatch
def judge_layer(truth: object, layer: Layer, path: Path) -> Judged:
    """A layer's scores where the truth is known, 0 outside of its features.

    Args:
        truth: mask, shapes or table.
        layer: features with scores.
        path: of the truth, for errors.

    Raises:
        InputError: both do not meet.
    """
    raise TypeError(type(truth), layer, path)


@judge_layer.register(Mask)
def _on_mask(truth: Mask, layer: Layer, path: Path) -> Judged:
    """On the pixels of the mask."""
    grid = mask_grid(truth.grid, layer.crs, path)
    features = grid.place_geometries(layer.geometries, layer.crs)
    _require_overlap(features, grid.outline(), path)
    cells = [grid.cells_inside(feature) for feature in features]
    labels = truth.labels.ravel()
    counted = [labels[inside] for inside in cells if (labels[inside] >= 0).any()]
    scores, called = _painted(grid, cells, layer.scores)
    n_hit, n_objects = objects_touched(called, truth.labels == 1)
    n_false = sum(not (inside == 1).any() for inside in counted)
    return judged_map(grid, scores, truth.labels, Objects(n_objects=n_objects, n_hit=n_hit, n_false_alarms=n_false), called)


@judge_layer.register(Shapes)
def _on_shapes(truth: Shapes, layer: Layer, path: Path) -> Judged:
    """On a grid round both: a layer does not say which area was scored."""
    require_crs(truth.crs, layer.crs, path)
    plane = Grid(height=1, width=1, georef=_georef(layer, Affine.identity()))
    shapes = plane.place_geometries(truth.geometries, truth.crs)
    _require_overlap(layer.geometries, shapely.box(*shapely.total_bounds(shapes)), path)
    log.warning("the layer does not say which area was scored: figures are for a box twice as wide and high as its features and the truth")
    grid = _grid_round(layer, shapes)
    placed, features = (grid.place_geometries(geometries, layer.crs) for geometries in (shapes, layer.geometries))
    labels = np.zeros(grid.height * grid.width, np.int8)
    for shape in placed:
        labels[grid.cells_inside(shape)] = 1
    scores, called = _painted(grid, [grid.cells_inside(feature) for feature in features], layer.scores)
    points = placed[_are_points(placed)]
    cells = grid.cell_of(shapely.get_x(points), shapely.get_y(points))
    _mark_points(cells, _scores_at(points, features, layer.scores), scores, called)
    return judged_map(grid, scores, labels.reshape(scores.shape), _objects(placed, features), called)


@judge_layer.register(Table)
def _on_table(truth: Table, layer: Layer, path: Path) -> Judged:
    """At the labelled places alone."""
    if truth.kind == ("row", "col"):
        raise InputError(path, "labels cells of a heatmap, and a layer has none", "name the heatmap, or give lon,lat,label")
    if truth.kind == ("lon", "lat") and layer.crs is None:
        raise InputError(path, "has longitudes and latitudes, and the layer is in pixels", "give x,y,label")
    points = np.atleast_1d(np.asarray(shapely.points(truth.first, truth.second), object))
    _require_overlap(layer.geometries, shapely.box(*shapely.total_bounds(points)), path)
    scores, called = _scores_at(points, layer.geometries, layer.scores)
    return Judged(scores=scores, truth=truth.truth, called=called)


def _painted(grid: Grid, cells: list[NDArray[np.int64]], scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores (row, col) of features that cover these cells, the highest where they overlap, and which cells are covered (row, col)."""
    field, called = np.zeros(grid.height * grid.width, np.float32), np.zeros(grid.height * grid.width, bool)
    for inside, score in zip(cells, scores, strict=True):
        field[inside] = np.maximum(field[inside], score)
        called[inside] = True
    return field.reshape(grid.height, grid.width), called.reshape(grid.height, grid.width)


def _scores_at(
    points: NDArray[np.object_], features: NDArray[np.object_], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The highest score of the features at each point (n,), 0 outside of all, and which points lie in one (n,)."""
    at, feature = shapely.STRtree(features).query(points, "intersects")
    found, called = np.zeros(len(points), np.float32), np.zeros(len(points), bool)
    np.maximum.at(found, at, scores[feature])
    called[at] = True
    return found, called


def _mark_points(
    cells: NDArray[np.int64],
    found: tuple[NDArray[np.float32], NDArray[np.bool_]],
    scores: NDArray[np.float32],
    called: NDArray[np.bool_],
) -> None:
    """Give the cells (n,) of true points what was found at the points themselves: a cell's centre may lie beside the feature."""
    np.maximum.at(scores.reshape(-1), cells, found[0])
    np.logical_or.at(called.reshape(-1), cells, found[1])


def _objects(shapes: NDArray[np.object_], features: NDArray[np.object_]) -> Objects:
    """Which shapes and features meet; those that only share a border do not, though rounding makes slivers of it."""
    shape, feature = shapely.STRtree(features).query(shapes, "intersects")
    ones, others = shapes[shape], features[feature]
    least = SLIVER * np.minimum(shapely.area(ones), shapely.area(others))
    meet = _are_points(ones) | (shapely.area(shapely.intersection(ones, others)) > least)
    n_hit, n_true = len(np.unique(shape[meet])), len(np.unique(feature[meet]))
    return Objects(n_objects=len(shapes), n_hit=n_hit, n_false_alarms=len(features) - n_true)


def _are_points(shapes: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.asarray(shapely.get_dimensions(shapes) == 0)


def _grid_round(layer: Layer, shapes: NDArray[np.object_]) -> Grid:
    """About a million cells, square on the ground, over a box twice as wide and high as the one round layer and truth.

    With true points the cells are at least as large as the layer's tiles, since a point says nothing about its surroundings.
    """
    left, top, right, bottom = shapely.total_bounds(np.concatenate([layer.geometries, shapes]))
    squeeze = 1.0 if layer.crs is None else max(float(np.cos(np.radians((top + bottom) / 2))), 1e-3)
    tile = _tile_side(layer, squeeze) if _are_points(shapes).any() else 0.0
    width, height = (right - left) * squeeze * 2, (bottom - top) * 2
    step = max(float(np.sqrt(width * height)) / CELLS_A_SIDE, max(width, height) / CELLS_A_SIDE**2, tile) or 1e-6
    n_cols, n_rows = int(width / step) + 3, int(height / step) + 3
    x, y = (left + right - n_cols * step / squeeze) / 2, (top + bottom - n_rows * step) / 2
    place = Affine.translation(x, y) @ Affine.scale(step / squeeze, step)
    return Grid(height=n_rows, width=n_cols, georef=_georef(layer, place))


def _tile_side(layer: Layer, squeeze: float) -> float:
    """Median side of a tile in the layer's own units of height; 0 where the layer does not tell."""
    areas = shapely.area(layer.geometries) * squeeze / layer.n_tiles
    known = areas[np.isfinite(areas)]
    return float(np.sqrt(np.median(known))) if known.size else 0.0


def _georef(layer: Layer, transform: Affine) -> Georeference:
    return Georeference(crs_wkt=None if layer.crs is None else layer.crs.to_wkt(), transform=transform)


def _require_overlap(features: NDArray[np.object_], frame: shapely.Geometry, path: Path) -> None:
    """Refuse a layer that lies wholly beside the truth; an empty one lies nowhere."""
    if len(features) and not shapely.box(*shapely.total_bounds(features)).intersects(frame):
        raise InputError(path, "does not overlap the layer anywhere", "name the truth of the same scene")
