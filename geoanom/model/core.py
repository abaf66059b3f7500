"""What a model is, and how it judges tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.ensemble import RECONSTRUCTION, WINDOWS, half_of
from geoanom.embed.windows import WindowGeometry
from geoanom.layer.explain import TOP_BANDS, NormalTiles, reach_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.detect.ensemble import Ensemble, Jury
    from geoanom.embed.embedder import Embedder, Encoded
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer
    from geoanom.raster.scene import Band

NORMAL_P = 0.05
"""Training tiles with a larger p-value are normal."""


@dataclass(frozen=True)
class TrainingScene:
    """A scene that the model was fitted on."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A few training tiles with the raw scores they had, to tell a model that no longer computes the same."""

    block: TileBlock
    raw: NDArray[np.float64]
    """(n, member)."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The training tiles that the detectors are fitted on."""

    rows: Mapping[str, NDArray[np.floating]]
    """Tables by name: the embedding (n, columns), and the others that a member works on; windows (n, m, columns)."""
    halves: NDArray[np.int64]
    """(n,) the half of each tile."""
    scene: NDArray[np.int64]
    """(n,) position in the model's training scenes."""
    tile_rows: NDArray[np.int64]
    """(n,) row of each tile in its scene's grid."""
    tile_cols: NDArray[np.int64]
    """(n,) column of each tile in its scene's grid."""
    p_value: NDArray[np.float64]
    """(n,) of each tile in training."""


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """What the mean and the contrast of each band usually are in a tile."""

    center: NDArray[np.float64]
    """(2 * band,) medians: the means first, then the deviations."""
    spread: NDArray[np.float64]
    """(2 * band,) robust standard deviations."""

    def furthest(self, statistics: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """The bands whose mean or contrast is furthest from usual in each tile.

        Args:
            statistics: (n, 2 * band).

        Returns:
            (n, k) the bands, the furthest first; (n, k) how far in signed sigmas; (n, k) True where it is the contrast.
        """
        mean, deviation = np.split((statistics - self.center) / self.spread, 2, axis=1)
        contrast = np.abs(deviation) > np.abs(mean)
        sigma = np.where(contrast, deviation, mean)
        bands = np.argsort(-np.abs(sigma), axis=1, kind="stable")[:, :TOP_BANDS]
        return bands, np.take_along_axis(sigma, bands, axis=1), np.take_along_axis(contrast, bands, axis=1)


def band_statistics(block: TileBlock, normalizer: Normalizer) -> NDArray[np.float64]:
    """Mean and deviation of each normalized band over the valid part of each tile of a block, as (n, 2 * band)."""
    tiles = block.cut(normalizer(block.values)).astype(np.float64)
    valid = block.cut(block.valid)[:, None].astype(np.float64)
    count = valid.sum(axis=(2, 3))
    mean = (tiles * valid).sum(axis=(2, 3)) / count
    variance = (np.square(tiles - mean[:, :, None, None]) * valid).sum(axis=(2, 3)) / count
    return np.concatenate([mean, np.sqrt(variance)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A fitted, frozen model."""

    model_id: str
    """First 12 hex digits of the SHA-256 of model.json."""
    config: Config
    bands: tuple[Band, ...]
    """The bands it was fitted on."""
    band_count: int
    """Bands in the files it was fitted on, used or not."""
    resolution_m: float | None
    """Side of a pixel in metres; None where it was fitted in pixel space."""
    dtype: str
    """Type of the values it was fitted on."""
    fold_tiles: int
    """Side, in tiles, of the checkerboard squares that make the two halves."""
    embedder: Embedder
    reference: Reference
    jury: Jury
    ensemble: Ensemble
    band_statistics: BandStatistics
    scenes: tuple[TrainingScene, ...]
    golden: Golden

    @property
    def member_names(self) -> tuple[str, ...]:
        """Who votes."""
        return (*self.jury.names, RECONSTRUCTION) if self.config.detect.reconstruction else self.jury.names

    @cached_property
    def normal_tiles(self) -> NormalTiles:
        """The training tiles in which nothing is unusual."""
        normal = self.reference.p_value > NORMAL_P
        return NormalTiles(
            embedding=self.reference.rows["embedding"][normal],
            scene=self.reference.scene[normal],
            rows=self.reference.tile_rows[normal],
            cols=self.reference.tile_cols[normal],
            names=tuple(scene.name for scene in self.scenes),
            digests=tuple(scene.digest for scene in self.scenes),
            reach=reach_of(self.config.tiles.size, self.config.tiles.step),
        )

    @property
    def chosen_bands(self) -> tuple[int, ...] | None:
        """1-based bands to read; None where the model takes all bands of a file, however many it has."""
        return None if self.config.bands is None and len(self.bands) == self.band_count else tuple(band.index for band in self.bands)

    def halves(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
        """The half of the tiles at these grid places."""
        return half_of(rows, cols, self.fold_tiles)

    def encode(self, blocks: Sequence[TileBlock]) -> Encoded:
        """Embed and reconstruct the tiles of up to one batch of blocks."""
        return encode(self.embedder, blocks, self.fold_tiles)

    def window_scores(self, encoded: Encoded, halves: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Scores (n, side, side) of the windows in tiles; None where no member works on them."""
        return self.jury.window_scores(encoded.rows(), halves)

    def raw_scores(self, encoded: Encoded, halves: NDArray[np.int64]) -> NDArray[np.float64]:
        """Raw scores (n, member) in the order of `member_names`."""
        return raw_scores(self.jury, encoded, halves, reconstruction=self.config.detect.reconstruction)


def window_geometry(config: Config) -> WindowGeometry | None:
    """How windows lie in tiles, where a member works on them."""
    if not any(member.input == WINDOWS for member in config.detect.members):
        return None
    return WindowGeometry(size=config.tiles.size, step=config.tiles.step)


def encode(embedder: Embedder, blocks: Sequence[TileBlock], fold_tiles: int) -> Encoded:
    """Embed and reconstruct the tiles of up to one batch of blocks."""
    halves = np.concatenate([half_of(block.rows, block.cols, fold_tiles) for block in blocks])
    valid = np.concatenate([block.cut(block.valid) for block in blocks])
    return replace(embedder.encode(embedder.features(blocks), valid, halves), windows=embedder.windows(blocks))


def raw_scores(jury: Jury, encoded: Encoded, halves: NDArray[np.int64], *, reconstruction: bool) -> NDArray[np.float64]:
    """Raw scores (n, member) of the detectors and, last, the reconstruction error."""
    scores = jury.raw_scores(encoded.rows(), halves)
    return np.column_stack([scores, encoded.recon_error]) if reconstruction else scores
