"""Where pixels lie on the Earth, compared with other readers and with closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.transform import xy as rasterio_xy
from shapely.geometry import box

from geoanom.config import load_config
from geoanom.raster.georef import Georeference, area_m2, from_control_points, is_of_the_earth
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WGS84_WKT = CRS.from_epsg(4326).to_wkt()
UTM_WKT = CRS.from_epsg(32633).to_wkt()
PLACED = [
    "formats/rasterio/RGB.byte.tif",
    "formats/rasterio/cogeo.tif",
    "formats/rasterio/test_esri_wkt.tif",
    "formats/rasterio/goes.tif",
    "formats/rio-tiler/cog_dateline.tif",
    "formats/rio-tiler/inverted_lat.tif",
    "formats/rio-tiler/web.tif",
    "formats/sar/umbra_mount_yasur.tiff",
    "formats/sar/complex64_slc_rotated.tif",
    "scenes/enmap_potsdam.tif",
    "scenes/l8_224078_fill0.tif",
    "series/naip/m_4709963_se_14_1_20090818.tif",
    "broad/s2_rio.tif",
]


def some_corners(height: int, width: int, inset: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shares = inset, 1.0 - inset
    rows, cols = np.meshgrid(np.linspace(*shares, 5) * height, np.linspace(*shares, 7) * width, indexing="ij")
    return cols.ravel(), rows.ravel()


@pytest.mark.parametrize("name", PLACED)
def test_longitude_and_latitude_are_what_gdal_says(name: str, shared_data: Path) -> None:
    path = shared_data / name
    scene = open_scene(path, load_config(environ={}))
    cols, rows = some_corners(scene.height, scene.width, inset=0.3 if name.endswith("goes.tif") else 0.0)  # within the limb
    with rasterio.open(path) as src:
        x, y = rasterio_xy(src.transform, rows, cols, offset="ul")
        lon, lat = (np.array(v) for v in rasterio.warp.transform(src.crs, "EPSG:4326", x, y))
    got_lon, got_lat = scene.georef.lonlat(cols, rows)
    turns = (got_lon - lon) / 360
    assert np.allclose(turns, np.round(turns), rtol=0, atol=1e-7 / 360)
    assert np.allclose(got_lat, lat, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["formats/sar/s1_gcps_only.tif", "formats/sar/cint16_gcps.tif"])
def test_ground_control_points_give_their_quadratic_fit(name: str, shared_data: Path) -> None:
    scene = open_scene(shared_data / name, load_config(environ={}))
    with rasterio.open(shared_data / name) as src:
        points = np.array([(p.row, p.col, p.x, p.y) for p in src.gcps[0]])
    assert len(points) == 210
    assert f"georeferenced by {len(points)} ground control points" in scene.warnings

    def terms(row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
        r, c = row / scene.height, col / scene.width
        return np.column_stack([np.ones_like(r), r, c, r * r, r * c, c * c])

    fit, *_ = np.linalg.lstsq(terms(points[:, 0], points[:, 1]), points[:, 2:], rcond=None)
    cols, rows = some_corners(scene.height, scene.width)
    lon, lat = scene.georef.lonlat(cols, rows)
    assert np.allclose(np.column_stack([lon, lat]), terms(rows, cols) @ fit, atol=1e-7)
    assert scene.resolution_m == pytest.approx({"s1_gcps_only": 200, "cint16_gcps": 7.4}[name[12:-4]], rel=0.05)


finite = st.floats(-100, 100)


@given(st.lists(st.tuples(finite, finite), min_size=3, max_size=5, unique=True))
def test_few_control_points_give_an_affine_transform_or_none(places: list[tuple[float, float]]) -> None:
    a, b, c, d, e, f = 0.001, 0.0002, 15.0, 0.0003, -0.001, 50.0
    points = tuple((row, col, a * col + b * row + c, d * col + e * row + f) for row, col in places)
    georef = from_control_points(points, WGS84_WKT)
    rows, cols = np.array(places).T
    spread = np.linalg.svd(np.column_stack([rows - rows.mean(), cols - cols.mean()]), compute_uv=False)
    if spread[-1] > 1:
        assert georef is not None
        assert georef.gcps == ()
        x, y = georef.xy(cols, rows)
        assert np.allclose(x, a * cols + b * rows + c, atol=1e-6)
        assert np.allclose(y, d * cols + e * rows + f, atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 30])
def test_control_points_on_one_line_give_no_place(n: int) -> None:
    assert from_control_points(tuple((3.0 * i, 7.0 * i, 10.0 + i, 50.0 - i) for i in range(n)), WGS84_WKT) is None


def test_control_points_in_two_rows_give_an_affine_transform() -> None:
    points = tuple((100.0 * row, 10.0 * col, 10 + 0.01 * col, 50 - 0.1 * row) for row in range(2) for col in range(6))
    georef = from_control_points(points, WGS84_WKT)
    assert georef is not None
    assert georef.gcps == ()
    assert np.allclose(georef.lonlat(np.array([30.0]), np.array([50.0])), [[10.03], [49.95]])


@pytest.mark.parametrize("transform", [Affine(10, 0, 5e5, 0, -10, 5e6), Affine(10, 0, 5e5, 0, 10, 5e6), Affine(6, 8, 5e5, 8, -6, 5e6)])
def test_the_side_of_a_pixel_is_the_same_upright_south_up_and_rotated(transform: Affine) -> None:
    georef = Georeference(crs_wkt=UTM_WKT, transform=transform)
    assert georef.resolution_m(100, 100) == pytest.approx(10, rel=1e-3)


def test_pixel_space_has_no_size_in_metres() -> None:
    georef = Georeference(crs_wkt=None, transform=Affine.identity())
    assert georef.is_pixel_space
    assert georef.crs is None
    assert georef.resolution_m(10, 10) is None


def test_a_pixel_beyond_the_limb_of_the_earth_has_no_size_in_metres() -> None:
    geos = CRS.from_proj4("+proj=geos +h=35786023 +lon_0=-75 +sweep=x").to_wkt()
    georef = Georeference(crs_wkt=geos, transform=Affine(1000, 0, 6_000_000, 0, -1000, 6_000_000))
    assert georef.resolution_m(10, 10) is None


def test_the_area_of_a_degree_square_on_the_equator_is_known() -> None:
    assert area_m2(box(0, 0, 1, 1)) == pytest.approx(12_308_778_361, rel=1e-9)  # GeographicLib's Planimeter


def test_an_outline_across_the_180th_meridian_stays_in_one_piece() -> None:
    georef = Georeference(crs_wkt=CRS.from_epsg(32601).to_wkt(), transform=Affine(1000, 0, 166_000, 0, -1000, 100_000))
    minx, _, maxx, _ = georef.geometry_lonlat(box(0, 0, 100, 100), 1000).bounds
    assert maxx - minx < 1.5
    lon, _ = georef.lonlat(np.array([0.0, 100.0]), np.array([0.0, 0.0]))
    assert abs(lon[0]) > 179 or abs(lon[1]) > 179


def test_long_edges_bend_with_the_projection() -> None:
    polar = Georeference(crs_wkt=CRS.from_epsg(3995).to_wkt(), transform=Affine(1000, 0, 500_000, 0, -1000, 500_000))
    coarse = area_m2(polar.geometry_lonlat(box(0, 0, 1000, 1000), 1e9))
    fine = area_m2(polar.geometry_lonlat(box(0, 0, 1000, 1000), 10))
    finer = area_m2(polar.geometry_lonlat(box(0, 0, 1000, 1000), 5))
    assert abs(fine - finer) < abs(coarse - finer) / 100


BODIES = [
    ("EPSG:4326", True),
    ("EPSG:3857", True),
    ("EPSG:32633", True),
    ("+proj=longlat +R=1737400", False),
    ("+proj=eqc +R=3396190", False),
]


@pytest.mark.parametrize(("crs", "earthly"), BODIES)
def test_other_bodies_are_told_from_the_earth(crs: str, *, earthly: bool) -> None:
    assert is_of_the_earth(CRS.from_user_input(crs)) == earthly


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared data in {SHARED}, which is not here")
@pytest.mark.parametrize("name", ["cog_hirise_mars.tif", "cog_nonearth.tif"])
def test_scenes_of_other_bodies_are_not_of_the_earth(name: str) -> None:
    with rasterio.open(SHARED / "formats" / "rio-tiler" / name) as src:
        assert not is_of_the_earth(CRS.from_wkt(src.crs.to_wkt()))
