"""Hyperspectral scenes with a mask of the anomalous pixels beside them: ``had/NAME.tif`` and ``had/NAME_gt.tif``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import geoanom.evaluate.benchmark as bench
from geoanom.errors import InputError
from geoanom.evaluate import peers as others
from geoanom.evaluate.metrics import auroc, average_precision
from geoanom.evaluate.results import Results, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.evaluate.results import Progress

TRUTH_SUFFIX = "_gt"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A scene and its truth."""

    scene: Path
    truth: Path


def run(data: Path, config: Config, *, seeds: int, peers: bool, progress: Progress) -> Results:
    """Pixel AP and AUROC on each scene, geoanom's scores brought to pixels by the nearest cell of its heatmap.

    Raises:
        InputError: no scenes, a scene without truth, or a file that cannot be read.
    """
    pairs = find_pairs(bench.part_of(data, "had"))
    config = config.model_copy(update={"sources": config.sources.model_copy(update={"pixel_space": True})})
    details: list[dict[str, Any]] = []
    for pair in progress(pairs, desc="scenes"):
        for seed in range(seeds):
            details += _measure(pair, config, seed, peers=peers)
    return Results(
        suite="hyperspectral",
        settings={
            "scenes": len(pairs),
            "seeds": seeds,
            "tile size": config.tiles.size,
            "stride": config.tiles.step,
            "config": config.digest(),
        },
        rows=tuple(_summary(method, [d for d in details if d["method"] == method]) for method in _methods(details)),
        details=tuple(details),
        tables={f"{title} on each scene": _by_scene(details, key) for title, key in (("AP", "ap"), ("AUROC", "auroc"))},
    )


def find_pairs(folder: Path) -> list[Pair]:
    """Scenes of a folder with their truth, by name.

    Raises:
        InputError: there are none, or one has no truth beside it.
    """
    scenes = sorted(path for path in folder.glob("*.tif") if not path.stem.endswith(TRUTH_SUFFIX))
    pairs = [Pair(scene=scene, truth=scene.with_stem(scene.stem + TRUTH_SUFFIX)) for scene in scenes]
    for pair in pairs:
        if not pair.truth.is_file():
            raise InputError(pair.scene, f"has no ground truth {pair.truth.name} beside it", "add it, or take the scene away")
    if not pairs:
        raise InputError(folder, "holds no scenes", f"put NAME.tif and NAME{TRUTH_SUFFIX}.tif there")
    return pairs


def read_pair(pair: Pair, config: Config) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The scene (band, row, col), and the truth (row, col), True = anomaly.

    Raises:
        InputError: they cannot be read, differ in size, or hold no anomaly or nothing else.
    """
    image, truth = bench.read_raster(pair.scene, config), bench.read_raster(pair.truth, config)[0] > 0
    if image.shape[1:] != truth.shape:
        raise InputError(pair.truth, f"is of {truth.shape} pixels, its scene of {image.shape[1:]}", "give both the same size")
    if truth.all() or not truth.any():
        raise InputError(pair.truth, "marks no pixel, or all", "mark anomalies with 1 and all else with 0")
    if not np.isfinite(image).all():
        raise InputError(pair.scene, "has pixels without a value", "cut them off")
    return image, truth


def on_pixels(heatmap: NDArray[np.float64], shape: tuple[int, ...], stride: int) -> NDArray[np.float64]:
    """A heatmap of one value a cell, or a pixel, in the scene's shape (row, col); pixels that were not scored rank last."""
    factor = 1 if heatmap.shape == shape else stride
    fine = np.repeat(np.repeat(heatmap, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
    return np.where(np.isfinite(fine), fine, -1.0)  # scores are from 0 to 1


def _measure(pair: Pair, config: Config, seed: int, *, peers: bool) -> Iterable[dict[str, Any]]:
    """One record for each method on one scene."""
    image, truth = read_pair(pair, config)
    heatmap = bench.heatmap_of(pair.scene, config.model_copy(update={"seed": config.seed + seed}))
    scores = {"geoanom": on_pixels(heatmap, truth.shape, config.tiles.step).ravel()}
    if peers:
        scores |= others.pixel_scores(image, seed)
    for method, values in scores.items():
        yield {
            "scene": pair.scene.stem,
            "seed": seed,
            "method": method,
            "ap": average_precision(values, truth.ravel()),
            "auroc": auroc(values, truth.ravel()),
        }


def _methods(details: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(record["method"] for record in details))


def _summary(method: str, records: Sequence[dict[str, Any]]) -> Row:
    figures = {"mean AP": np.mean([r["ap"] for r in records]), "mean AUROC": np.mean([r["auroc"] for r in records])}
    return Row(method=method, figures={name: float(value) for name, value in figures.items()}, n_runs=len(records))


def _by_scene(details: Sequence[dict[str, Any]], key: str) -> tuple[Row, ...]:
    """One line a method, one column a scene, means over the seeds."""
    scenes = list(dict.fromkeys(record["scene"] for record in details))
    rows = []
    for method in _methods(details):
        found = {scene: [r[key] for r in details if (r["scene"], r["method"]) == (scene, method)] for scene in scenes}
        figures: dict[str, float | None] = {scene: float(np.mean(values)) for scene, values in found.items()}
        rows.append(Row(method=method, figures=figures, n_runs=len(found[scenes[0]])))
    return tuple(rows)
