"""From a scene to a look: what a monitor remembers of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import InputError
from geoanom.monitor.descriptor import described
from geoanom.monitor.lattice import footprint_of, on_lattice
from geoanom.monitor.values import Cells, Look
from geoanom.monitor.view import View, first_view
from geoanom.raster.blocks import Tally, stream_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.model.core import Model
    from geoanom.raster.scene import Scene

__all__ = ["View", "aligned", "first_view", "moment_of", "observe"]


def observe(scene: Scene, view: View, model: Model | None, config: Config, workdir: Path, *, path: str = "") -> Look:
    """Look at a scene.

    Args:
        scene: with a place on the Earth and an acquisition time.
        view: of the monitor.
        model: frozen; no cell is scored when None.
        config: how it is read.
        workdir: for what scoring keeps while it runs.
        path: where it was found, as the source calls it; its URI when empty.

    Raises:
        InputError: it tells no acquisition time.
        SceneError: it has no place, other bands, or cannot be read; or the model cannot score it.
    """
    moment = moment_of(scene)
    view.check_bands(scene)
    placed, (row, col) = on_lattice(scene, view.lattice, view.cell_px, config)
    tally = Tally()
    cells = described(placed, view, config, tally)
    score, warnings = _scores(placed, view, model, config, workdir)
    return Look(
        digest=scene.digest,
        scene=scene.name,
        path=path or scene.uri,
        moment=moment,
        footprint=footprint_of(scene),
        cells=Cells(row=row, col=col, valid=cells.valid, score=score, descriptor=cells.descriptor),
        warnings=(*dict.fromkeys((*scene.warnings, *tally.warnings(), *warnings)),),
    )


def moment_of(scene: Scene) -> str:
    """When a scene was acquired, in UTC to the second, ``2024-05-01T10:30:00Z``.

    Raises:
        InputError: it does not say.
    """
    if scene.datetime is None:
        raise InputError(scene.uri, "tells no acquisition time", "name it YYYYMMDD, or tag it ACQUISITION_DATETIME")
    try:
        told = dt.datetime.fromisoformat(scene.datetime)
        moment = told.replace(tzinfo=dt.UTC) if told.tzinfo is None else told.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        said = f"tells the acquisition time {scene.datetime!r}, which is none"
        raise InputError(scene.uri, said, "name it YYYYMMDD, or tag it ACQUISITION_DATETIME") from None
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def aligned(scene: Scene, reference: Scene, config: Config) -> Scene:
    """A scene on the grid of an earlier one, the shift between them removed where it is sure.

    The shift is estimated by phase correlation of edges, see `geoanom.change.register`.

    Raises:
        SceneError: they have no place, or no bands, in common.
    """
    from geoanom.change.pair import paired

    pair = paired(reference, scene, config)
    return replace(pair.after, digest=scene.digest, warnings=(*scene.warnings, *pair.warnings))


def _scores(placed: Scene, view: View, model: Model | None, config: Config, workdir: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Decades of p of each cell (row, col), NaN where not scored, and what was lost."""
    shape = placed.height // view.cell_px, placed.width // view.cell_px
    nowhere = np.full(shape, np.nan, np.float32)
    if model is None:
        return nowhere, ()
    from geoanom.model.harmony import matched
    from geoanom.model.scoring import score_scene

    scene = matched(placed, model, config)
    reading = model.config.model_copy(update={"sources": config.sources, "runtime": config.runtime})
    if next(stream_tiles(scene, scene.grid(model.config), reading), None) is None:
        return nowhere, ("no tile has enough usable pixels to be scored",)
    scores = score_scene(scene, model, config, workdir)
    return _on_cells(scores, placed, shape, view.cell_px), scores.warnings


def _on_cells(scores: ScoreMap, placed: Scene, shape: tuple[int, int], cell_px: int) -> NDArray[np.float32]:
    """The decades of the core that holds the centre of each cell."""
    onto = ~scores.scene.georef.transform @ placed.georef.transform
    rows, cols = ((np.arange(n) + 0.5) * cell_px for n in shape)
    tile_rows, tile_cols = np.floor((onto.f + onto.e * rows) / scores.grid.stride), np.floor((onto.c + onto.a * cols) / scores.grid.stride)
    field = scores.on_grid(-np.log10(scores.p_value))
    picked = field[np.ix_(_within(tile_rows, len(field)), _within(tile_cols, field.shape[1]))]
    known = np.outer(tile_rows < len(field), tile_cols < field.shape[1])
    return np.where(known, picked, np.nan).astype(np.float32)


def _within(tiles: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    return np.clip(tiles, 0, n - 1).astype(np.int64)
