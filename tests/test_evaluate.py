"""``geoanom evaluate``: each kind of input against each kind of truth, compared with independent readers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import TRANSFORM, UTM18, flat_scene, score_map
from PIL import Image
from pyproj import Geod
from rasterio.features import rasterize
from rasterio.warp import transform as warp_points
from rasterio.warp import transform_geom
from rasters import write_raster
from sklearn.metrics import average_precision_score
from test_cli import assert_one_line, run

from geoanom.errors import InputError
from geoanom.evaluate.evaluation import Evaluation, evaluate, judge
from geoanom.evaluate.grid import Grid
from geoanom.evaluate.metrics import pro
from geoanom.evaluate.rasters import read_heatmap, read_mask
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.cog import write_heatmap
from geoanom.layer.features import features_of
from geoanom.layer.geojson import write as write_layer
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.layer.scoremap import ScoreMap

PEAKS = {(1, 1): 6.0, (1, 2): 5.0, (6, 7): 4.0, (4, 4): 3.0}
"""Cells of 32 px that stand out: one place of two cells, and two of one."""
KEYS = {
    *("average_precision", "auroc", "precision_at_k", "k", "recall", "precision", "object_recall", "n_objects"),
    *("false_alarms_per_km2", "false_alarms_per_million_pixels", "pro", "n_positive", "n_labelled", "n_unscored", "area_km2"),
}


def write_outputs(folder: Path, scores: ScoreMap) -> tuple[Path, Path]:
    """The layer of the peaks, and the heatmap."""
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=0, warnings=())
    found = tuple(anomalies_of(scores, scores.statistic > 1, "m"))
    layer = AnomalyLayer(model_id="m", config_digest="c", threshold={"rule": "fdr", "value": 0.05}, scenes=(summary,), anomalies=found)
    write_layer(features_of(layer), folder / "layer.geojson")
    write_heatmap(scores, folder / "heat.tif")
    return folder / "layer.geojson", folder / "heat.tif"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_outputs(tmp_path_factory.mktemp("outputs"), score_map(flat_scene(), peaks=PEAKS))


@pytest.fixture(scope="module")
def pixel_outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    scene = flat_scene(crs_wkt=None, transform=Affine.identity())
    return write_outputs(tmp_path_factory.mktemp("pixels"), score_map(scene, peaks=PEAKS))


def two_squares() -> NDArray[np.int16]:
    """256 x 320 pixels: one true object in the cells (1, 1) and (1, 2), one in the cell (3, 8), where nothing stands out."""
    truth = np.zeros((1, 256, 320), np.int16)
    truth[0, 32:64, 32:96] = 1
    truth[0, 100:120, 260:280] = 7
    return truth


def mask_file(folder: Path, values: NDArray[Any], **profile: Any) -> Path:
    return write_raster(folder / "mask.tif", values, **{"crs": UTM18, "transform": TRANSFORM, **profile})


def ground(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates (n, 2) in UTM of pixel corners (n, 2) given as column and row."""
    return np.column_stack(Georeference(crs_wkt=UTM18, transform=TRANSFORM).xy(points[:, 0], points[:, 1]))


def polygons_file(folder: Path, boxes: Sequence[tuple[int, int, int, int]], crs: str = "EPSG:4326") -> Path:
    """Pixel boxes (left, top, right, bottom) as polygons."""
    shapes = [shapely.transform(shapely.box(*b), ground) for b in boxes]
    gpd.GeoDataFrame(geometry=shapes, crs=UTM18).to_crs(crs).to_file(folder / "truth.gpkg")
    return folder / "truth.gpkg"


BOXES = [(32, 32, 96, 64), (260, 100, 280, 120)]


def close(figures: Evaluation, other: Evaluation, within: float, *names: str) -> None:
    for name in names:
        assert getattr(figures, name) == pytest.approx(getattr(other, name), abs=within), name


def test_a_layer_against_a_mask_gives_the_figures_counted_by_hand(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    figures = evaluate(outputs[0], mask_file(tmp_path, two_squares()))
    found, missed, false = 32 * 64, 20 * 20, 2 * 32 * 32
    assert (figures.n_positive, figures.n_labelled, figures.k) == (found + missed, 256 * 320, found + missed)
    assert figures.recall == pytest.approx(found / (found + missed))
    assert figures.precision == pytest.approx(found / (found + false))
    assert (figures.object_recall, figures.n_objects) == (0.5, 2)
    assert figures.area_km2 == pytest.approx(256 * 320 * 100 / 1e6, rel=2e-3)  # the scale of UTM is not 1 everywhere
    assert figures.false_alarms_per_km2 == pytest.approx(2 / (256 * 320 * 100 / 1e6), rel=2e-3)
    assert figures.false_alarms_per_million_pixels is None
    base = (found + missed) / (256 * 320)
    assert figures.average_precision == pytest.approx(found / (found + missed) + missed / (found + missed) * base)


def test_features_are_painted_as_gdal_paints_them_with_the_highest_score_on_top(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    wkt = "EPSG:32619"  # another zone: the mask's pixels are rotated against the scene's
    x, y = warp_points(UTM18, wkt, [TRANSFORM.c], [TRANSFORM.f])
    place = Affine.translation(x[0] - 300, y[0] + 300) @ Affine.scale(13, -17)
    truth = np.random.default_rng(0).integers(0, 2, (1, 260, 330)).astype(np.uint8)
    path = mask_file(tmp_path, truth, crs=wkt, transform=place)
    features = json.loads(outputs[0].read_text())["features"]
    features += [{**features[0], "properties": {**features[0]["properties"], "score": s}} for s in (0.95, 0.05)]
    layer = tmp_path / "layer.geojson"
    layer.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    ordered = sorted(features, key=lambda f: f["properties"]["score"])
    shapes = [(transform_geom("EPSG:4326", wkt, f["geometry"]), f["properties"]["score"]) for f in ordered]
    expected = rasterize(shapes, (260, 330), transform=place, dtype="float32")
    judged = judge(layer, path)
    assert judged.maps is not None
    assert (judged.maps[0] != expected).sum() <= 2  # a centre on an edge may fall to either side
    assert expected.max() == np.float32(0.95)
    assert judged.called is not None
    assert judged.called.sum() == (expected > 0).sum()


@pytest.mark.parametrize("crs", ["EPSG:4326", UTM18, "EPSG:3857"])
def test_mask_pixels_take_the_heatmap_cell_that_gdal_finds_at_their_centre(outputs: tuple[Path, Path], crs: str, tmp_path: Path) -> None:
    height, width = 70, 90
    with rasterio.open(outputs[1]) as src:
        west, south, east, north = rasterio.warp.transform_bounds(src.crs, crs, *src.bounds)
        place = Affine.translation(west, north) @ Affine.scale(1.1 * (east - west) / width, (south - north) / height * 1.1)
        rows, cols = np.divmod(np.arange(height * width), width)
        points = warp_points(crs, src.crs, *Georeference(crs_wkt=None, transform=place).xy(cols + 0.5, rows + 0.5))
        expected = np.array([value[0] for value in src.sample(zip(*points, strict=True))]).reshape(height, width)
    truth = (np.arange(height * width).reshape(1, height, width) % 3 == 0).astype(np.uint8)
    judged = judge(outputs[1], mask_file(tmp_path, truth, crs=crs, transform=place))
    assert judged.maps is not None
    np.testing.assert_array_equal(judged.maps[0], expected)
    assert judged.n_unscored == np.isnan(expected).sum() > 0


@given(st.integers(0, 2**32 - 1))
def test_the_cells_inside_a_polygon_are_those_whose_centres_gdal_burns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = shapely.MultiPoint(rng.uniform(-5, 30, (6, 2))).convex_hull
    polygon = corners.difference(shapely.Point(*rng.uniform(0, 20, 2)).buffer(3.3))
    grid = Grid(height=17, width=23, georef=Georeference(crs_wkt=None, transform=Affine.identity()))
    burnt = np.flatnonzero(rasterize([polygon], (17, 23)))
    cells = np.sort(grid.cells_inside(polygon))
    if len(burnt):
        np.testing.assert_array_equal(cells, burnt)
    else:
        assert len(cells) <= 1


def test_what_is_smaller_than_a_cell_does_not_vanish() -> None:
    grid = Grid(height=4, width=5, georef=Georeference(crs_wkt=None, transform=Affine.identity()))
    assert grid.cells_inside(shapely.box(2.1, 1.1, 2.3, 1.3)).tolist() == [7]
    assert grid.cells_inside(shapely.Point(4.9, 3.9)).tolist() == [19]
    assert grid.cells_inside(shapely.box(5.1, 1.1, 5.3, 1.3)).tolist() == []


def test_a_heatmap_has_no_threshold_and_ranks_all_the_same(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    figures = evaluate(outputs[1], mask_file(tmp_path, two_squares()))
    assert (figures.recall, figures.precision, figures.object_recall, figures.false_alarms_per_km2) == (None, None, None, None)
    assert (figures.n_objects, figures.n_unscored) == (2, 0)
    assert figures.average_precision > 0.8
    with rasterio.open(outputs[1]) as src:
        pixels = src.read(1).repeat(32, 0).repeat(32, 1)
    assert figures.average_precision == pytest.approx(average_precision_score(two_squares()[0].ravel() > 0, pixels.ravel()))
    assert figures.pro == pytest.approx(pro(pixels, two_squares()[0] > 0, max_fpr=0.3))


def test_nodata_and_negative_values_are_not_labelled(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    truth = two_squares()
    truth[0, 128:] = -1
    truth[0, :, 300:] = 99
    figures = evaluate(outputs[0], mask_file(tmp_path, truth, nodata=99))
    assert figures.n_labelled == 128 * 300
    assert figures.precision == 1.0  # both false features lie where nothing is labelled
    assert figures.false_alarms_per_km2 == 0.0
    judged = judge(outputs[1], mask_file(tmp_path, truth, nodata=99))
    assert judged.maps is not None
    np.testing.assert_array_equal(np.isfinite(judged.maps[0]), np.isin(truth[0], (0, 1, 7)))
    floats = truth.astype(np.float32)
    floats[floats < 0] = np.nan
    assert evaluate(outputs[0], mask_file(tmp_path, floats, nodata=99)) == figures


def test_polygons_say_what_their_mask_says(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    mask = mask_file(tmp_path, two_squares())
    for crs in ("EPSG:4326", UTM18):
        polygons = polygons_file(tmp_path, BOXES, crs)
        by_mask, by_polygons = evaluate(outputs[0], mask), evaluate(outputs[0], polygons)
        close(by_mask, by_polygons, 0.01, "precision", "recall", "object_recall", "n_objects")
        close(by_mask, by_polygons, 0.03, "average_precision", "precision_at_k")
        assert by_polygons.false_alarms_per_km2 == pytest.approx(2 / (by_polygons.area_km2 or 0))
        cells = evaluate(outputs[1], polygons)
        assert (cells.n_positive, cells.n_labelled, cells.n_objects) == (3, 80, 2)
        assert cells.precision_at_k == pytest.approx(2 / 3)


@pytest.mark.parametrize(("overlap", "hit"), [(0, 0.0), (1, 1.0)])
def test_a_feature_that_shares_only_a_border_with_a_true_polygon_does_not_hit_it(
    outputs: tuple[Path, Path], overlap: int, hit: float, tmp_path: Path
) -> None:
    beside = [(32, 64 - overlap, 96, 90), (96 - overlap, 32, 120, 64), (32, 10, 96, 32 + overlap), (10, 32, 32 + overlap, 64)]
    assert evaluate(outputs[0], polygons_file(tmp_path, beside)).object_recall == hit


def test_points_mark_the_cells_that_hold_them(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    places = np.array([[50.0, 35.0], [230.0, 210.0], [270.0, 110.0]])
    x, y = ground(places).T
    path = tmp_path / "points.geojson"
    gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y), crs=UTM18).to_crs(4326).to_file(path)
    cells = evaluate(outputs[1], path)
    assert (cells.n_positive, cells.n_objects, cells.n_labelled) == (3, 3, 80)
    assert cells.precision_at_k == pytest.approx(2 / 3)
    layer = evaluate(outputs[0], path)
    assert layer.recall == layer.object_recall == pytest.approx(2 / 3)
    assert layer.n_positive == 3
    assert layer.average_precision > 0.2


def table_file(folder: Path, header: str, rows: Sequence[tuple[object, ...]]) -> Path:
    path = folder / "truth.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_the_three_kinds_of_tables_say_the_same(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    cells = [(1, 1, 1), (1, 2, 1), (3, 8, 1), (4, 4, 0), (6, 7, 0), (0, 0, 0), (7, 9, 0), (2, 2, -1), (5, 5, "")]
    x, y = ground(np.array([[c * 32 + 16.0, r * 32 + 16.0] for r, c, _ in cells])).T
    lon, lat = warp_points(UTM18, "EPSG:4326", x, y)
    labels = [label for _, _, label in cells]
    by_cell = evaluate(outputs[1], table_file(tmp_path, "row,col,label", cells))
    by_lonlat = evaluate(outputs[1], table_file(tmp_path, "Label, lat, lon", list(zip(labels, lat, lon, strict=True))))
    by_xy = evaluate(outputs[1], table_file(tmp_path, "x,y,label,comment", [(*row, "") for row in zip(x, y, labels, strict=True)]))
    assert by_cell == by_lonlat == by_xy
    assert (by_cell.n_positive, by_cell.n_labelled, by_cell.pro, by_cell.n_objects) == (3, 7, None, None)
    with rasterio.open(outputs[1]) as src:
        values = src.read(1)
    known = cells[:7]
    expected = average_precision_score([label for *_, label in known], [values[r, c] for r, c, _ in known])
    assert by_cell.average_precision == pytest.approx(expected)
    layer = evaluate(outputs[0], table_file(tmp_path, "lon,lat,label", list(zip(lon, lat, labels, strict=True))))
    assert layer.recall == pytest.approx(2 / 3)
    assert layer.precision == pytest.approx(2 / 4)


def test_pixel_space_needs_no_place(pixel_outputs: tuple[Path, Path], tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray((two_squares()[0] > 0).astype(np.uint8) * 255).save(mask)
    layer, heatmap = evaluate(pixel_outputs[0], mask), evaluate(pixel_outputs[1], mask)
    assert (layer.n_labelled, layer.area_km2, layer.false_alarms_per_km2) == (256 * 320, None, None)
    assert layer.false_alarms_per_million_pixels == pytest.approx(2 / (256 * 320) * 1e6)
    assert (layer.object_recall, heatmap.n_labelled) == (0.5, 256 * 320)
    with rasterio.open(pixel_outputs[1]) as src:
        pixels = src.read(1).repeat(32, 0).repeat(32, 1)
    assert heatmap.average_precision == pytest.approx(average_precision_score(two_squares()[0].ravel() > 0, pixels.ravel()))
    table = table_file(tmp_path, "x,y,label", [(40, 40, 1), (270, 110, 1), (200, 20, 0)])
    assert evaluate(pixel_outputs[0], table).recall == 0.5
    assert evaluate(pixel_outputs[1], table).n_labelled == 3


def test_an_empty_layer_finds_nothing_and_raises_no_alarm(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    content = json.loads(outputs[0].read_text())
    empty = tmp_path / "empty.geojson"
    empty.write_text(json.dumps({**content, "features": []}))
    for truth in (mask_file(tmp_path, two_squares()), polygons_file(tmp_path, BOXES)):
        figures = evaluate(empty, truth)
        assert (figures.recall, figures.precision, figures.object_recall, figures.false_alarms_per_km2) == (0.0, None, 0.0, 0.0)
        assert figures.average_precision == pytest.approx(figures.n_positive / figures.n_labelled)
        assert figures.auroc == 0.5


@pytest.mark.parametrize("which", [0, 1])
def test_degenerate_truths_get_one_line(outputs: tuple[Path, Path], which: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zeros, far = np.zeros((1, 256, 320), np.int16), Affine.translation(5e6, 0) @ TRANSFORM
    (tmp_path / "bad.geojson").write_text("{}")
    truths: dict[str, Callable[[], Path]] = {
        "holds no anomaly": lambda: mask_file(tmp_path, zeros),
        "holds nothing but anomalies": lambda: mask_file(tmp_path, zeros + 1),
        "zero must not be its nodata value": lambda: mask_file(tmp_path, two_squares(), nodata=0),
        "labels no place": lambda: mask_file(tmp_path, zeros - 1),
        "scene": lambda: mask_file(tmp_path, two_squares(), transform=far),
        "name the truth of the same scene": lambda: polygons_file(tmp_path, [(90_000, 0, 90_010, 10)]),
        "gone.tif: does not exist": lambda: tmp_path / "gone.tif",
        "gone.gpkg: does not exist": lambda: tmp_path / "gone.gpkg",
        "gone.csv: does not exist": lambda: tmp_path / "gone.csv",
        "has the columns a, b": lambda: table_file(tmp_path, "a,b", [(1, 2)]),
        "'yes', which is no number": lambda: table_file(tmp_path, "lon,lat,label", [(1, 2, "yes")]),
        "rows without lon or lat": lambda: table_file(tmp_path, "lon,lat,label", [("", 2, 1)]),
        "bad.geojson": lambda: tmp_path / "bad.geojson",
        "has no place on the Earth": lambda: mask_file(tmp_path, two_squares(), crs=None),
    }
    for words, make in truths.items():
        truth = make()
        code, out, err = run(capsys, "evaluate", outputs[which], truth)
        assert (code, out) == (4, ""), (words, err)
        assert_one_line(err, words, str(truth))


def test_inputs_that_are_no_layer_or_heatmap_get_one_line(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    truth = mask_file(tmp_path, two_squares())
    cases: dict[str, tuple[str, str]] = {
        "a.geojson": ("not json", "is not valid JSON"),
        "b.geojson": ("[]", "is not a GeoJSON feature collection"),
        "c.geojson": (json.dumps({"features": [{"geometry": {"type": "Point", "coordinates": [0, 0]}}]}), "without a score"),
        "d.geojson": (json.dumps({"features": [{"geometry": {"type": "Point"}, "properties": {"score": 1}}]}), "cannot be read"),
        "e.tif": ("no raster", "is not a raster"),
    }
    for name, (text, words) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=words):
            evaluate(tmp_path / name, truth)
    with pytest.raises(InputError, match="labels cells of a heatmap"):
        evaluate(outputs[0], table_file(tmp_path, "row,col,label", [(0, 0, 1), (1, 1, 0)]))
    lines = tmp_path / "lines.geojson"
    gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326).to_file(lines)
    with pytest.raises(InputError, match="LineString; give polygons or points"):
        evaluate(outputs[0], lines)


def test_the_command_prints_figures_for_people_and_machines(
    outputs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth, picture = mask_file(tmp_path, two_squares()), tmp_path / "curve.png"
    code, out, err = run(capsys, "evaluate", outputs[0], truth, "--json", "--k", "100")
    facts = json.loads(out)
    assert (code, err, set(facts), facts["k"], facts["precision_at_k"]) == (0, "", KEYS, 100, 1.0)
    code, out, _ = run(capsys, "evaluate", outputs[0], truth)
    assert out.splitlines()[0].split() == ["average", "precision", f"{facts['average_precision']:.4f}"]
    assert [line.split()[-1] for line in out.splitlines() if "alarms" in line] == [f"{facts['false_alarms_per_km2']:.4f}", "-"]
    assert len({len(line) for line in out.splitlines()}) == 1
    code, _, err = run(capsys, "evaluate", outputs[0], truth, "--k", "0")
    assert code == 2
    assert_one_line(err, "--k: is 0")
    pytest.importorskip("matplotlib")
    assert run(capsys, "evaluate", outputs[0], truth, "--pr-curve", picture)[0] == 0
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert run(capsys, "evaluate", outputs[0], truth, "--pr-curve", picture)[0] == 5
    assert run(capsys, "evaluate", outputs[0], truth, "--pr-curve", picture, "--overwrite")[0] == 0


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from geoanom.cli.main import main
try: main(["evaluate", "--help"])
except SystemExit: pass
sys.exit(str({"torch", "numpy", "rasterio", "geopandas", "sklearn", "matplotlib", "pydantic"} & set(sys.modules) or ""))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr == b"\n"


def test_without_matplotlib_the_message_says_how_to_get_it(
    outputs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run(capsys, "evaluate", outputs[0], mask_file(tmp_path, two_squares()), "--pr-curve", tmp_path / "curve.png")
    assert code == 2
    assert_one_line(err, "pip install geoanom[plots]")
    assert not (tmp_path / "curve.png").exists()


def test_the_area_of_a_cell_is_geodesic(outputs: tuple[Path, Path]) -> None:
    grid = read_heatmap(outputs[1]).grid
    corners = ground(np.array([[0, 0], [320, 0], [320, 256], [0, 256]], float)).T
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(*warp_points(UTM18, "EPSG:4326", *corners))
    assert grid.cell_area_m2 == pytest.approx(abs(area) / 80, rel=1e-6)


def test_real_masks_are_read_as_their_makers_meant(shared_data: Path) -> None:
    _, labels = read_mask(shared_data / "truth" / "flood" / "Spain_7370579_LabelHand.tif")
    with rasterio.open(shared_data / "truth" / "flood" / "Spain_7370579_LabelHand.tif") as src:
        np.testing.assert_array_equal(labels, src.read(1))
    grid, labels = read_mask(shared_data / "truth" / "taizhou" / "change.bmp")
    with Image.open(shared_data / "truth" / "taizhou" / "change.bmp") as image:
        np.testing.assert_array_equal(labels == 1, np.asarray(image.convert("L")) > 0)
    assert grid.crs is None


def test_a_planted_square_is_found_in_a_real_scene(
    small_scene: Path, quick_config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from geoanom.config import dump_config

    scene, config, layer, heatmap = (tmp_path / name for name in ("scene.tif", "config.yaml", "layer.geojson", "heat.tif"))
    config.write_text(dump_config(quick_config))
    truth = np.zeros((1, 320, 320), np.uint8)
    truth[0, 200:240, 80:120] = 1
    with rasterio.open(small_scene) as src:
        values, profile = src.read(), src.profile
    checks = np.indices((40, 40)).sum(axis=0) // 3 % 2
    values[:, 200:240, 80:120] = np.where(checks, values.max(), values.min())
    with rasterio.open(scene, "w", **profile) as dst:
        dst.write(values)
    mask = write_raster(tmp_path / "mask.tif", truth, crs=profile["crs"], transform=profile["transform"])
    corners = [profile["transform"] @ point for point in ((80, 200), (120, 200), (120, 240), (80, 240))]
    gpd.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=profile["crs"]).to_crs(4326).to_file(tmp_path / "truth.geojson")
    assert run(capsys, "detect", scene, "--config", config, "--heatmap", heatmap, "-o", layer)[0] == 0
    facts = {
        (scored, form): json.loads(run(capsys, "evaluate", scored, form, "--json")[1])
        for scored in (layer, heatmap)
        for form in (mask, tmp_path / "truth.geojson")
    }
    for figures in facts.values():
        assert set(figures) == KEYS
        assert figures["n_objects"] == 1
        assert figures["auroc"] > 0.9
        assert figures["average_precision"] > 10 * figures["n_positive"] / figures["n_labelled"]
    assert facts[layer, mask]["object_recall"] == facts[layer, tmp_path / "truth.geojson"]["object_recall"] == 1.0
    assert facts[heatmap, mask]["n_labelled"] == 320 * 320
