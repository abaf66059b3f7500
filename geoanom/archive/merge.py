"""All anomalies of an archive in one GeoPackage, scene by scene, so that memory holds a few thousand at a time."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from geoanom.archive.ledger import SCORED
from geoanom.errors import InputError, OutputError, one_line
from geoanom.layer.features import Feature, Features
from geoanom.layer.reading import read_features
from geoanom.layer.vector import write_gpkg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from geoanom.archive.ledger import Row

    Stopped = Callable[[], bool]

SHARED = ("version", "model_id", "config_digest", "threshold", "tile_size", "stride")
"""What is the same for all scenes of an archive."""


class _StoppedError(Exception):
    """The run is to end before all is merged."""


def merge_layers(rows: Mapping[str, Row], folder: Path, stopped: Stopped = lambda: False) -> None:
    """Write ``anomalies.gpkg`` from the layers of all scored scenes, in the order of their names; nothing when it is stopped.

    Scenes without a place on the Earth go into a layer of their own, as their coordinates are pixels.

    Raises:
        OutputError: it could not be written, does not read back, or a layer is gone.
    """
    scored = [row for row in rows.values() if row.state in SCORED]
    layers = [(row, folder / name) for row in scored for name in row.outputs if name.startswith("layers/")]
    try:
        in_pixels = {path for _, path in layers if read_features(path).in_pixels}
        placed = [(row, path) for row, path in layers if path not in in_pixels]
        unplaced = [(row, path) for row, path in layers if path in in_pixels]
        more = {"anomalies_in_pixels": _joined(unplaced, stopped, in_pixels=True)} if unplaced else {}
        with suppress(_StoppedError):
            write_gpkg(_joined(placed, stopped, in_pixels=False), folder / "anomalies.gpkg", more)
    except InputError as error:
        raise OutputError(error.subject, "is gone, or not what was written", "run again to have it made anew") from error


def _joined(layers: list[tuple[Row, Path]], stopped: Stopped, *, in_pixels: bool) -> Features:
    told = [(row, read_features(path)) for row, path in layers]
    scenes = [Feature(f.geometry, {"path": one_line(row.name), **f.properties}) for row, layer in told for f in layer.scenes]
    shared = {name: value for name, value in told[0][1].provenance.items() if name in SHARED} if told else {}
    return Features(provenance=shared, in_pixels=in_pixels, stream=partial(_stream, layers, stopped), scenes=tuple(scenes))


def _stream(layers: list[tuple[Row, Path]], stopped: Stopped) -> Iterator[Feature]:
    for row, path in layers:
        if stopped():
            raise _StoppedError
        for feature in read_features(path).stream():
            yield Feature(feature.geometry, {"path": one_line(row.name), **feature.properties})
