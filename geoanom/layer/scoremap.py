"""The scores of one scene on its tile grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from geoanom.layer.explain import NormalTiles
    from geoanom.layer.pixelerror import PixelErrors
    from geoanom.layer.windowmap import WindowMap
    from geoanom.raster.grid import TileGrid
    from geoanom.raster.scene import Scene


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Everything known of a scene's scored tiles, one row per tile in the order of the grid."""

    scene: Scene
    grid: TileGrid
    rows: NDArray[np.int64]
    """(n,) tile rows."""
    cols: NDArray[np.int64]
    """(n,) tile columns."""
    score: NDArray[np.float64]
    """(n,) 0..1, higher = more anomalous."""
    statistic: NDArray[np.float64]
    """(n,) what the ensemble said before calibration; orders equal scores."""
    p_value: NDArray[np.float64]
    """(n,)."""
    q_value: NDArray[np.float64]
    """(n,) Benjamini-Hochberg."""
    member_score: Mapping[str, NDArray[np.float64]]
    """Name to (n,) score of one member on the same scale as `score`."""
    recon_error: NDArray[np.float64]
    """(n,)."""
    valid_fraction: NDArray[np.float64]
    """(n,)."""
    top_band: NDArray[np.int64]
    """(n, k) positions, in the scene's bands, of the bands furthest from usual, the furthest first."""
    top_band_sigma: NDArray[np.float64]
    """(n, k) how far, in robust standard deviations, signed."""
    top_band_contrast: NDArray[np.bool_]
    """(n, k) True where it is the contrast, and not the mean, that is this far."""
    tiles_masked: int
    """Tiles with too few valid pixels to be scored."""
    warnings: tuple[str, ...] = ()
    """What the scene lost on the way."""
    pixel_errors: PixelErrors | None = None
    """Reconstruction error of every pixel, where there is one."""
    window_map: WindowMap | None = None
    """How odd the small windows in the tiles are, where a detector judged them."""
    embedding: NDArray[np.float32] | None = None
    """(n, d)."""
    normal_tiles: NormalTiles | None = None
    """What the embeddings are compared with."""
    direction: NDArray[np.str_] | None = None
    """(n,) appeared, vanished or altered, where two dates are compared; unusual then means unlike before."""

    @property
    def detail(self) -> PixelErrors | WindowMap | None:
        """What tells, below the scale of tiles, where the odd thing in a place is."""
        return self.pixel_errors or self.window_map

    def __len__(self) -> int:
        """Number of scored tiles."""
        return len(self.rows)

    def on_grid(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Values (n,) laid on the grid (n_rows, n_cols), NaN where no tile was scored."""
        field = np.full((self.grid.n_rows, self.grid.n_cols), np.nan)
        field[self.rows, self.cols] = values
        return field

    def order(self) -> NDArray[np.int64]:
        """Tiles from the most to the least anomalous, ties by the statistic and then in the order of the grid."""
        return np.lexsort((-self.statistic, -self.score))
