"""What is known to be true, in whichever form it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geoanom.errors import InputError
from geoanom.evaluate.rasters import read_mask
from geoanom.evaluate.vectors import VECTOR_SUFFIXES, Shapes, read_shapes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.evaluate.grid import Grid

COORDINATES = (("row", "col"), ("lon", "lat"), ("x", "y"))
"""Pairs of columns that say where a label is, in the order of preference."""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Labels of pixels."""

    grid: Grid
    labels: NDArray[np.int8] = field(repr=False)
    """(row, col): 1 = anomaly, 0 = normal, -1 = not labelled."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Labels of single places."""

    kind: tuple[str, str]
    """One of `COORDINATES`: cells of the heatmap, longitude and latitude, or coordinates of the heatmap or layer."""
    first: NDArray[np.float64] = field(repr=False)
    """(n,) row, longitude or x."""
    second: NDArray[np.float64] = field(repr=False)
    """(n,) column, latitude or y."""
    truth: NDArray[np.bool_] = field(repr=False)
    """(n,) True = anomaly."""


Truth = Mask | Shapes | Table


def read_truth(path: Path) -> Truth:
    """A table from a CSV, polygons and points from a vector file, a mask from any other raster.

    Raises:
        InputError: it cannot be read or holds nothing that can be used.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_table(path)
    if suffix in VECTOR_SUFFIXES:
        return read_shapes(path)
    grid, labels = read_mask(path)
    return Mask(grid=grid, labels=labels)


def _read_table(path: Path) -> Table:
    """The labelled rows of a CSV; an empty or negative label is none."""
    frame = _frame_of(path)
    kind = next((pair for pair in COORDINATES if {*pair, "label"} <= set(frame.columns)), None)
    if kind is None:
        raise InputError(path, f"has the columns {', '.join(frame.columns)}", "name them row,col,label or lon,lat,label or x,y,label")
    first, second, labels = (_numbers(path, frame, name) for name in (*kind, "label"))
    if np.isnan(first).any() or np.isnan(second).any():
        raise InputError(path, f"has rows without {kind[0]} or {kind[1]}", "fill them in or remove the rows")
    if kind == ("row", "col") and ((first % 1 != 0) | (second % 1 != 0)).any():
        raise InputError(path, "has rows or columns that are not whole numbers", "count cells of the heatmap from 0")
    known = labels >= 0
    return Table(kind=kind, first=first[known], second=second[known], truth=labels[known] > 0)


def _frame_of(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, skipinitialspace=True)
    except FileNotFoundError as error:
        raise InputError(path, "does not exist", "check the path") from error
    except (ValueError, OSError) as error:
        raise InputError(path, f"is not a CSV that can be read ({error})", "write columns row,col,label or lon,lat,label") from error
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    return frame


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where it is empty."""
    values = pd.to_numeric(frame[name], errors="coerce")
    wrong = values.isna() & frame[name].notna()
    if wrong.any():
        raise InputError(
            path, f"has the {name} {frame[name][wrong].iloc[0]!r}, which is no number", "use 1 for an anomaly and 0 for normal"
        )
    return values.to_numpy(np.float64)
