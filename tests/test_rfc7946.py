"""The checker of GeoJSON finds every kind of mistake, and finds none in what geoanom writes; GDAL reads the same from it."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from places import AROUND, ON_EARTH, PEAKS, layer_at, scene_at, scene_by_points, tiny_scene
from rfc7946 import assert_rfc7946, house_violations, line_violations, violations
from shapely.geometry import mapping, shape

from geoanom.layer import geojson
from geoanom.layer.features import Feature, Features
from geoanom.layer.geojson import dumps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
HOLE = [[0.2, 0.2], [0.2, 0.4], [0.4, 0.4], [0.4, 0.2], [0.2, 0.2]]
EAST, WEST = ([[[x, 0], [x + 1, 0], [x + 1, 1], [x, 1], [x, 0]]] for x in (179, -180))
CAP = [[[-180, 80], [0, 80], [180, 80], [180, 90], [-180, 90], [-180, 80]]]
Tree = dict[str, Any]


def geometry(kind: str, coordinates: Any, **more: Any) -> Tree:
    return {"type": kind, "coordinates": coordinates, **more}


def polygon(*rings: Any, **more: Any) -> Tree:
    return geometry("Polygon", list(rings), **more)


def feature(shown: Any = None, **more: Any) -> Tree:
    return {"type": "Feature", "id": "a", "geometry": shown, "properties": {}, **more}


def collection(*features: Any, **more: Any) -> Tree:
    return {"type": "FeatureCollection", "features": list(features), **more}


def without(tree: Tree, name: str) -> Tree:
    return {key: value for key, value in tree.items() if key != name}


BAD: dict[str, tuple[str, Any]] = {
    "Latin-1 text": ("2", '{"type":"FeatureCollection","features":[],"é":1}'.encode("latin-1")),
    "byte order mark": ("2", b"\xef\xbb\xbf" + json.dumps(collection()).encode()),
    "half a surrogate": ("2", '{"type":"FeatureCollection","features":[],"a":"\ud800"}'),
    "cut off": ("2", '{"type":"FeatureCollection"'),
    "NaN": ("2", '{"type":"Point","coordinates":[NaN,0]}'),
    "Infinity in properties": ("2", '{"type":"Feature","geometry":null,"properties":{"a":Infinity}}'),
    "a name twice": ("2", '{"type":"Point","coordinates":[0,0],"coordinates":[1,1]}'),
    "nothing": ("3", "null"),
    "an array": ("3", []),
    "no type": ("3", {"features": []}),
    "type in lower case": ("3", {"type": "featurecollection", "features": []}),
    "unknown type": ("3", feature({"type": "Circle", "coordinates": [0, 0]})),
    "type of a wrong kind": ("3", {"type": ["Point"], "coordinates": [0, 0]}),
    "a collection as a feature": ("3", collection(collection())),
    "a geometry as a feature": ("3", collection(geometry("Point", [0, 0]))),
    "a feature as a geometry": ("3", feature(feature())),
    "no coordinates": ("3.1", feature({"type": "Point"})),
    "too few arrays": ("3.1", geometry("MultiPoint", 1)),
    "position of one number": ("3.1.1", geometry("Point", [0])),
    "position of four numbers": ("3.1.1", geometry("Point", [0, 0, 0, 0])),
    "position of none": ("3.1.1", geometry("Point", [])),
    "position of texts": ("3.1.1", geometry("Point", ["0", "0"])),
    "position of truth values": ("3.1.1", geometry("Point", [True, False])),
    "position without end": ("3.1.1", '{"type":"Point","coordinates":[1e999,0]}'),
    "position that is no array": ("3.1.1", geometry("MultiPoint", [{"x": 0}])),
    "too many arrays": ("3.1.1", geometry("Polygon", [[SQUARE]])),
    "line of one position": ("3.1.4", geometry("LineString", [[0, 0]])),
    "line of one in many": ("3.1.4", geometry("MultiLineString", [[[0, 0], [1, 1]], [[0, 0]]])),
    "ring of three": ("3.1.6", polygon([[0, 0], [1, 1], [0, 0]])),
    "open ring": ("3.1.6", polygon(SQUARE[:-1])),
    "ring that almost closes": ("3.1.6", polygon([*SQUARE[:-1], [0, 1e-9]])),
    "clockwise exterior": ("3.1.6", polygon(SQUARE[::-1])),
    "counter-clockwise hole": ("3.1.6", polygon(SQUARE, HOLE[::-1])),
    "hole outside": ("3.1.6", polygon(SQUARE, [[x + 2, y] for x, y in HOLE])),
    "ring without area": ("3.1.6", polygon([[0, 0], [1, 0], [2, 0], [0, 0]])),
    "clockwise in many": ("3.1.6", geometry("MultiPolygon", [[SQUARE], [SQUARE[::-1]]])),
    "no geometries": ("3.1.8", {"type": "GeometryCollection"}),
    "collection in a collection": (
        "3.1.8",
        {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]},
    ),
    "polygon across 180": ("3.1.9", polygon([[-179, 0], [179, 0], [179, 1], [-179, 1], [-179, 0]])),
    "line across 180": ("3.1.9", geometry("LineString", [[179, 0], [-179, 0]])),
    "no geometry": ("3.2", collection(without(feature(), "geometry"))),
    "no properties": ("3.2", collection(without(feature(), "properties"))),
    "properties in an array": ("3.2", feature(properties=[])),
    "id of null": ("3.2", feature(id=None)),
    "id of truth": ("3.2", feature(id=True)),
    "id of an object": ("3.2", feature(id={})),
    "no features": ("3.3", {"type": "FeatureCollection"}),
    "features in an object": ("3.3", {"type": "FeatureCollection", "features": {}}),
    "a crs": ("4", collection(crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}})),
    "a crs in a geometry": ("4", feature(geometry("Point", [0, 0], crs=None))),
    "metres": ("4", geometry("Point", [435_730.0, 4_179_460.0])),
    "beyond 180": ("4", geometry("Point", [180.5, 0])),
    "beyond the pole": ("4", geometry("Point", [0, -90.0001])),
    "box of three": ("5", collection(bbox=[0, 0, 1])),
    "box of texts": ("5", collection(bbox=["0", "0", "1", "1"])),
    "box of null": ("5", collection(bbox=None)),
    "box of two dimensions about three": ("5", geometry("Point", [0, 0, 5], bbox=[0, 0, 1, 1])),
    "box that is too small": ("5", collection(feature(polygon(SQUARE)), bbox=[0, 0, 0.5, 1])),
    "box with its latitudes swapped": ("5", collection(feature(polygon(SQUARE)), bbox=[0, 1, 1, 0])),
    "box as rows of a page": ("5", polygon(SQUARE, bbox=[0, 1, 0, 1])),
    "box at 180 that looks away": ("5", feature(geometry("MultiPolygon", [EAST, WEST]), bbox=[-179, 0, 179, 1])),
    "box the long way round": ("5.2", feature(geometry("MultiPolygon", [EAST, WEST]), bbox=[-180, 0, 180, 1])),
    "box beyond the pole": ("5.3", collection(bbox=[0, 0, 1, 91])),
    "box that stops short of the pole": ("5", geometry("Polygon", CAP, bbox=[-180, 80, 180, 89])),
    "box that does not go round": ("5.3", geometry("Polygon", CAP, bbox=[1, 80, 0, 90])),
    "collection with coordinates": ("7.1", collection(coordinates=[])),
    "collection with properties": ("7.1", collection(properties={})),
    "feature with geometries": ("7.1", feature(geometries=[])),
    "feature with features": ("7.1", feature(features=[])),
    "geometry with properties": ("7.1", geometry("Point", [0, 0], properties={})),
    "geometry with features": ("7.1", feature(geometry("Point", [0, 0], features=[]))),
}
GOOD: dict[str, Any] = {
    "empty": collection(),
    "foreign members": collection(feature(color="red"), geoanom={"crs": None, "features": 3}, title="a"),
    "unlocated": collection(feature()),
    "properties of null": feature(properties=None, id=3),
    "heights": geometry("Point", [0, 0, 120.5], bbox=[0, 0, 120.5, 0, 0, 120.5]),
    "holes": polygon(SQUARE, HOLE, bbox=[0, 0, 1, 1]),
    "lines": geometry("MultiLineString", [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]),
    "points": {"type": "GeometryCollection", "geometries": [geometry("Point", [180, 90]), geometry("MultiPoint", [[0, 0]])]},
    "nothing in it": geometry("MultiPolygon", []),
    "cut at 180": feature(geometry("MultiPolygon", [EAST, WEST]), bbox=[179, 0, -179, 1]),
    "around a pole": geometry("Polygon", CAP, bbox=[-180, 80, 180, 90]),
    "around the Earth": geometry("MultiPoint", [[-180, 0], [0, 0], [180, 0]], bbox=[-180, 0, 180, 0]),
}


def text_of(document: Any) -> str | bytes:
    return document if isinstance(document, str | bytes) else json.dumps(document)


@pytest.mark.parametrize("name", BAD)
def test_every_rule_has_a_document_that_breaks_it(name: str) -> None:
    section, document = BAD[name]
    found = violations(text_of(document))
    assert any(each.startswith(f"{section}: ") for each in found), found
    assert {each.split(":")[0] for each in found} <= {section, "3.1.1" if name == "NaN" else section}, "other rules are kept"


@pytest.mark.parametrize("name", GOOD)
def test_what_conforms_passes(name: str) -> None:
    assert violations(text_of(GOOD[name])) == []


def test_every_violation_is_listed_with_its_place() -> None:
    found = violations(json.dumps(collection(feature(polygon(SQUARE[::-1])), feature(polygon(SQUARE[:-1]), id=[]), crs=1)))
    assert [each.split(":")[0] for each in found] == ["4", "3.1.6", "3.2", "3.1.6"]
    assert "$.features[1].geometry.coordinates[0] is not closed" in found[-1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (collection(feature(polygon(SQUARE), properties={"a": []}), bbox=[0, 0, 1, 1]), "no scalars"),
        (collection(feature(geometry("Point", [0, 0])), bbox=[0, 0, 0, 0]), "a Point"),
        (collection(feature(polygon(SQUARE), color=1), bbox=[0, 0, 1, 1]), "color"),
        (collection(feature(polygon([[0, 0], [1, 1], [1, 0], [0, 2], [0, 0]])), bbox=[0, 0, 1, 2]), "not valid"),
        (collection(feature(polygon([[0, 0], [1.00000001, 0], [1, 1], [0, 0]])), bbox=[0, 0, 2, 1]), "decimals"),
        (collection(feature(polygon([[0, 0], [1, 1e-9], [1, 1], [0, 0]])), bbox=[0, 0, 2, 1]), "decimals"),
        (collection(feature(polygon(SQUARE))), "a box"),
        (collection(bbox=[0, 0, 1, 1]), "a box"),
        (collection(feature(), feature()), "one id"),
    ],
)
def test_what_the_house_promises_besides_is_held_against_it(document: Tree, words: str) -> None:
    assert any(words in each for each in house_violations(json.dumps(document)))
    with pytest.raises(AssertionError):
        assert_rfc7946(json.dumps(document))


def test_lines_are_features_that_end() -> None:
    line = json.dumps(feature()).encode()
    assert line_violations(line + b"\n" + line + b"\n") == line_violations(b"") == []
    for bad in (line, line + b"\n\n", json.dumps(collection()).encode() + b"\n", json.dumps(feature(), indent=1).encode() + b"\n"):
        assert line_violations(bad)


boxes = st.tuples(st.floats(-179, 178), st.floats(-89, 88), st.floats(0.01, 1), st.floats(0.01, 1))


@given(boxes)
def test_winding_is_what_shapely_calls_it(place: tuple[float, float, float, float]) -> None:
    x, y, width, height = place
    made = shapely.box(x, y, x + width, y + height, ccw=True)
    assert violations(json.dumps(mapping(made))) == []
    assert violations(json.dumps(mapping(made.reverse())))


# ---- what geoanom writes ----
def shifted(features: Features, name: str) -> Features:
    """The same layer with a scene's name in every text."""
    made = [Feature(f.geometry, {**f.properties, "scene": name}) for f in features.stream()]
    return Features(provenance={**features.provenance, "note": name}, in_pixels=False, stream=lambda: iter(made))


def layer_of_place(place: str, peaks: dict[tuple[int, int], float] | None = None) -> Features:
    return layer_at(scene_at(place), peaks)


LAYERS: dict[str, Callable[[], Features]] = {
    **{place: partial(layer_of_place, place) for place in ON_EARTH},
    **{f"around the {place}": partial(layer_of_place, place, AROUND) for place in ("pole", "south pole", "antimeridian")},
    "empty": lambda: layer_at(scene_at("mid-latitude"), {}),
    "ground control points": lambda: layer_at(scene_by_points()),
    "tiny": lambda: layer_at(tiny_scene()),
    "whole scene": lambda: layer_at(scene_at("pole"), {(row, col): 5.0 for row in range(7) for col in range(9)}),
    "odd names": lambda: shifted(layer_at(scene_at("rotated")), '\ufeff"é\u2028\\\n\x00 crs 雪'),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_conforms(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]()
    geojson.write(layer, tmp_path / "layer.geojson")
    geojson.write_lines(layer, tmp_path / "layer.geojsonl")
    tree = assert_rfc7946((tmp_path / "layer.geojson").read_bytes())
    lines = (tmp_path / "layer.geojsonl").read_bytes()
    assert line_violations(lines) == []
    assert [json.loads(line) for line in lines.splitlines()] == tree["features"]
    assert [each["id"] for each in tree["features"]] == [each.properties["anomaly_id"] for each in layer.stream()]
    assert (len(tree["features"]) == 0) == (name == "empty")


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "empty"])
def test_boxes_are_no_larger_than_what_they_hold(name: str) -> None:
    tree = json.loads(dumps(LAYERS[name]()))
    west, south, east, north = tree["bbox"]
    bounds = shapely.bounds(shapely.get_parts([shape(each["geometry"]) for each in tree["features"]]))
    assert south == bounds[:, 1].min()
    assert north == bounds[:, 3].max()
    assert west in bounds[:, 0]
    assert east in bounds[:, 2]


@pytest.mark.parametrize("name", [name for name in LAYERS if "around" in name])
def test_what_lies_around_a_place_holds_it(name: str) -> None:
    tree = json.loads(dumps(LAYERS[name]()))
    (found,) = tree["features"]
    if "pole" in name:
        pole = -90 if "south" in name else 90
        assert pole in tree["bbox"]
        assert (tree["bbox"][0], tree["bbox"][2]) == (-180, 180)
        assert shape(found["geometry"]).area > 360 * 0.5
    else:
        assert found["geometry"]["type"] == "MultiPolygon"
        assert tree["bbox"][0] > tree["bbox"][2]


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
@pytest.mark.parametrize("name", LAYERS)
def test_gdal_reads_the_same(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"layer{suffix}"
    (geojson.write if suffix == ".geojson" else geojson.write_lines)(LAYERS[name](), path)
    ours = json.loads(dumps(LAYERS[name]()))["features"]
    if not ours and suffix == ".geojsonl":
        return  # GDAL takes an empty file for no layer
    frame = pyogrio.read_dataframe(path)
    assert frame.crs.to_epsg() == 4326
    assert len(frame) == len(ours)
    if not ours:
        return
    assert frame["anomaly_id"].tolist() == [each["id"] for each in ours]
    assert frame.geometry.is_valid.all()
    for found, wanted in zip(frame.geometry, ours, strict=True):
        assert found.equals(shape(wanted["geometry"]))


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl"])
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("empty", "odd names")])
def test_ogrinfo_agrees(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"layer{suffix}"
    (geojson.write if suffix == ".geojson" else geojson.write_lines)(LAYERS[name](), path)
    ours = json.loads(dumps(LAYERS[name]()))["features"]
    told = ogrinfo(path)
    bounds = shapely.total_bounds([shape(each["geometry"]) for each in ours])
    assert f"Feature Count: {len(ours)}\n" in told
    assert 'ID["EPSG",4326]]' in told
    assert [line.split(" = ")[1] for line in told.splitlines() if line.startswith("  anomaly_id (String) = ")] == [e["id"] for e in ours]
    extent = next(line for line in told.splitlines() if line.startswith("Extent: "))
    corners = [float(part) for part in extent.removeprefix("Extent: ").replace(") - (", ",").strip("()").split(",")]
    assert corners == pytest.approx(bounds, abs=1e-6)
    if suffix == ".geojson":
        judged = ogrinfo(path, "-dialect", "SQLite", "-sql", VALIDITY)
        assert judged.count("word (String) = fine") == len(ours)


VALIDITY = "SELECT CASE WHEN ST_IsValid(geometry) THEN 'fine' ELSE 'INVALID' END AS word FROM layer"


def ogrinfo(path: Path, *more: str) -> str:
    """What GDAL's own program tells of a file."""
    if shutil.which("ogrinfo") is None:
        pytest.skip("needs ogrinfo (Debian: gdal-bin), which is not here")
    done = subprocess.run(["ogrinfo", "-ro", "-al", *more, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr
    return done.stdout


@given(st.sampled_from(ON_EARTH), st.sets(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=12))
def test_layers_of_any_shape_conform(place: str, cells: set[tuple[int, int]]) -> None:
    assert_rfc7946(dumps(layer_at(scene_at(place), dict.fromkeys(cells, 5.0))))


def test_the_sample_layer_has_a_box_around_its_peaks() -> None:
    assert len(json.loads(dumps(layer_at(scene_at("mid-latitude"))))["features"]) == len(PEAKS) - 1
