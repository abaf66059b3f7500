"""What really changes in a simulated place, when and where."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from land import FIELD, FOREST, PIXEL_M, WATER
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from scipy.ndimage import distance_transform_edt
from shapely import Polygon, affinity, box
from shapely.geometry import Point, mapping, shape

if TYPE_CHECKING:
    from affine import Affine
    from land import Land
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BEGIN = dt.date(2024, 6, 1)
"""Day 0 of the watch: harvests lie within it."""
FINE = 4
"""Parts of a pixel's side by which the share that an event covers is told."""
APART_PX = 26

ROOF, SOIL, POND, SHIP, BURNT = np.array(
    [[3200, 3200, 3250, 3400], [1320, 1260, 1420, 1900], [1000, 800, 540, 320], [2600, 2650, 2500, 2400], [880, 680, 560, 720]], float
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An event before it has found its place."""

    name: str
    on: int
    size_m: tuple[float, float]
    colour: Floats
    begins: int
    """Day of the watch."""
    ends: int | None = None
    """First day on which it is gone; None for what stays."""
    round: bool = False


PLANS = (
    Plan(name="roof of 60 m", on=FIELD, size_m=(60, 60), colour=ROOF, begins=12),
    Plan(name="roof of 40 m", on=FIELD, size_m=(40, 40), colour=ROOF, begins=30),
    Plan(name="roof of 140 m", on=FIELD, size_m=(140, 80), colour=ROOF, begins=52),
    Plan(name="roof of 100 m", on=FIELD, size_m=(100, 60), colour=ROOF, begins=71),
    Plan(name="store of 80 m, taken away", on=FIELD, size_m=(80, 60), colour=ROOF, begins=15, ends=56),
    Plan(name="cleared forest of 200 m", on=FOREST, size_m=(200, 120), colour=SOIL, begins=21),
    Plan(name="cleared forest of 80 m", on=FOREST, size_m=(80, 80), colour=SOIL, begins=44),
    Plan(name="pond of 110 m", on=FIELD, size_m=(110, 90), colour=POND, begins=33, round=True),
    Plan(name="pond of 60 m", on=FIELD, size_m=(60, 60), colour=POND, begins=61, round=True),
    Plan(name="burnt patch of 160 m, green again", on=FIELD, size_m=(160, 120), colour=BURNT, begins=24, ends=68, round=True),
    Plan(name="ship of 120 m for two weeks", on=WATER, size_m=(120, 30), colour=SHIP, begins=26, ends=41),
    Plan(name="ship of 80 m for a week", on=WATER, size_m=(80, 30), colour=SHIP, begins=58, ends=66),
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that really changes."""

    plan: Plan
    shape: Any
    """Polygon in WGS 84."""
    cover: Floats
    """(row, col) share of each pixel that it covers."""
    views: list[str] = field(default_factory=list)
    """Moments of the clear views of it, in order."""

    def is_there(self, day: int) -> bool:
        """Has it begun, and not ended yet?"""
        return self.plan.begins <= day and (self.plan.ends is None or day < self.plan.ends)


def placed(plans: list[Plan], land: Land, rng: np.random.Generator) -> tuple[Event, ...]:
    """The events where they fit: each on its kind of land, away from the border and from each other."""
    free = np.zeros(land.kind.shape, bool)
    free[14:-14, 14:-14] = True
    found = []
    for plan in plans:
        reach = max(plan.size_m) / PIXEL_M / 2
        able = np.argwhere(free & (distance_transform_edt(land.kind == plan.on) > reach))
        row, col = able[rng.integers(len(able))]
        ground = _shape(plan, land.transform, (row, col), rng.uniform(0, 180))
        lonlat = shape(transform_geom(land.crs, "EPSG:4326", mapping(ground)))
        found.append(Event(plan=plan, shape=lonlat, cover=_cover(ground, land.transform, land.kind.shape)))
        free[max(0, row - APART_PX) : row + APART_PX, max(0, col - APART_PX) : col + APART_PX] = False
    return tuple(found)


def _shape(plan: Plan, transform: Affine, place: tuple[int, int], degrees: float) -> Polygon:
    x, y = transform * (place[1] + 0.5, place[0] + 0.5)
    width, height = plan.size_m
    unit = Point(x, y).buffer(0.5) if plan.round else box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)
    return affinity.rotate(affinity.scale(unit, width, height), degrees, origin=(x, y))


def _cover(ground: Polygon, transform: Affine, size: tuple[int, ...]) -> Floats:
    fine = rasterize([ground], tuple(FINE * n for n in size), transform=transform * transform.scale(1 / FINE))
    return np.asarray(fine.reshape(size[0], FINE, size[1], FINE).mean(axis=(1, 3), dtype=float))


def feature_of(event: Event) -> dict[str, Any]:
    """An event as GeoJSON."""
    plan = event.plan
    dates = {"begins": f"{BEGIN + dt.timedelta(plan.begins)}", "ends": f"{BEGIN + dt.timedelta(plan.ends)}" if plan.ends else None}
    return {
        "type": "Feature",
        "geometry": mapping(event.shape),
        "properties": {"name": plan.name, **dates, "clear_views": event.views},
    }
