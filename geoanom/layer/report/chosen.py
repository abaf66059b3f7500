"""Which anomalies a page shows, and what is told of all of them; memory depends on the number shown and not on the layer."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoanom.layer.features import Feature, Features

BINS = 40
"""Of the histogram, over scores from 0 to 1."""


@dataclass(kw_only=True)
class Chosen:
    """The anomalies with the highest scores, and figures of all."""

    features: list[Feature] = field(default_factory=list)
    """By falling score, ties by rank and then as in the layer."""
    n_total: int = 0
    """Anomalies of the scene, or of the layer where no scene is named."""
    n_elsewhere: int = 0
    """Anomalies of the layer's other scenes."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    """(BINS,) anomalies by score."""
    least_score: float | None = None
    """The lowest score that was called an anomaly."""


def choose(features: Features, limit: int, scene: str | None) -> Chosen:
    """Go through a layer once.

    Args:
        features: the layer.
        limit: anomalies to keep.
        scene: name of the only scene to keep; all when None.
    """
    chosen = Chosen()
    numbered = enumerate(_tallied(features, scene, chosen))
    best = heapq.nsmallest(limit, numbered, key=lambda item: (*_place(item[1]), item[0]))
    chosen.features = [feature for _, feature in best]
    return chosen


def number_of(value: Any) -> float | None:
    """A finite number, or None."""
    usable = isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _tallied(features: Features, scene: str | None, chosen: Chosen) -> Iterator[Feature]:
    for feature in features.stream():
        if scene is not None and feature.properties.get("scene") != scene:
            chosen.n_elsewhere += 1
            continue
        chosen.n_total += 1
        score = number_of(feature.properties.get("score"))
        if score is not None:
            chosen.counts[min(max(int(score * BINS), 0), BINS - 1)] += 1
            chosen.least_score = score if chosen.least_score is None else min(score, chosen.least_score)
        yield feature


def _place(feature: Feature) -> tuple[float, float]:
    score, rank = (number_of(feature.properties.get(name)) for name in ("score", "rank"))
    return math.inf if score is None else -score, math.inf if rank is None else rank
