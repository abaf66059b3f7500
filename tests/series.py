"""Small series of scenes of one place with known events, and monitors that watch them."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import yaml
from rasters import write_raster
from scipy.ndimage import gaussian_filter

from geoanom.monitor.run import Terms, run
from geoanom.monitor.settings import load_monitor
from geoanom.monitor.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from geoanom.monitor.report import PassReport

ROOT = Path(__file__).resolve().parents[1]
SIDE = 96
FIRST = dt.date(2024, 5, 1)
STEP_DAYS = 5
QUICK = {
    "tiles": {"size": 32},
    "embed": {"backbone": "spectrum", "dim": 4, "head": {"hidden": [8]}, "training": {"epochs": 1}},
    "normalize": {"sample_pixels": 5000},
    "fit": {"max_tiles": 507, "min_tiles": 8, "fold_tiles": 2},
    "runtime": {"threads": 1, "reader_threads": 1},
}
BEGUN = 6
"""Looks that a monitor has seen before anything happens."""
NOW = 1_767_225_600.0
"""Noon of passes in tests, well after the last scene: seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that is there from one look to another."""

    row: int
    col: int
    begin: int
    """Number of the first look that shows it."""
    end: int
    """Number of the first look that does not."""
    side: int = 12


def ground(seed: int = 0) -> NDArray[np.float64]:
    """(band, row, col) fields and slopes that do not change."""
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.normal(0, 1, (2, 12, 12)), np.ones((1, SIDE // 12, SIDE // 12)))
    slopes = np.stack([gaussian_filter(band, 6) for band in rng.normal(0, 1, (2, SIDE, SIDE))])
    values: NDArray[np.float64] = 1000 + 80 * fields + 400 * slopes
    return values


def day_of(number: int) -> dt.date:
    """Acquisition of a look."""
    return FIRST + dt.timedelta(days=STEP_DAYS * number)


def pixels(number: int, things: Iterable[Thing] = (), *, haze: float = 0.0, version: int = 0) -> NDArray[np.uint16]:
    """(band, row, col) of a look: the ground, another light, noise, and what is there."""
    rng = np.random.default_rng((number, version))
    values = ground() * (1 + 0.02 * np.sin(number)) + rng.normal(0, 12, (2, SIDE, SIDE))
    for thing in things:
        if thing.begin <= number < thing.end:
            values[:, thing.row : thing.row + thing.side, thing.col : thing.col + thing.side] += np.array([900.0, -500.0])[:, None, None]
    found: NDArray[np.uint16] = np.clip(values + haze * (3000 - values), 1, 65_535).astype(np.uint16)
    return found


def write_look(folder: Path, number: int, things: Iterable[Thing] = (), *, cloud: tuple[slice, slice] | None = None, **kind: Any) -> Path:
    """Write a look under a name with its date; clouds are masked."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    if cloud is not None:
        mask[cloud] = 0
    name = kind.pop("name", f"look_{day_of(number):%Y%m%d}.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        temporary = write_raster(folder / f".{name}", pixels(number, things, **kind), block=32, mask=mask)
    return temporary.rename(folder / name)


def write_config(folder: Path, **monitor: Any) -> Path:
    """Write the settings of a monitor that fits on its first looks and tells a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inbox").mkdir(exist_ok=True)
    (folder / "quick.yaml").write_text(yaml.safe_dump({"schema_version": 1, **QUICK}))
    settings = {
        "name": "test",
        "scenes": "inbox/",
        "store": "state.sqlite",
        "rules": {"cell_px": 4, "min_history": 4},
        "thumbnails": False,
        "alerts": [{"type": "file", "path": "alerts.geojson"}],
        **({} if "model" in monitor else {"fit_on_first": 5, "config": "quick.yaml"}),
        **monitor,
    }
    path = folder / "monitor.yaml"
    path.write_text(yaml.safe_dump({"schema_version": 1, "monitor": settings}))
    return path


@cache
def _begun() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="geoanom-series-")
    config = write_config(Path(folder.name) / "begun")
    for number in range(BEGUN):
        write_look(config.parent / "inbox", number)
    assert run_pass(config).looked == BEGUN
    return folder, config


def begun(folder: Path, **monitor: Any) -> Path:
    """A monitor that has fitted its model and seen the first looks; a copy, so that it may be changed."""
    _, config = _begun()
    shutil.copytree(config.parent, folder)
    return write_config(folder, **monitor)


def run_pass(config: Path, **terms: Any) -> PassReport:
    """One pass in this process."""
    return run(load_monitor(config), Terms(home=config.parent, **{"now": lambda: NOW, **terms}))


def command(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the program itself on a monitor."""
    words = [sys.executable, "-m", "geoanom", "monitor", *(str(argument) for argument in arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)


def store_of(config: Path) -> Store:
    """The store of a monitor."""
    return open_store(load_monitor(config).monitor.store, must_exist=True)


def end_state(config: Path) -> dict[str, Any]:
    """All that looks have come to, without names that only an order of arrival explains."""
    with store_of(config) as store:
        alerts = {alert.alert_id: alert for alert in store.alerts().values()}
        moves = [(move.alert_id, move.moment, move.before, move.after) for move in store.transitions()]
        looks = [(entry.moment, entry.digest, entry.state) for entry in store.entries() if entry.state != "superseded"]
    return {"alerts": alerts, "moves": moves, "looks": looks}
