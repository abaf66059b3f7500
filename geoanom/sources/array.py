"""Scenes from arrays in memory, for notebooks and tests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

from geoanom.errors import SceneError
from geoanom.raster.georef import Georeference
from geoanom.raster.scene import Band, Pixels, Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.raster.grid import Window


def array_scene(
    values: NDArray[np.generic],
    *,
    valid: NDArray[np.bool_] | None = None,
    transform: Affine | None = None,
    crs_wkt: str | None = None,
    name: str = "array",
    datetime: str | None = None,
) -> Scene:
    """A scene over an array.

    Args:
        values: (band, row, col), real numbers; not copied and not changed.
        valid: (row, col), True = usable; all finite pixels when None.
        transform: pixel corner (col, row) to (x, y).
        crs_wkt: the CRS; pixel space when None.
        name: shown in layers and messages.
        datetime: acquisition time, ISO 8601.

    Raises:
        SceneError: the array does not have three axes, is empty, or is complex.
    """
    if values.ndim != 3 or values.dtype.kind not in "iuf" or values.size == 0:
        raise SceneError(name, "is not a real array with the axes band, row, col", "reshape it, or take the amplitude")
    usable = np.isfinite(values).all(axis=0) & (True if valid is None else valid)
    n_bands, height, width = values.shape
    return Scene(
        uri=name,
        name=name,
        digest=_digest(values, usable),
        height=height,
        width=width,
        bands=tuple(Band(index=i + 1, name=f"band {i + 1}", dtype=str(values.dtype)) for i in range(n_bands)),
        band_count=n_bands,
        block_height=min(256, height),
        block_width=min(256, width),
        georef=Georeference(crs_wkt=crs_wkt, transform=transform or Affine.identity()),
        datetime=datetime,
        open_handle=lambda: _ArrayHandle(values, usable),
    )


def _digest(values: NDArray[np.generic], usable: NDArray[np.bool_]) -> str:
    """SHA-256 of shape, type, values and mask, in hex: zeros of another shape are another scene."""
    content = hashlib.sha256(f"{values.shape} {values.dtype.str}".encode())
    content.update(np.ascontiguousarray(values).tobytes())
    content.update(usable.tobytes())
    return content.hexdigest()


class _ArrayHandle:
    def __init__(self, values: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
        self._values, self._valid = values, valid

    def close(self) -> None:
        """Nothing to give back."""

    def read(self, window: Window) -> Pixels:
        rows, cols = window.slices
        return Pixels(values=self._values[:, rows, cols], valid=self._valid[rows, cols].copy())
