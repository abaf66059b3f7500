"""A series of scenes of one place over years: seasons, light, clouds, jitter, faults, and real events whose dates and places are known.

Everything follows from the seed. What is not simulated: shadows of clouds, snow, tides, terrain, and slow growth of buildings.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from happenings import BEGIN, PLANS, feature_of, placed
from land import PIXEL_M, real_land
from scipy.ndimage import gaussian_filter, shift

if TYPE_CHECKING:
    from pathlib import Path

    from happenings import Event
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

REVISIT_DAYS = 5
YEARS_BEFORE = 3
MISSING = 0.2
"""Share of the dates of which no scene is there."""
JITTER_PX = 0.3
NOISE = 12.0
CLOUD = np.array([4300.0, 4200.0, 4100.0, 4600.0])
DECLARED = 0.25
"""Opacity from which on the quality raster says cloud; thinner edges and haze are not declared."""
CLEAR = 0.8
"""Share of an event that must be free of clouds for a view to be clear."""
THIN, HAZY = 0.03, 0.25
"""A scene is hazy if such a share of it lies under clouds that are not declared, and thicker than so much."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """What arrives when, and what is true."""

    folder: Path
    history: tuple[str, ...]
    """Names of scenes of the years before."""
    arrivals: dict[int, list[str]]
    """Names of files by the day of the watch on which they arrive."""
    events: tuple[Event, ...]
    faults: dict[str, str]
    """Scenes that are wrong as a whole, and what is wrong."""
    hazy: frozenset[str]
    """Scenes that may be called suspect, or not: much of them lies under clouds that are not declared."""
    km2: float
    """Area of a scene."""

    def deliver(self, names: list[str] | tuple[str, ...], inbox: Path) -> None:
        """Put scenes into an inbox, each whole, its quality raster first."""
        for name in names:
            for part in (quality_of(name), name):
                if (self.folder / part).exists():
                    shutil.copyfile(self.folder / part, inbox / f".{part}")
                    (inbox / f".{part}").rename(inbox / part)

    @property
    def truth(self) -> dict[str, Any]:
        """The events as GeoJSON."""
        return {"type": "FeatureCollection", "features": [feature_of(event) for event in self.events]}


def make_series(folder: Path, seed: int = 0, days: int = 90, side: int = 384, every: int = REVISIT_DAYS) -> Series:
    """Write the scenes and ``truth.geojson``.

    Args:
        folder: for the scenes, in which none are yet.
        seed: of everything.
        days: of the watch, from its first day on.
        side: of a scene, in pixels of 10 m.
        every: so many days a scene is taken in the years before.
    """
    folder.mkdir(parents=True)
    return _Maker(folder, seed, days, side).make(every)


def moment_of(day: int) -> dt.datetime:
    """When the scene of a day is taken."""
    return dt.datetime.combine(BEGIN, dt.time(15, 45), dt.UTC) + dt.timedelta(days=day)


def name_of(day: int, more: str = "") -> str:
    """Of a scene."""
    return f"S2_{moment_of(day):%Y%m%dT%H%M%S}{more}.tif"


def quality_of(name: str) -> str:
    """The quality raster of a scene."""
    return name.removesuffix(".tif") + "_qa.tif"


class _Maker:
    def __init__(self, folder: Path, seed: int, days: int, side: int) -> None:
        self.folder, self.seed, self.days = folder, seed, days
        self.land = real_land(seed, side)
        self.events = placed([plan for plan in PLANS if plan.begins < days], self.land, np.random.default_rng((seed, 1)))
        self.arrivals: dict[int, list[str]] = {}
        self.faults: dict[str, str] = {}
        self.hazy: set[str] = set()

    def make(self, every: int) -> Series:
        chance = np.random.default_rng((self.seed, 2))
        past = [day for day in range(-365 * YEARS_BEFORE, 0, every) if chance.random() >= MISSING]
        for day in past:
            self._scene(day)
        self._watch(chance)
        found = Series(
            folder=self.folder,
            history=tuple(name_of(day) for day in past),
            arrivals=dict(sorted(self.arrivals.items())),
            events=self.events,
            faults=self.faults,
            hazy=frozenset(self.hazy),
            km2=self.land.kind.size * PIXEL_M**2 / 1e6,
        )
        (self.folder / "truth.geojson").write_text(json.dumps(found.truth, indent=1))
        return found

    def _watch(self, chance: np.random.Generator) -> None:
        """Nine scenes in ten arrive on their day; what goes wrong, goes wrong on set days."""
        for day in range(0, self.days, REVISIT_DAYS):
            if chance.random() < MISSING / 2 and day not in TROUBLE:
                continue
            trouble = TROUBLE.get(day, "")
            if trouble in FAULTS:
                self.faults[name_of(day)] = trouble
            self._scene(day, fault=trouble)
            self._arrives(day + LATE.get(trouble, 0), name_of(day))
            if trouble == "twice":
                self._copy(day)
            if trouble == "reprocessed":
                self._scene(day, more="_N0510", version=1)
                self._arrives(day + 8, name_of(day, "_N0510"))
            if trouble == "corrupt":
                path = self.folder / name_of(day)
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])

    def _arrives(self, day: int, name: str) -> None:
        self.arrivals.setdefault(day, []).append(name)

    def _copy(self, day: int) -> None:
        name, twin = name_of(day), f"copy_of_{name_of(day)}"
        for one, other in ((name, twin), (quality_of(name), quality_of(twin))):
            shutil.copyfile(self.folder / one, self.folder / other)
        self._arrives(day + 1, twin)

    def _scene(self, day: int, *, fault: str = "", more: str = "", version: int = 0) -> None:
        """Render and write one scene; its reprocessed version has the same ground and sky, other light and other noise."""
        ground, sky, camera = (np.random.default_rng((self.seed, 3 + part, day + 10_000, version * (part == 2))) for part in range(3))
        values = self.land.on(moment_of(day).date(), ground)
        for event in self.events:
            if event.is_there(day):
                values += event.cover * (event.plan.colour[:, None, None] * (1 + 0.03 * ground.normal(size=values.shape)) - values)
        opacity = clouds(sky, values.shape[1:])
        values += opacity * (CLOUD[:, None, None] * (1 + 0.05 * sky.normal(size=values.shape[1:])) - values)
        if np.mean((opacity > THIN) & (opacity <= DECLARED)) > HAZY:
            self.hazy.add(name_of(day, more))
        self._note_views(day, opacity, counts=fault not in (*FAULTS, "corrupt"))
        values = seen(values, camera, fault)
        self._write(name_of(day, more), values, np.uint16, {"ACQUISITION_DATETIME": moment_of(day).isoformat()})
        self._write(quality_of(name_of(day, more)), (opacity > DECLARED)[None], np.uint8, {})

    def _write(self, name: str, values: NDArray[Any], dtype: Any, tags: dict[str, str]) -> None:
        n, height, width = values.shape
        profile = {"driver": "GTiff", "count": n, "height": height, "width": width, "crs": self.land.crs, "transform": self.land.transform}
        with rasterio.open(self.folder / name, "w", **profile, dtype=dtype, tiled=True, compress="deflate") as dst:
            dst.write(np.clip(np.rint(values), 0, 10_000).astype(dtype))
            dst.update_tags(**tags)
            if n > 1:
                dst.descriptions = ("B02", "B03", "B04", "B08")

    def _note_views(self, day: int, opacity: Floats, *, counts: bool) -> None:
        for event in self.events:
            inside = event.cover > 0.5
            if counts and event.is_there(day) and np.mean(opacity[inside] <= DECLARED) >= CLEAR:
                moment = f"{moment_of(day):%Y-%m-%dT%H:%M:%SZ}"
                event.views.extend([moment] if moment not in event.views else [])


LATE = {"late": 2, "very late": 12}
"""Days until a scene arrives; after the very late one two others have come."""
FAULTS = ("offset", "shifted")
TROUBLE = {
    10: "twice",
    20: "late",
    30: "very late",
    35: "reprocessed",
    40: "offset",
    50: "corrupt",
    55: "very late",
    60: "twice",
    65: "reprocessed",
    70: "shifted",
}
"""What happens to the scene of which day."""


def seen(values: Floats, rng: np.random.Generator, fault: str = "") -> Floats:
    """(band, row, col) as the camera gives it: moved by a part of a pixel, in the light of the day, with noise."""
    step = rng.uniform(-JITTER_PX, JITTER_PX, 2) + (3.0 if fault == "shifted" else 0.0)
    gain = rng.normal(1, 0.04) * rng.normal(1, 0.01, 4)
    offset = rng.normal(0, 12, 4) + (1000.0 if fault == "offset" else 0.0)
    moved = np.stack([shift(band, step, order=3, mode="nearest") for band in values])
    return np.asarray(moved * gain[:, None, None] + offset[:, None, None] + rng.normal(0, NOISE, values.shape))


def clouds(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """(row, col) opacity: blobs with soft edges over none to nearly all of the scene, and now and then thin haze."""
    share = rng.choice([0.0, rng.uniform(0.03, 0.35), rng.uniform(0.35, 0.9)], p=[0.35, 0.4, 0.25])
    size = rng.uniform(12, 40)
    field = sum(gaussian_filter(rng.normal(size=shape), size / 2**i, mode="reflect") * size / 4**i for i in range(3))
    field = (field - np.mean(field)) / np.std(field)
    opacity = np.zeros(shape) if share == 0 else 0.97 / (1 + np.exp(-(field - np.quantile(field, 1 - share)) / 0.08))
    if rng.random() < 0.15:
        haze = gaussian_filter(rng.normal(size=shape), 60, mode="reflect")
        opacity = np.maximum(opacity, rng.uniform(0.04, 0.1) * np.clip(haze / np.std(haze), 0, 2))
    return np.where(opacity < 0.02, 0.0, opacity)
