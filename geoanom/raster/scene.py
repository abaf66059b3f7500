"""What a scene is, and how one is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from geoanom.errors import SceneError
from geoanom.registry import REFINEMENTS, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.georef import Georeference
    from geoanom.raster.grid import TileGrid, Window


@dataclass(frozen=True, kw_only=True)
class Band:
    """One used band of a scene."""

    index: int
    """1-based number in the file."""
    name: str
    """Description from the file, or ``band N``."""
    dtype: str
    """Type of the values that are read, after scale, offset and amplitude."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a read returns."""

    values: NDArray[np.generic]
    """(band, row, col), in real units."""
    valid: NDArray[np.bool_]
    """(row, col), True = usable."""
    damaged_blocks: tuple[tuple[int, int], ...] = ()
    """(row, col) of the file's blocks that could not be decoded."""


class Handle(Protocol):
    """An open scene, for one thread."""

    def read(self, window: Window) -> Pixels:
        """The pixels of a window that lies inside the scene."""

    def close(self) -> None:
        """Give the handle back."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A raster that can be scored: its shape, bands, place and a way to read it."""

    uri: str
    """What the user named."""
    name: str
    """File name, for layers and messages."""
    digest: str
    """SHA-256 of the content, in hex."""
    height: int
    width: int
    bands: tuple[Band, ...]
    """The used ones."""
    band_count: int
    """Bands in the file, used or not, alpha aside."""
    block_height: int
    """Rows that are decoded at once."""
    block_width: int
    """Columns that are decoded at once."""
    georef: Georeference
    datetime: str | None = None
    """Acquisition time, ISO 8601."""
    fill: tuple[float, ...] | None = None
    """One constant per band that stands for no data along the scene's border; None when there is none."""
    warnings: tuple[str, ...] = ()
    """What the user should know, in plain words."""
    open_handle: Callable[[], Handle] = field(repr=False, compare=False)
    """A new handle; one for each thread."""
    check_unchanged: Callable[[], None] = field(repr=False, compare=False, default=lambda: None)
    """Raise `SceneError` if the content was replaced since it was opened."""

    @cached_property
    def resolution_m(self) -> float | None:
        """Side of a pixel in metres; None in pixel space."""
        return self.georef.resolution_m(self.height, self.width)

    def grid(self, config: Config) -> TileGrid:
        """The tile grid that the settings lay over the scene."""
        from geoanom.raster.grid import TileGrid

        return TileGrid(height=self.height, width=self.width, size=config.tiles.size, stride=config.tiles.step)


def open_scene(uri: str | PathLike[str], config: Config) -> Scene:
    """Open a scene with the first source that knows it, mask what its quality raster rejects, and look for undeclared fill.

    Raises:
        SceneError: it cannot be used; the message says why and what to do.
    """
    from geoanom.raster.fill import with_border_fill

    for name in SOURCES.names():
        scene: Scene | None = SOURCES.load(name)(str(uri), config)
        if scene is not None:
            for refinement in REFINEMENTS.names():
                scene = REFINEMENTS.load(refinement)(scene, config)
            return with_border_fill(scene)
    raise SceneError(uri, "no source knows this kind of scene", "see geoanom list sources")
