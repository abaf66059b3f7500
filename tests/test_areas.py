"""Which cells a monitor watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seasons import CORNER, LATTICE
from shapely import LineString, MultiPolygon, Point, Polygon, box

from geoanom.errors import InputError
from geoanom.monitor.areas import NOWHERE, Areas, WatchedArea, read_areas
from geoanom.monitor.lattice import geometry_of
from geoanom.monitor.settings import Area, Rules
from geoanom.monitor.values import Cells

if TYPE_CHECKING:
    from pathlib import Path

RULES = Rules()
SIDE = 20
X, Y = 500_000.0, 5_000_000.0
"""Upper left corner of the cells, in UTM 33N; a cell is 80 m wide."""
CELLS = Cells(
    row=CORNER[0],
    col=CORNER[1],
    valid=np.ones((SIDE, SIDE), np.float32),
    score=np.zeros((SIDE, SIDE), np.float32),
    descriptor=np.zeros((SIDE, SIDE, 1), np.float32),
)


def write(path: Path, *shapes: object, crs: str | None = "EPSG:32633", onto: str | None = None) -> Path:
    frame = gpd.GeoDataFrame(geometry=list(shapes), crs=crs)
    frame = frame if onto is None else frame.to_crs(onto)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def area(path: Path, **own: object) -> Area:
    return Area.model_validate({"path": path, **own}, context={"folder": path.parent})


@pytest.mark.parametrize(
    ("name", "onto"), [("a.geojson", "EPSG:4326"), ("a.gpkg", "EPSG:3857"), ("a.shp", None), ("a.fgb", "EPSG:32634"), ("a.parquet", None)]
)
def test_the_polygons_of_any_file_in_any_crs_make_one_area(tmp_path: Path, name: str, onto: str | None) -> None:
    path = write(tmp_path / name, box(X, Y - 410, X + 810, Y), box(X + 1200, Y - 1600, X + 1600, Y - 1200), onto=onto)
    areas = read_areas([area(path, fdr=0.01)], LATTICE, RULES)
    expected = np.full((SIDE, SIDE), NOWHERE)
    expected[:5, :10], expected[15:, 15:] = 0, 0
    np.testing.assert_array_equal(areas.numbers(CELLS), expected)
    assert areas.name_of(0) == "a"
    assert areas.rules_of(0).fdr == 0.01
    assert areas.rules_of(0).confirm_after == RULES.confirm_after


@given(corners=st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=6), down=st.integers(-3, 3))
def test_a_cell_is_watched_where_its_centre_lies_in_the_area(corners: list[tuple[float, float]], down: int) -> None:
    shape = Polygon([(col + CORNER[1], row + CORNER[0]) for row, col in corners]).buffer(0)
    if shape.is_empty:
        return
    watched = WatchedArea(name="x", rules=RULES, shape=shape, lonlat=shape)
    cells = Cells(row=CORNER[0] + down, col=CORNER[1], valid=CELLS.valid, score=CELLS.score, descriptor=CELLS.descriptor)
    numbers = Areas(rules=RULES, watched=(watched,)).numbers(cells)
    for row, col in [(0, 0), (3, 17), (10, 10), (19, 5), (7, 2)]:
        assert (numbers[row, col] == 0) == shape.contains(Point(cells.col + col + 0.5, cells.row + row + 0.5))


def test_the_first_of_two_areas_has_a_cell_and_its_rules(tmp_path: Path) -> None:
    first = area(write(tmp_path / "first.gpkg", box(X, Y - 800, X + 800, Y)), min_valid_fraction=0.9)
    second = area(write(tmp_path / "second.gpkg", box(X, Y - 1600, X + 1600, Y)), name="all of it")
    areas = read_areas([first, second], LATTICE, RULES)
    numbers = areas.numbers(CELLS)
    assert (numbers[:10, :10] == 0).all()
    assert (numbers[10:] == 1).all()
    assert areas.name_of(1) == "all of it"
    np.testing.assert_allclose(areas.least_valid(numbers)[[0, 19], [0, 0]], [0.9, 0.5])


def test_without_areas_everything_is_watched() -> None:
    areas = read_areas([], LATTICE, RULES)
    assert (areas.numbers(CELLS) == 0).all()
    assert areas.name_of(0) == ""
    assert areas.rules_of(0) == RULES
    assert areas.unseen([]) == ()


def test_an_area_outside_every_scene_is_told_in_a_line(tmp_path: Path) -> None:
    seen = area(write(tmp_path / "seen.gpkg", box(X, Y - 800, X + 800, Y)))
    lost = area(write(tmp_path / "lost.gpkg", box(X + 90_000, Y - 800, X + 90_800, Y)))
    areas = read_areas([seen, lost], LATTICE, RULES)
    footprint = geometry_of([(CORNER[0] + row, CORNER[1] + col) for row in range(SIDE) for col in range(SIDE)], LATTICE)
    (line,) = areas.unseen([footprint])
    assert line.startswith("area lost: lies outside every scene")
    assert len(areas.unseen([])) == 2


def test_files_that_cannot_be_areas_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("no vector file")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    bad = {
        "absent.gpkg": "does not exist",
        "text.gpkg": "is not a vector file",
        "table.csv": "holds no geometries",
        write(tmp_path / "lines.gpkg", LineString([(X, Y), (X + 9, Y)])).name: "holds no polygons",
        write(tmp_path / "points.gpkg", Point(X, Y)).name: "holds no polygons",
        write(tmp_path / "nowhere.parquet", box(0, 0, 1, 1), crs=None).name: "tells no CRS",
    }
    for name, wrong in bad.items():
        with pytest.raises(InputError, match=wrong) as caught:
            read_areas([area(tmp_path / name)], LATTICE, RULES)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_rings_that_cross_and_collections_are_mended(tmp_path: Path) -> None:
    bow = Polygon([(X, Y), (X + 1600, Y - 1600), (X + 1600, Y), (X, Y - 1600)])
    both = MultiPolygon([box(X, Y - 80, X + 80, Y), box(X + 800, Y - 80, X + 880, Y)])
    areas = read_areas([area(write(tmp_path / "bow.gpkg", bow)), area(write(tmp_path / "both.gpkg", both))], LATTICE, RULES)
    numbers = areas.numbers(CELLS)
    assert numbers[10, 1] == 0
    assert numbers[1, 10] == NOWHERE
    assert numbers[0, 10] == 1
