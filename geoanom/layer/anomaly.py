"""Anomalies: places with an outline, a rank and reasons; and the layer that holds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.layer.explain import BandDeparture, reason_of, voters_of
from geoanom.layer.regions import connected, outline_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.explain import NearTile
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.raster.scene import Scene

LEVELS = ((0.6, "high"), (0.3, "medium"), (0.0, "low"))
"""Least score of each level: p-values of 1e-6, 1e-3, 1."""


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """One place that does not belong."""

    scene: Scene
    anomaly_id: str
    """Hash of the scene's digest, the model and the cell of the worst tile."""
    rank: int
    """1 = the most anomalous of its scene."""
    outline: BaseGeometry
    """Polygon or MultiPolygon in pixel corners (col, row)."""
    cell: tuple[int, int]
    """Row and column of the worst tile."""
    score: float
    p_value: float
    q_value: float
    n_tiles: int
    valid_fraction: float
    recon_error: float
    member_score: Mapping[str, float]
    bands: tuple[BandDeparture, ...]
    """The bands of the worst tile that are furthest from usual, the furthest first."""
    voters: tuple[str, ...]
    """Members that find it unusual by themselves, the strongest first."""
    nearest: tuple[NearTile, ...]
    """The normal training tiles nearest to the worst tile, the nearest first."""
    reason: str
    """One sentence."""
    direction: str | None = None
    """appeared, vanished or altered, where two dates are compared."""

    @property
    def level(self) -> str:
        """low, medium or high."""
        return next(name for least, name in LEVELS if self.score >= least)

    @property
    def top_band(self) -> str:
        """The band furthest from usual."""
        return self.bands[0].band

    @property
    def top_band_sigma(self) -> float:
        """How far that is."""
        return self.bands[0].sigma


@dataclass(frozen=True, kw_only=True)
class SceneSummary:
    """What became of one scene."""

    scene: Scene
    tiles_scored: int
    tiles_masked: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnomalyLayer:
    """The anomalies of one or more scenes, in the order of scene, row, column."""

    model_id: str
    config_digest: str
    threshold: Mapping[str, Any]
    """The rule and its value."""
    scenes: tuple[SceneSummary, ...]
    anomalies: tuple[Anomaly, ...] = field(repr=False)
    tile_size: int | None = None
    """Side of a tile in pixels, which `nearest_tiles` count in."""
    stride: int | None = None
    """Step between tiles in pixels."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else a reader must know of how it was made: plain values, such as the earlier date."""

    def __len__(self) -> int:
        """Number of anomalies."""
        return len(self.anomalies)


def anomalies_of(scores: ScoreMap, selected: NDArray[np.bool_], model_id: str) -> list[Anomaly]:
    """The places of a scene, in the order of their worst tile's row and column.

    Args:
        scores: the scene's scores.
        selected: (n,) tiles called anomalous.
        model_id: part of each anomaly's identity.
    """
    position = np.empty(len(scores), np.int64)
    position[scores.order()] = np.arange(len(scores))
    groups = sorted(connected(scores, selected), key=lambda tiles: int(position[tiles].min()))
    found = [_anomaly(scores, tiles, position, rank, model_id) for rank, tiles in enumerate(groups, 1)]
    return sorted(found, key=lambda anomaly: anomaly.cell)


def _anomaly(scores: ScoreMap, tiles: NDArray[np.int64], position: NDArray[np.int64], rank: int, model_id: str) -> Anomaly:
    worst = int(tiles[position[tiles].argmin()])
    cell = int(scores.rows[worst]), int(scores.cols[worst])
    identity = f"{scores.scene.digest}/{model_id}/{cell[0]}/{cell[1]}"
    bands, nearest = _bands(scores, worst), _nearest(scores, worst, cell)
    member_score = {name: float(values[worst]) for name, values in scores.member_score.items()}
    voters = voters_of(member_score)
    usual = scores.normal_tiles.usual_distance if scores.normal_tiles and nearest else 0.0
    return Anomaly(
        scene=scores.scene,
        anomaly_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
        rank=rank,
        outline=outline_of(zip(scores.rows[tiles].tolist(), scores.cols[tiles].tolist(), strict=True), scores.grid, scores.detail),
        cell=cell,
        score=float(scores.score[worst]),
        p_value=float(scores.p_value[worst]),
        q_value=float(scores.q_value[worst]),
        n_tiles=len(tiles),
        valid_fraction=float(scores.valid_fraction[tiles].mean()),
        recon_error=float(scores.recon_error[worst]),
        member_score=member_score,
        bands=bands,
        voters=voters,
        nearest=nearest,
        reason=reason_of(bands, nearest, voters, usual),
        direction=None if scores.direction is None else str(scores.direction[worst]),
    )


def _bands(scores: ScoreMap, tile: int) -> tuple[BandDeparture, ...]:
    columns = zip(scores.top_band[tile], scores.top_band_sigma[tile], scores.top_band_contrast[tile], strict=True)
    than = "usual" if scores.direction is None else "before"
    return tuple(BandDeparture(band=scores.scene.bands[int(b)].name, sigma=float(s), contrast=bool(c), than=than) for b, s, c in columns)


def _nearest(scores: ScoreMap, tile: int, cell: tuple[int, int]) -> tuple[NearTile, ...]:
    if scores.normal_tiles is None or scores.embedding is None:
        return ()
    return scores.normal_tiles.nearest(scores.embedding[tile], scores.scene.digest, cell)
