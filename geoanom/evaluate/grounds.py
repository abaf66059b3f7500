"""Real scenes that suites build on: found by the places where benchmark data keep them, read whole, and judged after a change."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geoanom.errors import InputError
from geoanom.evaluate.plants import Donor
from geoanom.raster.fill import with_border_fill
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from affine import Affine
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config

GLOBS = ("oscd/*_1.tif", "taizhou/*TM", "flood/*S2Hand.tif", "sztaki/*/im1.bmp")
"""Scenes of each kind; of a pair of dates the first."""
TOP = 50
"""Places that may be called in a scene."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A scene in memory."""

    name: str
    values: NDArray[np.generic] = field(repr=False)
    """(band, row, col)."""
    valid: NDArray[np.bool_] = field(repr=False)
    """(row, col), True = usable."""
    crs_wkt: str | None
    transform: Affine

    @property
    def donor(self) -> Donor:
        """The scene as a giver of patches."""
        return Donor(values=self.values, valid=self.valid)


def find_grounds(data: Path) -> list[Path]:
    """Paths of the scenes below a folder of benchmark data, or below the folder ``truth`` in it.

    Raises:
        InputError: there is none.
    """
    base = data / "truth" if (data / "truth").is_dir() else data
    found = [path for pattern in GLOBS for path in sorted(base.glob(pattern)) if not _is_later_date(path)]
    if not found:
        raise InputError(data, "holds none of the scenes " + ", ".join(GLOBS), "name the folder that holds the benchmark's data")
    return found


def read_ground(path: Path, config: Config) -> Ground:
    """Read a scene whole, in pixel space where it has no place on the Earth.

    Raises:
        SceneError: it cannot be used.
    """
    scene = open_scene(path, on_any_ground(config))
    with closing(scene.open_handle()) as handle:
        pixels = handle.read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))
    return Ground(
        name="/".join(path.parts[-2:]),
        values=pixels.values,
        valid=pixels.valid,
        crs_wkt=scene.georef.crs_wkt,
        transform=scene.georef.transform,
    )


def on_any_ground(config: Config) -> Config:
    """The settings with leave to work in pixel space."""
    return config.model_copy(update={"sources": config.sources.model_copy(update={"pixel_space": True})})


def called_places(ground: Ground, values: NDArray[np.generic], valid: NDArray[np.bool_], *configs: Config) -> list[list[BaseGeometry]]:
    """What `geoanom detect` calls in a changed scene, by rank, under the thresholds of one or more settings that differ in nothing else.

    The scene stays in memory; from there on it goes the way of a file.

    Args:
        ground: for its place.
        values: (band, row, col) in place of the scene's own.
        valid: (row, col), True = usable.
        configs: one list of outlines is returned for each.
    """
    from geoanom.model.fitting import fit_model  # torch is large, and missing data are to be told at once
    from geoanom.pipeline import Outputs, score_open

    scene = with_border_fill(array_scene(values, valid=valid, crs_wkt=ground.crs_wkt, transform=ground.transform, name=ground.name))
    model = fit_model([scene], configs[0].model_copy(update={"bands": None}))  # those chosen were chosen when it was read
    layers = [score_open([scene], model, config, Outputs(), ()).layer for config in configs]
    return [[anomaly.outline for anomaly in sorted(layer.anomalies, key=lambda anomaly: anomaly.rank)] for layer in layers]


def _is_later_date(path: Path) -> bool:
    """Is there an earlier raster of the same name, but for the year in front of it?"""
    stem = path.name.lstrip("0123456789")
    return stem != path.name and any(p.name < path.name and p.name.lstrip("0123456789") == stem for p in path.parent.iterdir())
