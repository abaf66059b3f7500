"""A bounded sample of the training scenes' tiles, and what is learned from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from tqdm import tqdm

from geoanom.embed.augment import seed_of
from geoanom.embed.embedder import in_batches, joined
from geoanom.embed.threads import side_by_side
from geoanom.embed.windows import n_columns
from geoanom.errors import SceneError
from geoanom.model.core import band_statistics
from geoanom.raster.blocks import stream_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.config import Config
    from geoanom.embed.embedder import Embedder
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.scene import Scene

MAX_SAMPLE_BYTES = 2**30
N_GOLDEN = 4
COLUMNS = ("valid", "rows", "cols", "scene", "statistics", "windows")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is kept of n tiles."""

    features: Tensor
    """(n, ...)."""
    views: Tensor | None
    """(n, ...) features of the same tiles in another view, where the heads learn from them."""
    valid: NDArray[np.bool_]
    """(n, size, size) where the features are pixels, (n, 1, 1) otherwise."""
    rows: NDArray[np.int64]
    """(n,) tile rows."""
    cols: NDArray[np.int64]
    """(n,) tile columns."""
    scene: NDArray[np.int64]
    """(n,) position in the scenes, in the order of their digests."""
    statistics: NDArray[np.float64]
    """(n, 2 * band) mean and deviation of each band."""
    windows: NDArray[np.float16]
    """(n, side, side, columns) contrasts of the windows in each tile's core; (n, 0) where no detector works on them."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Sample(Batch):
    """Tiles of the training scenes, in the order of scene digest, row, column."""

    golden: TileBlock
    """A few of them with their pixels."""


def draw_sample(scenes: Sequence[Scene], config: Config, embedder: Embedder, *, with_views: bool) -> Sample:
    """Features of the tiles of randomly chosen blocks, at most `fit.max_tiles`, the same whatever the order of the scenes.

    Args:
        scenes: in the order of their digests.
        config: how much is drawn, and the seed.
        embedder: without heads.
        with_views: take the features of another view of every tile, too.

    Raises:
        SceneError: no tile is usable.
    """
    bytes_each = 4 * int(np.prod(embedder.backbone.n_features)) * (2 if with_views else 1)
    if embedder.geometry is not None:
        bytes_each += 2 * embedder.geometry.side**2 * n_columns(len(scenes[0].bands))
    wanted = wanted_blocks(scenes, config, min(config.fit.max_tiles, MAX_SAMPLE_BYTES // bytes_each))
    batches: list[Batch] = []
    golden: TileBlock | None = None
    with tqdm(total=sum(int(mask.sum()) for mask in wanted), desc="fitting", unit="block", disable=None) as progress:
        for place, (scene, mask) in enumerate(zip(scenes, wanted, strict=True)):
            tiles = stream_tiles(scene, scene.grid(config), config, wanted=chooser(mask))
            look = partial(_look, embedder, place, _seeds(scene, config) if with_views else None)
            lists = in_batches(tiles, config.embed.batch_size)
            for blocks, batch in side_by_side(look, lists, threads=config.runtime.threads, device=embedder.device):
                golden = golden or _few_tiles(blocks[0])
                batches.append(batch)
                progress.update(len(blocks))
    if golden is None:
        refuse_small_sample(scenes, 0, config)
    columns = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in COLUMNS}
    return Sample(features=joined([batch.features for batch in batches]), views=views_of(batches), golden=golden, **columns)


def views_of(batches: Sequence[Batch]) -> Tensor | None:
    """The other views of several batches, (n, ...); None where there are none."""
    views = [batch.views for batch in batches if batch.views is not None]
    return joined(views) if views else None


def refuse_small_sample(scenes: Sequence[Scene], n_tiles: int, config: Config) -> NoReturn:
    """Say that a model cannot be fitted on so few tiles.

    Raises:
        SceneError: always.
    """
    size, least = config.tiles.size, config.tiles.min_valid_fraction
    wrong = f"gives {n_tiles} tiles of {size} px with at least {least:.0%} valid pixels, a model needs {config.fit.min_tiles}"
    shortest = min(min(scene.height, scene.width) for scene in scenes)
    if shortest < size:
        wrong += f" (it is {scenes[0].height} x {scenes[0].width} px)"
    name = scenes[0].uri if len(scenes) == 1 else f"{scenes[0].uri} and {len(scenes) - 1} more"
    raise SceneError(name, wrong, "use a smaller --tile-size or --stride, more scenes, or a lower tiles.min_valid_fraction")


def _look(embedder: Embedder, place: int, seeds: tuple[int, int] | None, blocks: list[TileBlock]) -> tuple[list[TileBlock], Batch]:
    """What is kept of the tiles of some blocks; `place` is the position of their scene."""
    rows, cols = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("rows", "cols"))
    windows = embedder.windows(blocks)
    return blocks, Batch(
        features=embedder.features(blocks),
        views=None if seeds is None else embedder.features(blocks, seed_of(*seeds, int(rows[0]), int(cols[0]))),
        valid=np.concatenate([block.cut(block.valid) for block in blocks])
        if embedder.backbone.in_pixels
        else np.ones((len(rows), 1, 1), bool),
        rows=rows,
        cols=cols,
        scene=np.full(len(rows), place),
        statistics=np.concatenate([band_statistics(block, embedder.normalizer) for block in blocks]),
        windows=np.empty((len(rows), 0), np.float16) if windows is None else windows,
    )


def _seeds(scene: Scene, config: Config) -> tuple[int, int]:
    """What random choices in a scene hang on, whatever the other scenes are."""
    return config.seed, int(scene.digest[:15], 16)


def wanted_blocks(scenes: Sequence[Scene], config: Config, limit_tiles: int) -> list[NDArray[np.bool_]]:
    """For each scene a mask of its blocks with the sampled ones: those with the smallest random numbers."""
    draws = []
    for scene in scenes:
        grid = scene.grid(config)
        shape = (-(-grid.n_rows // grid.block_tiles), -(-grid.n_cols // grid.block_tiles))
        draws.append(np.random.default_rng(_seeds(scene, config)).random(shape))
    pooled = np.concatenate([draw.ravel() for draw in draws])
    limit = max(1, limit_tiles // grid.block_tiles**2)
    bound = np.partition(pooled, limit - 1)[limit - 1] if len(pooled) > limit else 1.0
    return [draw <= bound for draw in draws]


def chooser(mask: NDArray[np.bool_]) -> Callable[[int, int], bool]:
    """Whether the block at (row, col) is wanted."""
    return lambda row, col: bool(mask[row, col])


def _few_tiles(block: TileBlock) -> TileBlock:
    """The block with its first few tiles only."""
    names = ("rows", "cols", "tops", "lefts", "core_tops", "core_lefts", "valid_fraction")
    return replace(block, **{name: getattr(block, name)[:N_GOLDEN] for name in names})
