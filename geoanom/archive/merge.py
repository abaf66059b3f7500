"""All anomalies of an archive in one GeoPackage, scene by scene, so that memory holds a few thousand at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from geoanom.archive.ledger import SCORED
from geoanom.errors import one_line
from geoanom.layer.features import Feature, Features
from geoanom.layer.reading import read_features
from geoanom.layer.vector import write_gpkg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from geoanom.archive.ledger import Row


def merge_layers(rows: Mapping[str, Row], folder: Path) -> None:
    """Write ``anomalies.gpkg`` from the layers of all scored scenes, in the order of their names.

    Scenes without a place on the Earth go into ``anomalies_in_pixels.gpkg``, as their coordinates are pixels.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    layers = [(row, folder / name) for row in rows.values() if row.state in SCORED for name in row.outputs if name.startswith("layers/")]
    in_pixels = [(row, path) for row, path in layers if read_features(path).in_pixels]
    placed = [(row, path) for row, path in layers if (row, path) not in in_pixels]
    write_gpkg(_joined(placed, in_pixels=False), folder / "anomalies.gpkg")
    if in_pixels:
        write_gpkg(_joined(in_pixels, in_pixels=True), folder / "anomalies_in_pixels.gpkg")


def _joined(layers: list[tuple[Row, Path]], *, in_pixels: bool) -> Features:
    return Features(provenance={}, in_pixels=in_pixels, stream=partial(_stream, layers))


def _stream(layers: list[tuple[Row, Path]]) -> Iterator[Feature]:
    for row, path in layers:
        for feature in read_features(path).stream():
            yield Feature(feature.geometry, {"path": one_line(row.name), **feature.properties})
