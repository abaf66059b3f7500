"""Small rasters for tests: pixel values encode their own coordinates, so that any shift becomes a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

UTM = "EPSG:32633"
TEN_METRES = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def coordinates(height: int, width: int, count: int = 1, dtype: DTypeLike = "uint32") -> NDArray[Any]:
    """(band, row, col) with the value band * 10 000 000 + row * 1000 + col."""
    band, row, col = np.ogrid[:count, :height, :width]
    return np.asarray(band * 10_000_000 + row * 1000 + col, dtype)


def noise(height: int, width: int, count: int = 1, *, seed: int = 0) -> NDArray[np.uint8]:
    """(band, row, col) without structure, from 1 to 200."""
    return np.random.default_rng(seed).integers(1, 201, (count, height, width), np.uint8)


def write_raster(path: Path, values: NDArray[Any], *, block: int | None = None, mask: NDArray[Any] | None = None, **profile: Any) -> Path:
    """Write (band, row, col) as a GeoTIFF in UTM, 10 m a pixel, unless the profile says otherwise; tiled where `block` is given."""
    tiling = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": profile.pop("dtype", values.dtype)}
    place = {} if "gcps" in profile else {"transform": TEN_METRES}
    with rasterio.open(path, "w", **{"driver": "GTiff", **shape, "crs": UTM, **place, **tiling, **profile}) as dst:
        dst.write(values)
        if mask is not None:
            dst.write_mask(mask)
    return path


def edit(path: Path, **changes: Any) -> Path:
    """Set attributes of a raster file: nodata, scales, offsets, gcps, ..."""
    with rasterio.open(path, "r+") as dst:
        for name, value in changes.items():
            setattr(dst, name, value)
    return path


def block_place(path: Path, row: int, col: int, band: int = 1) -> tuple[int, int]:
    """Offset and size in bytes of a block of a GeoTIFF."""
    with rasterio.open(path) as src:
        offset, size = (src.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band) for what in ("OFFSET", "SIZE"))
    return int(offset), int(size)


def break_block(path: Path, row: int, col: int, band: int = 1) -> Path:
    """Overwrite one block of a compressed GeoTIFF with bytes that no decoder accepts."""
    offset, size = block_place(path, row, col, band)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    return path


def whole(path: Path) -> NDArray[Any]:
    """All pixels (band, row, col), read at once."""
    with rasterio.open(path) as src:
        values: NDArray[Any] = src.read()
    return values
