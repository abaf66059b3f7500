"""Reasons: which bands are unusual, who votes, which normal tiles are the nearest, and one sentence that says it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TOP_BANDS = 3
"""Bands named for each tile."""
NEAREST = 3
"""Normal tiles named for each anomaly."""
VOTE_SCORE = 0.2
"""A member votes for an anomaly from this score on: its own p-value is 0.01 or less."""
UNUSUAL_SIGMA = 2.0
"""Robust standard deviations from which a band is called unusual."""
N_PROBES = 128
"""Normal tiles whose distance to their nearest one tells what is usual."""


@dataclass(frozen=True, kw_only=True)
class BandDeparture:
    """How far the mean or the contrast of one band is from usual."""

    band: str
    sigma: float
    """Signed, in robust standard deviations."""
    contrast: bool
    """The contrast, not the mean, is the further one."""
    than: str = "usual"
    """What it is compared with."""

    @property
    def label(self) -> str:
        """Such as "B08 +4.2" or "B08 contrast -2.1"."""
        return f"{self.band}{' contrast' if self.contrast else ''} {self.sigma:+.1f}"

    @property
    def words(self) -> str:
        """Such as "B08 brighter than usual by 4.2 sigma"."""
        more = ("darker", "brighter") if not self.contrast else ("with less contrast", "with more contrast")
        return f"{self.band} {more[self.sigma > 0]} than {self.than} by {abs(self.sigma):.1f} sigma"


@dataclass(frozen=True, kw_only=True)
class NearTile:
    """A normal training tile and how far it is in the embedding."""

    scene: str
    row: int
    col: int
    distance: float

    @property
    def label(self) -> str:
        """scene:row:col@distance."""
        return f"{self.scene}:{self.row}:{self.col}@{self.distance:.4g}"


@dataclass(frozen=True, kw_only=True)
class NormalTiles:
    """The training tiles in which nothing is unusual, as points of the embedding."""

    embedding: NDArray[np.float32]
    """(n, d)."""
    scene: NDArray[np.int64]
    """(n,) position in `names` and `digests`."""
    rows: NDArray[np.int64]
    """(n,) tile rows."""
    cols: NDArray[np.int64]
    """(n,) tile columns."""
    names: Sequence[str]
    """Of the scenes."""
    digests: Sequence[str]
    """Of the scenes."""
    reach: int
    """Tiles of a scene that are at most this many rows and columns apart may share pixels, and say nothing of each other."""

    def nearest(self, embedding: NDArray[np.float32], digest: str, cell: tuple[int, int]) -> tuple[NearTile, ...]:
        """The nearest normal tiles that share no pixel with a tile, the nearest first and ties in the order of training.

        Args:
            embedding: (d,) of the tile.
            digest: of its scene.
            cell: its row and column.
        """
        scene = self.digests.index(digest) if digest in self.digests else -1
        distance = self._distances(embedding, scene, *cell)
        order = _smallest(distance, NEAREST)
        return tuple(self._tile(int(i), float(distance[i])) for i in order)

    @cached_property
    def usual_distance(self) -> float:
        """Median distance of a normal tile to the nearest other one, over an even sample of them; 0 without any."""
        probes = sorted(set(np.linspace(0, len(self.rows) - 1, N_PROBES).astype(int).tolist())) if len(self.rows) else []
        found = np.array([self._distances(self.embedding[i], self.scene[i], self.rows[i], self.cols[i]).min() for i in probes])
        finite = found[np.isfinite(found)]
        return float(np.median(finite)) if len(finite) else 0.0

    @cached_property
    def _points(self) -> NDArray[np.float64]:
        return self.embedding.astype(np.float64)

    def _distances(self, embedding: NDArray[np.float32], scene: int, row: int, col: int) -> NDArray[np.float64]:
        """Euclidean distances (n,) to a tile, infinite where pixels may be shared."""
        distance: NDArray[np.float64] = cdist(embedding[None].astype(np.float64), self._points)[0]
        beside = (np.abs(self.rows - row) <= self.reach) & (np.abs(self.cols - col) <= self.reach)
        distance[(self.scene == scene) & beside] = np.inf
        return distance

    def _tile(self, i: int, distance: float) -> NearTile:
        return NearTile(scene=self.names[self.scene[i]], row=int(self.rows[i]), col=int(self.cols[i]), distance=distance)


def reach_of(size: int, stride: int) -> int:
    """Rows or columns of tiles beyond which two windows share no pixel, even where the scene's edges shift both of them."""
    return -(-2 * size // stride) - 1


def voters_of(member_score: Mapping[str, float]) -> tuple[str, ...]:
    """The members that vote for an anomaly, from the strongest to the weakest, ties in the order given."""
    voters = [name for name, score in member_score.items() if score >= VOTE_SCORE]
    return tuple(sorted(voters, key=lambda name: -member_score[name]))


def reason_of(bands: Sequence[BandDeparture], nearest: Sequence[NearTile], voters: Sequence[str], usual_distance: float) -> str:
    """One sentence of what is unusual in a tile.

    Args:
        bands: the most unusual first.
        nearest: normal tiles, the nearest first.
        voters: members that vote for it.
        usual_distance: of a normal tile to the nearest other one.
    """
    parts = [_of_bands(bands), _of_distance(nearest, usual_distance), _of_voters(voters)]
    return "; ".join(part for part in parts if part)


def _of_bands(bands: Sequence[BandDeparture]) -> str:
    if not bands or abs(bands[0].sigma) < UNUSUAL_SIGMA:
        return "mean and contrast of every band as usual" if not bands or bands[0].than == "usual" else "no band much unlike before"
    return bands[0].words


def _of_distance(nearest: Sequence[NearTile], usual_distance: float) -> str:
    if not nearest or usual_distance <= 0:
        return ""
    return f"nearest normal tile {nearest[0].distance / usual_distance:.1f} times as far as usual"


def _of_voters(voters: Sequence[str]) -> str:
    if len(voters) > 1:
        return f"{', '.join(voters[:-1])} and {voters[-1]} agree"
    return f"only {voters[0]} is sure" if voters else "no single detector is sure"


def _smallest(values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Positions of the up to k smallest finite values in ascending order, ties by position."""
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) > k:
        bound = np.partition(values[finite], k - 1)[k - 1]
        finite = finite[values[finite] <= bound]
    return finite[np.argsort(values[finite], kind="stable")][:k]
