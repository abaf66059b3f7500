"""Pairs of dates whose changes are known: Sentinel-2 cities (OSCD), aerial pictures (SZTAKI AirChange), and Landsat (Taizhou).

``oscd/CITY_1.tif``, ``CITY_2.tif`` and ``CITY_change.tif``; ``sztaki/NAME/im1.bmp``, ``im2.bmp`` and ``gt.bmp``; ``taizhou/2000TM``,
``2003TM``, ``change.bmp`` and ``unchanged.bmp``. Sets that are not there are left out.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import geoanom.evaluate.benchmark as bench
from geoanom.errors import InputError
from geoanom.evaluate.change_peers import change_scores
from geoanom.evaluate.metrics import auroc, average_precision
from geoanom.evaluate.results import Results, Row
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.evaluate.results import Progress

    Record = Mapping[str, Any]

FIGURES = {"AP": average_precision, "AUROC": auroc}


@dataclass(frozen=True, kw_only=True)
class Known:
    """Two dates of a place and what is known of its changes."""

    kind: str
    """The set that it belongs to."""
    name: str
    before: Path
    after: Path
    changed: Path
    """Above 0 where something changed."""
    unchanged: Path | None = None
    """Above 0 where nothing did; all that is not changed when None."""


def run(data: Path, config: Config, *, seeds: int, peers: bool, progress: Progress) -> Results:  # noqa: ARG001 - nothing is drawn
    """Pixel AP and AUROC of geoanom's map of change and of other methods' maps.

    Raises:
        InputError: no pairs, a pair without truth, or a file that cannot be used.
    """
    pairs = find_known(data)
    config = config.model_copy(update={"sources": config.sources.model_copy(update={"pixel_space": True})})
    details = [record for pair in progress(pairs, desc="pairs") for record in _measure(pair, config, peers=peers)]
    counted = {kind: sum(pair.kind == kind for pair in pairs) for kind in KINDS}
    tables = {f"{figure} on each pair": _table(details, figure, "pair") for figure in FIGURES}
    return Results(
        suite="change",
        settings={**{kind: n for kind, n in counted.items() if n}, "peers": peers, "change": config.change.model_dump(mode="json")},
        rows=_summary(details),
        details=tuple(details),
        tables={**{f"{figure} on each set": _table(details, figure, "set") for figure in FIGURES}, **tables},
    )


def find_known(data: Path) -> list[Known]:
    """All pairs of the sets that are in a folder of benchmark data.

    Raises:
        InputError: there are none, or one lacks a file.
    """
    folders = {kind: _folder(data, kind) for kind in KINDS}
    pairs = [pair for kind, folder in folders.items() if folder is not None for pair in KINDS[kind](folder)]
    for pair in pairs:
        for path in (pair.after, pair.changed, pair.unchanged):
            if path is not None and not path.is_file():
                raise InputError(pair.before, f"has no {path.name} beside it", "add it, or take the pair away")
    if not pairs:
        raise InputError(data, f"holds no pairs of dates in {', '.join(KINDS)}", "name the folder that these folders lie in")
    return pairs


def read_truth(pair: Known, config: Config) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What changed (row, col), and where that is known (row, col).

    Raises:
        InputError: it cannot be read, or its parts differ in size.
    """
    changed = bench.read_raster(pair.changed, config).max(axis=0) > 0
    if pair.unchanged is None:
        return changed, np.ones(changed.shape, bool)
    unchanged = bench.read_raster(pair.unchanged, config).max(axis=0) > 0
    if unchanged.shape != changed.shape:
        raise InputError(pair.unchanged, f"is of {unchanged.shape} pixels, not {changed.shape}", "give both the same size")
    return changed, changed ^ unchanged


def change_map(pair: Known, config: Config) -> NDArray[np.float64]:
    """The map of every pixel (row, col) that `geoanom change` outlines changes by; NaN where a date has no data.

    Raises:
        InputError: the pair cannot be compared.
    """
    from geoanom.change.pair import open_pair  # torch is large, and missing data are to be told at once
    from geoanom.change.scoring import fit_judge, score_pair
    from geoanom.embed.threads import one_thread

    with tempfile.TemporaryDirectory(prefix="geoanom-") as folder, one_thread():
        opened = open_pair(pair.before, pair.after, config)
        scores = score_pair(opened, fit_judge(opened, config), config, Path(folder))
        if scores.pixel_errors is None:  # pragma: no cover - there always is a map
            raise InputError(pair.before, "has no map of its pixels", "report this")
        whole = Window(row_off=0, col_off=0, height=opened.before.height, width=opened.before.width)
        return scores.pixel_errors.read(whole).astype(np.float64)


def _measure(pair: Known, config: Config, *, peers: bool) -> Iterator[Record]:
    """One record for each method."""
    changed, known = read_truth(pair, config)
    for method, scores in _maps(pair, config, peers=peers).items():
        if scores.shape != changed.shape:
            raise InputError(pair.changed, f"is of {changed.shape} pixels, its scenes of {scores.shape}", "give both the same size")
        ranked = np.where(np.isfinite(scores), scores, -1.0)[known]  # scores are never negative; what has none ranks last
        figures = {figure: measure(ranked, changed[known]) for figure, measure in FIGURES.items()}
        yield {"set": pair.kind, "pair": pair.name, "method": method, **figures}


def _maps(pair: Known, config: Config, *, peers: bool) -> dict[str, NDArray[np.float64]]:
    found = {"geoanom": change_map(pair, config)}
    if peers:
        before, after = (bench.read_raster(path, config) for path in (pair.before, pair.after))
        if before.shape != after.shape:
            raise InputError(pair.after, f"is of {after.shape} values, the earlier date of {before.shape}", "give both the same grid")
        found |= change_scores(before, after)
    return found


def _oscd(folder: Path) -> list[Known]:
    return [
        Known(
            kind="oscd",
            name=path.stem.removesuffix("_1"),
            before=path,
            after=path.with_stem(path.stem.removesuffix("_1") + "_2"),
            changed=path.with_stem(path.stem.removesuffix("_1") + "_change"),
        )
        for path in sorted(folder.glob("*_1.tif"))
    ]


def _sztaki(folder: Path) -> list[Known]:
    return [
        Known(kind="sztaki", name=path.parent.name, before=path, after=path.with_name("im2.bmp"), changed=path.with_name("gt.bmp"))
        for path in sorted(folder.glob("*/im1.bmp"))
    ]


def _taizhou(folder: Path) -> list[Known]:
    before, after, changed, unchanged = (folder / name for name in ("2000TM", "2003TM", "change.bmp", "unchanged.bmp"))
    return [Known(kind="taizhou", name="taizhou", before=before, after=after, changed=changed, unchanged=unchanged)] * before.is_file()


KINDS = {"oscd": _oscd, "sztaki": _sztaki, "taizhou": _taizhou}
"""How the pairs of each set lie in its folder."""


def _folder(data: Path, name: str) -> Path | None:
    try:
        return bench.part_of(data, name)
    except InputError:
        return None


def _summary(details: Sequence[Record]) -> tuple[Row, ...]:
    """Every set counts the same, however many pairs it has; beside it every pair counts the same."""
    rows = []
    for method in _distinct(details, "method"):
        own = [record for record in details if record["method"] == method]
        figures: dict[str, float | None] = {}
        for figure in FIGURES:
            by_set = [_mean(own, figure, "set", kind) for kind in _distinct(own, "set")]
            figures[f"{figure}, mean of sets"] = float(np.mean(by_set))
            figures[f"{figure}, mean of pairs"] = float(np.mean([record[figure] for record in own]))
        rows.append(Row(method=method, figures=figures, n_runs=len(own)))
    return tuple(rows)


def _table(details: Sequence[Record], figure: str, column: str) -> tuple[Row, ...]:
    """One line a method, one column a set or a pair."""
    rows = []
    for method in _distinct(details, "method"):
        own = [record for record in details if record["method"] == method]
        figures: dict[str, float | None] = {name: _mean(own, figure, column, name) for name in _distinct(own, column)}
        rows.append(Row(method=method, figures=figures, n_runs=len(own)))
    return tuple(rows)


def _mean(records: Sequence[Record], figure: str, key: str, value: str) -> float:
    return float(np.mean([record[figure] for record in records if record[key] == value]))


def _distinct(records: Sequence[Record], key: str) -> list[str]:
    return list(dict.fromkeys(record[key] for record in records))
