"""Outlines across 180 degrees, through a pole and around it: on the plane of longitudes and latitudes they stay what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import flat_scene, score_map
from pyproj import CRS, Geod

from geoanom.layer.geometry import all_to_rfc7946, ground_area_m2, to_rfc7946
from geoanom.layer.tiles import tiles_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoanom.raster.scene import Scene

CENTRES = {3413: (0.0, 0.0), 3031: (0.0, 0.0), 3995: (0.0, 0.0), 32660: (780_000.0, 5.8e6), 4326: (180.0, 10.0), 3832: (3_339_584.72, 1e6)}
"""By EPSG code, a point on a pole or on the 180th meridian."""


def scene_around(epsg: int, *, turn: float, shift: tuple[float, float], metres: float, side: int = 160) -> Scene:
    """A scene turned around a centre that lies near its middle, `shift` tiles off it."""
    pixel = metres if epsg != 4326 else metres / 1e5
    turned = Affine.translation(*CENTRES[epsg]) @ Affine.rotation(turn) @ Affine.scale(pixel, -pixel)
    transform = turned @ Affine.translation(-(side // 2) - 32 * shift[0], -(side // 2) - 32 * shift[1])
    return flat_scene(side, side, transform=transform, crs_wkt=CRS.from_epsg(epsg).to_wkt())


def area_m2(shape: BaseGeometry) -> float:
    """Of its parts, by pyproj."""
    return sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in shapely.get_parts(shape))


shifts = st.sampled_from([-0.5, 0.0, 0.25, 0.5]) | st.floats(-2, 2)


@given(
    epsg=st.sampled_from(list(CENTRES)),
    turn=st.sampled_from([0.0, 30.0, 45.0, 90.0, 180.0]) | st.floats(0, 360),
    shift=st.tuples(shifts, shifts),
    metres=st.sampled_from([20.0, 2000.0]),
)
def test_the_tiles_of_a_scene_cover_its_footprint_once(epsg: int, turn: float, shift: tuple[float, float], metres: float) -> None:
    scene = scene_around(epsg, turn=turn, shift=shift, metres=metres)
    tiles = np.array([tile.geometry for tile in tiles_of([score_map(scene)])()], object)
    whole = to_rfc7946(shapely.box(0, 0, 160, 160), scene.georef)
    assert whole is not None
    assert whole.is_valid
    assert shapely.is_valid(tiles).all()
    assert (np.abs(shapely.get_coordinates(tiles)) <= (180.0, 90.0)).all()
    together = shapely.union_all(tiles)
    assert shapely.area(tiles).sum() == pytest.approx(together.area, rel=1e-3), "no two overlap"
    assert together.symmetric_difference(whole).area <= 1e-3 * whole.area
    assert sum(map(area_m2, tiles)) == pytest.approx(ground_area_m2(shapely.box(0, 0, 160, 160), scene.georef), rel=1e-3)


@pytest.mark.parametrize("epsg", CENTRES)
def test_many_outlines_at_once_are_what_each_is_alone(epsg: int) -> None:
    scene = scene_around(epsg, turn=20.0, shift=(0.2, 0.6), metres=500.0)
    grown = [shapely.Point(x, y).buffer(15) for x in (10, 80, 140) for y in (20, 75, 90)]
    outlines = np.array([*grown, shapely.union_all(grown), grown[4] - grown[4].centroid.buffer(5)], object)
    for one, many in zip(outlines, all_to_rfc7946(outlines, scene.georef), strict=True):
        assert shapely.equals_identical(many, to_rfc7946(one, scene.georef))


@pytest.mark.parametrize(("epsg", "pole"), [(3413, 90.0), (3031, -90.0)])
@pytest.mark.parametrize("metres", [20.0, 2000.0])
def test_an_outline_around_a_pole_holds_it_and_a_hole_around_it_does_not(epsg: int, pole: float, metres: float) -> None:
    scene = scene_around(epsg, turn=10.0, shift=(0.3, 0.1), metres=metres)
    disk = shapely.Point(80, 80).buffer(60)
    ring = disk - shapely.Point(85, 80).buffer(30)
    for outline, holds in ((disk, True), (ring, False)):
        found = to_rfc7946(outline, scene.georef)
        assert found is not None
        assert found.is_valid
        assert found.bounds[0::2] == (-180.0, 180.0)
        assert (pole in found.bounds) == holds
        assert area_m2(found) == pytest.approx(outline.area * metres**2, rel=0.07), "the projection's scale is 0.97 at the pole"


@pytest.mark.parametrize("degrees", [30, 10, 1])
@pytest.mark.parametrize("west", [-180, 0, 37])
def test_a_mosaic_of_the_world_is_the_world(degrees: int, west: int) -> None:
    height, width = 180 // degrees, 360 // degrees
    scene = flat_scene(height, width, transform=Affine(degrees, 0, west, 0, -degrees, 90), crs_wkt=CRS.from_epsg(4326).to_wkt())
    assert shapely.area(to_rfc7946(shapely.box(0, 0, width, height), scene.georef)) == 360 * 180
    tiles = [shapely.area(tile.geometry) for tile in tiles_of([score_map(scene, size=4, stride=4)])()]
    assert sum(tiles) == pytest.approx(360 * 180)


def test_what_looks_past_the_earth_keeps_its_part_on_it() -> None:
    crs = CRS.from_proj4("+proj=geos +h=35785831 +lon_0=140.7 +sweep=y")
    scene = flat_scene(1100, 1100, transform=Affine(10_000, 0, -5.5e6, 0, -10_000, 5.5e6), crs_wkt=crs.to_wkt())
    tiles = [tile.geometry for tile in tiles_of([score_map(scene)])()]
    missing = [shape for shape in tiles if shape is None]
    assert 0 < len(missing) < len(tiles) / 2
    assert all(shape.is_valid for shape in tiles if shape is not None)
    assert tiles[0] is None
    assert tiles[len(tiles) // 2] is not None
