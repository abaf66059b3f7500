"""Scoring one scene with a frozen model, in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from geoanom.detect.calibrate import anomaly_score
from geoanom.detect.threshold import q_values
from geoanom.embed.embedder import in_batches
from geoanom.embed.threads import one_thread, side_by_side
from geoanom.errors import SceneError
from geoanom.layer.pixelerror import PixelErrors, PixelErrorWriter
from geoanom.layer.scoremap import ScoreMap
from geoanom.model.core import band_statistics
from geoanom.raster.blocks import Panel, Tally, stream_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.embed.embedder import Encoded
    from geoanom.model.core import Model
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.scene import Scene


@dataclass
class _Columns:
    """What is kept of every tile."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)
    cols: list[NDArray[np.int64]] = field(default_factory=list)
    valid_fraction: list[NDArray[np.float64]] = field(default_factory=list)
    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    raw: list[NDArray[np.float64]] = field(default_factory=list)
    recon_error: list[NDArray[np.float64]] = field(default_factory=list)
    top_band: list[NDArray[np.int64]] = field(default_factory=list)
    top_band_sigma: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, blocks: Sequence[TileBlock], encoded: Encoded, raw: NDArray[np.float64], model: Model) -> None:
        rows, cols = np.concatenate([b.rows for b in blocks]), np.concatenate([b.cols for b in blocks])
        statistics = [band_statistics(block, model.embedder.normalizer) for block in blocks]
        band, sigma = model.band_statistics.furthest(np.concatenate(statistics))
        self.rows.append(rows)
        self.cols.append(cols)
        self.valid_fraction.extend(block.valid_fraction for block in blocks)
        self.embedding.append(encoded.embedding)
        self.raw.append(raw)
        self.recon_error.append(encoded.recon_error)
        self.top_band.append(band)
        self.top_band_sigma.append(sigma)


@one_thread()
def score_scene(
    scene: Scene, model: Model, config: Config, workdir: Path, *, keep_embedding: bool = False, watch: Callable[[Panel], None] | None = None
) -> ScoreMap:
    """Score every tile of a scene that has enough valid pixels.

    Args:
        scene: with the bands that the model was fitted on.
        model: frozen.
        config: what may be opened and how it is read; the rest is the model's.
        workdir: where the pixel errors are kept, for as long as the score map is used.
        keep_embedding: keep the embeddings in the score map.
        watch: is shown every panel of pixels as it comes by.

    Raises:
        SceneError: the bands differ, or no tile can be scored.
    """
    _check_bands(scene, model)
    path = workdir / f"{scene.digest[:16]}.tif"
    if model.embedder.backbone.in_pixels:
        with PixelErrorWriter(path, scene.grid(model.config)) as writer:
            columns, tally = _walk(scene, model, config, watch=watch, writer=writer)
    else:
        columns, tally = _walk(scene, model, config, watch=watch)
    if not columns.rows:
        _refuse_unscored(scene, model)
    errors = PixelErrors(path) if model.embedder.backbone.in_pixels else None
    return _score_map(scene, model, columns, tally, errors=errors, keep_embedding=keep_embedding)


def _walk(
    scene: Scene, model: Model, config: Config, *, watch: Callable[[Panel], None] | None, writer: PixelErrorWriter | None = None
) -> tuple[_Columns, Tally]:
    """Judge all tiles, several blocks at a time, in order."""
    columns, tally, grid = _Columns(), Tally(), scene.grid(model.config)
    reading = model.config.model_copy(update={"sources": config.sources, "runtime": config.runtime})
    with tqdm(total=len(grid), desc=f"scoring {scene.name}", unit="tile", disable=None) as progress:
        batches = in_batches(stream_tiles(scene, grid, reading, watch=watch, tally=tally), model.config.embed.batch_size)
        judge = partial(_judge, model)
        for blocks, encoded, raw in side_by_side(judge, batches, threads=config.runtime.threads, device=model.embedder.device):
            columns.add(blocks, encoded, raw, model)
            if writer is not None and encoded.pixel_error is not None:
                writer.add(blocks, encoded.pixel_error)
            progress.update(tally.tiles_scored + tally.tiles_masked - progress.n)
    return columns, tally


def _judge(model: Model, blocks: list[TileBlock]) -> tuple[list[TileBlock], Encoded, NDArray[np.float64]]:
    encoded = model.encode(blocks)
    halves = np.concatenate([model.halves(block.rows, block.cols) for block in blocks])
    return blocks, encoded, model.raw_scores(encoded, halves)


def _score_map(
    scene: Scene, model: Model, columns: _Columns, tally: Tally, *, errors: PixelErrors | None, keep_embedding: bool
) -> ScoreMap:
    order = np.lexsort((np.concatenate(columns.cols), np.concatenate(columns.rows)))

    def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(parts)[order]

    verdicts = model.ensemble.judge(joined(columns.raw))
    member_score = anomaly_score(verdicts.member_p)
    return ScoreMap(
        scene=scene,
        grid=scene.grid(model.config),
        rows=joined(columns.rows),
        cols=joined(columns.cols),
        score=anomaly_score(verdicts.p_value),
        statistic=verdicts.statistic,
        p_value=verdicts.p_value,
        q_value=q_values(verdicts.p_value),
        member_score={name: member_score[:, m] for m, name in enumerate(model.member_names)},
        recon_error=joined(columns.recon_error),
        valid_fraction=joined(columns.valid_fraction),
        top_band=joined(columns.top_band),
        top_band_sigma=joined(columns.top_band_sigma),
        tiles_masked=tally.tiles_masked,
        warnings=(*scene.warnings, *tally.warnings()),
        pixel_errors=errors,
        embedding=joined(columns.embedding) if keep_embedding else None,
    )


def _check_bands(scene: Scene, model: Model) -> None:
    chosen = model.config.bands is not None
    if len(scene.bands) != len(model.bands) or (not chosen and scene.band_count != model.band_count):
        wrong = f"has {scene.band_count} bands, the model was fitted on {len(model.bands)} of {model.band_count}"
        raise SceneError(scene.uri, wrong, "fit a model on bands that both have, with --bands")


def _refuse_unscored(scene: Scene, model: Model) -> None:
    size, least = model.config.tiles.size, model.config.tiles.min_valid_fraction
    if min(scene.height, scene.width) < size:
        raise SceneError(
            scene.uri, f"is {scene.height} x {scene.width} px, smaller than a tile of {size} px", "use a model with smaller tiles"
        )
    raise SceneError(scene.uri, f"has no tile of {size} px with at least {least:.0%} valid pixels", "check its nodata and masks")
