"""What a monitor fixes with its first scene, so that all its looks compare."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import InputError, SceneError
from geoanom.monitor.lattice import lattice_of
from geoanom.monitor.values import Lattice

if TYPE_CHECKING:
    from geoanom.config import Config
    from geoanom.raster.scene import Scene

LEAST_CELL_PX = 8
MOST_CELLS = 250_000
"""Of a scene, where the side of a cell is not given: what is remembered of each look then takes some 30 MB."""
STRETCH = (1, 99)
"""Percentiles of the first scene that the network is shown as 0 and 1."""
SHOWN_BANDS = 3


@dataclass(frozen=True, kw_only=True)
class View:
    """How a monitor sees; kept with its facts as JSON."""

    lattice: Lattice
    cell_px: int
    """Side of a cell in pixels."""
    bands: tuple[str, ...]
    """Their names, in order."""
    shown: tuple[int, ...]
    """Positions of the bands that the network is shown."""
    low: tuple[float, ...] = field(repr=False)
    """(shown band,) what it is shown as 0."""
    high: tuple[float, ...] = field(repr=False)
    """(shown band,) what it is shown as 1."""

    def to_json(self) -> str:
        """As text; equal views give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> View:
        """From `to_json`.

        Raises:
            InputError: the text is not of a view.
        """
        try:
            tree = json.loads(text)
            lattice = Lattice(crs=tree.pop("lattice")["crs"], transform=tuple(json.loads(text)["lattice"]["transform"]))
            return cls(lattice=lattice, cell_px=tree.pop("cell_px"), **{name: tuple(values) for name, values in tree.items()})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("view", f"the store holds a view that cannot be read ({error})", "begin with a new store") from error

    def check_bands(self, scene: Scene) -> None:
        """Refuse a scene whose bands are others.

        Raises:
            SceneError: they differ in number or, where all have names, in names.
        """
        theirs = tuple(band.name for band in scene.bands)
        named = not any(name.startswith("band ") for name in (*theirs, *self.bands))
        if len(theirs) != len(self.bands) or (named and theirs != self.bands):
            said = f"has the bands {', '.join(theirs)}, and the monitor watches {', '.join(self.bands)}"
            raise SceneError(scene.uri, said, "choose the same by sources or by a monitor of its own")


def first_view(scene: Scene, config: Config, cell_px: int | None = None) -> View:
    """The view of a monitor whose first scene this is.

    Args:
        scene: with a place on the Earth.
        config: how it is read.
        cell_px: side of a cell in pixels; when None, the smallest power of two from `LEAST_CELL_PX` on that makes at most `MOST_CELLS`.

    Raises:
        SceneError: it has no place on the Earth, or no valid pixel.
    """
    from geoanom.layer.quicklook import display_bands
    from geoanom.raster.normalize import QUANTILES, quantile_table

    cell_px = cell_px or _usual_cell_px(scene)
    lattice = lattice_of(scene, cell_px)
    shown = tuple(display_bands(scene.bands)[:SHOWN_BANDS])
    table = quantile_table(scene, config)
    low, high = (table[np.searchsorted(QUANTILES, percent / 100)][list(shown)] for percent in STRETCH)
    return View(
        lattice=lattice,
        cell_px=cell_px,
        bands=tuple(band.name for band in scene.bands),
        shown=shown,
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
    )


def _usual_cell_px(scene: Scene) -> int:
    side = LEAST_CELL_PX
    while scene.height * scene.width > MOST_CELLS * side**2:
        side *= 2
    return side
