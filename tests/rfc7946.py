"""What RFC 7946 demands of a GeoJSON text, written down once more and independently of the writer.

`violations` lists everything that is wrong, each line with the section of the RFC and the place in the document; `house_violations` what
geoanom promises beyond it. MUST and SHOULD are not told apart: what geoanom writes keeps both.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from shapely.geometry import shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
"""Arrays around the positions of each type of geometry."""
GEOMETRIES = (*DEPTHS, "GeometryCollection")
FORBIDDEN = {
    "FeatureCollection": ("coordinates", "geometries", "geometry", "properties"),
    "Feature": ("coordinates", "geometries", "features"),
    **dict.fromkeys(GEOMETRIES, ("geometry", "properties", "features")),
}
"""Members by whose names one type would look like another (7.1)."""
MOST_DECIMALS = 7


def assert_rfc7946(text: str | bytes) -> dict[str, Any]:
    """Check a FeatureCollection as geoanom writes it, and return it."""
    wrong = violations(text) or house_violations(text)
    assert not wrong, "\n".join(wrong[:20])
    tree: dict[str, Any] = json.loads(text)
    return tree


def violations(text: str | bytes) -> list[str]:
    """Everything in a document that RFC 7946 forbids; nothing where it conforms."""
    tree, wrong = _parsed(text)
    return wrong if tree is None else [*wrong, *_object(tree, "$", ("FeatureCollection", "Feature", *GEOMETRIES))]


def line_violations(data: bytes) -> list[str]:
    """The same of a file with a feature a line."""
    wrong = [] if not data or data.endswith(b"\n") else ["last line is not ended"]
    for n, line in enumerate(data.split(b"\n")[:-1], 1):
        tree, unread = _parsed(line)
        found = unread if tree is None else [*unread, *_object(tree, "$", ("Feature",))]
        wrong += [f"line {n}: {each}" for each in found]
    return wrong


def house_violations(text: str | bytes) -> list[str]:
    """What geoanom promises of its layers besides: valid polygons, scalar properties, identities, few decimals, a box."""
    tree = json.loads(text)
    features = tree["features"] if tree["type"] == "FeatureCollection" else [tree]
    wrong = [f"features[{n}]: {each}" for n, feature in enumerate(features) for each in _house(feature)]
    if len({feature.get("id") for feature in features}) < len(features):
        wrong.append("two features have one id")
    if tree["type"] == "FeatureCollection" and ("bbox" in tree) != any(feature["geometry"] for feature in features):
        wrong.append("a box stands where there is something in it, and only there")
    return wrong


def _house(feature: dict[str, Any]) -> Iterator[str]:
    if set(feature) != {"type", "id", "geometry", "properties"}:
        yield f"members {sorted(feature)}"
    if any(isinstance(value, dict | list) for value in feature["properties"].values()):
        yield "properties that are no scalars"
    geometry = feature["geometry"]
    if geometry is None:
        return
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        yield f"a {geometry['type']}"
    if not shape(geometry).is_valid:
        yield "a shape that is not valid"
    if re.search(rf"\.\d{{{MOST_DECIMALS + 1},}}|\d[eE]-", json.dumps(geometry)):
        yield f"more than {MOST_DECIMALS} decimals"


def _parsed(text: str | bytes) -> tuple[Any, list[str]]:
    """The tree, or None, and what is wrong with the text (RFC 8259, to which section 2 refers)."""
    wrong: list[str] = []
    try:
        words = text if isinstance(text, str) else text.decode("utf-8")
        words.encode("utf-8")
    except UnicodeError:
        return None, ["2: text is not UTF-8"]
    if words.startswith("\ufeff"):
        wrong.append("2: text begins with a byte order mark")
    try:
        tree = json.loads(
            words.removeprefix("\ufeff"),
            parse_constant=lambda name: wrong.append(f"2: {name} is no number of JSON"),
            object_pairs_hook=lambda pairs: _unique(pairs, wrong),
        )
    except ValueError:
        return None, [*wrong, "2: text is not JSON"]
    return tree, wrong if tree is not None else [*wrong, "3: $ is no object"]


def _unique(pairs: list[tuple[str, Any]], wrong: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    wrong += [f"2: two members are called {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]
    return dict(pairs)


def _object(value: Any, at: str, wanted: tuple[str, ...]) -> Iterator[str]:
    """One GeoJSON object of a wanted type, with all that is in it."""
    if not isinstance(value, dict):
        yield f"3: {at} is no object"
        return
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in wanted:
        yield f"3: {at} has type {kind!r}, not one of {', '.join(wanted)}"
        return
    if "crs" in value:
        yield f"4: {at} has a crs"
    yield from (f"7.1: {at} is a {kind} with {name!r}" for name in FORBIDDEN[kind] if name in value)
    inside = {"FeatureCollection": _collection, "Feature": _feature, "GeometryCollection": _geometries}.get(kind, _geometry)
    broken = list(inside(value, at))
    yield from broken
    if "bbox" in value and not broken:  # of what is broken no box can be told
        yield from _bbox(value, at)


def _collection(value: dict[str, Any], at: str) -> Iterator[str]:
    if not isinstance(value.get("features"), list):
        yield f"3.3: {at} has no array of features"
        return
    for n, feature in enumerate(value["features"]):
        yield from _object(feature, f"{at}.features[{n}]", ("Feature",))


def _feature(value: dict[str, Any], at: str) -> Iterator[str]:
    for name in ("geometry", "properties"):
        if name not in value:
            yield f"3.2: {at} has no {name}"
    if value.get("properties") is not None and not isinstance(value["properties"], dict):
        yield f"3.2: {at} has properties that are no object"
    if "id" in value and (isinstance(value["id"], bool) or not isinstance(value["id"], str | int | float)):
        yield f"3.2: {at} has an id that is neither text nor number"
    if value.get("geometry") is not None:
        yield from _object(value["geometry"], f"{at}.geometry", GEOMETRIES)


def _geometries(value: dict[str, Any], at: str) -> Iterator[str]:
    if not isinstance(value.get("geometries"), list):
        yield f"3.1.8: {at} has no array of geometries"
        return
    for n, geometry in enumerate(value["geometries"]):
        if isinstance(geometry, dict) and geometry.get("type") == "GeometryCollection":
            yield f"3.1.8: {at}.geometries[{n}] is a collection in a collection"
        yield from _object(geometry, f"{at}.geometries[{n}]", GEOMETRIES)


def _geometry(value: dict[str, Any], at: str) -> Iterator[str]:
    kind = value["type"]
    if "coordinates" not in value:
        yield f"3.1: {at} has no coordinates"
        return
    if value["coordinates"] == [] and kind != "Point":
        return  # an empty array may be read as null (3.1)
    whole: dict[str, Callable[[Any, str], Iterator[str]]] = {"LineString": _line, "Polygon": _polygon}
    part = whole.get(kind.removeprefix("Multi"), _position)
    depth = DEPTHS[kind] - DEPTHS[kind.removeprefix("Multi")]
    yield from _each(value["coordinates"], f"{at}.coordinates", depth, part)


def _each(value: Any, at: str, depth: int, check: Callable[[Any, str], Iterator[str]]) -> Iterator[str]:
    """What stands some arrays deep."""
    if depth == 0:
        yield from check(value, at)
    elif not isinstance(value, list):
        yield f"3.1: {at} is no array"
    else:
        for n, part in enumerate(value):
            yield from _each(part, f"{at}[{n}]", depth - 1, check)


def _position(value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"3.1.1: {at} is no position"
    elif not 2 <= len(value) <= 3:
        yield f"3.1.1: {at} has {len(value)} elements"
    elif not all(map(_is_number, value)):
        yield f"3.1.1: {at} has elements that are no finite numbers"
    elif not (abs(value[0]) <= 180 and abs(value[1]) <= 90):
        yield f"4: {at} lies nowhere on the Earth"


def _line(value: Any, at: str) -> Iterator[str]:
    broken = list(_each(value, at, 1, _position))
    if not broken and len(value) < 2:
        broken = [f"3.1.4: {at} has fewer than two positions"]
    yield from broken or _cut(value, at)


def _polygon(value: Any, at: str) -> Iterator[str]:
    broken = list(_each(value, at, 2, _position))
    yield from broken
    if broken:
        return
    for n, ring in enumerate(value):
        yield from _ring(ring, f"{at}[{n}]", is_hole=n > 0)
    if any(not _within(hole, value[0]) for hole in value[1:]):
        yield f"3.1.6: {at} has a hole outside of it"


def _ring(ring: list[list[float]], at: str, *, is_hole: bool) -> Iterator[str]:
    if len(ring) < 4:
        yield f"3.1.6: {at} has fewer than four positions"
        return
    if ring[0] != ring[-1]:
        yield f"3.1.6: {at} is not closed"
    area = _signed_area(ring)
    if area == 0:
        yield f"3.1.6: {at} holds nothing"
    elif (area < 0) != is_hole:
        yield f"3.1.6: {at} does not follow the right-hand rule"
    yield from _cut(ring, at)


def _cut(points: list[list[float]], at: str) -> Iterator[str]:
    """A straight line beyond 180 degrees of longitude was meant to go the other way round, but along a pole."""
    for a, b in pairwise(points):
        if abs(a[0] - b[0]) > 180 and not (abs(a[1]) == 90 and abs(b[1]) == 90):
            yield f"3.1.9: {at} is not cut at the antimeridian"
            return


def _signed_area(ring: list[list[float]]) -> float:
    """Positive where it runs counter-clockwise (shoelace formula)."""
    x, y = ring[0][:2]
    return sum((a[0] - x) * (b[1] - y) - (b[0] - x) * (a[1] - y) for a, b in pairwise(ring)) / 2


def _within(hole: list[list[float]], ring: list[list[float]]) -> bool:
    """Does the box of a hole lie in the box of its exterior?"""
    return all(min(r[i] for r in ring) <= h[i] <= max(r[i] for r in ring) for h in hole for i in (0, 1))


def _bbox(value: dict[str, Any], at: str) -> Iterator[str]:
    box, runs = value["bbox"], list(_runs(value))
    points = [point for run in runs for point in run]
    n = max((len(point) for point in points), default=len(box) // 2 if isinstance(box, list) else 2)
    if not isinstance(box, list) or len(box) != 2 * n or not all(map(_is_number, box)):
        yield f"5: {at}.bbox is no array of {2 * n} finite numbers"
        return
    (west, south), (east, north) = box[:2], box[n : n + 2]
    if not (max(abs(west), abs(east)) <= 180 and max(abs(south), abs(north)) <= 90):
        yield f"5.3: {at}.bbox lies beyond the Earth"
    if south > north or any(box[i] > box[n + i] for i in range(2, n)):
        yield f"5: {at}.bbox has its corners in the wrong order"
    if any(not _holds(box, n, point) for point in points):
        yield f"5: {at}.bbox does not hold all of it"
    elif any(_goes_round(runs, pole) and (west, east) != (-180, 180) for pole in (-90, 90)):
        yield f"5.3: {at}.bbox does not go round its pole"
    elif west < east and _crosses(points):
        yield f"5.2: {at}.bbox goes round the Earth the long way"


def _goes_round(runs: list[list[list[float]]], pole: int) -> bool:
    """Do edges run all along a pole?"""
    edges = [(a, b) for run in runs for a, b in pairwise(run) if a[1] == b[1] == pole]
    return sum(abs(a[0] - b[0]) for a, b in edges) >= 360


def _crosses(points: list[list[float]]) -> bool:
    """Do parts meet at 180 degrees from both sides, with half of the map empty and no pole among them?"""
    longitudes = {point[0] for point in points}
    return {-180, 180} <= longitudes and all(abs(lon) > 90 for lon in longitudes) and all(abs(point[1]) < 90 for point in points)


def _holds(box: list[float], n: int, point: list[float]) -> bool:
    lon = point[0]
    across = box[0] <= lon <= box[n] if box[0] <= box[n] else lon >= box[0] or lon <= box[n]
    return across and all(box[i] <= value <= box[n + i] for i, value in enumerate(point) if i)


def _runs(value: Any) -> Iterator[list[list[float]]]:
    """The lines, rings and points of an object that was found sound."""
    if isinstance(value, dict):
        for name in ("features", "geometries", "geometry", "coordinates"):
            yield from _runs(value.get(name))
    elif isinstance(value, list) and value:
        if _is_number(value[0]):
            yield [value]
        elif isinstance(value[0], list) and value[0] and _is_number(value[0][0]):
            yield value
        else:
            for part in value:
                yield from _runs(part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
