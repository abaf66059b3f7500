"""Two dates of a place on one grid."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import Transformer

from geoanom.change.register import NONE, estimate_shift
from geoanom.errors import SceneError
from geoanom.raster.grid import Window
from geoanom.raster.regrid import regridded
from geoanom.raster.scene import open_scene
from geoanom.sources.bands import is_name
from geoanom.sources.dates import acquisition_datetime

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    from geoanom.change.register import Shift
    from geoanom.config import Config
    from geoanom.raster.georef import Georeference
    from geoanom.raster.scene import Scene

    Floats = NDArray[np.float64]

EDGE_NODES = 33
"""Places along each side of a scene by which it is told where it lies."""
LEAST_SHIFT_PX = 0.1
"""Smaller shifts cost more by resampling than they are worth."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two scenes with the same grid and the same bands in the same order."""

    before: Scene
    after: Scene
    shift: Shift
    """Of the later scene against the earlier one, which was removed where it was sure and large enough."""
    common: Window | None = None
    """The part of the grid that the later scene may show; None where this is not known."""
    warnings: tuple[str, ...] = ()
    """Of both scenes, and what was done to bring them together."""


def open_pair(before: str | PathLike[str], after: str | PathLike[str], config: Config) -> Pair:
    """Open two dates of a place.

    Raises:
        SceneError: one cannot be used, or they have no place, or no bands, in common.
    """
    first, second = open_scene(before, config), open_scene(after, config)
    pair = paired(first, second, config)
    return replace(pair, warnings=(*_swapped(first, second), *pair.warnings))


def paired(before: Scene, after: Scene, config: Config) -> Pair:
    """The later scene on the grid of the earlier one, moved by the shift between them.

    Raises:
        SceneError: they have no place, or no bands, in common.
    """
    _check_bands(before, after)
    _check_pixels(before, after)
    resampling = config.change.resampling
    source, aligned = after, regridded(after, before.georef, before.height, before.width, resampling)
    shift = estimate_shift(before, aligned, config) if config.change.max_shift_px else NONE
    if shift.length_px >= LEAST_SHIFT_PX:
        source = replace(after, georef=_moved(after, aligned, shift))
        aligned = regridded(source, before.georef, before.height, before.width, resampling)
    return Pair(
        before=before,
        after=replace(aligned, name=after.name, datetime=after.datetime),
        shift=shift,
        common=_common(before, source),
        warnings=(*_both_said(before, after), *_told(shift, config)),
    )


def _both_said(before: Scene, after: Scene) -> list[str]:
    """The warnings of both scenes, those that they share once."""
    shared = [said for said in before.warnings if said in after.warnings]
    dated = (("earlier", before), ("later", after))
    return [*shared, *(f"the {date} scene: {said}" for date, scene in dated for said in scene.warnings if said not in shared)]


def _swapped(before: Scene, after: Scene) -> list[str]:
    """Whether the dates contradict the order in which the scenes are given; a date that is not known contradicts nothing."""
    first, second = _moment(before), _moment(after)
    if first is None or second is None or first <= second:
        return []
    return ["BEFORE is the later one by its date: appeared and vanished are exchanged; swap the two"]


def _moment(scene: Scene) -> dt.datetime | None:
    """When a scene was taken, in UTC, whatever way its date is written in."""
    told = acquisition_datetime({"ACQUISITION_DATETIME": scene.datetime or ""}, "")
    return None if told is None else dt.datetime.fromisoformat(told)


def _common(before: Scene, after: Scene) -> Window | None:
    """The smallest window of the earlier scene's grid with the outline of the later one in it, by their transforms."""
    along = np.linspace(0.0, 1.0, EDGE_NODES)
    across = np.concatenate([np.zeros(EDGE_NODES), np.ones(EDGE_NODES)])
    down, right = np.concatenate([across, along, along]), np.concatenate([along, along, across])
    found = _pixels_of(before.georef, after.georef, right * after.width, down * after.height)
    if not all(np.isfinite(places).all() for places in found):
        return None
    left, top = (int(np.floor(places.min())) for places in found)
    width, height = (int(np.ceil(places.max())) - start for places, start in zip(found, (left, top), strict=True))
    return Window(row_off=top, col_off=left, height=height, width=width).within(before.height, before.width)


def _told(shift: Shift, config: Config) -> list[str]:
    """What was done about a shift between the dates."""
    if shift.length_px >= LEAST_SHIFT_PX:
        return [f"a shift of {shift.cols:+.2f} columns and {shift.rows:+.2f} rows between the dates was removed"]
    return [] if shift.sure or not config.change.max_shift_px else ["no shift between the dates could be told, and none was removed"]


def _moved(after: Scene, aligned: Scene, shift: Shift) -> Georeference:
    """Where the later scene lies once the shift, told in pixels of the common grid, is removed.

    The shift is that of the middle of the common grid, in pixels of the later scene.
    """
    middle = np.array([aligned.width / 2, aligned.width / 2 + shift.cols]), np.array([aligned.height / 2, aligned.height / 2 + shift.rows])
    cols, rows = (float(places[1] - places[0]) for places in _pixels_of(after.georef, aligned.georef, *middle))
    gcps = tuple((row + rows, col + cols, x, y) for row, col, x, y in after.georef.gcps)
    return replace(after.georef, transform=after.georef.transform @ Affine.translation(-cols, -rows), gcps=gcps)


def _pixels_of(georef: Georeference, common: Georeference, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Where columns and rows of the common grid lie in a scene, by its transform."""
    if georef.is_pixel_space:
        return cols, rows
    places = Transformer.from_crs(common.crs, georef.crs, always_xy=True).transform(*common.xy(cols, rows))
    a, b, c, d, e, f = (~georef.transform)[:6]
    x, y = (np.asarray(axis, np.float64) for axis in places)
    return a * x + b * y + c, d * x + e * y + f


def _check_bands(before: Scene, after: Scene) -> None:
    """Refuse scenes whose bands differ in number or, where all have names of their own, in order."""
    ours, theirs = ([band.name for band in scene.bands] for scene in (before, after))
    if len(ours) != len(theirs):
        raise SceneError(after.uri, f"has {len(theirs)} bands, and {before.name} has {len(ours)}", "choose common ones with --bands")
    if all(map(is_name, (*ours, *theirs))) and ours != theirs and sorted(ours) == sorted(theirs):
        raise SceneError(after.uri, "has the bands of the earlier scene in another order", "name them with --bands")


def _check_pixels(before: Scene, after: Scene) -> None:
    """In pixel space there is nothing but the size that could tell that two scenes show the same."""
    both = before.georef.is_pixel_space and after.georef.is_pixel_space
    if both and (before.height, before.width) != (after.height, after.width):
        raise SceneError(after.uri, "has no place on the Earth and another size than the earlier scene", "georeference both")
