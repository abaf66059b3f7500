"""A bounded sample of the training scenes' tiles, and what is learned from it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from tqdm import tqdm

from geoanom.embed.arrays import tensor_of
from geoanom.embed.augment import seed_of
from geoanom.embed.embedder import in_batches, joined
from geoanom.embed.heads import backbone_bytes
from geoanom.embed.threads import side_by_side
from geoanom.embed.windows import n_columns
from geoanom.errors import SceneError
from geoanom.model.core import band_statistics
from geoanom.model.partials import made_of
from geoanom.model.tensors import golden_block, golden_tensors
from geoanom.raster.blocks import stream_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.config import Config
    from geoanom.embed.embedder import Embedder
    from geoanom.model.partials import Partials, Tensors
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer
    from geoanom.raster.scene import Scene

MAX_SAMPLE_BYTES = 2**30
N_GOLDEN = 4
COLUMNS = ("valid", "rows", "cols", "statistics", "windows")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is kept of n tiles of one scene."""

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

    scene: NDArray[np.int64]
    """(n,) position in the scenes, in the order of their digests."""
    golden: TileBlock
    """A few of them with their pixels."""


def draw_sample(
    scenes: Sequence[Scene],
    config: Config,
    embedder: Embedder,
    *,
    with_views: bool,
    own: Mapping[str, Normalizer] | None = None,
    partials: Partials | None = None,
) -> Sample:
    """Features of the tiles of randomly chosen blocks, at most `fit.max_tiles`, the same whatever the order of the scenes.

    A scene without a chosen block is not read. What is in memory at once depends on the bound and not on the number of scenes.

    Args:
        scenes: in the order of their digests.
        config: how much is drawn, and the seed.
        embedder: without heads.
        with_views: take the features of another view of every tile, too.
        own: the normalizers of scenes by digest, for those that the embedder's is not meant for.
        partials: where each scene's part is kept, if the sample is to be resumed after an interruption.

    Raises:
        SceneError: no tile is usable.
        OutputError: a part could not be kept.
    """
    places: list[NDArray[np.int64]] = []
    parts: list[Batch] = []
    golden: TileBlock | None = None
    wanted = wanted_blocks(scenes, config, _most_tiles(scenes[0], config, embedder, with_views=with_views))
    with tqdm(total=sum(int(mask.sum()) for _, mask in wanted), desc="fitting", unit="block", disable=None) as progress:
        look = _Look(config=config, embedder=embedder, with_views=with_views, partials=partials, tell=progress.update)
        for place, mask in wanted:
            normalizer = (own or {}).get(scenes[place].digest, embedder.normalizer)
            tensors = look.at(scenes[place], mask, normalizer, with_golden=golden is None)
            if tensors:
                golden = golden or golden_block(tensors, config.tiles.size)
                parts.append(_batch_of(tensors))
                places.append(np.full(len(parts[-1]), place))
    if golden is None:
        refuse_small_sample(scenes, 0, config)
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return Sample(
        features=joined([part.features for part in parts]), views=views_of(parts), scene=np.concatenate(places), golden=golden, **columns
    )


def _most_tiles(scene: Scene, config: Config, embedder: Embedder, *, with_views: bool) -> int:
    """Bound on the sample's tiles."""
    bytes_each = 4 * int(np.prod(embedder.backbone.n_features)) * (2 if with_views else 1)
    if embedder.geometry is not None:
        bytes_each += 2 * embedder.geometry.side**2 * n_columns(len(scene.bands))
    return min(config.fit.max_tiles, MAX_SAMPLE_BYTES // bytes_each)


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


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How the chosen tiles of a scene become arrays."""

    config: Config
    embedder: Embedder
    with_views: bool
    partials: Partials | None
    tell: Callable[[int], object]
    """Is told how many blocks are done."""

    def at(self, scene: Scene, mask: NDArray[np.bool_], normalizer: Normalizer, *, with_golden: bool) -> Tensors:
        """The arrays by name of the tiles of some blocks of a scene, and a few with their pixels; none where no tile is usable."""
        here = replace(self.embedder, normalizer=normalizer)

        def compute() -> Tensors:
            return self._compute(scene, mask, here, with_golden=with_golden)

        if self.partials is None:
            return compute()
        identity = {**made_of(scene, self.config), **self._identity, "normalizer": asdict(normalizer), "golden": with_golden}
        return self.partials.of("sample", {**identity, "blocks": np.flatnonzero(mask).tolist()}, compute)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return {
            "backbone": hashlib.sha256(backbone_bytes(self.embedder.backbone)).hexdigest(),
            "device": self.embedder.device.type,
            "embed": self.config.embed.model_dump(mode="json"),
            "tiles": self.config.tiles.model_dump(mode="json"),
            "views": self.with_views,
            "windows": None if self.embedder.geometry is None else asdict(self.embedder.geometry),
        }

    def _compute(self, scene: Scene, mask: NDArray[np.bool_], here: Embedder, *, with_golden: bool) -> Tensors:
        tiles = stream_tiles(scene, scene.grid(self.config), self.config, wanted=chooser(mask))
        look = partial(_look, here, _seeds(scene, self.config) if self.with_views else None)
        lists = in_batches(tiles, self.config.embed.batch_size)
        batches: list[Batch] = []
        golden: Tensors = {}
        for blocks, batch in side_by_side(look, lists, threads=self.config.runtime.threads, device=here.device):
            if with_golden and not golden:
                golden = golden_tensors(_few_tiles(blocks[0]))
            batches.append(batch)
            self.tell(len(blocks))
        return {**_tensors_of(batches), **golden}


def _tensors_of(batches: Sequence[Batch]) -> Tensors:
    """Batches of one scene as arrays by name; none where there are no batches."""
    if not batches:
        return {}
    views = views_of(batches)
    columns = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in COLUMNS}
    features = joined([batch.features for batch in batches]).numpy()
    return {**columns, "features": features, **({} if views is None else {"views": views.numpy()})}


def _batch_of(tensors: Tensors) -> Batch:
    views = tensor_of(tensors["views"]) if "views" in tensors else None
    return Batch(features=tensor_of(tensors["features"]), views=views, **{name: tensors[name] for name in COLUMNS})


def _look(embedder: Embedder, seeds: tuple[int, int] | None, blocks: list[TileBlock]) -> tuple[list[TileBlock], Batch]:
    """What is kept of the tiles of some blocks."""
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
        statistics=np.concatenate([band_statistics(block, embedder.normalizer) for block in blocks]),
        windows=np.empty((len(rows), 0), np.float16) if windows is None else windows,
    )


def _seeds(scene: Scene, config: Config) -> tuple[int, int]:
    """What random choices in a scene hang on, whatever the other scenes are."""
    return config.seed, int(scene.digest[:15], 16)


def wanted_blocks(scenes: Sequence[Scene], config: Config, limit_tiles: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """The scenes of which blocks are sampled, each as its position and a mask of its blocks: those with the smallest random numbers.

    The numbers are drawn twice, so that no more of them are in memory than are wanted.
    """
    limit = max(1, limit_tiles // scenes[0].grid(config).block_tiles ** 2)
    smallest = np.empty(0)
    for scene in scenes:
        pooled = np.concatenate([smallest, _draws(scene, config).ravel()])
        smallest = np.partition(pooled, limit - 1)[:limit] if len(pooled) > limit else pooled
    bound = smallest.max() if len(smallest) == limit else 1.0
    masks = ((place, _draws(scene, config) <= bound) for place, scene in enumerate(scenes))
    return [(place, mask) for place, mask in masks if mask.any()]


def _draws(scene: Scene, config: Config) -> NDArray[np.float64]:
    """One random number for each block (row, col) of a scene."""
    grid = scene.grid(config)
    shape = (-(-grid.n_rows // grid.block_tiles), -(-grid.n_cols // grid.block_tiles))
    return np.random.default_rng(_seeds(scene, config)).random(shape)


def chooser(mask: NDArray[np.bool_]) -> Callable[[int, int], bool]:
    """Whether the block at (row, col) is wanted."""
    return lambda row, col: bool(mask[row, col])


def _few_tiles(block: TileBlock) -> TileBlock:
    """The block with its first few tiles only."""
    names = ("rows", "cols", "tops", "lefts", "core_tops", "core_lefts", "valid_fraction")
    return replace(block, **{name: getattr(block, name)[:N_GOLDEN] for name in names})
