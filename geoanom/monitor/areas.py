"""Watched areas: which cells lie in them, and by which rules they are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine

from geoanom.errors import InputError
from geoanom.monitor.lattice import georef_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.monitor.settings import Area, Rules
    from geoanom.monitor.values import Cells, Lattice

NOWHERE = -1
"""Number of the area of a cell that lies in none."""


@dataclass(frozen=True, kw_only=True)
class WatchedArea:
    """One area on the lattice."""

    name: str
    rules: Rules
    shape: BaseGeometry = field(repr=False)
    """In columns and rows of cells."""
    lonlat: BaseGeometry = field(repr=False)
    """In WGS 84."""


@dataclass(frozen=True, kw_only=True)
class Areas:
    """All areas of a monitor; without any, every cell is watched by the rules of the monitor."""

    rules: Rules
    """Where there are no areas."""
    watched: tuple[WatchedArea, ...] = ()

    def numbers(self, cells: Cells) -> NDArray[np.int32]:
        """(row, col) which area holds the centre of each cell, the first of several; `NOWHERE` where none does."""
        if not self.watched:
            return np.zeros(cells.valid.shape, np.int32)
        found = np.full(cells.valid.shape, NOWHERE, np.int32)
        for number, area in reversed(list(enumerate(self.watched))):
            _mark(found, area.shape, (cells.row, cells.col), number)
        return found

    def rules_of(self, number: int) -> Rules:
        """The rules that hold in an area, by its number."""
        return self.watched[number].rules if self.watched and number >= 0 else self.rules

    def name_of(self, number: int) -> str:
        """Empty where there are no areas."""
        return self.watched[number].name if self.watched and number >= 0 else ""

    def least_valid(self, numbers: NDArray[np.int32]) -> NDArray[np.float32]:
        """(row, col) the share of each cell that must be usable for it to count as seen."""
        table = [self.rules_of(number).min_valid_fraction for number in (*range(max(1, len(self.watched))), NOWHERE)]
        return np.array(table, np.float32)[numbers]

    def unseen(self, footprints: Iterable[BaseGeometry]) -> tuple[str, ...]:
        """A line for each area that no scene shows any part of.

        Args:
            footprints: of all scenes, in WGS 84.
        """
        seen = shapely.union_all(list(footprints))
        return tuple(
            f"area {area.name}: lies outside every scene so far; check its place and CRS, or the scenes"
            for area in self.watched
            if not area.lonlat.intersects(seen)
        )


def read_areas(settings: Sequence[Area], lattice: Lattice, rules: Rules) -> Areas:
    """The areas of a monitor on its lattice.

    Args:
        settings: a vector file each, in any CRS; its polygons make one area.
        lattice: of the monitor.
        rules: of the monitor; areas may have some of their own.

    Raises:
        InputError: a file is missing, cannot be read, tells no CRS, or holds no polygons.
    """
    return Areas(rules=rules, watched=tuple(_watched(area, lattice, rules) for area in settings))


def _watched(area: Area, lattice: Lattice, rules: Rules) -> WatchedArea:
    import geopandas as gpd

    frame = gpd.GeoSeries([_polygons_in(area.path)[0]], crs=_polygons_in(area.path)[1])
    onto = ~Affine(*lattice.transform)
    placed = frame.to_crs(georef_of(lattice).crs).affine_transform([onto.a, onto.b, onto.d, onto.e, onto.c, onto.f])
    shape, lonlat = placed.iloc[0], frame.to_crs(4326).iloc[0]
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise InputError(area.path, "lies where the CRS of the scenes does not reach", "watch it by a monitor of its own")
    return WatchedArea(name=area.title, rules=rules.of(area), shape=shapely.make_valid(shape), lonlat=shapely.make_valid(lonlat))


def _polygons_in(path: Path) -> tuple[BaseGeometry, object]:
    """All polygons of a file as one geometry, and its CRS."""
    import geopandas as gpd

    if not path.exists():
        raise InputError(path, "does not exist", "correct monitor.areas")
    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() in {".parquet", ".geoparquet"} else gpd.read_file(path)
    except Exception as error:  # the readers behind geopandas share no base class
        raise InputError(path, f"is not a vector file that can be read ({error})", "name polygons, such as a GeoJSON") from error
    if not isinstance(frame, gpd.GeoDataFrame) or frame.crs is None:
        raise InputError(path, "tells no CRS" if isinstance(frame, gpd.GeoDataFrame) else "holds no geometries", "write it with its CRS")
    parts = shapely.get_parts(shapely.make_valid(shapely.force_2d(frame.geometry.dropna().to_numpy())))
    polygons = [part for part in shapely.get_parts(parts) if part.geom_type == "Polygon" and not part.is_empty]
    if not polygons:
        raise InputError(path, "holds no polygons", "draw the area to watch as polygons")
    return shapely.union_all(polygons), frame.crs


def _mark(numbers: NDArray[np.int32], shape: BaseGeometry, corner: tuple[int, int], number: int) -> None:
    """Write the number where the centres of cells lie in a shape."""
    shapely.prepare(shape)
    west, north, east, south = shape.bounds
    rows = np.arange(corner[0], corner[0] + numbers.shape[0]) + 0.5
    cols = np.arange(corner[1], corner[1] + numbers.shape[1]) + 0.5
    near_rows, near_cols = np.flatnonzero((rows >= north) & (rows <= south)), np.flatnonzero((cols >= west) & (cols <= east))
    for row in near_rows:
        inside = shapely.contains_xy(shape, cols[near_cols], rows[row])
        numbers[row, near_cols[inside]] = number
