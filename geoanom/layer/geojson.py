"""GeoJSON as RFC 7946 wants it: WGS 84, right-hand rule, no crs member, verified before it gets its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import mapping

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.features import Feature, Features


def write(features: Features, path: Path) -> None:
    """Write a layer, one feature a line; what is known only at the end, the bbox, comes last.

    Raises:
        OutputError: it could not be written, or does not read back.
    """
    with atomic_file(path) as temporary:
        n_pieces = 0
        with temporary.open("w", encoding="utf-8") as file:
            for piece in pieces(features):
                file.write(piece)
                n_pieces += 1
        _verify(temporary, path, n_pieces - 2)  # head and tail are pieces, too


def write_lines(features: Features, path: Path) -> None:
    """Write a layer as newline-delimited GeoJSON: a feature a line and nothing around them.

    Raises:
        OutputError: it could not be written.
    """
    with atomic_file(path) as temporary:
        n_features = 0
        with temporary.open("w", encoding="utf-8") as file:
            for feature in features.stream():
                file.write(f"{_dump(feature_tree(feature))}\n")
                n_features += 1
        _verify(temporary, path, n_features)


def pieces(features: Features) -> Iterator[str]:
    """The text of a layer, in pieces."""
    extent, lead = Extent(), "\n"
    yield _dump({"type": "FeatureCollection", "geoanom": dict(features.provenance)})[:-1] + ',"features":['
    for group in features.groups():
        for feature in group:
            yield lead + _dump(feature_tree(feature))
            lead = ",\n"
        extent.add(feature.geometry for feature in group)
    bbox = extent.bbox(in_pixels=features.in_pixels)
    yield "\n]" + (f',"bbox":{_dump(bbox)}' if bbox else "") + "}\n"


def dumps(features: Features) -> str:
    """The layer as text."""
    return "".join(pieces(features))


def feature_tree(feature: Feature) -> dict[str, Any]:
    """A feature as GeoJSON's tree."""
    shape = None if feature.geometry is None else _rounded(mapping(feature.geometry))
    return {"type": "Feature", "id": feature.properties.get("anomaly_id"), "geometry": shape, "properties": dict(feature.properties)}


class Extent:
    """The smallest box around all features, which may cross the antimeridian."""

    def __init__(self) -> None:
        """Of nothing."""
        self._bounds: list[np.ndarray[Any, np.dtype[np.float64]]] = []

    def add(self, geometries: Iterable[BaseGeometry | None]) -> None:
        """Widen it."""
        parts = shapely.get_parts(np.array([g for g in geometries if g is not None], object))
        if len(parts):
            self._bounds.append(shapely.bounds(parts))

    def bbox(self, *, in_pixels: bool) -> list[float]:
        """West, south, east, north (RFC 7946, section 5); west > east where the widest gap in longitude does not lie at 180 degrees."""
        if not self._bounds:
            return []
        bounds = np.concatenate(self._bounds)
        west, east = (float(bounds[:, 0].min()), float(bounds[:, 2].max())) if in_pixels else _arc(bounds[:, 0], bounds[:, 2])
        return [round(value, 7) + 0.0 for value in (west, float(bounds[:, 1].min()), east, float(bounds[:, 3].max()))]


def _arc(west: np.ndarray[Any, Any], east: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The smallest arc of longitudes that holds all intervals."""
    order = np.argsort(west, kind="stable")
    west, reached = west[order], np.maximum.accumulate(east[order])
    gaps = np.append(west[1:] - reached[:-1], west[0] + 360.0 - reached[-1])
    widest = int(gaps.argmax())
    if widest == len(west) - 1 or gaps[widest] <= 0:
        return float(west[0]), float(reached[-1])
    return float(west[widest + 1]), float(reached[widest])


def _rounded(value: Any) -> Any:
    """Coordinates as lists of plain numbers with at most seven decimals."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(float(value), 7) + 0.0 if isinstance(value, float | np.floating) else value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _verify(written: Path, path: Path, n_features: int) -> None:
    """Read back what was written, a feature at a time: a full disk may show only here."""
    n_read = 0
    try:
        with written.open(encoding="utf-8") as file:
            for line in file:
                text = line.rstrip().rstrip(",")
                if text.startswith('{"type":"Feature",'):
                    n_read += len(json.loads(text)) // 4
    except ValueError as error:
        raise OutputError(path, "does not read back after writing", "check the disk") from error
    if n_read != n_features:
        raise OutputError(path, f"reads back {n_read} of {n_features} features", "check the disk")
