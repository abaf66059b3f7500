"""Undeclared fill: large connected areas of one constant value at the border, such as slanted footprints without nodata.

Fill is recognised from blocks along the border and then masked by value wherever it covers more than specks.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.raster.scene import Pixels, Scene

THICK_PX = 33
"""Fill must hold a square of this side: quantized gradients and flat water seldom do."""
SPECK_PX = 5
"""Squares smaller than this are pixels that happen to have the fill's value."""
REACH_PX = SPECK_PX // 2 + SPECK_PX
"""How far around a pixel the fill mask looks."""
MAX_SURVEY_WINDOWS = 64
SURVEYED_SHARE = 1 / 8
"""Of the blocks of a scene; a remote one is fetched for it once more."""
SURVEY_SIDE_PX = 1024


def with_border_fill(scene: Scene) -> Scene:
    """The scene with its fill values and a warning that says so, if it has any."""
    fill = find_border_fill(scene)
    if fill is None:
        return scene
    shown = ", ".join(f"{value:g}" for value in fill[:4]) + (", ..." if len(fill) > 4 else "")
    warning = f"a large area of the constant value ({shown}) at the border is taken for fill and masked"
    return replace(scene, fill=fill, warnings=(*scene.warnings, warning))


def find_border_fill(scene: Scene) -> tuple[float, ...] | None:
    """The constant, per band, that fills large areas along the scene's border; None if there is none.

    A scene that is constant everywhere has no fill.
    """
    votes: Counter[tuple[float, ...]] = Counter()
    extremes: set[tuple[float, ...]] = set()
    border, middle = _survey_windows(scene)
    with closing(scene.open_handle()) as handle:
        for window in border:
            pixels = handle.read(window)
            candidate = _commonest_border_vector(pixels, window, scene)
            if candidate is not None:
                equal = np.logical_and.reduce([*_equal_bands(pixels.values, candidate), pixels.valid])
                votes[candidate] += int(_holds_square(equal, min(THICK_PX, window.height, window.width)))
            extremes |= _extremes(pixels)
        best = max(votes, key=lambda value: (votes[value], value), default=None)
        if best is None or not votes[best]:
            return None
        if extremes == {best}:
            extremes |= _extremes(handle.read(middle))
    return best if extremes != {best} else None


def _extremes(pixels: Pixels) -> set[tuple[float, ...]]:
    """The smallest and the largest valid value of every band; nothing where none is valid."""
    if not pixels.valid.any():
        return set()
    vectors = pixels.values[:, pixels.valid]
    return {tuple(vectors.min(axis=1).tolist()), tuple(vectors.max(axis=1).tolist())}


def fill_matches(values: NDArray[np.generic], fill: tuple[float, ...]) -> NDArray[np.bool_]:
    """Where values equal the fill.

    Args:
        values: (band, row, col).
        fill: one value per band.

    Returns:
        (2, row, col): in all bands, in at least one band.
    """
    matches = np.stack([np.ones(values.shape[1:], bool), np.zeros(values.shape[1:], bool)])
    for equal in _equal_bands(values, fill):
        matches[0] &= equal
        matches[1] |= equal
    return matches


def fill_mask(matches: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where all bands hold more than a speck of the fill, and on its ragged edge where at least one band does.

    Args:
        matches: (2, row, col) of `fill_matches`; a pixel's answer depends on those up to `REACH_PX` away.

    Returns:
        (row, col).
    """
    everywhere, somewhere = matches
    if not everywhere.any():
        return np.zeros(everywhere.shape, bool)
    core = minimum_filter(everywhere.view(np.uint8), SPECK_PX, mode="nearest")
    reach = maximum_filter(core, 2 * SPECK_PX + 1, mode="nearest")
    filled: NDArray[np.bool_] = somewhere & (reach > 0)
    return filled


def _equal_bands(values: NDArray[np.generic], fill: tuple[float, ...]) -> Iterator[NDArray[np.bool_]]:
    return (np.equal(band, np.asarray(value, band.dtype)) for band, value in zip(values, fill, strict=True))


def _holds_square(mask: NDArray[np.bool_], side: int) -> bool:
    """Is there an all-True square of this side?"""
    return bool(minimum_filter(mask.view(np.uint8), side, mode="constant").any())


def _commonest_border_vector(pixels: Pixels, window: Window, scene: Scene) -> tuple[float, ...] | None:
    """The commonest value of the valid pixels of the window that lie on the scene's own border."""
    edge = np.zeros(pixels.valid.shape, bool)
    edge[0] |= window.row_off == 0
    edge[-1] |= window.row_end == scene.height
    edge[:, 0] |= window.col_off == 0
    edge[:, -1] |= window.col_end == scene.width
    vectors = pixels.values[:, edge & pixels.valid]
    if vectors.size == 0:
        return None
    unique, counts = np.unique(vectors, axis=1, return_counts=True)
    return tuple(unique[:, counts.argmax()].tolist())  # Python numbers: a float could not hold every 64-bit integer


def _survey_windows(scene: Scene) -> tuple[list[Window], Window]:
    """Windows of whole blocks along the border, with those of the corners, evenly spaced; and one in the middle."""
    height = max(scene.block_height, min(THICK_PX * 2, scene.height))
    height = -(-height // scene.block_height) * scene.block_height
    width = min(scene.block_width, max(SURVEY_SIDE_PX, THICK_PX))
    n_rows, n_cols = -(-scene.height // height), -(-scene.width // width)
    ring = _ring(n_rows, n_cols)
    n_decoded = n_rows * -(-scene.width // scene.block_width)  # parts of a row of strips cost as much as the whole
    n_wanted = min(max(4, int(n_decoded * SURVEYED_SHARE)), MAX_SURVEY_WINDOWS, len(ring))
    corners = [(r, c) for r in (0, n_rows - 1) for c in (0, n_cols - 1)]
    evenly = [ring[i] for i in np.linspace(0, len(ring), n_wanted, endpoint=False).astype(int)]
    places = sorted({*corners, *evenly})
    *border, middle = (
        Window(row_off=r * height, col_off=c * width, height=height, width=width).within(scene.height, scene.width)
        for r, c in (*places, (n_rows // 2, n_cols // 2))
    )
    return border, middle


def _ring(n_rows: int, n_cols: int) -> list[tuple[int, int]]:
    """(row, col) of the border, once around; so that even spacing favours no side."""
    top, bottom = [(0, c) for c in range(n_cols)], [(n_rows - 1, c) for c in reversed(range(n_cols))]
    right, left = [(r, n_cols - 1) for r in range(1, n_rows - 1)], [(r, 0) for r in reversed(range(1, n_rows - 1))]
    return list(dict.fromkeys([*top, *right, *bottom, *left]))
