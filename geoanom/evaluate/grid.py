"""Cells with a place: what brings scores and truth together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import shapely
from pyproj import CRS, Transformer

from geoanom.raster.georef import area_m2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.raster.georef import Georeference

CELLS_AT_ONCE = 2**20
EDGE_STEPS = 64
"""Pieces that a side of a grid is cut to, so that it may curve on the Earth."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A raster's shape and place, without its values."""

    height: int
    width: int
    georef: Georeference

    @property
    def crs(self) -> CRS | None:
        """The CRS; None in pixel space."""
        return self.georef.crs

    @cached_property
    def cell_area_m2(self) -> float | None:
        """Geodesic area of a cell, as the mean over the grid; None in pixel space or off the Earth."""
        if self.georef.is_pixel_space:
            return None
        outline = self.georef.geometry_lonlat(shapely.box(0, 0, self.width, self.height), max(self.height, self.width) / EDGE_STEPS)
        if not np.isfinite(shapely.get_coordinates(outline)).all():
            return None
        return area_m2(outline) / (self.height * self.width)

    def outline(self) -> BaseGeometry:
        """The grid's border in the cells' own coordinates (col, row)."""
        return shapely.box(0, 0, self.width, self.height)

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64], crs: CRS | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Column and row, with fractions, of points in a CRS; where the grid or the points have none, coordinates are taken as they are."""
        if crs is not None and self.crs is not None and crs != self.crs:
            x, y = Transformer.from_crs(crs, self.crs, always_xy=True).transform(x, y)
        a, b, c, d, e, f = (~self.georef.transform)[:6]
        with np.errstate(invalid="ignore"):  # what lies outside a projection is infinite, and belongs to no cell
            return a * x + b * y + c, d * x + e * y + f

    def place_geometries(self, geometries: NDArray[np.object_], crs: CRS | None) -> NDArray[np.object_]:
        """Geometries in the cells' own coordinates (col, row); empty where they leave the grid's projection."""

        def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(self.place(points[:, 0], points[:, 1], crs))

        moved = [shapely.transform(geometry, move) for geometry in geometries]
        return as_array([g if np.isfinite(shapely.get_coordinates(g)).all() else shapely.Point() for g in moved])

    def cell_of(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the cell (row * width + col) that holds each point, -1 outside of the grid."""
        inside = (cols >= 0) & (cols < self.width) & (rows >= 0) & (rows < self.height)
        cells = np.full(cols.shape, -1, np.int64)
        cells[inside] = np.floor(rows[inside]).astype(np.int64) * self.width + np.floor(cols[inside]).astype(np.int64)
        return cells

    def cells_inside(self, geometry: BaseGeometry) -> NDArray[np.int64]:
        """Numbers of the cells whose centres lie in a geometry; where there is none, of the one cell that holds a point of it.

        So a truth or a feature that is smaller than a cell does not vanish.

        Args:
            geometry: polygon or point in the cells' own coordinates.
        """
        if geometry.is_empty:
            return np.empty(0, np.int64)
        shapely.prepare(geometry)
        found = [cells[shapely.contains_xy(geometry, cols, rows)] for cells, cols, rows in self._cells_near(geometry)]
        cells = np.concatenate([np.empty(0, np.int64), *found])
        if len(cells):
            return cells
        point = shapely.point_on_surface(geometry)
        lone = self.cell_of(np.array([point.x]), np.array([point.y]))
        return lone[lone >= 0]

    def _cells_near(self, geometry: BaseGeometry) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
        """Number, column and row of the centres of the cells inside a geometry's bounds, some rows at a time."""
        left, top, right, bottom = geometry.bounds
        cols = np.arange(max(0, int(left)), min(self.width, int(right) + 1))
        last = min(self.height, int(bottom) + 1)
        step = max(1, CELLS_AT_ONCE // max(1, len(cols)))
        for start in range(max(0, int(top)), last, step):
            rows = np.arange(start, min(start + step, last))[:, None]
            cells = rows * self.width + cols
            yield cells, np.broadcast_to(cols + 0.5, cells.shape), np.broadcast_to(rows + 0.5, cells.shape)


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Values on a grid."""

    grid: Grid
    values: NDArray[np.floating] = field(repr=False)
    """(row, col), NaN where there is none."""

    def at(self, cells: NDArray[np.int64]) -> NDArray[np.floating]:
        """Values of cells by their numbers, NaN for -1."""
        return np.where(cells >= 0, self.values.ravel()[np.maximum(cells, 0)], np.nan)

    def on(self, grid: Grid) -> NDArray[np.floating]:
        """The values (row, col) on another grid: each of its cells takes the value at its centre, NaN outside."""
        taken = np.empty((grid.height, grid.width), self.values.dtype)
        step = max(1, CELLS_AT_ONCE // grid.width)
        for start in range(0, grid.height, step):
            rows, cols = np.mgrid[start : min(start + step, grid.height), 0 : grid.width]
            x, y = grid.georef.xy(cols + 0.5, rows + 0.5)
            taken[start : start + step] = self.at(self.grid.cell_of(*self.grid.place(x, y, grid.crs)))
        return taken


def as_array(geometries: list[BaseGeometry]) -> NDArray[np.object_]:
    """Geometries (n,) as shapely's vectorized functions want them."""
    array = np.empty(len(geometries), object)
    array[:] = geometries
    return array
