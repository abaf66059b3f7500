"""Small score maps and scenes for tests of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import CRS

from geoanom.layer.scoremap import ScoreMap
from geoanom.raster.grid import TileGrid
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.raster.scene import Scene

UTM18 = CRS.from_epsg(32618).to_wkt()
TRANSFORM = Affine(10.0, 0.0, 435_730.0, 0.0, -10.0, 4_179_460.0)


def flat_scene(height: int = 256, width: int = 320, *, transform: Affine = TRANSFORM, crs_wkt: str | None = UTM18) -> Scene:
    """A scene whose pixels do not matter."""
    return array_scene(np.zeros((2, height, width), np.uint8), transform=transform, crs_wkt=crs_wkt, name="flat.tif")


def score_map(scene: Scene, *, size: int = 64, stride: int = 32, peaks: dict[tuple[int, int], float] | None = None) -> ScoreMap:
    """All tiles scored, none anomalous but the given cells."""
    grid = TileGrid(height=scene.height, width=scene.width, size=size, stride=stride)
    places = np.array(list(grid))
    statistic = np.linspace(0.0, 0.1, len(grid))
    for (row, col), value in (peaks or {}).items():
        statistic[row * grid.n_cols + col] = value
    p_value: NDArray[np.float64] = 10.0**-statistic
    ones, both = np.ones(len(grid)), np.ones((len(grid), 2))
    return ScoreMap(
        scene=scene,
        grid=grid,
        rows=places[:, 0],
        cols=places[:, 1],
        score=statistic / 10,
        statistic=statistic,
        p_value=p_value,
        q_value=p_value,
        member_score={"rx": statistic / 10, "reconstruction": statistic / 20},
        recon_error=statistic,
        valid_fraction=ones,
        top_band=np.array([1, 0]) * both.astype(np.int64),
        top_band_sigma=np.array([-2.5, 1.25]) * both,
        top_band_contrast=np.array([False, True]) & (both > 0),
        tiles_masked=0,
        embedding=np.arange(4 * len(grid), dtype=np.float32).reshape(-1, 4),
    )
