"""GeoJSON as RFC 7946 wants it: WGS 84, right-hand rule, no crs member, verified before it gets its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.features import Feature, Features


MOST_BOUNDS = 16
"""Groups of features whose boxes are kept one by one."""
MOST_GAPS = 1024


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
            for group in features.groups():
                file.writelines(f"{text}\n" for text in texts_of(group))
                n_features += len(group)
        _verify(temporary, path, n_features)


def pieces(features: Features) -> Iterator[str]:
    """The text of a layer, in pieces."""
    extent, lead = Extent(), "\n"
    yield _dump({"type": "FeatureCollection", "geoanom": dict(features.provenance)})[:-1] + ',"features":['
    for group in features.groups():
        for text in texts_of(group):
            yield lead + text
            lead = ",\n"
        extent.add(feature.geometry for feature in group)
    bbox = extent.bbox(in_pixels=features.in_pixels)
    yield "\n]" + (f',"bbox":{_dump(bbox)}' if bbox else "") + "}\n"


def dumps(features: Features) -> str:
    """The layer as text."""
    return "".join(pieces(features))


def texts_of(group: Sequence[Feature]) -> Iterator[str]:
    """Features as GeoJSON texts, their coordinates with at most seven decimals."""
    shapes = np.array([feature.geometry for feature in group], object)
    for feature, shape in zip(group, shapely.to_geojson(shapely.transform(shapes, _rounded)), strict=True):
        name, properties = _dump(feature.properties.get("anomaly_id")), _dump(dict(feature.properties))
        yield f'{{"type":"Feature","id":{name},"geometry":{shape or "null"},"properties":{properties}}}'


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
        if len(self._bounds) > MOST_BOUNDS:
            self._bounds = [_merged(np.concatenate(self._bounds))]

    def bbox(self, *, in_pixels: bool) -> list[float]:
        """West, south, east, north (RFC 7946, section 5); west > east where the widest gap in longitude does not lie at 180 degrees."""
        if not self._bounds:
            return []
        bounds = np.concatenate(self._bounds)
        west, east = (float(bounds[:, 0].min()), float(bounds[:, 2].max())) if in_pixels else _arc(bounds[:, 0], bounds[:, 2])
        return [round(value, 7) + 0.0 for value in (west, float(bounds[:, 1].min()), east, float(bounds[:, 3].max()))]


def _merged(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fewer boxes with the same outer edges: longitudes joined but over the widest gaps, of which one will be the answer."""
    order = np.argsort(bounds[:, 0], kind="stable")
    west, reached = bounds[order, 0], np.maximum.accumulate(bounds[order, 2])
    gaps = west[1:] - reached[:-1]
    cuts = _widest(gaps)
    first, last = np.append(0, cuts + 1), np.append(cuts, len(west) - 1)
    south, north = np.full(len(first), bounds[:, 1].min()), np.full(len(first), bounds[:, 3].max())
    return np.column_stack([west[first], south, reached[last], north])


def _widest(gaps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the widest gaps, in their order."""
    widest = np.argsort(-gaps, kind="stable")[:MOST_GAPS]
    return np.sort(widest[gaps[widest] > 0])


def _arc(west: np.ndarray[Any, Any], east: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The smallest arc of longitudes that holds all intervals."""
    order = np.argsort(west, kind="stable")
    west, reached = west[order], np.maximum.accumulate(east[order])
    gaps = np.append(west[1:] - reached[:-1], west[0] + 360.0 - reached[-1])
    widest = int(gaps.argmax())
    if widest == len(west) - 1 or gaps[widest] <= 0:
        return float(west[0]), float(reached[-1])
    return float(west[widest + 1]), float(reached[widest])


def _rounded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seven decimals, and no negative zeros."""
    return points.round(7) + 0.0


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
