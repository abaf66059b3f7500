"""Layers as a table of points, for spreadsheets."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from geoanom.errors import OutputError
from geoanom.layer.arrow import schema_of
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.features import Features

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the start of a formula."""


def write(features: Features, path: Path) -> None:
    """Write one row per anomaly; the point inside is in the columns ``lon`` and ``lat``.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    names = [name for name in schema_of(features).names if name != "geometry"]
    n_rows = 0
    with atomic_file(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for feature in features.stream():
                writer.writerow([_cell(feature.properties.get(name)) for name in names])
                n_rows += 1
        with temporary.open(encoding="utf-8", newline="") as file:
            n_read = sum(1 for _ in csv.reader(file)) - 1
        if n_read != n_rows:
            raise OutputError(path, f"reads back {n_read} of {n_rows} rows", "check the disk")


def _cell(value: object) -> object:
    """A cell that no spreadsheet runs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
