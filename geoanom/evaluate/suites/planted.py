"""Synthetic anomalies of known kind, size and outline in copies of real scenes: who finds them, and how well are they outlined?

Scenes are those of OSCD (Daudt et al. 2018, doi:10.1109/IGARSS.2018.8518015), Taizhou (Wu et al. 2014,
doi:10.1109/TGRS.2013.2266673), Sen1Floods11 (Bonafilia et al. 2020, doi:10.1109/CVPRW50498.2020.00113) and SZTAKI AirChange
(Benedek and Szirányi 2009, doi:10.1109/TGRS.2009.2022633), as far as they are there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.config import Threshold
from geoanom.evaluate.grounds import TOP, called_places, find_grounds, on_any_ground, read_ground
from geoanom.evaluate.place_peers import PLACE_PEERS
from geoanom.evaluate.places import average_precision, beyond_chance, chance, outline_iou, overlaps
from geoanom.evaluate.plant import MAKERS, Planted, deal, plant
from geoanom.evaluate.results import Results, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.evaluate.grounds import Ground
    from geoanom.evaluate.results import Progress

OURS = "geoanom"
N_PLANTS = 12
"""In each copy of a scene."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of one plant under one method."""

    method: str
    scene: str
    seed: int
    kind: str
    size_px: int
    row: int
    col: int
    hit: bool
    chance: float
    """Share of all moves of the method's outlines that hit the plant."""
    iou: float | None
    """Of the plant and the outlines that hit it; None where none does."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method on one copy of a scene."""

    method: str
    scene: str
    seed: int
    places: int
    area_share: float
    average_precision: float | None
    found: tuple[Found, ...] = field(repr=False)


def run(data: Path, config: Config, *, seeds: int, peers: bool, progress: Progress) -> Results:
    """Plant in every scene, for every seed, and let every method look for what was planted.

    Args:
        data: the folder with ``oscd``, ``taizhou``, ``flood``, ``sztaki``, or its parent; what is not there is left out.
        config: settings of geoanom's runs, but for the threshold.
        seeds: copies of each scene.
        peers: let other methods look, too.
        progress: wraps what is iterated over, like tqdm.

    Raises:
        InputError: none of the scenes is there, or one cannot be scored.
    """
    grounds = [read_ground(path, config) for path in find_grounds(data)]
    copies = [(seed, i) for seed in range(seeds) for i in range(len(grounds))]
    runs: list[Run] = []
    left_out = 0
    for n, (seed, i) in enumerate(progress(copies, desc="planted scenes")):
        planted = plant_copy(grounds, i, copy=n, seed=seed)
        left_out += planted.left_out
        runs += judged(grounds[i], planted, config, seed=seed, peers=peers)
    settings = {"scenes": len(grounds), "seeds": seeds, "plants": len(copies) * N_PLANTS - left_out, "left out": left_out}
    return summarize(runs, {**settings, "top": TOP, "config": config.digest()})


def plant_copy(grounds: Sequence[Ground], i: int, *, copy: int, seed: int) -> Planted:
    """Plants in a copy of scene `i`, foreign ones from the other scenes."""
    donors = [ground.donor for k, ground in enumerate(grounds) if k != i]
    kinds = [kind for kind in MAKERS if donors or kind != "foreign"]
    return plant(grounds[i].values, grounds[i].valid, deal(copy, N_PLANTS, kinds), donors, seed=seed)


def judged(ground: Ground, planted: Planted, config: Config, *, seed: int, peers: bool) -> Iterator[Run]:
    """One run for each method."""
    ours = on_any_ground(config).model_copy(update={"threshold": Threshold(top=TOP)})
    outlines = called_places(ground, planted.values, planted.valid, ours)[0]
    yield measured(OURS, ground.name, seed, outlines, planted)
    values = planted.values.astype(np.float32)
    for method, peer in PLACE_PEERS.items() if peers else ():
        outlines = [outline for outline, _ in peer(values, planted.valid)[:TOP]]
        yield measured(method, ground.name, seed, outlines, planted)


def measured(method: str, scene: str, seed: int, outlines: Sequence[BaseGeometry], planted: Planted) -> Run:
    """What ranked outlines found of the plants."""
    over = overlaps(outlines, planted.labels)
    ious, by_chance = outline_iou(over), chance(over.union, planted.labels)
    found = [
        Found(
            method=method,
            scene=scene,
            seed=seed,
            kind=one.kind,
            size_px=one.size_px,
            row=one.row,
            col=one.col,
            hit=bool(over.found[i]),
            chance=float(by_chance[i]),
            iou=float(ious[i]) if over.found[i] else None,
        )
        for i, one in enumerate(planted.plants)
    ]
    return Run(
        method=method,
        scene=scene,
        seed=seed,
        places=len(outlines),
        area_share=float(over.union.mean()),
        average_precision=average_precision(over.hits),
        found=tuple(found),
    )


def summarize(runs: Sequence[Run], settings: dict[str, Any]) -> Results:
    """Tables over all plants, by kind and by size."""
    methods = list(dict.fromkeys(one.method for one in runs))
    found = [one for run in runs for one in run.found]
    kinds = [kind for kind in MAKERS if any(one.kind == kind for one in found)]
    tables = {f"kind: {kind}": tuple(_kind_row(method, [f for f in found if f.kind == kind]) for method in methods) for kind in kinds}
    for figure in ("recall", "beyond chance"):
        tables[f"{figure} by size"] = tuple(_size_row(method, found, figure) for method in methods)
    rows = tuple(_headline(method, runs) for method in methods)
    details = [{name: value for name, value in asdict(run).items() if name != "found"} for run in runs]
    return Results(suite="planted", settings=settings, rows=rows, details=(*details, *map(asdict, found)), tables=tables)


def finding_figures(found: Sequence[Found]) -> dict[str, float | None]:
    """Recall, chance, recall beyond chance and IoU over plants; beyond chance is that of the means."""
    if not found:
        return {"recall": None, "chance": None, "beyond chance": None, "IoU": None}
    recall, by_chance = float(np.mean([one.hit for one in found])), float(np.mean([one.chance for one in found]))
    return {
        "recall": recall,
        "chance": by_chance,
        "beyond chance": beyond_chance(recall, by_chance),
        "IoU": _mean([one.iou for one in found]),
    }


def _headline(method: str, runs: Sequence[Run]) -> Row:
    own = [run for run in runs if run.method == method]
    figures = finding_figures([one for run in own for one in run.found])
    figures["average precision"] = _mean([run.average_precision for run in own])
    figures |= {"places": _mean([run.places for run in own]), "area share": _mean([run.area_share for run in own])}
    return Row(method=method, figures=figures, n_runs=len(own))


def _kind_row(method: str, found: Sequence[Found]) -> Row:
    own = [one for one in found if one.method == method]
    return Row(method=method, figures=finding_figures(own), n_runs=len(own))


def _size_row(method: str, found: Sequence[Found], figure: str) -> Row:
    own = [one for one in found if one.method == method]
    sizes = sorted({one.size_px for one in own})
    figures = {f"{size} px": finding_figures([one for one in own if one.size_px == size])[figure] for size in sizes}
    return Row(method=method, figures=figures, n_runs=len(own))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
