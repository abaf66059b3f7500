"""Built-up chips to be found among chips of nature: ``rsscn7/CLASS/*.jpg``.

The classes are those of RSSCN7 (Zou et al. 2015, doi:10.1109/LGRS.2015.2475299).

Each draw takes all chips of nature and so many built ones that these are 2 %, shuffles them into a mosaic, and lets every
method rank the chips without labels.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

import geoanom.evaluate.benchmark as bench
from geoanom.config import Tiles
from geoanom.errors import InputError
from geoanom.evaluate.metrics import auroc, average_precision
from geoanom.evaluate.peers import study_chips
from geoanom.evaluate.results import Results, Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.evaluate.results import Progress

NATURE = ("grass", "field", "forest", "river", "lake")
BUILT = ("industr", "parking", "resident")
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
BUILT_SHARE = 0.02
GEOTIFF_TAGS = {
    33550: (1.0, 1.0, 0.0),  # a pixel is 1 m wide
    33922: (0.0, 0.0, 0.0, 400_000.0, 4_000_000.0, 0.0),  # its first corner's place
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32650),  # projected, pixel is area, UTM 50N
}
"""GeoTIFF 1.1 keys that put a mosaic somewhere on the Earth."""


@dataclass(frozen=True, kw_only=True)
class Chips:
    """Labelled chips of one size."""

    pixels: tuple[NDArray[np.uint8], ...]
    """Each (band, row, col), RGB."""
    built: NDArray[np.bool_]
    """(n,) True = to be found."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Chips laid out in a full grid."""

    picked: NDArray[np.int64]
    """(n_rows * n_cols,) positions of the chips, row by row."""
    n_rows: int
    n_cols: int


def run(data: Path, config: Config, *, seeds: int, peers: bool, progress: Progress, chip_px: int = 400) -> Results:
    """Chip AP and AUROC over seeded draws; one tile of geoanom's is one chip.

    Raises:
        InputError: no chips, a class that is not known, or a chip that cannot be read.
    """
    chips = load_chips(bench.part_of(data, "rsscn7"), chip_px, progress)
    tiles = Tiles(size=chip_px, stride=chip_px, min_valid_fraction=config.tiles.min_valid_fraction)
    config = config.model_copy(update={"tiles": tiles})
    others = study_chips(chips.pixels, progress) if peers else None
    details: list[dict[str, Any]] = []
    for seed in progress(range(seeds), desc="draws"):
        draw = draw_chips(chips.built, seed)
        scores = {"geoanom": geoanom_scores(chips, draw, config)} | (others.scores(draw.picked, seed) if others else {})
        details += measure(scores, chips.built[draw.picked], seed)
    return Results(suite="rare-tiles", settings=_settings(chips, config, seeds), rows=summarize(details), details=tuple(details))


def load_chips(folder: Path, chip_px: int, progress: Progress) -> Chips:
    """All chips of the known classes, reduced to squares of `chip_px` by averaging.

    Raises:
        InputError: a class of chips that is not known, too few chips, or one that cannot be read or is smaller.
    """
    found = [(path, is_built(sub)) for sub in sorted(folder.iterdir()) for path in _images(sub)]
    built = np.array([label for _, label in found], bool)
    if not built.any() or built.all():
        raise InputError(folder, "does not hold chips of both nature and built-up land", f"give folders like {NATURE[0]} and {BUILT[0]}y")
    pixels = tuple(_read_chip(path, chip_px) for path, _ in progress(found, desc="reading chips"))
    return Chips(pixels=pixels, built=built)


def is_built(folder: Path) -> bool:
    """Whether a class folder's name says that its chips are built-up, as opposed to nature.

    Raises:
        InputError: it says neither.
    """
    name = folder.name.lower()
    if any(word in name for word in BUILT):
        return True
    if any(word in name for word in NATURE):
        return False
    raise InputError(folder, "is no class of nature or of built-up land", f"name it after one of {', '.join(NATURE + BUILT)}, or move it")


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _read_chip(path: Path, side: int) -> NDArray[np.uint8]:
    """A chip as (band, row, col) RGB, its central square averaged down to `side` pixels."""
    try:
        with Image.open(path) as image:
            if min(image.size) < side:
                raise InputError(path, f"is of {image.width} x {image.height} pixels, {side} are asked for", "choose a smaller --chip-px")
            square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BOX)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's own for damaged files
        raise InputError(path, f"cannot be read as an image ({error})", "copy it again") from error
    return np.ascontiguousarray(np.moveaxis(np.asarray(square), -1, 0))


def draw_chips(built: NDArray[np.bool_], seed: int) -> Draw:
    """All chips of nature and 2 % built ones, shuffled; a few of nature are left out, so that a nearly square grid is full.

    Args:
        built: (n,) which chips are built-up.
        seed: of the choice and the order.
    """
    rng = np.random.default_rng(seed)
    nature, towns = np.flatnonzero(~built), np.flatnonzero(built)
    n_built = min(len(towns), max(1, round(BUILT_SHARE / (1 - BUILT_SHARE) * len(nature))))
    n_cols = math.isqrt(len(nature) + n_built)
    n_rows = (len(nature) + n_built) // n_cols
    chosen = rng.choice(towns, n_built, replace=False)
    kept = rng.choice(nature, n_rows * n_cols - n_built, replace=False)
    return Draw(picked=rng.permutation(np.concatenate([chosen, kept])), n_rows=n_rows, n_cols=n_cols)


def mosaic(chips: Sequence[NDArray[np.uint8]], draw: Draw) -> NDArray[np.uint8]:
    """The drawn chips side by side, (band, row, col)."""
    lines = [np.concatenate([chips[i] for i in line], axis=2) for line in draw.picked.reshape(draw.n_rows, draw.n_cols)]
    return np.concatenate(lines, axis=1)


def write_mosaic(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (band, row, col) as a GeoTIFF."""
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(path, tiffinfo=GEOTIFF_TAGS)


def geoanom_scores(chips: Chips, draw: Draw, config: Config) -> NDArray[np.float64]:
    """What geoanom's heatmap says of each drawn chip, (n,)."""
    with tempfile.TemporaryDirectory(prefix="geoanom-") as folder:
        scene = Path(folder) / "mosaic.tif"
        write_mosaic(mosaic(chips.pixels, draw), scene)
        heatmap = bench.heatmap_of(scene, config)
    side = heatmap.shape[0] // draw.n_rows  # 1, or the chip's side where there is a value for every pixel
    return heatmap[::side, ::side].ravel()


def measure(scores: Mapping[str, NDArray[np.float64]], truth: NDArray[np.bool_], seed: int) -> list[dict[str, Any]]:
    """AP and AUROC of each method's scores (n,) against the truth (n,)."""
    return [
        {"seed": seed, "method": method, "ap": average_precision(values, truth), "auroc": auroc(values, truth)}
        for method, values in scores.items()
    ]


def summarize(details: Sequence[Mapping[str, Any]], champion: str = "geoanom") -> tuple[Row, ...]:
    """One line a method: AP and AUROC over the draws, and on how many of them the champion's AP is higher (`ahead_of`)."""
    best = {record["seed"]: record["ap"] for record in details if record["method"] == champion}
    rows = []
    for method in dict.fromkeys(record["method"] for record in details):
        runs = [record for record in details if record["method"] == method]
        precision = [record["ap"] for record in runs]
        ahead = None if method == champion or not best else sum(best[record["seed"]] > record["ap"] for record in runs)
        figures = {
            "mean AP": float(np.mean(precision)),
            "min AP": float(min(precision)),
            "mean AUROC": float(np.mean([r["auroc"] for r in runs])),
            "ahead_of": ahead,
        }
        rows.append(Row(method=method, figures=figures, n_runs=len(runs)))
    return tuple(rows)


def _settings(chips: Chips, config: Config, seeds: int) -> dict[str, Any]:
    draw = draw_chips(chips.built, 0)
    return {
        "draws": seeds,
        "chip_px": config.tiles.size,
        "chips a draw": len(draw.picked),
        "built a draw": int(chips.built[draw.picked].sum()),
        "config": config.digest(),
        "ahead_of": "draws on which geoanom's AP is higher than the method's",
    }
