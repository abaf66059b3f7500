"""The grid of cells that all looks of a monitor share, and how a scene is brought onto it.

The cells stand on the pixels of the first scene. Their rows and columns are counted from the origin of the CRS, so that all scenes on
the same pixels make the same lattice, whichever came first.
"""

from __future__ import annotations

from dataclasses import replace
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from shapely import box, union_all

from geoanom.errors import SceneError
from geoanom.layer.geometry import to_rfc7946
from geoanom.monitor.values import Lattice
from geoanom.raster.georef import Georeference
from geoanom.raster.regrid import regridded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.monitor.values import Cell
    from geoanom.raster.scene import Scene

NETWORK_PX = 4
"""The network sees in steps of so many pixels; scenes begin at multiples, so that it takes the same steps in each."""
SAME_PX = 1e-3
"""Grids that differ by less than this from whole pixels are not resampled."""
SURVEY_NODES = 65
MOST_GROWN = 16
"""A scene that takes so many times its pixels on the lattice is much coarser, or lies where the lattice is not drawn to scale."""


def lattice_of(scene: Scene, cell_px: int) -> Lattice:
    """The lattice on the pixels of a scene, the first of a monitor.

    Args:
        scene: with a place on the Earth; of ground control points the best plane fit counts.
        cell_px: side of a cell in pixels.

    Raises:
        SceneError: the scene has no place on the Earth.
    """
    georef = _placed(scene)
    pixel = georef.transform
    from_origin = np.linalg.solve([[pixel.a, pixel.b], [pixel.d, pixel.e]], [pixel.c, pixel.f])
    whole = np.floor(from_origin + SAME_PX)
    cells = pixel @ Affine.translation(*(-float(n) for n in whole)) @ Affine.scale(cell_px)
    return Lattice(crs=georef.crs_name or "", transform=tuple(cells[:6]))


def georef_of(lattice: Lattice) -> Georeference:
    """Where the corners (col, row) of cells lie."""
    return Georeference(crs_wkt=CRS.from_user_input(lattice.crs).to_wkt(), transform=Affine(*lattice.transform))


def geometry_of(cells: Iterable[Cell], lattice: Lattice) -> BaseGeometry:
    """The outline of some cells in WGS 84, as RFC 7946 wants it.

    Raises:
        ValueError: there are no cells, or they do not lie on the Earth.
    """
    return _on_earth(union_all([box(col, row, col + 1, row + 1) for row, col in cells]), georef_of(lattice))


def footprint_of(scene: Scene) -> BaseGeometry:
    """The frame of a scene in WGS 84, as RFC 7946 wants it.

    Raises:
        SceneError: the scene has no place on the Earth.
    """
    _placed(scene)
    return _on_earth(box(0, 0, scene.width, scene.height), scene.georef)


def _on_earth(outline: BaseGeometry, georef: Georeference) -> BaseGeometry:
    placed = None if outline.is_empty else to_rfc7946(outline, georef)
    if placed is None:
        raise ValueError("no cells on the Earth")
    return placed


def on_lattice(scene: Scene, lattice: Lattice, cell_px: int, config: Config) -> tuple[Scene, Cell]:
    """A scene on the pixels of the lattice: read as it is where its pixels are among them, and resampled by windows elsewhere.

    Returns:
        The scene, whole cells around its extent, and the cell in its upper left corner.

    Raises:
        SceneError: it has no place on the Earth, or lies too far from the lattice to be drawn on it.
    """
    georef = replace(georef_of(lattice), transform=Affine(*lattice.transform) @ Affine.scale(1 / cell_px))
    places = _outline(scene, georef)
    step = lcm(cell_px, NETWORK_PX)
    first = np.floor((places.min(axis=0) + SAME_PX) / step).astype(int) * step
    last = -np.floor((SAME_PX - places.max(axis=0)) / step).astype(int) * step
    width, height = (int(n) for n in last - first)
    if height * width > MOST_GROWN * (scene.height * scene.width + step * step):
        raise SceneError(
            scene.uri,
            "would be drawn many times larger than it is, on the pixels of the monitor's first scene",
            "watch it by a monitor of its own",
        )
    moved = replace(georef, transform=georef.transform @ Affine.translation(float(first[0]), float(first[1])))
    resampling = "nearest" if _is_whole(scene, georef) else config.sources.resampling
    return regridded(scene, moved, height, width, resampling), (int(first[1]) // cell_px, int(first[0]) // cell_px)


def _outline(scene: Scene, georef: Georeference) -> NDArray[np.float64]:
    """Places (n, 2) of the border of a scene, as columns and rows of another grid."""
    along = np.linspace(0.0, 1.0, SURVEY_NODES)
    ends = np.zeros_like(along), np.ones_like(along)
    cols, rows = np.concatenate([along, along, *ends]) * scene.width, np.concatenate([*ends, along, along]) * scene.height
    x, y = _placed(scene).xy(cols, rows)
    x, y = Transformer.from_crs(scene.georef.crs, georef.crs, always_xy=True).transform(x, y)
    places = np.column_stack(~georef.transform * (np.asarray(x), np.asarray(y)))
    known = places[np.isfinite(places).all(axis=1)]
    if len(known) < len(places):
        raise SceneError(scene.uri, "lies where the CRS of the monitor's first scene does not reach", "watch it by a monitor of its own")
    return np.asarray(known, np.float64)


def _is_whole(scene: Scene, georef: Georeference) -> bool:
    """Are the pixels of the scene pixels of this grid?"""
    theirs = scene.georef
    if theirs.gcps or not (theirs.crs and georef.crs and theirs.crs.equals(georef.crs, ignore_axis_order=True)):
        return False
    onto = ~georef.transform @ theirs.transform
    drift = max(abs(onto.a - 1.0), abs(onto.b), abs(onto.d), abs(onto.e - 1.0)) * max(scene.height, scene.width)
    return bool(max(drift, abs(onto.c - round(onto.c)), abs(onto.f - round(onto.f))) < SAME_PX)


def _placed(scene: Scene) -> Georeference:
    if scene.georef.is_pixel_space:
        raise SceneError(scene.uri, "has no place on the Earth, and a monitor watches places", "georeference it")
    return scene.georef
