"""How fast tiles are embedded here."""

from __future__ import annotations

import time

import numpy as np

from geoanom.config import Config
from geoanom.embed.backbones import build_backbone
from geoanom.embed.device import pick_device
from geoanom.embed.embedder import Embedder
from geoanom.raster.blocks import TileBlock
from geoanom.raster.grid import MARGIN_PX, TileGrid
from geoanom.raster.normalize import Normalizer

N_BANDS = 4
N_BLOCKS = 5


def tiles_per_second() -> float:
    """Tiles of the default size that the default backbone takes in a second, four bands, on the default device."""
    config, device = Config(), pick_device("auto")
    grid = TileGrid(height=4096, width=4096, size=config.tiles.size, stride=config.tiles.step)
    embedder = Embedder(
        normalizer=Normalizer(low=(0.0,) * N_BANDS, high=(1.0,) * N_BANDS),
        backbone=build_backbone(config.embed, N_BANDS, config.tiles.size).to(device),
        heads=(),
        settings=config.embed,
        device=device,
    )
    block = _noise_block(grid)
    embedder.features([block])
    start = time.perf_counter()
    for _ in range(N_BLOCKS):
        embedder.features([block])
    return N_BLOCKS * len(block) / (time.perf_counter() - start)


def _noise_block(grid: TileGrid) -> TileBlock:
    side, n = grid.block_side, grid.block_tiles
    rows, cols = (index.ravel() for index in np.indices((n, n)))
    return TileBlock(
        rows=rows,
        cols=cols,
        tops=MARGIN_PX + rows * grid.stride,
        lefts=MARGIN_PX + cols * grid.stride,
        core_tops=MARGIN_PX + rows * grid.stride,
        core_lefts=MARGIN_PX + cols * grid.stride,
        size=grid.size,
        values=np.random.default_rng(0).random((N_BANDS, side, side), np.float32),
        valid=np.ones((side, side), bool),
        valid_fraction=np.ones(n * n),
    )
