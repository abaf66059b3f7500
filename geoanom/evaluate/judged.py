"""Scores and truth at the same pixels, cells or places: what every figure is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

from geoanom.errors import InputError
from geoanom.evaluate.grid import Grid
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pyproj import CRS


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What became of true objects and of features."""

    n_objects: int
    n_hit: int | None = None
    """Objects that a feature touches; None where no threshold makes features."""
    n_false_alarms: int | None = None
    """Features that touch no object; None where no threshold makes features."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Labelled places with a score."""

    scores: NDArray[np.floating] = field(repr=False)
    """(n,) finite."""
    truth: NDArray[np.bool_] = field(repr=False)
    """(n,) True = anomaly."""
    called: NDArray[np.bool_] | None = field(default=None, repr=False)
    """(n,) True = inside a feature; None for a heatmap, which has no threshold."""
    maps: tuple[NDArray[np.floating], NDArray[np.bool_]] | None = field(default=None, repr=False)
    """Scores (row, col) with NaN where they do not count, and truth (row, col); None for single places."""
    objects: Objects | None = None
    """None for single places."""
    n_unscored: int = 0
    """Labelled places that have no score and are left out."""
    cell_area_m2: float | None = None
    """Mean area of a place; None where it has none."""


def judged_map(
    grid: Grid,
    scores: NDArray[np.floating],
    labels: NDArray[np.int8],
    objects: Objects,
    called: NDArray[np.bool_] | None = None,
) -> Judged:
    """What was judged on a grid.

    Args:
        grid: of all the others.
        scores: (row, col), NaN where there is none.
        labels: (row, col): 1 = anomaly, 0 = normal, -1 = not labelled.
        objects: what became of them.
        called: (row, col), if there is a threshold.
    """
    labelled, scored = labels >= 0, np.isfinite(scores)
    known, truth = labelled & scored, labels == 1
    return Judged(
        scores=scores[known],
        truth=truth[known],
        called=None if called is None else called[known],
        maps=(np.where(known, scores, np.nan), truth),
        objects=objects,
        n_unscored=int((labelled & ~scored).sum()),
        cell_area_m2=grid.cell_area_m2,
    )


def mask_grid(grid: Grid, crs: CRS | None, path: Path) -> Grid:
    """The grid of a mask for scores with this CRS; its bare pixels when the scores are in pixels, too.

    Raises:
        InputError: the scores have a place on the Earth and the mask has none.
    """
    if crs is None:
        return Grid(height=grid.height, width=grid.width, georef=Georeference(crs_wkt=None, transform=Affine.identity()))
    if grid.crs is None:
        raise InputError(path, "has no place on the Earth, and the scores have one", "give it the CRS and transform of the scene")
    return grid


def require_crs(crs: CRS | None, scores_crs: CRS | None, path: Path) -> None:
    """Refuse coordinates without a CRS where the scores have one; scores in pixels take all coordinates for pixels.

    Raises:
        InputError: nothing says where on the Earth the truth is.
    """
    if crs is None and scores_crs is not None:
        raise InputError(path, "has no coordinate reference system, and the scores have one", "set it, for example with ogr2ogr -a_srs")


def check_judged(judged: Judged, scored: Path, truth: Path) -> Judged:
    """What was judged, if figures can be made from it.

    Raises:
        InputError: nothing was labelled and scored, or only one class was.
    """
    if not judged.scores.size:
        raise InputError(truth, f"labels no place that {scored.name} has a score for", "name the truth of the same scene")
    if not judged.truth.any():
        raise InputError(truth, f"holds no anomaly where {scored.name} has scores", "name a truth with at least one anomaly there")
    if judged.truth.all():
        remedy = "label normal places as well; in a mask, zero must not be its nodata value"
        raise InputError(truth, f"holds nothing but anomalies where {scored.name} has scores", remedy)
    return judged
