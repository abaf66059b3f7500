"""Can p-values and false discovery rates be trusted? Measured on scenes without anomalies, with plants, and after dirty training.

    OMP_NUM_THREADS=1 python tests/bench/calibration.py --data ../shared/data --out out/calibration.json --figure .github/calibration.png

The honest null is a stationary Gaussian random field with four correlated bands: nothing in it is odd. Natural scenes hold
natural oddities, which count as false here. Neighbouring tiles overlap; the Kolmogorov-Smirnov tests take only tiles that do not.
Needs the extra `plots`, and as data the scenes of the suite ``planted``, below ``truth/``, and ``broad/*.tif``. Takes 9 minutes
of one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from matplotlib.figure import Figure
from scipy.stats import kstest, sem
from sklearn.metrics import average_precision_score

from geoanom.config import Config, Threshold, load_config
from geoanom.detect.threshold import q_values
from geoanom.evaluate.grounds import Ground, find_grounds, on_any_ground, read_ground
from geoanom.evaluate.places import overlaps
from geoanom.evaluate.plant import plant
from geoanom.evaluate.suites.planted import plant_copy
from geoanom.model.fitting import fit_model
from geoanom.model.scoring import score_scene
from geoanom.pipeline import make_layer
from geoanom.raster.fill import with_border_fill
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoanom.evaluate.plant import Planted
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.model import Model
    from geoanom.raster.scene import Scene

RATES = (0.01, 0.05, 0.2)
NULL_FIELDS, PLANTED_FIELDS, FRESH_FIELDS = 20, 6, 3
CONTAMINATION = (0.0, 0.01, 0.02, 0.05, 0.1)
SIDE_PX, N_BANDS = 768, 4
TEXTURE_PX = 6.0
"""Correlation length of a field."""
NOMINAL = np.logspace(-4, 0, 33)
"""P-values at which the observed share is asked for."""
PATCH_PX = 64


def random_field(seed: int, side: int = SIDE_PX) -> Ground:
    """A stationary Gaussian random field (band, side, side) with a Matern-like spectrum and correlated bands."""
    rng = np.random.default_rng([3, seed])
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    spectrum = (1 + np.square(2 * np.pi * TEXTURE_PX * frequency)) ** -0.9
    bands = np.fft.ifft2(np.fft.fft2(rng.standard_normal((N_BANDS, side, side))) * spectrum).real
    mix = np.linalg.cholesky(0.3 * np.eye(N_BANDS) + 0.7)
    mixed = np.einsum("ij,jrc->irc", mix, bands / bands.std(axis=(1, 2), keepdims=True))
    values = np.clip(np.rint(2000 + 300 * mixed), 1, 65535).astype(np.uint16)
    valid = np.ones((side, side), bool)
    return Ground(name=f"field {seed}", values=values, valid=valid, crs_wkt=None, transform=Affine.identity())


def halves(ground: Ground) -> tuple[Ground, Ground]:
    """The two halves of a scene, cut across its longer side."""
    axis = int(np.argmax(ground.valid.shape))
    values, valid = np.array_split(ground.values, 2, axis=axis + 1), np.array_split(ground.valid, 2, axis=axis)
    one, other = (replace(ground, name=f"{ground.name} half {i}", values=values[i], valid=valid[i]) for i in range(2))
    return one, other


def scene_of(ground: Ground) -> Scene:
    """A scene in memory."""
    scene = array_scene(ground.values, valid=ground.valid, crs_wkt=ground.crs_wkt, transform=ground.transform, name=ground.name)
    return with_border_fill(scene)


def scored(model: Model, ground: Ground, config: Config) -> ScoreMap:
    """What a model says of a scene; with the default members nothing of it lies on disk."""
    with tempfile.TemporaryDirectory() as workdir:
        return score_scene(scene_of(ground), model, config, Path(workdir))


def with_plants(ground: Ground, planted: Planted) -> Ground:
    """The planted copy of a scene."""
    return replace(ground, values=planted.values, valid=planted.valid)


def apart(scores: ScoreMap) -> NDArray[np.bool_]:
    """Tiles (n,) that share no pixel with one another."""
    every = -(-scores.grid.size // scores.grid.stride)
    inner = (scores.rows < scores.grid.n_rows - 1) & (scores.cols < scores.grid.n_cols - 1)  # those at the edges are moved inward
    chosen: NDArray[np.bool_] = inner & (scores.rows % every == every - 1) & (scores.cols % every == every - 1)
    return chosen


def held_out(kind: str, training: Sequence[Ground], fresh: Ground, config: Config) -> dict[str, Any]:
    """P-values of a scene without plants that the model has not seen."""
    scores = scored(fit_model([scene_of(ground) for ground in training], config), fresh, config)
    test = kstest(scores.p_value[apart(scores)], "uniform")
    return {
        "kind": kind,
        "scene": fresh.name,
        "tiles": len(scores),
        "tiles_apart": int(apart(scores).sum()),
        "ks": float(test.statistic),
        "ks_p": float(test.pvalue),
        "observed": [float((scores.p_value <= p).mean()) for p in NOMINAL],
    }


def all_held_out(data: Path, grounds: Sequence[Ground], config: Config) -> list[dict[str, Any]]:
    """Fields, other halves of natural scenes, and natural scenes under a model of others."""
    fields = [random_field(seed) for seed in range(FRESH_FIELDS)]
    found = [held_out("field, other draw", [fields[i - 1]], fields[i], config) for i in range(1, FRESH_FIELDS)]
    for ground in grounds:
        one, other = halves(ground)
        found.append(held_out("natural, other half", [one], other, config))
    found.append(held_out("natural, other scene", grounds[1:], grounds[0], config))
    broad = [cropped(read_ground(path, config)) for path in sorted((data / "broad").glob("*.tif"))[:4]]
    return [*found, held_out("natural, other scene", broad[1:], broad[0], config)]


def cropped(ground: Ground, side: int = 512) -> Ground:
    """The upper left of a scene."""
    return replace(ground, values=ground.values[:, :side, :side], valid=ground.valid[:side, :side])


def calls(kind: str, ground: Ground, planted: Planted, config: Config) -> list[dict[str, Any]]:
    """What is called in a planted copy at each rate: places, those that touch no plant, plants found."""
    copy = with_plants(ground, planted)
    model = fit_model([scene_of(copy)], config)
    scores, found = scored(model, copy, config), []
    for rate in RATES:
        layer = make_layer([scores], model, config.model_copy(update={"threshold": Threshold(fdr=rate)}))
        over = overlaps([anomaly.outline for anomaly in layer.anomalies], planted.labels)
        false = int((~over.hits.any(axis=1)).sum())
        row = {"places": len(layer), "false": false, "found": int(over.found.sum()), "plants": len(planted.plants)}
        found.append({"kind": kind, "scene": ground.name, "rate": rate, **row})
    return found


def null_calls(seed: int, config: Config) -> list[dict[str, Any]]:
    """Tiles called in a field without plants; those of the scene that a model is fitted on have the p-values of the fit."""
    ground = random_field(1000 + seed)
    q = q_values(fit_model([scene_of(ground)], config).reference.p_value)
    return [{"seed": seed, "rate": rate, "tiles": int((q <= rate).sum())} for rate in RATES]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Where a model learns, and where it is examined."""

    kind: str
    training: Ground
    exam: Ground
    donors: Sequence[Ground]
    seed: int


def lessons(grounds: Sequence[Ground]) -> list[Lesson]:
    """Fields and other fields, halves of natural scenes and their other halves."""
    fields = [
        Lesson(kind="field", training=random_field(2000 + seed, 640), exam=random_field(3000 + seed, 640), donors=grounds, seed=seed)
        for seed in range(2)
    ]
    large = sorted(grounds, key=lambda ground: -ground.valid.size)[:2]
    natural = []
    for seed, ground in enumerate(large):
        one, other = halves(ground)
        donors = [donor for donor in grounds if donor is not ground]
        natural.append(Lesson(kind="natural", training=one, exam=other, donors=donors, seed=seed))
    return [*fields, *natural]


def contaminated(lesson: Lesson, config: Config) -> list[dict[str, Any]]:
    """Average precision of planted tiles after training on a scene in which so many tiles hold foreign patches."""
    exam = plant_copy([lesson.exam, *lesson.donors], 0, copy=lesson.seed, seed=lesson.seed)
    tiles = scene_of(lesson.training).grid(config)
    found = []
    for share in CONTAMINATION:
        n_patches = round(share * len(tiles) / (PATCH_PX / tiles.stride) ** 2)
        donors = [donor.donor for donor in lesson.donors]
        dirty = plant(lesson.training.values, lesson.training.valid, [("foreign", PATCH_PX)] * n_patches, donors, seed=100 + lesson.seed)
        scores = scored(fit_model([scene_of(with_plants(lesson.training, dirty))], config), with_plants(lesson.exam, exam), config)
        row = {"asked": share, "patches": len(dirty.plants), "share": float((dirty.labels > 0).mean())}
        found.append({"kind": lesson.kind, "scene": lesson.exam.name, **row, "average_precision": planted_precision(scores, exam)})
    return found


def planted_precision(scores: ScoreMap, planted: Planted) -> float:
    """Average precision of the tiles whose cores hold a plant; those that see one beside their cores are left out."""
    places = list(zip(scores.rows.tolist(), scores.cols.tolist(), strict=True))
    inside = np.array([(planted.labels[scores.grid.core(*place).slices] > 0).any() for place in places])
    seen = np.array([(planted.labels[scores.grid.window(*place).slices] > 0).any() for place in places])
    clear = inside | ~seen
    return float(average_precision_score(inside[clear], scores.statistic[clear]))


def rates_of(rows: Sequence[dict[str, Any]], rate: float) -> dict[str, float]:
    """Mean false share over scenes with its standard error, and share of the plants found, at one rate."""
    own = [row for row in rows if row["rate"] == rate]
    shares = [row["false"] / max(1, row["places"]) for row in own]
    plants, places = sum(row["plants"] for row in own), sum(row["places"] for row in own)
    found = {"obtained": float(np.mean(shares)), "error": float(sem(shares)), "found": sum(row["found"] for row in own) / plants}
    return {"asked": rate, **found, "places": places, "false": sum(row["false"] for row in own), "plants": plants, "scenes": len(own)}


def by_kind(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each kind, in order."""
    return {kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(row["kind"] for row in rows)}


def mean_precision(rows: Sequence[dict[str, Any]], share: float) -> float:
    """Mean average precision at one share of contamination."""
    return float(np.mean([row["average_precision"] for row in rows if row["asked"] == share]))


def summary(records: dict[str, Any]) -> dict[str, Any]:
    """The figures that the picture and the README show."""
    fresh, nulls = by_kind(records["held_out"]), records["nulls"]
    return {
        "reliability": {kind: np.mean([row["observed"] for row in rows], axis=0).tolist() for kind, rows in fresh.items()},
        "ks_p": {kind: [round(row["ks_p"], 4) for row in rows] for kind, rows in fresh.items()},
        "fields_with_calls": {str(rate): sum(row["tiles"] > 0 for row in nulls if row["rate"] == rate) for rate in RATES},
        "null_fields": NULL_FIELDS,
        "rates": {kind: [rates_of(rows, rate) for rate in RATES] for kind, rows in by_kind(records["calls"]).items()},
        "precision": {
            kind: [mean_precision(rows, share) for share in CONTAMINATION] for kind, rows in by_kind(records["contamination"]).items()
        },
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """One picture with four panels."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (reliability, obtained), (power, precision) = figure.subplots(2, 2)
    for kind, observed in found["reliability"].items():
        reliability.loglog(NOMINAL, np.maximum(observed, 1e-5), label=kind)
    reliability.loglog(NOMINAL, NOMINAL, "k:", label="as promised")
    reliability.set(xlabel="p-value", ylabel="share of tiles with at most that", title="Scenes not seen in training", ylim=(5e-5, 1.2))
    for kind, rows in found["rates"].items():
        asked = [row["asked"] for row in rows]
        obtained.errorbar(asked, [row["obtained"] for row in rows], [row["error"] for row in rows], marker="o", capsize=3, label=kind)
        power.semilogx(asked, [row["found"] for row in rows], marker="o", label=kind)
    obtained.plot([0, max(RATES)], [0, max(RATES)], "k:", label="as asked")
    obtained.set(xlabel="false discovery rate asked", ylabel="places that touch no plant", title="Called places that are false")
    power.set(xlabel="false discovery rate asked", ylabel="share of the plants", title="Plants that are found", ylim=(0, 1), xticks=RATES)
    power.set_xticklabels([str(rate) for rate in RATES])
    power.minorticks_off()
    for kind, values in found["precision"].items():
        precision.plot([100 * share for share in CONTAMINATION], values, marker="o", label=kind)
    precision.set(xlabel="training tiles with foreign patches, %", ylabel="average precision", title="After dirty training", ylim=(0, 1))
    for axes in (reliability, obtained, power, precision):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    args = parser.parse_args()
    config = on_any_ground(load_config(args.config, sets=args.sets))
    grounds = [read_ground(path, config) for path in find_grounds(args.data)]
    cities = [ground for ground in grounds if ground.name.startswith("oscd/")]
    fields = [random_field(4000 + seed) for seed in range(PLANTED_FIELDS)]
    records: dict[str, Any] = {"held_out": all_held_out(args.data, cities, config)}
    records["nulls"] = [row for seed in range(NULL_FIELDS) for row in null_calls(seed, config)]
    on_fields = [("fields", field, plant_copy([field, *cities], 0, copy=i, seed=i)) for i, field in enumerate(fields)]
    on_grounds = [("natural scenes", ground, plant_copy(grounds, i, copy=i, seed=0)) for i, ground in enumerate(grounds)]
    records["calls"] = [row for kind, ground, planted in [*on_fields, *on_grounds] for row in calls(kind, ground, planted, config)]
    records["contamination"] = [row for lesson in lessons(cities) for row in contaminated(lesson, config)]
    found = {**summary(records), "nominal": NOMINAL.tolist(), "cpu_seconds": round(time.process_time()), "config": config.digest()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**found, "records": records}, indent=1))
    draw(found, args.figure)
    print(json.dumps({key: value for key, value in found.items() if key not in ("reliability", "nominal")}, indent=1))


if __name__ == "__main__":
    main()
