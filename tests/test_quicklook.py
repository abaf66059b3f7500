"""Quicklooks: bars, arrows, outlines, lettering, stretches; measured with independent geodesics and on the picture itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import UTM18, flat_scene, score_map
from PIL import Image, ImageDraw
from pyproj import CRS, Geod, Transformer
from scipy.ndimage import find_objects, label
from scipy.stats import skew

from geoanom.config import load_config
from geoanom.layer import furniture, outlines, quicklook
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.furniture import Ground, bar_of, draw_arrow, draw_bar, fitted, ground_of, lines_of, width_of, write
from geoanom.layer.quicklook import Thumbnail, display_bands, drawn, write_quicklook
from geoanom.layer.sheet import MARGIN_PX
from geoanom.layer.stretch import Composite, Stretch, composite_of, look_of
from geoanom.raster.blocks import Panel, stream_panels
from geoanom.raster.georef import Georeference, from_control_points
from geoanom.raster.grid import Window
from geoanom.raster.scene import Band, Scene, open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.anomaly import Anomaly
    from geoanom.layer.furniture import Place

GEOD = Geod(ellps="WGS84")
GREY = (128, 128, 128)
SIZE = 300, 400
"""Height and width of the scenes below."""

PLACES = {
    "utm": (32618, Affine(10.0, 0.0, 435_730.0, 0.0, -10.0, 4_179_460.0)),
    "south-up": (32618, Affine(10.0, 0.0, 435_730.0, 0.0, 10.0, 4_179_460.0)),
    "rotated": (32631, Affine(2.5, 0.0, 600_000.0, 0.0, -2.5, 5_700_000.0) @ Affine.rotation(77)),
    "mirrored": (32631, Affine(-2.5, 0.0, 600_000.0, 0.0, -2.5, 5_700_000.0)),
    "degrees": (4326, Affine(0.001, 0.0, 24.0, 0.0, -0.001, 61.0)),
    "dateline": (4326, Affine(0.01, 0.0, 178.0, 0.0, -0.01, 10.0)),
    "mercator": (3857, Affine(100.0, 0.0, 2_000_000.0, 0.0, -100.0, 10_000_000.0)),
    "polar": (3995, Affine(2000.0, 0.0, -1_900_000.0, 0.0, -2000.0, 1_200_000.0)),
    "feet": (2263, Affine(3.0, 0.0, 980_000.0, 0.0, -3.0, 200_000.0)),
}
CONTROLLED = Affine(0.002, 0.0, 10.0, 0.0, -0.002, 45.0) @ Affine.rotation(20)
"""Where the ground control points below lie, in degrees."""


def georef_of(name: str) -> Georeference:
    epsg, transform = PLACES[name]
    return Georeference(crs_wkt=CRS.from_epsg(epsg).to_wkt(), transform=transform)


def control_points() -> Georeference:
    """Ground control points of a scene that is turned by 20 degrees."""
    spots = [(float(row), float(col)) for row in (0, 150, 300) for col in (0, 200, 400)]
    points = tuple((row, col, *(CONTROLLED @ (col, row))) for row, col in spots)
    georef = from_control_points(points, CRS.from_epsg(4326).to_wkt())
    assert georef is not None
    assert georef.gcps
    return georef


def ground_at(georef: Georeference) -> Ground:
    ground = ground_of(georef, *SIZE)
    assert ground is not None
    return ground


def thumbnail_of(scene: Scene, values: NDArray[np.generic] | None = None, valid: NDArray[np.bool_] | None = None) -> Thumbnail:
    thumbnail = Thumbnail(scene)
    window = Window(row_off=0, col_off=0, height=scene.height, width=scene.width)
    shape = (scene.height, scene.width)
    pixels = np.full((len(scene.bands), *shape), 100, np.uint8) if values is None else values
    thumbnail.add(Panel(window=window, values=pixels, valid=np.ones(shape, bool) if valid is None else valid))
    return thumbnail


def layer_of(scene: Scene, *shapes: tuple[float, BaseGeometry]) -> AnomalyLayer:
    """Anomalies with given scores and outlines, ranked in that order."""
    scores = (
        score_map(scene, size=2, stride=1, peaks={(0, 0): 5.0})
        if min(scene.height, scene.width) > 2
        else score_map(scene, size=1, stride=1)
    )
    scores = replace(scores, top_band=scores.top_band * 0)
    summary = SceneSummary(scene=scene, tiles_scored=9, tiles_masked=0, warnings=())
    pattern = anomalies_of(scores, scores.statistic == scores.statistic.max(), "0123456789ab")[0]
    found: list[Anomaly] = [replace(pattern, rank=n, score=score, outline=shape) for n, (score, shape) in enumerate(shapes, 1)]
    return AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "top", "value": len(shapes)},
        scenes=(summary,),
        anomalies=tuple(found),
    )


def map_of(sheet: Image.Image, colour: tuple[int, int, int] = GREY) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the picture on a sheet: the parts of one colour that are larger than any letter's."""
    parts, _ = label((np.asarray(sheet) == colour).all(axis=-1))
    boxes = [box for box, n in zip(find_objects(parts), np.bincount(parts.ravel())[1:], strict=True) if n > 400]
    rows, cols = zip(*boxes, strict=True)
    return min(c.start for c in cols), min(r.start for r in rows), max(c.stop for c in cols), max(r.stop for r in rows)


def margins_are_white(sheet: Image.Image) -> bool:
    pixels = np.asarray(sheet).copy()
    near = MARGIN_PX - 4  # the frame, and the letters' own overhang
    pixels[near:-near, near:-near] = 255
    return bool((pixels == 255).all())


@pytest.mark.parametrize("name", [*PLACES, "gcp"])
@pytest.mark.parametrize("px_per_col", [0.05, 1.0, 7.0])
def test_the_drawn_bar_is_as_long_on_the_ground_as_is_written(name: str, px_per_col: float) -> None:
    georef = control_points() if name == "gcp" else georef_of(name)
    bar = bar_of(ground_of(georef, *SIZE), px_per_col, 260)
    sheet = Image.new("RGB", (400, 80), "white")
    draw_bar(ImageDraw.Draw(sheet), bar, (20, 10), 20)
    cols = np.nonzero((np.asarray(sheet)[10:20] < 128).any(axis=(0, 2)))[0]
    lon, lat = lonlat(georef, np.array([SIZE[1] / 2 - 0.5, SIZE[1] / 2 + 0.5]), np.full(2, SIZE[0] / 2))
    metres_per_px = GEOD.inv(lon[0], lat[0], lon[1], lat[1])[2] / px_per_col
    written, unit = bar.label.replace(",", "").split()
    length = float(written) * {"m": 1, "km": 1000}[unit]
    assert (cols.max() - cols.min()) * metres_per_px == pytest.approx(length, rel=0.01)
    assert f"{length:e}"[0] in "125"
    assert 260 / 2.6 < bar.length_px <= 260


def lonlat(georef: Georeference, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By pyproj and the transform alone."""
    a, b, c, d, e, f = (CONTROLLED if georef.gcps else georef.transform)[:6]
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    lon, lat = Transformer.from_crs(georef.crs_wkt, 4326, always_xy=True).transform(x, y)
    return np.asarray(lon, float), np.asarray(lat, float)


def test_without_a_place_the_bar_counts_pixels_and_there_is_no_north() -> None:
    georef = Georeference(crs_wkt=None, transform=Affine.identity())
    assert ground_of(georef, *SIZE) is None
    assert bar_of(None, 7.0, 260).label == "20 px"
    assert bar_of(None, 100.0, 260).length_px == 200
    assert bar_of(None, 400.0, 260).label == "1 px", "no bar is shorter than a pixel"


@pytest.mark.parametrize("name", [*PLACES, "gcp"])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (3.0, 3.0), (1.0, 2.06)])
def test_the_arrow_points_where_a_geodesic_to_the_north_goes(name: str, scale: Place) -> None:
    georef = control_points() if name == "gcp" else georef_of(name)
    ground = ground_at(georef)
    direction = ground.towards_north(scale)
    assert direction is not None
    middle = np.array([SIZE[1] / 2]), np.array([SIZE[0] / 2])
    lon, lat = (float(at[0]) for at in lonlat(georef, *middle))
    north = GEOD.fwd(lon, lat, 0.0, ground.metres_per_row)
    x, y = Transformer.from_crs(4326, georef.crs_wkt, always_xy=True).transform(*north[:2])
    col, row = ~(CONTROLLED if georef.gcps else georef.transform) @ (x, y)
    right, down = (col - SIZE[1] / 2) * scale[0], (row - SIZE[0] / 2) * scale[1]
    turned = np.angle(complex(*direction) / complex(right, down), deg=True)
    assert abs(turned) < 0.5


def test_south_up_turns_the_arrow_down_and_a_pole_has_no_north() -> None:
    up, down = (ground_at(georef_of(name)).towards_north((1.0, 1.0)) for name in ("utm", "south-up"))
    assert up == pytest.approx((0.0, -1.0), abs=0.02)
    assert down == pytest.approx((0.0, 1.0), abs=0.02)
    pole = Georeference(crs_wkt=CRS.from_epsg(3995).to_wkt(), transform=Affine(1000.0, 0.0, -200_000.0, 0.0, -1000.0, 150_000.0))
    ground = ground_at(pole)
    assert ground.towards_north((1.0, 1.0)) is None
    assert not ground.is_even


@given(angle=st.floats(0, 2 * np.pi))
def test_the_drawn_n_stands_where_the_arrow_points(angle: float) -> None:
    sheet = Image.new("L", (240, 240), 255)
    canvas = sheet.convert("RGB")
    draw_arrow(canvas, (float(np.cos(angle)), float(np.sin(angle))), (120, 120), 25)
    rows, cols = np.nonzero(np.asarray(canvas.convert("L")) < 128)
    far = np.hypot(rows - 120, cols - 120) > 0.38 * furniture.ARROW_PX
    letter = complex(float(cols[far].mean()) - 120, float(rows[far].mean()) - 120)
    assert abs(np.angle(letter / np.exp(1j * angle), deg=True)) < 4
    along = furniture.ARROW_PX * 0.25 * np.exp(1j * angle)
    grey = np.asarray(canvas.convert("L"))
    tip, tail = (grey[round(120 + side * along.imag), round(120 + side * along.real)] for side in (1, -1))
    assert tip < 128, "the needle is dark at its tip"
    assert tail == 255, "and notched at its tail"


@pytest.mark.parametrize(("score", "level"), [(0.9, "high"), (0.4, "medium"), (0.1, "low")])
@pytest.mark.parametrize("ground", [0, 255])
def test_borders_and_holes_have_the_colour_of_the_level_on_a_dark_casing(score: float, level: str, ground: int, tmp_path: Path) -> None:
    scene = flat_scene(1000, 1200)
    ring = shapely.box(400, 300, 700, 600) - shapely.box(500, 400, 600, 500)
    values = np.full((2, 1000, 1200), ground, np.uint8)
    write_quicklook(layer_of(scene, (score, ring)), thumbnail_of(scene, values), tmp_path / "q.png")
    with Image.open(tmp_path / "q.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        sheet = picture.convert("RGB")
    left, top, right, bottom = map_of(sheet)
    assert (right - left, bottom - top) == (1200, 1000)
    pixels = np.asarray(sheet)[top:bottom, left:right]
    on_lines = np.array([ring.boundary.interpolate(t, normalized=True).coords[0] for t in np.linspace(0, 1, 400)])
    cols, rows = on_lines.round().astype(int).T
    assert (pixels[rows, cols] == outlines.COLOURS[level]).all()
    assert (pixels[450, 397] == outlines.CASING).all()
    assert (pixels[450, 503] != pixels[450, 520]).any(), "the hole has its casing too"
    far = np.ones(pixels.shape[:2], bool)
    far[250:610, 390:710] = False
    assert (pixels[far] == GREY).all(), "nothing else is drawn on"


def test_outlines_along_the_edge_are_whole() -> None:
    scene = flat_scene(800, 900)
    sheet = drawn(layer_of(scene, (0.9, shapely.box(0, 0, 900, 800))), thumbnail_of(scene))
    colour = (np.asarray(sheet) == outlines.COLOURS["high"]).all(axis=-1)
    assert (colour.sum(axis=0) >= 790).sum() == 2 * outlines.LINE_PX
    assert (colour.sum(axis=1) >= 890).sum() == 2 * outlines.LINE_PX
    assert margins_are_white(sheet)


@given(
    west=st.floats(-50, 500),
    north=st.floats(-50, 400),
    width=st.floats(1, 500),
    height=st.floats(1, 400),
    size=st.tuples(st.integers(1, 60), st.integers(1, 30)),
)
def test_numbers_never_leave_the_picture(west: float, north: float, width: float, height: float, size: tuple[int, int]) -> None:
    boxes = list(outlines._boxes(shapely.box(west, north, west + width, north + height), size, (400, 300)))
    assert len(boxes) == 15
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        assert (right - left, bottom - top) == size


def test_numbers_do_not_cover_each_other_where_there_is_room() -> None:
    busy = np.zeros((400, 400), np.int64)
    shapes = [shapely.box(x, y, x + 20, y + 20) for x in range(40, 340, 60) for y in range(40, 340, 60)]
    shapes += [shapely.box(200, 200, 230, 230)] * 4
    taken = [shapely.box(*outlines._taken_box(busy, shape, (26, 18))) for shape in shapes]
    assert shapely.union_all(taken).area == sum(box.area for box in taken)


@pytest.mark.parametrize(
    "name", ["a", "Süd-Küste, São João, Ångström, Łódź", "北京" * 60, "x" * 3000, "", "two\nlines\tand <b>more</b>", "\U0001f6f0"]
)
@pytest.mark.parametrize("size", [(70, 1400), (1400, 70), (500, 500)])
def test_no_text_runs_out_of_the_sheet(name: str, size: tuple[int, int]) -> None:
    values = np.zeros((3, *size), np.uint8)
    scene = array_scene(values, transform=PLACES["rotated"][1], crs_wkt=UTM18, name=name, datetime="2024-05-06T10:11:12Z")
    scene = replace(scene, bands=tuple(replace(band, name=f"{band.name} {name}") for band in scene.bands))
    corners = [(0.9, shapely.box(x, y, x + 8, y + 8)) for x in (0, size[1] - 8) for y in (0, size[0] - 8)]
    sheet = drawn(layer_of(scene, *corners), thumbnail_of(scene, values))
    assert margins_are_white(sheet)
    left, top, right, bottom = map_of(sheet)
    assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0], rel=0.02)


@given(text=st.text(max_size=80), width=st.floats(40, 900), size=st.sampled_from([12, 25, 32]))
def test_what_is_fitted_fits_and_is_the_beginning(text: str, width: float, size: int) -> None:
    short = fitted(text, width, size)
    assert width_of(short, size) <= max(width, 0)
    assert short == text or text.startswith(short.removesuffix(furniture.ELLIPSIS))


@given(parts=st.lists(st.text("abc déf ", min_size=1, max_size=60), max_size=5), width=st.floats(120, 600))
def test_broken_lines_fit_and_lose_no_short_word(parts: list[str], width: float) -> None:
    lines = lines_of(parts, width, 20)
    assert all(width_of(line, 20) <= width for line in lines)
    words = [word for part in parts for word in part.split() if width_of(word, 20) <= width]
    assert set(words) <= set(" ".join(lines).replace("·", " ").split())


def test_accents_are_drawn_above_their_letters_and_the_rest_is_spelled() -> None:
    def ink(text: str) -> NDArray[np.bool_]:
        sheet = Image.new("L", (500, 80), 255)
        write(ImageDraw.Draw(sheet.convert("RGB")), (20, 20), text, 32)
        canvas = Image.new("RGB", (500, 80), "white")
        write(ImageDraw.Draw(canvas), (20, 20), text, 32)
        return np.asarray(canvas.convert("L")) < 128

    for plain, accented in (("u", "ü"), ("A", "Ä"), ("e", "é"), ("a", "ã"), ("A", "Å"), ("o", "ô")):
        base, mark = ink(plain), ink(accented) & ~ink(plain)
        assert (ink(accented)[base]).all(), "the letter itself stays"
        assert mark.sum() > 4
        assert np.nonzero(mark)[0].max() < np.nonzero(base)[0].min(), "the accent is above it"
    assert (ink("ß") == ink("ss")).all()
    assert (ink("北") == ink("?")).all()


@given(values=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=50), marks=st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)))
@pytest.mark.parametrize("bend", ["linear", "root", "logarithmic"])
def test_a_stretch_never_falls_and_reaches_black_and_white(bend: str, values: list[float], marks: tuple[float, float]) -> None:
    low, high = sorted(marks)
    stretch = Stretch(low=low, high=high, bend=bend)  # type: ignore[arg-type]
    shades = stretch(np.sort(np.array(values))).astype(int)
    assert (np.diff(shades) >= 0).all()
    if high > low * 1.001:
        assert stretch(np.array([low, high, low / 2, high * 2])).tolist() == [0, 255, 0, 255]


def test_speckle_is_bent_and_what_is_even_is_not() -> None:
    random = np.random.default_rng(5)
    grey = Composite(positions=(0,), names=("band 1",))
    intensity = random.exponential(1.0, (1, 50_000)) * 10.0 ** random.normal(0, 0.5, (1, 50_000))
    reflectance = random.normal(1000.0, 200.0, (1, 50_000))
    assert look_of(grey, reflectance).bend == "linear"
    look = look_of(grey, intensity)
    assert look.bend == "logarithmic"
    shades = look.rgb(intensity[:, None])[0, :, 0]
    assert abs(skew(shades.astype(float))) < 0.5 < skew(intensity[0])


def test_two_polarizations_look_the_same_in_intensity_and_in_decibels() -> None:
    random = np.random.default_rng(6)
    intensity = random.exponential(0.1, (2, 40, 1000)) + 0.01
    bands = tuple(Band(index=i + 1, name=name, dtype="float32") for i, name in enumerate(("Sigma0_VV", "Sigma0_VH")))
    composite = composite_of(bands)
    assert composite.label == "Sigma0_VV, Sigma0_VH, Sigma0_VV/Sigma0_VH as red, green, blue"
    pictures = [look_of(composite, shown.reshape(2, -1)).rgb(shown).astype(int) for shown in (intensity, 10 * np.log10(intensity))]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert pictures[0].std(axis=(0, 1)).min() > 40, "each colour tells something"


@pytest.mark.parametrize(
    ("names", "scene", "shown"),
    [
        (("B02", "B03", "B04", "B08"), "", (2, 1, 0)),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), "LC09_L2SP", (2, 1, 0)),
        (("SR_B1", "SR_B2", "SR_B3", "SR_B4"), "LT05_L2SP_014034", (2, 1, 0)),
        (("Coastal Blue", "Blue (B2)", "Green (B3)", "Yellow", "Red (B4)", "RedEdge1", "Near Infrared"), "", (4, 2, 1)),
        (("Red Edge 1", "NIR", "r", "g", "b"), "", (2, 3, 4)),
        (("palette red", "palette green", "palette blue"), "", (0, 1, 2)),
        (tuple(f"{n} nm" for n in range(400, 1000, 10)), "", (26, 16, 8)),
        (("a (0.485 Micrometers)", "b (0.56 Micrometers)", "c (0.66 Micrometers)"), "", (2, 1, 0)),
        (("band 1", "band 2", "band 3", "band 4"), "", (0, 1, 2)),
        (("band 1", "band 2"), "", (0,)),
        (("VV", "VH"), "", (0, 1)),
        (("HV", "HH", "angle"), "", (1, 0)),
        (("HH", "HV", "VV"), "", (0, 1, 2)),
        (("nir",), "", (0,)),
        (tuple(f"band {n}" for n in range(1, 201)), "", (80, 40, 20)),
    ],
)
def test_bands_are_chosen_by_what_they_are_called(names: tuple[str, ...], scene: str, shown: tuple[int, ...]) -> None:
    bands = tuple(Band(index=i + 1, name=name, dtype="uint16") for i, name in enumerate(names))
    assert composite_of(bands, scene).positions == shown
    assert len(display_bands(bands)) in {1, 3}


@given(
    cuts=st.lists(st.integers(1, 2899), max_size=6, unique=True),
    seed=st.integers(0, 99),
)
def test_a_thumbnail_keeps_the_means_of_usable_pixels_however_panels_are_cut(cuts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values, valid = random.integers(0, 1000, (1, 2900, 8)).astype(np.uint16), random.random((2900, 8)) < 0.4
    scene = array_scene(values)
    thumbnail = Thumbnail(scene)
    assert thumbnail.step == 3
    for top, end in zip([0, *sorted(cuts)], [*sorted(cuts), 2900], strict=True):
        window = Window(row_off=top, col_off=0, height=end - top, width=8)
        thumbnail.add(Panel(window=window, values=np.where(valid, values, 0)[:, top:end], valid=valid[top:end]))
    known = np.pad(np.where(valid, values[0].astype(float), np.nan), ((0, 1), (0, 1)), constant_values=np.nan)
    squares = known.reshape(967, 3, 3, 3).transpose(0, 2, 1, 3).reshape(967, 3, 9)
    assert (thumbnail.valid == np.isfinite(squares).any(axis=-1)).all()
    expected = np.nanmean(squares[thumbnail.valid], axis=-1)
    np.testing.assert_allclose(thumbnail.values[0][thumbnail.valid], expected)


@pytest.mark.parametrize(
    ("n_bands", "dtype"), [(1, "uint8"), (2, "int16"), (3, "uint16"), (4, "float32"), (13, "uint16"), (200, "float32"), (1, "float64")]
)
def test_any_number_of_bands_draws_twice_the_same(n_bands: int, dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(n_bands)
    values = random.gamma(2.0, 20.0, (n_bands, 40, 50)).clip(0, 120).astype(dtype)
    scene = array_scene(values, transform=PLACES["utm"][1], crs_wkt=UTM18)
    layer = layer_of(scene, (0.9, shapely.box(3, 4, 9, 12)), (0.2, shapely.box(30, 20, 35, 28)))
    for name in ("a.png", "b.png"):
        write_quicklook(layer, thumbnail_of(scene, values), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (20, 400), (400, 20), (2900, 145)])
@pytest.mark.parametrize("kind", ["constant", "no data", "infinite"])
def test_odd_scenes_draw(shape: tuple[int, int], kind: str) -> None:
    values = np.full((3, *shape), 7.0, np.float32)
    if kind == "infinite":
        values[:, 0, 0] = np.inf
    scene = array_scene(values)
    sheet = drawn(layer_of(scene, (0.9, shapely.box(0, 0, 1, 1))), thumbnail_of(scene, values, np.full(shape, kind != "no data")))
    assert margins_are_white(sheet)
    assert max(sheet.size) <= quicklook.MAX_SIDE_PX + 500


def test_pixels_are_as_high_and_wide_as_on_the_ground() -> None:
    scene = array_scene(np.zeros((1, 400, 400), np.uint8), transform=PLACES["degrees"][1], crs_wkt=CRS.from_epsg(4326).to_wkt())
    left, top, right, bottom = map_of(drawn(layer_of(scene), thumbnail_of(scene)))
    lon, lat = 24.2, 60.8
    across, down = GEOD.inv(lon, lat, lon + 0.001, lat)[2], GEOD.inv(lon, lat, lon, lat + 0.001)[2]
    assert (bottom - top) / (right - left) == pytest.approx(down / across, rel=0.01)


def test_missing_pixels_are_hatched_where_they_are_and_told(sample_scene: Path, fill_scene: Path) -> None:
    config = load_config(environ={})
    heights = []
    for path in (sample_scene, fill_scene):
        scene = open_scene(path, config)
        thumbnail = Thumbnail(scene)
        for panel in stream_panels(scene, config):
            thumbnail.add(panel)
        picture = np.asarray(quicklook._picture(thumbnail, thumbnail.look(), [], (1.0, 1.0)))
        hatched: NDArray[np.bool_] = np.asarray(np.isin(picture, quicklook.HATCH).all(axis=-1))
        assert hatched[~thumbnail.valid].all()
        assert hatched[thumbnail.valid].mean() < 0.001
        heights.append(len(quicklook._rows([], holes=not thumbnail.valid.all())))
    assert heights == [3, 4]


@pytest.mark.parametrize(
    ("name", "shown", "bend"),
    [
        ("truth/flood/Spain_7370579_S1Hand.tif", "VV, VH, VV/VH as red, green, blue", "linear"),
        ("truth/flood/Spain_7370579_S2Hand.tif", "B4, B3, B2 as red, green, blue", "linear"),
        ("formats/sar/complex64_slc_rotated.tif", "band 1 in grey", "root"),
        ("formats/sar/umbra_mount_yasur.tiff", "band 1 in grey", "root"),
        ("formats/sar/s1_gcps_only.tif", "band 1 in grey", "linear"),
        ("scenes/enmap_potsdam.tif", "band 88, band 44, band 22 as red, green, blue", "linear"),
        ("series/naip/m_4709963_se_14_1_20200831.tif", "band 1, band 2, band 3 as red, green, blue", "linear"),
        ("truth/taizhou/2003TM", "band 3 (660 nm), band 2 (565 nm), band 1 (482 nm) as red, green, blue", "linear"),
    ],
)
def test_real_scenes_show_their_middle_tones(shared_data: Path, name: str, shown: str, bend: str) -> None:
    config = load_config(environ={})
    scene = open_scene(shared_data / name, config)
    thumbnail = Thumbnail(scene)
    for panel in stream_panels(scene, config):
        thumbnail.add(panel)
    look = thumbnail.look()
    shades = look.rgb(thumbnail.values)[thumbnail.valid]
    assert (look.composite.label, look.bend) == (shown, bend)
    assert 30 < np.median(shades, axis=0).min() <= np.median(shades, axis=0).max() < 225
    assert margins_are_white(drawn(layer_of(scene), thumbnail))
