"""From a layer or a heatmap and a truth to figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError
from geoanom.evaluate import metrics
from geoanom.evaluate.features import judge_layer
from geoanom.evaluate.heatmap import judge_heatmap
from geoanom.evaluate.judged import check_judged
from geoanom.evaluate.rasters import read_heatmap
from geoanom.evaluate.truth import read_truth
from geoanom.evaluate.vectors import LAYER_SUFFIXES, read_layer

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.evaluate.judged import Judged

MAX_FPR = 0.3
"""Where the area under the mean overlap ends."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures; None is what this kind of input does not have."""

    average_precision: float
    auroc: float
    precision_at_k: float
    k: int
    recall: float | None
    """Of pixels, at the layer's own threshold; a heatmap has none."""
    precision: float | None
    """Of pixels, at the layer's own threshold; None when the layer is empty, and for a heatmap."""
    object_recall: float | None
    """Share of the true objects that a feature of the layer touches."""
    n_objects: int | None
    """8-connected components of a mask, or polygons and points; None for a table."""
    false_alarms_per_km2: float | None
    """Features that touch no true object, per area evaluated; None without a place on the Earth."""
    false_alarms_per_million_pixels: float | None
    """The same where there is no place on the Earth."""
    pro: float | None
    """Per-region overlap up to a false positive rate of 0.3; None for a table."""
    n_positive: int
    n_labelled: int
    """Labelled pixels, cells or places that have a score."""
    n_unscored: int
    """Labelled ones that the heatmap has no score for; they are left out."""
    area_km2: float | None
    """Area of the labelled ones."""


def evaluate(scored: Path, truth: Path, k: int | None = None) -> Evaluation:
    """Compare a layer or heatmap with the truth.

    Args:
        scored: GeoJSON layer or GeoTIFF heatmap that geoanom wrote.
        truth: mask, polygons, points, or a CSV of labels.
        k: of the precision at k; the number of positives by default.

    Raises:
        InputError: a file cannot be read, both do not meet, or the truth has nothing but one class.
        ConfigError: k is out of range.
    """
    return figures(judge(scored, truth), k)


def judge(scored: Path, truth: Path) -> Judged:
    """Bring scores and truth to the same places: the mask's pixels, the heatmap's cells, or those that a table names.

    Raises:
        InputError: a file cannot be read, both do not meet, or the truth has nothing but one class.
    """
    if scored.suffix.lower() in LAYER_SUFFIXES:
        layer = read_layer(scored)
        return check_judged(judge_layer(read_truth(truth), layer, truth), scored, truth)
    heatmap = read_heatmap(scored)
    return check_judged(judge_heatmap(read_truth(truth), heatmap, truth), scored, truth)


def figures(judged: Judged, k: int | None = None) -> Evaluation:
    """The figures of what was judged.

    Raises:
        ConfigError: k is out of range.
    """
    n_labelled, n_positive = judged.scores.size, int(judged.truth.sum())
    if k is not None and not 1 <= k <= n_labelled:
        raise ConfigError("--k", f"is {k}, and {n_labelled} places are labelled", f"choose 1 to {n_labelled}")
    precision, recall = (None, None) if judged.called is None else metrics.precision_recall(judged.called, judged.truth)
    area_km2 = None if judged.cell_area_m2 is None else judged.cell_area_m2 * n_labelled / 1e6
    alarms = None if judged.objects is None else judged.objects.n_false_alarms
    return Evaluation(
        average_precision=metrics.average_precision(judged.scores, judged.truth),
        auroc=metrics.auroc(judged.scores, judged.truth),
        precision_at_k=metrics.precision_at_k(judged.scores, judged.truth, k),
        k=n_positive if k is None else k,
        recall=recall,
        precision=precision,
        object_recall=_object_recall(judged),
        n_objects=None if judged.objects is None else judged.objects.n_objects,
        false_alarms_per_km2=None if alarms is None or area_km2 is None else alarms / area_km2,
        false_alarms_per_million_pixels=None if alarms is None or area_km2 is not None else alarms / n_labelled * 1e6,
        pro=None if judged.maps is None else metrics.pro(*judged.maps, max_fpr=MAX_FPR),
        n_positive=n_positive,
        n_labelled=n_labelled,
        n_unscored=judged.n_unscored,
        area_km2=area_km2,
    )


def _object_recall(judged: Judged) -> float | None:
    """None without objects, or without a threshold that tells which are found."""
    if judged.objects is None or judged.objects.n_hit is None:
        return None
    return judged.objects.n_hit / judged.objects.n_objects
