"""What a model is, and how it judges tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.ensemble import RECONSTRUCTION, half_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.detect.ensemble import Ensemble, Jury
    from geoanom.embed.embedder import Embedder, Encoded
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer
    from geoanom.raster.scene import Band


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

    rows: Mapping[str, NDArray[np.float32]]
    """Tables (n, columns) by name: embedding, features; only those that a member works on."""
    halves: NDArray[np.int64]
    """(n,) the half of each tile."""


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """What the mean and the contrast of each band usually are in a tile."""

    center: NDArray[np.float64]
    """(2 * band,) medians: the means first, then the deviations."""
    spread: NDArray[np.float64]
    """(2 * band,) robust standard deviations."""

    def furthest(self, statistics: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The band whose mean or contrast is furthest from usual in each tile, and how far in signed sigmas."""
        sigma = (statistics - self.center) / self.spread
        worst = np.abs(sigma).argmax(axis=1)
        return worst % (len(self.center) // 2), sigma[np.arange(len(sigma)), worst]


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

    def raw_scores(self, encoded: Encoded, halves: NDArray[np.int64]) -> NDArray[np.float64]:
        """Raw scores (n, member) in the order of `member_names`."""
        return raw_scores(self.jury, encoded, halves, reconstruction=self.config.detect.reconstruction)


def encode(embedder: Embedder, blocks: Sequence[TileBlock], fold_tiles: int) -> Encoded:
    """Embed and reconstruct the tiles of up to one batch of blocks."""
    halves = np.concatenate([half_of(block.rows, block.cols, fold_tiles) for block in blocks])
    valid = np.concatenate([block.cut(block.valid) for block in blocks])
    return embedder.encode(embedder.features(blocks), valid, halves)


def raw_scores(jury: Jury, encoded: Encoded, halves: NDArray[np.int64], *, reconstruction: bool) -> NDArray[np.float64]:
    """Raw scores (n, member) of the detectors and, last, the reconstruction error."""
    scores = jury.raw_scores(encoded.rows(), halves)
    return np.column_stack([scores, encoded.recon_error]) if reconstruction else scores
