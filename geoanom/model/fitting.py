"""Fitting a model: statistics, embeddings of a bounded sample, heads, detectors, calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from geoanom.detect.ensemble import fit_ensemble, fit_jury, half_of
from geoanom.embed.backbones import build_backbone
from geoanom.embed.device import pick_device
from geoanom.embed.embedder import Embedder, in_batches, joined, with_fitted_heads, with_heads
from geoanom.embed.heads import load_heads
from geoanom.embed.threads import one_thread, side_by_side
from geoanom.errors import ConfigError, SceneError
from geoanom.model.bundle import with_model_id
from geoanom.model.core import BandStatistics, Golden, Model, Reference, TrainingScene, band_statistics, encode, raw_scores
from geoanom.raster.blocks import stream_tiles
from geoanom.raster.normalize import fit_normalizer
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.config import Config
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.scene import Scene

MAX_SAMPLE_BYTES = 2**30
N_GOLDEN = 4


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Tiles of the training scenes, in the order of scene digest, row, column."""

    features: Tensor
    """(n, ...)."""
    valid: NDArray[np.bool_]
    """(n, size, size) where the features are pixels, (n, 1, 1) otherwise."""
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    statistics: NDArray[np.float64]
    """(n, 2 * band) mean and deviation of each band."""
    golden: TileBlock

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows)


@one_thread()
def fit_model(scenes: Sequence[Scene], config: Config) -> Model:
    """Fit a model on scenes with the same bands, in two passes over their pixels.

    Raises:
        SceneError: the scenes' bands differ, or too few tiles are usable.
        ConfigError: a part of the model cannot be built.
    """
    scenes = sorted(scenes, key=lambda scene: scene.digest)
    _check_same_bands(scenes)
    device = pick_device(config.runtime.device)
    backbone = build_backbone(config.embed, len(scenes[0].bands), config.tiles.size).to(device)
    bare = Embedder(normalizer=fit_normalizer(scenes, config), backbone=backbone, heads=(), settings=config.embed, device=device)
    sample = _draw_sample(scenes, config, bare)
    if len(sample) < config.fit.min_tiles:
        _refuse_small_sample(scenes, len(sample), config)
    fold_tiles = _fold_tiles(sample, config.fit.fold_tiles)
    halves = half_of(sample.rows, sample.cols, fold_tiles)
    embedder = _with_heads(bare, len(scenes[0].bands), sample.features, halves, config)
    encoded = embedder.encode(sample.features, sample.valid, halves)
    used = {str(member.input) for member in config.detect.members}
    rows = {name: table for name, table in embedder.reference_rows(sample.features, halves).items() if name in used}
    jury = fit_jury(config.detect.members, rows, halves, config.seed)
    raw = raw_scores(jury, encoded, halves, reconstruction=config.detect.reconstruction)
    golden = encode(embedder, [sample.golden], fold_tiles)
    golden_halves = half_of(sample.golden.rows, sample.golden.cols, fold_tiles)
    return with_model_id(
        Model(
            model_id="",
            config=config,
            bands=scenes[0].bands,
            band_count=scenes[0].band_count,
            fold_tiles=fold_tiles,
            embedder=embedder,
            reference=Reference(rows=rows, halves=halves),
            jury=jury,
            ensemble=fit_ensemble(raw, config.calibrate),
            band_statistics=_band_statistics(sample.statistics),
            scenes=tuple(TrainingScene(scene.name, scene.digest) for scene in scenes),
            golden=Golden(block=sample.golden, raw=raw_scores(jury, golden, golden_halves, reconstruction=config.detect.reconstruction)),
        )
    )


def _check_same_bands(scenes: Sequence[Scene]) -> None:
    first = [band.index for band in scenes[0].bands]
    for scene in scenes[1:]:
        if [band.index for band in scene.bands] != first or scene.band_count != scenes[0].band_count:
            wrong = (
                f"has {len(scene.bands)} usable bands of {scene.band_count}, {scenes[0].name} has {len(first)} of {scenes[0].band_count}"
            )
            raise SceneError(scene.uri, wrong, "choose common ones with --bands")


def _draw_sample(scenes: Sequence[Scene], config: Config, embedder: Embedder) -> Sample:
    """Features of the tiles of randomly chosen blocks, at most `fit.max_tiles`, the same whatever the order of the scenes."""
    n_features = embedder.backbone.n_features
    limit = min(config.fit.max_tiles, MAX_SAMPLE_BYTES // (4 * int(np.prod(n_features))))
    wanted = _wanted_blocks(scenes, config, limit)
    features, valid, rows, cols, statistics = [], [], [], [], []
    golden: list[TileBlock] = []

    def look(blocks: list[TileBlock]) -> tuple[list[TileBlock], Tensor]:
        return blocks, embedder.features(blocks)

    with tqdm(total=sum(int(mask.sum()) for mask in wanted), desc="fitting", unit="block", disable=None) as progress:
        for scene, mask in zip(scenes, wanted, strict=True):
            tiles = stream_tiles(scene, scene.grid(config), config, wanted=_chooser(mask))
            batches = in_batches(tiles, config.embed.batch_size)
            for blocks, found in side_by_side(look, batches, threads=config.runtime.threads, device=embedder.device):
                features.append(found)
                for block in blocks:
                    valid.append(block.cut(block.valid) if embedder.backbone.in_pixels else np.ones((len(block), 1, 1), bool))
                    rows.append(block.rows)
                    cols.append(block.cols)
                    statistics.append(band_statistics(block, embedder.normalizer))
                golden = golden or [_few_tiles(blocks[0])]
                progress.update(len(blocks))
    if not rows:
        _refuse_small_sample(scenes, 0, config)
    return Sample(
        features=joined(features),
        valid=np.concatenate(valid),
        rows=np.concatenate(rows),
        cols=np.concatenate(cols),
        statistics=np.concatenate(statistics),
        golden=golden[0],
    )


def _wanted_blocks(scenes: Sequence[Scene], config: Config, limit_tiles: int) -> list[NDArray[np.bool_]]:
    """For each scene a mask of its blocks with the sampled ones: those with the smallest random numbers."""
    draws = []
    for scene in scenes:
        grid = scene.grid(config)
        shape = (-(-grid.n_rows // grid.block_tiles), -(-grid.n_cols // grid.block_tiles))
        draws.append(np.random.default_rng([config.seed, int(scene.digest[:15], 16)]).random(shape))
    pooled = np.concatenate([draw.ravel() for draw in draws])
    limit = max(1, limit_tiles // grid.block_tiles**2)
    bound = np.partition(pooled, limit - 1)[limit - 1] if len(pooled) > limit else 1.0
    return [draw <= bound for draw in draws]


def _chooser(mask: NDArray[np.bool_]) -> Callable[[int, int], bool]:
    return lambda row, col: bool(mask[row, col])


def _few_tiles(block: TileBlock) -> TileBlock:
    """The block with its first few tiles only."""
    names = ("rows", "cols", "tops", "lefts", "valid_fraction")
    return replace(block, **{name: getattr(block, name)[:N_GOLDEN] for name in names})


def _refuse_small_sample(scenes: Sequence[Scene], n_tiles: int, config: Config) -> None:
    size, least = config.tiles.size, config.tiles.min_valid_fraction
    wrong = f"gives {n_tiles} tiles of {size} px with at least {least:.0%} valid pixels, a model needs {config.fit.min_tiles}"
    shortest = min(min(scene.height, scene.width) for scene in scenes)
    if shortest < size:
        wrong += f" (it is {scenes[0].height} x {scenes[0].width} px)"
    name = scenes[0].uri if len(scenes) == 1 else f"{scenes[0].uri} and {len(scenes) - 1} more"
    raise SceneError(name, wrong, "use a smaller --tile-size or --stride, more scenes, or a lower tiles.min_valid_fraction")


def _fold_tiles(sample: Sample, wanted: int) -> int:
    """The largest side of checkerboard squares, up to the wanted one, that gives both halves at least a quarter of the tiles."""
    for side in range(wanted, 0, -1):
        share = float(half_of(sample.rows, sample.cols, side).mean())
        if 0.25 <= share <= 0.75:
            return side
    return 1


def _with_heads(bare: Embedder, n_bands: int, features: Tensor, halves: NDArray[np.int64], config: Config) -> Embedder:
    """Read the heads from a file, or train them on a folder of broad imagery or on the scenes themselves."""
    head = config.embed.head
    if head.path is not None:
        return with_heads(bare, load_heads(head.path, bare.backbone, config.embed))
    if head.train_on != "scene":
        return with_fitted_heads(bare, _broad_features(Path(head.train_on), bare, n_bands, config), None, config.seed)
    return with_fitted_heads(bare, features, halves, config.seed)


def _broad_features(folder: Path, embedder: Embedder, n_bands: int, config: Config) -> Tensor:
    """Features of tiles of every raster in a folder, each raster normalized by itself."""
    paths = sorted(p for p in folder.glob("*") if p.is_file() and p.suffix.lower() in (".tif", ".tiff"))
    if not paths:
        raise ConfigError("embed.head.train_on", f"{folder} has no GeoTIFF", "name a folder of broad imagery, or 'scene'")
    parts = []
    for path in paths:
        scene = open_scene(path, config)
        if len(scene.bands) != n_bands:
            wrong = f"has {len(scene.bands)} bands, the scenes have {n_bands}"
            raise SceneError(path, wrong, "broad imagery needs the bands of the scenes; choose common ones with --bands")
        parts.append(_draw_sample([scene], config, replace(embedder, normalizer=fit_normalizer([scene], config))).features)
    return joined(parts)


def _band_statistics(statistics: NDArray[np.float64]) -> BandStatistics:
    low, center, high = np.percentile(statistics, [16.0, 50.0, 84.0], axis=0)
    return BandStatistics(center=center, spread=np.maximum((high - low) / 2, 1e-6))
