"""Fitting a model: statistics, embeddings of a bounded sample, heads, detectors, calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.ensemble import WINDOWS, fit_ensemble, fit_jury, half_of, make_detector
from geoanom.detect.peaks import few_windows
from geoanom.embed.backbones import build_backbone
from geoanom.embed.device import pick_device
from geoanom.embed.embedder import Embedder, joined, learns_from_views, with_fitted_heads, with_heads
from geoanom.embed.finetune import collect_crops, fine_tune, most_crops, refuse_what_cannot_be_tuned
from geoanom.embed.heads import load_heads
from geoanom.embed.supervised import label_codes
from geoanom.embed.threads import one_thread
from geoanom.errors import ConfigError, SceneError
from geoanom.model.bundle import with_model_id
from geoanom.model.core import BandStatistics, Golden, Model, Reference, TrainingScene, encode, raw_scores, window_geometry
from geoanom.model.harmony import in_harmony
from geoanom.model.partials import Partials, kept_or_passing
from geoanom.model.radiometry import fit_radiometry
from geoanom.model.sampling import chooser, draw_sample, refuse_small_sample, views_of, wanted_blocks
from geoanom.raster.blocks import stream_tiles
from geoanom.raster.normalize import fit_normalizer
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.config import Config
    from geoanom.detect.ensemble import Jury
    from geoanom.embed.backbones import Backbone
    from geoanom.embed.finetune import Crops
    from geoanom.model.harmony import Harmony
    from geoanom.model.radiometry import Radiometry
    from geoanom.model.sampling import Sample
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer
    from geoanom.raster.scene import Scene

MAX_WINDOWS = 100_000
"""In the reference; more would not change a covariance."""


@one_thread()
def fit_model(scenes: Sequence[Scene], config: Config, resume: Path | None = None) -> Model:
    """Fit a model on scenes with the same bands, in two passes over their pixels, or three where the backbone is fine-tuned.

    Memory does not grow with the number of scenes, but for their names; the model is the same whatever their order.

    Args:
        scenes: with the same bands.
        config: of the model.
        resume: a folder for what was computed of each scene; a fit that was interrupted goes on from there.

    Raises:
        SceneError: the scenes' bands, values or resolutions differ, or too few tiles are usable.
        ConfigError: a part of the model cannot be built.
        InputError: the labels cannot be used.
        OutputError: partial results could not be written.
    """
    harmony = in_harmony(scenes, config)
    device = pick_device(config.runtime.device)  # what cannot be built is told before anything is read
    for member in config.detect.members:
        make_detector(member)
    backbone = build_backbone(config.embed, len(harmony.bands), config.tiles.size).to(device)
    with kept_or_passing(resume) as tables:
        radiometry = fit_radiometry(harmony.scenes, config, tables)
    bare = _without_heads(radiometry.pooled, backbone, device, config)
    if config.embed.fine_tune.epochs:
        _fine_tune(bare, radiometry, harmony.scenes, config)
    sample = _sample(harmony.scenes, config, bare, radiometry, Partials(resume) if resume else None)
    return with_model_id(_model_of(sample, harmony, bare, config))


def _model_of(sample: Sample, harmony: Harmony, bare: Embedder, config: Config) -> Model:
    """The model of sampled tiles: heads, detectors, calibration."""
    fold_tiles = _fold_tiles(sample, config.fit.fold_tiles)
    halves = half_of(sample.rows, sample.cols, fold_tiles)
    embedder = _with_heads(bare, harmony.scenes, sample, halves, config)
    rows = _detector_rows(embedder, sample, halves, config)
    jury = fit_jury(config.detect.members, rows, halves, config.seed)
    encoded = replace(embedder.encode(sample.features, sample.valid, halves), windows=sample.windows)
    raw = raw_scores(jury, encoded, halves, reconstruction=config.detect.reconstruction)
    least = _least_scales(embedder, {name: table.shape[-1] for name, table in rows.items()}, config)
    ensemble = fit_ensemble(raw, np.array(config.detect.weights), config.calibrate, least)
    return Model(
        model_id="",
        config=config,
        bands=harmony.bands,
        band_count=harmony.scenes[0].band_count,
        resolution_m=harmony.resolution_m,
        dtype=harmony.dtype,
        fold_tiles=fold_tiles,
        embedder=embedder,
        reference=_reference(sample, rows, halves, ensemble.judge(raw).p_value),
        jury=jury,
        ensemble=ensemble,
        band_statistics=_band_statistics(sample.statistics),
        scenes=tuple(TrainingScene(scene.name, scene.digest) for scene in harmony.scenes),
        golden=_golden(sample.golden, embedder, jury, fold_tiles, reconstruction=config.detect.reconstruction),
    )


def _without_heads(normalizer: Normalizer, backbone: Backbone, device: torch.device, config: Config) -> Embedder:
    return Embedder(
        normalizer=normalizer,
        backbone=backbone,
        heads=(),
        settings=config.embed,
        device=device,
        geometry=window_geometry(config),
    )


def _fine_tune(bare: Embedder, radiometry: Radiometry, scenes: Sequence[Scene], config: Config) -> None:
    refuse_what_cannot_be_tuned(bare)
    crops = _crops(radiometry, scenes, config)
    if crops is not None and len(crops) > 1:  # of fewer no model can be fitted, which the sample is going to say
        fine_tune(bare, crops, config.seed)


def _crops(radiometry: Radiometry, scenes: Sequence[Scene], config: Config) -> Crops | None:
    """A few tiles of as many of the sample's blocks as there may be tiles."""
    most, block_tiles = most_crops(config.embed, len(scenes[0].bands), config.tiles.size), scenes[0].grid(config).block_tiles
    if most == 1:
        raise ConfigError("embed.fine_tune.epochs", "tiles of this size and number of bands are too large to learn from", "set it to 0")
    wanted = wanted_blocks(scenes, config, min(config.fit.max_tiles, most * block_tiles**2))
    per_block = max(1, most // sum(int(mask.sum()) for _, mask in wanted))
    found = [_crops_of(scenes[place], mask, radiometry, config, per_block) for place, mask in wanted]
    return _joined_crops([crops for crops in found if crops is not None])


def _crops_of(scene: Scene, mask: NDArray[np.bool_], radiometry: Radiometry, config: Config, per_block: int) -> Crops | None:
    tiles = stream_tiles(scene, scene.grid(config), config, wanted=chooser(mask))
    return collect_crops(tiles, radiometry.of(scene), per_block, config.seed)


def _joined_crops(parts: Sequence[Crops]) -> Crops | None:
    if not parts:
        return None
    return replace(parts[0], pixels=joined([part.pixels for part in parts]), valid=joined([part.valid for part in parts]))


def _sample(scenes: Sequence[Scene], config: Config, bare: Embedder, radiometry: Radiometry, partials: Partials | None) -> Sample:
    head = config.embed.head
    with_views = head.path is None and head.train_on == "scene" and learns_from_views(bare)
    sample = draw_sample(scenes, config, bare, with_views=with_views, own=radiometry.own, partials=partials)
    if len(sample) < config.fit.min_tiles:
        refuse_small_sample(scenes, len(sample), config)
    return sample


def _fold_tiles(sample: Sample, wanted: int) -> int:
    """The largest side of checkerboard squares, up to the wanted one, that gives both halves at least a quarter of the tiles."""
    for side in range(wanted, 0, -1):
        share = float(half_of(sample.rows, sample.cols, side).mean())
        if 0.25 <= share <= 0.75:
            return side
    return 1


def _with_heads(bare: Embedder, scenes: Sequence[Scene], sample: Sample, halves: NDArray[np.int64], config: Config) -> Embedder:
    """Read the heads from a file, or train them on a folder of broad imagery or on the scenes themselves."""
    head = config.embed.head
    if head.path is not None:
        return with_heads(bare, load_heads(head.path, bare.backbone, config.embed))
    if head.train_on != "scene":
        features, views = _broad_features(Path(head.train_on), bare, len(scenes[0].bands), config)
        return with_fitted_heads(bare, features, None, config.seed, views=views)
    labels = _labels(scenes, sample, config)
    return with_fitted_heads(bare, sample.features, halves, config.seed, views=sample.views, labels=labels)


def _labels(scenes: Sequence[Scene], sample: Sample, config: Config) -> NDArray[np.int64] | None:
    """Labels (n,) of the sampled tiles, where the head learns from them."""
    head = config.embed.head
    if head.kind != "supervised" or head.labels is None:
        return None
    return label_codes(head.labels, [scenes[place].name for place in sample.scene], sample.rows, sample.cols)


def _broad_features(folder: Path, embedder: Embedder, n_bands: int, config: Config) -> tuple[Tensor, Tensor | None]:
    """Features of tiles of every raster in a folder, each raster normalized by itself, and of other views where they are needed."""
    paths = sorted(p for p in folder.glob("*") if p.is_file() and p.suffix.lower() in (".tif", ".tiff"))
    if not paths:
        raise ConfigError("embed.head.train_on", f"{folder} has no GeoTIFF", "name a folder of broad imagery, or 'scene'")
    with_views, parts = learns_from_views(embedder), []
    for path in paths:
        scene = open_scene(path, config)
        if len(scene.bands) != n_bands:
            wrong = f"has {len(scene.bands)} bands, the scenes have {n_bands}"
            raise SceneError(path, wrong, "broad imagery needs the bands of the scenes; choose common ones with --bands")
        here = replace(embedder, normalizer=fit_normalizer([scene], config))
        parts.append(draw_sample([scene], config, here, with_views=with_views))
    return joined([part.features for part in parts]), views_of(parts)


def _detector_rows(embedder: Embedder, sample: Sample, halves: NDArray[np.int64], config: Config) -> dict[str, NDArray[np.floating]]:
    """The tables that detectors are fitted on, and the embedding, which tells the nearest normal tiles."""
    used = {"embedding", *(str(member.input) for member in config.detect.members)}
    tables: dict[str, NDArray[np.floating]] = dict(embedder.reference_rows(sample.features, halves))
    if WINDOWS in used:
        tables[WINDOWS] = few_windows(sample.windows, MAX_WINDOWS)
    return {name: table for name, table in tables.items() if name in used}


def _least_scales(embedder: Embedder, n_columns: Mapping[str, int], config: Config) -> list[float]:
    """For each member the differences between its scores that are nothing, where the scale of its scores is known beforehand."""
    scales = [0.0] * len(config.detect.weights)
    for i, member in enumerate(config.detect.members):
        if member.name == "knn" and member.input == "embedding" and member.params.get("as_is"):
            scales[i] = embedder.heads[0].least_distance
        if member.name == "rx" and member.params.get("least"):
            scales[i] = (2 * n_columns[member.input]) ** 0.5  # the spread of chi-square
    return scales


def _reference(sample: Sample, rows: dict[str, NDArray[np.floating]], halves: NDArray[np.int64], p_value: NDArray[np.float64]) -> Reference:
    return Reference(rows=rows, halves=halves, scene=sample.scene, tile_rows=sample.rows, tile_cols=sample.cols, p_value=p_value)


def _golden(block: TileBlock, embedder: Embedder, jury: Jury, fold_tiles: int, *, reconstruction: bool) -> Golden:
    halves = half_of(block.rows, block.cols, fold_tiles)
    return Golden(block=block, raw=raw_scores(jury, encode(embedder, [block], fold_tiles), halves, reconstruction=reconstruction))


def _band_statistics(statistics: NDArray[np.float64]) -> BandStatistics:
    low, center, high = np.percentile(statistics, [16.0, 50.0, 84.0], axis=0)
    return BandStatistics(center=center, spread=np.maximum((high - low) / 2, 1e-6))
