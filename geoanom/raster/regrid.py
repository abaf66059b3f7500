"""A scene on another grid: another pixel size, origin or CRS.

Where a pixel of the new grid lies in the old one is computed from its own row and column alone, and so is its value: reading by
pieces gives the bits of reading at once. GDAL's warper computes places from the corner of the window at hand, which moves the last
bits of the values, so the pixels are sampled here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

from geoanom.errors import SceneError
from geoanom.raster.compose import grown, joined_digest, same_place, without_fill
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.raster.lattice import Nodes
from geoanom.raster.scene import Pixels
from geoanom.raster.taps import KERNELS, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from geoanom.raster.lattice import Mapping, Places
    from geoanom.raster.scene import Handle, Scene

__all__ = ["at_resolution", "on_finest_grid", "regridded", "same_place"]

MAX_PIECE_PX = 2**22
"""Source pixels that are held at once, a band."""
MAX_FACTOR = 4096
"""Largest number of source pixels along the side of a new one."""
AVERAGED_FROM = 2.0
"""Factor of coarsening from which smooth kernels would skip pixels, so that the mean is taken."""
SURVEY_NODES = 65
LATTICE_M = 2000.0
LATTICE_PX = 16
"""Places are computed at nodes and interpolated: over 2 km the curvature of a projection is some centimetres."""


def regridded(scene: Scene, georef: Georeference, height: int, width: int, resampling: str = "bilinear") -> Scene:
    """The scene on the grid of a georeference; a pixel is valid where no invalid pixel of the scene contributes to it.

    Args:
        scene: what is resampled.
        georef: of the new grid.
        height: rows of the new grid.
        width: columns of the new grid.
        resampling: ``nearest``, ``bilinear``, ``cubic`` (Keys 1981, doi:10.1109/TASSP.1981.1163711) or ``average``; where the new pixels
            are twice as large or larger, the smooth ones give way to ``average``.

    Raises:
        SceneError: the grids have nothing in common, or the new pixels are more than `MAX_FACTOR` times larger.
    """
    if (scene.height, scene.width) == (height, width) and same_place(scene.georef, georef):
        return scene
    if scene.georef.is_pixel_space != georef.is_pixel_space:
        raise SceneError(scene.uri, "has no place on the Earth in common with the grid it should have", "georeference it")
    shift = partial(_ByPlace, source=scene.georef, target=georef, centre=(scene.width / 2, scene.height / 2))
    metres = georef.resolution_m(height, width) or 1.0
    step = int(np.clip(LATTICE_M / metres, 1, LATTICE_PX))
    return _resampled(scene, georef, (height, width), resampling=resampling, make=shift, step=step)


def on_finest_grid(scenes: Sequence[Scene], resampling: str = "bilinear") -> list[Scene]:
    """The scenes on the grid of the one with the smallest pixels, the first of several such.

    Raises:
        SceneError: as for `regridded`.
    """
    finest = min(scenes, key=lambda scene: scene.resolution_m or 1.0)
    return [regridded(scene, finest.georef, finest.height, finest.width, resampling) for scene in scenes]


def at_resolution(scene: Scene, resolution_m: float, resampling: str = "bilinear") -> Scene:
    """The scene with pixels of another size and the same CRS and origin; what is left of a pixel at its far edges is cut off.

    Factors within half a percent of a whole number or of its inverse are taken for it: the side of a pixel in metres
    varies by as much within the zone of a projection.

    Raises:
        SceneError: it has no place on the Earth, or the new pixels are more than `MAX_FACTOR` times larger.
    """
    if scene.resolution_m is None:
        raise SceneError(scene.uri, "has no resolution in metres, as it has no place on the Earth", "georeference it")
    factor = _whole(resolution_m / scene.resolution_m)
    if factor == 1.0:
        return scene
    height, width = (max(1, int(length / factor + 1e-6)) for length in (scene.height, scene.width))
    gcps = tuple((row / factor, col / factor, x, y) for row, col, x, y in scene.georef.gcps)
    georef = Georeference(crs_wkt=scene.georef.crs_wkt, transform=scene.georef.transform @ Affine.scale(factor), gcps=gcps)
    return _resampled(scene, georef, (height, width), resampling=resampling, make=partial(_ByScale, factor), step=LATTICE_PX)


def _whole(factor: float) -> float:
    if factor >= 1.0:
        return float(round(factor)) if abs(factor / round(factor) - 1.0) < 0.005 else factor
    return 1.0 / _whole(1.0 / factor)


@dataclass(frozen=True)
class _ByScale:
    factor: float
    keeps_axes: bool = True

    def __call__(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> Places:
        return cols * self.factor, rows * self.factor


@dataclass(frozen=True, kw_only=True)
class _ByPlace:
    """By way of the Earth's surface; one for each thread, as PROJ's transformers are."""

    source: Georeference
    target: Georeference
    centre: tuple[float, float]
    """Column and row of the middle of the scene."""
    transformer: Transformer | None = field(init=False)

    @property
    def keeps_axes(self) -> bool:
        """True on the same CRS without rotation."""
        both = (self.source, self.target)
        return self.transformer is None and not any(g.gcps or g.transform.b or g.transform.d for g in both)

    def __post_init__(self) -> None:
        ours, theirs = self.source.crs, self.target.crs
        alike = ours is None or theirs is None or ours.equals(theirs, ignore_axis_order=True)
        object.__setattr__(self, "transformer", None if alike else Transformer.from_crs(theirs, ours, always_xy=True))

    def __call__(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> Places:
        x, y = self.target.xy(cols, rows)
        if self.transformer is not None:
            x, y = self.transformer.transform(x, y)
        if self.source.crs is not None and self.source.crs.is_geographic:
            x = self._on_our_side(x)
        if self.source.gcps:
            return self._by_control_points(x, y)
        a, b, c, d, e, f = (~self.source.transform)[:6]
        return a * x + b * y + c, d * x + e * y + f

    def _on_our_side(self, lon: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longitudes within half a turn of the scene's; none near the far meridian, where they would jump."""
        middle = float(self.source.xy(*(np.array([v]) for v in self.centre))[0][0])
        moved = middle + np.mod(lon - middle + 180.0, 360.0) - 180.0
        moved[np.abs(moved - middle) > 179.0] = np.nan
        return moved

    def _by_control_points(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Places:
        points = [GroundControlPoint(row=row, col=col, x=x, y=y) for row, col, x, y in self.source.gcps]
        with GCPTransformer(points) as transformer:
            rows, cols = transformer.rowcol(x, y, op=lambda v: v)
        return np.asarray(cols, float), np.asarray(rows, float)


def _resampled(
    scene: Scene, georef: Georeference, shape: tuple[int, int], *, resampling: str, make: Callable[[], Mapping], step: int
) -> Scene:
    part = without_fill(scene)
    factors = _factors(part, shape, make())
    if max(factors) > MAX_FACTOR:
        raise SceneError(scene.uri, f"would be coarsened {max(factors):.0f} times, the limit is {MAX_FACTOR}", "choose another resolution")
    smooth = resampling in ("bilinear", "cubic")
    kind = "average" if smooth and max(factors) >= AVERAGED_FROM else resampling
    plan = _Plan(kind=kind, step=step, samples=_samples(factors) if kind == "average" else (1, 1))
    made = replace(
        part,
        height=shape[0],
        width=shape[1],
        digest=joined_digest("regridded", repr((plan, georef, shape)), part.digest),
        block_height=_block_side(part.block_height, part.height, factors[0], shape[0]),
        block_width=_block_side(part.block_width, part.width, factors[1], shape[1]),
        georef=georef,
    )
    return replace(made, open_handle=lambda: _RegridHandle(part, made, plan, make()))


def _block_side(side: int, full: int, factor: float, new_full: int) -> int:
    """Blocks of about the same places, never of more pixels; those across the whole scene stay so."""
    return new_full if side == full else max(1, min(side, round(side / factor), new_full))


def _factors(scene: Scene, shape: tuple[int, int], mapping: Mapping) -> tuple[float, float]:
    """Pixels of the scene along the height and the width of a new one, at most.

    Raises:
        SceneError: the new grid does not touch the scene.
    """
    rows, cols = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n, SURVEY_NODES) for n in shape), indexing="ij"))
    x, y = mapping(cols, rows)
    if not (np.isfinite(x) & np.isfinite(y)).any() or not _touches(x, scene.width) or not _touches(y, scene.height):
        raise SceneError(scene.uri, "lies elsewhere than the grid it should have", "check that it belongs there")
    down, right = (mapping(cols + along_col, rows + 1 - along_col) for along_col in (0, 1))
    sides = (np.hypot(there[0] - x, there[1] - y) for there in (down, right))
    lengths = [float(np.max(side, initial=0.0, where=np.isfinite(side))) for side in sides]
    return lengths[0], lengths[1]


def _touches(places: NDArray[np.float64], length: int) -> bool:
    known = places[np.isfinite(places)]
    return known.size > 0 and bool(known.min() < length and known.max() > 0)


def _samples(factors: tuple[float, float]) -> tuple[int, int]:
    """Samples along the height and the width of a new pixel: every pixel in it once where they fit, twice and more otherwise."""
    rows, cols = (round(f) if abs(f - round(f)) < 1e-3 else 2 * ceil(f) for f in factors)
    return max(1, rows), max(1, cols)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How values are computed."""

    kind: str
    step: int
    """Pixels of the new grid between two nodes at which places are computed."""
    samples: tuple[int, int]
    """Samples along the height and the width of a new pixel."""

    @property
    def offsets(self) -> list[tuple[float, float]]:
        """(row, col) of the samples in a pixel, from its corner."""
        n_rows, n_cols = self.samples
        return [((i + 0.5) / n_rows, (j + 0.5) / n_cols) for i in range(n_rows) for j in range(n_cols)]

    @property
    def corners(self) -> list[tuple[float, float]]:
        """The samples between which all others lie."""
        rows, cols = ((0.5 / n, 1.0 - 0.5 / n) for n in self.samples)
        return sorted({(row, col) for row in rows for col in cols})


class _RegridHandle:
    def __init__(self, scene: Scene, made: Scene, plan: _Plan, mapping: Mapping) -> None:
        self._scene, self._made, self._plan, self._mapping = scene, made, plan, mapping
        self._handle: Handle = scene.open_handle()

    def close(self) -> None:
        """Close the scene below."""
        self._handle.close()

    def read(self, window: Window) -> Pixels:
        """The window, in pieces as small as the limit of memory asks for."""
        nodes = Nodes.over(window, self._plan.step, self._mapping)
        box = self._box(nodes, window)
        if box.height * box.width > MAX_PIECE_PX and window.height * window.width > 1:
            return self._halved(window)
        source = self._handle.read(box)
        sampler = Sampler(source, box, self._scene, KERNELS["nearest" if self._plan.kind == "average" else self._plan.kind])
        for row, col in self._plan.offsets:
            sampler.add(*nodes.places(window, row, col))
        return sampler.pixels(window, self._made)

    def _box(self, nodes: Nodes, window: Window) -> Window:
        """The part of the scene that the window's samples come from, with the reach of a kernel around it; at least one pixel."""
        spread = [nodes.places(window, row, col) for row, col in self._plan.corners]
        left, right = _extent([cols for cols, _ in spread], self._scene.width)
        top, bottom = _extent([rows for _, rows in spread], self._scene.height)
        near = Window(row_off=top, col_off=left, height=bottom - top, width=right - left)
        return grown(near, KERNELS[self._plan.kind].reach).within(self._scene.height, self._scene.width)

    def _halved(self, window: Window) -> Pixels:
        rows, cols = (window.height // 2, window.width) if window.height >= window.width else (window.height, window.width // 2)
        first = replace(window, height=rows, width=cols)
        if rows < window.height:
            second, axis = replace(window, row_off=window.row_off + rows, height=window.height - rows), 1
        else:
            second, axis = replace(window, col_off=window.col_off + cols, width=window.width - cols), 2
        halves = [self.read(half) for half in (first, second)]
        return Pixels(
            values=np.concatenate([half.values for half in halves], axis=axis),
            valid=np.concatenate([half.valid for half in halves], axis=axis - 1),
            damaged_blocks=tuple(sorted({place for half in halves for place in half.damaged_blocks})),
        )


def _extent(places: list[NDArray[np.float64]], length: int) -> tuple[int, int]:
    """First and last plus one of the pixels along one side that places touch."""
    known = np.concatenate([axis[(axis >= 0) & (axis < length)] for axis in places])
    return (int(known.min()), int(known.max()) + 1) if known.size else (0, 1)
