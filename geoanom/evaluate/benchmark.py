"""Suites by name, running one, and writing what it found.

A suite is a function ``run(data, config, *, seeds, peers, progress) -> Results`` in a module of its own and one line below.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.errors import ConfigError, InputError, SceneError
from geoanom.layer.atomic import atomic_file, check_output
from geoanom.raster.grid import Window
from geoanom.registry import SOURCES, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.evaluate.results import Progress, Results

SUITES = Table(
    "suites",
    {
        "rare-tiles": "geoanom.evaluate.suites.rare_tiles:run",
        "hyperspectral": "geoanom.evaluate.suites.hyperspectral:run",
        "planted": "geoanom.evaluate.suites.planted:run",
        "traps": "geoanom.evaluate.suites.traps:run",
        "change": "geoanom.evaluate.suites.change:run",
    },
)
"""Suites by name."""

SEEDS = {"rare-tiles": 8, "planted": 5}
"""Runs with different seeds, where they are not asked for; 1 in suites that draw nothing."""


def run_suite(
    name: str, data: Path, config: Config, *, seeds: int | None = None, peers: bool = True, progress: Progress, **extra: Any
) -> Results:
    """Run a suite.

    Args:
        name: one of `SUITES`.
        data: the folder that holds the suite's own folder, or that folder's parent.
        config: settings of geoanom's runs.
        seeds: runs with different seeds; the suite's own number when None.
        peers: measure other methods on the same data as well.
        progress: wraps what is iterated over, like tqdm.
        extra: parameters that only some suites have; None leaves one at its default.

    Raises:
        ConfigError: an unknown suite, or a parameter that it does not have.
        InputError: data that are missing or cannot be read.
    """
    run = SUITES.load(name)
    given = {param: value for param, value in extra.items() if value is not None}
    for param in given.keys() - inspect.signature(run).parameters.keys():
        raise ConfigError(f"--{param.replace('_', '-')}", f"the suite {name} has no such setting", "leave it out")
    if not data.is_dir():
        raise InputError(data, "is not a folder", "name the folder that holds the benchmark's data")
    results: Results = run(data, config, seeds=seeds or SEEDS.get(name, 1), peers=peers, progress=progress, **given)
    return results


def part_of(data: Path, name: str) -> Path:
    """The folder `name` in a folder of benchmark data, or in the folder ``truth`` below it.

    Raises:
        InputError: neither is there.
    """
    for folder in (data / name, data / "truth" / name):
        if folder.is_dir():
            return folder
    raise InputError(data, f"holds no folder {name}", f"name the folder that {name} lies in")


def heatmap_of(scene: Path, config: Config) -> NDArray[np.float64]:
    """The heatmap (row, col) that `geoanom detect` writes for a scene; NaN where no tile was scored.

    Raises:
        InputError: the scene cannot be scored.
    """
    from geoanom.pipeline import Outputs, detect  # torch is large, and missing data are to be told at once

    with tempfile.TemporaryDirectory(prefix="geoanom-") as folder:
        path = Path(folder) / "heatmap.tif"
        detect([scene], config, Outputs(heatmap=path))
        heatmap: NDArray[np.float64] = read_raster(path, config)[0]
    return heatmap


def read_raster(path: Path, config: Config) -> NDArray[np.float64]:
    """All bands (band, row, col) of a small raster; its place does not matter.

    Raises:
        SceneError: it cannot be read.
    """
    anywhere = config.model_copy(update={"bands": None, "sources": config.sources.model_copy(update={"pixel_space": True})})
    scene = SOURCES.load("geotiff")(str(path), anywhere)
    handle = scene.open_handle()
    try:
        pixels = handle.read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))
    finally:
        handle.close()
    if pixels.damaged_blocks:
        raise SceneError(path, "has blocks that cannot be decoded", "copy it again")
    return np.asarray(pixels.values, np.float64)


def check_outputs(*paths: Path | None, overwrite: bool) -> None:
    """Refuse files that cannot be written, before a long run.

    Raises:
        OutputError: one exists already, or its folder cannot be written to.
    """
    for path in paths:
        if path is not None:
            check_output(path, overwrite=overwrite)


def write_results(results: Results, markdown: Path | None, json_path: Path | None) -> None:
    """Write the tables as Markdown and everything as JSON, where a path is given.

    Raises:
        OutputError: a file could not be written; nothing stands under its name.
    """
    texts = ((markdown, results.markdown), (json_path, lambda: json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n"))
    for path, compose in texts:
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(compose(), "utf-8")
