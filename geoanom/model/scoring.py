"""Scoring one scene with a frozen model, in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from geoanom.detect.calibrate import anomaly_score
from geoanom.detect.threshold import q_values
from geoanom.embed.embedder import in_batches
from geoanom.embed.threads import one_thread, side_by_side
from geoanom.errors import SceneError
from geoanom.layer.explain import TOP_BANDS
from geoanom.layer.pixelerror import PixelErrors, PixelErrorWriter
from geoanom.layer.scoremap import ScoreMap
from geoanom.layer.windowmap import WindowMap
from geoanom.model.core import band_statistics
from geoanom.model.harmony import matched
from geoanom.model.radiometry import normalizer_for
from geoanom.raster.blocks import Panel, Tally, stream_tiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.embed.embedder import Encoded
    from geoanom.model.core import Model
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.grid import TileGrid
    from geoanom.raster.scene import Scene


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Some blocks, and what is said of their n tiles."""

    blocks: list[TileBlock]
    encoded: Encoded
    raw: NDArray[np.float64]
    """(n, member)."""
    windows: NDArray[np.float64] | None
    """(n, side, side) scores of the windows in each tile's core."""


class _Columns:
    """What is kept of every tile, in arrays that are made once, so that a pass leaves no holes in memory."""

    def __init__(self, grid: TileGrid, model: Model) -> None:
        n, k = len(grid), min(TOP_BANDS, len(model.bands))
        self._n_cols = grid.n_cols
        self.scored = np.zeros(n, bool)
        self.raw = np.zeros((n, len(model.member_names)))
        self.valid_fraction, self.recon_error = np.zeros(n), np.zeros(n)
        self.top_band, self.top_band_sigma, self.top_band_contrast = np.zeros((n, k), np.int64), np.zeros((n, k)), np.zeros((n, k), bool)
        self.embedding = np.zeros((n, model.config.embed.dim), np.float32)
        geometry = model.embedder.geometry
        self.windows = None if geometry is None else np.full((n, geometry.side, geometry.side), np.nan, np.float16)

    def add(self, judged: _Judged, model: Model) -> None:
        """Keep the tiles of some blocks."""
        blocks, encoded, raw, windows = judged.blocks, judged.encoded, judged.raw, judged.windows
        tiles = np.concatenate([block.rows * self._n_cols + block.cols for block in blocks])
        statistics = np.concatenate([band_statistics(block, model.embedder.normalizer) for block in blocks])
        self.top_band[tiles], self.top_band_sigma[tiles], self.top_band_contrast[tiles] = model.band_statistics.furthest(statistics)
        self.valid_fraction[tiles] = np.concatenate([block.valid_fraction for block in blocks])
        self.recon_error[tiles], self.raw[tiles] = encoded.recon_error, raw
        self.embedding[tiles] = encoded.embedding
        if self.windows is not None and windows is not None:
            self.windows[tiles] = np.clip(windows, 0.0, np.finfo(np.float16).max)
        self.scored[tiles] = True


@one_thread()
def score_scene(scene: Scene, model: Model, config: Config, workdir: Path, *, watch: Callable[[Panel], None] | None = None) -> ScoreMap:
    """Score every tile of a scene that has enough valid pixels.

    Args:
        scene: opened with the bands that the model was fitted on; it is brought to the model's resolution if the settings allow it.
        model: frozen.
        config: what may be opened and how it is read; the rest is the model's.
        workdir: where the pixel errors are kept, for as long as the score map is used.
        watch: is shown every panel of pixels as it comes by.

    Raises:
        SceneError: the bands, the values or the resolution are not the model's, or no tile can be scored.
    """
    scene = matched(scene, model, config)
    judge = replace(model, embedder=replace(model.embedder, normalizer=normalizer_for(scene, model, config)))
    columns = _Columns(scene.grid(model.config), model)
    path = workdir / f"{scene.digest[:16]}.tif"
    if model.embedder.backbone.in_pixels:
        with PixelErrorWriter(path, scene.grid(model.config)) as writer:
            tally = _walk(scene, judge, config, columns, watch=watch, writer=writer)
    else:
        tally = _walk(scene, judge, config, columns, watch=watch)
    if not columns.scored.any():
        _refuse_unscored(scene, model)
    errors = PixelErrors(path) if model.embedder.backbone.in_pixels else None
    return _score_map(scene, model, columns, tally, errors)


def _walk(
    scene: Scene,
    model: Model,
    config: Config,
    columns: _Columns,
    *,
    watch: Callable[[Panel], None] | None,
    writer: PixelErrorWriter | None = None,
) -> Tally:
    """Judge all tiles, several blocks at a time, in order."""
    tally, grid = Tally(), scene.grid(model.config)
    reading = model.config.model_copy(update={"sources": config.sources, "runtime": config.runtime})
    with tqdm(total=len(grid), desc=f"scoring {scene.name}", unit="tile", disable=None) as progress:
        batches = in_batches(stream_tiles(scene, grid, reading, watch=watch, tally=tally), model.config.embed.batch_size)
        judge = partial(_judge, model)
        for judged in side_by_side(judge, batches, threads=config.runtime.threads, device=model.embedder.device):
            columns.add(judged, model)
            if writer is not None and judged.encoded.pixel_error is not None:
                writer.add(judged.blocks, judged.encoded.pixel_error)
            progress.update(tally.tiles_scored + tally.tiles_masked - progress.n)
    return tally


def _judge(model: Model, blocks: list[TileBlock]) -> _Judged:
    encoded = model.encode(blocks)
    halves = np.concatenate([model.halves(block.rows, block.cols) for block in blocks])
    return _Judged(blocks=blocks, encoded=encoded, raw=model.raw_scores(encoded, halves), windows=model.window_scores(encoded, halves))


def _score_map(scene: Scene, model: Model, columns: _Columns, tally: Tally, errors: PixelErrors | None) -> ScoreMap:
    grid, scored = scene.grid(model.config), np.flatnonzero(columns.scored)
    verdicts = model.ensemble.judge(columns.raw[scored])
    member_score = anomaly_score(verdicts.member_p)
    return ScoreMap(
        scene=scene,
        grid=grid,
        rows=scored // grid.n_cols,
        cols=scored % grid.n_cols,
        score=anomaly_score(verdicts.p_value),
        statistic=verdicts.statistic,
        p_value=verdicts.p_value,
        q_value=q_values(verdicts.p_value),
        member_score={name: member_score[:, m] for m, name in enumerate(model.member_names)},
        recon_error=columns.recon_error[scored],
        valid_fraction=columns.valid_fraction[scored],
        top_band=columns.top_band[scored],
        top_band_sigma=columns.top_band_sigma[scored],
        top_band_contrast=columns.top_band_contrast[scored],
        tiles_masked=tally.tiles_masked,
        warnings=(*scene.warnings, *tally.warnings()),
        pixel_errors=errors,
        embedding=columns.embedding[scored],
        normal_tiles=model.normal_tiles,
        window_map=None if columns.windows is None else _window_map(grid, columns.windows),
    )


def _window_map(grid: TileGrid, windows: NDArray[np.float16]) -> WindowMap:
    return WindowMap(grid=grid, values=windows.reshape(grid.n_rows, grid.n_cols, *windows.shape[1:]))


def _refuse_unscored(scene: Scene, model: Model) -> None:
    size, least = model.config.tiles.size, model.config.tiles.min_valid_fraction
    if min(scene.height, scene.width) < size:
        raise SceneError(
            scene.uri, f"is {scene.height} x {scene.width} px, smaller than a tile of {size} px", "use a model with smaller tiles"
        )
    raise SceneError(scene.uri, f"has no tile of {size} px with at least {least:.0%} valid pixels", "check its nodata and masks")
