"""Scenes made of scenes on one grid: bands joined, pixels masked by a quality raster, values scaled, fill masked.

Nothing is read until a handle of the new scene reads; then as much as was asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import SceneError
from geoanom.raster.fill import REACH_PX, fill_mask, fill_matches
from geoanom.raster.grid import Window
from geoanom.raster.scene import Band, Pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geoanom.raster.georef import Georeference
    from geoanom.raster.scene import Handle, Scene

Place = tuple[int, int]
"""(row, col) of a block."""


def same_place(one: Georeference, other: Georeference) -> bool:
    """Do both lay their pixels over the same places, to a thousandth of a pixel over 10 000 pixels?"""
    if one.gcps != other.gcps or one.is_pixel_space != other.is_pixel_space:
        return False
    if one.crs_wkt != other.crs_wkt and not (one.crs and other.crs and one.crs.equals(other.crs, ignore_axis_order=True)):
        return False
    if one.transform.is_degenerate:
        return one.transform == other.transform
    onto = ~one.transform @ other.transform
    drift = (onto.a - 1.0, onto.b, onto.d, onto.e - 1.0)
    return bool(max(map(abs, drift)) < 1e-7 and max(abs(onto.c), abs(onto.f)) < 1e-3)


def stacked(scenes: Sequence[Scene], *, uri: str | None = None, name: str | None = None, datetime: str | None = None) -> Scene:
    """One scene with the bands of all, in their order; a pixel is valid where it is valid in every one.

    Args:
        scenes: at least one, all on the same grid.
        uri: what the user named; that of the first scene when None.
        name: shown in layers and messages; that of the first scene when None.
        datetime: acquisition time; the first known one when None.

    Raises:
        SceneError: a scene lies on another grid than the first.
    """
    parts = [without_fill(scene) for scene in scenes]
    first = parts[0]
    for part in parts[1:]:
        _check_same_grid(first, part)
    largest = max(parts, key=lambda part: part.block_height * part.block_width)
    made = replace(
        first,
        uri=uri or first.uri,
        name=name or first.name,
        digest=joined_digest("stacked", *(part.digest for part in parts)),
        bands=_joined_bands(parts),
        band_count=sum(part.band_count for part in parts),
        block_height=largest.block_height,
        block_width=largest.block_width,
        datetime=datetime or next((part.datetime for part in parts if part.datetime), None),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        check_unchanged=lambda: _check_all(parts),
    )
    return replace(made, open_handle=lambda: _StackHandle(made, parts))


def scaled(scene: Scene, scales: Sequence[float], offsets: Sequence[float], nodata: Sequence[float | None] | None = None) -> Scene:
    """The scene with each band's values multiplied by its scale and moved by its offset, as float32.

    Args:
        scene: integers or real numbers.
        scales: one per band.
        offsets: one per band, added after scaling.
        nodata: the value before scaling that stands for no data, one per band or None; a pixel is masked where any band has it.
    """
    part = without_fill(scene)
    bands = tuple(replace(band, dtype="float32") for band in part.bands)
    rule = _Scaling(scales=tuple(scales), offsets=tuple(offsets), nodata=tuple(nodata or (None,) * len(bands)))
    digest = joined_digest("scaled", str(rule), part.digest)
    return replace(part, bands=bands, digest=digest, open_handle=lambda: _ScaledHandle(part, rule))


def masked_by(scene: Scene, quality: Scene, *, reject: Iterable[float] = (), bits: Iterable[int] = ()) -> Scene:
    """The scene without the pixels that the first band of a quality scene rejects, or does not know.

    Args:
        scene: what is masked.
        quality: classes or flags on the same grid; where it is not valid itself nothing is known, so the pixel is masked.
        reject: values that are not usable.
        bits: bits, counted from 0, of which none may be set.

    Raises:
        SceneError: the grids differ, or bits are asked of values that are no integers.
    """
    _check_same_grid(scene, quality)
    rule = _Rejection(reject=tuple(reject), mask=sum(1 << bit for bit in set(bits)))
    if rule.mask and np.dtype(quality.bands[0].dtype).kind not in "iu":
        raise SceneError(quality.uri, "has no integers, so that no bits of it can be asked for", "give the values to reject")
    both = (scene, quality)
    return replace(
        scene,
        digest=joined_digest("masked", str(rule), *(part.digest for part in both)),
        warnings=tuple(dict.fromkeys((*scene.warnings, *quality.warnings))),
        open_handle=lambda: _MaskedHandle(scene, quality, rule),
        check_unchanged=lambda: _check_all(both),
    )


def without_fill(scene: Scene) -> Scene:
    """The scene with its undeclared fill masked while it is read, as resampled or scaled fill could not be told any more."""
    fill = scene.fill
    if fill is None:
        return scene
    return replace(scene, fill=None, digest=joined_digest("fill", str(fill), scene.digest), open_handle=lambda: _FillHandle(scene, fill))


def joined_digest(*parts: str) -> str:
    """SHA-256 in hex of digests and of what was done to them."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def moved_blocks(places: Iterable[Place], source: Scene, target: Scene, window: Window) -> set[Place]:
    """The blocks of `target` that blocks of `source`, on the same grid, cover inside a window."""
    found: set[Place] = set()
    for row, col in places:
        top, left = max(window.row_off, row * source.block_height), max(window.col_off, col * source.block_width)
        bottom = min(window.row_end, (row + 1) * source.block_height)
        right = min(window.col_end, (col + 1) * source.block_width)
        if top < bottom and left < right:
            rows = range(top // target.block_height, -(-bottom // target.block_height))
            cols = range(left // target.block_width, -(-right // target.block_width))
            found |= {(r, c) for r in rows for c in cols}
    return found


@dataclass(frozen=True, kw_only=True)
class _Scaling:
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not len(self.scales) == len(self.offsets) == len(self.nodata):
            raise ValueError("one scale, offset and nodata value per band")

    def apply(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        made = np.empty(values.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite or no number is masked
            for i, band in enumerate(values):
                made[i] = band * np.float64(self.scales[i]) + self.offsets[i]
        return made

    def known(self, values: NDArray[np.generic]) -> NDArray[np.bool_]:
        usable = np.ones(values.shape[1:], bool)
        for band, value in zip(values, self.nodata, strict=True):
            if value is not None:
                usable &= band != value
        return usable


@dataclass(frozen=True, kw_only=True)
class _Rejection:
    reject: tuple[float, ...]
    mask: int

    def usable(self, quality: NDArray[np.generic]) -> NDArray[np.bool_]:
        usable = ~np.isin(quality, self.reject) if self.reject else np.ones(quality.shape, bool)
        if self.mask:
            usable &= (quality.astype(np.int64) & self.mask) == 0
        return usable


class _Parts:
    """Open handles of scenes, closed together."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._handles: list[Handle] = []
        try:
            for scene in scenes:
                self._handles.append(scene.open_handle())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close them all."""
        for handle in self._handles:
            handle.close()

    def read_each(self, window: Window) -> list[Pixels]:
        """The window of every scene."""
        return [handle.read(window) for handle in self._handles]


class _StackHandle(_Parts):
    def __init__(self, made: Scene, parts: Sequence[Scene]) -> None:
        super().__init__(parts)
        self._made, self._scenes = made, parts

    def read(self, window: Window) -> Pixels:
        """The bands of all, in the common type."""
        pixels = self.read_each(window)
        dtype = np.dtype(self._made.bands[0].dtype)
        values = np.concatenate([p.values.astype(dtype, copy=False) for p in pixels])
        valid = np.logical_and.reduce([p.valid for p in pixels])
        if dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        damaged = [moved_blocks(p.damaged_blocks, s, self._made, window) for p, s in zip(pixels, self._scenes, strict=True)]
        return Pixels(values=values, valid=valid, damaged_blocks=tuple(sorted(set().union(*damaged))))


class _ScaledHandle(_Parts):
    def __init__(self, scene: Scene, rule: _Scaling) -> None:
        super().__init__([scene])
        self._rule = rule

    def read(self, window: Window) -> Pixels:
        """The window in real units."""
        (pixels,) = self.read_each(window)
        values = self._rule.apply(pixels.values)
        valid = pixels.valid & self._rule.known(pixels.values) & np.isfinite(values).all(axis=0)
        return replace(pixels, values=values, valid=valid)


class _MaskedHandle(_Parts):
    def __init__(self, scene: Scene, quality: Scene, rule: _Rejection) -> None:
        super().__init__([scene, quality])
        self._scene, self._quality, self._rule = scene, quality, rule

    def read(self, window: Window) -> Pixels:
        """The window without what is rejected or unknown; a damaged block of the quality raster damages those below it."""
        pixels, quality = self.read_each(window)
        valid = pixels.valid & quality.valid & self._rule.usable(quality.values[0])
        damaged = moved_blocks(quality.damaged_blocks, self._quality, self._scene, window) | set(pixels.damaged_blocks)
        return replace(pixels, valid=valid, damaged_blocks=tuple(sorted(damaged)))


class _FillHandle(_Parts):
    def __init__(self, scene: Scene, fill: tuple[float, ...]) -> None:
        super().__init__([scene])
        self._scene, self._fill = scene, fill

    def read(self, window: Window) -> Pixels:
        """The window with its fill masked, judged with the surroundings that tell fill from specks."""
        wide = grown(window, REACH_PX).within(self._scene.height, self._scene.width)
        (pixels,) = self.read_each(wide)
        filled = fill_mask(fill_matches(pixels.values, self._fill))
        rows = slice(window.row_off - wide.row_off, window.row_end - wide.row_off)
        cols = slice(window.col_off - wide.col_off, window.col_end - wide.col_off)
        inside = moved_blocks(pixels.damaged_blocks, self._scene, self._scene, window)
        valid = (pixels.valid & ~filled)[rows, cols]
        return Pixels(values=pixels.values[:, rows, cols], valid=valid, damaged_blocks=tuple(sorted(inside)))


def grown(window: Window, margin: int) -> Window:
    """The window with a margin on every side, which may reach beyond the scene."""
    top, left = window.row_off - margin, window.col_off - margin
    return Window(row_off=top, col_off=left, height=window.height + 2 * margin, width=window.width + 2 * margin)


def _joined_bands(parts: Sequence[Scene]) -> tuple[Band, ...]:
    """All bands, numbered anew and of the one type that holds them all; that of 64 bits is cut to 32, as everywhere."""
    bands = [band for part in parts for band in part.bands]
    common = np.result_type(*(np.dtype(band.dtype) for band in bands))
    dtype = "float32" if common == np.float64 else str(common)
    return tuple(replace(band, index=i, dtype=dtype) for i, band in enumerate(bands, 1))


def _check_same_grid(first: Scene, other: Scene) -> None:
    if (first.height, first.width) != (other.height, other.width) or not same_place(first.georef, other.georef):
        what = f"lies on another grid ({other.height} x {other.width} pixels) than {first.name} ({first.height} x {first.width})"
        raise SceneError(other.uri, what, "resample it first")


def _check_all(parts: Iterable[Scene]) -> None:
    for part in parts:
        part.check_unchanged()
