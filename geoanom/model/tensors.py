"""Tiles as arrays by name, for files without pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.raster.blocks import TileBlock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PARTS = ("rows", "cols", "tops", "lefts", "core_tops", "core_lefts", "values", "valid_fraction")
PREFIX = "golden_"


def golden_tensors(block: TileBlock) -> dict[str, NDArray[Any]]:
    """The arrays of a block of golden tiles by name."""
    parts = {f"{PREFIX}{name}": np.ascontiguousarray(getattr(block, name)) for name in PARTS}
    return {**parts, f"{PREFIX}valid": block.valid.astype(np.uint8)}


def golden_block(tensors: Mapping[str, NDArray[Any]], size: int) -> TileBlock:
    """The block of golden tiles of `size` pixels a side that `golden_tensors` took apart."""
    parts = {name: tensors[f"{PREFIX}{name}"] for name in PARTS}
    return TileBlock(size=size, valid=tensors[f"{PREFIX}valid"].astype(bool), **parts)
