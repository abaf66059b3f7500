"""What a model is, and how it judges tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.ensemble import RECONSTRUCTION, half_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.detect.ensemble import Ensemble, Jury
    from geoanom.embed.embedder import Embedder, Encoded
    from geoanom.raster.blocks import TileBatch
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

    values: NDArray[np.generic]
    """(n, band, size, size), in real units."""
    valid: NDArray[np.bool_]
    """(n, size, size)."""
    halves: NDArray[np.int64]
    """(n,)."""
    raw: NDArray[np.float64]
    """(n, member)."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The embedded training tiles that the detectors are fitted on."""

    embedding: NDArray[np.float32]
    """(n, d)."""
    halves: NDArray[np.int64]
    """(n,) the half of each tile."""


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """What the mean and the contrast of each band usually are in a tile."""

    center: NDArray[np.float64]
    """(2 * band,) medians: the means first, then the deviations."""
    spread: NDArray[np.float64]
    """(2 * band,) robust standard deviations."""

    def furthest(self, tiles: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The band whose mean or contrast is furthest from usual in each tile, and how far in signed sigmas."""
        sigma = (band_statistics(tiles) - self.center) / self.spread
        worst = np.abs(sigma).argmax(axis=1)
        return worst % (len(self.center) // 2), sigma[np.arange(len(sigma)), worst]


def band_statistics(tiles: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and deviation of each band of normalized tiles (n, band, row, col), as (n, 2 * band)."""
    return np.concatenate([tiles.mean(axis=(2, 3), dtype=np.float64), tiles.std(axis=(2, 3), dtype=np.float64)], axis=1)


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
    normalizer: Normalizer
    embedder: Embedder
    reference: Reference
    jury: Jury
    ensemble: Ensemble
    band_statistics: BandStatistics
    pixel_threshold: float | None
    """Pixel errors above this are unusual; None where pixels are not reconstructed."""
    scenes: tuple[TrainingScene, ...]
    golden: Golden

    @property
    def member_names(self) -> tuple[str, ...]:
        """Who votes."""
        return (*self.jury.names, RECONSTRUCTION) if self.config.detect.reconstruction else self.jury.names

    def halves(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
        """The half of the tiles at these grid places."""
        return half_of(rows, cols, self.fold_tiles)

    def encode(self, batch: TileBatch) -> tuple[Encoded, NDArray[np.int64], NDArray[np.float64]]:
        """Embed a batch; also the band furthest from usual in each tile, and by how many sigmas."""
        tiles = self.normalizer(batch.values, batch.valid)
        encoded = self.embedder.encode(tiles, batch.valid, self.halves(batch.rows, batch.cols))
        return encoded, *self.band_statistics.furthest(tiles)

    def raw_scores(
        self, embedding: NDArray[np.float32], recon_error: NDArray[np.float64], halves: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Raw scores (n, member) in the order of `member_names`."""
        return raw_scores(self.jury, embedding, recon_error, halves, reconstruction=self.config.detect.reconstruction)


def raw_scores(
    jury: Jury, embedding: NDArray[np.float32], recon_error: NDArray[np.float64], halves: NDArray[np.int64], *, reconstruction: bool
) -> NDArray[np.float64]:
    """Raw scores (n, member) of the detectors and, last, the reconstruction error."""
    scores = jury.raw_scores(embedding, halves)
    return np.column_stack([scores, recon_error]) if reconstruction else scores
