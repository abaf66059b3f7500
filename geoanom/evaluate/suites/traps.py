"""Where nothing is to be called: images without anything that stands out, edges of undeclared fill, and clouds.

At a false discovery rate no place may be called in noise, a constant, gradients or regular stripes. Among the most unusual
places none may touch fill. Clouds stand out, and are counted with and without a mask that declares them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from scipy.ndimage import binary_dilation, gaussian_filter, shift

from geoanom.config import Threshold
from geoanom.evaluate.grounds import TOP, Ground, called_places, find_grounds, on_any_ground, read_ground
from geoanom.evaluate.places import pixels_of
from geoanom.evaluate.results import Results, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.evaluate.results import Progress

    Record = Mapping[str, Any]

SIDE_PX, N_BANDS = 768, 4
FDR = 0.05
REAL_SCENES = 3
"""Real scenes for each seed, taken in turn."""
WEDGE_SHARE = 0.25
"""Share of a scene that the fill takes, about."""
CLOUD_SHARE = 0.1
SHADOW_PX = (14, 20)
"""Rows and columns between a cloud and its shadow."""
NEAR_PX = 8
"""A place is on a cloud when more than half of it lies within so many pixels of it or of its shadow."""


def run(data: Path, config: Config, *, seeds: int, peers: bool, progress: Progress, side: int = SIDE_PX) -> Results:  # noqa: ARG001 - no peer has a rate
    """Count the places that are called in every trap.

    Args:
        data: the folder with the scenes of the suite ``planted``, or its parent; ``*fill*`` below it or in ``scenes`` beside it are used.
        config: settings of geoanom's runs, but for the threshold.
        seeds: how often what is random is drawn.
        peers: no other method is measured: none of them calls by a rate.
        progress: wraps what is iterated over, like tqdm.
        side: of the synthetic images, in pixels.

    Raises:
        InputError: none of the scenes is there, or one cannot be scored.
    """
    paths = find_grounds(data)
    drawn = [(name, seed) for seed in range(seeds) for name in SYNTHETIC if seed == 0 or name in RANDOM]
    taken = [(paths[(seed * REAL_SCENES + k) % len(paths)], seed) for seed in range(seeds) for k in range(min(REAL_SCENES, len(paths)))]
    jobs = [
        *(partial(_synthetic, name, seed, side, config) for name, seed in drawn),
        *(partial(_own_fill, path, config) for path in filled_scenes(data)),
        *(partial(_on_real_ground, path, seed, config) for path, seed in taken),
    ]
    records = [record for job in progress(jobs, desc="traps") for record in job()]
    return _summary(records, {"seeds": seeds, "fdr": FDR, "top": TOP, "side": side, "config": config.digest()})


def _noise(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    return rng.normal(2000, 100, (N_BANDS, side, side))


def _constant(rng: np.random.Generator, side: int) -> NDArray[np.float64]:  # noqa: ARG001 - one signature
    return np.full((N_BANDS, side, side), 1234.0)


def _gradient(rng: np.random.Generator, side: int) -> NDArray[np.float64]:  # noqa: ARG001 - one signature
    return np.broadcast_to(np.linspace(500, 5000, side), (N_BANDS, side, side))


def _diagonal(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    across = _gradient(rng, side)
    return (across + across.transpose(0, 2, 1)) / 2


def _gradient_and_noise(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    return _gradient(rng, side) + rng.normal(0, 10, (N_BANDS, side, side))


def _stripes(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    stripes = np.where(np.arange(side) // 4 % 2, 200.0, -200.0)
    return _noise(rng, side) + stripes[:, None]


SYNTHETIC: Mapping[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "noise": _noise,
    "constant": _constant,
    "gradient": _gradient,
    "diagonal gradient": _diagonal,
    "gradient and noise": _gradient_and_noise,
    "stripes": _stripes,
}
"""Images (band, row, col) in which nothing stands out."""
RANDOM = ("noise", "gradient and noise", "stripes")
"""Those that another seed changes."""


def filled_scenes(data: Path) -> list[Path]:
    """Rasters with ``fill`` in their names, below a folder of benchmark data and in the folder ``scenes`` beside it or in it."""
    places = [*data.rglob("*fill*"), *(data.parent / "scenes").glob("*fill*")]
    return sorted({path.resolve() for path in places if path.suffix.lower() in {".tif", ".tiff"}})


def fill_wedge(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """True on one side of a slanted line across a raster, about `WEDGE_SHARE` of it."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, cols = np.indices(shape)
    along = rows * np.sin(angle) + cols * np.cos(angle)
    wedge: NDArray[np.bool_] = along < np.quantile(along, WEDGE_SHARE)
    return wedge


def cloud_alpha(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Opacity (row, col) of smooth fractal clouds, 0..1, over about `CLOUD_SHARE` of a raster."""
    field = np.zeros(shape)
    for octave in range(5):
        rough = gaussian_filter(rng.standard_normal(shape), 32 / 2**octave, mode="wrap")
        field += rough / rough.std() / 2**octave
    low, high = np.quantile(field, [1 - CLOUD_SHARE, 1 - CLOUD_SHARE / 3])
    alpha: NDArray[np.float64] = np.clip((field - low) / (high - low), 0, 1)
    return alpha


def with_clouds(ground: Ground, alpha: NDArray[np.float64]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """A scene under bright clouds that cast shadows, and the mask (row, col) of both."""
    shadow = shift(alpha, SHADOW_PX, order=0)
    values, dtype = ground.values.astype(np.float64), ground.values.dtype
    bright = np.percentile(values[:, ground.valid], 99.5, axis=1)[:, None, None] * 1.1
    clouded = values * (1 - 0.5 * shadow) * (1 - alpha) + bright * alpha
    if dtype.kind in "iu":
        limits = np.iinfo(str(dtype))
        clouded = np.clip(np.rint(clouded), limits.min, limits.max)
    touched = (alpha > 0) | (shadow > 0)
    return np.where(touched & ground.valid, clouded.astype(dtype), ground.values), touched


def count_on(outlines: Iterable[BaseGeometry], area: NDArray[np.bool_], least_share: float) -> int:
    """Outlines of which more than this share lies in an area (row, col)."""
    places = [pixels_of(outline, (area.shape[0], area.shape[1])) for outline in outlines]
    return sum(bool(len(own) and area.ravel()[own].mean() > least_share) for own in places)


def rules(config: Config) -> tuple[Config, Config]:
    """The settings with the false discovery rate, and with the number of places."""
    anywhere, rate, number = on_any_ground(config), Threshold(fdr=FDR), Threshold(top=TOP)
    return anywhere.model_copy(update={"threshold": rate}), anywhere.model_copy(update={"threshold": number})


def _synthetic(name: str, seed: int, side: int, config: Config) -> list[Record]:
    values = SYNTHETIC[name](np.random.default_rng([7, seed]), side).astype(np.uint16)
    ground = Ground(name=name, values=values, valid=np.ones(values.shape[1:], bool), crs_wkt=None, transform=Affine.identity())
    (called,) = called_places(ground, values, ground.valid, rules(config)[0])
    return [{"trap": name, "scene": name, "seed": seed, "places": len(called)}]


def _own_fill(path: Path, config: Config) -> list[Record]:
    """Places among the top ones that touch the zeros of a scene that says nothing of them."""
    ground = read_ground(path, config)
    (called,) = called_places(ground, ground.values, ground.valid, rules(config)[1])
    near = binary_dilation((ground.values == 0).any(axis=0))
    return [{"trap": "touching own fill", "scene": ground.name, "seed": 0, "places": count_on(called, near, 0)}]


def _on_real_ground(path: Path, seed: int, config: Config) -> list[Record]:
    """Fill cut into a real scene, and clouds laid over it."""
    ground, rng = read_ground(path, config), np.random.default_rng([11, seed])
    by_rate, by_number = rules(config)
    counts: dict[str, int] = {}
    wedge = fill_wedge(ground.valid.shape, rng)
    (called,) = called_places(ground, np.where(wedge, ground.values.dtype.type(0), ground.values), ground.valid | wedge, by_number)
    counts["touching cut fill"] = count_on(called, binary_dilation(wedge), 0)
    values, touched = with_clouds(ground, cloud_alpha(ground.valid.shape, rng))
    near = binary_dilation(touched, iterations=NEAR_PX)
    for how, valid in (("", ground.valid), (" masked", ground.valid & ~touched)):
        at_rate, at_number = called_places(ground, values, valid, by_rate, by_number)
        counts[f"on{how} cloud at FDR"] = count_on(at_rate, near, 0.5)
        counts[f"on{how} cloud in top"] = count_on(at_number, near, 0.5)
    return [{"trap": trap, "scene": ground.name, "seed": seed, "places": n} for trap, n in counts.items()]


def _summary(records: Sequence[Record], settings: Mapping[str, Any]) -> Results:
    traps = dict.fromkeys(str(record["trap"]) for record in records)
    rows = []
    for trap in traps:
        counts = [float(record["places"]) for record in records if record["trap"] == trap]
        rows.append(Row(method=trap, figures={"places, mean": float(np.mean(counts)), "places, most": max(counts)}, n_runs=len(counts)))
    return Results(suite="traps", settings=settings, rows=tuple(rows), details=tuple(records))
