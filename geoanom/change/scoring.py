"""Scores of what changed between two dates, in the form that scenes are scored in."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from geoanom.change.blocks import n_blocks, sample_blocks, stream_blocks
from geoanom.change.cells import CellRows, cells_of
from geoanom.change.members import MEMBERS
from geoanom.change.statistic import fit_statistic
from geoanom.detect.calibrate import anomaly_score, fit_calibrator
from geoanom.detect.threshold import q_values
from geoanom.errors import SceneError
from geoanom.layer.explain import TOP_BANDS
from geoanom.layer.pixelerror import PixelErrors, WindowWriter
from geoanom.layer.quicklook import display_bands
from geoanom.layer.scoremap import ScoreMap
from geoanom.raster.blocks import Tally
from geoanom.raster.grid import TileGrid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.change.pair import Pair
    from geoanom.change.statistic import ChangeStatistic
    from geoanom.config import Config
    from geoanom.detect.calibrate import Calibrator

    Floats = NDArray[np.float64]

TURN = 0.5
"""Decades by which one date must stand out more than the other for a thing to have appeared or vanished."""


@dataclass(frozen=True, kw_only=True)
class ChangeJudge:
    """What is usual for the cells of a pair."""

    statistic: ChangeStatistic
    combined: Calibrator
    members: tuple[Calibrator, ...]
    usual: Floats
    """(band,) median difference of a cell."""
    spread: Floats
    """(band,) robust standard deviation of it."""


@dataclass(frozen=True, kw_only=True)
class ToldCells:
    """Cells with no more of them than is told, whose size does not depend on the number of bands."""

    rows: NDArray[np.int32]
    """(n,) cell rows in the scene."""
    cols: NDArray[np.int32]
    """(n,) cell columns in the scene."""
    combined: Floats
    """(n,) mean of the combined map."""
    members: NDArray[np.float32]
    """(n, member)."""
    odd: NDArray[np.float32]
    """(n, 2) how much each date by itself stands out."""
    valid_fraction: Floats
    """(n,)."""
    top_band: NDArray[np.int32]
    """(n, k) positions of the bands furthest from usual, the furthest first."""
    top_band_sigma: NDArray[np.float32]
    """(n, k) how far, in robust standard deviations, signed."""


def told_of(cells: CellRows, usual: Floats, spread: Floats) -> ToldCells:
    """What is told of cells, given the usual difference (band,) and its robust standard deviation (band,)."""
    sigma = (cells.difference - usual) / spread
    top = np.argsort(-np.abs(sigma), axis=1, kind="stable")[:, :TOP_BANDS]
    return ToldCells(
        rows=cells.rows.astype(np.int32),
        cols=cells.cols.astype(np.int32),
        combined=cells.combined.copy(),  # not a view, which would keep the bands
        members=cells.members.astype(np.float32),
        odd=cells.odd.astype(np.float32),
        valid_fraction=cells.valid_fraction.copy(),
        top_band=top.astype(np.int32),
        top_band_sigma=np.take_along_axis(sigma, top, axis=1).astype(np.float32),
    )


def fit_judge(pair: Pair, config: Config) -> ChangeJudge:
    """Learn from evenly chosen blocks of a pair what is usual.

    Raises:
        SceneError: the dates have no usable pixel in common.
    """
    blocks = sample_blocks(pair)
    statistic = fit_statistic(pair, blocks, display_bands(pair.before.bands)[:3], config)
    cells = [_usable(cells_of(statistic.maps(block), block.core, config.change.cell_px), config) for block in blocks]
    if not sum(len(part.rows) for part in cells):
        raise SceneError(pair.after.uri, "has no cell with enough usable pixels on both dates", "lower tiles.min_valid_fraction")
    difference = np.concatenate([part.difference for part in cells])
    usual = np.median(difference, axis=0)
    members = np.concatenate([part.members for part in cells])
    return ChangeJudge(
        statistic=statistic,
        combined=fit_calibrator(np.concatenate([part.combined for part in cells]), config.calibrate),
        members=tuple(fit_calibrator(column, config.calibrate) for column in members.T),
        usual=usual,
        spread=np.maximum(np.median(np.abs(difference - usual), axis=0) * 1.4826, 1e-9),
    )


def score_pair(pair: Pair, judge: ChangeJudge, config: Config, workdir: Path) -> ScoreMap:
    """The scores of all cells of a pair, in one pass over both dates.

    Args:
        pair: on one grid.
        judge: fitted on the pair.
        config: cells and limits.
        workdir: where the map of every pixel is kept, for as long as the score map is used.
    """
    height, width, size = pair.before.height, pair.before.width, config.change.cell_px
    grid = TileGrid(height=height, width=width, size=size, stride=size)
    path, n_masked = workdir / "change.tif", 0
    found: list[ToldCells] = []
    tallies = Tally(), Tally()
    blocks = tqdm(stream_blocks(pair, config, tallies), total=n_blocks(height, width), desc="comparing", unit="block", disable=None)
    with WindowWriter(path, height, width) as writer:
        for block in blocks:
            maps = judge.statistic.maps(block)
            writer.write(block.core, maps.combined)
            cells = cells_of(maps, block.core, size)
            found.append(told_of(_usable(cells, config), judge.usual, judge.spread))
            n_masked += len(cells.rows) - len(found[-1].rows)
    scores = _scores(pair, grid, _joined(found), judge, PixelErrors(path))
    return replace(scores, tiles_masked=n_masked, warnings=(*pair.warnings, *_lost(tallies)))


def _lost(tallies: tuple[Tally, Tally]) -> list[str]:
    """What the scenes lost while they were read."""
    return [f"the {date} scene: {said}" for date, tally in zip(("earlier", "later"), tallies, strict=True) for said in tally.warnings()]


def _usable(cells: CellRows, config: Config) -> CellRows:
    """The cells with enough usable pixels."""
    places = np.flatnonzero(cells.valid_fraction >= max(config.tiles.min_valid_fraction, 1e-9))
    return CellRows(**{each.name: getattr(cells, each.name)[places] for each in fields(cells)})


def _joined(parts: Sequence[ToldCells]) -> ToldCells:
    """All cells in row-major order."""
    rows, cols = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "cols"))
    order = np.lexsort((cols, rows))
    return ToldCells(**{each.name: np.concatenate([getattr(part, each.name) for part in parts])[order] for each in fields(ToldCells)})


def _scores(pair: Pair, grid: TileGrid, cells: ToldCells, judge: ChangeJudge, errors: PixelErrors) -> ScoreMap:
    p_value = judge.combined.p_value(cells.combined)
    members = [anomaly_score(each.p_value(column.astype(np.float64))) for each, column in zip(judge.members, cells.members.T, strict=True)]
    return ScoreMap(
        scene=pair.after,
        grid=grid,
        rows=cells.rows.astype(np.int64),
        cols=cells.cols.astype(np.int64),
        score=anomaly_score(p_value),
        statistic=cells.combined,
        p_value=p_value,
        q_value=q_values(p_value),
        member_score=dict(zip(MEMBERS, members, strict=True)),
        recon_error=cells.members[:, MEMBERS.index("prediction")].astype(np.float64),
        valid_fraction=cells.valid_fraction,
        top_band=cells.top_band.astype(np.int64),
        top_band_sigma=cells.top_band_sigma.astype(np.float64),
        top_band_contrast=np.zeros(cells.top_band.shape, bool),
        tiles_masked=0,
        pixel_errors=errors,
        direction=_directions(cells.odd),
    )


def _directions(odd: NDArray[np.floating]) -> NDArray[np.str_]:
    """What happened in cells (n,): a thing stands out on the later date alone, on the earlier one alone, or it differs otherwise."""
    gain = odd[:, 1] - odd[:, 0]
    return np.select([gain >= TURN, gain <= -TURN], ["appeared", "vanished"], "altered")
